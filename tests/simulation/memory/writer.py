"""`services.writer.store` in memory: the same functions, statement by statement.

`test_memory.py` holds each of them to what the statement does on PostgreSQL.
"""

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from uuid import UUID

from msgspec.structs import replace

from libs.common.errors import LeaseLostError
from libs.common.events import Event, Identity, RunMode, Settled, Topic
from libs.common.postgres import Transaction
from libs.common.reasons import Park, Trouble
from services.poller.setbacks import SOURCE_TROUBLE
from services.writer import store
from services.writer.conclude import Changes, Moved
from services.writer.conclude import Row as ParkedItem
from services.writer.rows import Rows
from services.writer.store import (
    Around,
    Backlog,
    Block,
    Busy,
    Connection,
    Ending,
    FieldWish,
    Granted,
    Reservation,
    Standing,
    StoredIntent,
)
from services.writer.values import (
    ContactId,
    ImportRow,
    Integration,
    IntegrationState,
    Link,
    LinkState,
    Parked,
    Place,
    Run,
    Seen,
    SeenLink,
    Task,
    Version,
    Wanted,
    Wish,
    digest,
    identity_key,
)
from tests.simulation.memory import ledger
from tests.simulation.memory.database import (
    DestinationRow,
    IntentRow,
    Outcome,
    ParkedRow,
    RunRow,
    Tables,
    change,
    database_of,
    tables_of,
)
from tests.simulation.memory.database import Integration as IntegrationRow


class UniqueError(Exception):
    """Two rows that only one may be: the database would refuse the statement."""

    def __init__(self) -> None:
        super().__init__("links_identity is unique")


# Leases


async def acquire_lease(
    session: Transaction, *, connection: UUID, workspace: UUID, owner: UUID, ttl: timedelta
) -> Granted | None:
    tables, now = tables_of(session), database_of(session).now()
    old = tables.destinations.get(connection, DestinationRow(workspace=workspace))
    is_free = old.lease_owner in (None, owner)
    if not is_free and (old.lease_until is None or old.lease_until >= now):
        return None
    tables.destinations[connection] = change(
        old, lease_owner=owner, lease_until=now + ttl, fencing=old.fencing + 1
    )
    lapsed = None
    if not is_free:
        assert old.lease_until is not None
        lapsed = (now - old.lease_until).total_seconds()
    return Granted(old.fencing + 1, lapsed)


async def renew_leases(
    session: Transaction, *, owner: UUID, tokens: Sequence[tuple[UUID, int]], ttl: timedelta
) -> set[UUID]:
    tables, now = tables_of(session), database_of(session).now()
    ours: set[UUID] = set()
    for connection, fencing in tokens:
        row = tables.destinations.get(connection)
        if row is not None and (row.fencing, row.lease_owner) == (fencing, owner):
            tables.destinations[connection] = change(row, lease_until=now + ttl)
            ours.add(connection)
    return ours


async def release_lease(
    session: Transaction, *, connection: UUID, owner: UUID, fencing: int
) -> None:
    tables = tables_of(session)
    row = tables.destinations.get(connection)
    if row is not None and (row.fencing, row.lease_owner) == (fencing, owner):
        tables.destinations[connection] = change(row, lease_owner=None, lease_until=None)


async def keep_lease(session: Transaction, *, connection: UUID, fencing: int) -> None:
    _held(session, connection, fencing)


def _held(session: Transaction, connection: UUID, fencing: int) -> DestinationRow:
    row = tables_of(session).destinations.get(connection)
    if row is None or row.lease_owner is None or row.fencing != fencing:
        raise LeaseLostError(store.lease_name(connection))
    return row


async def begin_step(session: Transaction, *, connection: UUID, fencing: int, step: UUID) -> bool:
    row = _held(session, connection, fencing)
    tables_of(session).destinations[connection] = change(row, last_step=step)
    return row.last_step != step


async def mark_rechecks(
    session: Transaction, *, connection: UUID, contacts: Iterable[ContactId]
) -> None:
    for contact in contacts:
        tables_of(session).rechecks[connection, contact] = None


async def take_rechecks(session: Transaction, *, connection: UUID) -> list[ContactId]:
    tables = tables_of(session)
    marked = [contact for at, contact in tables.rechecks if at == connection]
    for contact in marked:
        del tables.rechecks[connection, contact]
    found = [contact for contact in marked if contact in tables.links]
    for contact in found:
        tables.links[contact] = replace(tables.links[contact], needs_recheck=True)
    return found


