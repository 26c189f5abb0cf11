"""What is to happen with each contact of a batch: pure, one contact at a time (PROTOCOL.md 5, 2).

`classify` looks at a wanted state and at everything known, and answers with one decision. It
claims the addresses of what will be written in the `View` it is given, so contacts of one batch
are judged in their order. It never sees a contact whose open unit must be read back first:
`must_read_back` finds those, and whoever calls reads them and mends the view.
"""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from libs.common.events import Identity
from libs.common.reasons import Park, Reject
from services.writer.values import (
    TOMBSTONES,
    ContactId,
    EffectSeed,
    Integration,
    IntegrationState,
    Kind,
    Link,
    LinkState,
    Parked,
    Place,
    Task,
    Unit,
    Version,
    View,
    Wanted,
    Wish,
    claims_of,
    digest,
    effect_key,
    identity_key,
    is_older,
)

# Who is parked for these waits for an address, not for the destination: the rest may go on.
WAITING_FOR_AN_ADDRESS = frozenset({Park.EMAIL_CHANGE, Park.DUPLICATE_IDENTITY})


class Superseded(msgspec.Struct, frozen=True, gc=False):
    """Something newer is known, or on its way: nothing happens."""


class Unchanged(msgspec.Struct, frozen=True, gc=False):
    """The destination holds it already; `link` carries the version. It costs nothing."""

    link: Link
    is_refused_change: bool = False


class Remembered(msgspec.Struct, frozen=True, gc=False):
    """Nothing is to be written; `link`, where there is one, keeps the version.

    With a reason the contact is rejected, without one it is filtered.
    """

    link: Link | None
    reason: str | None


class Importing(msgspec.Struct, frozen=True, gc=False):
    """It is a row of an import under way."""


class Parking(msgspec.Struct, frozen=True, gc=False):
    """It must wait; `extra` are its other fields, which go to its old address at once."""

    reason: str
    extra: Task | None = None


class Effect(msgspec.Struct, frozen=True, gc=False):
    """It is to be written."""

    task: Task


Decision = Superseded | Unchanged | Remembered | Importing | Parking | Effect


def newest(wanted: Iterable[Wanted]) -> dict[ContactId, Wanted]:
    """Return the newest state of each contact; of equals the one that came last."""
    found: dict[ContactId, Wanted] = {}
    for item in wanted:
        known = found.get(item.contact)
        if known is not None and (not item.counts or _is_older_than(item, known)):
            continue
        found[item.contact] = item
    return found


def _is_older_than(item: Wanted, known: Wanted) -> bool:
    return known.counts and is_older(item.version, item.wish, known.version, known.wish)


def must_read_back(wanted: Iterable[Wanted], view: View) -> list[Unit]:
    """Return the open units whose contacts can not be judged before they are read.

    A unit from before is doubtful: its call may have happened. Only the very same effect may be
    repeated blindly, and a move not even then: its second answer would say "taken".
    """
    found: dict[ContactId, Unit] = {}
    for item in wanted:
        if not item.merged_from and item.contact not in view.units:
            continue  # As most are.
        for contact in (item.contact, *_merged(item)):
            unit = view.units.get(contact)
            if unit is None:
                continue
            if contact != item.contact or not (unit.is_for(item) and _is_active(item, view)):
                found[contact] = unit
    return list(found.values())


def must_look_again(wanted: Iterable[Wanted], view: View) -> list[Task]:
    """Return what is wanted as it was written last, where a late call may have come in between.

    Where it still stands so, the contact is unchanged: whoever calls reads it and mends the view.
    """
    found = []
    for item in wanted:
        link = view.links.get(item.contact)
        if link is None or not link.needs_recheck or item.wish is not Wish.UPSERT:
            continue
        integration = view.integrations.get(item.contact.integration)
        is_same = _is_same(item, replace(link, needs_recheck=False))
        if is_same and integration is not None and item.contact not in view.units:
            found.append(_task(item, integration, Kind.UPSERT, item.identity, link))
    return found


