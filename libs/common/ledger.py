"""The shared quota ledger, as the functions that services may call (PROTOCOL.md 3, 5, 9).

Every function runs in the transaction of the session it is given, so that units, links and
intents move together. The rules themselves are in `migrations/sql/03_ledger.sql`.
"""

from collections.abc import Iterable, Sequence
from uuid import UUID

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.database import driver

SEPARATOR = "\x1f"  # In no id: the poller leaves out whom it is in.

_POST = """
select ledger.post($1,
  array(select substr($2::bytea, 16 * i - 15, 16) from generate_series(1, $3::int) i order by i),
  array_fill($4::uuid, array[$3]), string_to_array($5, chr(31)),
  array_fill($6::uuid, array[$3]), array_fill($7::text, array[$3]))
"""


class Posting(msgspec.Struct, frozen=True, gc=False):
    """One charged task: which effect it was, and which run caused it."""

    effect_key: bytes
    integration: UUID
    source_id: str
    run: UUID
    operation: str


async def hold(session: AsyncSession, *, workspace: UUID, hold_id: UUID, wanted: int) -> int:
    """Reserve up to `wanted` units and return how many were granted.

    Asked again with the same id it grants nothing new and returns what is still open of it.
    Raises a database error when the month's partition is missing: without a ledger, no write.
    """
    granted = await session.scalar(
        text("select ledger.hold(:workspace, :hold, :wanted)"),
        {"workspace": workspace, "hold": hold_id, "wanted": wanted},
    )
    assert isinstance(granted, int)
    return granted


async def post(session: AsyncSession, *, hold_id: UUID, postings: Sequence[Posting]) -> int:
    """Turn a hold's units into postings; return how many were new.

    A key that this hold posted before changes nothing; one that another hold posted gives its
    unit back. Raises a database error if the hold has fewer open units.
    """
    connection = await driver(session)
    new = 0
    # Thousands at a time, nearly all of one run: what they have in common is sent once, and the
    # rest joined, which costs the driver a quarter of an array.
    for (integration, run, operation), own in _alike(postings):
        new += await connection.fetchval(
            _POST,
            hold_id,
            b"".join([posting.effect_key for posting in own]),
            len(own),
            integration,
            SEPARATOR.join([posting.source_id for posting in own]),
            run,
            operation,
        )
    return new


def _alike(
    postings: Sequence[Posting],
) -> Iterable[tuple[tuple[UUID, UUID, str], list[Posting]]]:
    """Return postings by what they have in common, always in the same order: no two deadlock."""
    found: dict[tuple[UUID, UUID, str], list[Posting]] = {}
    for posting in postings:
        common = (posting.integration, posting.run, posting.operation)
        found.setdefault(common, []).append(posting)
    return sorted(found.items(), key=lambda each: each[0])


async def release(session: AsyncSession, *, hold_id: UUID, units: int) -> None:
    """Give units of a hold back; raise a database error if it has fewer open ones."""
    await session.execute(
        text("select ledger.release(:hold, :units)"), {"hold": hold_id, "units": units}
    )


async def is_open(session: AsyncSession, *, workspace: UUID) -> bool:
    """Return whether the workspace may write now (posted + held < limit)."""
    answer = await session.scalar(
        text("select ledger.is_open(:workspace)"), {"workspace": workspace}
    )
    return bool(answer)