async def end_rechecks(session: Transaction, tasks: Sequence[Task]) -> None:
    links = tables_of(session).links
    for task in tasks:
        link = links.get(task.contact)
        if link is not None and link.version == task.version:
            links[task.contact] = replace(link, needs_recheck=False)


# What is known


async def connection_of(session: Transaction, connection: UUID) -> Connection | None:
    row = tables_of(session).connections.get(connection)
    if row is None:
        return None
    return Connection(
        connection=row.connection,
        workspace=row.workspace,
        provider=row.provider,
        state=row.state,
        account_id="account-1",
        tier=None,
        time_zone="UTC",
        sealed_api_key=None,
        failed_checks=row.failed_checks,
    )


async def standing_of(session: Transaction, *, connection: UUID, workspace: UUID) -> Standing:
    return Standing(
        await connection_of(session, connection),
        _block_of(session, connection),
        await ledger.is_open(session, workspace=workspace),
        await has_parked(session, connection),
        has_marks=any(at == connection for at, _ in tables_of(session).rechecks),
        has_wishes=any(
            row.connection == connection and row.refused is None
            for row in tables_of(session).wanted_fields.values()
        ),
    )


async def around(
    session: Transaction,
    *,
    connection: UUID,
    workspace: UUID,
    integrations: Collection[UUID],
    runs: Collection[UUID],
) -> Around:
    return Around(
        await connection_of(session, connection),
        _block_of(session, connection),
        await ledger.is_open(session, workspace=workspace),
        await _integrations(session, integrations),
        await _runs(session, runs),
    )


def _block_of(session: Transaction, connection: UUID) -> Block | None:
    row = tables_of(session).destinations.get(connection)
    if row is None or row.block_reason is None or row.blocked_until is None:
        return None
    wait_s = (row.blocked_until - database_of(session).now()).total_seconds()
    return Block(row.block_reason, wait_s, row.block_attempts)


async def integrations(session: Transaction, wanted: Collection[UUID]) -> dict[UUID, Integration]:
    return await _integrations(session, wanted)


async def _integrations(session: Transaction, wanted: Collection[UUID]) -> dict[UUID, Integration]:
    rows = tables_of(session).integrations
    return {
        row.integration: Integration(
            row.integration,
            row.workspace,
            row.state,
            removes_leavers=row.deletion_policy == "remove_from_list",
            email_change_policy=row.email_change_policy,
            list_id=row.list_id,
            importer_of=importer_of(tables_of(session), row),
        )
        for row in (rows[each] for each in wanted if each in rows)
    }


def importer_of(tables: Tables, row: IntegrationRow) -> str:
    """Return the external account whose shares an integration takes; empty: it needs none."""
    if row.kind != "automatic":
        return ""
    return f"{tables.connections[row.source].provider}:account-1"


async def runs(session: Transaction, wanted: Collection[UUID]) -> dict[UUID, Run]:
    return await _runs(session, wanted)


async def _runs(session: Transaction, wanted: Collection[UUID]) -> dict[UUID, Run]:
    tables = tables_of(session)
    return {
        run: Run(row.fencing, row.state == "abandoned", _is_outdated(tables, row))
        for run, row in ((run, tables.runs[run]) for run in wanted if run in tables.runs)
    }


def _is_outdated(tables: Tables, run: RunRow) -> bool:
    schedule = tables.schedules.get(run.integration)
    is_due = (
        schedule is not None
        and schedule.is_active
        and schedule.wanted_mode is RunMode.FULL
        and schedule.wanted_mapping_version > run.mapping_version
    )
    return is_due or _has_newer_full_run(tables, run.integration, run.run_no, run.mapping_version)


def _has_newer_full_run(tables: Tables, integration: UUID, run_no: int, version: int) -> bool:
    return any(
        run.mode is RunMode.FULL
        and run.run_no > run_no
        and run.state in ("reading", "read")
        and run.mapping_version > version
        for run in tables.runs.values()
        if run.integration == integration
    )


async def links(session: Transaction, contacts: Iterable[ContactId]) -> dict[ContactId, Link]:
    known = tables_of(session).links
    return {contact: known[contact] for contact in contacts if contact in known}


