"""Places are few, and nobody waits for another's backlog."""

import asyncio
import random
from collections import Counter
from uuid import UUID

import pytest

from services.writer.rota import Rota

LARGE, SMALL = UUID(int=1), UUID(int=2)


class Turns:
    """Takes turns that last until they are ended, and remembers whose began in which order."""

    def __init__(self, places: int) -> None:
        self.rota = Rota(places)
        self.begun: list[UUID] = []
        self.most = 0
        self.under_way: list[tuple[UUID, asyncio.Event]] = []
        self.tasks: list[asyncio.Task[None]] = []

    def want(self, customer: UUID, turns: int = 1) -> None:
        """Want so many turns, one after the other."""
        self.tasks.append(asyncio.create_task(self._take(customer, turns)))

    async def _take(self, customer: UUID, turns: int) -> None:
        for _ in range(turns):
            async with self.rota.turn(customer):
                ended = asyncio.Event()
                self.begun.append(customer)
                self.under_way.append((customer, ended))
                self.most = max(self.most, len(self.under_way))
                await ended.wait()

    async def end(self, number: int = 0) -> None:
        """End one of those under way, and let whoever is next begin."""
        await settle()
        _, ended = self.under_way.pop(number)
        ended.set()
        await settle()

    async def end_all(self, draw: random.Random) -> None:
        """End turns in any order until nobody wants one."""
        await settle()
        while self.under_way:
            await self.end(draw.randrange(len(self.under_way)))
        await asyncio.gather(*self.tasks)


async def settle() -> None:
    """Let everybody who can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_turns_are_never_more_than_places_and_all_are_had() -> None:
    turns = Turns(places=3)
    for customer in range(7):
        turns.want(UUID(int=customer), turns=4)

    await turns.end_all(random.Random(1))

    assert turns.most == 3
    assert Counter(turns.begun) == {UUID(int=customer): 4 for customer in range(7)}


async def test_who_comes_behind_a_backlog_of_hundreds_is_the_next() -> None:
    """Proves Q5: a workspace does not wait for another's backlog."""
    turns = Turns(places=2)
    for _ in range(900):
        turns.want(LARGE)
    await settle()
    turns.want(SMALL)

    await turns.end()

    assert turns.begun[-1] == SMALL
    await turns.end_all(random.Random(1))


async def test_a_place_goes_to_who_has_waited_for_one_the_longest() -> None:
    customers = [UUID(int=number) for number in range(4)]
    turns = Turns(places=1)
    for customer in customers:
        turns.want(customer, turns=3)

    await turns.end_all(random.Random(1))

    assert turns.begun == customers * 3


@pytest.mark.parametrize("seed", range(20))
async def test_customers_who_always_want_one_have_as_many_turns(seed: int) -> None:
    """Whatever each has to do: no one is ahead by more than the turns that are under way."""
    draw = random.Random(seed)
    customers = [UUID(int=number) for number in range(draw.randint(2, 9))]
    places = draw.randint(1, 4)
    turns = Turns(places)
    for customer in customers:
        for _ in range(draw.choice((4, 9, 40))):
            turns.want(customer, turns=60)
    await settle()

    for _ in range(300):
        await turns.end()  # The oldest: turns of one length.

    had = Counter(turns.begun)
    assert max(had.values()) - min(had[customer] for customer in customers) <= places
    for task in turns.tasks:
        task.cancel()


async def test_who_gives_up_waiting_takes_no_place_along() -> None:
    turns = Turns(places=1)
    turns.want(LARGE)
    await settle()
    turns.want(SMALL)
    turns.want(SMALL)
    await settle()
    _, waiting, next_one = turns.tasks

    waiting.cancel()
    turns.under_way.pop()[1].set()
    await asyncio.sleep(0)
    next_one.cancel()  # The place has come, and is not begun.
    await settle()

    assert turns.begun == [LARGE]
    assert next_one.cancelled()
    async with asyncio.timeout(60), turns.rota.turn(SMALL):
        pass
