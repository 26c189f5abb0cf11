"""The writer's SQL: what stands at the destinations, what waits, what is under way.

Every statement of this service is here. Functions take the session of the caller's transaction
and never end it. Whatever changes links, parked rows or intents calls `keep_lease` first in the
same transaction: it locks the destination's row, so a lease that was taken over meanwhile makes
the whole transaction fail instead of writing beside the new owner (RELIABILITY R11).
Thousands of rows go to the driver as joined texts (PERFORMANCE.md 4).

Who holds an address is asked with `integration_id is not distinct from`, which no index answers:
what is left is the one that begins with the address. With `=` a plan that was made while the table
was nearly empty reads all of the integration for each address, and is kept while it grows.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import repeat
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from libs.common import ledger, postgres
from libs.common.errors import LeaseLostError
from libs.common.events import Event, Identity, Operation, Settled, Topic, encode
from libs.common.postgres import Pool, Transaction
from libs.common.reasons import Park, Trouble
from libs.connectors.automatic import Standard, WantedField
from libs.connectors.contract import FieldType, Write
from services.writer.conclude import Changes, Moved, Row
from services.writer.rows import Rows
from services.writer.values import (
    HASH_BYTES,
    ContactId,
    Head,
    ImportRow,
    Integration,
    IntegrationState,
    Link,
    LinkState,
    Parked,
    PartId,
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
    shared,
)

SEPARATOR = "\x1f"  # In no id and no address: the poller and the mapper see to that.

# By plain look-up: calling an enumeration costs a microsecond, thousands of times a batch.
_STATES = {each.value: each for each in LinkState}
_WISHES = {each.value: each for each in Wish}

CONNECTED = "connected"  # The state of a connection that can be used.
MISCONFIGURED_AGAIN = timedelta(minutes=15)  # One contact, in case a person mended it.
OUTCOMES_KEPT = timedelta(days=8)  # A day longer than the topics keep a record.


def create_pool(url: str, *, size_max: int) -> Pool:
    """Return the writer's pool: everything here is read by key, whatever statistics say."""
    return postgres.create_pool(url, size_max=size_max, application_name="writer", by_key=True)


# Leases


def lease_name(connection: UUID) -> str:
    """Return what a destination's lease is called in an error."""
    return f"destination {connection}"


@dataclass(frozen=True, slots=True)
class Granted:
    """A lease as the database gave it; `lapsed_s`: how long ago another owner's ran out."""

    fencing: int
    lapsed_s: float | None


async def acquire_lease(
    session: Transaction, *, connection: UUID, workspace: UUID, owner: UUID, ttl: timedelta
) -> Granted | None:
    """Take a destination's lease if it is free, lapsed or ours; None while somebody has it."""
    found = await session.connection.fetchrow(
        """
        insert into delivery.destinations as d
          (connection_id, workspace_id, lease_owner, lease_until, fencing)
        values ($1, $2, $3, clock_timestamp() + $4, 1)
        on conflict (connection_id) do update
          set lease_owner = $3, lease_until = clock_timestamp() + $4, fencing = d.fencing + 1
          where d.lease_owner is null or d.lease_until < clock_timestamp() or d.lease_owner = $3
        returning fencing, old.lease_owner is not null and old.lease_owner <> $3 as has_lapsed,
          extract(epoch from clock_timestamp() - old.lease_until)::float8 as lapsed_s
        """,
        connection,
        workspace,
        owner,
        ttl,
    )
    if found is None:
        return None
    return Granted(found["fencing"], found["lapsed_s"] if found["has_lapsed"] else None)


async def renew_leases(
    session: Transaction, *, owner: UUID, tokens: Sequence[tuple[UUID, int]], ttl: timedelta
) -> set[UUID]:
    """Prolong these leases; return the connections of those that are still ours."""
    found = await session.connection.fetch(
        """
        update delivery.destinations d set lease_until = clock_timestamp() + $4
        from unnest($1::uuid[], $2::bigint[]) u (connection_id, fencing)
        where d.connection_id = u.connection_id and d.fencing = u.fencing and d.lease_owner = $3
        returning d.connection_id
        """,
        [connection for connection, _ in tokens],
        [fencing for _, fencing in tokens],
        owner,
        ttl,
    )
    return {row["connection_id"] for row in found}


async def release_lease(
    session: Transaction, *, connection: UUID, owner: UUID, fencing: int
) -> None:
    """Let go of a lease, if it is still ours."""
    await session.connection.execute(
        "update delivery.destinations set lease_owner = null, lease_until = null"
        " where connection_id = $1 and lease_owner = $2 and fencing = $3",
        connection,
        owner,
        fencing,
    )


async def keep_lease(session: Transaction, *, connection: UUID, fencing: int) -> None:
    """Hold the lease's row until the transaction ends; raise LeaseLostError if it moved on."""
    found = await session.connection.fetchval(
        "select fencing from delivery.destinations"
        " where connection_id = $1 and lease_owner is not null for share",
        connection,
    )
    if found != fencing:
        raise LeaseLostError(lease_name(connection))


async def begin_step(session: Transaction, *, connection: UUID, fencing: int, step: UUID) -> bool:
    """Hold the lease's row as `keep_lease` does; False if this very step is stored already.

    A transaction whose commit was answered by silence is run again, and giving units back twice
    would give back others: steps of one destination follow one another, so remembering the last
    one is enough.
    """
    found = await session.connection.fetchrow(
        """
        update delivery.destinations set last_step = $3
        where connection_id = $1 and fencing = $2 and lease_owner is not null
        returning old.last_step is distinct from new.last_step as is_new
        """,
        connection,
        fencing,
        step,
    )
    if found is None:
        raise LeaseLostError(lease_name(connection))
    return bool(found["is_new"])


async def mark_rechecks(
    session: Transaction, *, connection: UUID, contacts: Iterable[ContactId]
) -> None:
    """Leave marks for contacts that were called for after the lease was lost: unfenced."""
    marked = sorted(contacts)
    await session.connection.execute(
        """
        insert into delivery.rechecks (connection_id, integration_id, source_id)
        select $1, u.* from unnest($2::uuid[], $3::text[]) u on conflict do nothing
        """,
        connection,
        [contact.integration for contact in marked],
        [contact.source_id for contact in marked],
    )


async def take_rechecks(session: Transaction, *, connection: UUID) -> list[ContactId]:
    """Turn marks into links that are never taken for unchanged; return whose they were."""
    found = await session.connection.fetch(
        """
        with marked as (delete from delivery.rechecks where connection_id = $1 returning *)
        update delivery.links l set needs_recheck = true
        from marked m where l.integration_id = m.integration_id and l.source_id = m.source_id
        returning l.integration_id, l.source_id
        """,
        connection,
    )
    return [ContactId(row["integration_id"], row["source_id"]) for row in found]


async def end_rechecks(session: Transaction, tasks: Sequence[Task]) -> None:
    """Trust the links of contacts again whose linked version was written once more."""
    await session.connection.execute(
        """
        update delivery.links l set needs_recheck = false
        from unnest($1::uuid[], $2::text[], $3::bigint[], $4::int[]) u (i, s, ms, run_no)
        where l.integration_id = u.i and l.source_id = u.s
          and l.version_ms = u.ms and l.run_no = u.run_no
        """,
        [task.integration for task in tasks],
        [task.source_id for task in tasks],
        [task.version_ms for task in tasks],
        [task.run_no for task in tasks],
    )


# What is known


@dataclass(frozen=True, slots=True)
class Connection:
    """A destination account as configured, and whether it is blocked now."""

    connection: UUID
    workspace: UUID
    provider: str
    state: str
    account_id: str
    tier: str | None
    time_zone: str
    sealed_api_key: str | None
    failed_checks: int
    account_url: str | None = None
    client_id: str | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """Why nothing is sent to a destination; `wait_s` until a probe, negative when it is due."""

    reason: str
    wait_s: float
    attempts: int


# A destination's configuration out of `config.connections c`, as `Connection` has it.
_CONNECTION = """
  c.connection_id, c.workspace_id, c.provider, c.state, coalesce(c.account_id, '') as account_id,
  c.tier, c.time_zone, c.sealed_api_key, c.failed_checks, c.account_url, c.client_id
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a destination stands: `connection` is None if it was removed, `block` if there is none.

    `is_open`: its workspace may write. `has_parked`: somebody waits at it. `has_marks`: for
    `take_rechecks`. `has_wishes`: fields are to be made there.
    """

    connection: Connection | None
    block: Block | None
    is_open: bool
    has_parked: bool
    has_marks: bool
    has_wishes: bool


