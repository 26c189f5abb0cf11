"""From decisions and answers to what is stored: pure, the other half of `classify`.

A `Changes` is everything that one transaction writes for a batch (PROTOCOL.md 5, step 6): links,
parked rows, postings and releases of units, and what to tell of each part. It is built once and
may be stored again by a repeated transaction.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import repeat
from uuid import UUID

import msgspec
from msgspec.structs import replace

from libs.common import ids
from libs.common.events import Settled
from libs.common.ledger import Posting
from libs.common.reasons import Park, Reject
from services.writer.classify import (
    Decision,
    Effect,
    Importing,
    Parking,
    Remembered,
    Superseded,
    Unchanged,
)
from services.writer.rows import Rows
from services.writer.values import (
    ContactId,
    Kind,
    Link,
    LinkState,
    PartId,
    Task,
    Unit,
    Version,
    View,
    Wanted,
    Wish,
    identity_key,
    is_older,
)


class Done(msgspec.Struct, frozen=True, gc=False):
    """The destination holds the effect."""

    warning: str | None = None


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """The destination refuses the contact, and the effect did not happen."""

    reason: str


class AddressTaken(msgspec.Struct, frozen=True, gc=False):
    """The new address of a move belongs to another contact, and the move did not happen."""


class Doubt(msgspec.Struct, frozen=True, gc=False):
    """The effect may or may not have happened; its unit stays with the contact."""


class NotSent(msgspec.Struct, frozen=True, gc=False):
    """Nothing was sent; the contact waits for `reason` to go away."""

    reason: str


Result = Done | Refusal | AddressTaken | Doubt | NotSent


def settled_id(part: PartId, stage: str) -> UUID:
    """Return the id of what is told of a part in a stage, whichever record it comes from."""
    return ids.computed("settled", part.run, part.page, part.part, stage)


@dataclass(slots=True)
class Tally:
    """How the contacts of one part ended in one stage."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    rejected: list[tuple[str, str]] = field(default_factory=list)
    parked: list[tuple[str, str]] = field(default_factory=list)
    warned: list[tuple[str, str]] = field(default_factory=list)
    unchanged: int = 0
    superseded: int = 0
    filtered: int = 0
    importing: int = 0

    def written(self, task: Task, warning: str | None) -> None:
        """Count an effect that the destination holds."""
        if task.kind is Kind.LEAVE:
            self.removed.append(task.source_id)
        elif task.was_linked:
            self.updated.append(task.source_id)
        else:
            self.created.append(task.source_id)
        if warning is not None:
            self.warned.append((task.source_id, warning))
        if task.is_refused_change:
            self.warned.append((task.source_id, Reject.BULK_EMAIL_CHANGE))

    def settled(self, part: PartId, workspace: UUID, stage: str) -> Settled:
        """Return the event that tells of it; its id is computed, so it can be told again."""
        return Settled(
            id=settled_id(part, stage),
            workspace=workspace,
            integration=part.integration,
            run=part.run,
            run_no=part.run_no,
            page=part.page,
            part=part.part,
            stage=stage,
            created=self.created,
            updated=self.updated,
            removed=self.removed,
            unchanged=self.unchanged,
            superseded=self.superseded,
            filtered=self.filtered,
            rejected=self.rejected,
            parked=self.parked,
            warned=self.warned,
            importing=self.importing,
        )

    @property
    def is_empty(self) -> bool:
        """Return whether there is nothing to tell."""
        return self == Tally()


class Row(msgspec.Struct, frozen=True, gc=False):
    """A contact that waits, as it is stored in `delivery.parked`."""

    item: Wanted
    reason: str
    approved: str | None


@dataclass(frozen=True, slots=True)
class Moved:
    """Linked contacts of one record that are unchanged: what moves is the version."""

    integration: UUID
    run_no: int
    source_ids: Sequence[str]
    versions_ms: Sequence[int]


