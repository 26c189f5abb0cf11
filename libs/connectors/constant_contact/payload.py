"""Constant Contact's JSON as types, and what it means to us: pure functions, no call.

A contact comes in parts: core values, an address, up to three phones and three postal addresses,
custom values by the id of their field. It leaves as one flat object of the names that a mapping
takes; of what may have several values the first of each kind is collected (CC3). Every optional key
is optional here, and an unknown one is ignored.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import msgspec

from libs.common.events import Change, Operation
from libs.connectors.constant_contact.facts import (
    CORE_CHARACTERS_MAX,
    CUSTOM_CHARACTERS_MAX,
    EMAIL_CHARACTERS_MAX,
    PHONE_CHARACTERS_MAX,
    STREET_CHARACTERS_MAX,
)
from libs.connectors.contract import ContactList, Field, FieldType, NotMappable

CUSTOM = "custom:"  # Before a custom field's id: labels may be changed, ids stay.
PHONE_KINDS = ("home", "work", "mobile", "other")
ADDRESS_KINDS = ("home", "work", "other")
ADDRESS_PARTS = ("street", "city", "state", "postal_code", "country")
MALFORMED = msgspec.Raw(b"[]")  # No object: the mapper rejects the contact, and nobody else.


class Email(msgspec.Struct, frozen=True, gc=False):
    """An e-mail address; whether it may be mailed is not ours to carry (S3)."""

    address: str | None = None


class Phone(msgspec.Struct, frozen=True, gc=False):
    """A phone number in free text, without a word about its country."""

    phone_number: str | None = None
    kind: str | None = None


class StreetAddress(msgspec.Struct, frozen=True, gc=False):
    """A postal address in free text."""

    kind: str | None = None
    street: str | None = None
    city: str | None = None
    state: str | None = None
    postal_code: str | None = None
    country: str | None = None


class CustomValue(msgspec.Struct, frozen=True, gc=False):
    """The value of a custom field: a text whatever its type; a select has none, but choices."""

    custom_field_id: str
    value: str | None = None


class SmsChannel(msgspec.Struct, frozen=True, gc=False):
    """A number for SMS: its country's code stands apart."""

    sms_address: str | None = None
    dial_code: str | None = None


class Record(msgspec.Struct, frozen=True):
    """A contact; parts are there only if they were asked for."""

    contact_id: str
    updated_at: datetime
    email_address: Email | None = None
    first_name: str | None = None
    last_name: str | None = None
    job_title: str | None = None
    company_name: str | None = None
    phone_numbers: Sequence[Phone] = ()
    street_addresses: Sequence[StreetAddress] = ()
    custom_fields: Sequence[CustomValue] = ()
    sms_channel: SmsChannel | None = None
    deleted_at: str | None = None


class Head(msgspec.Struct, frozen=True, gc=False):
    """What must be readable of any contact, or nothing is known of it at all."""

    contact_id: str
    updated_at: datetime


class Link(msgspec.Struct, frozen=True):
    """Where something is: a path without a host."""

    href: str


class Links(msgspec.Struct, frozen=True):
    """The links of a page; without a next one it was the last."""

    next: Link | None = None


class Records(msgspec.Struct, frozen=True):
    """A page of contacts, each read by itself: one that is odd does not spoil the others."""

    contacts: Sequence[msgspec.Raw] = ()
    contacts_count: int | None = None
    links: Links = msgspec.field(name="_links", default=Links())


class ListRecord(msgspec.Struct, frozen=True):
    """A list; its size comes only if it is asked for."""

    list_id: str
    name: str
    membership_count: int | None = None
    deleted_at: str | None = None


class ListPage(msgspec.Struct, frozen=True):
    """A page of lists."""

    lists: Sequence[ListRecord] = ()
    links: Links = msgspec.field(name="_links", default=Links())


class CustomField(msgspec.Struct, frozen=True):
    """A custom field's definition."""

    custom_field_id: str
    label: str
    type: str = ""


class CustomFields(msgspec.Struct, frozen=True):
    """A page of definitions."""

    custom_fields: Sequence[CustomField] = ()
    links: Links = msgspec.field(name="_links", default=Links())


class Summary(msgspec.Struct, frozen=True):
    """Whose account it is."""

    encoded_account_id: str
    organization_name: str = ""


class Fault(msgspec.Struct, frozen=True):
    """An error as it comes alone, or as the first of several."""

    error_key: str = ""


RECORDS = msgspec.json.Decoder(Records)
LIST = msgspec.json.Decoder(ListRecord)
LIST_PAGE = msgspec.json.Decoder(ListPage)
CUSTOM_FIELDS = msgspec.json.Decoder(CustomFields)
SUMMARY = msgspec.json.Decoder(Summary)
RECORD = msgspec.json.Decoder(Record)
_HEAD = msgspec.json.Decoder(Head)
_FAULTS = msgspec.json.Decoder(Fault | list[Fault])
_ENCODER = msgspec.json.Encoder()
_UPSERT = Operation.UPSERT  # Looked up once: an enum takes a quarter of a microsecond a time.
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