async def owners(session: Transaction, places: Collection[Place]) -> dict[Place, str]:
    linked = _linked(tables_of(session))
    return {place: linked[place] for place in places if place in linked}


def _linked(tables: Tables) -> dict[Place, str]:
    return {
        Place(contact.integration, link.key): contact.source_id
        for contact, link in tables.links.items()
        if link.state is LinkState.LINKED and link.key is not None
    }


async def parked(session: Transaction, contacts: Iterable[ContactId]) -> dict[ContactId, Parked]:
    rows = tables_of(session).parked
    return {
        contact: Parked(
            row.item.version,
            row.item.wish,
            row.reason,
            identity_key(row.item.identity),
            row.approved,
            row.item.merged_from,
        )
        for contact, row in ((each, rows[each]) for each in contacts if each in rows)
    }


async def known(session: Transaction, rows: Rows) -> set[ContactId]:
    tables = tables_of(session)
    return {each for each in rows.contacts() if each in tables.links or each in tables.parked}


async def begin_end(
    session: Transaction, *, connection: UUID, fencing: int, step: UUID, rows: Rows
) -> Ending:
    is_new = await begin_step(session, connection=connection, fencing=fencing, step=step)
    return Ending(is_new, await known(session, rows), has_two_way=False)


async def glance(session: Transaction, integration: UUID, addresses: Mapping[str, str]) -> Seen:
    tables = tables_of(session)
    links: dict[str, SeenLink] = {}
    waiting: dict[str, bool] = {}
    for source_id in addresses:
        contact = ContactId(integration, source_id)
        link, row = tables.links.get(contact), tables.parked.get(contact)
        if link is not None:
            is_plain = link.state is LinkState.LINKED and link.wish is Wish.UPSERT
            is_plain = is_plain and link.refused is None and not link.needs_recheck
            links[source_id] = SeenLink(
                link.version.ms, link.version.run_no, link.hash or None, is_plain
            )
        if row is not None:
            waiting[source_id] = bool(row.item.merged_from)
    linked = _linked(tables)
    new = {address for source_id, address in addresses.items() if source_id not in links}
    owned = {each for each in new if Place(integration, each) in linked}
    for source_id in links:
        link = tables.links[ContactId(integration, source_id)]
        if link.state is not LinkState.LINKED and link.key:
            owned.add(link.key)
    return Seen(links, waiting, owned)


async def told(
    session: Transaction, *, records: Collection[UUID], settled: Collection[UUID]
) -> tuple[dict[UUID, Settled], set[UUID]]:
    stored = tables_of(session).outcomes
    wanted = set(records)
    of_records = {record: row.settled for (record, _), row in stored.items() if record in wanted}
    return of_records, {row.settled.id for row in stored.values()} & set(settled)


# What is under way


async def open_intents(session: Transaction, connection: UUID) -> list[StoredIntent]:
    found = [
        row.stored for row in tables_of(session).intents.values() if row.connection == connection
    ]
    return sorted(found, key=lambda stored: (stored.created_at, stored.intent))


async def reserve(
    session: Transaction,
    *,
    connection: UUID,
    workspace: UUID,
    fencing: int,
    reservation: Reservation,
) -> int | None:
    _held(session, connection, fencing)
    tables, before = tables_of(session), tables_of(session).copy()
    granted = await ledger.hold(
        session, workspace=workspace, hold_id=reservation.hold, wanted=reservation.wanted
    )
    if 0 < granted < reservation.wanted:
        tables.restore(before)
        return None
    own = reservation.first(granted)
    each_kind = ((own.intent, own.tasks, Rows()), (own.import_, (), own.rows))
    for intent, tasks, rows in each_kind:
        if tasks or rows:
            await insert_intent(
                session,
                intent=intent,
                connection=connection,
                workspace=workspace,
                hold=own.hold,
                fencing=fencing,
                tasks=tasks,
                rows=rows,
            )
    return granted


async def insert_intent(
    session: Transaction,
    *,
    intent: UUID,
    connection: UUID,
    workspace: UUID,
    hold: UUID,
    fencing: int,
    tasks: Sequence[Task] = (),
    rows: Rows | None = None,
) -> None:
    created_at = database_of(session).now()
    stored = StoredIntent(
        intent, hold, "single", "open", fencing, list(tasks), rows or (), None, created_at, None
    )
    row = IntentRow(connection=connection, workspace=workspace, stored=stored)
    tables_of(session).intents.setdefault(intent, row)


