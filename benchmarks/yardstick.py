"""How much a CPU second was worth while something was measured.

The same work was seen to take twice the CPU seconds on a busy machine, most likely because cores
share caches and execution units, with one another or with others of the host; no clock of a process
tells that. So a small loop is timed over and over beside what is measured. It takes about one
hundredth of one core, in the bench's own process, which is no part of any figure.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

EVERY_S = 0.02
TURNS = 1_500  # Some 0.15 ms: seldom interrupted, and long beside the clock's own call.
KEYS = 1_000
THREAD = "yardstick"
WARM_UP_LOOKS = 50
# The fastest of thousands of looks is a lucky one; so many are not.
BEST_SHARE = 0.02


def look() -> float:
    """Return the CPU nanoseconds of this thread for one turn of the loop.

    It does what an interpreter mostly does: it makes small objects and keeps them in a dict.
    """
    kept: dict[int, tuple[int, str]] = {}
    before = time.thread_time_ns()
    for turn in range(TURNS):
        kept[turn % KEYS] = (turn, str(turn))
    return (time.thread_time_ns() - before) / TURNS


def best_of(looks: Sequence[float]) -> float:
    """Return what a turn takes where nothing is in its way, as far as these looks tell."""
    return sorted(looks)[int(len(looks) * BEST_SHARE)]


@dataclass(slots=True)
class Yardstick:
    """What was seen; the best of it is remembered from one phase to the next."""

    best_ns: float = float("inf")
    looks: list[float] = field(default_factory=list)

    @property
    def pace(self) -> float:
        """Return the work of a CPU second as a share of that of the best one; 1 without looks."""
        if not self.looks:
            return 1.0
        return min(1.0, self.best_ns * len(self.looks) / sum(self.looks))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Look again and again until the block ends; the looks before are forgotten."""
        self.looks = []
        ended = threading.Event()
        thread = threading.Thread(target=self._look_until, args=(ended,), name=THREAD, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _look_until(self, ended: threading.Event) -> None:
        for _ in range(WARM_UP_LOOKS):
            look()
        while not ended.wait(EVERY_S):
            self.looks.append(look())
        if self.looks:
            self.best_ns = min(self.best_ns, best_of(self.looks))
