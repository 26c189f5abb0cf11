"""sync.runs with activity's counts, and activity.contacts: what became of what was read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of a run's contacts, as activity has counted so far."""

    created: int = 0
    updated: int = 0
    removed: int = 0
    unchanged: int = 0
    superseded: int = 0
    filtered: int = 0
    rejected: int = 0
    parked: int = 0
    importing: int = 0


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as the poller and activity know it; `settled_*` is None until the first outcome."""

    run_id: UUID
    integration_id: UUID
    run_no: int
    mode: str
    mapping_version: int
    state: str
    started_at: datetime
    read_at: datetime | None
    parts: int
    read: int
    left_out: int
    expected: int | None
    total_before: int | None
    total_after: int | None
    is_complete: bool
    withheld: int
    is_confirmable: bool
    error_code: str | None
    settled_state: str | None
    parts_settled: int
    verdict: str | None
    ended_at: datetime | None
    counts: Counts
    settled_later: Mapping[str, Any]
    rejected_by_reason: Mapping[str, int]
    parked_by_reason: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ContactRow:
    """A contact's last outcome; without an id, nobody's: the answer to a question."""

    source_id: str | None
    status: str
    reason: str | None
    run_no: int | None
    at: datetime | None


_COUNTS = tuple(Counts.__dataclass_fields__)
_SELECT = (
    "select r.run_id, r.integration_id, r.run_no, r.mode, r.mapping_version, r.state,"
    " r.started_at, r.read_at, r.parts, r.read, r.left_out, r.expected, r.total_before,"
    " r.total_after, r.is_complete, r.withheld,"
    # The guard's question lapses with the next full read (PROTOCOL 4.4).
    " r.withheld > 0 and r.confirmed_at is null and not exists (select from sync.runs n"
    "   where n.integration_id = r.integration_id and n.run_no > r.run_no and n.mode = 'full'"
    "   and n.state = 'read') as is_confirmable,"
    " r.error_code, a.state as settled_state, coalesce(a.parts_settled, 0) as parts_settled,"
    " a.verdict, a.ended_at, a.settled_later, a.rejected_by_reason, a.parked_by_reason, "
    " coalesce(a.created, 0) as created, coalesce(a.updated, 0) as updated,"
    " coalesce(a.removed, 0) as removed, coalesce(a.unchanged, 0) as unchanged,"
    " coalesce(a.superseded, 0) as superseded, coalesce(a.filtered, 0) as filtered,"
    " coalesce(a.rejected, 0) as rejected, coalesce(a.parked, 0) as parked,"
    " coalesce(a.importing, 0) as importing"
    " from sync.runs r left join activity.runs a on a.run_id = r.run_id"
)
_IF_LAST = (
    "join (select integration_id, max(run_no) as run_no from sync.runs"
    "   where integration_id = any(:integrations) group by integration_id) last"
    " on last.integration_id = r.integration_id and last.run_no = r.run_no"
)


async def find(session: AsyncSession, run: UUID) -> RunRow | None:
    """Return a run; None if this workspace has none of that id."""
    found = await session.execute(text(f"{_SELECT} where r.run_id = :run"), {"run": run})
    row = found.one_or_none()
    return _run_of(row) if row else None


async def find_page(
    session: AsyncSession, integration: UUID, *, before: int | None, size: int
) -> list[RunRow]:
    """Return an integration's runs, newest first."""
    found = await session.execute(
        text(
            f"{_SELECT} where r.integration_id = :integration"
            " and (cast(:before as integer) is null or r.run_no < :before)"
            " order by r.run_no desc limit :size"
        ),
        {"integration": integration, "before": before, "size": size},
    )
    return [_run_of(row) for row in found]


async def find_last(session: AsyncSession, integrations: Sequence[UUID]) -> dict[UUID, RunRow]:
    """Return the newest run of each integration that has one."""
    found = await session.execute(
        text(f"{_SELECT} {_IF_LAST}"),
        {"integrations": list(integrations)},
    )
    runs = [_run_of(row) for row in found]
    return {run.integration_id: run for run in runs}


def _run_of(row: Row[Any]) -> RunRow:
    columns: dict[str, Any] = row._asdict()
    counts = Counts(**{name: columns.pop(name) for name in _COUNTS})
    documents: dict[str, Any] = {
        name: columns.pop(name) or {}
        for name in ("settled_later", "rejected_by_reason", "parked_by_reason")
    }
    return RunRow(**columns, counts=counts, **documents)


async def request(session: AsyncSession, integration: UUID, *, full: bool) -> bool:
    """Ask for a run now; False if the integration is not scheduled."""
    answer = await session.scalar(
        text("select sync.request_run(:integration, :full)"),
        {"integration": integration, "full": full},
    )
    return bool(answer)


async def find_last_number(session: AsyncSession, integration: UUID) -> int:
    """Return the number of the newest run that was begun; 0 before the first."""
    number = await session.scalar(
        text("select run_no from sync.schedules where integration_id = :integration"),
        {"integration": integration},
    )
    return number or 0


