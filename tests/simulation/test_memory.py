"""The stores in memory are held to what the statements do on PostgreSQL: one suite, run on both."""

import dataclasses
import inspect
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from types import ModuleType
from typing import Any, ClassVar, Protocol
from uuid import UUID, uuid4

import pytest
from msgspec.structs import replace

import services.mapper.store
import services.poller.store
import services.writer.store
from libs.common import ids, ledger
from libs.common.clock import SystemClock
from libs.common.database import SessionMaker
from libs.common.errors import LeaseLostError
from libs.common.events import Identity, Operation, RunMode, Settled, Topic
from libs.common.ledger import Posting
from libs.common.postgres import Transactions, create_pool
from libs.common.reasons import Park
from libs.connectors.automatic import Standard, WantedField
from libs.connectors.contract import FieldType, Write
from services.poller.plan import Assignment, Roll, begin, run_id
from services.writer.conclude import Changes, Moved, Row
from services.writer.rows import Rows
from services.writer.store import Around, Ending, Reservation, Standing
from services.writer.values import (
    ContactId,
    Head,
    ImportRow,
    IntegrationState,
    Link,
    LinkState,
    PartId,
    Place,
    SeenLink,
    Task,
    Version,
    Wanted,
    Wish,
    digest,
)
from tests.services.writer.world import LIST, World, make_world
from tests.simulation.memory import ledger as memory_ledger
from tests.simulation.memory import poller as memory_poller
from tests.simulation.memory import writer as memory_writer
from tests.simulation.memory.database import (
    Connection,
    Database,
    Integration,
    RunRow,
    Schedule,
    change,
    later,
)
from tests.simulation.memory.swap import STORES, statements

HOUR = timedelta(hours=1)
OWNER, OTHER = uuid4(), uuid4()


class Calm:
    """A caller that nothing happens to."""

    async def step(self, what: str) -> None:
        return

    def loses_connection(self) -> bool:
        return False


class Stores(Protocol):
    """A workspace with an integration, and the functions that ask the database about it."""

    writer: ClassVar[ModuleType]
    poller: ClassVar[ModuleType]
    ledger: ClassVar[ModuleType]
    workspace: UUID
    source: UUID
    destination: UUID
    integration: UUID

    def begin(self, role: str = "writer") -> AbstractAsyncContextManager[Any]:
        """Open a transaction of a service."""

    def transactions(self) -> Transactions:
        """Return what opens the poller's transactions."""

    async def configure(self, state: str) -> None:
        """Change the integration's state."""

    async def make_automatic(self) -> None:
        """Make the integration an automatic import."""

    async def limit(self, units: int) -> None:
        """Set the workspace's quota."""

    async def begin_run(self, run_no: int, *, mode: str = "changes", version: int = 1) -> None:
        """Put a run there."""

    async def schedule(self) -> None:
        """Make the integration due for the first time."""


@dataclass
class InMemory:
    """The stores in memory."""

    writer: ClassVar[ModuleType] = memory_writer
    poller: ClassVar[ModuleType] = memory_poller
    ledger: ClassVar[ModuleType] = memory_ledger
    database: Database = field(default_factory=lambda: Database(SystemClock()))
    workspace: UUID = field(default_factory=uuid4)
    source: UUID = field(default_factory=uuid4)
    destination: UUID = field(default_factory=uuid4)
    integration: UUID = field(default_factory=uuid4)

    def __post_init__(self) -> None:
        tables = self.database.tables
        for connection, provider in ((self.source, "hubspot"), (self.destination, "fake")):
            tables.connections[connection] = Connection(
                connection=connection, workspace=self.workspace, provider=provider
            )
        tables.integrations[self.integration] = Integration(
            integration=self.integration,
            workspace=self.workspace,
            source=self.source,
            destination=self.destination,
            source_list_id=None,
            list_id=LIST,
        )

    def begin(self, role: str = "writer") -> AbstractAsyncContextManager[Any]:
        return self.transactions().begin()

    def transactions(self) -> Transactions:
        return self.database.transactions(Calm())

    async def configure(self, state: str) -> None:
        rows = self.database.tables.integrations
        rows[self.integration] = change(rows[self.integration], state=IntegrationState(state))

    async def make_automatic(self) -> None:
        rows = self.database.tables.integrations
        rows[self.integration] = change(rows[self.integration], kind="automatic")

    async def limit(self, units: int) -> None:
        async with self.begin() as session:
            await memory_ledger.set_limit(session, workspace=self.workspace, limit=units)

    async def begin_run(self, run_no: int, *, mode: str = "changes", version: int = 1) -> None:
        self.database.tables.runs[ids.run_id(self.integration, run_no)] = RunRow(
            integration=self.integration,
            workspace=self.workspace,
            run_no=run_no,
            mode=RunMode(mode),
            mapping_version=version,
            fencing=1,
        )

    async def schedule(self) -> None:
        tables = self.database.tables
        tables.mappings[self.integration, 1] = services.mapper.store.StoredMapping("[]", None)
        tables.schedules[self.integration] = Schedule(
            workspace=self.workspace, provider="hubspot", next_due_at=later(self.database.now(), -1)
        )


class OnPostgres:
    """The stores of production; everything else is the writer's world."""

    writer: ClassVar[ModuleType] = services.writer.store
    poller: ClassVar[ModuleType] = services.poller.store
    ledger: ClassVar[ModuleType] = ledger

    def __init__(self, world: World, poller: Transactions) -> None:
        self.world = world
        self._poller = poller
        self.workspace = self.world.workspace
        self.source = self.world.source
        self.destination = self.world.destination
        self.integration = self.world.integration

    def begin(self, role: str = "writer") -> AbstractAsyncContextManager[Any]:
        return (self._poller if role == "poller" else self.world.sessions).begin()

    def transactions(self) -> Transactions:
        return self._poller

    async def configure(self, state: str) -> None:
        await self.world.configure(state=state)

    async def make_automatic(self) -> None:
        await self.world.configure(kind="automatic")

    async def limit(self, units: int) -> None:
        await self.world.limit(units)

    async def begin_run(self, run_no: int, *, mode: str = "changes", version: int = 1) -> None:
        await self.world.begin_run(run_no, mode=mode, mapping_version=version)

    async def schedule(self) -> None:
        await self.world.execute(
            "insert into config.field_mappings (integration_id, version, workspace_id, fields,"
            " created_by) values (:i, 1, :w, '[]', 'test')",
            i=self.integration,
            w=self.workspace,
        )
        await self.world.execute("update config.integrations set source_object = 'contacts'")
        await self.world.execute(
            "insert into sync.schedules (integration_id, workspace_id, provider, interval_minutes,"
            " next_due_at) values (:i, :w, 'hubspot', 30, now() - interval '1 s')",
            i=self.integration,
            w=self.workspace,
        )


