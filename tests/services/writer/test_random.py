"""Random histories on real PostgreSQL: edits, leaves, address changes, faults, kills, redeliveries.

Each seed is one history against a fake destination. While it goes on the ledger's rules hold after
every step; when everything is mended and drained, the destination holds what the source last said,
nobody is there twice, and every write is charged (X2, Q1, S5).
"""

import random

import pytest

from libs.common.events import Effect, Event, Mapped
from libs.connectors.contract import ImportState
from tests.fakes import CrashError, Fault
from tests.services.writer.world import LIST, World, Writer, crash_at, leave, upsert

STEPS = 24
NAMES = ("Ada", "Eve", "Ida")
STEPS_OF_A_TURN = ("held", "called", "settled", "read_back")
FAULTS = (Fault.LOST, Fault.LOST_APPLIED, Fault.DOWN, Fault.LIMITED, None)


class History:
    """One seed's source, and the writer that follows it."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.random = random.Random(seed)
        self.writer = world.writer()
        self.source: dict[str, dict[str, object]] = {}
        self.gone: set[str] = set()
        self.log: list[Event] = []
        self.committed = 0
        self.run_no = 0
        self.page = 0
        self.now_ms = 1000
        self.addresses = 0
        self.crashes = 0

    def choice(self, *weighted: tuple[str, int]) -> str:
        return self.random.choices([each for each, _ in weighted], [n for _, n in weighted])[0]

    async def begin_run(self) -> None:
        self.run_no += 1
        self.page = 0
        await self.world.begin_run(self.run_no)

    def address(self) -> str:
        self.addresses += 1
        return f"m{self.addresses}@example.com"

    def edit(self) -> Effect:
        """Change somebody at the source, and return what the mapper makes of it."""
        self.now_ms += 10
        source_id = self.random.choice([f"c{number}" for number in range(6)])
        contact = self.source.setdefault(source_id, {"email": self.address()})
        kind = self.choice(("value", 8), ("address", 2), ("leave", 2))
        if kind == "leave" and source_id not in self.gone and "name" in contact:
            self.gone.add(source_id)
            return leave(source_id, ms=self.now_ms)
        if kind == "address":
            contact["email"] = self.address()
        self.gone.discard(source_id)
        contact["name"] = self.random.choice(NAMES)
        return self.effect(source_id)

    def effect(self, source_id: str) -> Effect:
        contact = self.source[source_id]
        return upsert(source_id, str(contact["email"]), ms=self.now_ms, VORNAME=contact["name"])

    def publish(self, *effects: Effect) -> None:
        self.page += 1
        self.log.append(self.world.record(*effects, run_no=self.run_no, page=self.page))

    async def handle(self) -> None:
        """Let the writer take some records; what it does not finish comes again."""
        batch = self.log[self.committed : self.committed + self.random.randint(1, 3)]
        if not batch:
            return
        if self.random.random() < 0.3:
            self.writer = self.world.writer(reached=crash_at(self.random.choice(STEPS_OF_A_TURN)))
            await self.world.lapse()
        try:
            await self.writer.live.handle(self.world.destination, batch)
        except CrashError:
            await self.die()
        else:
            self.committed += len(batch)

    async def drain(self) -> None:
        try:
            await self.world.drain(self.writer, turns=3)
        except CrashError:
            await self.die()

    async def die(self) -> None:
        self.crashes += 1
        await self.world.lapse()
        self.writer = self.world.writer()

    async def step(self) -> None:
        match self.choice(
            ("edit", 8), ("handle", 8), ("drain", 4), ("run", 2), ("fault", 2), ("time", 2),
            ("quota", 1), ("land", 3), ("pause", 1),
        ):  # fmt: skip
            case "edit":
                edits = {each.id: each for each in [self.edit() for _ in range(3)]}
                self.publish(*edits.values())
            case "handle":
                await self.handle()
            case "drain":
                await self.drain()
            case "run":
                self.log.append(self.world.run_read(self.run_no))
                await self.begin_run()
            case "fault":
                faults = [self.random.choice(FAULTS) for _ in range(self.random.randint(1, 4))]
                self.world.account.fail(*faults)
            case "time":
                await self.world.unblock_in_time()
                self.writer.clock.ahead_s += 20.0
            case "quota":
                await self.world.limit(self.random.randint(1, 12))
            case "land":
                self.land()
            case "pause":
                await self.world.configure(state=self.random.choice(["paused", "active"]))
        await self.world.check_ledger_but_for_limits()

    def land(self) -> None:
        for found in self.world.account.imports:
            if found.state is ImportState.RUNNING:
                keys = [write.identity.email or "" for write in found.writes]
                lost = [key for key in keys if self.random.random() < 0.2]
                self.world.account.land(found.process_id, silently_lost=lost)

    async def heal(self) -> None:
        """Mend everything, read all that is left, and let it settle."""
        self.world.account.faults.clear()
        await self.world.configure(state="active")
        await self.world.limit(10_000)
        await self.die()
        for _ in range(3):
            self.log.append(self.world.run_read(self.run_no))
            await self.begin_run()
            self.publish(*[self.effect(each) for each in self.source if each not in self.gone])
            while self.committed < len(self.log):
                await self.handle()
            self.log.append(self.world.run_read(self.run_no))
            await self.handle()
            await settle(self.world, self, self.writer)

    def expected(self, links: dict[str, object]) -> dict[str, object]:
        """Return who should be there: by the address that was not refused."""
        return {
            source_id: contact["name"]
            for source_id, contact in self.source.items()
            if source_id not in self.gone
        }


async def settle(world: World, history: History, writer: Writer) -> None:
    for _ in range(4):
        await world.unblock_in_time()
        history.land()
        history.writer.clock.ahead_s += 70.0
        await history.writer.leases.renew()
        await history.drain()


@pytest.mark.parametrize("seed", range(12))
async def test_random_histories_end_as_the_source_says(world: World, seed: int) -> None:
    """Fault 21, X2 for the writer: killed anywhere, nothing is lost and nothing charged twice."""
    world.rows_min = 3
    await world.configure(deletion_policy="remove_from_list")
    history = History(world, seed)
    await history.begin_run()

    for _ in range(STEPS):
        await history.step()
    await history.heal()

    links = await world.links()
    for source_id, name in history.expected(links).items():
        link = links[source_id]
        assert link.state == "linked", (source_id, link)
        contact = world.account.contacts[link.identity]
        assert contact.attributes["VORNAME"] == name, source_id
        assert LIST in contact.list_ids, source_id
        assert link.identity in (history.source[source_id]["email"], link.identity)
        if link.refused_identity is None:
            assert link.identity == history.source[source_id]["email"]
    for source_id in history.gone:
        key = links[source_id].identity
        if key is not None and key in world.account.contacts:
            assert LIST not in world.account.contacts[key].list_ids, source_id
    assert await world.parked() == {}
    assert await world.held() == 0
    await world.check_ledger_but_for_limits()
    owners = [row.identity for row in links.values() if row.state == "linked"]
    assert len(owners) == len(set(owners))
    charged = await world.rows("select source_id, effect_key from ledger.postings")
    assert len({row.effect_key for row in charged}) == len(charged)
    assert isinstance(history.log[0], Mapped | object)
