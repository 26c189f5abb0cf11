"""A thousand stopped integrations: nothing is asked or sent while stopped, and all go on in turn.

Real drains, turns and leases over stores in memory and a clock that jumps, so that an hour takes
what happens in it. What the statements do on PostgreSQL is held to the same by
`tests/simulation/test_memory.py`.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from libs.common import ids
from libs.common.events import Identity, RunMode
from libs.common.reasons import Park
from libs.connectors.contract import Destination, OpenGate
from services.writer import store
from services.writer.account import Accounts
from services.writer.drain import DRAINED_SINGLY_MAX, SIDE_BY_SIDE, SINGLY_FOR_S, Drain
from services.writer.health import Blocks
from services.writer.imports import Imports
from services.writer.lease import Lease, LeasedGate, Leases
from services.writer.values import (
    ContactId,
    Link,
    LinkState,
    PartId,
    Version,
    Wanted,
    Wish,
    digest,
)
from services.writer.write import Writing
from tests.fakes import FakeAccount, FakeContact, FakeDestination
from tests.simulation.loop import VirtualClock, VirtualLoop
from tests.simulation.memory.database import (
    Connection,
    Database,
    DestinationRow,
    Integration,
    ParkedRow,
    RunRow,
)
from tests.simulation.memory.swap import stores_in_memory

CALL_S = 0.1  # Brevo's slowest tier takes 10 calls a second.
GRANTED_WITHIN_S = 5.0  # Q4, as the issue has it.


class Calm:
    """A caller of the database that nothing happens to."""

    async def step(self, what: str) -> None:
        return

    def loses_connection(self) -> bool:
        return False


@dataclass
class Customer:
    """A workspace, its accounts, and when each of its contacts was sent."""

    workspace: UUID
    accounts: dict[UUID, FakeAccount] = field(default_factory=dict)
    sent_at: list[float] = field(default_factory=list)


@dataclass
class World:
    """Customers who wait for quota, and one writer."""

    clock: VirtualClock
    database: Database
    customers: list[Customer] = field(default_factory=list)
    sent: list[UUID] = field(default_factory=list)  # By whom, in order.

    def add(
        self, *, accounts: int, integrations: int, contacts: int, are_updates: bool = False
    ) -> Customer:
        """Add a customer whose integrations have parked contacts; there is no quota yet."""
        number = len(self.customers)
        customer = Customer(ids.computed(UUID(int=0), "workspace", number))
        self.customers.append(customer)
        self.database.tables.limits[customer.workspace] = 0
        for account in range(accounts):
            connection = ids.computed(customer.workspace, "account", account)
            self._connect(customer, connection)
            for each in range(integrations):
                self._park(customer, connection, ids.computed(connection, each), contacts)
        if are_updates:
            self._link_all(customer)
        return customer

    def _connect(self, customer: Customer, connection: UUID) -> None:
        tables = self.database.tables
        row = Connection(connection=connection, workspace=customer.workspace, provider="fake")
        tables.connections[connection] = row
        tables.destinations[connection] = DestinationRow(workspace=customer.workspace)
        account = customer.accounts[connection] = FakeAccount()

        async def called() -> None:
            await asyncio.sleep(CALL_S)
            customer.sent_at.append(self.clock.monotonic())
            self.sent.append(customer.workspace)

        account.before_write = called

    def _park(self, customer: Customer, connection: UUID, own: UUID, contacts: int) -> None:
        tables, run = self.database.tables, ids.run_id(own, 1)
        tables.integrations[own] = Integration(
            integration=own,
            workspace=customer.workspace,
            source=connection,
            destination=connection,
            source_list_id=None,
            list_id="7",
        )
        tables.runs[run] = RunRow(
            integration=own,
            workspace=customer.workspace,
            run_no=1,
            mode=RunMode.FULL,
            mapping_version=1,
            fencing=1,
        )
        for number in range(contacts):
            item = _wanted(own, run, f"{own.hex}-{number}")
            tables.parked[item.contact] = ParkedRow(
                workspace=customer.workspace,
                connection=connection,
                item=item,
                reason=Park.QUOTA,
                approved=None,
                attempts=0,
                first_at=self.database.now(),
                last_at=self.database.now(),
            )

    def _link_all(self, customer: Customer) -> None:
        """Let everybody who waits stand at the destination already, in an older version."""
        tables = self.database.tables
        for contact, row in tables.parked.items():
            if row.workspace == customer.workspace:
                tables.links[contact] = Link(
                    contact=contact,
                    state=LinkState.LINKED,
                    version=Version(1, 1),
                    wish=Wish.UPSERT,
                    identity=row.item.identity,
                    hash=b"older",
                    content_hash=b"older",
                )
                account = customer.accounts[row.connection]
                account.contacts[row.item.identity.email or ""] = FakeContact(row.item.identity, {})

    def grant(self, *customers: Customer) -> None:
        """Raise limits, as operators or a new month do."""
        for customer in customers:
            self.database.tables.limits[customer.workspace] = 1_000_000
            key = (customer.workspace, self.database.months)
            self.database.tables.periods.pop(key, None)

    def writer(self) -> tuple[Drain, Leases]:
        """Return a writer's drains."""
        sessions = self.database.transactions(Calm())
        leases = Leases(sessions, self.clock, UUID(int=9))
        accounts = {key: each for one in self.customers for key, each in one.accounts.items()}

        async def open_destination(connection: store.Connection, lease: Lease) -> Destination:
            return FakeDestination(accounts[connection.connection], LeasedGate(OpenGate(), lease))

        imports = Imports(sessions, self.clock)
        writing = Writing(
            sessions, self.clock, open_destination, imports, Blocks(sessions, self.clock)
        )
        drain = Drain(sessions, self.clock, Accounts(sessions, leases), writing, imports)
        return drain, leases

    def is_done(self) -> bool:
        """Return whether nobody waits any more."""
        return not self.database.tables.parked


