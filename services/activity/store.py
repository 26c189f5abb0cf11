"""Activity's SQL: parts that were counted, runs' sums, contacts' last status.

Every statement of this service is in this file. Functions take the session of the caller's
transaction and never commit it. Rows are locked in the order of their keys.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any
from uuid import UUID

import asyncpg

from libs.common.events import RunRead, Settled
from libs.common.postgres import Transaction
from services.activity.project import (
    COUNTS,
    ContactStatus,
    Ended,
    RunDelta,
    RunSums,
    counts_of,
)

SEPARATOR = "\x1f"  # In no id: the poller leaves out whom it is in.


def _added(column: str) -> str:
    """Return SQL that adds two JSON objects of numbers key by key."""
    return (
        "(select coalesce(jsonb_object_agg(key, total), '{}') from "  # noqa: S608  # a column's name
        "(select key, sum(value::bigint) as total from "
        f"(select * from jsonb_each_text(r.{column}) union all "
        f"select * from jsonb_each_text(excluded.{column})) both_sides group by key) added)"
    )


# Made once, not for every batch.
_SUMS = ", ".join(f"{name} = r.{name} + excluded.{name}" for name in COUNTS)
_COLUMNS = ", ".join(COUNTS)
_PLACES = ", ".join(f"${10 + place}" for place in range(len(COUNTS)))
_ADD_TO_RUN = (
    f"insert into activity.runs as r (run_id, integration_id, workspace_id, run_no, "  # noqa: S608  # names, not values
    f"parts_settled, importing, {_COLUMNS}, settled_later, rejected_by_reason, parked_by_reason)"
    f" values ($1, $2, $3, $4, $5, $6, {_PLACES}, $7::text::jsonb, $8::text::jsonb, "
    "$9::text::jsonb) "
    "on conflict (run_id) do update set "
    "parts_settled = r.parts_settled + excluded.parts_settled, "
    f"importing = r.importing + excluded.importing, {_SUMS}, "
    f"settled_later = {_added('settled_later')}, "
    f"rejected_by_reason = {_added('rejected_by_reason')}, "
    f"parked_by_reason = {_added('parked_by_reason')}"
)

_STANDING = (
    f"run_id, parts, parts_settled, read, {' + '.join(COUNTS)} as settled, importing, "
    "read_is_complete, total_before, total_after"
)
_STORE_RUN_READ = (
    "insert into activity.runs as r (run_id, integration_id, workspace_id, run_no, mode, "  # noqa: S608  # names, not values
    "pages, parts, read, left_out, total_before, total_after, read_is_complete, fencing) "
    "values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) "
    "on conflict (run_id) do update set mode = excluded.mode, pages = excluded.pages, "
    "parts = excluded.parts, read = excluded.read, left_out = excluded.left_out, "
    "total_before = excluded.total_before, total_after = excluded.total_after, "
    "read_is_complete = excluded.read_is_complete, fencing = excluded.fencing "
    "where r.state <> 'complete' and r.fencing <= excluded.fencing "
    f"returning {_STANDING}"
)
_SUMS_OF_RUNS = (
    f"select {_STANDING} from activity.runs where run_id = any ($1) and state <> 'complete'"  # noqa: S608  # names, not values
)


async def insert_parts(session: Transaction, parts: Sequence[Settled]) -> list[Settled]:
    """Store parts; return those that were not there before."""
    columns = ", ".join(COUNTS)
    values = ", ".join(f"${7 + number}::int[]" for number in range(len(COUNTS)))
    counts = [counts_of(part) for part in parts]
    rows = await session.connection.fetch(
        "insert into activity.parts as p "  # noqa: S608  # names, not values
        f"(run_id, page, part, stage, integration_id, workspace_id, {columns}, importing) "
        "select * from unnest($1::uuid[], $2::int[], $3::int[], $4::text[], $5::uuid[], $6::uuid[],"
        f" {values}, ${7 + len(COUNTS)}::int[]) "
        "on conflict do nothing returning run_id, page, part, stage",
        [part.run for part in parts],
        [part.page for part in parts],
        [part.part for part in parts],
        [part.stage for part in parts],
        [part.integration for part in parts],
        [part.workspace for part in parts],
        *([count[name] for count in counts] for name in COUNTS),
        [part.importing for part in parts],
    )
    new = {tuple(row) for row in rows}
    fresh = []
    for part in parts:
        key = (part.run, part.page, part.part, part.stage)
        if key in new:
            new.discard(key)  # A copy in the same batch is the same part.
            fresh.append(part)
    return fresh


async def add_to_runs(session: Transaction, deltas: Mapping[UUID, RunDelta]) -> None:
    """Add new parts to their runs' sums."""
    for run, delta in sorted(deltas.items()):
        await session.connection.execute(
            _ADD_TO_RUN,
            run,
            delta.integration,
            delta.workspace,
            delta.run_no,
            delta.parts,
            delta.importing,
            json.dumps(delta.later),
            json.dumps(delta.rejected),
            json.dumps(delta.parked),
            *(delta.counts[name] for name in COUNTS),
        )


