"""What the quota ledger is to do, in as few words as can be: a model without a database.

It is written from PROTOCOL.md 5 and 9, not from the SQL. Thresholds in particular are told by what
must be true of a month, not by what crosses when: under the revision in force a threshold is
decided if and only if that share of the limit is used.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

THRESHOLDS = (80, 100)


class Refused(Exception):  # noqa: N818  # a word of the model, not an error of ours
    """The ledger must refuse this and change nothing."""


@dataclass(slots=True)
class Month:
    """One workspace's month; `ceiling` is what use may not pass: the limit, unless it was lowered.

    `posted` says by which hold each effect was charged. `told` are the decisions that were
    published: revision, threshold, and whether it says both.
    """

    limit: int
    revision: int
    ceiling: int = 0
    held: int = 0
    posted: dict[int, int] = field(default_factory=dict)
    decided: set[tuple[int, int]] = field(default_factory=set)
    told: Counter[tuple[int, int, bool]] = field(default_factory=Counter)

    @property
    def used(self) -> int:
        """Return what counts against the limit: charged and reserved."""
        return len(self.posted) + self.held

    def decide(self) -> None:
        """Decide what is true now; two thresholds that become true at once are told as one."""
        now = {
            threshold
            for threshold in THRESHOLDS
            if len(self.posted) * 100 >= self.limit * threshold
            and (self.revision, threshold) not in self.decided
        }
        self.decided |= {(self.revision, threshold) for threshold in now}
        if now:
            self.told[self.revision, max(now), len(now) > 1] += 1

    def settle(self) -> None:
        """Let the ceiling come down with the use that was above a lowered limit."""
        self.ceiling = max(self.limit, min(self.ceiling, self.used))


@dataclass(slots=True)
class Hold:
    """Units of a workspace's month: each is posted or given back once, or open."""

    workspace: int
    month: int
    amount: int
    posted: set[int] = field(default_factory=set)
    absorbed: set[int] = field(default_factory=set)
    released: int = 0

    @property
    def open(self) -> int:
        """Return how many units are neither posted nor given back."""
        return self.amount - len(self.posted) - len(self.absorbed) - self.released


@dataclass(slots=True)
class Model:
    """A whole ledger; workspaces, holds, effects and months are numbers."""

    limits: dict[int, tuple[int, int]] = field(default_factory=dict)  # limit, revision
    months: dict[tuple[int, int], Month] = field(default_factory=dict)
    holds: dict[int, Hold] = field(default_factory=dict)
    now: int = 0

    def month_of(self, workspace: int, month: int) -> Month:
        """Return a workspace's month, made with the standing limit when it is first needed."""
        if (workspace, month) not in self.months:
            limit, revision = self.limits[workspace]
            made = Month(limit, revision, ceiling=limit)
            made.decide()
            self.months[workspace, month] = made
        return self.months[workspace, month]

    def hold(self, workspace: int, hold: int, wanted: int) -> int:
        """Grant what there is room for, once for each hold; return what of it is open."""
        if hold in self.holds:
            return self.holds[hold].open
        month = self.month_of(workspace, self.now)
        granted = min(wanted, max(0, month.limit - month.used))
        if granted:
            self.holds[hold] = Hold(workspace, self.now, granted)
            month.held += granted
        return granted

    def post(self, hold: int, effects: Collection[int]) -> int:
        """Charge effects in the month of their hold; one that is charged already costs nothing."""
        units = self._known(hold)
        month = self.months[units.workspace, units.month]
        new = {effect for effect in effects if effect not in month.posted}
        absorbed = {
            effect
            for effect in effects
            if month.posted.get(effect, hold) != hold and effect not in units.absorbed
        }
        if len(new) + len(absorbed) > units.open:
            raise Refused
        units.posted |= new
        units.absorbed |= absorbed
        month.posted |= dict.fromkeys(new, hold)
        month.held -= len(new) + len(absorbed)
        month.settle()
        month.decide()
        return len(new)

    def release(self, hold: int, count: int) -> None:
        """Give units back."""
        if not count:
            return
        units = self._known(hold)
        if count > units.open:
            raise Refused
        units.released += count
        month = self.months[units.workspace, units.month]
        month.held -= count
        month.settle()

    def set_limit(self, workspace: int, limit: int, revision: int) -> None:
        """Put a limit in force; `revision` is what the ledger calls it: anything that is new."""
        before = self.limits.get(workspace, (limit, revision))
        self.limits[workspace] = (limit, revision)
        is_first = (workspace, self.now) not in self.months
        month = self.month_of(workspace, self.now)
        if before[0] == limit:
            assert revision == before[1], "the same limit is no new revision"
            return
        assert revision > before[1], "a revision that was there before"
        if is_first:
            return
        assert revision > month.revision, "two limits of one revision"
        month.limit, month.revision = limit, revision
        month.ceiling = max(limit, month.used)
        month.decide()

    def is_open(self, workspace: int) -> bool:
        """Return whether a workspace may write now."""
        month = self.months.get((workspace, self.now))
        if month is None:
            return self.limits[workspace][0] > 0
        return month.used < month.limit

    def _known(self, hold: int) -> Hold:
        if hold not in self.holds:
            raise Refused
        return self.holds[hold]