def _wanted(integration: UUID, run: UUID, source_id: str) -> Wanted:
    identity = Identity(email=f"{source_id}@example.com")
    return Wanted(
        contact=ContactId(integration, source_id),
        wish=Wish.UPSERT,
        version=Version(1000, 1),
        part=PartId(integration, run, 1, 1, 0),
        mapping_version=1,
        identity=identity,
        attributes=b'{"VORNAME":"Ada"}',
        hash=digest(source_id.encode()),
        is_parked=True,
    )


Story = Callable[[World], Coroutine[Any, Any, None]]


@pytest.fixture
def play() -> Iterator[Callable[[Story], World]]:
    """Return what plays a story in a world of its own."""
    loop = VirtualLoop()

    def played(story: Story) -> World:
        clock = VirtualClock(loop)
        world = World(clock, Database(clock))
        with stores_in_memory():
            loop.run_until_complete(story(world))
        return world

    yield played
    loop.close()


async def draining(world: World, until: Callable[[], bool], *, within_s: float) -> None:
    """Let a writer drain until a condition holds, or so much time has passed."""
    drain, leases = world.writer()
    stop = asyncio.Event()
    tasks = [asyncio.create_task(each.run(stop)) for each in (drain, leases)]
    began = world.clock.monotonic()
    while not until() and world.clock.monotonic() - began < within_s:  # noqa: ASYNC110  # the tables tell nobody
        await asyncio.sleep(0.05)
    stop.set()
    await asyncio.gather(*tasks)


@pytest.mark.no_cover  # Thousands of turns; its lines are others' to cover.
def test_a_thousand_stopped_integrations_go_on_in_turn(
    play: Callable[[Story], World],
) -> None:
    """Proves Q3 and Q5: nothing is touched while stopped; nobody waits for another's backlog."""
    places: dict[str, float] = {}

    async def story(world: World) -> None:
        large = world.add(accounts=100, integrations=6, contacts=2)
        small = [world.add(accounts=5, integrations=4, contacts=2) for _ in range(20)]
        late = world.add(accounts=1, integrations=1, contacts=3)
        leases_while_stopped: list[int] = []

        async def resume() -> None:
            await asyncio.sleep(30)
            leases_while_stopped.append(
                sum(row.fencing for row in world.database.tables.destinations.values())
            )
            world.grant(large, *small)
            await asyncio.sleep(10)
            assert world.database.tables.parked, "the others are done: the late one proves nothing"
            world.grant(late)

        resuming = asyncio.create_task(resume())
        await draining(world, world.is_done, within_s=600)
        await resuming
        places["late"] = late.sent_at[0] - 40
        places["first"] = max(each.sent_at[0] for each in small) - 30
        places["small"] = max(each.sent_at[-1] for each in small) - 30
        places["large"] = large.sent_at[-1] - 30
        assert leases_while_stopped == [0]

    world = play(story)

    assert world.is_done()
    sent = Counter(world.sent)
    assert [sent[each.workspace] for each in world.customers] == [1200, *[40] * 20, 3]
    assert min(at for each in world.customers for at in each.sent_at) > 30
    assert places["late"] <= GRANTED_WITHIN_S
    # 21 workspaces share eight places: a turn here takes 0.8 or 1.2 s, so all have had one in 5 s,
    # and the small ones are done when each of the 21 has had five.
    assert places["first"] <= GRANTED_WITHIN_S
    assert places["small"] <= 21 * 5 * 1.2 / SIDE_BY_SIDE + GRANTED_WITHIN_S
    assert places["small"] < 0.9 * places["large"]


@pytest.mark.no_cover  # Thousands of turns; its lines are others' to cover.
@pytest.mark.parametrize("contacts", [1, 400])
def test_the_first_contact_leaves_within_five_seconds_of_a_grant(
    play: Callable[[Story], World], contacts: int
) -> None:
    """Proves Q4, while eight others have long backlogs at the slowest of destinations."""
    took_s: list[float] = []

    async def story(world: World) -> None:
        for _ in range(SIDE_BY_SIDE):
            world.add(accounts=1, integrations=1, contacts=400, are_updates=True)
        stopped = world.add(accounts=1, integrations=1, contacts=contacts, are_updates=True)

        async def grant() -> None:
            await asyncio.sleep(20)
            world.grant(*world.customers[:-1])
            await asyncio.sleep(6.3)
            world.grant(stopped)

        granting = asyncio.create_task(grant())
        await draining(world, lambda: bool(stopped.sent_at), within_s=60)
        await granting
        took_s.append(stopped.sent_at[0] - 26.3)

    play(story)

    assert 0 < took_s[0] <= GRANTED_WITHIN_S


def test_thousands_of_updates_are_not_all_looked_at_for_every_few_that_go(
    play: Callable[[Story], World],
) -> None:
    """What no import takes goes singly; whether one does is asked of all now and then only."""
    looked_at: list[int] = []

    async def story(world: World) -> None:
        world.grant(world.add(accounts=1, integrations=1, contacts=600, are_updates=True))
        drainable = store.drainable

        async def counted(*given: Any, **wishes: Any) -> list[Wanted]:
            found = await drainable(*given, **wishes)
            looked_at.append(len(found))
            return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(store, "drainable", counted)
            await draining(world, world.is_done, within_s=600)

    world = play(story)

    assert world.is_done()
    large = [count for count in looked_at if count > DRAINED_SINGLY_MAX]
    assert len(large) <= 600 * CALL_S / SINGLY_FOR_S + 1
    assert len(looked_at) >= 600 / DRAINED_SINGLY_MAX