def _is_active(item: Wanted, view: View) -> bool:
    integration = view.integrations.get(item.contact.integration)
    return integration is not None and integration.state is IntegrationState.ACTIVE


def _merged(item: Wanted) -> list[ContactId]:
    return [ContactId(item.contact.integration, source_id) for source_id in item.merged_from]


def take_over(item: Wanted, view: View) -> Sequence[Link]:
    """Give a surviving contact the link of one that was merged into it; return what changed.

    The merged contact becomes a tombstone that has let its address go. A survivor with a live
    link of its own keeps that, unless the merged one's address is now its own.
    """
    if not item.merged_from:
        return ()
    changed: list[Link] = []
    merged = _merged(item)
    if _is_superseded(item, view) or _is_beside_import(item, view):
        return changed  # A row under way would be written after the survivor: it waits instead.
    for contact in merged:
        link = view.links.get(contact)
        if contact == item.contact:
            continue
        if link is None or link.key is None:
            changed += _tombstone_of_waiting(contact, item, view)
            continue
        own = view.links.get(item.contact)
        if (
            own is None
            or own.state is not LinkState.LINKED
            or link.key == identity_key(item.identity)
        ):
            changed.append(_inherit(item.contact, link, own, view))
        changed.append(link.merged_away(item.version.run_no))
    for link in changed:
        view.links[link.contact] = link
        if link.key is not None and link.state is LinkState.LINKED:
            view.owners[Place(link.contact.integration, link.key)] = link.contact.source_id
    return changed


def _tombstone_of_waiting(contact: ContactId, survivor: Wanted, view: View) -> list[Link]:
    """Return a tombstone for a merged contact that waits without standing anywhere.

    Else it would be written once it need not wait, and hold the address that is its survivor's.
    """
    row = view.parked.get(contact)
    if row is None or contact in view.units:
        return []
    version = Version(row.version.ms, max(row.version.run_no, survivor.version.run_no))
    return [Link(contact, LinkState.NONE, version, Wish.DELETE)]


def _inherit(survivor: ContactId, link: Link, own: Link | None, view: View) -> Link:
    integration = view.integrations.get(survivor.integration)
    # Of a pair the version says until when the other flow has written: pages from before are older.
    begins = link.version if integration and integration.is_two_way else Version(0, 0)
    return replace(
        link,
        contact=survivor,
        version=own.version if own else begins,
        wish=own.wish if own else Wish.UPSERT,
        taken_from=link.contact.source_id,
    )


def classify(item: Wanted, view: View) -> Decision:
    """Return what is to happen with one contact, whose unit (if it has one) may be repeated."""
    integration = view.integrations.get(item.contact.integration)
    if integration is None or integration.state is IntegrationState.ARCHIVED:
        return Remembered(None, Reject.INTEGRATION_ARCHIVED)
    if _is_superseded(item, view):
        return Superseded()
    if _is_beside_import(item, view):
        return _beside_import(item, view)
    if item.wish is Wish.REJECTED:
        return Remembered(_remember(item, view), item.reason)
    if item.wish is Wish.UPSERT:
        return _upsert(item, view, integration)
    return _leave(item, view, integration)


def _is_beside_import(item: Wanted, view: View) -> bool:
    """Return whether the contact, or one that was merged into it, is a row of an import."""
    if not item.merged_from:
        return item.contact in view.importing
    return any(contact in view.importing for contact in (item.contact, *_merged(item)))


def _is_superseded(item: Wanted, view: View) -> bool:
    if not item.counts:
        return True
    link = view.links.get(item.contact)
    if link is not None and is_older(item.version, item.wish, link.version, link.wish):
        return True
    if item.is_parked:
        return False
    parked = view.parked.get(item.contact)
    if parked is not None and is_older(item.version, item.wish, parked.version, parked.wish):
        return True
    run = view.runs.get(item.part.run)
    return item.wish is Wish.UPSERT and run is not None and run.is_outdated


