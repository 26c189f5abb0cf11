"""Kafka as far as the services use it: logs by key, groups, offsets, rebalances.

Promises: a key's records keep their order; a record is delivered until its offset is committed,
and again after a crash or a rebalance; a member that was cut off (evicted) goes on with its batch
until it hears of it, but commits nothing any more. Each key is a partition of its own.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any
from uuid import UUID

from libs.common import tracing
from libs.common.consumer import Batch, Record
from libs.common.errors import TransientError, UnavailableError
from libs.common.events import Changed, Event, RunRead, Topic
from tests.simulation.processes import Process, Weather

REBALANCE_S = 8.0
BROKER = "broker"
TRACE = tracing.start()  # Whose trace it is decides nothing.
Handler = Callable[[Batch], Awaitable[None]]
OnRevoked = Callable[[], Awaitable[None]]


async def nothing() -> None:
    return


class Broker:
    """All topics and groups."""

    def __init__(self, weather: Weather, tells: Callable[[str, object], None]) -> None:
        self.logs: dict[Topic, dict[str, list[Event]]] = {topic: {} for topic in Topic}
        self.groups: list[Group] = []
        self.weather = weather
        self._tells = tells
        self.reread: set[UUID] = set()  # Runs with a page that was told in two ways.
        self._pages: dict[tuple[UUID, int, int], UUID] = {}

    def group(self, topic: Topic) -> "Group":
        made = Group(self, topic)
        self.groups.append(made)
        return made

    def append(self, topic: Topic, key: str, event: Event) -> None:
        self._tells(topic, event)
        self.logs[topic].setdefault(key, []).append(event)
        if isinstance(event, Changed):
            page = (event.run, event.page, event.part)
            if self._pages.setdefault(page, event.id) != event.id:
                self.reread.add(event.run)
        elif isinstance(event, RunRead) and self._has_more_than(event):
            self.reread.add(event.run)
        for group in self.groups:
            if group.topic is topic:
                group.arrived(key)

    def _has_more_than(self, end: RunRead) -> bool:
        """Return whether a page of a run was told that its second reading has not any more."""
        return any(run == end.run and page > end.pages for run, page, _ in self._pages)

    @property
    def lag(self) -> int:
        """Return how many records wait to be finished."""
        return sum(
            len(log) - group.committed[key]
            for group in self.groups
            for key, log in self.logs[group.topic].items()
        )


class Publisher:
    """One process's producer: in order, acknowledged or not."""

    def __init__(self, broker: Broker, process: Process) -> None:
        self._broker = broker
        self._process = process
        self._last: asyncio.Task[None] | None = None

    def publish(self, topic: Topic, key: str, event: Event) -> asyncio.Task[None]:
        self._last = asyncio.create_task(self._send(self._last, topic, key, event))
        return self._last

    async def publish_all(self, topic: Topic, events: Iterable[tuple[str, Event]]) -> None:
        await asyncio.gather(*[self.publish(topic, key, event) for key, event in events])

    async def _send(
        self, before: asyncio.Task[None] | None, topic: Topic, key: str, event: Event
    ) -> None:
        if before is not None and not before.done():
            await asyncio.wait({before})
        if topic is Topic.CONTACTS_CHANGED:
            self._process.suffer_before_a_record()
        await self._process.step("send")
        is_lost = self._process.loses_connection()
        if not is_lost or self._broker.weather.random.random() < 0.5:
            self._broker.append(topic, key, event)
        if is_lost:
            raise UnavailableError(BROKER, "no acknowledgement")
        await self._process.step("acknowledged")


