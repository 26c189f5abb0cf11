"""The contacts of one account: every change has a number, and deletions leave a trace.

A `Contact` never changes: a write puts a new one in its place, with the account's next revision. A
deleted contact stays as a trace, so that a sync read can tell of it; so does the old name of one
whose resource name changed.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

Parts = Mapping[str, Sequence[Mapping[str, Any]]]  # `emailAddresses` and its like, as resources.
SINGLETONS = frozenset({"names", "birthdays", "genders", "biographies"})
FIELDS = (
    *("addresses", "ageRanges", "biographies", "birthdays", "calendarUrls", "clientData"),
    *("coverPhotos", "emailAddresses", "events", "externalIds", "genders", "imClients"),
    *("interests", "locales", "locations", "memberships", "metadata", "miscKeywords", "names"),
    *("nicknames", "occupations", "organizations", "phoneNumbers", "photos", "relations"),
    *("sipAddresses", "skills", "urls", "userDefined"),
)
_FIRST_ID = 1_000_000_000_000_000_000
LISTED_MAX = 100  # Of e-mails and phones each, in a listing.


@dataclass(frozen=True, slots=True)
class Contact:
    """`id` is what stands behind `people/`; `updated_us` are microseconds since 1970."""

    id: str
    revision: int
    updated_us: int
    parts: Parts = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    previous: tuple[str, ...] = ()  # Names it had before, as ids.
    is_deleted: bool = False

    @property
    def source_id(self) -> str:
        """The id of its contact source, another one than the person's."""
        return hashlib.sha256(self.id.encode()).hexdigest()[:15]

    @property
    def etag(self) -> str:
        digest = hashlib.sha256(f"{self.id}:{self.revision}".encode()).hexdigest()
        return f"%Eg{digest[:22]}"

    @property
    def email(self) -> str | None:
        """The address it is known by: the primary or first one."""
        addresses = self.parts.get("emailAddresses", ())
        chosen = [each for each in addresses if each.get("metadata", {}).get("primary")]
        return next((str(each.get("value", "")) for each in [*chosen, *addresses]), None)


class Contacts:
    """Every contact of an account, traces too, in the order they were made."""

    def __init__(self) -> None:
        self.by_id: dict[str, Contact] = {}
        self.revision = 0
        self._made = 0

    @property
    def live(self) -> list[Contact]:
        return [each for each in self.by_id.values() if not each.is_deleted]

    def found(self, contact_id: str) -> Contact | None:
        """Return a contact that is not deleted."""
        contact = self.by_id.get(contact_id)
        return None if contact is None or contact.is_deleted else contact

    def by_email(self, address: str) -> Contact | None:
        """Return the first who has an address: nothing makes it unique."""
        wanted = address.strip().lower()
        return next((each for each in self.live if (each.email or "").lower() == wanted), None)

    def new_id(self) -> str:
        self._made += 1
        return f"c{_FIRST_ID + self._made}"

    def put(self, contact: Contact, now_us: int) -> Contact:
        """Store a contact as it is now, as the newest change of the account."""
        self.revision += 1
        stored = replace(contact, revision=self.revision, updated_us=now_us)
        self.by_id[contact.id] = stored
        return stored

    def delete(self, contact: Contact, now_us: int) -> Contact:
        return self.put(replace(contact, is_deleted=True, groups=(), parts={}), now_us)

    def rename(self, contact: Contact, now_us: int) -> Contact:
        """Give a contact another resource name, as a link to a profile does."""
        del self.by_id[contact.id]
        names = (*contact.previous, contact.id)
        return self.put(replace(contact, id=self.new_id(), previous=names), now_us)