async def shrink_intent(session: Transaction, *, intent: UUID, left: Sequence[Task]) -> None:
    intents = tables_of(session).intents
    if not left:
        intents.pop(intent, None)
    elif intent in intents:
        _change_intent(session, intent, tasks=list(left), rows=())


def _change_intent(session: Transaction, intent: UUID, **fields: object) -> None:
    intents = tables_of(session).intents
    stored = dataclasses.replace(intents[intent].stored, **fields)  # type: ignore[arg-type]  # of its fields
    intents[intent] = change(intents[intent], stored=stored)


async def begin_import(session: Transaction, *, intent: UUID) -> None:
    row = tables_of(session).intents.get(intent)
    if row is not None and row.stored.state == "open":
        now = database_of(session).now()
        _change_intent(session, intent, kind="import", state="sending", sent_at=now)


async def run_import(
    session: Transaction, *, connection: UUID, fencing: int, intent: UUID, process_id: str
) -> None:
    _held(session, connection, fencing)
    row = tables_of(session).intents.get(intent)
    if row is not None and row.stored.state == "sending":
        _change_intent(session, intent, state="running", process_id=process_id)


# What changes


async def apply(session: Transaction, connection: UUID, workspace: UUID, changes: Changes) -> None:
    tables = tables_of(session)
    for contact, version in changes.drops.items():
        row = tables.parked.get(contact)
        if row is not None and row.item.version == version:
            del tables.parked[contact]
    _store_links(tables, list(changes.links.values()))
    for moved in changes.moved:
        _move_links(tables, moved)
    _store_links(tables, [_first(row) for row in changes.firsts])
    for parked_item in changes.parks.values():
        _park(session, connection, workspace, parked_item)
    for hold, postings in sorted(changes.posts.items()):
        await ledger.post(session, hold_id=hold, postings=postings)
    for hold, units in sorted(changes.releases.items()):
        await ledger.release(session, hold_id=hold, units=units)


async def link_firsts(
    session: Transaction,
    *,
    workspace: UUID,
    intent: UUID,
    firsts: Rows,
    topic: Topic,
    events: Iterable[tuple[str, Event]],
) -> None:
    await shrink_intent(session, intent=intent, left=[])
    _store_links(tables_of(session), [_first(row) for row in firsts])
    await tell(session, topic, events)


def _store_links(tables: Tables, changed: Sequence[Link]) -> None:
    leaving = [link for link in changed if link.state is not LinkState.LINKED]
    linked = [link for link in changed if link.state is LinkState.LINKED]
    claimed = {(link.contact.integration, link.key): link.contact for link in linked}
    for contact, link in list(tables.links.items()):
        claimant = claimed.get((contact.integration, link.key))
        if link.state is LinkState.REMOVED and claimant not in (None, contact):
            tables.links[contact] = replace(link, identity=Identity())
    owned = _linked(tables)
    for link in (*leaving, *linked):
        before = tables.links.get(link.contact)
        if before is not None and before.state is LinkState.LINKED and before.key is not None:
            owned.pop(Place(link.contact.integration, before.key), None)
        tables.links[link.contact] = link
        if link.state is LinkState.LINKED and link.key is not None:
            # Row by row, as the index is checked.
            owner = owned.setdefault(
                Place(link.contact.integration, link.key), link.contact.source_id
            )
            if owner != link.contact.source_id:
                raise UniqueError


def _move_links(tables: Tables, moved: Moved) -> None:
    for source_id, version_ms in zip(moved.source_ids, moved.versions_ms, strict=True):
        contact = ContactId(moved.integration, source_id)
        version = Version(version_ms, moved.run_no)
        tables.links[contact] = replace(tables.links[contact], version=version)


def _first(row: ImportRow) -> Link:
    return Link(
        contact=row.contact,
        state=LinkState.LINKED,
        version=row.version,
        wish=Wish.UPSERT,
        identity=row.write.identity,
        hash=row.hash,
        content_hash=digest(row.write.attributes),
    )


