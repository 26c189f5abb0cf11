"""A file as large as they come: flat memory, a kill in the middle, and exact errors."""

import asyncio
import csv
import io
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from libs.common.csvfile.rows import Chunk, Identifier
from libs.common.uploads import UploadedFiles
from services.config_api import row_errors
from services.config_api.store.imports import Outcome
from tests.services.poller.csv_taking import DUPLICATE_EVERY, RAGGED_EVERY
from tests.services.poller.world import World

MEMORY_MB_MAX = 150
WITHIN_S = 600.0
FIELDS = (
    {"source": "E-Mail", "destination": "EMAIL", "destination_type": "email"},
    {"source": "Vorname", "destination": "FIRSTNAME", "destination_type": "text"},
)


async def start(module: str, *arguments: object) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"tests.services.poller.{module}",
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
    )


async def memory_mb(process: asyncio.subprocess.Process) -> float:
    """Wait for a process's end; return the most memory it ever had."""
    said, _ = await asyncio.wait_for(process.communicate(), WITHIN_S)
    assert process.returncode == 0
    return int(said.split()[-1]) / 1024


def told(out: Path) -> list[list[str]]:
    """Return what was published: run, id, whether the row was whole. The last line may be cut."""
    if not out.exists():
        return []
    lines = out.read_text().split("\n")
    return [line.split() for line in lines[:-1] if line.count(" ") == 2]


@pytest.mark.parametrize(
    "rows",
    [60_000, pytest.param(1_000_000, marks=[pytest.mark.long, pytest.mark.timeout(1_800)])],
)
async def test_a_large_file_takes_no_more_memory_and_goes_on_after_a_kill(
    world: World, role_url: Callable[[str], str], tmp_path: Path, rows: int
) -> None:
    """Fault 18. Proves AC8 and X2: rows are told of exactly, whatever their number."""
    out = tmp_path / "told"
    integration = await world.integrate(fields=FIELDS)
    api = role_url("api")
    taking = await start("csv_taking", api, world.workspace, world.connection, rows)
    taken_mb = await memory_mb(taking)

    killed = await start("csv_reading", role_url("poller"), out, rows // 2)
    assert await asyncio.wait_for(killed.wait(), WITHIN_S) == -signal.SIGKILL
    before = len(told(out))
    under_way = await world.newest_run(integration)
    await settle(world)
    read_mb = await memory_mb(await start("csv_reading", role_url("poller"), out))

    lines = told(out)
    run = await world.newest_run(integration)
    assert 0 < before < rows
    assert {run_no for run_no, _, _ in lines} == {"1"}
    assert under_way.expected == run.read == rows
    assert 0 < under_way.read < rows  # Progress, while it is read.
    assert len(lines) - rows < max(40_000, rows // 20)  # The pages that were not acknowledged.
    ragged = {each for _, each, is_whole in lines if is_whole == "False"}
    whole = {int(each) for _, each, is_whole in lines if is_whole == "True"}
    assert len(ragged) == rows // RAGGED_EVERY
    assert whole == expected(rows)
    assert (taken_mb < MEMORY_MB_MAX, read_mb < MEMORY_MB_MAX) == (True, True), (taken_mb, read_mb)
    await check_errors(world, rows)


async def settle(world: World) -> None:
    """Let everybody who was read have an outcome: as long as too many have none, nobody claims."""
    await world.execute(
        "insert into activity.runs (run_id, integration_id, workspace_id, run_no, created)"
        " select run_id, integration_id, workspace_id, run_no, read from sync.runs"
    )


def expected(rows: int) -> set[int]:
    """Return who is in the file."""
    return {
        number
        for number in range(rows)
        if number % RAGGED_EVERY != RAGGED_EVERY - 1
        and number % DUPLICATE_EVERY != DUPLICATE_EVERY - 1
    }


async def check_errors(world: World, rows: int) -> None:
    """Hold the file of errors against what was put into the file on purpose."""
    files = UploadedFiles(world.as_poller, world.workspace, world.connection)
    file = await files.current()
    assert file is not None
    rejected_every = 333

    async def read_chunk(number: int) -> Chunk | None:
        return await files.read_chunk(file.id, number)

    async def look_up(source_ids: Sequence[str]) -> Mapping[str, Outcome]:
        bad = [each for each in source_ids if each.isdecimal() and not int(each) % rejected_every]
        return dict.fromkeys(bad, Outcome("rejected", "invalid_email"))

    listing = row_errors.Listing(
        file.form, Identifier(world.connection, file.form), file.chunks, read_chunk, look_up, "en"
    )
    content = b"".join([each async for each in row_errors.written(listing)]).decode()
    lines = list(csv.reader(io.StringIO(content, newline="")))[1:]
    assert [(int(row), reason) for row, _, reason, *_ in lines] == [
        (number + 2, reason)
        for number in range(rows)
        if (reason := wrong_with(number, rejected_every)) is not None
    ]


def wrong_with(number: int, rejected_every: int) -> str | None:
    if number % RAGGED_EVERY == RAGGED_EVERY - 1:
        return row_errors.RAGGED
    if number % DUPLICATE_EVERY == DUPLICATE_EVERY - 1:
        return row_errors.DUPLICATE
    return None if number % rejected_every else "invalid_email"