async def standing_of(session: Transaction, *, connection: UUID, workspace: UUID) -> Standing:
    """Return how a destination stands, in one question: every drain asks it."""
    found = await session.connection.fetchrow(
        f"""
        select exists (select from delivery.parked p where p.connection_id = $1),
          exists (select from delivery.rechecks r where r.connection_id = $1),
          exists (select from delivery.wanted_fields w
                  where w.connection_id = $1 and w.refused is null), {_STANDING}
        """,  # noqa: S608  # names of columns, not values
        connection,
        workspace,
    )
    assert found is not None, "there is one row, whatever is joined to it"
    has_parked, has_marks, has_wishes, *own = found.values()
    return Standing(*_standing(own), has_parked, has_marks, has_wishes)


# How a destination stands, for parameters $1 and $2: its connection and workspace.
_STANDING = f"""
  d.block_reason, extract(epoch from d.blocked_until - clock_timestamp())::float8,
  d.block_attempts, ledger.is_open($2), {_CONNECTION}
from (values ($1::uuid)) asked (id)
left join config.connections c on c.connection_id = asked.id
left join delivery.destinations d on d.connection_id = asked.id
"""


def _standing(found: Sequence[Any]) -> tuple[Connection | None, Block | None, bool]:
    reason, wait_s, attempts, is_open, *configured = found
    return (
        Connection(*configured) if configured[0] is not None else None,
        Block(reason, wait_s, attempts) if reason is not None else None,
        is_open,
    )


@dataclass(frozen=True, slots=True)
class Around:
    """What is the same for all contacts of a turn; `connection` is None if it was removed.

    Integrations and runs that are not known are left out.
    """

    connection: Connection | None
    block: Block | None
    is_open: bool
    integrations: Mapping[UUID, Integration]
    runs: Mapping[UUID, Run]

    def blocked(self, *, is_probe: bool) -> str | None:
        """Return why nothing can be written now; None if something can.

        A probe looks past the block that it is to end, but not past missing credentials.
        """
        if self.connection is None or self.connection.state != CONNECTED:
            return Park.NEEDS_REAUTH
        return self.block.reason if self.block is not None and not is_probe else None


async def around(
    session: Transaction,
    *,
    connection: UUID,
    workspace: UUID,
    integrations: Collection[UUID],
    runs: Collection[UUID],
) -> Around:
    """Return what is the same for all contacts of these integrations and runs, in one question.

    Every turn asks it: three questions cost more than what makes one of them.
    """
    found = await session.connection.fetchrow(
        f"""
        select
          (select json_agg(json_build_array({_INTEGRATION}))::text {_OF_INTEGRATIONS}
           where i.integration_id = any ($3)),
          (select json_agg(json_build_array(run_id, fencing, state, is_outdated))::text
           from sync.run_state($4)), {_STANDING}
        """,  # noqa: S608  # names of columns, not values
        connection,
        workspace,
        list(integrations),
        list(runs),
    )
    assert found is not None, "there is one row, whatever is joined to it"
    of_integrations, of_runs, *own = found.values()
    known = [_integration(*each) for each in _INTEGRATIONS.decode(of_integrations or "[]")]
    return Around(
        *_standing(own),
        {each.integration: each for each in known},
        {
            shared(run): Run(fencing, state == "abandoned", is_outdated)
            for run, fencing, state, is_outdated in _RUNS.decode(of_runs or "[]")
        },
    )


# An integration out of `config.integrations i`, as `_integration` takes it.
_INTEGRATION = """
  i.integration_id, i.workspace_id, i.state, i.deletion_policy, i.email_change_policy,
  coalesce(i.destination_list_id, ''),
  case when i.kind = 'automatic' then c.provider || ':'
    || coalesce(c.account_id, c.connection_id::text) else '' end,
  i.way_back_of, coalesce(i.way_back_of, case when i.is_two_way then
    (select b.integration_id from config.integrations b
     where b.way_back_of = i.integration_id) end)
"""
_OF_INTEGRATIONS = """
  from config.integrations i
  left join config.connections c on c.connection_id = i.source_connection_id
"""
_INTEGRATIONS = msgspec.json.Decoder(
    list[tuple[UUID, UUID, str, str, str, str, str | None, UUID | None, UUID | None]]
)
_RUNS = msgspec.json.Decoder(list[tuple[UUID, int, str, bool]])


def _integration(
    integration: UUID,
    workspace: UUID,
    state: str,
    deletion_policy: str,
    email_change_policy: str,
    list_id: str,
    importer_of: str | None,
    way_back_of: UUID | None,
    partner: UUID | None,
) -> Integration:
    return Integration(
        shared(integration),
        workspace,
        IntegrationState(state),
        removes_leavers=deletion_policy == "remove_from_list",
        email_change_policy=email_change_policy,
        list_id=list_id,
        importer_of=importer_of or "",
        partner=partner,
        is_way_back=way_back_of is not None,
    )


async def connection_of(session: Transaction, connection: UUID) -> Connection | None:
    """Return a destination's configuration; None if there is no such connection."""
    found = await session.connection.fetchrow(
        f"""
        select {_CONNECTION} from config.connections c where c.connection_id = $1
        """,  # noqa: S608  # names of columns, not values
        connection,
    )
    return Connection(*found.values()) if found is not None else None


async def integrations(session: Transaction, wanted: Collection[UUID]) -> dict[UUID, Integration]:
    """Return what is configured of these integrations; unknown ones are left out."""
    found = await session.connection.fetch(
        f"""
        select {_INTEGRATION} {_OF_INTEGRATIONS} where i.integration_id = any ($1)
        """,
        list(wanted),
    )
    known = [_integration(*row.values()) for row in found]
    return {each.integration: each for each in known}


async def runs(session: Transaction, wanted: Collection[UUID]) -> dict[UUID, Run]:
    """Return whose deletions count, and whose upserts a newer full run makes needless."""
    found = await session.connection.fetch("select * from sync.run_state($1)", list(wanted))
    return {
        row["run_id"]: Run(row["fencing"], row["state"] == "abandoned", row["is_outdated"])
        for row in found
    }


async def links(session: Transaction, contacts: Iterable[ContactId]) -> dict[ContactId, Link]:
    """Return the links of these contacts."""
    connection = session.connection
    found: dict[ContactId, Link] = {}
    for integration, ids in _source_ids(contacts).items():
        rows = await connection.fetch(
            """
            select source_id, state, version_ms, run_no, operation, email, sms, hash,
              content_hash, refused_identity, removed_by_us, needs_recheck
            from delivery.links
            where integration_id = $1 and source_id = any (string_to_array($2, chr(31)))
            """,
            integration,
            ids,
        )
        for row in rows:
            link = _link(integration, row)
            found[link.contact] = link
    return found


def _source_ids(contacts: Iterable[ContactId]) -> dict[UUID, str]:
    """Return contacts by their integration, packed."""
    found: dict[UUID, list[str]] = defaultdict(list)
    for contact in contacts:
        found[contact.integration].append(contact.source_id)
    return {integration: packed(own) for integration, own in found.items()}


def _source_ids_of(rows: Rows) -> dict[UUID, str]:
    found: dict[UUID, list[str]] = defaultdict(list)
    for head, own in rows.stretches():
        found[head.part.integration] += rows.source_ids[own]
    return {integration: packed(own) for integration, own in found.items()}


def packed(texts: Iterable[str]) -> str:
    """Return texts as one parameter, for `string_to_array($1, chr(31))`.

    asyncpg takes an array apart element by element, and a text as it is.
    """
    return SEPARATOR.join(texts)


def _link(integration: UUID, row: "asyncpg.Record[Any]") -> Link:
    (
        source_id,
        state,
        version_ms,
        run_no,
        operation,
        email,
        sms,
        hash_,
        content_hash,
        refused,
        removed_by_us,
        needs_recheck,
    ) = row
    return Link(
        contact=ContactId(integration, source_id),
        state=_STATES[state],
        version=Version(version_ms, run_no),
        wish=_WISHES[operation],
        identity=Identity(email=email, sms=sms),
        hash=hash_ or b"",
        content_hash=content_hash or b"",
        refused=refused,
        removed_by_us=removed_by_us,
        needs_recheck=needs_recheck,
    )


