"""Decide what a claimed integration's next run is, where it starts, and what its end means.

Pure: values in, values out; no clock, no draw of chance. Times are milliseconds since 1970 by the
database's clock unless a name says otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import msgspec

from libs.common import ids
from libs.common.events import Change, Operation, RunMode
from libs.common.secrets import Sealed
from libs.connectors.contract import ContactList, Cursor, Facts, Sweep
from services.poller.parts import CHANGES_SAFE

# Providers' indexes are late by minutes (HubSpot's search; Airbyte looks back as far): read again,
# which costs nothing where nothing changed.
OVERLAP_MS = 15 * 60 * 1000
# A window is told by our clock and compared with the provider's: where that one is ahead, what was
# edited just now is later than now. Read as far ahead; it is read again by the next run.
AHEAD_MS = OVERLAP_MS
MEMBERS_EVERY_MS = 24 * 3_600 * 1000  # PROTOCOL.md 4.3: all members once a day regardless.


@dataclass(frozen=True, slots=True)
class Account:
    """The source connection, as far as reading needs it; `sealed` are its credentials."""

    connection: UUID
    account_id: str | None
    time_zone: str
    tier: str | None
    account_url: str | None = None
    sealed: Sealed | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """An integration that this process has leased: what to read, and what is known of it.

    `now_ms` is when it was claimed. `removes_absent`: who is gone is to be taken off the list of
    the destination (S4). `has_confirmed`: a person confirmed deletions that were withheld.
    `reported_reason`: the trouble that was reported and that a good run ends. `known_fields` are
    those of an automatic import that are mapped or about to be (AC1); None: people map them.
    `has_left_out`: some were left out of runs of changes, and `has_replays` that a person wants
    them read (CC4). `members_wanted_ms` is when the provider last told of somebody who is gone.
    `changes_max` is how many small changes may travel in one record (`parts.changes_max`).
    """

    integration: UUID
    workspace: UUID
    fencing: int
    provider: str
    source: Account
    object: str
    list_id: str | None
    properties: Sequence[str]
    mapping_version: int
    wanted_mode: RunMode
    wanted_mapping_version: int
    last_run_no: int
    failures: int
    interval_s: float
    now_ms: int
    read_from_ms: int | None = None
    sweeping: "Sweeping | None" = None
    roll: "Roll | None" = None
    removes_absent: bool = False
    has_confirmed: bool = False
    reported_reason: str | None = None
    known_fields: frozenset[str] | None = None
    has_left_out: bool = False
    has_replays: bool = False
    members_wanted_ms: int | None = None
    changes_max: int = CHANGES_SAFE

    @property
    def leaving(self) -> Operation:
        """Return what it is called when a contact is not there any more."""
        return Operation.DELETE if self.list_id is None else Operation.LEAVE


class Sweeping(msgspec.Struct, frozen=True, kw_only=True):
    """A run under way, with all that a later claim must know to go on with it.

    `cursor` is where the next page starts; `is_swept` says that all pages were published.
    `members_before` is how many were known when a full run began. `is_doubtful`: a page was
    (`libs.connectors.contract.Page`), so nobody is gone for not having been met.
    """

    run_no: int
    mode: RunMode
    mapping_version: int
    since_ms: int | None
    until_ms: int
    cursor: str | None = None
    is_swept: bool = False
    pages: int = 0
    parts: int = 0
    read: int = 0
    met: int = 0
    left_out: int = 0
    is_doubtful: bool = False
    total_before: int | None = None
    members_before: int = 0


class Roll(msgspec.Struct, frozen=True, kw_only=True):
    """How a list looked when its members were last read, and whose newcomers are settled.

    `position` is where the last run ended, by the provider's own token where it has one.
    """

    settled_run_no: int = 0
    read_at_ms: int | None = None
    size: int | None = None
    changed_at_ms: int | None = None
    position: str | None = None


def begin(assignment: Assignment, *, by_position: bool = False) -> Sweeping:
    """Return a new run: everything if that is wanted or nothing was read yet, else changes.

    Everything as well if the last one ended later than now: the clock was set back since, and what
    was edited meanwhile may be earlier than any window that is left. And where changes are told
    from a position (`by_position`) that is not there, or was lost.
    """
    read_from_ms = assignment.read_from_ms
    is_known = read_from_ms is not None and read_from_ms <= assignment.now_ms
    if by_position and position_of(assignment) is None:
        is_known = False
    is_full = assignment.wanted_mode is RunMode.FULL or not is_known
    return Sweeping(
        run_no=assignment.last_run_no + 1,
        mode=RunMode.FULL if is_full else RunMode.CHANGES,
        mapping_version=assignment.mapping_version,
        since_ms=None if is_full else max(0, (read_from_ms or 0) - OVERLAP_MS),
        until_ms=assignment.now_ms,
    )


def resumable(assignment: Assignment, *, resumable_paging: bool) -> Sweeping | None:
    """Return the run to go on with; None if there is none, or it must be begun anew.

    It must be when the provider's positions do not outlive a reader, when the mapping is another
    one by now, or when everything is wanted and only changes were being read.
    """
    sweeping = assignment.sweeping
    if sweeping is None or not resumable_paging:
        return None
    if sweeping.mapping_version != assignment.mapping_version:
        return None
    if assignment.wanted_mode is RunMode.FULL and sweeping.mode is not RunMode.FULL:
        return None
    return sweeping


def sweep_of(assignment: Assignment, sweeping: Sweeping) -> Sweep:
    """Return what the connector is asked for."""
    return Sweep(
        object=assignment.object,
        list_id=assignment.list_id,
        properties=assignment.properties,
        since_ms=sweeping.since_ms,
        until_ms=sweeping.until_ms + AHEAD_MS,
        position=None if sweeping.since_ms is None else position_of(assignment),
    )


def position_of(assignment: Assignment) -> str | None:
    """Return where the last run ended, as its provider told; None if it did not."""
    return assignment.roll.position if assignment.roll else None


def cursor_of(sweeping: Sweeping) -> Cursor | None:
    """Return where the next page starts; None: at the beginning."""
    return None if sweeping.cursor is None else Cursor(sweeping.cursor)


def run_id(assignment: Assignment, sweeping: Sweeping) -> UUID:
    """Return the run's computed id."""
    return ids.run_id(assignment.integration, sweeping.run_no)


