"""An account's contacts: who they are, what they hold, and how they stand to each list.

Promises: an address belongs to one contact at most; ids only grow; a membership is never forgotten
while its contact is there, so who unsubscribed from a list can be told for ever.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from sandbox.activecampaign.triggers import Cause
from sandbox.clock import Clock

UNCONFIRMED, ACTIVE, UNSUBSCRIBED, BOUNCED = 0, 1, 2, 3


@dataclass(slots=True)
class Membership:
    """How a contact stands to a list, and since when."""

    id: int
    list_id: int
    status: int
    subscribed_s: float | None = None
    unsubscribed_s: float | None = None
    source_id: int = 0


@dataclass(slots=True)
class Value:
    """What a contact holds in one custom field."""

    id: int
    field_id: int
    text: str
    created_s: float
    updated_s: float


@dataclass(slots=True)
class Contact:
    id: int
    email: str
    created_s: float
    updated_s: float
    first_name: str = ""
    last_name: str = ""
    phone: str = ""
    values: dict[int, Value] = field(default_factory=dict)
    memberships: dict[int, Membership] = field(default_factory=dict)
    tags: dict[int, int] = field(default_factory=dict)  # Tag to the id of its link.
    is_bounced: bool = False
    version: int = 0  # How often it was touched: nothing ActiveCampaign shows, but tests ask.

    def status(self, list_id: int) -> int | None:
        """Return how it stands to a list; None if it was never on it."""
        membership = self.memberships.get(list_id)
        return None if membership is None else membership.status

    @property
    def is_unsubscribed(self) -> bool:
        """Whether it was on lists, and is active on none of them any more."""
        statuses = [each.status for each in self.memberships.values()]
        return bool(statuses) and ACTIVE not in statuses


@dataclass(slots=True)
class Change:
    """What one write wants of a contact's values; None and absent mean "leave it"."""

    email: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    phone: str | None = None
    values: Mapping[int, str] = field(default_factory=dict)


class Contacts:
    """The contacts of one account in order of creation."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._by_id: dict[int, Contact] = {}
        self._by_email: dict[str, int] = {}
        self._on_list: dict[int, dict[int, None]] = {}
        self._last_ids = dict.fromkeys(("contact", "value", "membership", "tagging"), 0)
        # Who was put back on a list that the person had left: consent overridden.
        self.resubscribed: list[tuple[str, int]] = []

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Contact]:
        return iter(self._by_id.values())

    def get(self, contact_id: int) -> Contact | None:
        return self._by_id.get(contact_id)

    def owner(self, email: str) -> Contact | None:
        contact_id = self._by_email.get(email.lower())
        return None if contact_id is None else self._by_id[contact_id]

    def on_list(self, list_id: int) -> list[Contact]:
        """Return who is or was on a list, in order of creation."""
        return [self._by_id[each] for each in sorted(self._on_list.get(list_id, ()))]

    def create(self, email: str, change: Change, cause: Cause) -> Contact:
        """Add a contact. The caller has made sure that its address is nobody's."""
        now_s = self._clock.now_s()
        contact = Contact(self._next("contact"), email, now_s, now_s)
        self._by_id[contact.id] = contact
        self._by_email[email] = contact.id
        self.apply(contact, change, cause)
        return contact

    def apply(self, contact: Contact, change: Change, cause: Cause) -> None:
        """Change a contact. The caller has made sure that a new address is nobody's."""
        if change.email is not None and change.email != contact.email:
            del self._by_email[contact.email]
            self._by_email[change.email] = contact.id
            contact.email = change.email
        for name in ("first_name", "last_name", "phone"):
            if (value := getattr(change, name)) is not None:
                setattr(contact, name, value)
        for field_id, text in change.values.items():
            self._put(contact, field_id, text)
        self._touch(contact)
        cause.changed(contact.email)

    def subscribe(self, contact: Contact, list_id: int, cause: Cause, source_id: int = 0) -> None:
        """Make a contact active on a list; who had left it is put back, and that is remembered."""
        membership = self._membership(contact, list_id)
        if membership.status == ACTIVE:
            return
        if membership.status == UNSUBSCRIBED:
            self.resubscribed.append((contact.email, list_id))
            source_id = 4  # As it is answered for those who are subscribed again.
        membership.status, membership.source_id = ACTIVE, source_id
        membership.subscribed_s = self._clock.now_s()
        self._touch(contact)
        cause.joined(contact.email)

    def unsubscribe(self, contact: Contact, list_id: int, cause: Cause) -> None:
        membership = self._membership(contact, list_id)
        if membership.status == UNSUBSCRIBED:
            return
        membership.status = UNSUBSCRIBED
        membership.unsubscribed_s = self._clock.now_s()
        self._touch(contact)
        cause.left(contact.email)

    def set_status(self, contact: Contact, list_id: int, status: int) -> None:
        """Set how a contact stands to a list, as the provider itself does for a bounce."""
        self._membership(contact, list_id).status = status
        self._touch(contact)

    def tag(self, contact: Contact, tag_id: int, cause: Cause) -> int:
        """Tag a contact; return the id of the link."""
        if tag_id not in contact.tags:
            contact.tags[tag_id] = self._next("tagging")
            self._touch(contact)
            cause.tagged(contact.email)
        return contact.tags[tag_id]

    def untag(self, link_id: int) -> bool:
        """Take a tag off by the id of its link; False if there is none."""
        for contact in self:
            for tag_id, found in contact.tags.items():
                if found == link_id:
                    del contact.tags[tag_id]
                    self._touch(contact)
                    return True
        return False

    def delete(self, contact: Contact) -> None:
        for list_id in contact.memberships:
            del self._on_list[list_id][contact.id]
        del self._by_email[contact.email]
        del self._by_id[contact.id]

    def forget_list(self, list_id: int) -> None:
        for contact in self.on_list(list_id):
            del contact.memberships[list_id]
        self._on_list.pop(list_id, None)

    def forget_field(self, field_id: int) -> None:
        for contact in self:
            contact.values.pop(field_id, None)

    def forget_tag(self, tag_id: int) -> None:
        for contact in self:
            contact.tags.pop(tag_id, None)

    def values(self) -> Iterable[tuple[Contact, Value]]:
        return ((contact, value) for contact in self for value in contact.values.values())

    def _membership(self, contact: Contact, list_id: int) -> Membership:
        found = contact.memberships.get(list_id)
        if found is None:
            found = Membership(self._next("membership"), list_id, UNCONFIRMED)
            contact.memberships[list_id] = found
            self._on_list.setdefault(list_id, {})[contact.id] = None
        return found

    def _put(self, contact: Contact, field_id: int, text: str) -> None:
        now_s = self._clock.now_s()
        value = contact.values.get(field_id)
        if value is None:
            value = Value(self._next("value"), field_id, text, now_s, now_s)
            contact.values[field_id] = value
        value.text, value.updated_s = text, now_s

    def _next(self, kind: str) -> int:
        self._last_ids[kind] += 1
        return self._last_ids[kind]

    def _touch(self, contact: Contact) -> None:
        contact.updated_s = self._clock.now_s()
        contact.version += 1
