"""The poller's SQL: what is due, how far each sweep has come, who is there, and the runs.

Every statement of this service is in this file. Functions take the session of the caller's
transaction and never end it. Promises: whatever moves an integration's state first locks its
schedule and compares the fencing token, so a poller that lost its lease changes nothing
(LeaseLostError); all times are the database's (RELIABILITY R7).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from libs.common import criteria
from libs.common.errors import LeaseLostError
from libs.common.events import IntegrationChanged, RunMode, Topic, encode
from libs.common.postgres import Transaction, Transactions, fetch_alone
from libs.common.tokens import sealed_of
from libs.connectors.automatic import WantedField
from services.poller.parts import changes_max
from services.poller.plan import Account, Assignment, Roll, Sweeping, run_id
from services.poller.setbacks import SOURCE_TROUBLE

SEPARATOR = "\x1f"  # `parts.storable` keeps no id that has it.
LEASE_S = 120.0  # PROTOCOL.md 4.1; renewed every quarter of it.
UNSETTLED_MAX = 50_000  # PROTOCOL.md 4.1: back-pressure of the writers.

# A lease that lapsed is work that somebody died over: it is due at once. Whose turn it is, is told
# by schedules alone; whether it may be read is asked one by one in that order, until there are
# enough: it costs some 50 µs each, and hundreds may be due.
_CLAIM = """
    with under_way as (
      select workspace_id, count(*) as runs from sync.schedules
      where provider = $1 and lease_owner is not null and lease_until >= clock_timestamp()
      group by workspace_id
    ), ranked as materialized (
      select s.integration_id, coalesce(s.resume_at, s.next_due_at) as due_at,
        coalesce(u.runs, 0) + row_number() over (
          partition by s.workspace_id order by coalesce(s.resume_at, s.next_due_at)) as place
      from sync.schedules s left join under_way u using (workspace_id)
      where s.provider = $1 and s.is_active
        and (coalesce(s.resume_at, s.next_due_at) <= clock_timestamp() or s.lease_owner is not null)
        and (s.lease_until is null or s.lease_until < clock_timestamp())
      order by place, due_at
    ), due as (
      select d.integration_id
      from ranked r
      cross join lateral (
        select s.integration_id
        from sync.schedules s
        join config.integrations i on i.integration_id = s.integration_id
        join config.connections c on c.connection_id = i.source_connection_id
        where s.integration_id = r.integration_id
          and s.provider = $1 and s.is_active and c.state = 'connected'
          and (coalesce(s.resume_at, s.next_due_at) <= clock_timestamp()
            or s.lease_owner is not null)
          and (s.lease_until is null or s.lease_until < clock_timestamp())
          and ledger.is_open(s.workspace_id)
          and activity.unsettled(s.integration_id) <= $3
          and (i.state = 'active' and not delivery.waits_for_quota(s.integration_id)
            or i.state = 'error' and starts_with(i.error_reason, $2))
        for update of s skip locked) d
      limit $4
    )
    update sync.schedules s
    set lease_owner = $5, lease_until = clock_timestamp() + make_interval(secs => $6),
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
      i.deletion_policy = 'remove_from_list' as removes_absent,
      case when i.state = 'error' then i.error_reason end as reported_reason,
      c.connection_id, c.account_id, c.time_zone, c.tier, c.account_url,
      c.sealed_access_token, c.sealed_refresh_token, c.sealed_api_key,
      c.token_expires_at, c.token_version, c.client_id, c.sealed_client_secret,
      m.fields::text as fields, m.criteria::text as criteria,
      p.from_ms, p.sweep::text as sweep, r.from_ms as members_read_ms, r.sweep::text as roll,
      (extract(epoch from s.members_wanted_at) * 1000)::bigint as members_wanted_ms,
      exists (select from sync.withheld w join sync.runs n on n.run_id = w.run_id
              where w.integration_id = s.integration_id and n.confirmed_at is not null)
        as has_confirmed,
      case when i.kind = 'automatic' then array(select w.source from delivery.wanted_fields w
        where w.integration_id = s.integration_id) end as asked_fields,
      exists (select from sync.left_out l where l.integration_id = s.integration_id)
        as has_left_out,
      exists (select from sync.left_out l where l.integration_id = s.integration_id
              and l.wanted_at is not null) as has_replays,
      (extract(epoch from clock_timestamp()) * 1000)::bigint as now_ms
    """


class _Mapped(msgspec.Struct, frozen=True):
    source: str
    destination: str


_FIELDS = msgspec.json.Decoder(list[_Mapped])
_SWEEPING = msgspec.json.Decoder(Sweeping)
_ROLL = msgspec.json.Decoder(Roll)


@dataclass(frozen=True, slots=True)
class Lease:
    """What a poller holds: an integration, and the token that proves it."""

    integration: UUID
    fencing: int


async def claim_due(
    sessions: Transactions, *, provider: str, owner: UUID, limit: int, lease_s: float = LEASE_S
) -> list[Assignment]:
    """Lease up to `limit` integrations that are due, in turn between workspaces.

    First come the longest due of the workspaces of whom the fewest are read now, so that nobody
    waits for another's hundreds. Left alone are those that are paused, whose connection or state
    needs a person, whose workspace has used up its quota or whose contacts still wait for what it
    has got since, and of whom too much is still on its way to the destination. The claim moves no
    time: only a run that begins answers for the one that was due (`begin_run`).
    """
    claimed = await fetch_alone(
        sessions, _CLAIM, provider, SOURCE_TROUBLE, UNSETTLED_MAX, limit, owner, lease_s
    )
    return [_assignment(row) for row in claimed]


def _assignment(row: "asyncpg.Record[Any]") -> Assignment:
    return Assignment(
        integration=row["integration_id"],
        workspace=row["workspace_id"],
        fencing=row["fencing"],
        provider=row["provider"],
        source=Account(
            row["connection_id"],
            row["account_id"],
            row["time_zone"],
            row["tier"],
            row["account_url"],
            # With the claim: asked for by each run, they would be a statement or two more.
            sealed_of(row),
        ),
        object=row["source_object"],
        list_id=row["source_list_id"],
        properties=_properties(row["fields"], row["criteria"]),
        mapping_version=row["mapping_version"],
        wanted_mode=RunMode(row["wanted_mode"]),
        wanted_mapping_version=row["wanted_mapping_version"],
        last_run_no=row["run_no"],
        failures=row["failures"],
        interval_s=row["interval_minutes"] * 60.0,
        now_ms=row["now_ms"],
        read_from_ms=row["from_ms"],
        sweeping=None if row["sweep"] is None else _SWEEPING.decode(row["sweep"]),
        roll=None if row["roll"] is None else _ROLL.decode(row["roll"]),
        removes_absent=row["removes_absent"],
        has_confirmed=row["has_confirmed"],
        reported_reason=row["reported_reason"],
        known_fields=_known_fields(row["fields"], row["asked_fields"]),
        has_left_out=row["has_left_out"],
        has_replays=row["has_replays"],
        members_wanted_ms=row["members_wanted_ms"],
        changes_max=changes_max(
            [(field.source, field.destination) for field in _FIELDS.decode(row["fields"])]
        ),
    )


def _known_fields(fields: str, asked: Sequence[str] | None) -> frozenset[str] | None:
    """Return the fields that an automatic import has, or has asked for; None: people map them."""
    if asked is None:
        return None
    return frozenset(field.source for field in _FIELDS.decode(fields)).union(asked)


def _properties(fields: str, conditions: str | None) -> list[str]:
    """Return the source fields to ask for: those that are mapped, and those that criteria ask."""
    wanted = {field.source for field in _FIELDS.decode(fields)}
    document = None if conditions is None else msgspec.json.decode(conditions)
    if document is not None:
        wanted |= criteria.parse(document).fields
    return sorted(wanted)


async def renew(
    session: Transaction, *, owner: UUID, leases: Sequence[Lease], lease_s: float = LEASE_S
) -> set[UUID]:
    """Prolong leases; return the integrations that are still ours."""
    renewed = await session.connection.fetch(
        """
        update sync.schedules s
        set lease_until = clock_timestamp() + make_interval(secs => $4)
        from unnest($1::uuid[], $2::bigint[]) h (id, fencing)
        where s.integration_id = h.id and s.fencing = h.fencing and s.lease_owner = $3
        returning s.integration_id
        """,
        [lease.integration for lease in leases],
        [lease.fencing for lease in leases],
        owner,
        lease_s,
    )
    return {row["integration_id"] for row in renewed}


@dataclass(frozen=True, slots=True)
class Progress:
    """What says whether a run may go on: it, its integration, and the quota."""

    is_reading: bool
    is_active: bool
    is_open: bool


async def hold_lease(session: Transaction, lease: Lease) -> None:
    """Lock the schedule until the transaction ends; raise LeaseLostError if it is not ours."""
    found = await session.connection.fetch(
        """
        select from sync.schedules
        where integration_id = $1 and fencing = $2 and lease_owner is not null
        for update
        """,
        lease.integration,
        lease.fencing,
    )
    if not found:
        raise LeaseLostError(what=f"integration {lease.integration}")


# One statement each for what every run does: an idle poll costs little else than its round trips.
# Whatever it changes hangs on the first part, which locks the schedule and compares the token.

# A time later than the claim is that of a run asked for since (sync.make_due): it may be about
# changes that this one misses.
_BEGIN_RUN = """
    with numbered as (
      update sync.schedules
      set run_no = $3,
          next_due_at = case
            when next_due_at > to_timestamp($4::bigint / 1000.0) then next_due_at
            else clock_timestamp() + make_interval(mins => interval_minutes) end
      where integration_id = $1 and fencing = $2 and lease_owner is not null
      returning workspace_id
    ), counted as (
      select count(m.source_id) as members
      from numbered left join sync.members m on $8 = 'full' and m.integration_id = $1
    ), abandoned as (
      update sync.runs set state = 'abandoned'
      where integration_id = $1 and run_no < $3 and state = 'reading'
        and exists (select from numbered)
    ), started as (
      insert into sync.runs
        (run_id, integration_id, workspace_id, run_no, mode, mapping_version, fencing)
      select $5, $1, workspace_id, $3, $8, $6, $2 from numbered
      on conflict (run_id) do nothing
    ), placed as (
      insert into sync.positions (integration_id, stream, workspace_id, sweep)
      select $1, 'contacts', workspace_id,
        jsonb_set($7::text::jsonb, '{members_before}', to_jsonb(members))
      from numbered, counted
      on conflict (integration_id, stream) do update set sweep = excluded.sweep
    )
    select members from numbered, counted
    """


async def begin_run(sessions: Transactions, assignment: Assignment, sweeping: Sweeping) -> Sweeping:
    """Store a new run and give up the unfinished ones before it; return it with `members_before`.

    Sets the next regular time. A run that is gone on with does not: its window ended when it began,
    so a run asked for while it had stopped, for whatever reason, is still due once it ends.
    Raises LeaseLostError.
    """
    lease = Lease(assignment.integration, assignment.fencing)
    row = await _leased(
        sessions,
        lease,
        _BEGIN_RUN,
        sweeping.run_no,
        assignment.now_ms,
        run_id(assignment, sweeping),
        sweeping.mapping_version,
        _json(sweeping),
        sweeping.mode.value,
    )
    return msgspec.structs.replace(sweeping, members_before=row["members"])


async def _leased(
    sessions: Transactions, lease: Lease, statement: str, *arguments: object
) -> "asyncpg.Record[Any]":
    """Run a statement whose first two parameters are the lease; without a row that is lost."""
    rows = await fetch_alone(sessions, statement, lease.integration, lease.fencing, *arguments)
    if not rows:
        raise LeaseLostError(what=f"integration {lease.integration}")
    return rows[0]


async def check_lease(sessions: Transactions, lease: Lease) -> None:
    """Raise LeaseLostError if the lease is not ours: a look, which locks nothing."""
    statement = """
        select from sync.schedules
        where integration_id = $1 and fencing = $2 and lease_owner is not null
        """
    await _leased(sessions, lease, statement)


async def resume_run(session: Transaction, *, run: UUID, fencing: int) -> bool:
    """Give a run that is still being read the new token; False if it has ended."""
    resumed = await session.connection.fetch(
        """
        update sync.runs set fencing = $2, error_code = null
        where run_id = $1 and state = 'reading' returning run_id
        """,
        run,
        fencing,
    )
    return bool(resumed)


# Members come sorted, so that two transactions lock rows in one order, and joined into one text:
# asyncpg takes an array apart element by element.
_ADVANCE = """
    with held as (
      select is_active, ledger.is_open(workspace_id) as is_open
      from sync.schedules
      where integration_id = $1 and fencing = $2 and lease_owner is not null
      for update
    ), advanced as (
      update sync.runs
      set pages = $4, parts = $5, read = $6, left_out = $7, total_before = $8, expected = $8
      where run_id = $3 and state = 'reading' and exists (select from held)
      returning run_id
    ), placed as (
      update sync.positions set sweep = $9::text::jsonb
      where integration_id = $1 and stream = 'contacts' and exists (select from advanced)
    ), met as (
      insert into sync.members (integration_id, source_id, run_no)
      select $1, u, $10 from unnest(string_to_array($11::text, chr(31))) u
      where exists (select from advanced)
      on conflict (integration_id, source_id) {on_conflict}
    ), marked as (
      update sync.members set run_no = $10
      where integration_id = $1 and run_no < $10 and exists (select from advanced)
        and source_id = any (string_to_array($12::text, chr(31)))
    )
    select is_active, is_open, exists (select from advanced) as is_reading from held
    """
_ADVANCE_CHANGES = _ADVANCE.format(on_conflict="do nothing")
_ADVANCE_FULL = _ADVANCE.format(
    on_conflict="do update set run_no = excluded.run_no where members.run_no < excluded.run_no"
)


async def advance(
    sessions: Transactions,
    lease: Lease,
    *,
    run: UUID,
    sweeping: Sweeping,
    present: Collection[str],
    merged: Collection[str],
) -> Progress:
    """Store how far a run has come, and who is there: newcomers with this run's number.

    A full run marks the others as well, and of those that live on in a survivor (`merged`) the
    ones that are members. Nothing is stored if the run was cancelled. Raises LeaseLostError.
    """
    is_full = sweeping.mode is RunMode.FULL
    row = await _leased(
        sessions,
        lease,
        _ADVANCE_FULL if is_full else _ADVANCE_CHANGES,
        run,
        sweeping.pages,
        sweeping.parts,
        sweeping.read,
        sweeping.left_out,
        sweeping.total_before,
        _json(sweeping),
        sweeping.run_no,
        _joined(present),
        # Twice in one statement, a row is changed once.
        _joined(set(merged).difference(present) if is_full else ()),
    )
    return Progress(row["is_reading"], row["is_active"], row["is_open"])


def _joined(ids: Collection[str]) -> str:
    # In the order given, which mostly is sorted: a set would have to be sorted from scratch.
    return SEPARATOR.join(sorted(dict.fromkeys(ids)))


# All ids as one text as well: a row each takes ten times as long, and as much memory.
_MEMBERS = """
    select string_agg(source_id, chr(31)) from sync.members
    where integration_id = $1 and {chosen}
    """


async def known_members(
    sessions: Transactions, *, integration: UUID, ids: Collection[str]
) -> set[str]:
    """Return which of these ids are members."""
    chosen = "source_id = any (string_to_array($2::text, chr(31)))"
    return await _members(sessions, chosen, integration, _joined(ids))


async def all_members(sessions: Transactions, *, integration: UUID) -> set[str]:
    """Return every member's id: some hundred bytes each."""
    return await _members(sessions, "true", integration)