@dataclass(slots=True)
class Changes:
    """What one transaction stores for a batch.

    `firsts` are new contacts that an import has brought, `moved` links that are as they were but
    for their version: both in thousands, so they are stored by columns.
    """

    links: dict[ContactId, Link] = field(default_factory=dict)
    firsts: Rows = field(default_factory=Rows)
    moved: list[Moved] = field(default_factory=list)
    parks: dict[ContactId, Row] = field(default_factory=dict)
    drops: dict[ContactId, Version] = field(default_factory=dict)
    posts: dict[UUID, list[Posting]] = field(default_factory=lambda: defaultdict(list))
    releases: Counter[UUID] = field(default_factory=Counter)
    ended: set[ContactId] = field(default_factory=set)
    tallies: dict[PartId, Tally] = field(default_factory=lambda: defaultdict(Tally))
    extras: dict[PartId, Tally] = field(default_factory=lambda: defaultdict(Tally))

    def post(self, unit: Unit) -> None:
        """Charge a unit for its effect."""
        task = unit.task
        self.posts[unit.hold].append(
            Posting(task.key, task.integration, task.source_id, task.run, task.kind)
        )
        self.ended.add(task.contact)

    def release(self, unit: Unit) -> None:
        """Give a unit back."""
        self.releases[unit.hold] += 1
        self.ended.add(unit.task.contact)

    def drop_row(self, contact: ContactId, view: View) -> None:
        """Remove a contact's parked row, which something at least as new has settled."""
        row = view.parked.get(contact)
        if row is not None:
            self.drops[contact] = row.version
            self.parks.pop(contact, None)


def linked_after(task: Task, link: Link | None) -> Link:
    """Return a contact's link once the destination holds an effect."""
    if task.kind is Kind.LEAVE:
        assert link is not None
        return replace(
            link.at_least(task.version, task.wish), state=LinkState.REMOVED, removed_by_us=True
        )
    refused = link.refused if link is not None and task.kind is Kind.OLD_ADDRESS else None
    written = Link(
        contact=task.contact,
        state=LinkState.LINKED,
        version=task.version,
        wish=task.wish,
        identity=task.identity,
        # The hash names the new address: at the old one only the content can be compared.
        # What both sides of a pair have agreed on stands elsewhere (services/writer/pairing.py).
        hash=b"" if task.kind is Kind.OLD_ADDRESS or task.is_paired else task.hash,
        content_hash=b"" if task.is_paired else task.content_hash,
        refused=refused,
    )
    return written if link is None else written.at_least(link.version, link.wish)


def conclude(item: Wanted, decision: Decision, view: View, changes: Changes) -> None:
    """Store and count a contact that nothing is written for; effects have `conclude_effect`."""
    tally = changes.tallies[item.part]
    match decision:
        case Superseded():
            tally.superseded += 1
            _drop_own_row(item, changes)
        case Unchanged(link, is_refused_change):
            changes.links[item.contact] = link
            changes.drop_row(item.contact, view)
            if is_refused_change and item.is_parked:
                tally.rejected.append((item.contact.source_id, Reject.BULK_EMAIL_CHANGE))
            else:
                tally.unchanged += 1
        case Remembered(remembered, reason):
            if remembered is not None:
                changes.links[item.contact] = remembered
            changes.drop_row(item.contact, view)
            if reason is None:
                tally.filtered += 1
            else:
                tally.rejected.append((item.contact.source_id, reason))
        case Importing():
            tally.importing += 1
        case Parking(reason, _):
            park(item, reason, view, changes)
        case Effect():
            message = "an effect is concluded with its result"
            raise AssertionError(message)


def _drop_own_row(item: Wanted, changes: Changes) -> None:
    if item.is_parked:
        changes.drops[item.contact] = item.version


def park(
    item: Wanted, reason: str, view: View, changes: Changes, *, keeps_approval: bool = True
) -> None:
    """Let a contact wait; an approved change of address stays approved while it is the same."""
    row = view.parked.get(item.contact)
    approved = item.approved if keeps_approval else None
    if keeps_approval and row is not None and row.approved == identity_key(item.identity):
        approved = row.approved
    if item.is_parked and row is not None and (row.reason, row.approved) == (reason, approved):
        return  # It waits as it did.
    changes.parks[item.contact] = Row(item, reason, approved)
    changes.drops.pop(item.contact, None)
    changes.tallies[item.part].parked.append((item.contact.source_id, reason))


def conclude_effect(item: Wanted, unit: Unit, result: Result, view: View, changes: Changes) -> None:
    """Store and count a contact by what the destination answered to its effect."""
    match result:
        case Done(warning):
            changes.post(unit)
            link = view.links.get(item.contact)
            changes.links[item.contact] = linked_after(unit.task, link)
            _tally(item, unit, changes).written(unit.task, warning)
            _drop_settled(item, unit, view, changes)
        case Refusal(reason):
            changes.release(unit)
            _refuse(item, unit, reason, view, changes)
        case AddressTaken():
            changes.release(unit)
            _keep_refused(item, view, changes)
        case Doubt():
            _wait(item, unit, Park.DESTINATION_DOWN, view, changes)
        case NotSent(reason):
            # A unit taken along is released only by a look; a row of an import was looked at.
            if unit.in_import or not unit.is_doubtful:
                changes.release(unit)
            _wait(item, unit, reason, view, changes)


