"""Takes rules out of a copy of the tree, one after the other, and runs the test that must fail.

The copy is made once and mended after each; the tree itself is never touched. The servers are
started once for all runs, and so is what pytest imports (`nursery`). A test that fails by the code
as it is says nothing about a removal, so each of them is run before the first one.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tests import servers
from tests.rules.removal import Removal
from tests.servers import Stack

# What a tree is not made of: history, environments, what tools keep.
_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".local", "__pycache__", ".*_cache", ".hypothesis", ".coverage*", "htmlcov"
)
_OPTIONS = (
    *("-q", "-rfE", "--no-header", "--color=no", "-p", "no:cacheprovider"),
    # Not `-m "not long"`: a test that is named is run.
    *("-o", "addopts=--strict-config --strict-markers --import-mode=importlib"),
)
_ENDED = re.compile(r"^(FAILED|ERROR) (\S+?)(?:\[.*)?(?: - .*)?$", re.MULTILINE)
_FAILED = 1  # pytest's exit status if tests ran, and some failed.
_SHOWN_LINES = 12


class Verdict(StrEnum):
    """What came of a removal."""

    NOTICED = "noticed"
    UNNOTICED = "nobody noticed"
    BROKEN = "the test could not be run"  # A removal that no code could be: it proves nothing.


@dataclass(frozen=True, slots=True)
class Found:
    """What came of one removal, with the last lines of its run."""

    removal: Removal
    verdict: Verdict
    said: str


def judge(removal: Removal, status: int, output: str) -> Verdict:
    """Return what a run of pytest says: only a test that ran and failed has noticed anything."""
    if status == 0:
        return Verdict.UNNOTICED
    ended = [(how, test) for how, test in _ENDED.findall(output) if test == removal.test]
    is_noticed = status == _FAILED and ended and all(how == "FAILED" for how, _ in ended)
    return Verdict.NOTICED if is_noticed else Verdict.BROKEN


class Copy:
    """A copy of a tree in which things are taken out, and what runs its tests."""

    def __init__(self, folder: Path, nursery: "subprocess.Popen[str]") -> None:
        self._folder = folder
        self._nursery = nursery

    def failing(self, tests: Iterable[str]) -> str:
        """Return what pytest says of these tests by the code as it is; empty if all pass."""
        status, output = self._pytest(sorted(set(tests)))
        return output if status else ""

    def without(self, removals: Iterable[Removal]) -> Iterator[Found]:
        """Take one after the other out, and yield what came of it."""
        for removal in removals:
            file = self._folder / removal.path
            whole = file.read_text()
            file.write_text(removal.applied(whole))
            try:
                status, output = self._pytest(["-x", removal.test])
            finally:
                file.write_text(whole)
            said = "\n".join(output.strip().splitlines()[-_SHOWN_LINES:])
            yield Found(removal, judge(removal, status, output), said)

    def _pytest(self, arguments: Sequence[str]) -> tuple[int, str]:
        said = self._folder.parent / "said"
        stdin, stdout = self._nursery.stdin, self._nursery.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps([[*_OPTIONS, *arguments], str(said)]) + "\n")
        stdin.flush()
        return int(stdout.readline()), said.read_text(errors="replace")


@contextmanager
def copied(tree: Path, environment: Mapping[str, str]) -> Iterator[Copy]:
    """Keep a copy of a tree as long as the block lasts; its tests see this environment as well."""
    with tempfile.TemporaryDirectory(prefix="contactsync-rules-") as outer:
        # PostgreSQL may run as another user, who reads files of the tree.
        Path(outer).chmod(0o755)
        folder = Path(outer) / "tree"
        shutil.copytree(tree, folder, ignore=_LEFT_OUT, symlinks=True)
        nursery = subprocess.Popen(
            [sys.executable, Path(__file__).parent / "nursery.py"],
            cwd=folder,
            # No bytecode: an edit within one second of the last would be missed.
            env={**os.environ, **environment, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield Copy(folder, nursery)
        finally:
            nursery.communicate()  # Its input ends, and so does it.


@contextmanager
def served() -> Iterator[Mapping[str, str]]:
    """Keep one PostgreSQL and one broker for all runs; the environment that says where they are."""
    servers.fetch(Stack.EMBEDDED)
    with (
        servers.postgres_url(Stack.EMBEDDED) as database,
        servers.kafka_bootstrap(Stack.EMBEDDED) as broker,
    ):
        yield {
            "CONTACTSYNC_STACK": Stack.EXTERNAL,
            "DATABASE_URL": database,
            "KAFKA_BOOTSTRAP": broker,
        }
