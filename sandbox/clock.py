"""What time it is in the sandbox.

Every modification time, token lifetime and rate window of the sandbox is read from one `Clock`. By
itself it is the machine's clock; a test may give it another reading, or move it (`PUT
/_sandbox/clock`) to see a token expire.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime


class Clock:
    def __init__(self, read_s: Callable[[], float] = time.time) -> None:
        self._read_s = read_s
        self._moved_s = 0.0

    def now_s(self) -> float:
        """Return the seconds since 1970 (UTC)."""
        return self._read_s() + self._moved_s

    def now_ms(self) -> int:
        return int(self.now_s() * 1000)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.now_s(), UTC)

    def move(self, seconds: float) -> None:
        """Let so many seconds pass at once; negative ones go back."""
        self._moved_s += seconds

    def reset(self) -> None:
        self._moved_s = 0.0
