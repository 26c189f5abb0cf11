"""Where servers keep their data: writable by us, and reachable by who runs PostgreSQL.

PostgreSQL refuses to run as root. Started by root it runs as `nobody`, who must be able to reach
its files: a folder under a closed home directory will not do.
"""

import os
import pwd
import subprocess
import tempfile
from hashlib import blake2b
from pathlib import Path

from local.errors import StackError

UNPRIVILEGED = "nobody"


def unprivileged_user() -> int | None:
    """Return who PostgreSQL runs as if we are root; None: as who we are."""
    return pwd.getpwnam(UNPRIVILEGED).pw_uid if os.geteuid() == 0 else None


def writable(folder: Path) -> Path:
    """Make a folder; raises `StackError` if it cannot be made or written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        what = f"cannot write to {folder}: {error.strerror or error}"
        remedy = "give yourself the right to write there (chown, chmod), or free space on it"
        raise StackError(what, remedy) from error


def reachable(folder: Path, *, by: int | None) -> Path:
    """Return the folder itself if `by` can reach it, else one in the system's temporary folder.

    The other one has a name made from the first one's, so the same checkout finds it again.
    """
    if by is None or _can_reach(writable(folder), by):
        return writable(folder)
    name = blake2b(bytes(folder.resolve()), digest_size=6).hexdigest()
    elsewhere = writable(Path(tempfile.gettempdir()) / f"contactsync-{name}")
    elsewhere.chmod(0o755)
    if elsewhere.owner() != pwd.getpwuid(os.geteuid()).pw_name or not _can_reach(elsewhere, by):
        what = f"PostgreSQL, run as {UNPRIVILEGED}, can reach neither {folder} nor {elsewhere}"
        remedy = "run as an ordinary user, or set TMPDIR to a folder that everybody can reach"
        raise StackError(what, remedy)
    return elsewhere


def _can_reach(folder: Path, user: int) -> bool:
    """Ask the system as that user: modes alone do not tell (access lists, mount options)."""
    asked = subprocess.run(
        ["/bin/sh", "-c", 'cd "$1"', "sh", str(folder)],
        user=user,
        group=pwd.getpwuid(user).pw_gid,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        check=False,
    )
    return asked.returncode == 0
