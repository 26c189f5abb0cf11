"""Processes that may die between any two steps, stand still, or be cut off from the others.

Whatever a process does to the world outside is a step: a transaction, a call, a record. Before and
after each of them time passes, and the process may be killed. A killed process does nothing more,
not even to tidy up: all its further steps raise.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from random import Random
from typing import Any
from uuid import UUID

# A process may be killed, and it ends by itself without a database: both start again.
ENDS = (asyncio.CancelledError, ConnectionResetError)

# Longer than a lease, so that somebody else goes on meanwhile; shorter than patience.
AWAY_S = (8.0, 40.0)

Build = Callable[["Process"], Sequence[Coroutine[Any, Any, None]]]


class KilledError(asyncio.CancelledError):
    """The process ends here; like a cancellation, so that nobody takes it for an answer."""


class Weather:
    """How rough it is: drawn from the seed, and fine once the disturbances are over."""

    def __init__(self, random: Random, *, is_rough: bool = False) -> None:
        self.random = random
        self.kill = random.choice([0.0, 0.0006, 0.0015, 0.003])
        self.lose_connection = random.choice([0.0, 0.0, 0.002, 0.006])
        self.linger = random.choice([0.0, 0.01, 0.04])
        self.fault = random.choice([0.0, 0.05, 0.15])
        self.stand_still = random.choice([0.0, 0.0, 0.01, 0.03])
        self.cut_off = self.freeze = 0.0
        self.is_fine = False
        if is_rough:
            self.cut_off = random.choice([0.0, 0.2, 0.5])
            self.freeze = random.choice([0.0, 0.01, 0.03])
            self.lose_connection = random.choice([0.0, 0.01, 0.03])
            self.fault = random.choice([0.05, 0.15, 0.3])
            self.stand_still = random.choice([0.0, 0.02, 0.05])

    def clear(self) -> None:
        """End all disturbances, those that have begun as well."""
        self.is_fine = True
        self.kill = self.lose_connection = self.linger = self.fault = self.stand_still = 0.0
        self.cut_off = self.freeze = 0.0

    def draw(self, probability: float) -> bool:
        return probability > 0 and self.random.random() < probability


class Process:
    """One incarnation of a service; `tells` hears of what happens to it."""

    def __init__(
        self, name: str, owner: UUID, weather: Weather, tells: Callable[[str], None]
    ) -> None:
        self.name = name
        self.owner = owner
        self.is_dead = False
        self._weather = weather
        self._tells = tells
        self._wakes_at = 0.0
        self._cut_off_until = 0.0
        # What the others do about one who is away for long: they take over.
        self.missed: Callable[[], None] = lambda: None

    async def step(self, what: str) -> None:
        """Let time pass before or after something that others see; the process may die here."""
        weather = self._weather
        if self.is_dead:
            raise KilledError
        if weather.draw(weather.kill):
            self.kill(what)
            raise KilledError
        random = weather.random
        if random.random() < 0.4:
            await asyncio.sleep(random.uniform(0.001, 0.05))
        if weather.draw(weather.linger):
            await asyncio.sleep(random.uniform(0.5, 4.0))
        await self._thaw()

    async def _thaw(self) -> None:
        left_s = self._wakes_at - asyncio.get_running_loop().time()
        if left_s > 0:
            await asyncio.sleep(left_s)
        if self.is_dead:
            raise KilledError

    def kill(self, where: str) -> None:
        self._tells(f"{self.name}: killed at {where}")
        self.is_dead = True

    async def stand_still(self) -> bool:
        """Perhaps do nothing for longer than any lease; return whether it did."""
        if not self._weather.draw(self._weather.stand_still):
            return False
        seconds = self._weather.random.uniform(5.0, 40.0)
        self._tells(f"{self.name}: stands still for {seconds:.0f} s")
        self.missed()
        self._wakes_at = asyncio.get_running_loop().time() + seconds
        await self._thaw()
        return True

    def freeze(self, seconds: float) -> None:
        """Do nothing from the next step on, as a stopped machine does."""
        self._tells(f"{self.name}: frozen for {seconds:.0f} s")
        self._wakes_at = asyncio.get_running_loop().time() + seconds

    def cut_off(self, seconds: float) -> None:
        """Lose every connection to the database and the broker; calls of providers still pass."""
        self._tells(f"{self.name}: cut off for {seconds:.0f} s")
        self._cut_off_until = asyncio.get_running_loop().time() + seconds
        self.missed()

    def suffer_with_a_call(self) -> None:
        """Perhaps lose everything else together with the answer of a call."""
        if self._weather.draw(self._weather.cut_off):
            self.cut_off(self._weather.random.uniform(*AWAY_S))

    def suffer_before_a_record(self) -> None:
        """Perhaps freeze with a record in hand."""
        if self._weather.draw(self._weather.freeze):
            self.freeze(self._weather.random.uniform(*AWAY_S))

    def loses_connection(self) -> bool:
        is_cut_off = asyncio.get_running_loop().time() < self._cut_off_until
        if is_cut_off and not self._weather.is_fine:
            return True
        return self._weather.draw(self._weather.lose_connection)


async def keep_alive(
    name: str,
    owners: Iterable[UUID],
    build: Build,
    weather: Weather,
    tells: Callable[[str], None],
    left: Callable[[Process], None] = lambda process: None,
) -> None:
    """Start a process again and again, as Kubernetes does; a bug of its ends everything."""
    for owner in owners:
        process = Process(name, owner, weather, tells)
        tasks = [asyncio.create_task(part) for part in build(process)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            process.is_dead = True
            for task in tasks:
                task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        left(process)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, ENDS):
                raise result
        await asyncio.sleep(weather.random.uniform(1.0, 12.0))
