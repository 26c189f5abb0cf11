"""How a run and an integration stand, from what several services know: decisions without I/O."""

from enum import StrEnum

from libs.common.reasons import Trouble
from services.config_api.store.integrations import Integration, Standing
from services.config_api.store.runs import Counts, RunRow


class RunState(StrEnum):
    """The states of a run that people see (PROTOCOL 4)."""

    READING = "reading"
    SETTLING = "settling"
    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    NEEDS_CONFIRMATION = "needs_confirmation"
    CANCELLED = "cancelled"


class Status(StrEnum):
    """An integration's state as it is shown: the last two are computed, never stored."""

    DRAFT = "draft"
    ACTIVE = "active"
    PAUSED = "paused"
    ERROR = "error"
    ARCHIVED = "archived"
    STOPPED_QUOTA = "stopped_quota"
    DEGRADED = "degraded"


_READ_STATES = {
    "reading": RunState.READING,
    "failed": RunState.INCOMPLETE,
    "abandoned": RunState.INCOMPLETE,
    "cancelled": RunState.CANCELLED,
}
ENDED = frozenset({RunState.COMPLETE, RunState.INCOMPLETE, RunState.CANCELLED})


def run_state(run: RunRow) -> RunState:
    """Return a run's state: the poller's word until all is read, then activity's."""
    if run.state != "read":
        return _READ_STATES[run.state]
    if run.is_confirmable:
        return RunState.NEEDS_CONFIRMATION
    if run.settled_state in ("complete", "incomplete"):
        return RunState(run.settled_state)
    return RunState.SETTLING


def settled(counts: Counts) -> int:
    """Return how many contacts have an outcome."""
    return (
        counts.created
        + counts.updated
        + counts.removed
        + counts.unchanged
        + counts.superseded
        + counts.filtered
        + counts.rejected
        + counts.parked
    )


def tasks(run: RunRow) -> int:
    """Return how many contacts were written, those that had to wait included (Q6)."""
    counts = run.counts
    later = sum(int(run.settled_later.get(name, 0)) for name in ("created", "updated", "removed"))
    return counts.created + counts.updated + counts.removed + later


def run_progress(run: RunRow) -> float:
    """Return how far a run is, from 0 to 1; 0 while nobody knows how much there is."""
    if run_state(run) in ENDED:
        return 1.0
    total = run.read if run.state == "read" else max(run.read, run.expected or 0)
    if total == 0:
        return 1.0 if run.state == "read" else 0.0
    # Only an ended run is all done: the last outcome may still be on its way.
    return min(round(settled(run.counts) / total, 4), 0.99)


def status(integration: Integration, standing: Standing | None) -> tuple[Status, str | None]:
    """Return the status that is shown, and the code of why where it is not the stored state.

    What was stopped for want of a plan rests like what people paused, and is shown as an error:
    nobody there has paused it (docs/decisions/0154).
    """
    if integration.state == "paused" and integration.error_reason == Trouble.PLAN_NEEDED:
        return Status.ERROR, integration.error_reason
    if integration.state != "active" or standing is None:
        return Status(integration.state), integration.error_reason
    if standing.way_back_reason is not None:
        return Status.ERROR, standing.way_back_reason
    if not standing.is_open:
        return Status.STOPPED_QUOTA, "quota"
    reason = _why_degraded(standing)
    return (Status.ACTIVE if reason is None else Status.DEGRADED), reason


def _why_degraded(standing: Standing) -> str | None:
    if "needs_reauth" in standing.connection_states:
        return "needs_reauth"
    if standing.blocked_reason is not None:
        return standing.blocked_reason
    if standing.failures:
        return "source_down"
    return "source_rate_limited" if standing.waits_for_calls else None
