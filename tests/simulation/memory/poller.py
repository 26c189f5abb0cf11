"""`services.poller.store` in memory: the same functions, statement by statement."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from libs.common.errors import LeaseLostError
from libs.common.events import IntegrationChanged, RunMode, Topic
from libs.common.postgres import Transaction, Transactions, transact
from libs.common.reasons import Park
from libs.connectors.automatic import WantedField
from services.mapper.store import StoredMapping
from services.poller import store
from services.poller.plan import Account, Assignment, Sweeping, run_id
from services.poller.setbacks import SOURCE_TROUBLE
from services.poller.store import LEASE_S, Lease, Progress, RunEnd, Withheld
from services.writer.values import IntegrationState
from tests.simulation.memory import ledger
from tests.simulation.memory import writer as writer_store
from tests.simulation.memory.database import (
    FieldRow,
    Integration,
    Position,
    RunRow,
    Schedule,
    Tables,
    change,
    database_of,
    tables_of,
)

CONTACTS, MEMBERS = "contacts", "members"


async def claim_due(
    sessions: Transactions, *, provider: str, owner: UUID, limit: int, lease_s: float = LEASE_S
) -> list[Assignment]:
    async def work(session: Transaction) -> list[Assignment]:
        return await _claim_due(session, provider, owner, limit, lease_s)

    return await transact(sessions, work)


async def _claim_due(
    session: Transaction, provider: str, owner: UUID, limit: int, lease_s: float
) -> list[Assignment]:
    tables, now = tables_of(session), database_of(session).now()
    ranked = _ranked(tables, provider, now)
    due = [
        integration
        for integration in ranked
        if _may_be_read(session, integration)
        and await ledger.is_open(session, workspace=tables.schedules[integration].workspace)
    ]
    for integration in due[:limit]:
        before = tables.schedules[integration]
        tables.schedules[integration] = change(
            before,
            lease_owner=owner,
            lease_until=now + timedelta(seconds=lease_s),
            fencing=before.fencing + 1,
            resume_at=None,
        )
    return [_assignment(session, integration) for integration in due[:limit]]


def _ranked(tables: Tables, provider: str, now: datetime) -> list[UUID]:
    """Return who is due, in turn between workspaces; who is read now counts as a turn."""
    own = {key: row for key, row in tables.schedules.items() if row.provider == provider}
    turns = Counter(
        row.workspace
        for row in own.values()
        if row.lease_owner is not None and row.lease_until is not None and row.lease_until >= now
    )
    places: dict[UUID, tuple[int, datetime]] = {}
    for key, row in sorted(own.items(), key=lambda each: _due_at(each[1])):
        if _is_due(row, now):
            turns[row.workspace] += 1
            places[key] = (turns[row.workspace], _due_at(row))
    return sorted(places, key=places.__getitem__)


def _due_at(schedule: Schedule) -> datetime:
    return schedule.resume_at or schedule.next_due_at


def _is_due(schedule: Schedule, now: datetime) -> bool:
    is_time = _due_at(schedule) <= now or schedule.lease_owner is not None
    is_free = schedule.lease_until is None or schedule.lease_until < now
    return schedule.is_active and is_time and is_free


def _may_be_read(session: Transaction, integration: UUID) -> bool:
    tables = tables_of(session)
    row = tables.integrations[integration]
    is_in_trouble = (row.error_reason or "").startswith(SOURCE_TROUBLE)
    waits = any(
        contact.integration == integration and each.reason == Park.QUOTA
        for contact, each in tables.parked.items()
    )
    return tables.connections[row.source].state == "connected" and (
        (row.state is IntegrationState.ACTIVE and not waits)
        or (row.state is IntegrationState.ERROR and is_in_trouble)
    )


def _assignment(session: Transaction, integration: UUID) -> Assignment:
    tables = tables_of(session)
    row, schedule = tables.integrations[integration], tables.schedules[integration]
    contacts = tables.positions.get((integration, CONTACTS), Position())
    members = tables.positions.get((integration, MEMBERS), Position())
    mapping = tables.mappings[integration, row.mapping_version]
    return Assignment(
        integration=integration,
        workspace=schedule.workspace,
        fencing=schedule.fencing,
        provider=schedule.provider,
        source=Account(row.source, "account-1", "UTC", None),
        object="contacts",
        list_id=row.source_list_id,
        properties=store._properties(mapping.fields, mapping.criteria),
        mapping_version=row.mapping_version,
        wanted_mode=schedule.wanted_mode,
        wanted_mapping_version=schedule.wanted_mapping_version,
        last_run_no=schedule.run_no,
        failures=schedule.failures,
        interval_s=schedule.interval_minutes * 60.0,
        now_ms=database_of(session).now_ms(),
        read_from_ms=contacts.from_ms,
        sweeping=contacts.sweep,
        roll=members.roll,
        has_confirmed=any(
            tables.runs[run].confirmed_at is not None
            for (run, _), of in tables.withheld.items()
            if of == integration
        ),
        reported_reason=row.error_reason if row.state is IntegrationState.ERROR else None,
        known_fields=_known_fields(tables, row, mapping),
        has_left_out=any(of == integration for of, _ in tables.left_out),
        has_replays=any(
            of == integration and wanted_at is not None
            for (of, _), (_, wanted_at) in tables.left_out.items()
        ),
    )


def _known_fields(
    tables: Tables, row: Integration, mapping: StoredMapping
) -> frozenset[str] | None:
    asked = [source for of, source in tables.wanted_fields if of == row.integration]
    return store._known_fields(mapping.fields, asked if row.kind == "automatic" else None)


async def renew(
    session: Transaction, *, owner: UUID, leases: Sequence[Lease], lease_s: float = LEASE_S
) -> set[UUID]:
    tables, now = tables_of(session), database_of(session).now()
    ours: set[UUID] = set()
    for lease in leases:
        schedule = tables.schedules.get(lease.integration)
        if schedule is not None and (schedule.fencing, schedule.lease_owner) == (
            lease.fencing,
            owner,
        ):
            until = now + timedelta(seconds=lease_s)
            tables.schedules[lease.integration] = change(schedule, lease_until=until)
            ours.add(lease.integration)
    return ours


async def hold_lease(session: Transaction, lease: Lease) -> None:
    _held(session, lease)


async def check_lease(sessions: Transactions, lease: Lease) -> None:
    await transact(sessions, lambda session: hold_lease(session, lease))


def _held(session: Transaction, lease: Lease) -> Schedule:
    schedule = tables_of(session).schedules.get(lease.integration)
    if schedule is None or schedule.fencing != lease.fencing or schedule.lease_owner is None:
        raise LeaseLostError(what=f"integration {lease.integration}")
    return schedule


async def begin_run(sessions: Transactions, assignment: Assignment, sweeping: Sweeping) -> Sweeping:
    async def work(session: Transaction) -> Sweeping:
        _held(session, _lease(assignment))
        return _begin_run(session, assignment, sweeping)

    return await transact(sessions, work)


def _lease(assignment: Assignment) -> Lease:
    return Lease(assignment.integration, assignment.fencing)


def _begin_run(session: Transaction, assignment: Assignment, sweeping: Sweeping) -> Sweeping:
    tables, database = tables_of(session), database_of(session)
    integration = assignment.integration
    if sweeping.mode is RunMode.FULL:
        members = sum(1 for of, _ in tables.members if of == integration)
        sweeping = msgspec.structs.replace(sweeping, members_before=members)
    schedule = tables.schedules[integration]
    claimed_at = _ms(assignment.now_ms, schedule.next_due_at)
    regular = database.now() + timedelta(minutes=schedule.interval_minutes)
    tables.schedules[integration] = change(
        schedule,
        run_no=sweeping.run_no,
        next_due_at=schedule.next_due_at if schedule.next_due_at > claimed_at else regular,
    )
    for run, row in list(tables.runs.items()):
        if (
            row.integration == integration
            and row.run_no < sweeping.run_no
            and row.state == "reading"
        ):
            tables.runs[run] = change(row, state="abandoned")
    begun = RunRow(
        integration=integration,
        workspace=assignment.workspace,
        run_no=sweeping.run_no,
        mode=sweeping.mode,
        mapping_version=sweeping.mapping_version,
        fencing=assignment.fencing,
    )
    tables.runs.setdefault(run_id(assignment, sweeping), begun)
    _set_position(session, integration, CONTACTS, sweep=sweeping)
    return sweeping


def _ms(milliseconds: int, like: datetime) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, like.tzinfo)


def _set_position(session: Transaction, integration: UUID, stream: str, **fields: object) -> None:
    positions = tables_of(session).positions
    before = positions.get((integration, stream), Position())
    positions[integration, stream] = msgspec.structs.replace(before, **fields)


async def resume_run(session: Transaction, *, run: UUID, fencing: int) -> bool:
    rows = tables_of(session).runs
    if run not in rows or rows[run].state != "reading":
        return False
    rows[run] = change(rows[run], fencing=fencing, error_code=None)
    return True


async def advance(
    sessions: Transactions,
    lease: Lease,
    *,
    run: UUID,
    sweeping: Sweeping,
    present: Collection[str],
    merged: Collection[str],
) -> Progress:
    async def work(session: Transaction) -> Progress:
        schedule = _held(session, lease)
        is_reading = _store_progress(session, lease.integration, run, sweeping)
        if is_reading:
            _meet(session, lease.integration, sweeping, present, merged)
        is_open = await ledger.is_open(session, workspace=schedule.workspace)
        return Progress(is_reading, schedule.is_active, is_open)

    return await transact(sessions, work)


def _store_progress(session: Transaction, integration: UUID, run: UUID, sweeping: Sweeping) -> bool:
    rows = tables_of(session).runs
    if run not in rows or rows[run].state != "reading":
        return False
    rows[run] = change(
        rows[run],
        pages=sweeping.pages,
        parts=sweeping.parts,
        read=sweeping.read,
        left_out=sweeping.left_out,
        total_before=sweeping.total_before,
    )
    _set_position(session, integration, CONTACTS, sweep=sweeping)
    return True


def _meet(
    session: Transaction,
    integration: UUID,
    sweeping: Sweeping,
    present: Collection[str],
    merged: Collection[str],
) -> None:
    members, run_no = tables_of(session).members, sweeping.run_no
    is_full = sweeping.mode is RunMode.FULL
    for id_ in present:
        before = members.get((integration, id_))
        if before is None or (is_full and before < run_no):
            members[integration, id_] = run_no
    for id_ in merged if is_full else ():
        if members.get((integration, id_), run_no) < run_no:
            members[integration, id_] = run_no


async def known_members(
    sessions: Transactions, *, integration: UUID, ids: Collection[str]
) -> set[str]:
    return set(ids) & await all_members(sessions, integration=integration)


async def all_members(sessions: Transactions, *, integration: UUID) -> set[str]:
    return await _members(sessions, integration, lambda _: True)


async def newcomers(sessions: Transactions, *, integration: UUID, settled_run_no: int) -> set[str]:
    return await _members(sessions, integration, lambda met: met > settled_run_no)


async def unmet(sessions: Transactions, *, integration: UUID, run_no: int) -> set[str]:
    return await _members(sessions, integration, lambda met: met < run_no)


async def _members(
    sessions: Transactions, integration: UUID, is_chosen: Callable[[int], bool]
) -> set[str]:
    async def work(session: Transaction) -> set[str]:
        members = tables_of(session).members.items()
        return {id_ for (of, id_), met in members if of == integration and is_chosen(met)}

    return await transact(sessions, work)


async def withheld(session: Transaction, *, integration: UUID) -> Withheld:
    tables = tables_of(session)
    standing: set[str] = set()
    confirmed: set[str] = set()
    for (run, id_), of in tables.withheld.items():
        if of == integration:
            (standing if tables.runs[run].confirmed_at is None else confirmed).add(id_)
    return Withheld(frozenset(standing), frozenset(confirmed))


async def replace_withheld(
    session: Transaction,
    *,
    integration: UUID,
    run: UUID,
    ids: Collection[str],
    asks_anew: bool,
    ends_confirmed: bool,
) -> None:
    tables = tables_of(session)
    for (asked, id_), of in list(tables.withheld.items()):
        is_confirmed = tables.runs[asked].confirmed_at is not None
        ends = ends_confirmed if is_confirmed else asks_anew or id_ not in ids
        if of == integration and ends:
            del tables.withheld[asked, id_]
    if asks_anew:
        for id_ in ids:
            tables.withheld[run, id_] = integration
    for each, row in list(tables.runs.items()):
        if (
            row.integration == integration
            and row.confirmed_at is None
            and (row.withheld > 0 or each == run)
        ):
            count = sum(1 for asked, _ in tables.withheld if asked == each)
            tables.runs[each] = change(row, withheld=count)


async def remove_members(session: Transaction, *, integration: UUID, ids: Collection[str]) -> None:
    for id_ in ids:
        tables_of(session).members.pop((integration, id_), None)


async def expect_back(
    session: Transaction, *, integration: UUID, run_no: int, ids: Collection[str]
) -> None:
    members = tables_of(session).members
    members.update({(integration, id_): run_no for id_ in ids if (integration, id_) in members})


async def want_fields(
    session: Transaction, *, integration: UUID, fields: Sequence[WantedField]
) -> None:
    tables = tables_of(session)
    row = tables.integrations[integration]
    if row.kind != "automatic":
        return
    for wanted in fields:
        key = (integration, wanted.source)
        asked = tables.wanted_fields.get(key)
        refused = asked.refused if asked is not None else None
        tables.wanted_fields[key] = FieldRow(
            workspace=row.workspace, connection=row.destination, wanted=wanted, refused=refused
        )


async def leave_out(
    session: Transaction, *, integration: UUID, run: UUID, versions: Mapping[str, int]
) -> None:
    rows = tables_of(session).left_out
    for source_id in versions:
        wanted_at = rows.get((integration, source_id), (run, None))[1]
        rows[integration, source_id] = (run, wanted_at)


async def replays(session: Transaction, *, integration: UUID, limit: int) -> list[str]:
    wanted = [
        (wanted_at, source_id)
        for (of, source_id), (_, wanted_at) in tables_of(session).left_out.items()
        if of == integration and wanted_at is not None
    ]
    return [source_id for _, source_id in sorted(wanted)][:limit]


async def forget_left_out(session: Transaction, *, integration: UUID, ids: Collection[str]) -> None:
    for source_id in ids:
        tables_of(session).left_out.pop((integration, source_id), None)


async def end_run(sessions: Transactions, assignment: Assignment, end: RunEnd) -> None:
    async def work(session: Transaction) -> None:
        _held(session, _lease(assignment))
        await end_run_within(session, assignment, end)

    await transact(sessions, work)


async def end_run_within(session: Transaction, assignment: Assignment, end: RunEnd) -> None:
    sweeping, roll = end.sweeping, end.roll
    tables = tables_of(session)
    integration, run = assignment.integration, run_id(assignment, sweeping)
    row = tables.runs[run]
    tables.runs[run] = change(
        row,
        state="read" if row.state == "reading" else row.state,
        pages=sweeping.pages,
        parts=sweeping.parts,
        read=sweeping.read,
        left_out=sweeping.left_out,
        total_before=sweeping.total_before,
        total_after=end.total_after,
        is_complete=end.complete,
        error_code=None,
    )
    _set_position(session, integration, CONTACTS, from_ms=sweeping.until_ms, sweep=None)
    _set_position(session, integration, MEMBERS, from_ms=roll.read_at_ms, roll=roll)
    if sweeping.mode is RunMode.FULL and end.complete:
        for key in [key for key in tables.left_out if key[0] == integration]:
            del tables.left_out[key]
    schedule = tables.schedules[integration]
    is_satisfied = (
        end.satisfies_wish
        and schedule.wanted_mapping_version <= sweeping.mapping_version
        and schedule.wanted_run_no <= sweeping.run_no
    )
    tables.schedules[integration] = change(
        schedule,
        lease_owner=None,
        lease_until=None,
        failures=0,
        wanted_mode=RunMode.CHANGES if is_satisfied else schedule.wanted_mode,
    )


async def put_off(session: Transaction, *, lease: Lease, delay_s: float, counts: bool) -> None:
    schedules = tables_of(session).schedules
    schedule = schedules.get(lease.integration)
    if schedule is not None and schedule.fencing == lease.fencing:
        schedules[lease.integration] = change(
            schedule,
            lease_owner=None,
            lease_until=None,
            failures=schedule.failures + counts,
            resume_at=database_of(session).now() + timedelta(seconds=delay_s),
        )


async def note_trouble(
    session: Transaction, *, integration: UUID, run: UUID | None, code: str, ends_run: bool
) -> None:
    rows = tables_of(session).runs
    if run in rows and rows[run].state == "reading":
        state = "failed" if ends_run else "reading"
        rows[run] = change(rows[run], error_code=code, state=state)
    if ends_run:
        await forget_sweep(session, integration=integration)


async def forget_sweep(session: Transaction, *, integration: UUID) -> None:
    if (integration, CONTACTS) in tables_of(session).positions:
        _set_position(session, integration, CONTACTS, sweep=None)


async def forget_position(session: Transaction, *, integration: UUID) -> None:
    positions = tables_of(session).positions
    if (integration, CONTACTS) in positions:
        _set_position(session, integration, CONTACTS, sweep=None)
    members = positions.get((integration, MEMBERS), Position())
    if members.roll is not None:
        roll = msgspec.structs.replace(members.roll, position=None)
        _set_position(session, integration, MEMBERS, roll=roll)


async def count_check(
    session: Transaction, *, connection: UUID, failed: bool, reason: str | None
) -> str:
    return await writer_store.count_check(
        session, connection=connection, has_failed=failed, reason=reason or ""
    )


async def report_integration(
    session: Transaction, *, integration: UUID, reason: str | None
) -> bool:
    return writer_store.report(session, integration, reason, is_poller=True)


async def tell(session: Transaction, event: IntegrationChanged) -> None:
    told = [(str(event.integration), event)]
    await writer_store.tell(session, Topic.INTEGRATIONS_CHANGED, told)


async def database_now(session: Transaction) -> str:
    return database_of(session).now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
