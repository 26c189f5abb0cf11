"""The poller's SQL: what is due, how far each sweep has come, who is there, and the runs.

Every statement of this service is in this file. Functions take the session of the caller's
transaction and never end it. Promises: whatever moves an integration's state first locks its
schedule and compares the fencing token, so a poller that lost its lease changes nothing
(LeaseLostError); all times are the database's (RELIABILITY R7).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common import criteria
from libs.common.database import driver
from libs.common.errors import LeaseLostError
from libs.common.events import IntegrationChanged, RunMode, Topic, encode
from services.poller.plan import Account, Assignment, Roll, Sweeping, run_id
from services.poller.setbacks import SOURCE_TROUBLE

LEASE_S = 120.0  # PROTOCOL.md 4.1; renewed every quarter of it.
UNSETTLED_MAX = 50_000  # PROTOCOL.md 4.1: back-pressure of the writers.

# A lease that lapsed is work that somebody died over: it is due at once.
_CLAIM = text(
    """
    with due as (
      select s.integration_id
      from sync.schedules s
      join config.integrations i on i.integration_id = s.integration_id
      join config.connections c on c.connection_id = i.source_connection_id
      where s.provider = :provider and s.is_active and c.state = 'connected'
        and (coalesce(s.resume_at, s.next_due_at) <= clock_timestamp() or s.lease_owner is not null)
        and (s.lease_until is null or s.lease_until < clock_timestamp())
        and (i.state = 'active' or i.state = 'error' and starts_with(i.error_reason, :trouble))
        and ledger.is_open(s.workspace_id)
        and activity.unsettled(s.integration_id) <= :unsettled_max
      order by coalesce(s.resume_at, s.next_due_at)
      limit :rows
      for update of s skip locked
    )
    update sync.schedules s
    set lease_owner = :owner, lease_until = clock_timestamp() + make_interval(secs => :lease_s),
        fencing = s.fencing + 1, resume_at = null
    from due
    join config.integrations i on i.integration_id = due.integration_id
    join config.connections c on c.connection_id = i.source_connection_id
    join config.field_mappings m
      on m.integration_id = i.integration_id and m.version = i.mapping_version
    left join sync.positions p on p.integration_id = i.integration_id and p.stream = 'contacts'
    left join sync.positions r on r.integration_id = i.integration_id and r.stream = 'members'
    where s.integration_id = due.integration_id
    returning s.integration_id, s.workspace_id, s.fencing, s.provider, s.run_no, s.wanted_mode,
      s.wanted_mapping_version, s.failures, s.interval_minutes,
      i.source_object, i.source_list_id, i.mapping_version,
      case when i.state = 'error' then i.error_reason end as reported_reason,
      c.connection_id, c.account_id, c.time_zone, c.tier,
      m.fields::text as fields, m.criteria::text as criteria,
      p.from_ms, p.sweep::text as sweep, r.from_ms as members_read_ms, r.sweep::text as roll,
      exists (select from sync.withheld w join sync.runs n on n.run_id = w.run_id
              where w.integration_id = s.integration_id and n.confirmed_at is not null)
        as has_confirmed,
      (extract(epoch from clock_timestamp()) * 1000)::bigint as now_ms
    """
)


class _Source(msgspec.Struct, frozen=True):
    source: str


_FIELDS = msgspec.json.Decoder(list[_Source])
_SWEEPING = msgspec.json.Decoder(Sweeping)
_ROLL = msgspec.json.Decoder(Roll)


@dataclass(frozen=True, slots=True)
class Lease:
    """What a poller holds: an integration, and the token that proves it."""

    integration: UUID
    fencing: int


async def claim_due(
    session: AsyncSession, *, provider: str, owner: UUID, limit: int, lease_s: float = LEASE_S
) -> list[Assignment]:
    """Lease up to `limit` integrations that are due, the longest due first.

    Left alone are those that are paused, whose connection or state needs a person, whose workspace
    has used up its quota, and of whom too much is still on its way to the destination. The claim
    moves no time: only a run that begins answers for the one that was due (`begin_run`).
    """
    claimed = await session.execute(
        _CLAIM,
        {
            "provider": provider,
            "owner": owner,
            "lease_s": lease_s,
            "trouble": SOURCE_TROUBLE,
            "unsettled_max": UNSETTLED_MAX,
            "rows": limit,
        },
    )
    return [_assignment(row) for row in claimed]


def _assignment(row: Row[Any]) -> Assignment:
    return Assignment(
        integration=row.integration_id,
        workspace=row.workspace_id,
        fencing=row.fencing,
        provider=row.provider,
        source=Account(row.connection_id, row.account_id, row.time_zone, row.tier),
        object=row.source_object,
        list_id=row.source_list_id,
        properties=_properties(row.fields, row.criteria),
        mapping_version=row.mapping_version,
        wanted_mode=RunMode(row.wanted_mode),
        wanted_mapping_version=row.wanted_mapping_version,
        last_run_no=row.run_no,
        failures=row.failures,
        interval_s=row.interval_minutes * 60.0,
        now_ms=row.now_ms,
        read_from_ms=row.from_ms,
        sweeping=None if row.sweep is None else _SWEEPING.decode(row.sweep),
        roll=None if row.roll is None else _ROLL.decode(row.roll),
        has_confirmed=row.has_confirmed,
        reported_reason=row.reported_reason,
    )


def _properties(fields: str, conditions: str | None) -> list[str]:
    """Return the source fields to ask for: those that are mapped, and those that criteria ask."""
    wanted = {field.source for field in _FIELDS.decode(fields)}
    document = None if conditions is None else msgspec.json.decode(conditions)
    if document is not None:
        wanted |= criteria.parse(document).fields
    return sorted(wanted)


async def renew(
    session: AsyncSession, *, owner: UUID, leases: Sequence[Lease], lease_s: float = LEASE_S
) -> set[UUID]:
    """Prolong leases; return the integrations that are still ours."""
    renewed = await session.scalars(
        text(
            """
            update sync.schedules s
            set lease_until = clock_timestamp() + make_interval(secs => :lease_s)
            from unnest(cast(:integrations as uuid[]), cast(:fencings as bigint[])) h (id, fencing)
            where s.integration_id = h.id and s.fencing = h.fencing and s.lease_owner = :owner
            returning s.integration_id
            """
        ),
        {
            "lease_s": lease_s,
            "owner": owner,
            "integrations": [lease.integration for lease in leases],
            "fencings": [lease.fencing for lease in leases],
        },
    )
    return set(renewed)


@dataclass(frozen=True, slots=True)
class Standing:
    """What the schedule says while a run is under way."""

    is_active: bool
    is_open: bool
    failures: int


async def hold_lease(session: AsyncSession, lease: Lease) -> Standing:
    """Lock the schedule until the transaction ends; raise LeaseLostError if it is not ours."""
    found = await session.execute(
        text(
            """
            select s.is_active, ledger.is_open(s.workspace_id) as is_open, s.failures
            from sync.schedules s
            where s.integration_id = :integration and s.fencing = :fencing
              and s.lease_owner is not null
            for update
            """
        ),
        {"integration": lease.integration, "fencing": lease.fencing},
    )
    row = found.one_or_none()
    if row is None:
        raise LeaseLostError(what=f"integration {lease.integration}")
    return Standing(row.is_active, row.is_open, row.failures)


# One statement: an idle poll costs little else than its round trips. A time later than the claim is
# that of a run asked for since (sync.make_due): it may be about changes that this one misses.
_BEGIN_RUN = text(
    """
    with numbered as (
      update sync.schedules
      set run_no = :run_no,
          next_due_at = case
            when next_due_at > to_timestamp(:claimed_ms / 1000.0) then next_due_at
            else clock_timestamp() + make_interval(mins => interval_minutes) end
      where integration_id = :integration
    ), abandoned as (
      update sync.runs set state = 'abandoned'
      where integration_id = :integration and run_no < :run_no and state = 'reading'
    ), started as (
      insert into sync.runs
        (run_id, integration_id, workspace_id, run_no, mode, mapping_version, fencing)
      values (:run, :integration, :workspace, :run_no, :mode, :mapping_version, :fencing)
      on conflict (run_id) do nothing
    )
    insert into sync.positions (integration_id, stream, workspace_id, sweep)
    values (:integration, 'contacts', :workspace, cast(:sweep as jsonb))
    on conflict (integration_id, stream) do update set sweep = excluded.sweep
    """
)


async def begin_run(session: AsyncSession, assignment: Assignment, sweeping: Sweeping) -> Sweeping:
    """Store a new run and give up the unfinished ones before it; return it with `members_before`.

    Sets the next regular time. A run that is gone on with does not: its window ended when it began,
    so a run asked for while it had stopped, for whatever reason, is still due once it ends.
    The caller holds the lease.
    """
    if sweeping.mode is RunMode.FULL:
        members = await session.scalar(
            text("select count(*) from sync.members where integration_id = :integration"),
            {"integration": assignment.integration},
        )
        sweeping = msgspec.structs.replace(sweeping, members_before=members)
    parameters = {
        "integration": assignment.integration,
        "workspace": assignment.workspace,
        "run": run_id(assignment, sweeping),
        "run_no": sweeping.run_no,
        "mode": sweeping.mode.value,
        "mapping_version": sweeping.mapping_version,
        "fencing": assignment.fencing,
        "claimed_ms": assignment.now_ms,
        "sweep": _json(sweeping),
    }
    await session.execute(_BEGIN_RUN, parameters)
    return sweeping


async def resume_run(session: AsyncSession, *, run: UUID, fencing: int) -> bool:
    """Give a run that is still being read the new token; False if it has ended."""
    resumed = await session.execute(
        text(
            """
            update sync.runs set fencing = :fencing, error_code = null
            where run_id = :run and state = 'reading' returning run_id
            """
        ),
        {"run": run, "fencing": fencing},
    )
    return resumed.one_or_none() is not None


async def store_progress(
    session: AsyncSession, *, integration: UUID, run: UUID, sweeping: Sweeping
) -> bool:
    """Store how far a run has come; False if it was cancelled. The caller holds the lease."""
    found = await session.execute(
        text(
            """
            update sync.runs
            set pages = :pages, parts = :parts, read = :read, left_out = :left_out,
                total_before = :total_before, expected = :total_before
            where run_id = :run and state = 'reading' returning run_id
            """
        ),
        {
            "run": run,
            "pages": sweeping.pages,
            "parts": sweeping.parts,
            "read": sweeping.read,
            "left_out": sweeping.left_out,
            "total_before": sweeping.total_before,
        },
    )
    if found.one_or_none() is None:
        return False
    await session.execute(
        text(
            """
            update sync.positions set sweep = cast(:sweep as jsonb)
            where integration_id = :integration and stream = 'contacts'
            """
        ),
        {"integration": integration, "sweep": _json(sweeping)},
    )
    return True


async def add_members(
    session: AsyncSession,
    *,
    integration: UUID,
    run_no: int,
    ids: Sequence[str],
    marks_known: bool,
) -> None:
    """Store who is there, newcomers with this run's number; `marks_known`: the others as well.

    The caller holds the lease. Sorted, so that two transactions lock rows in one order.
    """
    on_conflict = (
        "do update set run_no = excluded.run_no where members.run_no < excluded.run_no"
        if marks_known
        else "do nothing"
    )
    connection = await driver(session)
    await connection.execute(
        f"""
        insert into sync.members (integration_id, source_id, run_no)
        select $1, u, $2 from unnest($3::text[]) u
        on conflict (integration_id, source_id) {on_conflict}
        """,  # noqa: S608  # one of the two constants above
        integration,
        run_no,
        sorted(set(ids)),
    )


async def mark_known(
    session: AsyncSession, *, integration: UUID, run_no: int, ids: Sequence[str]
) -> None:
    """Mark members as met by a full run without adding any: ids that live on in a survivor."""
    await session.execute(
        text(
            """
            update sync.members set run_no = :run_no
            where integration_id = :integration and run_no < :run_no
              and source_id = any (cast(:ids as text[]))
            """
        ),
        {"integration": integration, "run_no": run_no, "ids": list(ids)},
    )


async def known_members(
    session: AsyncSession, *, integration: UUID, ids: Sequence[str]
) -> set[str]:
    """Return which of these ids are members."""
    found = await session.scalars(
        text(
            """
            select source_id from sync.members
            where integration_id = :integration and source_id = any (cast(:ids as text[]))
            """
        ),
        {"integration": integration, "ids": list(ids)},
    )
    return set(found)


async def all_members(session: AsyncSession, *, integration: UUID) -> set[str]:
    """Return every member's id: some hundred bytes each."""
    connection = await driver(session)
    rows = await connection.fetch(
        "select source_id from sync.members where integration_id = $1", integration
    )
    return {row[0] for row in rows}


