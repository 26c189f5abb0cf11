"""The peers' own virtual environment: what they need never gets among what we need.

Made on demand out of `requirements/peers.txt`, in which every package is pinned with its hashes,
and made anew when that file or this Python has changed.
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from local.errors import StackError
from local.stack import ROOT

REQUIREMENTS = ROOT / "requirements" / "peers.txt"
HOME = ROOT / ".local" / "peers"
STAMP = "made-from"
MADE_WITHIN_S = 600.0
# As the Makefile's: every dependency stands in the file, none has to be looked for.
INSTALL = ("-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps")


def python(home: Path = HOME, requirements: Path = REQUIREMENTS) -> Path:
    """Return the environment's interpreter; make it first if it is not there, or out of date.

    Raises `StackError` if a package cannot be had.
    """
    made_from = _fingerprint(requirements)
    interpreter = home / "bin" / "python"
    stamp = home / STAMP
    if stamp.exists() and stamp.read_text() == made_from:
        return interpreter
    shutil.rmtree(home, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(home)])
    _run([str(interpreter), *INSTALL, "--require-hashes", "-r", str(requirements)])
    stamp.write_text(made_from)
    return interpreter


def _fingerprint(requirements: Path) -> str:
    """Return what an environment depends on: the pinned packages and this Python's version."""
    return hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()


def _run(command: list[str]) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=MADE_WITHIN_S, check=False
    )
    if done.returncode != 0:
        what = f"the peers' environment could not be made: {done.stderr.strip()}"
        raise StackError(what, "see whether packages can be had here, then start again")