def _park(session: Transaction, connection: UUID, workspace: UUID, parked_item: ParkedItem) -> None:
    tables, now = tables_of(session), database_of(session).now()
    wanted = parked_item.item
    before = tables.parked.get(wanted.contact)
    tables.parked[wanted.contact] = ParkedRow(
        workspace=workspace,
        connection=connection,
        item=Wanted(
            contact=wanted.contact,
            wish=wanted.wish,
            version=wanted.version,
            part=replace(wanted.part, run_no=wanted.version.run_no),
            mapping_version=wanted.mapping_version,
            identity=wanted.identity,
            attributes=wanted.attributes,
            hash=wanted.hash,
            merged_from=wanted.merged_from,
            approved=parked_item.approved,
            is_parked=True,
            must_be_single=wanted.must_be_single,
        ),
        reason=parked_item.reason,
        approved=parked_item.approved,
        attempts=before.attempts + 1 if before is not None else 0,
        first_at=before.first_at if before is not None else now,
        last_at=now,
        tried_at=before.tried_at if before is not None else None,
    )


async def settle(
    session: Transaction,
    *,
    connection: UUID,
    fencing: int,
    step: UUID,
    import_: UUID | None,
    moved: Sequence[Moved],
    told: Iterable[tuple[UUID, Settled]],
) -> None:
    if not await begin_step(session, connection=connection, fencing=fencing, step=step):
        return
    if import_ is not None:
        await begin_import(session, intent=import_)
    for each in moved:
        _move_links(tables_of(session), each)
    await store_outcomes(session, told)


async def store_outcomes(session: Transaction, told: Iterable[tuple[UUID, Settled]]) -> None:
    now = database_of(session).now()
    for record, settled in told:
        row = Outcome(stage=settled.stage, settled=settled, stored_at=now)
        tables_of(session).outcomes.setdefault((record, settled.stage), row)


async def forget_outcomes(session: Transaction) -> None:
    tables = tables_of(session)
    until = database_of(session).now() - store.OUTCOMES_KEPT
    for key in [key for key, row in tables.outcomes.items() if row.stored_at < until]:
        del tables.outcomes[key]


async def tell(session: Transaction, topic: Topic, events: Iterable[tuple[str, Event]]) -> None:
    for key, event in events:
        tables_of(session).outbox[database_of(session).next_id()] = (topic, key, event)


# Blocks and health


async def block(session: Transaction, *, connection: UUID, reason: str, seconds: float) -> None:
    destinations = tables_of(session).destinations
    row = destinations.get(connection)
    if row is not None:
        destinations[connection] = change(
            row,
            block_reason=reason,
            blocked_until=database_of(session).now() + timedelta(seconds=seconds),
            block_attempts=row.block_attempts + 1,
        )


async def unblock(session: Transaction, *, connection: UUID) -> None:
    destinations = tables_of(session).destinations
    row = destinations.get(connection)
    if row is not None:
        destinations[connection] = change(
            row, block_reason=None, blocked_until=None, block_attempts=0
        )


async def count_check(
    session: Transaction, *, connection: UUID, has_failed: bool, reason: str
) -> str:
    connections = tables_of(session).connections
    row = connections[connection]
    failed = row.failed_checks + 1 if has_failed else 0
    state = "needs_reauth" if failed >= 3 and row.state == "connected" else row.state
    connections[connection] = change(row, failed_checks=failed, state=state)
    return state


async def report_integration(
    session: Transaction, *, integration: UUID, reason: str | None
) -> bool:
    return report(session, integration, reason, is_poller=False)


def report(session: Transaction, integration: UUID, reason: str | None, *, is_poller: bool) -> bool:
    """Do what `config.report_integration` does for one of its two callers."""
    rows = tables_of(session).integrations
    row = rows.get(integration)
    before = IntegrationState.ACTIVE if reason is not None else IntegrationState.ERROR
    if row is None or row.state is not before:
        return False
    is_source_trouble = (row.error_reason or "").startswith(SOURCE_TROUBLE)
    if reason is None and is_source_trouble is not is_poller:
        return False
    after = IntegrationState.ERROR if reason is not None else IntegrationState.ACTIVE
    rows[integration] = change(row, state=after, error_reason=reason)
    return True


async def integrations_of(session: Transaction, connection: UUID) -> list[tuple[UUID, UUID]]:
    return [
        (row.integration, row.workspace)
        for row in tables_of(session).integrations.values()
        if row.destination == connection and row.state is IntegrationState.ACTIVE
    ]