async def newcomers(session: AsyncSession, *, integration: UUID, settled_run_no: int) -> set[str]:
    """Return the members whose page may never have been published."""
    found = await session.scalars(
        text(
            """
            select source_id from sync.members
            where integration_id = :integration and run_no > :settled
            """
        ),
        {"integration": integration, "settled": settled_run_no},
    )
    return set(found)


async def unmet(session: AsyncSession, *, integration: UUID, run_no: int) -> set[str]:
    """Return the members that a full run did not meet."""
    found = await session.scalars(
        text(
            """
            select source_id from sync.members
            where integration_id = :integration and run_no < :run_no
            """
        ),
        {"integration": integration, "run_no": run_no},
    )
    return set(found)


@dataclass(frozen=True, slots=True)
class Withheld:
    """Who waits for a person's word, and who has it."""

    standing: frozenset[str]
    confirmed: frozenset[str]


async def withheld(session: AsyncSession, *, integration: UUID) -> Withheld:
    """Return the deletions that were not published."""
    found = await session.execute(
        text(
            """
            select w.source_id, r.confirmed_at is not null as is_confirmed
            from sync.withheld w join sync.runs r on r.run_id = w.run_id
            where w.integration_id = :integration
            """
        ),
        {"integration": integration},
    )
    rows = found.all()
    return Withheld(
        frozenset(row.source_id for row in rows if not row.is_confirmed),
        frozenset(row.source_id for row in rows if row.is_confirmed),
    )


