"""The contacts of one account: found by id and address, listed in an order that may shift.

A `Contact` never changes: a write puts a new one in its place. A deleted contact stays, without
lists, and can be revived. A listing is a position in the matching contacts of this moment, so rows
move up when one before them leaves: as far as is known, that is how the provider pages (the cursors
it gives hold an offset, and it promises no order).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID, uuid5

NAMESPACE = UUID("9b0f4a54-6a3f-4b0e-9a53-6c1d3f6a7c10")  # Ours: ids are the same in every run.
CORE = (
    "first_name",
    "last_name",
    "job_title",
    "company_name",
    "birthday_month",
    "birthday_day",
    "anniversary",
)
KEPT_LISTINGS = 8  # Of several readers at once; each is as long as its result.
UNSUBSCRIBED = "unsubscribed"


@dataclass(frozen=True, slots=True)
class Address:
    """An e-mail address with its permission to send."""

    address: str
    permission: str = "implicit"
    created_s: int = 0
    opted_out_s: int | None = None


@dataclass(frozen=True, slots=True)
class Contact:
    id: str
    created_s: int
    updated_s: int
    email: Address | None = None
    core: Mapping[str, str | int] = field(default_factory=dict)
    phone_numbers: tuple[Mapping[str, Any], ...] = ()
    street_addresses: tuple[Mapping[str, Any], ...] = ()
    custom_fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # By field id.
    lists: tuple[str, ...] = ()
    sms: Mapping[str, Any] | None = None
    deleted_s: int | None = None

    @property
    def status(self) -> str:
        """The word by which `status` finds it."""
        if self.deleted_s is not None:
            return "deleted"
        if self.email is None:
            return "not_set"
        return "active" if self.email.permission in _ACTIVE else self.email.permission


_ACTIVE = frozenset({"implicit", "explicit"})


class EmailTakenError(ValueError):
    """Another contact has this address; `contact_id` is which."""

    def __init__(self, contact_id: str) -> None:
        super().__init__("the address belongs to another contact")
        self.contact_id = contact_id


class Contacts:
    """Every contact of an account, deleted ones too, in the order they were made."""

    def __init__(self, account: str) -> None:
        self._account = account
        self.by_id: dict[str, Contact] = {}
        self._by_email: dict[str, str] = {}
        self._made = 0
        self._revision = 0
        self._listings: dict[object, tuple[int, Sequence[str]]] = {}

    @property
    def live(self) -> list[Contact]:
        return [each for each in self.by_id.values() if each.deleted_s is None]

    def by_email(self, address: str) -> Contact | None:
        """Return who has an address, deleted or not."""
        contact_id = self._by_email.get(address.strip().lower())
        return None if contact_id is None else self.by_id[contact_id]

    def new_id(self) -> str:
        self._made += 1
        return str(uuid5(NAMESPACE, f"{self._account}:{self._made}"))

    def put(self, contact: Contact) -> Contact:
        """Store a contact as it is now; raises `EmailTakenError`."""
        before = self.by_id.get(contact.id)
        if contact.email is not None:
            owner = self._by_email.get(contact.email.address.lower())
            if owner is not None and owner != contact.id:
                raise EmailTakenError(owner)
        if before is not None and before.email is not None:
            self._by_email.pop(before.email.address.lower(), None)
        if contact.email is not None:
            self._by_email[contact.email.address.lower()] = contact.id
        self.by_id[contact.id] = contact
        self._revision += 1
        return contact

    def delete(self, contact: Contact, at_s: int, *, touches: bool) -> Contact:
        """Delete; `touches` says whether that counts as a change (`Knobs.deletion_updates`)."""
        updated_s = at_s if touches else contact.updated_s
        return self.put(replace(contact, deleted_s=at_s, updated_s=updated_s, lists=()))

    def listing(
        self, key: object, matches: Callable[[Contact], bool], *, by_update: bool
    ) -> Sequence[str]:
        """Return the ids of all that match, in order; kept under `key` until the next write."""
        revision, ids = self._listings.get(key, (-1, ()))
        if revision != self._revision:
            found = [each for each in self.by_id.values() if matches(each)]
            if by_update:
                found.sort(key=lambda each: (each.updated_s, each.id))
            ids = [each.id for each in found]
            while len(self._listings) >= KEPT_LISTINGS:
                del self._listings[next(iter(self._listings))]
            self._listings[key] = (self._revision, ids)
        return ids
