"""`services.activity.store` in memory: parts that were counted, and runs' sums."""

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from libs.common.events import RunRead, Settled
from libs.common.postgres import Transaction
from services.activity.project import ContactStatus, Ended, RunDelta, RunSums
from tests.simulation.memory.database import SettledRun, change, tables_of


async def insert_parts(session: Transaction, parts: Sequence[Settled]) -> list[Settled]:
    known = tables_of(session).settled_parts
    fresh: list[Settled] = []
    for part in parts:
        key = (part.run, part.page, part.part, part.stage)
        if key not in known:
            known[key] = None
            fresh.append(part)
    return fresh


async def add_to_runs(session: Transaction, deltas: Mapping[UUID, RunDelta]) -> None:
    rows = tables_of(session).settled_runs
    for run, delta in deltas.items():
        before = rows.get(run, SettledRun(run_no=delta.run_no))
        rows[run] = change(
            before,
            parts_settled=before.parts_settled + delta.parts,
            importing=before.importing + delta.importing,
            settled=before.settled + delta.counts.total(),
        )


async def store_run_reads(
    session: Transaction, run_reads: Iterable[RunRead]
) -> dict[UUID, RunSums]:
    rows, standing = tables_of(session).settled_runs, dict[UUID, RunSums]()
    for event in run_reads:
        before = rows.get(event.run, SettledRun(run_no=event.run_no))
        if before.state == "complete" or before.fencing > event.fencing:
            continue
        rows[event.run] = change(
            before,
            parts=event.parts,
            read=event.read,
            total_before=event.total_before,
            total_after=event.total_after,
            read_is_complete=event.complete,
            fencing=event.fencing,
        )
        standing |= await sums(session, [event.run])
    return standing


async def sums(session: Transaction, runs: Iterable[UUID]) -> Mapping[UUID, RunSums]:
    rows = tables_of(session).settled_runs
    return {
        run: RunSums(
            parts=row.parts,
            parts_settled=row.parts_settled,
            read=row.read,
            settled=row.settled,
            importing=row.importing,
            read_is_complete=row.read_is_complete,
            total_before=row.total_before,
            total_after=row.total_after,
        )
        for run, row in ((run, rows[run]) for run in runs if run in rows)
        if row.state != "complete"
    }


async def end_run(session: Transaction, run: UUID, ended: Ended) -> bool:
    rows = tables_of(session).settled_runs
    before = rows[run]
    rows[run] = change(before, state=ended.state, verdict=ended.verdict)
    return rows[run] != before


async def store_statuses(
    session: Transaction,
    *,
    integration: UUID,
    workspace: UUID,
    statuses: Sequence[ContactStatus],
) -> None:
    """Leave it out: what people are shown decides nothing."""