# Changed addresses


async def changed_addresses(
    session: Transaction, *, integration: UUID, run_no: int
) -> list[tuple[str, str]]:
    tables = tables_of(session)
    found: list[tuple[str, str]] = []
    for contact, row in tables.parked.items():
        link = tables.links.get(contact)
        address = identity_key(row.item.identity)
        if (
            contact.integration == integration
            and row.item.version.run_no <= run_no
            and row.item.wish is Wish.UPSERT
            and link is not None
            and link.key is not None
            and address is not None
            and address not in (link.key, link.refused, row.approved)
        ):
            found.append((contact.source_id, address))
    return sorted(found)


async def decide_email_changes(session: Transaction, *, run: UUID, decision: bytes) -> str:
    rows = tables_of(session).runs
    stored = rows[run].email_decision or decision
    rows[run] = change(rows[run], email_decision=stored)
    return stored.decode()


async def approve(
    session: Transaction, integration: UUID, changes: Sequence[tuple[str, str]]
) -> None:
    rows = tables_of(session).parked
    for source_id, address in changes:
        contact = ContactId(integration, source_id)
        if contact in rows:
            item = replace(rows[contact].item, approved=address)
            rows[contact] = change(rows[contact], item=item, approved=address)


async def refuse(
    session: Transaction, integration: UUID, changes: Sequence[tuple[str, str]]
) -> None:
    known = tables_of(session).links
    for source_id, address in changes:
        contact = ContactId(integration, source_id)
        if contact in known:
            known[contact] = replace(known[contact], refused=address)


# Drains


_GOING = (IntegrationState.ACTIVE, IntegrationState.ERROR)


async def busy_destinations(session: Transaction) -> list[Busy]:
    tables = tables_of(session)
    for_quota = {row.connection for row in tables.parked.values() if row.reason == Park.QUOTA}
    for_others = {
        row.connection
        for row in tables.parked.values()
        if row.reason != Park.QUOTA or _is_archived(tables, row.item.contact.integration)
    }
    for_others |= {row.connection for row in tables.intents.values()}
    for_others |= {connection for connection, _ in tables.rechecks}
    wishes = [
        each
        for (integration, _), each in tables.wanted_fields.items()
        if not each.refused and tables.integrations[integration].state in _GOING
    ]
    for_others |= {each.connection for each in wishes}
    found: list[Busy] = []
    for connection, row in sorted(tables.destinations.items()):
        if connection in for_quota | for_others:
            is_open = await ledger.is_open(session, workspace=row.workspace)
            lacks_quota = connection in for_quota and not is_open
            is_stopped = lacks_quota and connection not in for_others
            found.append(Busy(connection, row.workspace, lacks_quota, is_stopped))
    found += [
        Busy(each.connection, each.workspace)
        for each in wishes
        if each.connection not in tables.destinations
    ]
    return sorted(dict.fromkeys(found), key=lambda busy: busy.connection)


def _is_archived(tables: Tables, integration: UUID) -> bool:
    row = tables.integrations.get(integration)
    return row is not None and row.state is IntegrationState.ARCHIVED


async def is_any_open(session: Transaction, workspaces: Collection[UUID]) -> bool:
    return any([await ledger.is_open(session, workspace=each) for each in workspaces])


async def drop_outdated(
    session: Transaction, connection: UUID, units: Collection[ContactId]
) -> list[Wanted]:
    tables = tables_of(session)
    dropped = [
        row.item
        for contact, row in tables.parked.items()
        if row.connection == connection
        and row.item.wish is Wish.UPSERT
        and contact not in units
        and _has_newer_full_run(
            tables, contact.integration, row.item.version.run_no, row.item.mapping_version
        )
    ]
    for item in dropped:
        del tables.parked[item.contact]
    return dropped


async def drainable(
    session: Transaction,
    connection: UUID,
    *,
    importing: Collection[ContactId],
    holding: Collection[ContactId],
    is_open: bool,
    is_blocked: bool,
    gathers: bool,
    due: Collection[ContactId],
    limit: int,
) -> list[Wanted]:
    may_go = {"quota": is_open, "backlog": not gathers}
    waiting = _waiting(session, connection, importing, holding, due, may_go, is_blocked=is_blocked)
    return [row.item for row in _in_turn(waiting)[:limit]]