async def replace_withheld(
    session: AsyncSession,
    *,
    integration: UUID,
    run: UUID,
    ids: Collection[str],
    asks_anew: bool,
    ends_confirmed: bool,
) -> None:
    """Store who waits for a person's word from now on, and let the other questions lapse.

    `asks_anew` makes it this run's question; else the earlier ones shrink to who is still gone.
    `ends_confirmed`: what was confirmed is done. The caller holds the lease.
    """
    parameters = {"integration": integration, "run": run, "ids": sorted(ids)}
    if ends_confirmed:
        await session.execute(
            text(
                """
                delete from sync.withheld w using sync.runs r
                where r.run_id = w.run_id and w.integration_id = :integration
                  and r.confirmed_at is not null
                """
            ),
            parameters,
        )
    kept = "" if asks_anew else "and w.source_id <> all (cast(:ids as text[]))"
    await session.execute(
        text(
            f"""
            delete from sync.withheld w using sync.runs r
            where r.run_id = w.run_id and w.integration_id = :integration
              and r.confirmed_at is null {kept}
            """  # noqa: S608  # one of the two constants above
        ),
        parameters,
    )
    if asks_anew:
        await session.execute(
            text(
                """
                insert into sync.withheld (run_id, integration_id, source_id)
                select :run, :integration, u from unnest(cast(:ids as text[])) u
                on conflict do nothing
                """
            ),
            parameters,
        )
    await session.execute(
        text(
            """
            update sync.runs r
            set withheld = (select count(*) from sync.withheld w where w.run_id = r.run_id)
            where r.integration_id = :integration and r.confirmed_at is null
              and (r.withheld > 0 or r.run_id = :run)
            """
        ),
        parameters,
    )