class Group:
    """A consumer group of one topic: who has which key, and how far it is finished."""

    def __init__(self, broker: Broker, topic: Topic) -> None:
        self.topic = topic
        self.committed: dict[str, int] = defaultdict(int)
        self.epochs: dict[str, int] = defaultdict(int)
        self._broker = broker
        self._owners: dict[str, Member] = {}
        self._members: list[Member] = []
        self._moving: set[asyncio.Task[None]] = set()

    def arrived(self, key: str) -> None:
        owner = self._owners.get(key)
        if owner is None:
            self._assign_somebody(key)
        else:
            owner.woken.set()

    def join(self, member: "Member") -> None:
        self._members.append(member)
        for key in self._broker.logs[self.topic]:
            if key not in self._owners:
                self._assign(key, member)

    def leave(self, process: Process) -> None:
        """Give the keys of a dead process to others, as after its session's time-out."""
        self._members = [each for each in self._members if each.process is not process]
        for key, owner in list(self._owners.items()):
            if owner.process is process:
                del self._owners[key]
                self._assign_somebody(key)

    def evict(self, process: Process) -> None:
        """Give the keys of a process that is not heard of to others; it learns of it later."""
        for key, old in list(self._owners.items()):
            others = [each for each in self._members if each is not old]
            if old.process is process and others:
                self._assign(key, self._broker.weather.random.choice(others))
                seconds = self._broker.weather.random.uniform(5.0, 40.0)
                self._begin(old.learn_later(key, seconds))

    def _begin(self, moving: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(moving)
        self._moving.add(task)
        task.add_done_callback(self._moving.discard)

    def _assign_somebody(self, key: str) -> None:
        if self._members:
            self._assign(key, self._broker.weather.random.choice(self._members))

    def _assign(self, key: str, member: "Member") -> None:
        self.epochs[key] += 1
        self._owners[key] = member
        member.assigned(key, self.epochs[key])

    def rebalance(self) -> None:
        """Give a key to another member; its owner agrees, or was cut off unknowingly."""
        random = self._broker.weather.random
        keys = [key for key in self._owners if len(self._members) > 1]
        if not keys:
            return
        key = random.choice(keys)
        old = self._owners[key]
        new = random.choice([each for each in self._members if each is not old])
        moving = self._hand_over(key, old, new) if random.random() < 0.5 else None
        if moving is None:
            self._assign(key, new)
            moving = old.learn_later(key, random.uniform(0.0, 15.0))
        self._begin(moving)

    async def _hand_over(self, key: str, old: "Member", new: "Member") -> None:
        await old.revoked(key)
        if self._owners.get(key) is old:
            # Dead meanwhile? Then the one that let go of it takes it again.
            self._assign(key, new if new in self._members else old)

    def commit(self, key: str, epoch: int, offset: int) -> bool:
        """Move an offset; False if the member is not the owner any more."""
        if self.epochs[key] != epoch:
            return False
        self.committed[key] = max(self.committed[key], offset)
        return True

    def records(self, key: str, offset: int, count: int) -> list[Record]:
        log = self._broker.logs[self.topic][key]
        return [
            Record(
                event=log[number],
                topic=self.topic,
                partition=0,
                offset=number,
                key=key,
                trace=TRACE,
            )
            for number in range(offset, min(offset + count, len(log)))
        ]


class Member:
    """One process in a group."""

    def __init__(
        self,
        group: Group,
        process: Process,
        handler: Handler,
        weather: Weather,
        on_revoked: OnRevoked = nothing,
    ) -> None:
        self.process = process
        self.woken = asyncio.Event()
        self._group = group
        self._handler = handler
        self._random = weather.random
        self._on_revoked = on_revoked
        self._mine: dict[str, int] = {}
        self._positions: dict[str, int] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    def serves(self, key: str) -> bool:
        """Return whether this process believes a key to be its own."""
        return key in self._mine

    def assigned(self, key: str, epoch: int) -> None:
        self._mine[key] = epoch
        self._positions[key] = self._group.committed[key]
        self.woken.set()

    async def revoked(self, key: str) -> None:
        """Let go of a key after the batch under way, within the rebalance's time."""
        self._mine.pop(key, None)
        try:
            async with asyncio.timeout(REBALANCE_S):
                await self._idle.wait()
                await self._on_revoked()
        except (TimeoutError, asyncio.CancelledError):
            return

    async def learn_later(self, key: str, seconds: float) -> None:
        epoch = self._mine.get(key)
        await asyncio.sleep(seconds)
        if not self.process.is_dead and self._mine.get(key) == epoch:
            await self.revoked(key)

    async def run(self) -> None:
        self._group.join(self)
        while True:
            self.woken.clear()
            worked = [await self._take(key) for key in sorted(self._mine)]
            if not any(worked):
                await self.woken.wait()

    async def _take(self, key: str) -> bool:
        """Handle some records of a key; return whether there were any."""
        epoch = self._mine.get(key)
        if epoch is None:
            return False
        offset = self._positions[key]
        records = self._group.records(key, offset, self._random.randint(1, 4))
        if not records:
            return False
        waiting = 3 if self._random.random() < 0.04 else 0
        batch = Batch(
            key=key,
            topic=self._group.topic,
            partition=0,
            records=records,
            current=lambda: self._mine.get(key) == epoch,
            count_waiting=lambda: waiting,
        )
        self._idle.clear()
        try:
            await self._handle(batch, epoch)
        finally:
            self._idle.set()
        return True

    async def _handle(self, batch: Batch, epoch: int) -> None:
        key, done = batch.key, batch.records[-1].offset + 1
        await self.process.step("fetch")
        while True:
            try:
                await self._handler(batch)
            except TransientError:
                await asyncio.sleep(self._random.uniform(0.2, 2.0))
                await self.process.step("retry")
                if self._mine.get(key) != epoch:
                    return
            else:
                break
        if self._mine.get(key) == epoch:
            self._positions[key] = done
        await self.process.step("commit")
        self._group.commit(key, epoch, done)