async def owners(session: Transaction, places: Collection[Place]) -> dict[Place, str]:
    """Return which linked contact holds each of these addresses."""
    found: dict[Place, str] = {}
    by_integration: dict[UUID, list[str]] = defaultdict(list)
    for place in places:
        by_integration[place.integration].append(place.address)
    for integration, addresses in by_integration.items():
        for address, source_id in await _owners(session, integration, addresses):
            found[Place(integration, address)] = source_id
    return found


async def _owners(
    session: Transaction, integration: UUID, addresses: Iterable[str]
) -> "list[asyncpg.Record[Any]]":
    found = await session.connection.fetch(
        """
        select identity, source_id from delivery.links
        where identity = any (string_to_array($2, chr(31)))
          and integration_id is not distinct from $1 and state = 'linked'
        """,
        integration,
        packed(addresses),
    )
    return list(found)


async def parked(session: Transaction, contacts: Iterable[ContactId]) -> dict[ContactId, Parked]:
    """Return what is parked of these contacts."""
    connection = session.connection
    found: dict[ContactId, Parked] = {}
    for integration, ids in _source_ids(contacts).items():
        rows = await connection.fetch(
            """
            select source_id, version_ms, run_no, operation, reason, email, sms,
              approved_identity, merged_from
            from delivery.parked
            where integration_id = $1 and source_id = any (string_to_array($2, chr(31)))
            """,
            integration,
            ids,
        )
        for row in rows:
            source_id, version_ms, run_no, operation, reason, email, sms, approved, merged = row
            found[ContactId(integration, source_id)] = Parked(
                Version(version_ms, run_no),
                _WISHES[operation],
                reason,
                identity_key(Identity(email=email, sms=sms)),
                approved,
                tuple(merged),
            )
    return found


async def known(session: Transaction, rows: Rows) -> set[ContactId]:
    """Return which of these rows' contacts have a link or a parked row."""
    found: set[ContactId] = set()
    for integration, ids in _source_ids_of(rows).items():
        own = await session.connection.fetch(
            """
            select source_id from delivery.links
            where integration_id = $1 and source_id = any (string_to_array($2, chr(31)))
            union all
            select source_id from delivery.parked
            where integration_id = $1 and source_id = any (string_to_array($2, chr(31)))
            """,
            integration,
            ids,
        )
        found.update([ContactId(integration, row[0]) for row in own])
    return found


@dataclass(frozen=True, slots=True)
class Ending:
    """What the end of an import begins with: see `begin_end`."""

    is_new: bool
    known: set[ContactId]
    has_two_way: bool


async def begin_end(
    session: Transaction, *, connection: UUID, fencing: int, step: UUID, rows: Rows
) -> Ending:
    """Begin a step as `begin_step` does; return also what is `known` of an import's rows.

    `has_two_way`: some of them are of an integration that may have to agree on what was brought.
    One question for rows of one integration, as mostly.
    """
    by_integration = _source_ids_of(rows)
    if len(by_integration) > 1:
        is_new = await begin_step(session, connection=connection, fencing=fencing, step=step)
        return Ending(is_new, await known(session, rows), has_two_way=True)
    [(integration, ids)] = by_integration.items()
    found = await session.connection.fetchrow(
        """
        with step as (
          update delivery.destinations set last_step = $3
          where connection_id = $1 and fencing = $2 and lease_owner is not null
          returning old.last_step is distinct from new.last_step as is_new)
        select is_new,
          (select string_agg(k.source_id, chr(31)) from (
            select source_id from delivery.links
            where integration_id = $4 and source_id = any (string_to_array($5, chr(31)))
            union all
            select source_id from delivery.parked
            where integration_id = $4 and source_id = any (string_to_array($5, chr(31)))) k),
          exists (select from config.integrations i where i.integration_id = $4 and i.is_two_way)
        from step
        """,
        connection,
        fencing,
        step,
        integration,
        ids,
    )
    if found is None:
        raise LeaseLostError(lease_name(connection))
    is_new, names, has_two_way = found.values()
    of_names = names.split(SEPARATOR) if names is not None else []
    return Ending(is_new, {ContactId(integration, each) for each in of_names}, has_two_way)


async def glance(session: Transaction, integration: UUID, addresses: Mapping[str, str]) -> Seen:
    """Return as little of these contacts of an integration as tells the usual cases.

    `addresses` has a contact's own, or an empty text.
    """
    connection = session.connection
    source_ids = packed(addresses)
    # Who is as an upsert left him comes together with all others who are, packed: in a batch of
    # unchanged contacts that is everybody, and a row for each was a tenth of what the turn costs.
    rows = await connection.fetch(
        """
        select is_plain, run_no, string_agg(source_id, chr(31)),
          string_agg(version_ms::text, chr(31)), string_agg(hash, ''),
          max(case when state <> 'linked' then identity end)
        from (
          select *, state = 'linked' and operation = 'upsert' and refused_identity is null
            and not needs_recheck as is_plain
          from delivery.links
          where integration_id = $1 and source_id = any (string_to_array($2, chr(31)))) l
        group by is_plain, run_no,
          case when is_plain and octet_length(hash) = $3 then chr(31) else source_id end
        union all
        select merged_from <> '{}', null, source_id, null, null, null from delivery.parked
        where integration_id = $1 and source_id = any (string_to_array($2, chr(31)))
        """,
        integration,
        source_ids,
        HASH_BYTES,
    )
    waiting = {row[2]: row[0] for row in rows if row[1] is None}  # Every link has a run.
    links = _seen_links(row for row in rows if row[1] is not None)
    new: Collection[str] = ()
    if not links:
        new = addresses.values()
    elif len(links) < len(addresses):
        new = [address for source_id, address in addresses.items() if source_id not in links]
    owned = await _owners(session, integration, new) if new else []
    held = {row["identity"] for row in owned} | {row[5] for row in rows if row[5]}
    return Seen(links, waiting, held)


def _seen_links(rows: "Iterable[asyncpg.Record[Any]]") -> dict[str, SeenLink]:
    links: dict[str, SeenLink] = {}
    for is_plain, run_no, names, versions_ms, hashes, _ in rows:
        own = names.split(SEPARATOR)
        versions = map(int, versions_ms.split(SEPARATOR))
        cut = _cut(hashes) if len(own) > 1 else [hashes]
        seen = map(SeenLink, versions, repeat(run_no), cut, repeat(is_plain))
        links.update(zip(own, seen, strict=True))
    return links


def _cut(hashes: bytes) -> list[bytes]:
    return [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]


async def told(
    session: Transaction, *, records: Collection[UUID], settled: Collection[UUID]
) -> tuple[dict[UUID, Settled], set[UUID]]:
    """Return what was told of these records before, and which of `settled`, by whatever record."""
    found = await session.connection.fetch(
        """
        select record_id, body, null::uuid as settled_id
        from delivery.outcomes where record_id = any ($1)
        union all
        select null, null, settled_id from delivery.outcomes where settled_id = any ($2)
        """,
        list(records),
        list(settled),
    )
    of_records = {
        row["record_id"]: _SETTLED.decode(row["body"]) for row in found if row["body"] is not None
    }
    return of_records, {row["settled_id"] for row in found if row["body"] is None}


_SETTLED = msgspec.json.Decoder(Settled)


# What is under way


@dataclass(frozen=True, slots=True)
class StoredIntent:
    """A row of `delivery.intents`; times by the database's clock."""

    intent: UUID
    hold: UUID
    kind: str
    state: str
    fencing: int
    tasks: Sequence[Task]
    rows: Sequence[ImportRow]
    process_id: str | None
    created_at: datetime
    sent_at: datetime | None


async def open_intents(session: Transaction, connection: UUID) -> list[StoredIntent]:
    """Return everything under way at a destination."""
    found = await session.connection.fetch(
        """
        select intent_id, hold_id, kind, state, fencing, units, process_id, created_at, sent_at
        from delivery.intents where connection_id = $1 order by created_at, intent_id
        """,
        connection,
    )
    return [
        StoredIntent(
            row["intent_id"],
            row["hold_id"],
            row["kind"],
            row["state"],
            row["fencing"],
            *_units_in(row["units"]),
            row["process_id"],
            row["created_at"],
            row["sent_at"],
        )
        for row in found
    ]


