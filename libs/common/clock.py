"""Time, as an object that is handed down, so that a test can choose it.

`now` is wall-clock UTC, for what people see. `monotonic` measures local deadlines. Leases,
holds and quota periods use neither: they belong to the database's clock (RELIABILITY R7).
"""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What any part of the platform may know about time."""

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""

    def monotonic(self) -> float:
        """Return seconds that never go backwards; only differences mean something."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never go backwards; only differences mean something."""
        return time.monotonic()