async def probe_row(
    session: Transaction,
    connection: UUID,
    *,
    importing: Collection[ContactId],
    holding: Collection[ContactId],
    is_open: bool,
    gathers: bool,
    due: Collection[ContactId],
) -> Wanted | None:
    may_go = {"quota": is_open, "backlog": not gathers}
    waiting = _in_turn(
        _waiting(session, connection, importing, holding, due, may_go, is_blocked=False)
    )
    if not waiting:
        return None
    chosen = min(waiting, key=_tried)
    now = database_of(session).now()
    tables_of(session).parked[chosen.item.contact] = change(chosen, tried_at=now)
    return chosen.item


def _tried(row: ParkedRow) -> tuple[bool, datetime]:
    """Return what sorts rows by when they were tried: never first."""
    return (True, row.tried_at) if row.tried_at is not None else _NEVER


_NEVER = (False, datetime.min.replace(tzinfo=UTC))


def _waiting(
    session: Transaction,
    connection: UUID,
    importing: Collection[ContactId],
    holding: Collection[ContactId],
    due: Collection[ContactId],
    may_go: dict[str, bool],
    *,
    is_blocked: bool,
) -> list[ParkedRow]:
    tables, now = tables_of(session), database_of(session).now()
    linked = _linked(tables)

    def may(row: ParkedRow) -> bool:
        contact = row.item.contact
        integration = tables.integrations.get(contact.integration)
        if integration is None or integration.state is IntegrationState.ARCHIVED:
            return True
        if integration.state is not IntegrationState.ACTIVE or is_blocked:
            return False
        address = identity_key(row.item.identity)
        owner = linked.get(Place(contact.integration, address or ""))
        last = max(row.last_at, row.tried_at or row.last_at)
        gone = {
            **may_go,
            "email_change": _is_decided(row, tables.links.get(contact), address),
            "duplicate_identity": owner in (None, contact.source_id),
            "sync_budget": contact in due,
            "contact_limit": last < now - timedelta(hours=1),
        }
        return contact in holding or gone.get(row.reason, True)

    return [
        row
        for row in tables.parked.values()
        if row.connection == connection and row.item.contact not in importing and may(row)
    ]


def _is_decided(row: ParkedRow, link: Link | None, address: str | None) -> bool:
    if link is None or link.key is None:
        return True
    return address is not None and address in (row.approved, link.refused, link.key)


def _in_turn(waiting: list[ParkedRow]) -> list[ParkedRow]:
    """Return rows oldest first, in turn by integration."""

    def age(row: ParkedRow) -> tuple[UUID, datetime, str]:
        contact = row.item.contact
        return (contact.integration, row.first_at, contact.source_id)

    placed: list[tuple[int, datetime, str, ParkedRow]] = []
    for _, own in groupby(sorted(waiting, key=age), key=lambda row: row.item.contact.integration):
        for place, row in enumerate(own):
            placed.append((place, row.first_at, row.item.contact.source_id, row))
    return [row for *_, row in sorted(placed, key=lambda each: each[:3])]


# Shares of an external account in a sync


async def _in_line(
    session: Transaction, account: str, most: int, connection: UUID
) -> list[ParkedRow]:
    """Return who waits for a share and could be written, oldest first."""
    tables = tables_of(session)

    async def may(row: ParkedRow) -> bool:
        integration = tables.integrations[row.item.contact.integration]
        destination = tables.destinations.get(integration.destination)
        return (
            row.reason == Park.SYNC_BUDGET
            and importer_of(tables, integration) == account
            and integration.state is IntegrationState.ACTIVE
            and tables.connections[integration.destination].state == "connected"
            and destination is not None
            and (destination.block_reason is None or integration.destination == connection)
            and await ledger.is_open(session, workspace=integration.workspace)
        )

    waiting = [row for row in tables.parked.values() if await may(row)]
    return sorted(waiting, key=lambda row: (row.first_at, row.item.contact.source_id))[:most]


async def take_shares(
    session: Transaction,
    *,
    connection: UUID,
    account: str,
    slot: timedelta,
    most: int,
    contacts: Sequence[ContactId],
    is_drain: bool,
) -> set[ContactId]:
    kept = 0 if is_drain else len(await _in_line(session, account, most, connection))
    shares, now = tables_of(session).shares, slot_of(session, slot)
    left = most - kept - sum(1 for name, at, _ in shares if (name, at) == (account, now))
    for contact in contacts:
        if left > 0 and (account, now, contact) not in shares:
            shares[account, now, contact] = None
            left -= 1
    return {contact for contact in contacts if (account, now, contact) in shares}