_TYPES: Mapping[str, FieldType] = {
    "string": FieldType.TEXT,
    "text_area": FieldType.TEXT,
    "number": FieldType.NUMBER,
    # A text with whatever its settings put around the amount.
    "currency": FieldType.TEXT,
    "boolean": FieldType.BOOLEAN,
    "date": FieldType.DATE,
    "datetime": FieldType.DATETIME,
    "single_select": FieldType.CATEGORY,
    "multi_select": FieldType.MULTIPLE_CHOICE,
}
# CC2: dates are not offered, not even those of the older kind, which are texts in any layout.
_NOT_MAPPABLE: Mapping[FieldType, NotMappable] = {
    FieldType.BOOLEAN: NotMappable.BOOLEAN,
    FieldType.CATEGORY: NotMappable.CATEGORY,
    FieldType.MULTIPLE_CHOICE: NotMappable.MULTIPLE_VALUES,
    FieldType.DATE: NotMappable.UNSUPPORTED_TYPE,
    FieldType.DATETIME: NotMappable.UNSUPPORTED_TYPE,
    FieldType.OTHER: NotMappable.UNSUPPORTED_TYPE,
}


def fault_of(body: bytes) -> Fault:
    """Return what an error's body says; an empty fault if it says nothing that we know."""
    try:
        told = _FAULTS.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Fault()
    if isinstance(told, Fault):
        return told
    return told[0] if told else Fault()


def cursor_of(links: Links) -> str | None:
    """Return the cursor of the next page; None if this was the last.

    Of the link only the cursor is taken, so that no answer can send us elsewhere. Raises
    ValueError for a link without one: what follows would be lost.
    """
    if links.next is None:
        return None
    found = parse_qs(urlsplit(links.next.href).query).get("cursor", [""])[0]
    if not found:
        message = "a next page without a cursor"
        raise ValueError(message)
    return found


def milliseconds(moment: datetime) -> int:
    """Return a moment as milliseconds since 1970; one without a zone is UTC."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // _MILLISECOND


def moment(at_ms: int) -> str:
    """Return milliseconds since 1970 as a parameter has them: UTC, to the second."""
    return (_EPOCH + timedelta(seconds=at_ms // 1000)).strftime("%Y-%m-%dT%H:%M:%SZ")


def list_of(record: ListRecord) -> ContactList:
    """Return a list. When somebody joined or left last is not told."""
    is_deleted = record.deleted_at is not None
    return ContactList(record.list_id, record.name, record.membership_count, None, is_deleted)


def head_of(raw: msgspec.Raw) -> Head:
    """Return a contact's id and time; raise msgspec.MsgspecError if it has not both."""
    return _HEAD.decode(raw)


Reader = Callable[[msgspec.Raw], Change]


def reader(properties: Iterable[str]) -> Reader:
    """Return what makes a change of a contact, with these properties in it and no others.

    It raises msgspec.MsgspecError for a contact whose id or time cannot be read; one that is odd
    elsewhere is a change that the mapper rejects.
    """
    values = [(name, _value_of(name)) for name in properties]

    def read(raw: msgspec.Raw) -> Change:
        try:
            record = RECORD.decode(raw)
        except (msgspec.ValidationError, UnicodeDecodeError):
            head = _HEAD.decode(raw)
            return _change(head, MALFORMED)
        found = {name: value(record) for name, value in values}
        return _change(record, msgspec.Raw(_ENCODER.encode(found)))

    return read


def _change(head: Head | Record, properties: msgspec.Raw) -> Change:
    return Change(
        id=head.contact_id,
        op=_UPSERT,
        version_ms=milliseconds(head.updated_at),
        properties=properties,
    )


def includes(properties: Iterable[str]) -> list[str]:
    """Return the parts of a contact that must be asked for to read these properties."""
    parts = {_part_of(name) for name in properties}
    return [
        each for each in ("custom_fields", "phone_numbers", "street_addresses") if each in parts
    ]


def _part_of(name: str) -> str | None:
    if name.startswith(CUSTOM):
        return "custom_fields"
    if name in _PHONES:
        return "phone_numbers"
    return "street_addresses" if name in _ADDRESSES else None


Value = Callable[[Record], str | None]


def _value_of(name: str) -> Value:
    """Return what reads one property; of a name that there is not (any more), nothing."""
    if name.startswith(CUSTOM):
        return _custom(name.removeprefix(CUSTOM))
    if name in _PHONES:
        return _phone(_PHONES[name])
    if name in _ADDRESSES:
        return _address(*_ADDRESSES[name])
    return _PLAIN.get(name, lambda record: None)


