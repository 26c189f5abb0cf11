"""How many calls a provider lets through: sliding windows and counters by day.

A bucket is a name and its windows; a call is let through if every window of its bucket has room,
and only then is it counted. A window slides: it looks at the calls that arrived in the last
`window_s` seconds, less a tolerance of 50 ms for what a network adds between a caller's clock and
ours, and less what a call may have waited while this process stood still (`sandbox.stalls`). A day
ends at midnight of the account's time zone.
"""

from bisect import insort
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from sandbox.clock import Clock

TOLERANCE_S = 0.05


@dataclass(frozen=True, slots=True)
class Reading:
    """How full a window is: `resets_in_s` is when it has room again, or is as empty as it gets."""

    limit: int
    remaining: int
    window_s: float
    resets_in_s: float


class Window(Protocol):
    limit: int

    def has_room(self, now_s: float) -> bool: ...

    def take(self, now_s: float) -> None: ...

    def read(self, now_s: float) -> Reading: ...


class SlidingWindow:
    def __init__(self, limit: int, window_s: float) -> None:
        self.limit = limit
        self.window_s = window_s
        self._arrivals: deque[float] = deque()

    def has_room(self, now_s: float) -> bool:
        self._forget(now_s)
        return len(self._arrivals) < self.limit

    def take(self, now_s: float) -> None:
        if self._arrivals and now_s < self._arrivals[-1]:
            insort(self._arrivals, now_s)  # Who came first may be counted last.
        else:
            self._arrivals.append(now_s)

    def read(self, now_s: float) -> Reading:
        self._forget(now_s)
        oldest_s = self._arrivals[0] if self._arrivals else now_s
        remaining = max(self.limit - len(self._arrivals), 0)
        return Reading(self.limit, remaining, self.window_s, oldest_s + self.window_s - now_s)

    def _forget(self, now_s: float) -> None:
        horizon_s = now_s - self.window_s + min(TOLERANCE_S, self.window_s / 2)
        while self._arrivals and self._arrivals[0] <= horizon_s:
            self._arrivals.popleft()


class DailyWindow:
    """So many calls a calendar day of a time zone."""

    def __init__(self, limit: int, time_zone: str) -> None:
        self.limit = limit
        self._zone = ZoneInfo(time_zone)
        self._ends_s = 0.0
        self._taken = 0

    def has_room(self, now_s: float) -> bool:
        self._turn_the_page(now_s)
        return self._taken < self.limit

    def take(self, now_s: float) -> None:
        self._turn_the_page(now_s)
        self._taken += 1

    def read(self, now_s: float) -> Reading:
        self._turn_the_page(now_s)
        remaining = max(self.limit - self._taken, 0)
        return Reading(self.limit, remaining, 86_400, self._ends_s - now_s)

    def _turn_the_page(self, now_s: float) -> None:
        if now_s < self._ends_s:
            return
        today = datetime.fromtimestamp(now_s, self._zone)
        tomorrow = (today + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        self._ends_s = tomorrow.timestamp()
        self._taken = 0


@dataclass(frozen=True, slots=True)
class Overrun:
    """The window of a bucket that had no room, and how full it is."""

    bucket: str
    index: int
    reading: Reading


class Limits:
    """The buckets of one account."""

    def __init__(self, clock: Clock, buckets: Mapping[str, Sequence[Window]]) -> None:
        self.enabled = True
        self._clock = clock
        self._buckets = {name: list(windows) for name, windows in buckets.items()}
        # How many calls were let through in each second of our clock: how much of a limit is used.
        self._by_second: defaultdict[str, Counter[int]] = defaultdict(Counter)

    @property
    def names(self) -> list[str]:
        return sorted(self._buckets)

    def replace(self, bucket: str, windows: Sequence[Window]) -> None:
        """Give a bucket other windows; what it has counted is forgotten."""
        self._buckets[bucket] = list(windows)

    def take(
        self, bucket: str, arrived_s: float | None = None, unseen_s: float = 0.0
    ) -> Overrun | None:
        """Count one call; or, if it is over a limit, return which, and count nothing.

        `arrived_s` is when it was seen, by the clock of these limits; None is now. It may have come
        `unseen_s` before: from then on it counts against those after it.
        """
        if not self.enabled:
            return None
        now_s = self._clock.now_s() if arrived_s is None else arrived_s
        windows = self._buckets[bucket]
        for index, window in enumerate(windows):
            if not window.has_room(now_s):
                return Overrun(bucket, index, window.read(now_s))
        for window in windows:
            window.take(now_s - unseen_s)
        self._by_second[bucket][int(now_s)] += 1
        return None

    def report(self) -> dict[str, dict[str, Any]]:
        """Return each bucket's windows, and what was let through by second since the start.

        Seconds are those of the clock's epoch, oldest first; those without a call are left out.
        """
        return {
            bucket: {
                "windows": [
                    {"limit": window.limit, "window_s": window.read(self._clock.now_s()).window_s}
                    for window in windows
                ],
                "by_second": sorted(self._by_second[bucket].items()),
            }
            for bucket, windows in sorted(self._buckets.items())
        }

    def read(self, bucket: str) -> list[Reading]:
        """Return how full each window of a bucket is, in the order they were given."""
        now_s = self._clock.now_s()
        return [window.read(now_s) for window in self._buckets[bucket]]