async def newcomers(sessions: Transactions, *, integration: UUID, settled_run_no: int) -> set[str]:
    """Return the members whose page may never have been published."""
    return await _members(sessions, "run_no > $2", integration, settled_run_no)


async def unmet(sessions: Transactions, *, integration: UUID, run_no: int) -> set[str]:
    """Return the members that a full run did not meet."""
    return await _members(sessions, "run_no < $2", integration, run_no)


async def _members(sessions: Transactions, chosen: str, *arguments: object) -> set[str]:
    [row] = await fetch_alone(sessions, _MEMBERS.format(chosen=chosen), *arguments)
    return set() if row[0] is None else set(row[0].split(SEPARATOR))


@dataclass(frozen=True, slots=True)
class Withheld:
    """Who waits for a person's word, and who has it."""

    standing: frozenset[str]
    confirmed: frozenset[str]


async def withheld(session: Transaction, *, integration: UUID) -> Withheld:
    """Return the deletions that were not published."""
    rows = await session.connection.fetch(
        """
        select w.source_id, r.confirmed_at is not null as is_confirmed
        from sync.withheld w join sync.runs r on r.run_id = w.run_id
        where w.integration_id = $1
        """,
        integration,
    )
    return Withheld(
        frozenset(row["source_id"] for row in rows if not row["is_confirmed"]),
        frozenset(row["source_id"] for row in rows if row["is_confirmed"]),
    )