class _PackedRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A row of an import as it is stored, in this order; `head` counts those of the intent."""

    head: int
    source_id: str
    email: str | None
    sms: str | None
    attributes: msgspec.Raw
    version_ms: int
    hash: bytes
    key: bytes
    was_linked: bool


class _PackedRows(msgspec.Struct, frozen=True):
    """All rows of an import: what those of a part have in common is stored once."""

    heads: list[Head]
    rows: list[_PackedRow]


_UNITS = msgspec.json.Decoder(list[Task] | _PackedRows)


def _packed_rows(rows: Rows) -> bytes:
    places: dict[Head, int] = {}
    numbers: list[int] = []
    for head, own in rows.stretches():
        numbers += [places.setdefault(head, len(places))] * (own.stop - own.start)
    # Tuples in the order of `_PackedRow`: they cost a third of a struct that nobody looks at.
    packed_rows = zip(
        numbers,
        rows.source_ids,
        [write.identity.email for write in rows.writes],
        [write.identity.sms for write in rows.writes],
        [msgspec.Raw(write.attributes) for write in rows.writes],
        rows.versions_ms,
        rows.hashes,
        rows.keys,
        rows.were_linked,
        strict=True,
    )
    return msgspec.json.encode({"heads": list(places), "rows": list(packed_rows)})


def _units_in(body: bytes) -> tuple[Sequence[Task], Sequence[ImportRow]]:
    """Return the units of an intent: single effects, or rows of an import."""
    found = _UNITS.decode(body)
    if not isinstance(found, _PackedRows):
        return found, ()
    heads = [_shared(head) for head in found.heads]
    return (), [_row(heads[packed_row.head], packed_row) for packed_row in found.rows]


def _shared(head: Head) -> Head:
    known = {"integration": shared(head.part.integration), "run": shared(head.part.run)}
    part = msgspec.structs.replace(head.part, **known)
    return msgspec.structs.replace(head, part=part)


def _row(head: Head, packed_row: _PackedRow) -> ImportRow:
    identity = Identity(email=packed_row.email, sms=packed_row.sms)
    return ImportRow(
        ContactId(head.part.integration, packed_row.source_id),
        Place(head.part.integration, identity_key(identity) or ""),
        head,
        Write(
            Operation.UPSERT,
            identity,
            bytes(packed_row.attributes),
            head.list_id,
            join_list=True,
        ),
        packed_row.version_ms,
        packed_row.hash,
        packed_row.key,
        packed_row.was_linked,
    )


@dataclass(frozen=True, slots=True)
class Reservation:
    """Units that effects are to have, and whose they are: single effects', and an import's rows'.

    Both belong to one hold, each to an intent of its own.
    """

    hold: UUID
    intent: UUID
    tasks: Sequence[Task]
    import_: UUID
    rows: Rows

    @property
    def wanted(self) -> int:
        """Return how many units that takes."""
        return len(self.tasks) + len(self.rows)

    def first(self, units: int) -> "Reservation":
        """Return what so many units are enough for: single effects come first."""
        own, own_rows = self.tasks[:units], self.rows.first(max(0, units - len(self.tasks)))
        return Reservation(self.hold, self.intent, own, self.import_, own_rows)


# What a reservation in one statement says when only a part of the units is left.
ONLY_A_PART = "WR001"
# One intent mostly, of hundreds of kilobytes: in an array the driver would copy it once more.
_RESERVE = {
    1: "select delivery.reserve($1, $2, $3, $4, $5, $6, array[$7::bytea])",
    2: "select delivery.reserve($1, $2, $3, $4, $5, $6, array[$7::bytea, $8::bytea])",
}


async def reserve(
    session: Transaction,
    *,
    connection: UUID,
    workspace: UUID,
    fencing: int,
    reservation: Reservation,
) -> int | None:
    """Keep the lease, hold units and say whose they are in one statement; return how many.

    All of them or none: None if only a part is left, and then nothing has happened, but an open
    transaction has failed. Asked again it returns the same. To be called within `transact_alone`,
    as `ledger.hold` within `transact`. Raises LeaseLostError.
    """
    intents = {}
    if reservation.tasks:
        intents[reservation.intent] = msgspec.json.encode(reservation.tasks)
    if reservation.rows:
        intents[reservation.import_] = _packed_rows(reservation.rows)
    try:
        granted: int | None = await session.connection.fetchval(
            _RESERVE[len(intents)],
            connection,
            fencing,
            workspace,
            reservation.hold,
            reservation.wanted,
            list(intents),
            *intents.values(),
        )
    except asyncpg.PostgresError as error:
        if error.sqlstate != ONLY_A_PART:
            raise
        return None
    if granted is None:
        raise LeaseLostError(lease_name(connection))
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
    """Say which granted units belong to which contacts; said twice, it is said once.

    They are single effects, or rows of an import.
    """
    await session.connection.execute(
        """
        insert into delivery.intents
          (intent_id, connection_id, workspace_id, hold_id, kind, state, fencing, units)
        values ($1, $2, $3, $4, 'single', 'open', $5, $6) on conflict do nothing
        """,
        intent,
        connection,
        workspace,
        hold,
        fencing,
        _packed_rows(rows) if rows else msgspec.json.encode(tasks),
    )


async def shrink_intent(session: Transaction, *, intent: UUID, left: Sequence[Task]) -> None:
    """Keep only the units that are still open; without any the intent ends."""
    connection = session.connection
    if left:
        await connection.execute(
            "update delivery.intents set units = $2 where intent_id = $1",
            intent,
            msgspec.json.encode(left),
        )
    else:
        await connection.execute("delete from delivery.intents where intent_id = $1", intent)


async def begin_import(session: Transaction, *, intent: UUID) -> None:
    """Turn an intent into an import that is about to be sent."""
    await session.connection.execute(
        "update delivery.intents set kind = 'import', state = 'sending',"
        " sent_at = clock_timestamp() where intent_id = $1 and state = 'open'",
        intent,
    )


async def run_import(
    session: Transaction, *, connection: UUID, fencing: int, intent: UUID, process_id: str
) -> None:
    """Say that an import that was being sent runs, and by which id the provider knows it.

    One statement, which holds the lease's row as `keep_lease` does, and raises like it. An import
    that is not being sent (any more) stays as it is.
    """
    found = await session.connection.fetchval(
        """
        with lease as (
          select fencing from delivery.destinations
          where connection_id = $1 and lease_owner is not null for share
        ), moved as (
          update delivery.intents set state = 'running', process_id = $4
          where intent_id = $3 and state = 'sending' and (select fencing from lease) = $2)
        select fencing from lease
        """,
        connection,
        fencing,
        intent,
        process_id,
    )
    if found != fencing:
        raise LeaseLostError(lease_name(connection))


# What changes


async def apply(session: Transaction, connection: UUID, workspace: UUID, changes: Changes) -> None:
    """Store links, parked rows, postings and releases of a batch (PROTOCOL.md 5, step 6)."""
    await _drop_rows(session, changes.drops)
    await _store_links(session, workspace, list(changes.links.values()))
    for moved in _together(changes.moved):
        await _move_links(session, moved)
    await _store_firsts(session, workspace, changes.firsts)
    await _park_rows(session, connection, workspace, list(changes.parks.values()))
    for hold, postings in sorted(changes.posts.items()):
        await ledger.post(session, hold_id=hold, postings=postings)
    for hold, units in sorted(changes.releases.items()):
        await ledger.release(session, hold_id=hold, units=units)


async def _drop_rows(session: Transaction, drops: dict[ContactId, Version]) -> None:
    if not drops:
        return
    await session.connection.execute(
        """
        delete from delivery.parked p
        using unnest($1::uuid[], $2::text[], $3::bigint[], $4::int[]) u (i, s, ms, run_no)
        where p.integration_id = u.i and p.source_id = u.s
          and p.version_ms = u.ms and p.run_no = u.run_no
        """,
        [contact.integration for contact in drops],
        [contact.source_id for contact in drops],
        [version.ms for version in drops.values()],
        [version.run_no for version in drops.values()],
    )


async def _store_links(session: Transaction, workspace: UUID, changed: list[Link]) -> None:
    # Who lets go of an address comes before who takes it: the index that keeps it unique is
    # checked row by row.
    groups: dict[tuple[bool, UUID], list[Link]] = {}
    for link in changed:
        is_linked = link.state is LinkState.LINKED
        groups.setdefault((is_linked, link.contact.integration), []).append(link)
    for (is_linked, integration), own in sorted(groups.items()):
        if is_linked:
            await _let_go(
                session,
                integration,
                source_ids=packed([each.contact.source_id for each in own]),
                addresses=packed([each.key or "" for each in own]),
            )
        await _upsert_links(session, workspace, integration, own)


async def _let_go(
    session: Transaction, integration: UUID, *, source_ids: str, addresses: str
) -> None:
    """Let tombstones go of the addresses that others are linked by now (both packed)."""
    await session.connection.execute(
        _LET_GO.format(integration="$1", source_ids="$2", addresses="$3"),
        integration,
        source_ids,
        addresses,
    )


_LET_GO = """
update delivery.links l set identity = null, email = null, sms = null
from unnest(string_to_array({source_ids}, chr(31)), string_to_array({addresses}, chr(31))) u (s, k)
where l.integration_id = {integration} and l.identity = u.k and l.source_id <> u.s
  and l.state = 'removed'
