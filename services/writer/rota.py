"""Whose turn it is when more want one than there are places: in turn between customers.

Promises: never more turns at once than places; a place that gets free goes to the customer with the
fewest turns under way, among those to who has waited for one the longest, and within a customer to
who came first. So nobody waits for another's backlog, whatever its size: after its turn it joins
again behind everybody who has not had one since. Knows no time and no database.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

# Customers whose last turn is remembered. Who is forgotten has not had one for longer than all of
# these, and comes first as if it had never had one: which is what its place would be anyway.
REMEMBERED_MAX = 10_000


class Rota:
    """The places of one process; all methods are called in its event loop."""

    def __init__(self, places: int) -> None:
        assert places > 0
        self._free = places
        self._waiting: dict[UUID, deque[asyncio.Future[None]]] = {}
        self._under_way: Counter[UUID] = Counter()
        self._turns = 0
        self._last_turn: dict[UUID, int] = {}  # By its number, the longest ago first.

    @asynccontextmanager
    async def turn(self, customer: UUID) -> AsyncIterator[None]:
        """Wait for a place; have it until the block ends."""
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(customer, deque()).append(given)
        self._give()
        try:
            await given
        except asyncio.CancelledError:
            self._withdraw(customer, given)
            raise
        try:
            yield
        finally:
            self._end(customer)

    def _withdraw(self, customer: UUID, given: "asyncio.Future[None]") -> None:
        """Leave the queue; a place that came at the very moment goes to the next."""
        if not given.cancelled():
            self._end(customer)
            return
        queue = self._waiting.get(customer, deque())
        if given in queue:
            queue.remove(given)
        if not queue:
            self._waiting.pop(customer, None)

    def _end(self, customer: UUID) -> None:
        self._free += 1
        self._under_way[customer] -= 1
        if not self._under_way[customer]:
            del self._under_way[customer]
        self._give()

    def _give(self) -> None:
        while self._free and self._waiting:
            customer = min(self._waiting, key=self._precedence)
            queue = self._waiting[customer]
            given = queue.popleft()
            if not queue:
                del self._waiting[customer]
            if given.cancelled():
                continue  # It has not noticed yet.
            self._free -= 1
            self._under_way[customer] += 1
            self._note(customer)
            given.set_result(None)

    def _precedence(self, customer: UUID) -> tuple[int, int]:
        return self._under_way[customer], self._last_turn.get(customer, 0)

    def _note(self, customer: UUID) -> None:
        self._turns += 1
        self._last_turn.pop(customer, None)
        self._last_turn[customer] = self._turns
        if len(self._last_turn) > REMEMBERED_MAX:
            del self._last_turn[next(iter(self._last_turn))]