def _custom(field_id: str) -> Value:
    def value(record: Record) -> str | None:
        return next(
            (each.value for each in record.custom_fields if each.custom_field_id == field_id), None
        )

    return value


def _phone(kind: str | None) -> Value:
    def value(record: Record) -> str | None:
        return next(
            (
                each.phone_number
                for each in record.phone_numbers
                if each.phone_number and kind in (None, each.kind)
            ),
            None,
        )

    return value


def _address(kind: str | None, part: str) -> Value:
    def value(record: Record) -> str | None:
        # One address, not the first street of one and the first city of another.
        first = next((each for each in record.street_addresses if kind in (None, each.kind)), None)
        found: str | None = getattr(first, part, None)
        return found

    return value


def _sms(record: Record) -> str | None:
    """Return a number in E.164: the country's code stands apart from the rest."""
    channel = record.sms_channel
    if channel is None or not channel.sms_address:
        return None
    return f"+{(channel.dial_code or '').lstrip('+')}{channel.sms_address}"


def _email(record: Record) -> str | None:
    return record.email_address.address if record.email_address else None


_PLAIN: Mapping[str, Value] = {
    "email": _email,
    "sms": _sms,
    "first_name": lambda record: record.first_name,
    "last_name": lambda record: record.last_name,
    "job_title": lambda record: record.job_title,
    "company_name": lambda record: record.company_name,
}
# By name the kind whose first one is meant; None: the first of all.
_PHONES: Mapping[str, str | None] = {
    "phone": None,
    **{f"{kind}_phone": kind for kind in PHONE_KINDS},
}
_ADDRESSES: Mapping[str, tuple[str | None, str]] = {
    **{part: (None, part) for part in ADDRESS_PARTS},
    **{f"{kind}_{part}": (kind, part) for kind in ADDRESS_KINDS for part in ADDRESS_PARTS},
}


def fields_of(customs: Sequence[CustomField]) -> list[Field]:
    """Return every field, those that are not offered with the reason (S6, S7, CC2, CC3)."""
    return [*_own_fields(), *(_custom_field(each) for each in customs)]


def _own_fields() -> Iterable[Field]:
    yield Field("email", "Email", FieldType.EMAIL, unique=True, length_max=EMAIL_CHARACTERS_MAX)
    for name in ("first_name", "last_name", "job_title", "company_name"):
        yield Field(name, _label(name), FieldType.TEXT, length_max=CORE_CHARACTERS_MAX)
    yield Field("sms", "SMS number", FieldType.PHONE)
    for name in _PHONES:
        yield Field(name, _label(name), FieldType.PHONE, length_max=PHONE_CHARACTERS_MAX)
    for name, (_, part) in _ADDRESSES.items():
        longest = STREET_CHARACTERS_MAX if part == "street" else CORE_CHARACTERS_MAX
        yield Field(name, _label(name), FieldType.TEXT, length_max=longest)
    for name, type_, reason in (
        ("phone_numbers", FieldType.OTHER, NotMappable.MULTIPLE_VALUES),
        ("street_addresses", FieldType.OTHER, NotMappable.MULTIPLE_VALUES),
        ("list_memberships", FieldType.OTHER, NotMappable.MULTIPLE_VALUES),
        ("taggings", FieldType.OTHER, NotMappable.MULTIPLE_VALUES),
        ("birthday", FieldType.DATE, NotMappable.UNSUPPORTED_TYPE),
        ("anniversary", FieldType.DATE, NotMappable.UNSUPPORTED_TYPE),
        ("permission_to_send", FieldType.CATEGORY, NotMappable.READ_ONLY),
        ("created_at", FieldType.DATETIME, NotMappable.READ_ONLY),
        ("updated_at", FieldType.DATETIME, NotMappable.READ_ONLY),
    ):
        yield Field(name, _label(name), type_, not_mappable=reason)


def _custom_field(definition: CustomField) -> Field:
    type_ = _TYPES.get(definition.type, FieldType.OTHER)
    return Field(
        name=custom_name(definition),
        label=definition.label,
        type=type_,
        not_mappable=_NOT_MAPPABLE.get(type_),
        length_max=CUSTOM_CHARACTERS_MAX,
    )


def custom_name(definition: CustomField) -> str:
    """Return what a custom field is called among the properties: by its id, which stays."""
    return f"{CUSTOM}{definition.custom_field_id}"


def is_custom(name: str) -> bool:
    """Return whether a property is one that people made up, and may delete."""
    return name.startswith(CUSTOM)


def _label(name: str) -> str:
    return name.replace("_", " ").capitalize()