def _beside_import(item: Wanted, view: View) -> Decision:
    row = view.importing.get(item.contact)
    if row is None:
        return Parking(Park.IMPORT_RUNNING)  # It is one merged into it that is a row.
    if item.version == row.version and item.wish is Wish.UPSERT and item.hash == row.hash:
        # Only the record that the row came from may count it: its import's stage resolves it.
        return Importing() if item.part == row.head.part else Superseded()
    if is_older(item.version, item.wish, row.version, Wish.UPSERT):
        return Superseded()
    if item.wish is Wish.REJECTED:
        return Remembered(_remember(item, view), item.reason)
    return Parking(Park.IMPORT_RUNNING)


def _remember(item: Wanted, view: View) -> Link:
    link = view.links.get(item.contact)
    if link is None:
        return Link(item.contact, LinkState.NONE, item.version, item.wish)
    return link.at_least(item.version, item.wish)


def _leave(item: Wanted, view: View, integration: Integration) -> Decision:
    link = view.links.get(item.contact)
    if link is None or link.state is not LinkState.LINKED:
        return Remembered(_remember(item, view), None)
    if not integration.removes_leavers:
        link = link.at_least(item.version, item.wish)
        if item.wish in TOMBSTONES:
            link = replace(link, state=LinkState.REMOVED)
        return Remembered(link, None)
    task = _task(item, integration, Kind.LEAVE, link.identity, link)
    return _unless_it_must_wait(item, view, integration, Effect(task))


def _upsert(item: Wanted, view: View, integration: Integration) -> Decision:
    link = view.links.get(item.contact)
    key = identity_key(item.identity)
    if key is None:
        return Remembered(_remember(item, view), Reject.NO_IDENTITY)
    if link is not None and link.key is not None and link.key != key:
        if link.state is LinkState.LINKED or view.owner(item.contact, link.key) is None:
            return _changed_address(item, view, integration, link, key)
        if view.is_claimed(item.contact, link.key):
            # Whoever claims a tombstone's address may be refused it: then this one still moves.
            return Parking(Park.DUPLICATE_IDENTITY)
        link = replace(link, identity=Identity())
    is_known = link is not None and not integration.is_two_way and _is_same(item, link)
    if link is not None and is_known and item.contact not in view.units:
        # Back at its address: another change of it is a new one, also to one that was refused.
        return Unchanged(replace(link.at_least(item.version, item.wish), refused=None))
    if view.owner(item.contact, key) is not None:
        return Parking(Park.DUPLICATE_IDENTITY)
    task = _task(item, integration, Kind.UPSERT, item.identity, link)
    return _unless_it_must_wait(item, view, integration, Effect(task))


def _is_same(item: Wanted, link: Link) -> bool:
    if link.state is not LinkState.LINKED or link.needs_recheck:
        return False
    if link.hash and link.hash == item.hash:
        return True
    return link.identity == item.identity and _has_same_content(item, link)


def _has_same_content(item: Wanted, link: Link) -> bool:
    return bool(link.content_hash) and link.content_hash == digest(item.attributes)


def _changed_address(
    item: Wanted, view: View, integration: Integration, link: Link, key: str
) -> Decision:
    """Decide on a contact that stands at the destination under another address (S5)."""
    if item.approved == key:
        if view.owner(item.contact, key) is not None:
            others = _other_fields(item, view, integration, link)
            return Parking(Park.DUPLICATE_IDENTITY, others)
        task = _task(item, integration, Kind.MOVE, item.identity, link)
        return _unless_it_must_wait(item, view, integration, Effect(task))
    if link.refused == key:
        return _refused_address(item, view, integration, link)
    parked = None if item.is_parked else view.parked.get(item.contact)
    if parked is not None and parked.reason not in WAITING_FOR_AN_ADDRESS:
        return Parking(parked.reason)
    if parked is not None and parked.approved == key:
        return Parking(Park.EMAIL_CHANGE)
    return Parking(Park.EMAIL_CHANGE, _other_fields(item, view, integration, link))