async def remove_members(session: AsyncSession, *, integration: UUID, ids: Collection[str]) -> None:
    """Forget members that were published as gone. The caller holds the lease."""
    await session.execute(
        text(
            """
            delete from sync.members
            where integration_id = :integration and source_id = any (cast(:ids as text[]))
            """
        ),
        {"integration": integration, "ids": sorted(ids)},
    )


_END_RUN = text(
    """
    with read as (
      update sync.runs
      set state = case when state = 'reading' then 'read' else state end,
          read_at = clock_timestamp(), pages = :pages, parts = :parts,
          read = :read, left_out = :left_out, total_before = :total_before,
          total_after = :total_after, is_complete = :complete, error_code = null
      where run_id = :run
    ), moved as (
      update sync.positions set from_ms = :until_ms, sweep = null
      where integration_id = :integration and stream = 'contacts'
    ), looked as (
      insert into sync.positions (integration_id, stream, workspace_id, from_ms, sweep)
      values (:integration, 'members', :workspace, :read_at_ms, cast(:roll as jsonb))
      on conflict (integration_id, stream)
      do update set from_ms = excluded.from_ms, sweep = excluded.sweep
    )
    update sync.schedules
    set lease_owner = null, lease_until = null, failures = 0,
        last_full_at = case when :is_full then clock_timestamp() else last_full_at end,
        wanted_mode = case when :satisfies and wanted_mapping_version <= :mapping_version
                             and wanted_run_no <= :run_no
                           then 'changes' else wanted_mode end
    where integration_id = :integration
    """
)