"""


# Texts that are joined cost a quarter of arrays, which asyncpg takes apart element by element; an
# empty one stands for null.
_UPSERT_LINKS = """
insert into delivery.links as l
  (workspace_id, integration_id, source_id, state, identity, email, sms, version_ms,
   run_no, operation, hash, content_hash, refused_identity, removed_by_us, needs_recheck,
   written_at)
select $1, $2, s, state, identity, email, sms, ms::bigint, run_no::int, operation,
  decode(hash, 'hex'), decode(content_hash, 'hex'), refused, removed_by_us::bool,
  needs_recheck::bool, clock_timestamp()
from unnest(string_to_array($3, chr(31)), string_to_array($4, chr(31)),
  string_to_array($5, chr(31), ''), string_to_array($6, chr(31), ''),
  string_to_array($7, chr(31), ''), string_to_array($8, chr(31)), string_to_array($9, chr(31)),
  string_to_array($10, chr(31)), string_to_array($11, chr(31), ''),
  string_to_array($12, chr(31), ''), string_to_array($13, chr(31), ''),
  string_to_array($14, chr(31)), string_to_array($15, chr(31)))
  u (s, state, identity, email, sms, ms, run_no, operation, hash, content_hash, refused,
     removed_by_us, needs_recheck)
on conflict (integration_id, source_id) do update set
  state = excluded.state, identity = excluded.identity, email = excluded.email,
  sms = excluded.sms, version_ms = excluded.version_ms, run_no = excluded.run_no,
  operation = excluded.operation, hash = excluded.hash,
  content_hash = excluded.content_hash, refused_identity = excluded.refused_identity,
  removed_by_us = excluded.removed_by_us, needs_recheck = excluded.needs_recheck,
  written_at = excluded.written_at
"""


async def _upsert_links(
    session: Transaction, workspace: UUID, integration: UUID, changed: list[Link]
) -> None:
    await session.connection.execute(
        _UPSERT_LINKS,
        workspace,
        integration,
        packed([link.contact.source_id for link in changed]),
        packed([link.state for link in changed]),
        packed([link.key or "" for link in changed]),
        packed([link.identity.email or "" for link in changed]),
        packed([link.identity.sms or "" for link in changed]),
        packed([str(link.version.ms) for link in changed]),
        packed([str(link.version.run_no) for link in changed]),
        packed([link.wish for link in changed]),
        packed([link.hash.hex() for link in changed]),
        packed([link.content_hash.hex() for link in changed]),
        packed([link.refused or "" for link in changed]),
        packed(["t" if link.removed_by_us else "f" for link in changed]),
        packed(["t" if link.needs_recheck else "f" for link in changed]),
    )


def _together(moved: Iterable[Moved]) -> list[Moved]:
    """Return unchanged contacts by their integration and the number of its run."""
    found: dict[tuple[UUID, int], tuple[list[str], list[int]]] = {}
    for each in moved:
        source_ids, versions_ms = found.setdefault((each.integration, each.run_no), ([], []))
        source_ids += each.source_ids
        versions_ms += each.versions_ms
    return [Moved(integration, run_no, *own) for (integration, run_no), own in found.items()]


async def _move_links(session: Transaction, moved: Moved) -> None:
    """Let links say that they hold a newer version, which is as the one before."""
    await session.connection.execute(
        """
        update delivery.links l
        set version_ms = u.ms::bigint, run_no = $2, written_at = clock_timestamp()
        from unnest(string_to_array($3, chr(31)), string_to_array($4, chr(31))) u (s, ms)
        where l.integration_id = $1 and l.source_id = u.s
        """,
        moved.integration,
        moved.run_no,
        packed(moved.source_ids),
        packed(map(str, moved.versions_ms)),
    )


_INSERT_FIRSTS = """
insert into delivery.links
  (workspace_id, integration_id, source_id, state, identity, email, sms, version_ms,
   run_no, operation, hash, content_hash, written_at)
select $1, $2, s, 'linked', identity, email, sms, ms::bigint, $3, 'upsert',
  substr($9::bytea, (16 * o - 15)::int, 16), substr($10::bytea, (16 * o - 15)::int, 16),
  clock_timestamp()
from unnest(string_to_array($4, chr(31)), string_to_array($5, chr(31)),
  string_to_array($6, chr(31)), string_to_array($7, chr(31), ''), string_to_array($8, chr(31)))
  with ordinality u (s, identity, email, sms, ms, o)