@pytest.fixture
async def on_postgresql(
    sessions: SessionMaker, role_url: Callable[[str], str]
) -> AsyncIterator[Stores]:
    world = await make_world(sessions, role_url("writer"))
    pool = create_pool(role_url("poller"), size_max=2, application_name="poller")
    yield OnPostgres(world, Transactions(pool))
    await world.pool.close()
    await pool.close()


@pytest.fixture(params=["in_memory", "on_postgresql"])
def stores(request: pytest.FixtureRequest) -> Stores:
    """Return a workspace on each of the two."""
    found: Stores = (
        InMemory() if request.param == "in_memory" else request.getfixturevalue("on_postgresql")
    )
    return found


@pytest.mark.parametrize(("module", "memory"), STORES, ids=lambda each: each.__name__)
def test_every_function_that_asks_the_database_has_its_like_in_memory(
    module: ModuleType, memory: ModuleType
) -> None:
    for name in statements(module):
        assert str(inspect.signature(getattr(module, name))) == str(
            inspect.signature(getattr(memory, name))
        ), name


def wanted(stores: Stores, source_id: str, email: str | None = None, *, ms: int = 1) -> Wanted:
    run = ids.run_id(stores.integration, 1)
    return Wanted(
        contact=ContactId(stores.integration, source_id),
        wish=Wish.UPSERT,
        version=Version(ms, 1),
        part=PartId(stores.integration, run, 1, 1, 1),
        mapping_version=1,
        identity=Identity(email=email or f"{source_id}@example.com"),
        hash=b"h",
    )


def linked(item: Wanted, state: LinkState = LinkState.LINKED) -> Link:
    return Link(item.contact, state, item.version, item.wish, identity=item.identity, hash=b"h")


async def own(stores: Stores) -> int:
    """Take the destination's lease, which makes its row."""
    async with stores.begin() as session:
        granted = await stores.writer.acquire_lease(
            session,
            connection=stores.destination,
            workspace=stores.workspace,
            owner=OWNER,
            ttl=HOUR,
        )
    assert granted is not None
    return int(granted.fencing)


async def apply(stores: Stores, changes: Changes) -> None:
    async with stores.begin() as session:
        await stores.writer.apply(session, stores.destination, stores.workspace, changes)


async def park(stores: Stores, *rows: tuple[Wanted, str, str | None]) -> None:
    parks = {item.contact: Row(item, reason, approved) for item, reason, approved in rows}
    await apply(stores, Changes(parks=parks))


async def drained(stores: Stores, **given: object) -> list[str]:
    """Return whose parked rows may go."""
    standing = {
        "importing": (),
        "holding": (),
        "is_open": True,
        "is_blocked": False,
        "gathers": False,
        "due": (),
        "limit": 10,
        **given,
    }
    async with stores.begin() as session:
        found = await stores.writer.drainable(session, stores.destination, **standing)
    return [item.contact.source_id for item in found]


async def test_a_lease_is_had_by_one_and_its_token_counts_up(stores: Stores) -> None:
    first = await own(stores)
    async with stores.begin() as session:
        lease = {"connection": stores.destination, "workspace": stores.workspace}
        other = await stores.writer.acquire_lease(session, **lease, owner=OTHER, ttl=HOUR)
        again = await stores.writer.acquire_lease(session, **lease, owner=OWNER, ttl=-HOUR)
    async with stores.begin() as session:
        taken = await stores.writer.acquire_lease(session, **lease, owner=OTHER, ttl=HOUR)
        with pytest.raises(LeaseLostError):
            await stores.writer.keep_lease(
                session, connection=stores.destination, fencing=again.fencing
            )

    assert (first, other, again.fencing, taken.fencing) == (1, None, 2, 3)
    assert taken.lapsed_s == pytest.approx(3600, abs=30)


async def test_a_step_is_new_once_and_only_with_the_token(stores: Stores) -> None:
    fencing, step = await own(stores), uuid4()
    lease = {"connection": stores.destination, "fencing": fencing}
    seen = []
    for _ in range(2):
        async with stores.begin() as session:
            seen.append(await stores.writer.begin_step(session, **lease, step=step))

    with pytest.raises(LeaseLostError):
        async with stores.begin() as session:
            await stores.writer.begin_step(
                session, connection=stores.destination, fencing=fencing + 1, step=uuid4()
            )

    assert seen == [True, False]


async def test_a_row_is_dropped_in_its_own_version_only(stores: Stores) -> None:
    old, new = wanted(stores, "a", ms=1), wanted(stores, "a", ms=2)
    await park(stores, (new, Park.QUOTA, None))
    await apply(stores, Changes(drops={old.contact: old.version}))
    kept = await drained(stores)
    await apply(stores, Changes(drops={new.contact: new.version}))

    assert (kept, await drained(stores)) == (["a"], [])


async def test_what_may_go_is_decided_by_its_reason(stores: Stores) -> None:
    a, b, c = (wanted(stores, each) for each in "abc")
    moved = wanted(stores, "d", "new@example.com")
    taken = wanted(stores, "e", "d@example.com")
    await apply(stores, Changes(links={moved.contact: linked(wanted(stores, "d"))}))
    await park(
        stores,
        (a, Park.QUOTA, None),
        (b, Park.BACKLOG, None),
        (c, Park.DESTINATION_DOWN, None),
        (moved, Park.EMAIL_CHANGE, None),
        (taken, Park.DUPLICATE_IDENTITY, None),
    )

    assert await drained(stores) == ["a", "b", "c"]
    assert await drained(stores, is_open=False, gathers=True) == ["c"]
    holding = [a.contact, taken.contact]  # They have a unit of an earlier try.
    assert await drained(stores, holding=holding, is_open=False, gathers=True) == ["a", "c", "e"]
    assert await drained(stores, holding=holding, is_blocked=True) == []
    assert await drained(stores, importing=[c.contact], limit=1) == ["a"]
    assert await drained(stores, is_blocked=True) == []
    async with stores.begin() as session:
        changes = await stores.writer.changed_addresses(
            session, integration=stores.integration, run_no=1
        )
        await stores.writer.approve(session, stores.integration, changes)
    assert changes == [("d", "new@example.com")]
    assert await drained(stores) == ["a", "b", "c", "d"]
    await stores.configure("paused")
    assert await drained(stores) == []


