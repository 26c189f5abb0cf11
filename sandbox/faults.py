"""Faults that a test sets: what goes wrong, where, how often.

A plan is a list of faults. For each call every matching `latency` is added up, and the first other
fault that matches and still has a turn decides what happens. Whether a fault with a `share`
strikes is drawn from its own seeded random numbers, so a run can be repeated.
"""

import random
import re
from typing import Any, Literal

import msgspec

Kind = Literal["latency", "status", "cut", "cut_after", "truncate", "html", "lie", "throttle"]


class Match(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which calls: `method` in upper case, `path` a regular expression searched for in the path."""

    method: str | None = None
    path: str | None = None


class FaultPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One fault as a test writes it."""

    kind: Kind
    match: Match = Match()
    seconds: float = 0.0
    status: int | None = None
    body: Any = None
    headers: dict[str, str] = {}
    times: int | None = None  # None: as often as it matches.
    share: float = 1.0
    seed: int = 1


class Fault:
    """A planned fault and what has become of it."""

    def __init__(self, plan: FaultPlan) -> None:
        self.plan = plan
        self.struck = 0
        self._path = re.compile(plan.match.path or "")
        self._random = random.Random(plan.seed)

    def strikes(self, method: str, path: str) -> bool:
        """Tell whether the fault strikes this call; if it does, that is one of its times."""
        plan = self.plan
        if plan.times is not None and self.struck >= plan.times:
            return False
        if plan.match.method not in (None, method) or not self._path.search(path):
            return False
        if plan.share < 1 and self._random.random() >= plan.share:
            return False
        self.struck += 1
        return True


class Faults:
    """The faults of one account, in the order in which they are tried."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def plan(self, plans: list[FaultPlan]) -> None:
        """Replace all faults; raises `ValueError` if a path is not a regular expression."""
        try:
            self._faults = [Fault(plan) for plan in plans]
        except re.error as error:
            message = f"a fault's match.path is not a regular expression: {error}"
            raise ValueError(message) from error

    def clear(self) -> None:
        self._faults = []

    def strike(self, method: str, path: str) -> tuple[float, FaultPlan | None]:
        """Return how many seconds to wait before anything else, and what goes wrong then."""
        seconds = 0.0
        for fault in self._faults:
            if not fault.strikes(method, path):
                continue
            if fault.plan.kind != "latency":
                return seconds + fault.plan.seconds, fault.plan
            seconds += fault.plan.seconds
        return seconds, None

    def report(self) -> list[dict[str, Any]]:
        return [
            {**msgspec.to_builtins(fault.plan), "struck": fault.struck} for fault in self._faults
        ]
