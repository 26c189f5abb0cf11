"""The contacts of one portal: found by id, e-mail and unique property, paged in order of id.

A `Contact` never changes: a write puts a new one in the place of the old, so that the search index
can keep showing the old one until it catches up. Made for 100,000 contacts: a look-up is one step,
a page starts by bisection.
"""

from bisect import bisect_left, insort
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

from sandbox.hubspot.errors import iso

FIRST_ID = 101  # As low as in a young portal: ids are numbers, and text sorts 99 after 101.


@dataclass(frozen=True, slots=True)
class Contact:
    id: int
    properties: Mapping[str, str]  # What was written; what has no value is not in it.
    created_ms: int
    updated_ms: int
    archived_ms: int | None = None
    merged: tuple[tuple[int, int], ...] = ()  # (id, when) of every record merged into this one.
    history: Mapping[str, tuple[tuple[int, str], ...]] = field(default_factory=dict)

    @property
    def email(self) -> str | None:
        return self.properties.get("email")

    @property
    def emails(self) -> list[str]:
        """All addresses by which this contact is known, the first one first."""
        others = self.properties.get("hs_additional_emails", "").split(";")
        return [address.lower() for address in (self.email or "", *others) if address]

    def value(self, name: str) -> str | None:
        """Return a property's value, computed ones included; None if it has none."""
        computed = COMPUTED.get(name)
        return (computed(self) or None) if computed else self.properties.get(name)


def _domain(contact: Contact) -> str:
    return (contact.email or "").rpartition("@")[2]


def _name_or_email(contact: Contact) -> str:
    names = (contact.properties.get("firstname"), contact.properties.get("lastname"))
    return " ".join(name for name in names if name) or contact.email or ""


def _merged_ids(contact: Contact) -> str:
    return ";".join(str(contact_id) for contact_id, _ in contact.merged)


def _merged_vids(contact: Contact) -> str:
    return ";".join(f"{contact_id}:{at_ms}" for contact_id, at_ms in contact.merged)


def _digits(contact: Contact) -> str:
    """Return the phone number as search has it: without the country's code."""
    phone = contact.properties.get("phone", "")
    return "".join(letter for letter in phone if letter.isdigit())[-10:]


