"""Bulk activities: accepted at once, carried out a little later, kept for ten days.

An activity's work is a function that is called when its time has come; it returns how many items
it completed and what went wrong with the others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid5

from sandbox.constant_contact.contacts import NAMESPACE
from sandbox.constant_contact.moments import written

QUEUE_MAX = 1_000
KEPT_S = 10 * 86_400


@dataclass(frozen=True, slots=True)
class Done:
    """What came of an activity; `counts` are those that its kind shows beside the usual ones."""

    completed: int
    errors: Sequence[str] = ()
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Activity:
    id: str
    kind: str
    items: int
    created_s: float
    due_s: float
    work: Callable[[], Done]
    done: Done | None = None

    @property
    def state(self) -> str:
        return "initialized" if self.done is None else "completed"

    def described(self) -> dict[str, Any]:
        """Return the activity as GET shows it."""
        done = self.done
        moments = {"created_at": written(int(self.created_s))}
        status: dict[str, int] = {"items_total_count": self.items}
        if done is not None:
            moments["started_at"] = moments["completed_at"] = written(int(self.due_s))
            status |= {"items_completed_count": done.completed, "error_count": len(done.errors)}
            status |= done.counts
        return {
            "activity_id": self.id,
            "state": self.state,
            **moments,
            "updated_at": written(int(self.created_s if done is None else self.due_s)),
            "percent_done": 1 if done is None else 100,
            "activity_errors": [{"message": each} for each in done.errors] if done else [],
            "status": status,
            "_links": {"self": {"href": f"/v3/activities/{self.id}"}},
        }


class Activities:
    """Every activity of one account."""

    def __init__(self, account: str) -> None:
        self._account = account
        self.by_id: dict[str, Activity] = {}

    @property
    def queued(self) -> int:
        return sum(each.done is None for each in self.by_id.values())

    def add(
        self, kind: str, items: int, work: Callable[[], Done], *, now_s: float, delay_s: float
    ) -> Activity:
        """Accept an activity; it is carried out when `carry_out_until` passes its time."""
        number = len(self.by_id) + 1
        made = Activity(
            str(uuid5(NAMESPACE, f"{self._account}:activity:{number}")),
            kind,
            items,
            now_s,
            now_s + delay_s,
            work,
        )
        self.by_id[made.id] = made
        return made

    def carry_out_until(self, now_s: float) -> None:
        for each in self.by_id.values():
            if each.done is None and each.due_s <= now_s:
                each.done = each.work()

    def recent(self, now_s: float) -> list[Activity]:
        """Return those of the last ten days, newest first."""
        kept = [each for each in self.by_id.values() if now_s - each.created_s < KEPT_S]
        return kept[::-1]
