"""How what was settled becomes run counts and the status of every contact (PROTOCOL.md 8).

Promises: a part's stage counts once, however often it is delivered (the store tells which were
new); direct and import stages make a run's sum, drains are told apart as settled later; a run is
complete when every part its run_read names is there, no import is open and the sum fits.
Everything here is a function of values.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import msgspec

from libs.common.events import DIRECT, RunRead, Settled

DRAIN = "drain:"

COUNTS = (
    "created",
    "updated",
    "removed",
    "unchanged",
    "superseded",
    "filtered",
    "rejected",
    "parked",
)


def counts_of(settled: Settled) -> dict[str, int]:
    """Return how many contacts of a part's stage ended in each way, importing apart."""
    return {
        "created": len(settled.created),
        "updated": len(settled.updated),
        "removed": len(settled.removed),
        "unchanged": settled.unchanged,
        "superseded": settled.superseded,
        "filtered": settled.filtered,
        "rejected": len(settled.rejected),
        "parked": len(settled.parked),
    }


@dataclass(slots=True)
class RunDelta:
    """What new parts add to one run's row."""

    integration: UUID
    workspace: UUID
    run_no: int
    parts: int = 0
    importing: int = 0  # Negative: an import's stage resolves what a direct stage announced.
    counts: Counter[str] = field(default_factory=Counter)
    later: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    parked: Counter[str] = field(default_factory=Counter)


def deltas(parts: Iterable[Settled]) -> Mapping[UUID, RunDelta]:
    """Return what parts that were never counted before add to their runs."""
    found: dict[UUID, RunDelta] = {}
    for part in parts:
        delta = found.setdefault(part.run, RunDelta(part.integration, part.workspace, part.run_no))
        counts = counts_of(part)
        if part.stage.startswith(DRAIN):
            delta.later.update({name: n for name, n in counts.items() if n})
            continue
        delta.counts.update(counts)
        delta.rejected.update(reason for _, reason in part.rejected)
        delta.parked.update(reason for _, reason in part.parked)
        if part.stage == DIRECT:
            delta.parts += 1
            delta.importing += part.importing
        else:
            delta.importing -= sum(counts.values())
    return found


class ContactStatus(msgspec.Struct, frozen=True, gc=False):
    """The last that is known of a contact; `reason` is None for what was written as it is."""

    source_id: str
    status: str
    reason: str | None
    run_no: int


def statuses(parts: Sequence[Settled]) -> Sequence[ContactStatus]:
    """Return each named contact's last status: of several, that of the newest run, told last."""
    last: dict[str, ContactStatus] = {}
    for part in parts:
        for status in _named(part):
            known = last.get(status.source_id)
            if known is None or known.run_no <= status.run_no:
                last[status.source_id] = status
    return list(last.values())


def _named(part: Settled) -> Iterable[ContactStatus]:
    warnings = dict(part.warned)
    for name, ids in (
        ("created", part.created),
        ("updated", part.updated),
        ("removed", part.removed),
    ):
        for source_id in ids:
            yield ContactStatus(source_id, name, warnings.get(source_id), part.run_no)
    for name, reasons in (("rejected", part.rejected), ("parked", part.parked)):
        for source_id, reason in reasons:
            yield ContactStatus(source_id, name, reason, part.run_no)


@dataclass(frozen=True, slots=True)
class RunSums:
    """A run as it stands: what run_read said (`parts` None: not there yet) and the sums."""

    parts: int | None
    parts_settled: int
    read: int
    settled: int
    importing: int
    read_is_complete: bool
    total_before: int | None
    total_after: int | None


@dataclass(frozen=True, slots=True)
class Ended:
    """A run's end: its state, and the proof in one word."""

    state: str
    verdict: str


def ending(run: RunSums) -> Ended | None:
    """Return how a run ended; None while something of it is still to come.

    An incomplete run is judged again when more of it comes: another poller may have gone on where
    one stalled. A source whose own total moved during the read is `source_changed`, which is no
    fault: what changed is read by the next run.
    """
    if run.parts is None or run.parts_settled < run.parts or run.importing > 0:
        return None
    if not run.read_is_complete or run.settled != run.read:
        return Ended("incomplete", "incomplete")
    if run.total_before != run.total_after:
        return Ended("complete", "source_changed")
    return Ended("complete", "complete")


def split(events: Iterable[object]) -> tuple[list[Settled], list[RunRead]]:
    """Return the two kinds of event apart, each in the order given."""
    settled: list[Settled] = []
    run_reads: list[RunRead] = []
    for event in events:
        match event:
            case Settled():
                settled.append(event)
            case RunRead():
                run_reads.append(event)
    return settled, run_reads