async def replace_withheld(
    session: Transaction,
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
    # None of those who wait is kept where the question is asked anew.
    kept = [] if asks_anew else sorted(ids)
    await session.connection.execute(
        """
        delete from sync.withheld w using sync.runs r
        where r.run_id = w.run_id and w.integration_id = $1
          and case when r.confirmed_at is not null then $2 else w.source_id <> all ($3::text[]) end
        """,
        integration,
        ends_confirmed,
        kept,
    )
    if asks_anew:
        await session.connection.execute(
            """
            insert into sync.withheld (run_id, integration_id, source_id)
            select $1, $2, u from unnest($3::text[]) u
            on conflict do nothing
            """,
            run,
            integration,
            sorted(ids),
        )
    await session.connection.execute(
        """
        update sync.runs r
        set withheld = (select count(*) from sync.withheld w where w.run_id = r.run_id)
        where r.integration_id = $1 and r.confirmed_at is null
          and (r.withheld > 0 or r.run_id = $2)
        """,
        integration,
        run,
    )


async def remove_members(session: Transaction, *, integration: UUID, ids: Collection[str]) -> None:
    """Forget members that were published as gone. The caller holds the lease."""
    await session.connection.execute(
        """
        delete from sync.members
        where integration_id = $1 and source_id = any (string_to_array($2::text, chr(31)))
        """,
        integration,
        _joined(ids),
    )


async def expect_back(
    session: Transaction, *, integration: UUID, run_no: int, ids: Collection[str]
) -> None:
    """Make members newcomers of a run that is about to tell that they are gone.

    If its poller dies after that, and they are back by then, the next run reads them whatever
    their modification time. The caller holds the lease.
    """
    await session.connection.execute(
        """
        update sync.members set run_no = $2
        where integration_id = $1 and source_id = any (string_to_array($3::text, chr(31)))
        """,
        integration,
        run_no,
        _joined(ids),
    )


async def want_fields(
    session: Transaction, *, integration: UUID, fields: Sequence[WantedField]
) -> None:
    """Have fields made at the destination of an automatic import, and mapped (AC1)."""
    wanted = [
        {
            "source": field.source,
            "type": field.type.value,
            "title": field.title,
            "standard": field.standard.value,
        }
        for field in fields
    ]
    await session.connection.execute(
        "select delivery.want_fields($1, $2::text::jsonb)",
        integration,
        msgspec.json.encode(wanted).decode(),
    )


async def leave_out(
    session: Transaction, *, integration: UUID, run: UUID, versions: Mapping[str, int]
) -> None:
    """Store who was left out of a run, with the version that was (CC4).

    Whoever was left out before is of the newer run now: in two that overlap he is one.
    """
    await session.connection.execute(
        """
        insert into sync.left_out as l
          (integration_id, source_id, workspace_id, run_id, version_ms)
        select r.integration_id, u.s, r.workspace_id, r.run_id, u.ms::bigint
        from sync.runs r cross join unnest(string_to_array($3::text, chr(31)),
          string_to_array($4::text, chr(31))) u (s, ms)
        where r.run_id = $2 and r.integration_id = $1
        on conflict (integration_id, source_id) do update
          set run_id = excluded.run_id, version_ms = excluded.version_ms
        """,
        integration,
        run,
        SEPARATOR.join(versions),
        SEPARATOR.join(map(str, versions.values())),
    )


async def replays(session: Transaction, *, integration: UUID, limit: int) -> list[str]:
    """Return who was left out and is wanted by a person, those of the longest wait first."""
    found = await session.connection.fetch(
        """
        select source_id from sync.left_out
        where integration_id = $1 and wanted_at is not null
        order by wanted_at, source_id limit $2
        """,
        integration,
        limit,
    )
    return [row["source_id"] for row in found]


async def forget_left_out(session: Transaction, *, integration: UUID, ids: Collection[str]) -> None:
    """Forget that contacts were left out: they were published since."""
    await session.connection.execute(
        """
        delete from sync.left_out
        where integration_id = $1 and source_id = any (string_to_array($2::text, chr(31)))
        """,
        integration,
        _joined(ids),
    )


_END_RUN = """
    with released as (
      update sync.schedules
      set lease_owner = null, lease_until = null, failures = 0,
          last_full_at = case when $4 = 'full' then clock_timestamp() else last_full_at end,
          wanted_mode = case when $5 and wanted_mapping_version <= $6 and wanted_run_no <= $7
                             then 'changes' else wanted_mode end
      where integration_id = $1 and fencing = $2 and lease_owner is not null
      returning workspace_id
    ), read as (
      update sync.runs
      set state = case when state = 'reading' then 'read' else state end,
          read_at = clock_timestamp(), pages = $8, parts = $9, read = $10, left_out = $11,
          total_before = $12, total_after = $13, is_complete = $14, error_code = null
      where run_id = $3 and exists (select from released)
    ), moved as (
      update sync.positions set from_ms = $15, sweep = null
      where integration_id = $1 and stream = 'contacts' and exists (select from released)
    ), all_read as (
      delete from sync.left_out
      where integration_id = $1 and $4 = 'full' and $14 and exists (select from released)
    ), looked as (
      insert into sync.positions (integration_id, stream, workspace_id, from_ms, sweep)
      select $1, 'members', workspace_id, $16, $17::text::jsonb from released
      on conflict (integration_id, stream)
      do update set from_ms = excluded.from_ms, sweep = excluded.sweep
    )
    select from released
    """


class RunEnd(msgspec.Struct, frozen=True, kw_only=True):
    """A run that was read to its end, and what is remembered of the members."""

    sweeping: Sweeping
    roll: Roll
    total_after: int | None
    complete: bool
    satisfies_wish: bool


async def end_run(sessions: Transactions, assignment: Assignment, end: RunEnd) -> None:
    """Store that a run was read to its end, move the position, and give the lease back.

    Raises LeaseLostError.
    """
    await _leased(sessions, *_end_of(assignment, end))


async def end_run_within(session: Transaction, assignment: Assignment, end: RunEnd) -> None:
    """Do the same at the end of a transaction of several statements; the caller holds the lease."""
    lease, statement, *arguments = _end_of(assignment, end)
    await session.connection.execute(statement, lease.integration, lease.fencing, *arguments)


def _end_of(assignment: Assignment, end: RunEnd) -> tuple[Lease, str, *tuple[object, ...]]:
    sweeping = end.sweeping
    return (
        Lease(assignment.integration, assignment.fencing),
        _END_RUN,
        run_id(assignment, sweeping),
        sweeping.mode.value,
        end.satisfies_wish,
        sweeping.mapping_version,
        sweeping.run_no,
        sweeping.pages,
        sweeping.parts,
        sweeping.read,
        sweeping.left_out,
        sweeping.total_before,
        end.total_after,
        end.complete,
        sweeping.until_ms,
        end.roll.read_at_ms,
        _json(end.roll),
    )


async def put_off(session: Transaction, *, lease: Lease, delay_s: float, counts: bool) -> None:
    """Give the lease back and go on in `delay_s`; `counts`: one more failure in a row.

    When the next run is due stays as it is: it may have been asked for meanwhile.
    """
    await session.connection.execute(
        """
        update sync.schedules
        set lease_owner = null, lease_until = null,
            failures = failures + case when $4 then 1 else 0 end,
            resume_at = clock_timestamp() + make_interval(secs => $3)
        where integration_id = $1 and fencing = $2
        """,
        lease.integration,
        lease.fencing,
        delay_s,
        counts,
    )


async def note_trouble(
    session: Transaction, *, integration: UUID, run: UUID | None, code: str, ends_run: bool
) -> None:
    """Store why a run did not go on; `ends_run`: the next claim begins anew."""
    await session.connection.execute(
        """
        update sync.runs
        set error_code = $2, state = case when $3 then 'failed' else state end
        where run_id = $1 and state = 'reading'
        """,
        run,
        code,
        ends_run,
    )
    if ends_run:
        await forget_sweep(session, integration=integration)


async def forget_sweep(session: Transaction, *, integration: UUID) -> None:
    """Let the next claim begin anew."""
    await session.connection.execute(
        """
        update sync.positions set sweep = null
        where integration_id = $1 and stream = 'contacts'
        """,
        integration,
    )


async def forget_position(session: Transaction, *, integration: UUID) -> None:
    """Let the next claim read everything: the provider does not know where the last run ended."""
    await session.connection.execute(
        """
        update sync.positions
        set sweep = case when stream = 'members' then sweep - 'position' end
        where integration_id = $1
        """,
        integration,
    )


async def count_check(
    session: Transaction, *, connection: UUID, failed: bool, reason: str | None
) -> str:
    """Tell whether a connection's credentials worked; return its state afterwards."""
    state = await session.connection.fetchval(
        "select config.count_check($1, $2, $3)", connection, failed, reason
    )
    return str(state)


async def report_integration(
    session: Transaction, *, integration: UUID, reason: str | None
) -> bool:
    """Say that an integration needs a person, or (None) does not any more; True if that is new."""
    changed = await session.connection.fetchval(
        "select config.report_integration($1, $2)", integration, reason
    )
    return bool(changed)


async def tell(session: Transaction, event: IntegrationChanged) -> None:
    """Put an event into the outbox."""
    await session.connection.execute(
        "insert into sync.outbox (topic, key, body) values ($1, $2, $3)",
        Topic.INTEGRATIONS_CHANGED.value,
        str(event.integration),
        encode(event),
    )


async def database_now(session: Transaction) -> str:
    """Return the database's time in RFC 3339."""
    now = await session.connection.fetchval(
        """
        select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
        """
    )
    return str(now)


def _json(value: msgspec.Struct) -> str:
    return msgspec.json.encode(value).decode()