def begin_rows(rows: Rows, view: View, changes: Changes) -> None:
    """Count effects that became rows of an import; their parked rows are settled by that."""
    for head, own in rows.stretches():
        if not head.is_late:
            changes.tallies[head.part].importing += own.stop - own.start
    for contact, parked in view.parked.items():
        row = rows.of_contact(contact)
        if row is not None and not is_older(row.version, Wish.UPSERT, parked.version, parked.wish):
            changes.drop_row(contact, view)


def link_rows(rows: Rows, changes: Changes) -> None:
    """Link contacts that stand at the destination and that nothing was known of."""
    changes.firsts.extend(rows)
    for head, own in rows.stretches():
        changes.tallies[head.part].created += rows.source_ids[own]


def charge_rows(rows: Rows, hold: UUID, changes: Changes) -> None:
    """Charge what `link_rows` links."""
    postings = changes.posts[hold]
    for head, own in rows.stretches():
        part = head.part
        in_common = (repeat(part.run), repeat(Kind.UPSERT))
        postings += map(
            Posting, rows.keys[own], repeat(part.integration), rows.source_ids[own], *in_common
        )


def _tally(item: Wanted, unit: Unit, changes: Changes) -> Tally:
    return (changes.extras if unit.task.is_extra else changes.tallies)[item.part]


def _drop_settled(item: Wanted, unit: Unit, view: View, changes: Changes) -> None:
    if not (unit.task.is_extra or is_overtaken(item, view)):
        changes.drop_row(item.contact, view)


def _refuse(item: Wanted, unit: Unit, reason: str, view: View, changes: Changes) -> None:
    if unit.task.is_extra:
        return  # The change of address is parked beside it, with all fields.
    changes.links[item.contact] = _rejected(item, view)
    _drop_settled(item, unit, view, changes)
    changes.tallies[item.part].rejected.append((item.contact.source_id, reason))


def _keep_refused(item: Wanted, view: View, changes: Changes) -> None:
    """Remember an address that is taken, so that the contact stays what it was at the old one."""
    contact = item.contact
    changes.links[contact] = replace(view.links[contact], refused=identity_key(item.identity))
    park(item, Park.EMAIL_CHANGE, view, changes, keeps_approval=False)


def _wait(item: Wanted, unit: Unit, reason: str, view: View, changes: Changes) -> None:
    if unit.task.is_extra:
        return
    if is_overtaken(item, view):
        changes.tallies[item.part].superseded += 1
    else:
        park(item, reason, view, changes)


def is_overtaken(item: Wanted, view: View) -> bool:
    """Return whether something newer of the contact was parked meanwhile: beside an import."""
    row = view.parked.get(item.contact)
    return row is not None and is_older(item.version, item.wish, row.version, row.wish)


def _rejected(item: Wanted, view: View) -> Link:
    link = view.links.get(item.contact)
    if link is None:
        return Link(item.contact, LinkState.NONE, item.version, Wish.REJECTED)
    return link.at_least(item.version, Wish.REJECTED)


def conclude_read_back(unit: Unit, *, happened: bool, view: View, changes: Changes) -> None:
    """Settle an open unit by what stands at the destination: post and link, or release."""
    task = unit.task
    if not happened:
        changes.release(unit)
        return
    changes.post(unit)
    link = view.links.get(task.contact)
    changes.links[task.contact] = linked_after(task, link)
    for merged in _merged_at(task, view):
        # Its turn ended before it was stored whose address it took over.
        changes.links[merged.contact] = merged.merged_away(task.run_no)
    changes.extras[task.of_part].written(task, None)


def _merged_at(task: Task, view: View) -> list[Link]:
    """Return the links of who was merged into a contact and stands where it was written."""
    contacts = (ContactId(task.integration, source_id) for source_id in task.merged)
    links = [view.links[each] for each in contacts if each in view.links and each != task.contact]
    key = identity_key(task.identity)
    return [link for link in links if link.state is LinkState.LINKED and link.key == key]
