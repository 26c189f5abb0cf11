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
    status, counts, reasons = asyncio.run(
        lanes._run("none", ["tests/test_lanes.py", "-k", "no_such_test"])
    )

    assert status != 0
    assert counts.total() == 0
    assert reasons == []


def test_a_lane_tells_why_its_tests_failed(tmp_path: Path) -> None:
    """Also what was left open and found later, which pytest's own summary only counts."""
    failing = tmp_path / "test_failing.py"
    failing.write_text(
        "import gc, socket\n"
        "def test_comparison():\n    assert 1 == 2\n"
        "def test_leak():\n"
        "    for _ in range(2):\n        socket.socket()\n    gc.collect()\n"
    )

    status, counts, reasons = asyncio.run(
        lanes._run("bad", ["-c", "pyproject.toml", "-p", "no:cacheprovider", str(failing)])
    )

    assert (status, counts["failed"]) == (1, 2)
    told = "\n".join(reasons)
    assert "bad: E       assert 1 == 2" in told
    assert told.count("ResourceWarning: unclosed <socket") == 2
