"""How far a partition may be committed: below the lowest offset that is not finished.

Promises: the watermark never passes an unfinished offset and never goes back; offsets may have
gaps (retention, compaction); finishing twice, or finishing what was never started, changes
nothing. One tracker belongs to one partition of one assignment epoch; when the partition is
assigned again it gets a new one, and late finishers of the old one are ignored
(RELIABILITY.md 2.3).
"""

from heapq import heappop, heappush


class Tracker:
    """The offsets of one partition that were started, in one assignment epoch."""

    __slots__ = ("_finished", "_heap", "_open", "committed", "epoch", "next_offset")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.next_offset: int | None = None  # After the last one started; None before the first.
        self.committed: int | None = None  # Last committed in this epoch.
        self._heap: list[int] = []
        self._open: set[int] = set()
        self._finished: set[int] = set()

    def start(self, offset: int) -> bool:
        """Begin an offset; False if it is a repetition of one that was begun in this epoch."""
        if self.next_offset is not None and offset < self.next_offset:
            return False
        heappush(self._heap, offset)
        self._open.add(offset)
        self.next_offset = offset + 1
        return True

    def finish(self, offset: int) -> None:
        """Say that an offset's effects are durable."""
        if offset not in self._open:
            return
        self._open.discard(offset)
        self._finished.add(offset)
        while self._heap and self._heap[0] in self._finished:
            self._finished.discard(heappop(self._heap))

    @property
    def open_count(self) -> int:
        """Return how many offsets were begun and are not finished."""
        return len(self._open)

    @property
    def watermark(self) -> int | None:
        """Return the lowest unfinished offset, else the next one; None before the first."""
        return self._heap[0] if self._heap else self.next_offset

    @property
    def committable(self) -> int | None:
        """Return the watermark if it is ahead of what was committed; None if it is not."""
        watermark = self.watermark
        if watermark is None or (self.committed is not None and watermark <= self.committed):
            return None
        return watermark

    @property
    def lag(self) -> int:
        """Return how many offsets lie between the watermark and the newest one begun."""
        if self.next_offset is None or self.watermark is None:
            return 0
        return self.next_offset - self.watermark