def slot_of(session: Transaction, slot: timedelta) -> int:
    return int(database_of(session).now().timestamp() // slot.total_seconds())


async def due_shares(
    session: Transaction, connection: UUID, *, slot: timedelta, most: int
) -> list[ContactId]:
    tables, now = tables_of(session), slot_of(session, slot)
    accounts = {
        importer_of(tables, row)
        for row in tables.integrations.values()
        if row.destination == connection and row.state is IntegrationState.ACTIVE
    } - {""}
    found: list[ContactId] = []
    for account in sorted(accounts):
        left = most - sum(1 for name, at, _ in tables.shares if (name, at) == (account, now))
        in_line = await _in_line(session, account, max(0, left), connection)
        found += [row.item.contact for row in in_line if row.connection == connection]
    return found


# Fields that automatic imports want made


async def wanted_fields(
    session: Transaction, connection: UUID, *, again: timedelta
) -> list[FieldWish]:
    tables, now = tables_of(session), database_of(session).now()
    return [
        FieldWish(integration, row.wanted)
        for (integration, _), row in sorted(tables.wanted_fields.items())
        if row.connection == connection
        and row.refused is None
        and tables.integrations[integration].state in _GOING
        and (row.tried_at is None or row.tried_at < now - again)
    ]


async def try_fields_later(session: Transaction, connection: UUID) -> None:
    rows, now = tables_of(session).wanted_fields, database_of(session).now()
    for key, row in list(rows.items()):
        if row.connection == connection and row.refused is None:
            rows[key] = change(row, tried_at=now)


async def refuse_field(session: Transaction, *, connection: UUID, title: str, reason: str) -> None:
    rows = tables_of(session).wanted_fields
    for key, row in list(rows.items()):
        if (row.connection, row.wanted.title) == (connection, title):
            rows[key] = change(row, refused=reason)


async def recover_fields(session: Transaction, *, integration: UUID) -> bool:
    row = tables_of(session).integrations.get(integration)
    if row is None or row.error_reason != Trouble.FIELDS_NOT_MADE:
        return False
    return report(session, integration, None, is_poller=False)


async def add_fields(
    session: Transaction, *, integration: UUID, fields: Sequence[Mapping[str, object]]
) -> int | None:
    for entry in fields:
        tables_of(session).wanted_fields.pop((integration, str(entry["source"])), None)
    return None  # Nobody adds fields in the simulation.


async def misconfigured_row(session: Transaction, connection: UUID) -> Wanted | None:
    tables, now = tables_of(session), database_of(session).now()
    until = now - store.MISCONFIGURED_AGAIN
    in_error = {
        each
        for each, row in tables.integrations.items()
        if row.state is IntegrationState.ERROR
        and not any(
            parked.tried_at is not None and parked.tried_at >= until
            for contact, parked in tables.parked.items()
            if contact.integration == each
        )
    }
    candidates = [
        row
        for contact, row in tables.parked.items()
        if contact.integration in in_error
        and row.connection == connection
        and row.reason == "configuration"
        and row.first_at < until
    ]
    if not candidates:
        return None
    chosen = min(
        candidates, key=lambda row: (*_tried(row), row.first_at, row.item.contact.source_id)
    )
    tables.parked[chosen.item.contact] = change(chosen, tried_at=now)
    return chosen.item


async def backlog_of(session: Transaction, connection: UUID) -> Backlog:
    rows = [
        row
        for row in tables_of(session).parked.values()
        if row.connection == connection and row.reason == "backlog"
    ]
    if not rows:
        return Backlog(0, 0.0, 0.0)
    now = database_of(session).now()
    rest = now - max(row.last_at for row in rows)
    longest = now - min(row.first_at for row in rows)
    return Backlog(len(rows), rest.total_seconds(), longest.total_seconds())


async def has_parked(session: Transaction, connection: UUID) -> bool:
    return any(row.connection == connection for row in tables_of(session).parked.values())


async def count_parked(session: Transaction) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in tables_of(session).parked.values():
        counts[row.reason] = counts.get(row.reason, 0) + 1
    return counts
