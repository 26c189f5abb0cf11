"""Fetch the servers' own packages: jars, by their Maven coordinates, through `jgo`.

They stay in the user's cache (`~/.cache/jgo` and `~/.m2`; `JGO_CACHE_DIR` and `M2_REPO` move it),
so a second start needs no network. Starts at the same time wait for one another, so none reads
what another has half written.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jgo
from jgo.constants import default_jgo_cache

from local.errors import StackError

# Some fifty files from a public server: one that fails by chance must not stop a first start. What
# was fetched is kept, so a further attempt asks only for the rest.
ATTEMPTS_MAX = 3

REMEDY = (
    "check the network (behind a proxy, HTTPS_PROXY must name it) and that {cache} and ~/.m2 can "
    "be written to, or move them with JGO_CACHE_DIR and M2_REPO. Then start again: what was "
    "fetched is kept."
)


def jars(coordinates: str) -> list[Path]:
    """Return the files of an artifact and all it needs, fetched if they are not there yet.

    Raises `StackError` if a package cannot be fetched or stored.
    """
    cache = Path(default_jgo_cache())
    for attempt in range(1, ATTEMPTS_MAX + 1):
        try:
            with _one_at_a_time(cache):
                return [Path(jar) for jar in jgo.build(coordinates).all_jars]
        except Exception as error:  # jgo names no errors: whatever it was, the package is not there
            if attempt == ATTEMPTS_MAX:
                what = f"cannot fetch {coordinates}: {type(error).__name__}: {error}"
                raise StackError(what, REMEDY.format(cache=cache)) from error
    raise AssertionError  # The last attempt returned or raised.


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".contactsync.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Let go when the file is closed, also by a crash.
        yield