def _loyalty_level(contact: Contact) -> str:
    points = contact.properties.get("loyalty_points")
    return str(int(float(points) // 100)) if points else ""


COMPUTED = {
    "createdate": lambda contact: iso(contact.created_ms),
    "lastmodifieddate": lambda contact: iso(contact.updated_ms),
    "hs_object_id": lambda contact: str(contact.id),
    "hs_email_domain": _domain,
    "hs_full_name_or_email": _name_or_email,
    "hs_merged_object_ids": _merged_ids,
    "hs_calculated_merged_vids": _merged_vids,
    "hs_searchable_calculated_phone_number": _digits,
    "loyalty_level": _loyalty_level,
}


class EmailTakenError(ValueError):
    """Another contact has this address; `contact_id` is which."""

    def __init__(self, contact_id: int) -> None:
        super().__init__("the address belongs to another contact")
        self.contact_id = contact_id


class Contacts:
    """Every contact of a portal, archived ones too; the search index is not here."""

    def __init__(self) -> None:
        self._by_id: dict[int, Contact] = {}
        self._by_email: dict[str, int] = {}
        self._live: list[int] = []  # Sorted.
        self._archived: list[int] = []  # Sorted.
        self._successors: dict[int, int] = {}  # Merged-away id: the id it became.
        self._next_id = FIRST_ID

    def __len__(self) -> int:
        return len(self._live)

    @property
    def live_ids(self) -> list[int]:
        """The ids of all contacts that are not archived, in order. Not to be changed."""
        return self._live

    def by_id(self, contact_id: int) -> Contact | None:
        """Return a contact, archived or not; a merged-away id finds what it became."""
        return self._by_id.get(self.current_id(contact_id))

    def current_id(self, contact_id: int) -> int:
        while contact_id in self._successors:
            contact_id = self._successors[contact_id]
        return contact_id

    def by_email(self, address: str) -> Contact | None:
        contact_id = self._by_email.get(address.strip().lower())
        return None if contact_id is None else self._by_id[contact_id]

    def by_unique(self, name: str, value: str) -> Contact | None:
        """Return the live contact that has a value; looks at each, for few are asked for so."""
        for contact_id in self._live:
            if self._by_id[contact_id].properties.get(name) == value:
                return self._by_id[contact_id]
        return None

    def page(
        self, after: int, limit: int, *, archived: bool = False
    ) -> tuple[list[Contact], int | None]:
        """Return contacts from an id on, and the id of the one after them."""
        ids = self._archived if archived else self._live
        start = bisect_left(ids, after)
        chosen = [self._by_id[contact_id] for contact_id in islice(ids, start, start + limit)]
        return chosen, ids[start + limit] if start + limit < len(ids) else None

    def create(
        self, properties: Mapping[str, str], at_ms: int, *, contact_id: int | None = None
    ) -> Contact:
        """Make a contact; raises `EmailTakenError`."""
        self._refuse_taken(properties, contact_id)
        contact = Contact(self._new_id(contact_id), dict(properties), at_ms, at_ms)
        self._put(contact)
        return contact

    def update(self, contact: Contact, changes: Mapping[str, str], at_ms: int) -> Contact:
        """Change values ("" clears one), and the time of change; raises `EmailTakenError`."""
        self._refuse_taken(changes, contact.id)
        properties = {**contact.properties, **changes}
        history = dict(contact.history)
        for name, value in changes.items():
            before = contact.properties.get(name, "")
            if value != before:
                first = ((contact.created_ms, before),) if before else ()
                history[name] = (*history.get(name, first), (at_ms, value))
            if not value:
                del properties[name]
        changed = replace(contact, properties=properties, updated_ms=at_ms, history=history)
        self._remove_addresses(contact)
        self._put(changed)
        return changed

    def archive(self, contact: Contact, at_ms: int) -> Contact:
        self._remove_addresses(contact)
        del self._live[bisect_left(self._live, contact.id)]
        archived = replace(contact, archived_ms=at_ms)
        self._by_id[contact.id] = archived
        insort(self._archived, contact.id)
        return archived

    def purge(self, contact: Contact) -> None:
        """Forget a contact altogether, as a privacy deletion does."""
        if contact.archived_ms is None:
            self.archive(contact, contact.updated_ms)
        del self._archived[bisect_left(self._archived, contact.id)]
        del self._by_id[contact.id]

    def merge(self, primary: Contact, other: Contact, at_ms: int) -> Contact:
        """Make one contact of two, with a new id: the primary's values win, both ids find it."""
        addresses = list(dict.fromkeys([*primary.emails, *other.emails]))
        properties = {**other.properties, **primary.properties}
        if addresses:
            properties["email"] = addresses[0]
        if addresses[1:]:
            properties["hs_additional_emails"] = ";".join(addresses[1:])
        merged = (*primary.merged, *other.merged, (primary.id, at_ms), (other.id, at_ms))
        for loser in (primary, other):
            self.purge(loser)
        created_ms = min(primary.created_ms, other.created_ms)
        survivor = Contact(self._new_id(None), properties, created_ms, at_ms, merged=merged)
        self._put(survivor)
        self._successors |= {primary.id: survivor.id, other.id: survivor.id}
        return survivor

    def _new_id(self, wanted: int | None) -> int:
        contact_id = self._next_id if wanted is None else wanted
        self._next_id = max(self._next_id, contact_id + 1)
        return contact_id

    def _put(self, contact: Contact) -> None:
        if contact.id not in self._by_id:
            if not self._live or contact.id > self._live[-1]:
                self._live.append(contact.id)
            else:
                insort(self._live, contact.id)
        self._by_id[contact.id] = contact
        for address in contact.emails:
            self._by_email[address] = contact.id

    def _remove_addresses(self, contact: Contact) -> None:
        for address in contact.emails:
            if self._by_email.get(address) == contact.id:
                del self._by_email[address]

    def _refuse_taken(self, properties: Mapping[str, str], contact_id: int | None) -> None:
        address = properties.get("email")
        if address:
            owner = self._by_email.get(address.lower())
            if owner is not None and owner != contact_id:
                raise EmailTakenError(owner)