def _other_fields(item: Wanted, view: View, integration: Integration, link: Link) -> Task | None:
    """Return the write of all but the address to the old one, if it is needed and can be made."""
    if not integration.is_two_way and _is_current(item, link):
        return None
    task = _task(item, integration, Kind.OLD_ADDRESS, link.identity, link)
    decision = _unless_it_must_wait(item, view, integration, Effect(task))
    if not isinstance(decision, Effect):
        return None
    return replace(decision.task, is_extra=True)


def _refused_address(item: Wanted, view: View, integration: Integration, link: Link) -> Decision:
    """Decide on a change of address that was refused: an update of the old address remains."""
    is_free = item.is_parked or item.contact not in view.parked
    is_current = not integration.is_two_way and _is_current(item, link)
    if is_current and is_free and item.contact not in view.units:
        return Unchanged(link.at_least(item.version, item.wish), is_refused_change=True)
    task = _task(item, integration, Kind.OLD_ADDRESS, link.identity, link)
    effect = Effect(replace(task, is_refused_change=True))
    return _unless_it_must_wait(item, view, integration, effect)


def _is_current(item: Wanted, link: Link) -> bool:
    """Return whether the destination holds the contact's fields, whatever its address."""
    return (
        link.state is LinkState.LINKED and not link.needs_recheck and _has_same_content(item, link)
    )


def _unless_it_must_wait(
    item: Wanted, view: View, integration: Integration, effect: Effect
) -> Decision:
    parked = None if item.is_parked else view.parked.get(item.contact)
    reason = _why_wait(item, view, integration, parked)
    if reason is not None:
        return Parking(reason)
    view.claims.update(claims_of(effect.task))
    return effect


def _why_wait(
    item: Wanted, view: View, integration: Integration, parked: Parked | None
) -> str | None:
    if parked is not None and parked.reason not in WAITING_FOR_AN_ADDRESS:
        return parked.reason
    is_in_error = integration.state is IntegrationState.ERROR
    if is_in_error and not view.is_probe:
        return Park.CONFIGURATION
    if integration.state is not IntegrationState.ACTIVE and not is_in_error:
        return Park.PAUSED
    if view.blocked is not None:
        return view.blocked
    if not view.is_open and item.contact not in view.units:
        return Park.QUOTA
    return None


def _task(
    item: Wanted, integration: Integration, kind: Kind, identity: Identity, link: Link | None
) -> Task:
    was_linked = link is not None and link.state is not LinkState.NONE
    known = _known_as(kind, identity, link)
    seed = EffectSeed(kind, identity_key(identity), item.hash)
    return Task(
        integration=item.contact.integration,
        source_id=item.contact.source_id,
        kind=kind,
        wish=item.wish,
        version_ms=item.version.ms,
        run_no=item.version.run_no,
        run=item.part.run,
        page=item.part.page,
        part=item.part.part,
        mapping_version=item.mapping_version,
        list_id=integration.list_id,
        key=effect_key(item.contact, item.version, seed),
        email=identity.email,
        sms=identity.sms,
        hash=item.hash,
        content_hash=b"" if kind is Kind.LEAVE else digest(item.attributes),
        attributes=msgspec.Raw(b"{}" if kind is Kind.LEAVE else item.attributes),
        known_email=known.email if known else None,
        known_sms=known.sms if known else None,
        join_list=_joins(kind, link),
        was_linked=was_linked,
        merged=list(item.merged_from),
    )


def _known_as(kind: Kind, identity: Identity, link: Link | None) -> Identity | None:
    """Return where the destination has the contact now; None if it never did, or let go of it."""
    if link is None or link.key is None:
        return None
    # A change of case or of the second address is no move: name the contact as it will be.
    return link.identity if kind is Kind.MOVE else identity


def _joins(kind: Kind, link: Link | None) -> bool:
    """Return whether list membership is sent: first link, or back after our own removal (S3)."""
    if kind is Kind.LEAVE:
        return False
    return link is None or link.key is None or link.removed_by_us
