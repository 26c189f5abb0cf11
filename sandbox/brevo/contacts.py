"""An account's contacts: who they are, what identifies them, and what a write does to them.

Promises: an identifier belongs to one contact of the account at most; every touch of a contact
moves its `modified_us` (adding it to a list too, as with the real service) and its `version`; a
contact that is gone leaves no trace in lists or identifiers.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sandbox.brevo.attributes import IDENTIFIERS
from sandbox.brevo.values import Value
from sandbox.clock import Clock


@dataclass(slots=True)
class Contact:
    id: int
    created_us: int
    modified_us: int
    identifiers: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, Value] = field(default_factory=dict)
    list_ids: list[int] = field(default_factory=list)
    lists_left: list[int] = field(default_factory=list)  # By the person, by a link in a mail.
    email_blacklisted: bool = False
    sms_blacklisted: bool = False
    forbidden_senders: list[str] = field(default_factory=list)
    version: int = 0  # How often it was touched: nothing Brevo shows, but tests ask for it.

    @property
    def email(self) -> str | None:
        return self.identifiers.get("EMAIL")

    @property
    def identity(self) -> str:
        """What a person would know this contact by."""
        for kind in IDENTIFIERS:  # Asked for at each write of each contact.
            if kind in self.identifiers:
                return self.identifiers[kind]
        return ""

    def shown_attributes(self) -> dict[str, Value]:
        """Return the attributes as Brevo shows them: identifiers but the e-mail are among them."""
        others = {kind: value for kind, value in self.identifiers.items() if kind != "EMAIL"}
        return {**self.attributes, **others}


@dataclass(slots=True)
class Change:
    """What one write wants of one contact; None and absent mean "leave it"."""

    identifiers: dict[str, str] = field(default_factory=dict)  # "" takes it away.
    attributes: Mapping[str, Value | None] = field(default_factory=dict)  # None takes it away.
    list_ids: Iterable[int] = ()
    unlink_list_ids: Iterable[int] = ()
    email_blacklisted: bool | None = None
    sms_blacklisted: bool | None = None
    forbidden_senders: list[str] | None = None


# Who hears of an event: its name, the contact's address, and what else belongs to it.
Tell = Callable[[str, str, dict[str, Any]], None]


def tell_nobody(event: str, email: str, values: dict[str, Any]) -> None:
    """Do nothing."""


class Contacts:
    """The contacts of one account in order of creation, and their identifiers."""

    def __init__(self, clock: Clock, tell: Tell = tell_nobody) -> None:
        """`tell` hears of events as webhooks know them, the contact as it was just then."""
        self._clock = clock
        self._tell = tell
        self._by_id: dict[int, Contact] = {}
        self._owners: dict[str, dict[str, int]] = {kind: {} for kind in IDENTIFIERS}
        self._members: dict[int, dict[int, None]] = {}
        self._last_id = 0
        # Addresses that were blocked and that a write took the block from: consent overridden.
        self.resubscribed: list[str] = []
        # The same for single lists: who was put back on a list that the person had left.
        self.rejoined: list[tuple[str, int]] = []

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Contact]:
        return iter(self._by_id.values())

    def __reversed__(self) -> Iterator[Contact]:
        return reversed(self._by_id.values())

    def get(self, contact_id: int) -> Contact | None:
        return self._by_id.get(contact_id)

    def owner(self, kind: str, value: str) -> Contact | None:
        """Return the contact that an identifier (as kept: normalised) belongs to."""
        contact_id = self._owners[kind].get(value)
        return None if contact_id is None else self._by_id[contact_id]

    def clashes(self, identifiers: Mapping[str, str], of: Contact | None) -> dict[str, Contact]:
        """Return which identifiers belong to another contact than this one, and to whom."""
        found = {}
        for kind in IDENTIFIERS:
            value = identifiers.get(kind)
            other = self.owner(kind, value) if value else None
            if other is not None and other is not of:
                found[kind] = other
        return found

    def create(self, change: Change) -> Contact:
        """Add a contact. The caller has made sure that no identifier clashes."""
        self._last_id += 1
        now_us = self._now_us()
        contact = Contact(self._last_id, now_us, now_us)
        self._by_id[contact.id] = contact
        self._apply(contact, change)
        return contact  # There is no event of a contact that came into being.

    def apply(self, contact: Contact, change: Change) -> None:
        """Change a contact. The caller has made sure that no identifier clashes."""
        self._apply(contact, change)
        content = {"email": contact.email, "attributes": dict(change.attributes)}
        self._tell("contactUpdated", contact.email or "", {"content": [content]})

    def _apply(self, contact: Contact, change: Change) -> None:
        was_blocked, old_email = contact.email_blacklisted, contact.email
        self._identify(contact, change.identifiers)
        for name, value in change.attributes.items():
            if value is None:
                contact.attributes.pop(name, None)
            else:
                contact.attributes[name] = value
        for list_id in change.list_ids:
            self._join(contact, list_id)
        for list_id in change.unlink_list_ids:
            self._leave(contact, list_id)
        if was_blocked and contact.email != old_email:
            contact.email_blacklisted = False  # Documented for PUT: a new address is subscribed.
        if change.email_blacklisted is not None:
            contact.email_blacklisted = change.email_blacklisted
        if change.sms_blacklisted is not None:
            contact.sms_blacklisted = change.sms_blacklisted
        if change.forbidden_senders is not None:
            contact.forbidden_senders = change.forbidden_senders
        if was_blocked and not contact.email_blacklisted:
            self.resubscribed.append(contact.identity)
        self._touch(contact)

    def delete(self, contact: Contact) -> None:
        for list_id in list(contact.list_ids):
            self._leave(contact, list_id)
        for kind, value in contact.identifiers.items():
            del self._owners[kind][value]
        del self._by_id[contact.id]
        self._tell("contactDeleted", contact.email or "", {})

    def merge(self, contacts: Iterable[Contact]) -> Contact:
        """Make one of several: the newest modified stays, with the lists of all (`forceMerge`)."""
        survivor, *others = sorted(contacts, key=lambda each: (each.modified_us, each.id))[::-1]
        for other in others:
            identifiers = {**other.identifiers, **survivor.identifiers}
            attributes = {**other.attributes, **survivor.attributes}
            list_ids = list(other.list_ids)
            self.delete(other)
            self.apply(survivor, Change(identifiers, attributes, list_ids))
        return survivor

    def block(self, contact: Contact) -> None:
        """Unsubscribe a contact, as the person would by a link in a mail."""
        contact.email_blacklisted = True
        self._touch(contact)
        self._tell("unsubscribed", contact.email or "", {"list_id": list(contact.list_ids)})

    def unsubscribe(self, contact: Contact, list_id: int) -> None:
        """Take a contact off one list for good, as the person would by a link in a mail."""
        self._leave(contact, list_id)
        if list_id not in contact.lists_left:
            contact.lists_left.append(list_id)
        self._touch(contact)
        self._tell("unsubscribed", contact.email or "", {"list_id": [list_id]})

    def members(self, list_id: int) -> list[Contact]:
        """Return the contacts of a list in order of creation."""
        return [self._by_id[contact_id] for contact_id in sorted(self._members.get(list_id, ()))]

    def count(self, list_id: int) -> int:
        return len(self._members.get(list_id, ()))

    def join(self, contact: Contact, list_id: int) -> bool:
        """Add to a list; False if the contact was in it already."""
        if list_id in contact.list_ids:
            return False
        self._join(contact, list_id)
        self._touch(contact)
        return True

    def leave(self, contact: Contact, list_id: int) -> bool:
        """Remove from a list; False if the contact was not in it."""
        if list_id not in contact.list_ids:
            return False
        self._leave(contact, list_id)
        self._touch(contact)
        return True

    def forget_list(self, list_id: int) -> None:
        for contact in self.members(list_id):
            self.leave(contact, list_id)
        self._members.pop(list_id, None)

    def forget_attribute(self, name: str) -> None:
        """Drop an attribute's values: deleting an attribute deletes them for good."""
        for contact in self:
            contact.attributes.pop(name, None)

    def _identify(self, contact: Contact, identifiers: Mapping[str, str]) -> None:
        for kind, value in identifiers.items():
            old = contact.identifiers.get(kind)
            if old == value or (old is None and value == ""):
                continue
            if old is not None:
                del self._owners[kind][old]
                del contact.identifiers[kind]
            if value != "":
                assert value not in self._owners[kind], "an identifier has one owner"
                self._owners[kind][value] = contact.id
                contact.identifiers[kind] = value

    def _join(self, contact: Contact, list_id: int) -> None:
        if list_id not in contact.list_ids:
            contact.list_ids.append(list_id)
            self._members.setdefault(list_id, {})[contact.id] = None
        if list_id in contact.lists_left:
            contact.lists_left.remove(list_id)
            self.rejoined.append((contact.identity, list_id))

    def _leave(self, contact: Contact, list_id: int) -> None:
        if list_id in contact.list_ids:
            contact.list_ids.remove(list_id)
            del self._members[list_id][contact.id]

    def _touch(self, contact: Contact) -> None:
        contact.modified_us = self._now_us()
        contact.version += 1

    def _now_us(self) -> int:
        return int(self._clock.now_s() * 1_000_000)


def matches(contact: Contact, name: str, wanted: Any) -> bool:
    """Tell whether an attribute (or identifier) equals a value, as `filter=equals(…)` means it."""
    actual = contact.email if name == "EMAIL" else contact.shown_attributes().get(name)
    if isinstance(actual, list):
        return all(choice.strip() in actual for choice in str(wanted).split(","))
    if isinstance(actual, bool):
        return str(actual).lower() == str(wanted).lower()
    return actual is not None and str(actual) == str(wanted)
