"""Random histories: contacts come, change, join, leave and go, while pollers die at any step.

The oracle is the writer's rules for versions, tokens and copies of records (PROTOCOL 1 and 2), kept
here in a few lines: whatever happened, after two polls that are let live the destination's set is
the source's. The overlap, which repairs most mistakes a quarter of an hour later, is taken away.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import pytest

from libs.common.clock import SystemClock
from libs.common.events import Changed, Event, Operation
from services.poller import plan
from services.poller.plan import Assignment, Sweeping
from services.poller.poll import Ending, Run, Stop
from services.poller.run_store import DatabaseRunStore
from tests.services.poller.fakes import FakeSource
from tests.services.poller.kills import KilledError
from tests.services.poller.world import World

LIST = "8"
STEPS = 30
CONTACTS_FIRST = 6


class DyingStore(DatabaseRunStore):
    """A store whose process is killed around its nth step: before it, or after it was committed."""

    def __init__(self, world: World, *, steps_left: int, dies_after: bool) -> None:
        super().__init__(world.as_poller)
        self._steps_left = steps_left
        self._dies_after = dies_after

    async def advance(
        self,
        assignment: Assignment,
        sweeping: Sweeping,
        *,
        present: Sequence[str],
        merged: Sequence[str],
    ) -> Stop | None:
        self._die(after=False)
        stop = await super().advance(assignment, sweeping, present=present, merged=merged)
        self._die(after=True)
        return stop

    async def check_lease(self, assignment: Assignment) -> None:
        self._die(after=False)
        await super().check_lease(assignment)
        self._die(after=True)

    async def end(self, assignment: Assignment, ending: Ending) -> None:
        self._die(after=False)
        await super().end(assignment, ending)
        self._die(after=True)

    def _die(self, *, after: bool) -> None:
        if after is self._dies_after:
            self._steps_left -= 1
            if self._steps_left == 0:
                raise KilledError


@dataclass
class Links:
    """What a writer would hold: contact → (is there, time of change, run)."""

    states: dict[str, tuple[bool, int, int]] = field(default_factory=dict)
    seen: set[UUID] = field(default_factory=set)

    def take(self, events: Sequence[Event], tokens: dict[UUID, int]) -> None:
        """Take events in order; `tokens` are those of the runs that were not abandoned."""
        for event in events:
            if not isinstance(event, Changed) or event.id in self.seen:
                continue  # A copy is told of as the first one was, whatever came of that.
            self.seen.add(event.id)
            for change in event.changes:
                is_there = change.op is Operation.UPSERT
                if is_there or tokens.get(event.run) == event.fencing:
                    self._take(change.id, (is_there, change.version_ms, event.run_no))

    def _take(self, id_: str, new: tuple[bool, int, int]) -> None:
        old = self.states.get(id_)
        if old is None or not _is_older(new, old):
            self.states[id_] = new

    @property
    def present(self) -> dict[str, int]:
        return {id_: at for id_, (is_there, at, _) in self.states.items() if is_there}


def _is_older(new: tuple[bool, int, int], old: tuple[bool, int, int]) -> bool:
    if new[0] != old[0]:  # Against a tombstone only runs are compared, and it wins a tie.
        return new[2] < old[2] or (new[2] == old[2] and not old[0])
    return new[1:] < old[1:]


class History:
    """One integration, its source, and two writers: a prompt one, and one that reads it late."""

    def __init__(
        self, world: World, integration: UUID, draw: random.Random, *, lists: bool
    ) -> None:
        self.source = FakeSource(page_size=2)
        self.prompt, self.late = Links(), Links()
        self._world = world
        self._integration = integration
        self._draw = draw
        self._lists = lists
        self._names = 0
        self._taken = 0
        if lists:
            self.source.join(LIST)
        for _ in range(CONTACTS_FIRST):
            self._add()

    def edit(self) -> None:
        """Do what people do."""
        contacts = sorted(self.source.contacts)
        match self._draw.choice(["new", "change", "delete", "join", "leave"]):
            case "new":
                self._add()
            case "change" if contacts:
                self.source.contacts[self._draw.choice(contacts)].modified_ms = _now_ms()
            case "delete" if contacts:
                self.source.delete(self._draw.choice(contacts))
            case "join" if self._lists and contacts:
                self.source.join(LIST, self._draw.choice(contacts))
            case "leave" if self._lists and self.source.lists[LIST]:
                self.source.leave(LIST, self._draw.choice(sorted(self.source.lists[LIST])))

    def _add(self) -> None:
        self._names += 1
        name = f"c{self._names:02}"
        self.source.add(name, modified_ms=_now_ms())
        if self._lists and self._draw.random() < 0.7:
            self.source.join(LIST, name)

    async def poll(self, *, lives: bool) -> None:
        """Let a poller read, to its end or to its death."""
        assignment = await self._claim()
        store = DatabaseRunStore(self._world.as_poller)
        if not lives:
            store = DyingStore(
                self._world,
                steps_left=self._draw.randint(1, 4),
                dies_after=self._draw.random() < 0.5,
            )
        run = Run(assignment, self.source, store, self._world.journal.publish, SystemClock())
        try:
            await run.poll()
        except KilledError:
            await self._world.lapse(self._integration)
        await self._write()

    async def wish_for_everything(self) -> None:
        await self._world.call("sync.request_run", integration=self._integration, full=True)

    async def let_a_day_go_by(self) -> None:
        await self._world.execute(
            "update sync.positions set sweep = sweep || '{\"read_at_ms\": 0}' "
            "where stream = 'members'"
        )

    async def read_late(self) -> None:
        self.late.take(self._world.journal.events, await self._tokens())

    @property
    def expected(self) -> dict[str, int]:
        there = self.source.lists[LIST] if self._lists else self.source.contacts
        return {
            id_: contact.modified_ms
            for id_, contact in self.source.contacts.items()
            if id_ in there
        }

    async def _claim(self) -> Assignment:
        await self._world.make_due(self._integration)
        [assignment] = await self._world.claim()
        return assignment

    async def _write(self) -> None:
        new = self._world.journal.events[self._taken :]
        self._taken += len(new)
        self.prompt.take(new, await self._tokens())

    async def _tokens(self) -> dict[UUID, int]:
        rows = await self._world.rows(
            "select run_id, fencing from sync.runs where state <> 'abandoned'"
        )
        return {row.run_id: row.fencing for row in rows}


def _now_ms() -> int:
    return int(time.time() * 1000)


@pytest.mark.parametrize("lists", [True, False], ids=["list", "everyone"])
@pytest.mark.parametrize("seed", range(5))
async def test_whatever_happens_the_destination_ends_as_the_source(
    world: World, monkeypatch: pytest.MonkeyPatch, seed: int, lists: bool
) -> None:
    """Faults 20 and 21, X2 and S1: no joiner, leaver or change is lost with a poller that dies."""
    monkeypatch.setattr(plan, "OVERLAP_MS", 0)
    draw = random.Random(seed)
    integration = await world.integrate(list_id=LIST if lists else None)
    history = History(world, integration, draw, lists=lists)

    for _ in range(STEPS):
        match draw.choices(["edit", "killed", "poll", "full", "day"], [8, 4, 3, 1, 1])[0]:
            case "edit":
                history.edit()
            case "killed":
                await history.poll(lives=False)
            case "poll":
                await history.poll(lives=True)
            case "full":
                await history.wish_for_everything()
            case "day":
                await history.let_a_day_go_by()
    await history.let_a_day_go_by()
    for _ in range(2):
        await history.poll(lives=True)
    await history.read_late()

    assert history.prompt.present == history.expected
    assert history.late.present == history.expected