async def store_run_reads(
    session: Transaction, run_reads: Iterable[RunRead]
) -> dict[UUID, RunSums]:
    """Store what runs said when they had read everything; return those runs as they stand now.

    A poller that stalled may tell late what it had read before another one went on: of two claims
    the newer one counts, and of a run that is complete nothing more is heard. Runs of which nothing
    was stored are left out: they stand as before.
    """
    standing: dict[UUID, RunSums] = {}
    for event in sorted(run_reads, key=lambda event: event.run):
        rows = await session.connection.fetch(
            _STORE_RUN_READ,
            event.run,
            event.integration,
            event.workspace,
            event.run_no,
            event.mode.value,
            event.pages,
            event.parts,
            event.read,
            event.left_out,
            event.total_before,
            event.total_after,
            event.complete,
            event.fencing,
        )
        standing |= _sums_of(rows)
    return standing


async def sums(session: Transaction, runs: Iterable[UUID]) -> Mapping[UUID, RunSums]:
    """Return runs that are not complete, as they stand."""
    return _sums_of(await session.connection.fetch(_SUMS_OF_RUNS, list(runs)))


def _sums_of(rows: "Iterable[asyncpg.Record[Any]]") -> dict[UUID, RunSums]:
    return {
        row["run_id"]: RunSums(
            parts=row["parts"],
            parts_settled=row["parts_settled"],
            read=row["read"] or 0,
            settled=row["settled"],
            importing=row["importing"],
            read_is_complete=bool(row["read_is_complete"]),
            total_before=row["total_before"],
            total_after=row["total_after"],
        )
        for row in rows
    }


async def end_run(session: Transaction, run: UUID, ended: Ended) -> bool:
    """Store how a run ended; False if that was known."""
    changed = await session.connection.fetchval(
        "update activity.runs set state = $2, verdict = $3, ended_at = clock_timestamp() "
        "where run_id = $1 and (state, verdict) is distinct from ($2, $3) returning run_id",
        run,
        ended.state,
        ended.verdict,
    )
    return changed is not None


async def store_statuses(
    session: Transaction,
    *,
    integration: UUID,
    workspace: UUID,
    statuses: Sequence[ContactStatus],
) -> None:
    """Store contacts' last status; an older run's word does not overwrite a newer one's."""
    ordered = sorted(statuses, key=attrgetter("source_id"))
    # One text for each column: the driver takes arrays apart element by element.
    await session.connection.execute(
        "insert into activity.contacts as c "
        "(integration_id, workspace_id, source_id, status, reason, run_no) "
        "select $1, $2, s, status, reason, run_no::int "
        "from unnest(string_to_array($3, chr(31)), string_to_array($4, chr(31)), "
        "string_to_array($5, chr(31), ''), string_to_array($6, chr(31))) "
        "u (s, status, reason, run_no) "
        "on conflict (integration_id, source_id) do update set status = excluded.status, "
        "reason = excluded.reason, run_no = excluded.run_no, at = clock_timestamp() "
        "where c.run_no <= excluded.run_no",
        integration,
        workspace,
        SEPARATOR.join([status.source_id for status in ordered]),
        SEPARATOR.join([status.status for status in ordered]),
        SEPARATOR.join([status.reason or "" for status in ordered]),
        SEPARATOR.join([str(status.run_no) for status in ordered]),
    )