async def end_run(
    session: AsyncSession,
    assignment: Assignment,
    sweeping: Sweeping,
    *,
    roll: Roll,
    total_after: int | None,
    complete: bool,
    satisfies_wish: bool,
) -> None:
    """Store that a run was read to its end, move the position, and give the lease back.

    The caller holds the lease.
    """
    parameters = {
        "integration": assignment.integration,
        "workspace": assignment.workspace,
        "run": run_id(assignment, sweeping),
        "pages": sweeping.pages,
        "parts": sweeping.parts,
        "read": sweeping.read,
        "left_out": sweeping.left_out,
        "total_before": sweeping.total_before,
        "total_after": total_after,
        "complete": complete,
        "until_ms": sweeping.until_ms,
        "is_full": sweeping.mode is RunMode.FULL,
        "satisfies": satisfies_wish,
        "mapping_version": sweeping.mapping_version,
        "run_no": sweeping.run_no,
        "read_at_ms": roll.read_at_ms,
        "roll": _json(roll),
    }
    await session.execute(_END_RUN, parameters)


async def put_off(
    session: AsyncSession,
    *,
    lease: Lease,
    delay_s: float,
    counts: bool,
) -> None:
    """Give the lease back and go on in `delay_s`; `counts`: one more failure in a row.

    When the next run is due stays as it is: it may have been asked for meanwhile.
    """
    await session.execute(
        text(
            """
            update sync.schedules
            set lease_owner = null, lease_until = null,
                failures = failures + case when :counts then 1 else 0 end,
                resume_at = clock_timestamp() + make_interval(secs => :delay_s)
            where integration_id = :integration and fencing = :fencing
            """
        ),
        {
            "integration": lease.integration,
            "fencing": lease.fencing,
            "delay_s": delay_s,
            "counts": counts,
        },
    )


async def note_trouble(
    session: AsyncSession, *, integration: UUID, run: UUID | None, code: str, ends_run: bool
) -> None:
    """Store why a run did not go on; `ends_run`: the next claim begins anew."""
    parameters = {"integration": integration, "run": run, "code": code, "ends": ends_run}
    await session.execute(
        text(
            """
            update sync.runs
            set error_code = :code, state = case when :ends then 'failed' else state end
            where run_id = :run and state = 'reading'
            """
        ),
        parameters,
    )
    if ends_run:
        await forget_sweep(session, integration=integration)


async def forget_sweep(session: AsyncSession, *, integration: UUID) -> None:
    """Let the next claim begin anew."""
    await session.execute(
        text(
            """
            update sync.positions set sweep = null
            where integration_id = :integration and stream = 'contacts'
            """
        ),
        {"integration": integration},
    )


async def count_check(
    session: AsyncSession, *, connection: UUID, failed: bool, reason: str | None
) -> str:
    """Tell whether a connection's credentials worked; return its state afterwards."""
    state = await session.scalar(
        text("select config.count_check(:connection, :failed, :reason)"),
        {"connection": connection, "failed": failed, "reason": reason},
    )
    return str(state)


async def report_integration(
    session: AsyncSession, *, integration: UUID, reason: str | None
) -> bool:
    """Say that an integration needs a person, or (None) does not any more; True if that is new."""
    changed = await session.scalar(
        text("select config.report_integration(:integration, :reason)"),
        {"integration": integration, "reason": reason},
    )
    return bool(changed)


async def tell(session: AsyncSession, event: IntegrationChanged) -> None:
    """Put an event into the outbox."""
    await session.execute(
        text("insert into sync.outbox (topic, key, body) values (:topic, :key, :body)"),
        {
            "topic": Topic.INTEGRATIONS_CHANGED.value,
            "key": str(event.integration),
            "body": encode(event),
        },
    )


async def database_now(session: AsyncSession) -> str:
    """Return the database's time in RFC 3339."""
    now = await session.scalar(
        text(
            """
            select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
            """
        )
    )
    return str(now)


def _json(value: msgspec.Struct) -> str:
    return msgspec.json.encode(value).decode()
