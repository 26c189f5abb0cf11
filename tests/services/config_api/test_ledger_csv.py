"""The ledger as a file: chunk by chunk, and harmless to whoever opens it."""

import tracemalloc
from collections.abc import Sequence
from datetime import UTC, date, datetime
from uuid import UUID

import pytest

from services.config_api import csv_export, ledger_csv
from services.config_api.ledger_csv import CHUNK_LINES
from services.config_api.store.quota_ledger import Line, Position

AT = datetime(2026, 11, 24, 9, tzinfo=UTC)


def lines(count: int) -> list[Line]:
    return [
        Line(
            at=AT,
            effect_key=number.to_bytes(16),
            contact=str(number),
            integration_id=UUID(int=1),
            integration="one",
            run_id=UUID(int=2),
            operation="upsert",
            period=date(2026, 11, 1),
        )
        for number in range(count)
    ]


@pytest.mark.no_cover  # Thousands of turns; its lines are others' to cover.
async def test_a_long_file_takes_the_memory_of_a_chunk() -> None:
    """A hundred chunks take no more than three."""
    peaks = [await _peak(chunks) for chunks in (3, 100)]

    assert peaks[1] < peaks[0] * 1.2


async def _peak(chunks: int) -> int:
    """Return the most bytes that writing so many chunks takes at a time."""
    left = chunks

    async def fetch(_after: Position | None) -> Sequence[Line]:
        nonlocal left
        left -= 1
        return lines(CHUNK_LINES if left else 0)

    tracemalloc.start()
    written = [len(chunk) async for chunk in ledger_csv.written(await fetch(None), fetch)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(written) == chunks
    return peak


async def test_each_chunk_begins_where_the_last_one_ended() -> None:
    asked: list[Position | None] = []

    async def fetch(after: Position | None) -> Sequence[Line]:
        asked.append(after)
        return lines(2)

    first = lines(CHUNK_LINES)
    file = [chunk async for chunk in ledger_csv.written(first, fetch)]

    assert asked == [first[-1].position]
    assert len(b"".join(file).splitlines()) == 1 + CHUNK_LINES + 2


async def test_an_empty_file_has_its_header() -> None:
    async def fetch(_after: Position | None) -> Sequence[Line]:
        raise AssertionError

    file = [chunk async for chunk in ledger_csv.written([], fetch)]

    assert file == [b"at,period,contact,integration_id,integration,run_id,operation\r\n"]


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@a", "\tx", "\rx", "\nx", "\uff1d1", "\uff0b", "\uff0d", "\uff20"]
)
def test_what_could_be_a_formula_is_text(text: str) -> None:
    assert csv_export.neutral(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "101", "a=b", "Ada", "'=1"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert csv_export.neutral(text) == text
