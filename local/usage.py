"""What processes cost: CPU seconds by phase, and the most memory, restarts included.

A process that has ended is measured once more before it is reaped (the system keeps its times
until then), so nothing it used is missed.
"""

from collections import defaultdict
from dataclasses import dataclass, field

import psutil

STARTUP = "startup"
MB = 1_000_000


@dataclass(slots=True)
class Usage:
    """One name's use over all the processes that bore it."""

    cpu_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    rss_bytes_max: int = 0
    restarts: int = 0

    def report(self, *, without: str = "") -> dict[str, object]:
        """Return it as DESIGN.md shows it, one phase left out."""
        return {
            "cpu_s": {
                phase: round(seconds, 2)
                for phase, seconds in self.cpu_s.items()
                if phase != without
            },
            "rss_mb_max": round(self.rss_bytes_max / MB, 1),
            "restarts": self.restarts,
        }


class Meter:
    """Adds up what named processes use, in whichever phase it is."""

    def __init__(self) -> None:
        self.usage: dict[str, Usage] = defaultdict(Usage)
        self.phase = STARTUP
        self._seen_s: dict[int, float] = {}  # CPU seconds of a pid that are added up already.

    def enter(self, phase: str, processes: dict[str, int]) -> None:
        """Begin a phase; what was used until now belongs to the one before."""
        for name, pid in processes.items():
            self.measure(name, pid)
        self.phase = phase

    def measure(self, name: str, pid: int) -> None:
        """Add what a process used since it was last measured."""
        try:
            family = _family(pid)
        except psutil.NoSuchProcess:
            return
        used_s = sum(_cpu_s(process) for process in family)
        usage = self.usage[name]
        # Never less than before: a child that ends between two looks is counted a moment later.
        seen_s = self._seen_s.get(pid, 0.0)
        usage.cpu_s[self.phase] += max(0.0, used_s - seen_s)
        self._seen_s[pid] = max(used_s, seen_s)
        usage.rss_bytes_max = max(usage.rss_bytes_max, _rss_bytes(family))

    def ended(self, name: str, pid: int) -> None:
        """Measure a process for the last time: it has ended, but is not yet reaped."""
        self.measure(name, pid)
        self._seen_s.pop(pid, None)


def _family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    # Only PostgreSQL works with children; to look for any is to look at all processes there are.
    has_children = process.name() == "postgres"
    return [process, *(process.children(recursive=True) if has_children else [])]


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


def _rss_bytes(family: list[psutil.Process]) -> int:
    """Return resident memory, what several share counted once."""
    shared, own = 0, 0
    for process in family:
        try:
            memory = process.memory_info()
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        shared = max(shared, getattr(memory, "shared", 0))
        own += memory.rss - getattr(memory, "shared", 0)
    return shared + own