def record_id(
    assignment: Assignment, sweeping: Sweeping, page: int, part: int, changes: Sequence[Change]
) -> UUID:
    """Return the id of one part of one page.

    Of deletions and leavers the token is part of it: they count by their token, so those that a
    later claim tells again are another record (docs/decisions/0201).
    """
    versions = [(change.id, change.version_ms) for change in changes]
    record = ids.record_id(run_id(assignment, sweeping), page, part, versions)
    if upserts(changes) == len(changes):
        return record
    return ids.computed(record, assignment.fencing)


def upserts(changes: Sequence[Change]) -> int:
    """Return how many tell of a contact that is there."""
    return [change.op for change in changes].count(Operation.UPSERT)


def satisfies_wish(assignment: Assignment, sweeping: Sweeping) -> bool:
    """Return whether the end of this run is the full run that was wanted."""
    return (
        sweeping.mode is RunMode.FULL
        and sweeping.mapping_version >= assignment.wanted_mapping_version
    )


def has_newcomers(assignment: Assignment) -> bool:
    """Return whether a run before may have stored newcomers and died before their page."""
    settled = assignment.roll.settled_run_no if assignment.roll else 0
    return assignment.last_run_no > settled


def looks_for_gone(assignment: Assignment, sweeping: Sweeping, facts: Facts) -> bool:
    """Return whether who is not met by a run is gone.

    Nobody is for not being in a file, which need not be everybody, unless a person has said that
    who is absent is to be removed (S4); and a run of changes reads no file.
    """
    if not facts.reads_files:
        return True
    return assignment.removes_absent and sweeping.mode is RunMode.FULL


def must_read_members(assignment: Assignment, found: ContactList | None) -> bool:
    """Return whether a change run has to page through all members.

    `found` is the list as it is now; None without a list. The provider's size and time of change
    are trusted for a day at most, and not at all while a person waits for deletions.
    """
    roll = assignment.roll
    if roll is None or roll.read_at_ms is None or assignment.has_confirmed:
        return True
    if has_newcomers(assignment):
        # Who was stored by a run that died may have left since, and the list look as before.
        return True
    told_ms = assignment.members_wanted_ms
    is_told = told_ms is not None and told_ms >= roll.read_at_ms
    if is_told or assignment.now_ms - roll.read_at_ms >= MEMBERS_EVERY_MS:
        return True
    if found is None:
        return False
    if found.size is None and found.changed_at_ms is None:
        return True
    return (found.size, found.changed_at_ms) != (roll.size, roll.changed_at_ms)


def next_roll(
    assignment: Assignment,
    sweeping: Sweeping,
    found: ContactList | None,
    *,
    was_read: bool,
    settles: bool = True,
    position: str | None = None,
) -> Roll:
    """Return what to remember of the members, and of the provider's position, at a run's end.

    `settles`: nobody has to be read again for what this run may have told of him before its poller
    died.
    """
    before = assignment.roll or Roll()
    settled_run_no = sweeping.run_no if settles else before.settled_run_no
    if not was_read:
        return msgspec.structs.replace(before, settled_run_no=settled_run_no, position=position)
    return Roll(
        settled_run_no=settled_run_no,
        # The start: who joined while the members were read may have been missed.
        read_at_ms=sweeping.until_ms,
        size=found.size if found else None,
        changed_at_ms=found.changed_at_ms if found else None,
        position=position,
    )


def is_complete(met: int, total_before: int | None, total_after: int | None) -> bool:
    """Return whether a full read met all that the provider itself counts.

    Fewer than both totals are too few; what changed meanwhile moves one of them (then the proof
    says so by itself). A provider that does not count is believed.
    """
    totals = [total for total in (total_before, total_after) if total is not None]
    return not totals or met >= min(totals)