async def cancel_reading(session: AsyncSession, integration: UUID) -> None:
    """Cancel what is being read of an integration."""
    await session.execute(
        text(
            "select sync.cancel_run(r.run_id) from sync.runs r"
            " where r.integration_id = :integration and r.state = 'reading'"
        ),
        {"integration": integration},
    )


async def confirm_deletions(session: AsyncSession, run: UUID) -> int:
    """Let the withheld deletions of a run happen; return how many; 0: there were none to."""
    count = await session.scalar(text("select sync.confirm_deletions(:run)"), {"run": run})
    assert isinstance(count, int)
    return count


async def find_contacts(
    session: AsyncSession,
    integration: UUID,
    *,
    statuses: Sequence[str] | None,
    reason: str | None,
    source_ids: Sequence[str] | None,
    after: str | None,
    size: int,
) -> list[ContactRow]:
    """Return contacts' last outcomes, by source id.

    What waited and was found to be there already, or to be nobody's business any more, is not
    named by the writer again (PROTOCOL 8 counts it): whether a contact still waits is asked where
    it would wait.
    """
    found = await session.execute(
        text(
            "select source_id, status, reason, run_no, at from (select c.source_id, c.run_no, c.at,"
            " case when over then 'updated' else c.status end as status,"
            " case when over then null else c.reason end as reason"
            " from activity.contacts c left join delivery.parked p"
            " on p.integration_id = c.integration_id and p.source_id = c.source_id"
            " left join delivery.links l"
            " on l.integration_id = c.integration_id and l.source_id = c.source_id"
            " cross join lateral (select c.status = 'parked' and p.source_id is null as over) o"
            " where c.integration_id = :integration and (not over or l.state = 'linked')) contacts"
            " where true"
            " and (cast(:statuses as text[]) is null or status = any(:statuses))"
            " and (cast(:reason as text) is null or reason = :reason)"
            " and (cast(:sources as text[]) is null or source_id = any(:sources))"
            " and (cast(:after as text) is null or source_id > :after)"
            " order by source_id limit :size"
        ),
        {
            "integration": integration,
            "statuses": None if statuses is None else list(statuses),
            "reason": reason,
            "sources": None if source_ids is None else list(source_ids),
            "after": after,
            "size": size,
        },
    )
    return [ContactRow(*row) for row in found]


async def find_ids_by_address(session: AsyncSession, integration: UUID, address: str) -> list[str]:
    """Return the contacts that have an address at the destination, or are to have it."""
    found = await session.scalars(
        text(
            "select source_id from delivery.links"
            " where integration_id = :integration and identity = :address"
            " union select source_id from delivery.links"
            " where integration_id = :integration and refused_identity = :address"
            " union select source_id from delivery.parked"
            " where integration_id = :integration and identity = :address"
            " order by source_id limit 100"
        ),
        {"integration": integration, "address": address},
    )
    return list(found)


@dataclass(frozen=True, slots=True)
class Trace:
    """What is known of a contact that nothing was told of."""

    source_id: str
    operation: str | None  # Of its link, if it has one.
    run_no: int | None
    at: datetime | None
    is_left_out: bool


async def find_traces(
    session: AsyncSession, integration: UUID, source_ids: Sequence[str]
) -> list[Trace]:
    """Return what links and left-outs know of these contacts; unknown ones are left out."""
    found = await session.execute(
        text(
            "select w.source_id, l.operation, l.run_no, l.written_at, o.source_id is not null"
            " from unnest(cast(:sources as text[])) w (source_id)"
            " left join delivery.links l"
            " on l.integration_id = :integration and l.source_id = w.source_id"
            " left join sync.left_out o"
            " on o.integration_id = :integration and o.source_id = w.source_id"
            " where l.source_id is not null or o.source_id is not null order by w.source_id"
        ),
        {"integration": integration, "sources": list(source_ids)},
    )
    return [Trace(*row) for row in found]


@dataclass(frozen=True, slots=True)
class LeftOutRow:
    """A contact that a run left out."""

    source_id: str
    changed_at: datetime
    wanted_at: datetime | None


async def find_left_out(
    session: AsyncSession, run: UUID, *, after: str | None, size: int
) -> list[LeftOutRow]:
    """Return who was left out of a run and was not read since, by source id."""
    found = await session.execute(
        text(
            "select o.source_id, to_timestamp(o.version_ms / 1000.0), o.wanted_at"
            " from sync.left_out o where o.run_id = :run"
            " and (cast(:after as text) is null or o.source_id > :after)"
            " and not exists (select from delivery.links l"
            "   where l.integration_id = o.integration_id and l.source_id = o.source_id"
            "   and l.version_ms >= o.version_ms)"
            " order by o.source_id limit :size"
        ),
        {"run": run, "after": after, "size": size},
    )
    return [LeftOutRow(*row) for row in found]


async def replay_left_out(session: AsyncSession, run: UUID) -> int:
    """Have those read who were left out of a run; return how many; 0: there were none to."""
    count = await session.scalar(text("select sync.replay_left_out(:run)"), {"run": run})
    assert isinstance(count, int)
    return count
