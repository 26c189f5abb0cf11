"""ActiveCampaign's JSON as types, and our values in its forms: pure functions, no call.

An attribute is called by its personalisation tag, as people know it from their mails; a write takes
the field's id. Ids and numbers come as text or as numbers, dates as text or null.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import msgspec

from libs.common.events import Identity
from libs.connectors.contract import (
    ContactList,
    Field,
    FieldType,
    ImportState,
    NotMappable,
    RemoteContact,
    Write,
)

Number = str | int

UNCONFIRMED, ACTIVE, UNSUBSCRIBED, BOUNCED = "0", "1", "2", "3"
EMAIL = "EMAIL"
# What every contact has beside its custom fields, by its tag: the name in a row of an import.
PLAIN: Mapping[str, str] = {"FIRSTNAME": "first_name", "LASTNAME": "last_name", "PHONE": "phone"}
ALL_LISTS = 0  # A field that is related to it is shown for every list.


class ContactRecord(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A contact as it is shown, without its custom values and its lists."""

    id: Number
    email: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    phone: str | None = None


class MembershipRecord(msgspec.Struct, frozen=True, gc=False):
    """How a contact stands to a list."""

    contact: Number
    list: Number
    status: Number


class ValueRecord(msgspec.Struct, frozen=True, gc=False):
    """What a contact holds in one custom field."""

    contact: Number
    field: Number
    value: str | int | float | None = None


class Meta(msgspec.Struct, frozen=True):
    """How many there are in all; absent from some answers."""

    total: Number = 0


class ContactPage(msgspec.Struct, frozen=True, rename="camel"):
    """A page of contacts with what was asked to come along; None: it did not."""

    contacts: list[ContactRecord] = []
    contact_lists: list[MembershipRecord] | None = None
    field_values: list[ValueRecord] | None = None
    meta: Meta = Meta()


class ContactDetails(msgspec.Struct, frozen=True, rename="camel"):
    """One contact with its lists and values."""

    contact: ContactRecord
    contact_lists: list[MembershipRecord] = []
    field_values: list[ValueRecord] = []


class FieldRecord(msgspec.Struct, frozen=True):
    """A custom field of contacts; one that is related to no list is shown nowhere."""

    id: Number
    title: str = ""
    type: str | None = None
    perstag: str | None = None
    relations: list[Any] | None = None


class FieldPage(msgspec.Struct, frozen=True):
    """A page of custom fields."""

    fields: list[FieldRecord] = []


class FieldMade(msgspec.Struct, frozen=True):
    """The answer to a new field."""

    field: FieldRecord


class ListRecord(msgspec.Struct, frozen=True):
    """A list."""

    id: Number
    name: str = ""


class ListPage(msgspec.Struct, frozen=True):
    """A page of lists."""

    lists: list[ListRecord] = []


class ListMade(msgspec.Struct, frozen=True):
    """The answer to a new list, and to one that is asked for."""

    list: ListRecord


class User(msgspec.Struct, frozen=True, rename="camel"):
    """Whose key it is; the links begin with the account's own address."""

    first_name: str = ""
    last_name: str = ""
    email: str = ""
    links: Any = None


class Me(msgspec.Struct, frozen=True):
    """The answer about the key's user."""

    user: User


class RowValue(msgspec.Struct, frozen=True, gc=False):
    """A custom value of a row."""

    id: int
    value: str


class ListRef(msgspec.Struct, frozen=True, gc=False):
    """A list by its id."""

    listid: int