async def test_a_refused_address_is_no_change_any_more(stores: Stores) -> None:
    moved = wanted(stores, "a", "new@example.com")
    await apply(stores, Changes(links={moved.contact: linked(wanted(stores, "a"))}))
    await park(stores, (moved, Park.EMAIL_CHANGE, None))
    async with stores.begin() as session:
        await stores.writer.refuse(session, stores.integration, [("a", "new@example.com")])
        changes = await stores.writer.changed_addresses(
            session, integration=stores.integration, run_no=1
        )

    assert changes == []
    assert await drained(stores) == ["a"]


async def test_another_contact_is_tried_each_time(stores: Stores) -> None:
    await park(
        stores, *[(wanted(stores, each), Park.DESTINATION_DOWN, None) for each in ("a", "b")]
    )
    tried = []
    for _ in range(3):
        async with stores.begin() as session:
            row = await stores.writer.probe_row(
                session,
                stores.destination,
                importing=(),
                holding=(),
                is_open=True,
                gathers=False,
                due=(),
            )
            tried.append(row.contact.source_id)

    assert tried == ["a", "b", "a"]


async def test_an_address_is_one_linked_contacts_and_a_tombstone_lets_it_go(
    stores: Stores,
) -> None:
    old, new = wanted(stores, "a"), wanted(stores, "b", "a@example.com")
    await apply(stores, Changes(links={old.contact: linked(old, LinkState.REMOVED)}))
    await apply(stores, Changes(links={new.contact: linked(new)}))
    place = Place(stores.integration, "a@example.com")
    async with stores.begin() as session:
        owners = await stores.writer.owners(session, [place])
        links = await stores.writer.links(session, [old.contact, new.contact])

    assert owners == {place: "b"}
    assert links[old.contact] == replace(linked(old, LinkState.REMOVED), identity=Identity())
    assert links[new.contact] == linked(new)
    third = wanted(stores, "c", "a@example.com")
    with pytest.raises(Exception, match=r"(?i)unique"):
        await apply(stores, Changes(links={third.contact: linked(third)}))


async def test_a_glance_shows_what_tells_the_usual_cases(stores: Stores) -> None:
    items = {each: wanted(stores, each) for each in "abcde"}
    links = {items[each].contact: linked(items[each]) for each in "abc"}
    links[items["b"].contact] = replace(links[items["b"].contact], refused="x@example.com")
    links[items["c"].contact] = linked(items["c"], LinkState.REMOVED)
    await apply(stores, Changes(links=links))
    await park(stores, (items["d"], "quota", None))
    merged = replace(items["e"], merged_from=("z",))
    await park(stores, (merged, "quota", None))
    addresses = {each: f"{each}@example.com" for each in "abcde"} | {"f": "a@example.com", "g": ""}
    async with stores.begin() as session:
        seen = await stores.writer.glance(session, stores.integration, addresses)

    version = items["a"].version
    assert seen.links == {
        each: SeenLink(version.ms, version.run_no, items[each].hash or None, each == "a")
        for each in "abc"
    }
    assert seen.parked == {"d": False, "e": True}
    # One on behalf of f, who has no link; one of c's, who may be back for it.
    assert set(seen.owned) == {"a@example.com", "c@example.com"}


