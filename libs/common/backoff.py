"""How long to wait before trying again: longer each time, and never all at once.

Promise: a delay is drawn evenly from 0 to `min(most_s, first_s * 2 ** failures)` ("full jitter",
https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), so that many callers
that failed together do not come back together. What the other side asked for is a lower bound,
and is itself bounded: a provider may be absurd.

    backoff = Backoff(first_s=0.5, most_s=30.0)
    while not await tried():
        await backoff.wait()
"""

import asyncio
from collections.abc import Callable
from random import SystemRandom

DOUBLINGS_MAX = 32  # 2 ** 32 seconds is longer than any bound, and a float can hold it.
ASKED_MAX_S = 86_400.0  # A day: the longest that a provider may ask for (PROTOCOL.md 7).

Uniform = Callable[[float, float], float]
SYSTEM_UNIFORM: Uniform = SystemRandom().uniform


class Backoff:
    """The waits of one thing that is tried again and again; all times in seconds."""

    def __init__(
        self,
        *,
        first_s: float,
        most_s: float,
        asked_max_s: float = ASKED_MAX_S,
        uniform: Uniform = SYSTEM_UNIFORM,
    ) -> None:
        assert 0 < first_s <= most_s
        self.failures = 0  # In a row, since the start or the last `reset`.
        self._first_s = first_s
        self._most_s = most_s
        self._asked_max_s = asked_max_s
        self._uniform = uniform

    def next_s(self, *, asked_s: float | None = None) -> float:
        """Count a failure and return how long to wait; at least what was asked for."""
        highest = min(self._most_s, self._first_s * 2.0 ** min(self.failures, DOUBLINGS_MAX))
        self.failures += 1
        jitter = self._uniform(0.0, highest)
        # On top of what was asked: who was told the same time must not return together.
        return min(max(asked_s or 0.0, 0.0), self._asked_max_s) + jitter

    async def wait(self, *, asked_s: float | None = None) -> None:
        """Count a failure and wait."""
        await asyncio.sleep(self.next_s(asked_s=asked_s))

    def reset(self) -> None:
        """Forget the failures: it worked."""
        self.failures = 0