class Row(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One contact of an import; what is left out stays as it is.

    `exclude_automations` stands in each row and beside them: the page says one place, its own
    example shows the other.
    """

    email: str
    first_name: str | None = None
    last_name: str | None = None
    phone: str | None = None
    fields: tuple[RowValue, ...] = ()
    subscribe: tuple[ListRef, ...] = ()
    unsubscribe: tuple[ListRef, ...] = ()
    exclude_automations: bool = msgspec.field(default=False)


class Callback(msgspec.Struct, frozen=True, rename="camel"):
    """Who is told that an import has ended."""

    url: str
    request_type: str = "POST"


class ImportBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """An import that sets off no automation (AC3); imports call no webhook and mail nobody."""

    contacts: Sequence[Row]
    exclude_automations: bool = msgspec.field(default=False)
    callback: Callback | None = None


class Queued(msgspec.Struct, frozen=True):
    """The answer to an import; fewer queued than sent were on the exclusion list."""

    batch_id: str = msgspec.field(name="batchId")
    queued_contacts: int | None = None


class ImportInfo(msgspec.Struct, frozen=True):
    """How an import stands: a word, or false as long as it is not known yet.

    `success` are ids of contacts and `failure` addresses, where they are lists.
    """

    status: str | bool | None = None
    success: Any = None
    failure: Any = None

    @property
    def ids(self) -> list[str]:
        """Return the ids of the contacts that were written."""
        return [str(each) for each in self.success] if isinstance(self.success, list) else []

    @property
    def failed(self) -> frozenset[str]:
        """Return the addresses of the rows that failed, in lower case."""
        told = self.failure if isinstance(self.failure, list) else ()
        return frozenset(str(each).lower() for each in told)

    @property
    def state(self) -> ImportState:
        """Return the state; a word that is new to us is taken for "still running"."""
        return _STATES.get(str(self.status), ImportState.RUNNING)


class Queue(msgspec.Struct, frozen=True):
    """The importer's queue: what waits, in numbers by day."""

    outstanding: list[Any] = []


CONTACT_PAGE = msgspec.json.Decoder(ContactPage)
CONTACT = msgspec.json.Decoder(ContactDetails)
FIELD_PAGE = msgspec.json.Decoder(FieldPage)
FIELD_MADE = msgspec.json.Decoder(FieldMade)
LIST_PAGE = msgspec.json.Decoder(ListPage)
LIST_MADE = msgspec.json.Decoder(ListMade)
ME = msgspec.json.Decoder(Me)
QUEUED = msgspec.json.Decoder(Queued)
IMPORT_INFO = msgspec.json.Decoder(ImportInfo)
QUEUE = msgspec.json.Decoder(Queue)
_ATTRIBUTES = msgspec.json.Decoder(dict[str, Any])

_STATES: Mapping[str, ImportState] = {
    "completed": ImportState.COMPLETED,
    "failed": ImportState.FAILED,
    "interrupted": ImportState.FAILED,
}
_TYPES: Mapping[str | None, FieldType] = {
    "text": FieldType.TEXT,
    "textarea": FieldType.TEXT,
    "hidden": FieldType.TEXT,  # Hidden on forms; people read it and mails print it.
    "date": FieldType.DATE,
    "datetime": FieldType.DATETIME,
    "dropdown": FieldType.CATEGORY,
    "radio": FieldType.CATEGORY,
    "listbox": FieldType.MULTIPLE_CHOICE,
    "checkbox": FieldType.MULTIPLE_CHOICE,
}
_NOT_MAPPABLE: Mapping[FieldType, NotMappable] = {
    FieldType.CATEGORY: NotMappable.CATEGORY,
    FieldType.MULTIPLE_CHOICE: NotMappable.MULTIPLE_VALUES,
    FieldType.OTHER: NotMappable.UNSUPPORTED_TYPE,
}
# What a type that we name is called; contacts have no fields of numbers.
FIELD_TYPES: Mapping[FieldType, str] = {
    FieldType.TEXT: "text",
    FieldType.EMAIL: "text",
    FieldType.PHONE: "text",
    FieldType.NUMBER: "text",
    FieldType.DATE: "date",
    FieldType.DATETIME: "datetime",
}
# The importer's page: these make an address invalid, and all rows beside it are refused as well.
_FORBIDDEN = re.compile(r"[\s\"(),:;<>\[\\\]]")
_ADDRESS = re.compile(r"[^@]+@[^@]*\.[A-Za-z]{2}[^@.]*")


class CustomFields:
    """The custom fields of an account by tag. Of two with one tag it is the older one's."""

    def __init__(self, records: Iterable[FieldRecord]) -> None:
        self.by_tag: dict[str, FieldRecord] = {}
        self._tags: dict[str, str] = {}
        for record in sorted(records, key=lambda each: int(each.id)):
            tag = (record.perstag or "").strip("%").upper()
            if tag and tag != EMAIL and tag not in PLAIN and tag not in self.by_tag:
                self.by_tag[tag] = record
                self._tags[str(record.id)] = tag

    def tag_of(self, field_id: Number) -> str | None:
        """Return the tag of a field; None for one that came since."""
        return self._tags.get(str(field_id))

    def lacks(self, names: Collection[str]) -> bool:
        """Return whether one of these attributes is not there."""
        return not all(name == EMAIL or name in PLAIN or name in self.by_tag for name in names)

    def described(self) -> list[Field]:
        """Return every attribute: the address, what all contacts have, and the custom ones."""
        plain = [
            Field(name=EMAIL, label="Email", type=FieldType.EMAIL, unique=True),
            Field(name="FIRSTNAME", label="First Name", type=FieldType.TEXT),
            Field(name="LASTNAME", label="Last Name", type=FieldType.TEXT),
            Field(name="PHONE", label="Phone", type=FieldType.PHONE),
        ]
        return plain + [_field_of(tag, each) for tag, each in self.by_tag.items()]


def _field_of(tag: str, record: FieldRecord) -> Field:
    type_ = _TYPES.get(record.type, FieldType.OTHER)
    label = record.title or tag
    return Field(name=tag, label=label, type=type_, not_mappable=_NOT_MAPPABLE.get(type_))


@dataclass(frozen=True, slots=True)
class Sighting:
    """A contact as it was seen: with its id, and how it stands to each list it ever was on."""

    id: str
    remote: RemoteContact
    statuses: Mapping[str, str]

    def may_join(self, list_id: str) -> bool:
        """Return whether a subscription would take nobody back who left (S3, AC3)."""
        return list_id not in self.statuses and not self.remote.is_blocked


def sightings_of(
    contacts: Iterable[ContactRecord],
    memberships: Iterable[MembershipRecord],
    values: Iterable[ValueRecord],
    fields: CustomFields,
) -> list[Sighting]:
    """Return contacts with what stands beside them in an answer, in order."""
    statuses: dict[str, dict[str, str]] = {}
    for each in memberships:
        statuses.setdefault(str(each.contact), {})[str(each.list)] = str(each.status)
    custom: dict[str, dict[str, str]] = {}
    for value in values:
        tag = fields.tag_of(value.field)
        if tag is not None and value.value not in (None, ""):
            custom.setdefault(str(value.contact), {})[tag] = str(value.value)
    return [
        _sighting(each, statuses.get(str(each.id), {}), custom.get(str(each.id), {}))
        for each in contacts
    ]


def _sighting(
    record: ContactRecord, statuses: Mapping[str, str], custom: Mapping[str, str]
) -> Sighting:
    plain = {"FIRSTNAME": record.first_name, "LASTNAME": record.last_name, "PHONE": record.phone}
    active = frozenset(each for each, status in statuses.items() if status == ACTIVE)
    remote = RemoteContact(
        identity=Identity(email=record.email or None, sms=None),
        attributes={**{name: text for name, text in plain.items() if text}, **custom},
        list_ids=active,
        # Who was on lists and is active on none of them has unsubscribed, or cannot be reached.
        is_blocked=bool(statuses) and not active,
        left_list_ids=frozenset(statuses) - active,
    )
    return Sighting(str(record.id), remote, statuses)


def list_of(record: ListRecord) -> ContactList:
    """Return a list; how many are on it is not told."""
    return ContactList(id=str(record.id), name=record.name)


def attributes_of(encoded: bytes) -> dict[str, Any]:
    """Return the attributes of a write as they were encoded."""
    return _ATTRIBUTES.decode(encoded or b"{}")


def row_of(write: Write, fields: CustomFields, *, subscribes: bool, is_new: bool = False) -> Row:
    """Return the row that does what an upsert wants; every attribute is known.

    A value is cleared by an empty text, which a new contact has no need of.
    """
    plain: dict[str, Any] = {}
    custom: list[RowValue] = []
    for name, value in attributes_of(write.attributes).items():
        text = text_of(value)
        if name == EMAIL or (is_new and not text):
            continue
        if name in PLAIN:
            plain[PLAIN[name]] = text
        else:
            record = fields.by_tag[name]
            formed = _moment(text) if record.type == "datetime" else text
            custom.append(RowValue(int(record.id), formed))
    return Row(
        email=write.identity.email or "",
        fields=tuple(custom),
        subscribe=(ListRef(int(write.list_id)),) if subscribes else (),
        exclude_automations=True,
        **plain,
    )


def leaving(email: str, list_id: str) -> Row:
    """Return the row that takes a contact off a list."""
    unsubscribe = (ListRef(int(list_id)),)
    return Row(email=email, unsubscribe=unsubscribe, exclude_automations=True)


def text_of(value: Any) -> str:
    """Return a value as ActiveCampaign takes it: all are texts, an empty one clears."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def is_address(email: str) -> bool:
    """Return whether the importer takes an address; for one bad one it refuses all rows."""
    return _ADDRESS.fullmatch(email) is not None and _FORBIDDEN.search(email) is None


def tag_for(name: str) -> str:
    """Return the tag that a field of this name shall have: letters, digits and underscores."""
    return re.sub(r"\W+", "_", name).strip("_").upper()


def same(wanted: Any, there: str | None) -> bool:
    """Return whether a value is held, in whatever form it is given back."""
    text, held = text_of(wanted).strip(), (there or "").strip()
    if text == held:
        return True
    # Line ends come back as they were typed or not; a moment in the account's own zone.
    if text.split() == held.split():
        return bool(text)
    return _same_moment(text, held)


def _same_moment(wanted: str, there: str) -> bool:
    try:
        # A day is the beginning of it in UTC: so it was sent.
        day = datetime.combine(date.fromisoformat(wanted), datetime.min.time(), UTC)
        held = datetime.fromisoformat(there)
    except ValueError:
        return False
    return held.tzinfo is not None and held == day


def _moment(text: str) -> str:
    """Return a day as a moment: fields of moments take nothing shorter."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return text
    return datetime.combine(day, datetime.min.time(), UTC).isoformat()
