"""For how long a call may have waited before this process could see it.

Everything here runs in one loop. While a handler computes (an import of thousands of contacts), or
the machine is busy with others, calls that arrive wait unseen and are then read at once: by our
clock they came together, however well their caller spaced them. A provider has machines enough not
to; so limits count such a call from the earliest moment at which it may have come.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

TICK_S = 0.02
LATE_S = 0.005  # A tick that is later than this was kept waiting.


class Stalls:
    """When the loop last had time for whatever had arrived."""

    def __init__(self, read_s: Callable[[], float] = time.monotonic) -> None:
        self._read_s = read_s
        self._ticked_s = self._attentive_s = read_s()

    def tick(self, due_s: float) -> None:
        """Hear that the loop is here, where it should have been at `due_s`.

        If it is late it stood still since some moment after the tick before.
        """
        now_s = self._read_s()
        self._attentive_s = self._ticked_s if now_s > due_s + LATE_S else now_s
        self._ticked_s = now_s

    def unseen_s(self) -> float:
        """Return how many seconds ago something that is read now may have arrived at most."""
        return self._read_s() - self._attentive_s


@asynccontextmanager
async def watching_for_stalls() -> AsyncIterator[Stalls]:
    """Watch the running loop for as long as the block lasts."""
    stalls = Stalls()

    async def watch() -> None:
        while True:
            due_s = time.monotonic() + TICK_S
            await asyncio.sleep(TICK_S)
            stalls.tick(due_s)

    task = asyncio.create_task(watch())
    try:
        yield stalls
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
