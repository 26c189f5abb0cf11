"""An event loop whose clock jumps from one timer to the next: a minute costs what happens in it.

Promise: what runs on it waits for nothing outside of it, so equal seeds give equal histories.
"""

import asyncio
import selectors
from datetime import UTC, datetime, timedelta

# Some day in the middle of a month, so that local time zones do not matter.
EPOCH = datetime(2026, 3, 15, 12, 0, tzinfo=UTC)


class StandstillError(Exception):
    """Everybody waits for somebody else: nothing will ever happen again."""


class _Skipping(selectors.SelectSelector):
    """Waits by adding up."""

    def __init__(self) -> None:
        super().__init__()
        self.time_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise StandstillError
        self.time_s += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop without sockets and without waiting."""

    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.time_s


class VirtualClock:
    """`libs.common.clock.Clock` of a virtual loop: all machines' clocks agree."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self._loop.time())

    def monotonic(self) -> float:
        return self._loop.time()
