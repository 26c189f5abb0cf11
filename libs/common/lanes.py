"""Queues of what must happen one after the other, beside others that need not.

A lane is everything with one key in one partition. Promises: items leave a lane in the order they
came; a batch holds at least one item and no more than its bounds allow (one item may exceed the
weight by itself: it can not be split); nothing is lost between `put`, `take` and `clear`.
Pure: no task, no clock, no Kafka. The consumer owns who runs a lane, and when.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Lane(Generic[Item]):
    """One key's queue, bounded per batch by a count and a weight."""

    __slots__ = ("_items", "_records_max", "_weight", "_weight_max", "queued_weight")

    def __init__(self, *, records_max: int, weight_max: int, weight: Callable[[Item], int]) -> None:
        assert records_max > 0
        assert weight_max > 0
        self._items: deque[Item] = deque()
        self._records_max = records_max
        self._weight_max = weight_max
        self._weight = weight
        self.queued_weight = 0

    def __len__(self) -> int:
        """Return how many items wait."""
        return len(self._items)

    def put(self, item: Item) -> None:
        """Append an item."""
        self._items.append(item)
        self.queued_weight += self._weight(item)

    def take(self) -> list[Item]:
        """Remove and return the next batch; empty if nothing waits."""
        batch = self._items_of(next(iter(self._cuts(self._items)), 0))
        self.queued_weight -= sum(map(self._weight, batch))
        return batch

    def clear(self) -> list[Item]:
        """Remove and return everything that waits."""
        dropped = self._items_of(len(self._items))
        self.queued_weight = 0
        return dropped

    @property
    def is_full(self) -> bool:
        """Return whether waiting longer could not make the next batch larger."""
        return len(self) >= self._records_max or self.queued_weight >= self._weight_max

    @property
    def waiting(self) -> int:
        """Return how many batches the waiting items would make."""
        return sum(1 for _ in self._cuts(self._items))

    def _items_of(self, count: int) -> list[Item]:
        return [self._items.popleft() for _ in range(count)]

    def _cuts(self, items: Iterable[Item]) -> Iterable[int]:
        """Yield the length of each batch that the items make."""
        count = weight = 0
        for item in items:
            added = self._weight(item)
            if count and (count >= self._records_max or weight + added > self._weight_max):
                yield count
                count = weight = 0
            count += 1
            weight += added
        if count:
            yield count


class Load:
    """How much of what was read is not finished: records, bytes and weight, in all and by place."""

    def __init__(self) -> None:
        self.records = 0
        self.bytes = 0
        self.weight = 0
        self._by_place: dict[Hashable, tuple[int, int, int]] = {}

    def add(self, place: Hashable, size: int, weight: int) -> None:
        """Count a record that was begun."""
        self._change(place, 1, size, weight)

    def remove(self, place: Hashable, size: int, weight: int) -> None:
        """Forget a record that ended, however it ended."""
        self._change(place, -1, -size, -weight)

    def of(self, place: Hashable) -> tuple[int, int, int]:
        """Return the records, bytes and weight of one place."""
        return self._by_place.get(place, (0, 0, 0))

    def _change(self, place: Hashable, records: int, size: int, weight: int) -> None:
        held_records, held_bytes, held_weight = self.of(place)
        self._by_place[place] = (held_records + records, held_bytes + size, held_weight + weight)
        self.records += records
        self.bytes += size
        self.weight += weight
