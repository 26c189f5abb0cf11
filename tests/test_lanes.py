"""`make test` leaves nothing out: each file of tests is in exactly one lane."""

import asyncio
from pathlib import Path

from tests import lanes


def test_every_test_is_in_one_lane() -> None:
    chosen = [
        lanes.TESTS.parent / argument
        for arguments in lanes.lanes().values()
        for argument in arguments
        if not argument.startswith("-")
    ]

    def lanes_of(file: Path) -> int:
        return sum(path == file or path in file.parents for path in chosen)

    files = list(lanes.TESTS.rglob("test_*.py"))
    assert {file.name for file in files if lanes_of(file) != 1} == set()
    assert len(files) > len(chosen)


def test_a_lane_tells_how_it_ended() -> None:
    """A lane that runs nothing has an exit status of its own, and no counts."""
    status, counts = asyncio.run(lanes._run("none", ["tests/test_lanes.py", "-k", "no_such_test"]))

    assert status != 0
    assert counts.total() == 0