"""


async def _store_firsts(session: Transaction, workspace: UUID, firsts: Rows) -> None:
    """Link contacts that had no link, by columns."""
    for (integration, run_no), own in firsts.by_run().items():
        columns = _columns_of_firsts(workspace, integration, run_no, own)
        _, _, _, source_ids, addresses, *_ = columns
        await _let_go(session, integration, source_ids=source_ids, addresses=addresses)
        await session.connection.execute(_INSERT_FIRSTS, *columns)


def _columns_of_firsts(workspace: UUID, integration: UUID, run_no: int, own: Rows) -> list[Any]:
    """Return the parameters of `_INSERT_FIRSTS`."""
    return [
        workspace,
        integration,
        run_no,
        packed(own.source_ids),
        packed(own.addresses),
        packed([write.identity.email or "" for write in own.writes]),
        packed([write.identity.sms or "" for write in own.writes]),
        packed(map(str, own.versions_ms)),
        b"".join(own.hashes),
        b"".join([digest(write.attributes) for write in own.writes]),
    ]


# In any order: a tombstone keeps no address from being taken, and the intent's rows are these.
_LINK_FIRSTS = f"""
with gone as (
  delete from delivery.intents where intent_id = $11
), let_go as (
  {_LET_GO.format(integration="$2", source_ids="$4", addresses="$5")}
), told as (
  insert into delivery.outbox (topic, key, body)
  select $12, u.k, u.b from unnest($13::text[], $14::bytea[]) with ordinality u (k, b, o)
  order by u.o
)
{_INSERT_FIRSTS}
"""  # noqa: S608  # statements of ours, not values


async def link_firsts(
    session: Transaction,
    *,
    workspace: UUID,
    intent: UUID,
    firsts: Rows,
    topic: Topic,
    events: Iterable[tuple[str, Event]],
) -> None:
    """End an import that brought nothing but first links of one run: one statement instead of four.

    Its intent goes, links are as `apply` stores those of `firsts`, and it is told as by `tell`.
    """
    [((integration, run_no), own)] = firsts.by_run().items()
    pairs = list(events)
    await session.connection.execute(
        _LINK_FIRSTS,
        *_columns_of_firsts(workspace, integration, run_no, own),
        intent,
        topic.value,
        [key for key, _ in pairs],
        [encode(event) for _, event in pairs],
    )


async def _park_rows(
    session: Transaction, connection: UUID, workspace: UUID, rows: list[Row]
) -> None:
    if not rows:
        return
    items = [row.item for row in rows]
    await session.connection.execute(
        """
        insert into delivery.parked as p
          (workspace_id, connection_id, integration_id, source_id, reason, operation, version_ms,
           run_no, run_id, page, part, mapping_version, identity, email, sms, attributes, hash,
           approved_identity, merged_from, must_be_single)
        select $1, $2, u.i, u.s, u.reason, u.operation, u.ms, u.run_no, u.run_id, u.page, u.part,
          u.mapping_version, u.identity, u.email, u.sms, u.attributes, u.hash, u.approved,
          coalesce(string_to_array(u.merged, chr(31)), '{}'), u.must_be_single
        from unnest($3::uuid[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::int[],
          $9::uuid[], $10::int[], $11::int[], $12::int[], $13::text[], $14::text[], $15::bytea[],
          $16::bytea[], $17::text[], $18::text[], $19::bool[], $20::text[]) u
          (i, s, reason, operation, ms, run_no, run_id, page, part, mapping_version, email, sms,
           attributes, hash, approved, merged, must_be_single, identity)
        on conflict (integration_id, source_id) do update set
          connection_id = excluded.connection_id, reason = excluded.reason,
          operation = excluded.operation, version_ms = excluded.version_ms,
          run_no = excluded.run_no, run_id = excluded.run_id, page = excluded.page,
          part = excluded.part, mapping_version = excluded.mapping_version,
          identity = excluded.identity, email = excluded.email, sms = excluded.sms,
          attributes = excluded.attributes,
          hash = excluded.hash, approved_identity = excluded.approved_identity,
          merged_from = excluded.merged_from, must_be_single = excluded.must_be_single,
          attempts = p.attempts + 1,
          last_at = clock_timestamp()
        """,
        workspace,
        connection,
        [item.contact.integration for item in items],
        [item.contact.source_id for item in items],
        [row.reason for row in rows],
        [item.wish for item in items],
        [item.version.ms for item in items],
        [item.version.run_no for item in items],
        [item.part.run for item in items],
        [item.part.page for item in items],
        [item.part.part for item in items],
        [item.mapping_version for item in items],
        [item.identity.email for item in items],
        [item.identity.sms for item in items],
        [item.attributes for item in items],
        [item.hash for item in items],
        [row.approved for row in rows],
        ["\x1f".join(item.merged_from) or None for item in items],
        [item.must_be_single for item in items],
        [identity_key(item.identity) for item in items],
    )


# Whatever is to be stored once waits for the step: a repeated one changes nothing.
_SETTLE = """
with step as (
  update delivery.destinations set last_step = $3
  where connection_id = $1 and fencing = $2 and lease_owner is not null
  returning old.last_step is distinct from new.last_step as is_new
), begun as (
  update delivery.intents
  set kind = 'import', state = 'sending', sent_at = clock_timestamp()
  where intent_id = $4 and state = 'open' and (select is_new from step)
), moved as (
  update delivery.links l
  set version_ms = u.ms::bigint, run_no = $6, written_at = clock_timestamp()
  from unnest(string_to_array($7, chr(31)), string_to_array($8, chr(31))) u (s, ms)
  where l.integration_id = $5 and l.source_id = u.s and (select is_new from step)
), told as (
  insert into delivery.outcomes (record_id, stage, settled_id, body)
  select u.* from unnest($9::uuid[], $10::text[], $11::uuid[], $12::bytea[]) u
  where (select is_new from step)
  on conflict do nothing)
select is_new from step
"""


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
    """Store what most large batches come to, in one statement, as a step of its own.

    It is `begin_step`, and if the step is new `begin_import`, moved links of one run at most, and
    `store_outcomes`: an answer to wait for instead of six. To be called within `transact_alone`.
    Raises LeaseLostError.
    """
    pairs = list(told)
    together = _together(moved)
    assert len(together) <= 1, "one run at most"
    links = together[0] if together else None
    found = await session.connection.fetchval(
        _SETTLE,
        connection,
        fencing,
        step,
        import_,
        links.integration if links else None,
        links.run_no if links else None,
        packed(links.source_ids) if links else None,
        packed(map(str, links.versions_ms)) if links else None,
        [record for record, _ in pairs],
        [settled.stage for _, settled in pairs],
        [settled.id for _, settled in pairs],
        [encode(settled) for _, settled in pairs],
    )
    if found is None:
        raise LeaseLostError(lease_name(connection))


async def store_outcomes(session: Transaction, told: Iterable[tuple[UUID, Settled]]) -> None:
    """Keep what is told of each record, to tell it again the same way after a crash."""
    pairs = list(told)
    await session.connection.execute(
        """
        insert into delivery.outcomes (record_id, stage, settled_id, body)
        select u.* from unnest($1::uuid[], $2::text[], $3::uuid[], $4::bytea[]) u
        on conflict do nothing
        """,
        [record for record, _ in pairs],
        [settled.stage for _, settled in pairs],
        [settled.id for _, settled in pairs],
        [encode(settled) for _, settled in pairs],
    )


async def forget_outcomes(session: Transaction) -> None:
    """Remove outcomes of records that the topics no longer hold, some at a time."""
    await session.connection.execute(
        "delete from delivery.outcomes where (record_id, stage) in (select record_id, stage"
        " from delivery.outcomes where stored_at < clock_timestamp() - $1::interval limit 10000)",
        OUTCOMES_KEPT,
    )


async def tell(session: Transaction, topic: Topic, events: Iterable[tuple[str, Event]]) -> None:
    """Put events into the outbox: they leave for the topic once the transaction is through."""
    pairs = list(events)
    if not pairs:
        return
    await session.connection.execute(
        """
        insert into delivery.outbox (topic, key, body)
        select $1, u.k, u.b from unnest($2::text[], $3::bytea[]) with ordinality u (k, b, o)
        order by u.o
        """,
        topic.value,
        [key for key, _ in pairs],
        [encode(event) for _, event in pairs],
    )


# Blocks and health


async def block(session: Transaction, *, connection: UUID, reason: str, seconds: float) -> None:
    """Stop sending to a destination until a probe after `seconds`."""
    await session.connection.execute(
        "update delivery.destinations set block_reason = $2,"
        " blocked_until = clock_timestamp() + make_interval(secs => $3),"
        " block_attempts = block_attempts + 1 where connection_id = $1",
        connection,
        reason,
        seconds,
    )


async def unblock(session: Transaction, *, connection: UUID) -> None:
    """Send to a destination again."""
    await session.connection.execute(
        "update delivery.destinations set block_reason = null, blocked_until = null,"
        " block_attempts = 0 where connection_id = $1",
        connection,
    )


async def count_check(
    session: Transaction, *, connection: UUID, has_failed: bool, reason: str
) -> str:
    """Count a check of a connection's credentials; return the connection's state after it."""
    state = await session.connection.fetchval(
        "select config.count_check($1, $2, $3)", connection, has_failed, reason
    )
    return str(state)


async def report_integration(
    session: Transaction, *, integration: UUID, reason: str | None
) -> bool:
    """Say that an integration can not go on (or can again); False if that was known."""
    return bool(
        await session.connection.fetchval(
            "select config.report_integration($1, $2)", integration, reason
        )
    )


async def integrations_of(session: Transaction, connection: UUID) -> list[tuple[UUID, UUID]]:
    """Return the active integrations that write to a connection, with their workspaces."""
    found = await session.connection.fetch(
        "select integration_id, workspace_id from config.integrations"
        " where destination_connection_id = $1 and state = 'active'",
        connection,
    )
    return [(row["integration_id"], row["workspace_id"]) for row in found]


# Drains


def wanted_of(row: "asyncpg.Record[Any]") -> Wanted:
    """Return a parked row as the state its contact is wanted in."""
    integration = row["integration_id"]
    return Wanted(
        contact=ContactId(integration, row["source_id"]),
        wish=Wish(row["operation"]),
        version=Version(row["version_ms"], row["run_no"]),
        part=PartId(integration, row["run_id"], row["run_no"], row["page"], row["part"]),
        mapping_version=row["mapping_version"],
        identity=Identity(email=row["email"], sms=row["sms"]),
        attributes=row["attributes"],
        hash=row["hash"],
        merged_from=tuple(row["merged_from"]),
        approved=row["approved_identity"],
        is_parked=True,
        must_be_single=row["must_be_single"],
    )


# Changed addresses


async def changed_addresses(
    session: Transaction, *, integration: UUID, run_no: int
) -> list[tuple[str, str]]:
    """Return the parked contacts that a run could have seen under another address than linked.

    Those that an earlier run decided on, and whose address is still the same, are left out.
    """
    found = await session.connection.fetch(
        """
        select * from (
          select p.source_id, p.identity as address,
            l.identity, l.refused_identity, p.approved_identity
          from delivery.parked p join delivery.links l using (integration_id, source_id)
          where p.integration_id = $1 and p.run_no <= $2
            and p.operation = 'upsert' and l.identity is not null) changed
        where address <> identity and address is distinct from refused_identity
          and address is distinct from approved_identity
        order by source_id
        """,
        integration,
        run_no,
    )
    return [(row["source_id"], row["address"]) for row in found]


async def decide_email_changes(session: Transaction, *, run: UUID, decision: bytes) -> str:
    """Store a run's decision, once; return the one that counts."""
    return str(
        await session.connection.fetchval(
            "select sync.decide_email_changes($1, $2::text::jsonb)::text", run, decision.decode()
        )
    )


async def approve(
    session: Transaction, integration: UUID, changes: Sequence[tuple[str, str]]
) -> None:
    """Let parked contacts move to their new addresses."""
    await session.connection.execute(
        """
        update delivery.parked p set approved_identity = u.address
        from unnest($2::text[], $3::text[]) u (source_id, address)
        where p.integration_id = $1 and p.source_id = u.source_id
        """,
        integration,
        [source_id for source_id, _ in changes],
        [address for _, address in changes],
    )


async def refuse(
    session: Transaction, integration: UUID, changes: Sequence[tuple[str, str]]
) -> None:
    """Keep addresses that were refused on their links, until the source has another one."""
    await session.connection.execute(
        """
        update delivery.links l set refused_identity = u.address
        from unnest($2::text[], $3::text[]) u (source_id, address)
        where l.integration_id = $1 and l.source_id = u.source_id
        """,
        integration,
        [source_id for source_id, _ in changes],
        [address for _, address in changes],
    )


# Drains


@dataclass(frozen=True, slots=True)
class Busy:
    """A destination with something to look at.

    `lacks_quota`: somebody waits for the quota, and there is none. `is_stopped`: so does everybody.
    """

    connection: UUID
    workspace: UUID
    lacks_quota: bool = False
    is_stopped: bool = False


async def busy_destinations(session: Transaction) -> list[Busy]:
    """Return every destination with parked contacts, units, recheck marks or fields to be made.

    One that nobody has written to yet has no row of its own: fields come first. Archived
    integrations let their contacts go without any quota.
    """
    found = await session.connection.fetch(
        """
        with waiting as materialized (
          select connection_id, workspace_id,
            exists (select from delivery.parked p where p.connection_id = d.connection_id
                    and p.reason = 'quota') as for_quota,
            -- Two ranges of the index: whose backlog is large waits for the quota mostly.
            exists (select from delivery.parked p where p.connection_id = d.connection_id
                    and p.reason < 'quota')
            or exists (select from delivery.parked p where p.connection_id = d.connection_id
                       and p.reason > 'quota')
            or exists (select from delivery.intents n where n.connection_id = d.connection_id)
            or exists (select from delivery.rechecks r where r.connection_id = d.connection_id)
            or exists (select from delivery.wanted_fields w
                       join config.integrations i using (integration_id)
                       where w.connection_id = d.connection_id and w.refused is null
                         and i.state in ('active', 'error'))
            or exists (select from config.integrations i
                       where i.destination_connection_id = d.connection_id
                         and i.state = 'archived'
                         and exists (select from delivery.parked p
                                     where p.integration_id = i.integration_id)) as for_others
          from delivery.destinations d
        ), asked as materialized (
          select *, for_quota and not ledger.is_open(workspace_id) as lacks_quota
          from waiting where for_quota or for_others)
        select connection_id, workspace_id, lacks_quota, lacks_quota and not for_others
        from asked
        union
        select w.connection_id, w.workspace_id, false, false from delivery.wanted_fields w
        join config.integrations i using (integration_id)
        where w.refused is null and i.state in ('active', 'error')
          and not exists (select from delivery.destinations d
                          where d.connection_id = w.connection_id)
        order by connection_id
        """
    )
    return [Busy(*row) for row in found]


async def is_any_open(session: Transaction, workspaces: Collection[UUID]) -> bool:
    """Return whether one of these workspaces may write: 20 µs of the database's time for each."""
    return bool(
        await session.connection.fetchval(
            "select exists (select from unnest($1::uuid[]) w where ledger.is_open(w))",
            list(workspaces),
        )
    )


async def drop_outdated(
    session: Transaction, connection: UUID, units: Collection[ContactId]
) -> list[Wanted]:
    """Remove parked upserts of an old mapping whose newer full run has started.

    Contacts with an open unit are left: they are doubtful, and only a look settles them.
    """
    found = await session.connection.fetch(
        """
        delete from delivery.parked p
        where p.connection_id = $1 and p.operation = 'upsert'
          and (p.integration_id, p.source_id)
            not in (select * from unnest($2::uuid[], $3::text[]))
          and exists (select from sync.runs r where r.integration_id = p.integration_id
            and r.mode = 'full' and r.run_no > p.run_no and r.state in ('reading', 'read')
            and r.mapping_version > p.mapping_version)
        returning p.*
        """,
        connection,
        [contact.integration for contact in units],
        [contact.source_id for contact in units],
    )
    return [wanted_of(row) for row in found]


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
    """Return parked contacts whose cause may be gone, oldest first, in turn by integration.

    `due` are those of `due_shares`. Those of `holding` have a unit of an earlier try: its call may
    have happened, so they wait for nothing but their destination and integration, least of all for
    a quota that it is part of.
    """
    found = await _drainable(
        session,
        connection,
        importing=importing,
        holding=holding,
        is_open=is_open,
        is_blocked=is_blocked,
        gathers=gathers,
        due=due,
        order="place, first_at, source_id",
        limit=limit,
    )
    return [wanted_of(row) for row in found]


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
    """Return the contact that a blocked destination is tried with; it counts as tried from now on.

    Who was not tried yet, or longest ago, comes first: a block must not hang on one contact.
    """
    found = await _drainable(
        session,
        connection,
        importing=importing,
        holding=holding,
        is_open=is_open,
        is_blocked=False,
        gathers=gathers,
        due=due,
        order="tried_at nulls first, place, first_at, source_id",
        limit=1,
    )
    if not found:
        return None
    row = wanted_of(found[0])
    await session.connection.execute(
        "update delivery.parked set tried_at = clock_timestamp()"
        " where integration_id = $1 and source_id = $2",
        row.contact.integration,
        row.contact.source_id,
    )
    return row


async def _drainable(
    session: Transaction,
    connection: UUID,
    *,
    importing: Collection[ContactId],
    holding: Collection[ContactId],
    is_open: bool,
    is_blocked: bool,
    gathers: bool,
    due: Collection[ContactId],
    order: str,
    limit: int,
) -> "list[asyncpg.Record[Any]]":
    found = await session.connection.fetch(
        f"""
        select * from (
          select p.*, row_number() over (
            partition by p.integration_id order by p.first_at, p.source_id) as place
          from delivery.parked p
          left join config.integrations i using (integration_id)
          left join delivery.links l using (integration_id, source_id)
          where p.connection_id = $1 and (p.integration_id, p.source_id)
              not in (select * from unnest($2::uuid[], $3::text[]))
            and (coalesce(i.state, 'archived') = 'archived' or (i.state = 'active' and not $5
              and ((p.integration_id, p.source_id)
                in (select * from unnest($8::uuid[], $9::text[])) or case p.reason
                when 'quota' then $4
                when 'backlog' then not $7
                when 'email_change' then p.approved_identity = p.identity
                  or l.refused_identity = p.identity or l.identity is null
                  or l.identity = p.identity
                when 'duplicate_identity' then not exists (
                  select from delivery.links o where o.identity = p.identity
                    and o.integration_id is not distinct from p.integration_id
                    and o.state = 'linked' and o.source_id <> p.source_id)
                when 'sync_budget' then (p.integration_id, p.source_id)
                  in (select * from unnest($10::uuid[], $11::text[]))
                when 'contact_limit'
                  then greatest(p.last_at, p.tried_at) < clock_timestamp() - interval '1 hour'
                else true end)))) waiting
        order by {order} limit $6
        """,  # noqa: S608  # names of columns, not values
        connection,
        [contact.integration for contact in importing],
        [contact.source_id for contact in importing],
        is_open,
        is_blocked,
        limit,
        gathers,
        [contact.integration for contact in holding],
        [contact.source_id for contact in holding],
        [contact.integration for contact in due],
        [contact.source_id for contact in due],
    )
    return list(found)


# Shares of an external account in a sync (AC5)


# Who waits for a share of an account, oldest first over all its importers, as far as they go. Who
# could not be written for another reason keeps nobody waiting; at the destination $3 everybody
# counts, because a block ends with one of them only.
_IN_LINE = """
    select p.connection_id, p.integration_id, p.source_id
    from config.integrations i
    join config.connections s on s.connection_id = i.source_connection_id
    join config.connections c on c.connection_id = i.destination_connection_id
    join delivery.destinations d on d.connection_id = i.destination_connection_id
    cross join lateral (
      select p.connection_id, p.integration_id, p.source_id, p.first_at from delivery.parked p
      where p.integration_id = i.integration_id and p.reason = 'sync_budget'
      order by p.first_at, p.source_id limit $2) p
    where i.kind = 'automatic' and i.state = 'active' and c.state = 'connected'
      and s.provider || ':' || coalesce(s.account_id, s.connection_id::text) = $1
      and (d.block_reason is null or d.connection_id = $3) and ledger.is_open(i.workspace_id)
    order by p.first_at, p.source_id limit $2
    """


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
    """Take shares of an external account for these contacts, in their order; return who has one.

    What others wait for is kept for them, unless it is their own drain that asks.
    """
    in_line = (
        [] if is_drain else await session.connection.fetch(_IN_LINE, account, most, connection)
    )
    found = await session.connection.fetch(
        "select * from limits.take_shares($1, $2, $3, $4, $5, $6)",
        account,
        slot,
        most,
        len(in_line),
        [contact.integration for contact in contacts],
        [contact.source_id for contact in contacts],
    )
    return {ContactId(row["integration_id"], row["source_id"]) for row in found}


async def due_shares(
    session: Transaction, connection: UUID, *, slot: timedelta, most: int
) -> list[ContactId]:
    """Return who of those that wait at a destination may have one of the shares that are left."""
    accounts = await session.connection.fetch(
        """
        select distinct s.provider || ':' || coalesce(s.account_id, s.connection_id::text) as name
        from config.integrations i
        join config.connections s on s.connection_id = i.source_connection_id
        where i.destination_connection_id = $1 and i.kind = 'automatic' and i.state = 'active'
          and exists (select from delivery.parked p
                      where p.integration_id = i.integration_id and p.reason = 'sync_budget')
        """,
        connection,
    )
    found: list[ContactId] = []
    for account in accounts:
        left = await session.connection.fetchval(
            "select limits.shares_left($1, $2, $3)", account["name"], slot, most
        )
        rows = await session.connection.fetch(_IN_LINE, account["name"], left, connection)
        found += [
            ContactId(row["integration_id"], row["source_id"])
            for row in rows
            if row["connection_id"] == connection
        ]
    return found


# Fields that automatic imports want made (AC1)


@dataclass(frozen=True, slots=True)
class FieldWish:
    """A field of a source that an integration wants a place for."""

    integration: UUID
    wanted: WantedField


async def wanted_fields(
    session: Transaction, connection: UUID, *, again: timedelta
) -> list[FieldWish]:
    """Return which fields are to be made at a destination and were not tried just now."""
    found = await session.connection.fetch(
        """
        select w.integration_id, w.source, w.source_type, w.title, w.standard
        from delivery.wanted_fields w
        join config.integrations i using (integration_id)
        where w.connection_id = $1 and w.refused is null
          and i.kind = 'automatic' and i.state in ('active', 'error')
          and coalesce(w.tried_at < clock_timestamp() - $2::interval, true)
        order by w.integration_id, w.wanted_at, w.source
        """,
        connection,
        again,
    )
    return [
        FieldWish(
            row["integration_id"],
            WantedField(
                row["source"],
                FieldType(row["source_type"]),
                row["title"],
                Standard(row["standard"]),
            ),
        )
        for row in found
    ]


async def try_fields_later(session: Transaction, connection: UUID) -> None:
    """Leave the fields that are to be made at a destination alone for a while."""
    await session.connection.execute(
        "update delivery.wanted_fields set tried_at = clock_timestamp()"
        " where connection_id = $1 and refused is null",
        connection,
    )


async def refuse_field(session: Transaction, *, connection: UUID, title: str, reason: str) -> None:
    """Keep why a field is not made, until a person asks for it again."""
    await session.connection.execute(
        "update delivery.wanted_fields set refused = $3 where connection_id = $1 and title = $2",
        connection,
        title,
        reason,
    )


async def recover_fields(session: Transaction, *, integration: UUID) -> bool:
    """End the error of an integration that was for want of fields; False if there was none."""
    return bool(
        await session.connection.fetchval(
            "select config.report_integration(integration_id, null) from config.integrations"
            " where integration_id = $1 and error_reason = $2",
            integration,
            Trouble.FIELDS_NOT_MADE.value,
        )
    )


async def add_fields(
    session: Transaction, *, integration: UUID, fields: Sequence[Mapping[str, object]]
) -> int | None:
    """Add fields that were made to an integration's mapping, and have everything read by it.

    Returns the version in force; None if there is no such import any more.
    """
    version: int | None = await session.connection.fetchval(
        "select config.add_fields($1, $2::text::jsonb)",
        integration,
        msgspec.json.encode(fields).decode(),
    )
    await session.connection.execute(
        "delete from delivery.wanted_fields where integration_id = $1 and source = any ($2)",
        integration,
        [str(field["source"]) for field in fields],
    )
    return version


async def misconfigured_row(session: Transaction, connection: UUID) -> Wanted | None:
    """Return a contact of an integration in error that has waited long enough to be tried again.

    It counts as tried from now on, whatever comes of it. Another one is taken each time: it may be
    this contact alone that is refused. Who joins meanwhile puts nothing off.
    """
    found = await session.connection.fetchrow(
        """
        update delivery.parked p set tried_at = clock_timestamp()
        from (select p.integration_id, p.source_id from delivery.parked p
              join config.integrations i using (integration_id)
              where p.connection_id = $1 and p.reason = 'configuration' and i.state = 'error'
              and p.first_at < clock_timestamp() - $2::interval
              and not exists (select from delivery.parked n
                where n.integration_id = p.integration_id
                  and n.tried_at >= clock_timestamp() - $2::interval)
              order by p.tried_at nulls first, p.first_at, p.source_id limit 1) chosen
        where p.integration_id = chosen.integration_id and p.source_id = chosen.source_id
        returning p.*
        """,
        connection,
        MISCONFIGURED_AGAIN,
    )
    return wanted_of(found) if found is not None else None


async def has_parked(session: Transaction, connection: UUID) -> bool:
    """Return whether anybody waits at a destination."""
    found = await session.connection.fetchval(
        "select exists (select from delivery.parked where connection_id = $1)", connection
    )
    return bool(found)


@dataclass(frozen=True, slots=True)
class Backlog:
    """Contacts that wait for their turn: how many, since when none has come, and the longest."""

    waiting: int
    rest_s: float
    longest_s: float


async def backlog_of(session: Transaction, connection: UUID) -> Backlog:
    """Return who waits for their turn at a destination."""
    found = await session.connection.fetchrow(
        """
        select count(*),
          coalesce(extract(epoch from clock_timestamp() - max(last_at)), 0)::float8,
          coalesce(extract(epoch from clock_timestamp() - min(first_at)), 0)::float8
        from delivery.parked where connection_id = $1 and reason = 'backlog'
        """,
        connection,
    )
    assert found is not None
    return Backlog(*found.values())


async def count_parked(session: Transaction) -> dict[str, int]:
    """Return how many contacts wait, by reason."""
    found = await session.connection.fetch(
        "select reason, count(*) as waiting from delivery.parked group by reason"
    )
    return {row["reason"]: row["waiting"] for row in found}