async def test_a_glance_tells_many_apart(stores: Stores) -> None:
    hashes = {"a": b"a" * 16, "b": b"b" * 16, "c": b"", "d": b"d", "e": b"e" * 16, "f": b"f" * 16}
    found = {
        each: replace(
            linked(wanted(stores, each)), hash=hash_, version=Version(number, number // 2)
        )
        for number, (each, hash_) in enumerate(hashes.items())
    }
    found["f"] = replace(found["f"], needs_recheck=True)
    await apply(stores, Changes(links={link.contact: link for link in found.values()}))
    async with stores.begin() as session:
        seen = await stores.writer.glance(session, stores.integration, dict.fromkeys(hashes, ""))

    assert seen.links == {
        each: SeenLink(link.version.ms, link.version.run_no, link.hash or None, each != "f")
        for each, link in found.items()
    }


async def test_unchanged_contacts_of_many_records_move_each_to_its_version(stores: Stores) -> None:
    items = [wanted(stores, each) for each in "abcd"]
    await apply(stores, Changes(links={item.contact: linked(item) for item in items}))
    moved = [
        Moved(stores.integration, 4, ["a"], [9]),
        Moved(stores.integration, 5, ["b"], [8]),
        Moved(stores.integration, 4, ["d", "c"], [7, 6]),
    ]
    await apply(stores, Changes(moved=moved))
    async with stores.begin() as session:
        found = await stores.writer.links(session, [item.contact for item in items])

    versions = (Version(9, 4), Version(8, 5), Version(6, 4), Version(7, 4))
    assert [found[item.contact].version for item in items] == list(versions)


async def test_links_move_and_new_contacts_are_linked_by_columns(stores: Stores) -> None:
    old, gone, new = wanted(stores, "a"), wanted(stores, "b", "c@example.com"), wanted(stores, "c")
    links = {old.contact: linked(old), gone.contact: linked(gone, LinkState.REMOVED)}
    await apply(stores, Changes(links=links))
    head = Head(new.part, 1, LIST)
    write = Write(Operation.UPSERT, new.identity, b"{}", LIST, join_list=True)
    place = Place(stores.integration, "c@example.com")
    row = ImportRow(new.contact, place, head, write, 7, b"h" * 16, b"k" * 16)
    moved = Moved(stores.integration, 4, ["a"], [9])
    await apply(stores, Changes(moved=[moved], firsts=Rows.of([row])))
    async with stores.begin() as session:
        found = await stores.writer.links(session, [*links, new.contact])

    assert found[old.contact] == replace(linked(old), version=Version(9, 4))
    assert found[gone.contact].identity == Identity()  # The newcomer is linked by its address.
    assert found[new.contact] == Link(
        new.contact,
        LinkState.LINKED,
        row.version,
        Wish.UPSERT,
        identity=new.identity,
        hash=b"h" * 16,
        content_hash=digest(b"{}"),
    )


def import_row(stores: Stores) -> ImportRow:
    item = wanted(stores, "a")
    write = Write(Operation.UPSERT, item.identity, b'{"CITY":"K\xc3\xb6ln"}', LIST, join_list=True)
    place = Place(stores.integration, "a@example.com")
    return ImportRow(
        item.contact, place, Head(item.part, 3, LIST, is_late=True), write, 7, b"h", b"k", True
    )


def task_of(stores: Stores, source_id: str) -> Task:
    return replace(import_row(stores).task, source_id=source_id)


async def test_rows_of_an_import_are_read_as_they_were_written(stores: Stores) -> None:
    fencing, intent, hold = await own(stores), uuid4(), uuid4()
    row = import_row(stores)
    async with stores.begin() as session:
        await stores.writer.insert_intent(
            session,
            intent=intent,
            connection=stores.destination,
            workspace=stores.workspace,
            hold=hold,
            fencing=fencing,
            rows=Rows.of([row]),
        )
    async with stores.begin() as session:
        (stored,) = await stores.writer.open_intents(session, stores.destination)

    assert (stored.intent, stored.hold, stored.state) == (intent, hold, "open")
    assert list(stored.rows) == [row]
    assert not stored.tasks


async def test_an_import_runs_once_and_only_with_the_token(stores: Stores) -> None:
    """Proves R11: who lost the lease changes nothing, and is told so."""
    fencing, intent = await own(stores), uuid4()
    lease = {"connection": stores.destination, "fencing": fencing}
    async with stores.begin() as session:
        await stores.writer.insert_intent(
            session, intent=intent, workspace=stores.workspace, hold=uuid4(), **lease
        )

    async def run(process_id: str, **other: object) -> tuple[str, str | None]:
        given = {**lease, "intent": intent, "process_id": process_id, **other}
        async with stores.begin() as session:
            await stores.writer.run_import(session, **given)
        async with stores.begin() as session:
            (found,) = await stores.writer.open_intents(session, stores.destination)
        return found.state, found.process_id

    assert await run("1") == ("open", None)  # It was not about to be sent.
    async with stores.begin() as session:
        await stores.writer.begin_import(session, intent=intent)
    with pytest.raises(LeaseLostError):
        await run("2", fencing=fencing + 1)
    assert await run("3") == ("running", "3")
    assert await run("4") == ("running", "3")
    async with stores.begin() as session:
        await stores.writer.release_lease(session, owner=OWNER, **lease)
    with pytest.raises(LeaseLostError):
        await run("5")


async def test_how_a_destination_stands_is_one_answer(stores: Stores) -> None:
    await own(stores)
    asked = {"connection": stores.destination, "workspace": stores.workspace}
    async with stores.begin() as session:
        quiet = await stores.writer.standing_of(session, **asked)
        connection = await stores.writer.connection_of(session, stores.destination)
    await stores.limit(0)
    await park(stores, (wanted(stores, "a"), "quota", None))
    async with stores.begin() as session:
        await stores.writer.block(
            session, connection=stores.destination, reason="destination_down", seconds=60.0
        )
        shut = await stores.writer.standing_of(session, **asked)
        unknown = await stores.writer.standing_of(session, **{**asked, "connection": uuid4()})

    assert quiet == Standing(
        connection, None, is_open=True, has_parked=False, has_marks=False, has_wishes=False
    )
    assert connection is not None
    assert shut.block is not None
    assert (shut.block.reason, shut.block.attempts) == ("destination_down", 1)
    assert shut.block.wait_s == pytest.approx(60, abs=10)
    assert (shut.connection, shut.is_open, shut.has_parked) == (connection, False, True)
    assert unknown == Standing(
        None, None, is_open=False, has_parked=False, has_marks=False, has_wishes=False
    )


def rows_of(items: Iterable[Wanted]) -> Rows:
    """Return rows of an import for these contacts."""
    return Rows.of(
        ImportRow(
            item.contact,
            Place(item.contact.integration, item.identity.email or ""),
            Head(item.part, 1, LIST),
            Write(Operation.UPSERT, item.identity, b"{}", LIST, join_list=True),
            item.version.ms,
            b"h" * 16,
            b"k" * 16,
        )
        for item in items
    )


async def test_who_is_linked_or_waits_is_known(stores: Stores) -> None:
    items = {each: wanted(stores, each) for each in "abc"}
    linked_one, parked_one, _ = items.values()
    await apply(stores, Changes(links={linked_one.contact: linked(linked_one)}))
    await park(stores, (parked_one, "quota", None))
    async with stores.begin() as session:
        found = await stores.writer.known(session, rows_of(items.values()))

    assert found == {linked_one.contact, parked_one.contact}


async def test_the_end_of_an_import_begins_once_and_with_who_is_known(stores: Stores) -> None:
    """Proves R11: it is a step of whoever has the token."""
    fencing, step = await own(stores), uuid4()
    items = {each: wanted(stores, each) for each in "abc"}
    linked_one, parked_one, _ = items.values()
    await apply(stores, Changes(links={linked_one.contact: linked(linked_one)}))
    await park(stores, (parked_one, "quota", None))

    async def begin(fencing: int, step: UUID, rows: Iterable[Wanted]) -> Ending:
        given = {"connection": stores.destination, "fencing": fencing, "step": step}
        async with stores.begin() as session:
            begun: Ending = await stores.writer.begin_end(session, rows=rows_of(rows), **given)
            return begun

    known = {linked_one.contact, parked_one.contact}
    assert await begin(fencing, step, items.values()) == Ending(True, known, has_two_way=False)
    assert await begin(fencing, step, items.values()) == Ending(False, known, has_two_way=False)
    assert await begin(fencing, uuid4(), [items["c"]]) == Ending(True, set(), has_two_way=False)
    with pytest.raises(LeaseLostError):
        await begin(fencing + 1, uuid4(), items.values())


async def test_an_import_that_brought_first_links_ends_at_once(stores: Stores) -> None:
    fencing, intent = await own(stores), uuid4()
    gone, new, other = (
        wanted(stores, "b", "c@example.com"),
        wanted(stores, "c"),
        wanted(stores, "d"),
    )
    await apply(stores, Changes(links={gone.contact: linked(gone, LinkState.REMOVED)}))
    rows = rows_of([new, other])
    async with stores.begin() as session:
        await stores.writer.insert_intent(
            session,
            intent=intent,
            connection=stores.destination,
            workspace=stores.workspace,
            hold=uuid4(),
            fencing=fencing,
            rows=rows,
        )
    async with stores.begin() as session:
        await stores.writer.link_firsts(
            session,
            workspace=stores.workspace,
            intent=intent,
            firsts=rows,
            topic=Topic.CONTACTS_SETTLED,
            events=[("key", settled_of(stores))],
        )
    async with stores.begin() as session:
        assert await stores.writer.open_intents(session, stores.destination) == []
        ended = await stores.writer.links(session, [gone.contact, new.contact, other.contact])

    assert ended[gone.contact].identity == Identity()  # The newcomer is linked by its address.
    for item in (new, other):
        link = linked(item)
        assert ended[item.contact] == replace(link, hash=b"h" * 16, content_hash=digest(b"{}"))


async def test_a_batch_of_the_usual_is_stored_once_and_only_with_the_token(stores: Stores) -> None:
    """Proves R11: who lost the lease stores nothing, and is told so."""
    fencing, step, intent = await own(stores), uuid4(), uuid4()
    lease = {"connection": stores.destination, "fencing": fencing}
    item = wanted(stores, "a")
    await apply(stores, Changes(links={item.contact: linked(item)}))
    async with stores.begin() as session:
        await stores.writer.insert_intent(
            session, intent=intent, workspace=stores.workspace, hold=uuid4(), **lease
        )

    async def settle(ms: int, **other: object) -> tuple[Version, str, int]:
        told = settled_of(stores)
        given = {**lease, "step": step, "import_": intent, "told": [(uuid4(), told)], **other}
        moved = [Moved(stores.integration, 4, ["a"], [ms])]
        async with stores.begin() as session:
            await stores.writer.settle(session, moved=moved, **given)
        async with stores.begin() as session:
            link = (await stores.writer.links(session, [item.contact]))[item.contact]
            (found,) = await stores.writer.open_intents(session, stores.destination)
            _, known = await stores.writer.told(session, records=[], settled=[told.id])
        return link.version, found.state, len(known)

    with pytest.raises(LeaseLostError):
        await settle(6, fencing=fencing + 1)
    assert await settle(7) == (Version(7, 4), "sending", 1)
    assert await settle(8) == (Version(7, 4), "sending", 0)  # The same step.
    again = uuid4()
    assert await settle(9, step=again, import_=None) == (Version(9, 4), "sending", 1)
    async with stores.begin() as session:
        await stores.writer.settle(
            session,
            **lease,
            step=uuid4(),
            import_=None,
            moved=[],
            told=[(uuid4(), settled_of(stores))],
        )
        await stores.writer.release_lease(session, owner=OWNER, **lease)
    with pytest.raises(LeaseLostError):
        await settle(10, step=uuid4())


async def test_what_is_around_a_turn_is_one_answer(stores: Stores) -> None:
    await own(stores)
    await stores.begin_run(1)
    integrations, runs = {stores.integration}, {ids.run_id(stores.integration, 1)}
    asked = {"connection": stores.destination, "workspace": stores.workspace}
    async with stores.begin() as session:
        around = await stores.writer.around(
            session, integrations={*integrations, uuid4()}, runs={*runs, uuid4()}, **asked
        )
        standing = await stores.writer.standing_of(session, **asked)
        known = await stores.writer.integrations(session, integrations)
        of_runs = await stores.writer.runs(session, runs)
        nothing = await stores.writer.around(
            session, connection=uuid4(), workspace=stores.workspace, integrations=[], runs=[]
        )

    assert around == Around(standing.connection, standing.block, standing.is_open, known, of_runs)
    assert (set(around.integrations), set(around.runs)) == (integrations, runs)
    assert nothing == Around(None, None, standing.is_open, {}, {})


async def test_marks_make_links_doubtful_once(stores: Stores) -> None:
    await own(stores)
    item = wanted(stores, "a")
    await apply(stores, Changes(links={item.contact: linked(item)}))
    async with stores.begin() as session:
        marks = {"connection": stores.destination, "contacts": [item.contact]}
        await stores.writer.mark_rechecks(session, **marks)
        busy = await stores.writer.busy_destinations(session)
        first = await stores.writer.take_rechecks(session, connection=stores.destination)
        again = await stores.writer.take_rechecks(session, connection=stores.destination)
        links = await stores.writer.links(session, [item.contact])

    assert (first, again) == ([item.contact], [])
    assert [each.connection for each in busy] == [stores.destination]
    assert links[item.contact].needs_recheck


async def test_who_waits_for_the_quota_alone_is_stopped_until_there_is_some(
    stores: Stores,
) -> None:
    """Proves Q3: the ledger says so; where others wait for something else, it is looked at."""
    await own(stores)
    await stores.limit(0)
    seen: list[tuple[list[tuple[bool, bool]], bool]] = []

    async def look() -> None:
        async with stores.begin() as session:
            busy = await stores.writer.busy_destinations(session)
            is_open = await stores.writer.is_any_open(session, [stores.workspace])
        seen.append(([(each.lacks_quota, each.is_stopped) for each in busy], is_open))

    await look()
    await park(stores, (wanted(stores, "m"), Park.QUOTA, None))
    await look()
    for reason in (Park.BACKLOG, Park.RATE_LIMITED):  # On both sides of it, by the alphabet.
        await park(stores, (wanted(stores, "n"), reason, None))
        await look()
        await apply(stores, Changes(drops={wanted(stores, "n").contact: Version(1, 1)}))
    await stores.configure("archived")
    await look()
    await stores.configure("active")
    await stores.limit(5)
    await look()

    assert seen == [
        ([], False),
        ([(True, True)], False),
        ([(True, False)], False),
        ([(True, False)], False),
        ([(True, False)], False),
        ([(False, False)], True),
    ]


async def test_who_waited_for_the_quota_goes_before_what_is_read_anew(stores: Stores) -> None:
    """Proves Q5."""
    await stores.schedule()
    await park(stores, (wanted(stores, "a"), Park.QUOTA, None))
    while_it_waits = await claim(stores)
    await park(stores, (wanted(stores, "a"), Park.DESTINATION_DOWN, None))
    afterwards = await claim(stores)

    assert while_it_waits is None
    assert afterwards is not None


async def test_a_run_is_outdated_by_a_newer_full_run_of_a_newer_mapping(stores: Stores) -> None:
    await stores.begin_run(1)
    await stores.begin_run(2, mode="full", version=1)
    await park(stores, (wanted(stores, "a"), Park.QUOTA, None))
    run = ids.run_id(stores.integration, 1)

    async def look() -> tuple[bool, list[str]]:
        asked = {"connection": stores.destination, "workspace": stores.workspace}
        async with stores.begin() as session:
            known = (await stores.writer.runs(session, {run}))[run]
            around = await stores.writer.around(session, integrations=[], runs=[run], **asked)
            assert around.runs == {run: known}
            dropped = await stores.writer.drop_outdated(session, stores.destination, [])
            return known.is_outdated, [item.contact.source_id for item in dropped]

    before = await look()
    await stores.begin_run(3, mode="full", version=2)

    assert (before, await look()) == ((False, []), (True, ["a"]))


async def test_a_decision_is_stored_once(stores: Stores) -> None:
    await stores.begin_run(1)
    decided = []
    for word in (b'{"approved": {"a": "1"}}', b"{}"):
        async with stores.begin() as session:
            decided.append(
                await stores.writer.decide_email_changes(
                    session, run=ids.run_id(stores.integration, 1), decision=word
                )
            )

    assert decided[0] == decided[1]


def settled_of(stores: Stores) -> Settled:
    """Return what is told of some part."""
    return Settled(
        id=uuid4(),
        workspace=stores.workspace,
        integration=stores.integration,
        run=uuid4(),
        run_no=1,
        page=1,
        part=1,
        created=["a"],
    )


async def test_an_outcome_is_told_again_as_it_was(stores: Stores) -> None:
    record, settled = uuid4(), settled_of(stores)
    other = Settled(**{**{f: getattr(settled, f) for f in settled.__struct_fields__}, "page": 2})
    for each in (settled, other):
        async with stores.begin() as session:
            await stores.writer.store_outcomes(session, [(record, each)])
    async with stores.begin() as session:
        found = await stores.writer.told(session, records=[record], settled=[settled.id, uuid4()])
        assert found == ({record: settled}, {settled.id})


async def test_units_are_held_within_the_limit_posted_once_and_given_back(stores: Stores) -> None:
    await stores.limit(3)
    first, second = uuid4(), uuid4()
    posting = Posting(b"k" * 16, stores.integration, "a", uuid4(), "upsert")

    async def hold(hold_id: UUID, units: int) -> int:
        async with stores.begin() as session:
            granted: int = await stores.ledger.hold(
                session, workspace=stores.workspace, hold_id=hold_id, wanted=units
            )
            return granted

    assert [await hold(first, 2), await hold(first, 9), await hold(second, 2)] == [2, 2, 1]
    for hold_id, new in ((first, 1), (first, 0), (second, 0), (second, 0)):
        async with stores.begin() as session:
            assert await stores.ledger.post(session, hold_id=hold_id, postings=[posting]) == new
    async with stores.begin() as session:
        assert await stores.ledger.is_open(session, workspace=stores.workspace)
        await stores.ledger.release(session, hold_id=first, units=1)
    with pytest.raises(Exception, match=r"open units"):
        async with stores.begin() as session:
            await stores.ledger.release(session, hold_id=first, units=1)
    assert await hold(uuid4(), 9) == 2
    async with stores.begin() as session:
        assert not await stores.ledger.is_open(session, workspace=stores.workspace)


async def test_postings_by_columns_are_those_that_are_posted_one_by_one(stores: Stores) -> None:
    await stores.limit(9)
    hold_id, first, second = uuid4(), uuid4(), uuid4()
    runs = {"a": first, "b": first, "c": second}
    postings = [
        Posting(each.encode() * 16, stores.integration, each, run, "upsert")
        for each, run in runs.items()
    ]
    alike = [(stores.integration, first, "upsert", 2), (stores.integration, second, "upsert", 1)]
    async with stores.begin() as session:
        await stores.ledger.hold(session, workspace=stores.workspace, hold_id=hold_id, wanted=4)
    for keys, names, in_common, new in (
        ([postings[0].effect_key], ["a"], [(*alike[0][:3], 1)], 1),
        ([each.effect_key for each in postings], runs, alike, 2),
    ):
        async with stores.begin() as session:
            given = {"effect_keys": keys, "source_ids": names, "in_common": in_common}
            assert await stores.ledger.post_columns(session, hold_id=hold_id, **given) == new
    async with stores.begin() as session:
        assert await stores.ledger.post(session, hold_id=hold_id, postings=postings) == 0
        await stores.ledger.release(session, hold_id=hold_id, units=1)


async def test_a_reservation_is_whole_or_nothing_and_the_same_when_asked_again(
    stores: Stores,
) -> None:
    fencing, row = await own(stores), import_row(stores)
    await stores.limit(3)

    async def reserve(reservation: Reservation, *, token: int = fencing) -> int | None:
        async with stores.begin() as session:
            granted: int | None = await stores.writer.reserve(
                session,
                connection=stores.destination,
                workspace=stores.workspace,
                fencing=token,
                reservation=reservation,
            )
            return granted

    both = Reservation(uuid4(), uuid4(), [task_of(stores, "b")], uuid4(), Rows.of([row]))
    only_tasks = [task_of(stores, name) for name in "cd"]
    too_many = Reservation(uuid4(), uuid4(), only_tasks, uuid4(), Rows())
    last = Reservation(uuid4(), uuid4(), only_tasks[:1], uuid4(), Rows())

    with pytest.raises(LeaseLostError):
        await reserve(both, token=fencing + 1)
    asked = [both, both, too_many, last, too_many]
    assert [await reserve(each) for each in asked] == [2, 2, None, 1, 0]
    async with stores.begin() as session:
        found = await stores.writer.open_intents(session, stores.destination)
    assert {(each.intent, each.hold): [*each.tasks, *each.rows] for each in found} == {
        (both.intent, both.hold): both.tasks,
        (both.import_, both.hold): list(both.rows),
        (last.intent, last.hold): last.tasks,
    }


async def claim(stores: Stores, owner: UUID = OWNER) -> Assignment | None:
    claimed = await stores.poller.claim_due(
        stores.transactions(), provider="hubspot", owner=owner, limit=5, lease_s=3600
    )
    return claimed[0] if claimed else None


async def test_a_run_from_its_claim_to_its_end(stores: Stores) -> None:
    await stores.schedule()
    assignment = await claim(stores)
    assert assignment is not None
    lease = services.poller.store.Lease(stores.integration, assignment.fencing)
    stale = dataclasses.replace(lease, fencing=lease.fencing - 1)
    ours, given = stores.transactions(), {"integration": stores.integration}
    sweeping = await stores.poller.begin_run(ours, assignment, begin(assignment))
    run = run_id(assignment, sweeping)
    told = {"run": run, "sweeping": sweeping}
    progress = await stores.poller.advance(ours, lease, **told, present=["a", "b"], merged=["c"])
    newcomers = await stores.poller.newcomers(ours, **given, settled_run_no=0)
    unmet = await stores.poller.unmet(ours, **given, run_no=2)
    known = await stores.poller.known_members(ours, **given, ids=["b", "c"])
    async with stores.begin("poller") as session:
        await stores.poller.expect_back(session, **given, run_no=9, ids=["b", "z"])
    expected = await stores.poller.newcomers(ours, **given, settled_run_no=8)
    async with stores.begin("poller") as session:
        await stores.poller.remove_members(session, **given, ids=["b"])
    left = await stores.poller.all_members(ours, **given)
    assert await claim(stores, OTHER) is None
    with pytest.raises(LeaseLostError):
        await stores.poller.advance(ours, stale, **told, present=["d"], merged=())
    with pytest.raises(LeaseLostError):
        await stores.poller.check_lease(ours, stale)
    await stores.poller.check_lease(ours, lease)
    async with stores.begin("poller") as session:
        resumed = await stores.poller.resume_run(session, run=run, fencing=assignment.fencing)
    end = services.poller.store.RunEnd(
        sweeping=sweeping,
        roll=Roll(settled_run_no=1),
        total_after=None,
        complete=True,
        satisfies_wish=True,
    )
    await stores.poller.end_run(ours, assignment, end)
    async with stores.begin("poller") as session:
        over = await stores.poller.resume_run(session, run=run, fencing=assignment.fencing)
    with pytest.raises(LeaseLostError):
        await stores.poller.end_run(ours, assignment, end)
    with pytest.raises(LeaseLostError):
        await stores.poller.begin_run(ours, assignment, begin(assignment))
    with pytest.raises(LeaseLostError):
        async with stores.begin("poller") as session:
            await stores.poller.hold_lease(session, lease)

    assert sweeping.members_before == 0
    assert progress == services.poller.store.Progress(is_reading=True, is_active=True, is_open=True)
    assert expected == {"b"}
    assert (newcomers, unmet, known, left) == ({"a", "b"}, {"a", "b"}, {"b"}, {"a"})
    assert (resumed, over) == (True, False)
    assert await claim(stores) is None  # It is due in half an hour.


async def test_a_run_that_has_ended_goes_no_further(stores: Stores) -> None:
    await stores.schedule()
    assignment = await claim(stores)
    assert assignment is not None
    lease = services.poller.store.Lease(stores.integration, assignment.fencing)
    ours, integration = stores.transactions(), stores.integration
    sweeping = await stores.poller.begin_run(ours, assignment, begin(assignment))
    run = run_id(assignment, sweeping)
    async with stores.begin("poller") as session:
        await stores.poller.note_trouble(
            session, integration=integration, run=run, code="x", ends_run=True
        )

    progress = await stores.poller.advance(
        ours, lease, run=run, sweeping=sweeping, present=["a"], merged=()
    )

    assert not progress.is_reading
    assert await stores.poller.all_members(ours, integration=integration) == set()


async def test_a_position_that_is_lost_is_asked_for_no_more(stores: Stores) -> None:
    await stores.schedule()
    first = await claim(stores)
    assert first is not None
    ours, integration = stores.transactions(), stores.integration
    lease = services.poller.store.Lease(integration, first.fencing)
    end = services.poller.store.RunEnd(
        sweeping=await stores.poller.begin_run(ours, first, begin(first, by_position=True)),
        roll=Roll(settled_run_no=1, size=7, position="token"),
        total_after=None,
        complete=True,
        satisfies_wish=True,
    )
    await stores.poller.end_run(ours, first, end)
    async with stores.begin("poller") as session:
        await stores.poller.put_off(session, lease=lease, delay_s=0.0, counts=False)
    second = await claim(stores)
    assert second is not None
    lease = services.poller.store.Lease(integration, second.fencing)
    await stores.poller.begin_run(ours, second, begin(second, by_position=True))
    async with stores.begin("poller") as session:
        await stores.poller.forget_position(session, integration=integration)
        await stores.poller.put_off(session, lease=lease, delay_s=0.0, counts=False)
    third = await claim(stores)
    assert third is not None

    assert second.roll == Roll(settled_run_no=1, size=7, position="token")
    assert third.roll == Roll(settled_run_no=1, size=7)
    assert third.sweeping is None


async def test_what_was_put_off_is_claimed_when_its_time_has_come(stores: Stores) -> None:
    await stores.schedule()
    first = await claim(stores)
    assert first is not None
    lease = services.poller.store.Lease(stores.integration, first.fencing)
    async with stores.begin("poller") as session:
        await stores.poller.put_off(session, lease=lease, delay_s=3600.0, counts=True)
    waiting = await claim(stores)
    async with stores.begin("poller") as session:
        await stores.poller.put_off(session, lease=lease, delay_s=0.0, counts=False)
    second = await claim(stores)

    assert waiting is None
    assert second is not None
    assert (second.fencing, second.failures) == (2, 1)


ACCOUNT = "hubspot:account-1"
SLOT = timedelta(minutes=30)


async def shares(stores: Stores, names: str, *, most: int, is_drain: bool = False) -> str:
    """Return whose share it is, of these contacts."""
    contacts = [ContactId(stores.integration, each) for each in names]
    async with stores.begin() as session:
        found = await stores.writer.take_shares(
            session,
            connection=stores.destination,
            account=ACCOUNT,
            slot=SLOT,
            most=most,
            contacts=contacts,
            is_drain=is_drain,
        )
    return "".join(sorted(contact.source_id for contact in found))


async def due(stores: Stores, *, most: int) -> list[str]:
    async with stores.begin() as session:
        found = await stores.writer.due_shares(session, stores.destination, slot=SLOT, most=most)
    return [contact.source_id for contact in found]


async def test_shares_go_round_once_and_are_kept_for_who_waits(stores: Stores) -> None:
    """Proves AC5: at most so many in a slot, each contact once, the longest waiting first."""
    await own(stores)
    await stores.make_automatic()
    before = await due(stores, most=2)
    first = [await shares(stores, "ab", most=3), await shares(stores, "ba", most=3)]
    for source_id in "cde":
        await park(stores, (wanted(stores, source_id), Park.SYNC_BUDGET, None))
    jumping = await shares(stores, "afg", most=4)
    waiting = [await due(stores, most=most) for most in (2, 4, 9)]
    their_own = await shares(stores, "cde", most=4, is_drain=True)
    may_go = [await drained(stores), await drained(stores, due=[wanted(stores, "d").contact])]
    await stores.configure("paused")

    assert before == []
    assert first == ["ab", "ab"]
    assert jumping == "a"
    assert waiting == [[], ["c", "d"], ["c", "d", "e"]]
    assert their_own == "cd"
    assert may_go == [[], ["d"]]
    assert await due(stores, most=9) == []
    assert await shares(stores, "fg", most=6) == "fg"  # Nobody waits for who is paused.


async def test_who_cannot_be_written_keeps_no_share_from_others(stores: Stores) -> None:
    """Proves AC5: a destination that is blocked does not stop the account's other importers."""
    await own(stores)
    await stores.make_automatic()
    await park(stores, (wanted(stores, "a"), Park.SYNC_BUDGET, None))
    async with stores.begin() as session:
        await stores.writer.block(
            session, connection=stores.destination, reason="destination_down", seconds=60.0
        )
    async with stores.begin() as session:
        elsewhere = await stores.writer.take_shares(
            session,
            connection=uuid4(),
            account=ACCOUNT,
            slot=SLOT,
            most=1,
            contacts=[ContactId(stores.integration, "b")],
            is_drain=False,
        )

    assert {contact.source_id for contact in elsewhere} == {"b"}
    assert await due(stores, most=2) == ["a"]  # To see whether the block is over.


async def test_fields_wait_until_they_are_made_or_refused(stores: Stores) -> None:
    """Proves AC1."""
    hour = timedelta(hours=1)
    await stores.schedule()
    fields = [
        WantedField(name, FieldType.TEXT, f"HubSpot: {name}", Standard.NONE) for name in "abc"
    ]

    async def want(*chosen: WantedField) -> None:
        async with stores.begin("poller") as session:
            await stores.poller.want_fields(session, integration=stores.integration, fields=chosen)

    async def waiting() -> list[str]:
        async with stores.begin() as session:
            found = await stores.writer.wanted_fields(session, stores.destination, again=hour)
        return [wish.wanted.source for wish in found]

    await want(*fields)
    of_a_mapped_one = await waiting()
    await stores.make_automatic()
    await want(*fields)
    async with stores.begin() as session:
        busy = await stores.writer.busy_destinations(session)
        await stores.writer.refuse_field(
            session, connection=stores.destination, title="HubSpot: b", reason="duplicate"
        )
    left = await waiting()
    await want(*fields)  # What is refused stays so until a person asks.
    assignment = await claim(stores)
    assert assignment is not None
    async with stores.begin() as session:
        await stores.writer.try_fields_later(session, stores.destination)
    tried = await waiting()

    assert of_a_mapped_one == []
    assert [each.connection for each in busy] == [stores.destination]
    assert left == ["a", "c"]
    assert assignment.known_fields == frozenset("abc")
    assert tried == []


async def test_an_error_for_want_of_fields_ends_with_them(stores: Stores) -> None:
    """Proves AC1: another error stays."""
    async with stores.begin() as session:
        given = {"integration": stores.integration}
        await stores.writer.report_integration(session, **given, reason="list_missing")
        other = await stores.writer.recover_fields(session, **given)
        await stores.writer.report_integration(session, **given, reason=None)
        await stores.writer.report_integration(session, **given, reason="fields_not_made")
        ours = await stores.writer.recover_fields(session, **given)
        again = await stores.writer.recover_fields(session, **given)

    assert (other, ours, again) == (False, True, False)


async def test_who_was_left_out_is_named_until_he_is_read(stores: Stores) -> None:
    """Proves CC4."""
    await stores.schedule()
    await stores.begin_run(1)
    run, given = ids.run_id(stores.integration, 1), {"integration": stores.integration}
    async with stores.begin("poller") as session:
        await stores.poller.leave_out(session, **given, run=run, versions={"a": 1, "b": 2})
        await stores.poller.leave_out(session, **given, run=run, versions={"b": 3})
        await stores.poller.forget_left_out(session, **given, ids=["a", "z"])
        nobody = await stores.poller.replays(session, **given, limit=9)
    assignment = await claim(stores)
    assert assignment is not None

    assert nobody == []
    assert (assignment.has_left_out, assignment.has_replays) == (True, False)
