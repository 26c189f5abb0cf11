"""The shared quota ledger, as the functions that services may call (PROTOCOL.md 3, 5, 9).

Every function runs in the transaction of the session it is given, so that units, links and
intents move together. The rules themselves are in `migrations/sql/03_ledger.sql`.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from itertools import groupby
from operator import attrgetter
from uuid import UUID

import msgspec
from msgspec.structs import astuple

from libs.common.forecast import RECENT_DAYS
from libs.common.postgres import Transaction

SEPARATOR = "\x1f"  # In no id: the poller leaves out whom it is in.

# What postings in a row have in common is sent once, with how many they are, the rest joined. It is
# one call, so that a burst over 80 % and 100 % is one decision (PROTOCOL.md 9).
_POST = """
with common as (
  select i, r, o, row_number() over (order by place, nth) as no
  from unnest($4::uuid[], $5::uuid[], $6::text[], $7::int[]) with ordinality g (i, r, o, n, place),
    generate_series(1, n) nth)
select ledger.post($1,
  (select array_agg(substr($2::bytea, (16 * no - 15)::int, 16) order by no) from common),
  (select array_agg(i order by no) from common), string_to_array($3, chr(31)),
  (select array_agg(r order by no) from common), (select array_agg(o order by no) from common))
"""
# One posting, as of most turns that follow an edit, has nothing to be taken apart: half the cost.
_POST_ONE = """
select ledger.post($1, array[$2::bytea], array[$3::uuid], array[$4::text], array[$5::uuid],
  array[$6::text])
"""


class Posting(msgspec.Struct, frozen=True, gc=False):
    """One charged task: which effect it was, and which run caused it."""

    effect_key: bytes
    integration: UUID
    source_id: str
    run: UUID
    operation: str


_IN_COMMON = attrgetter("integration", "run", "operation")


async def hold(session: Transaction, *, workspace: UUID, hold_id: UUID, wanted: int) -> int:
    """Reserve up to `wanted` units and return how many were granted.

    Asked again with the same id it grants nothing new and returns what is still open of it.
    It stands once the transaction is committed, which may fail as a lost race does if the room is
    gone by then: to be called within `postgres.transact`, or alone within `transact_alone`. Raises
    a database error when the month's partition is missing: without a ledger, no write.
    """
    granted = await session.connection.fetchval(
        "select ledger.hold($1, $2, $3)", workspace, hold_id, wanted
    )
    assert isinstance(granted, int)
    return granted


async def post(session: Transaction, *, hold_id: UUID, postings: Sequence[Posting]) -> int:
    """Turn a hold's units into postings; return how many were new.

    A key that this hold posted before changes nothing; one that another hold posted gives its
    unit back. Raises a database error if the hold has fewer open units.
    """
    if not postings:
        return 0
    if len(postings) == 1:
        return int(await session.connection.fetchval(_POST_ONE, hold_id, *astuple(postings[0])))
    return await post_columns(
        session,
        hold_id=hold_id,
        effect_keys=[posting.effect_key for posting in postings],
        source_ids=[posting.source_id for posting in postings],
        in_common=[(*common, len(list(own))) for common, own in groupby(postings, _IN_COMMON)],
    )


async def post_columns(
    session: Transaction,
    *,
    hold_id: UUID,
    effect_keys: Iterable[bytes],
    source_ids: Iterable[str],
    in_common: Sequence[tuple[UUID, UUID, str, int]],
) -> int:
    """Post as `post` does, at least one, without an object for each posting.

    `in_common` has integration, run and operation of those in a row, and how many they are.
    """
    integrations, runs, operations, counts = zip(*in_common, strict=True)
    new: int = await session.connection.fetchval(
        _POST,
        hold_id,
        b"".join(effect_keys),
        SEPARATOR.join(source_ids),
        integrations,
        runs,
        operations,
        counts,
    )
    return new


async def release(session: Transaction, *, hold_id: UUID, units: int) -> None:
    """Give units of a hold back; raise a database error if it has fewer open ones."""
    await session.connection.execute("select ledger.release($1, $2)", hold_id, units)


async def is_open(session: Transaction, *, workspace: UUID) -> bool:
    """Return whether the workspace may write now (posted + held < limit)."""
    return bool(await session.connection.fetchval("select ledger.is_open($1)", workspace))


async def use_per_day(session: Transaction, *, workspace: UUID) -> Mapping[date, int]:
    """Return the tasks of each UTC day that a forecast looks at; days without any are left out.

    For `forecast.exhausted_at`; by the roles of the API, the operator and the notifier.
    """
    rows = await session.connection.fetch(
        "select day, used from ledger.use_per_day($1, $2)", workspace, RECENT_DAYS
    )
    return {row["day"]: row["used"] for row in rows}
