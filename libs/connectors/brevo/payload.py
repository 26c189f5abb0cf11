"""Brevo's JSON as types, and our values in Brevo's forms: pure functions, no call.

Attributes come encoded and are spliced into a body as they are, unless one of them must be
changed for Brevo: null is no value it knows, an empty text clears (values are text, number,
boolean or a list of texts by its contract); EMAIL stands beside the attributes, not among them.
"""

import csv
import functools
import io
import operator
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import compress
from typing import Any

import msgspec
from msgspec.structs import astuple

from libs.common.events import Change, Identity, Operation
from libs.connectors.brevo.facts import PHONES, UNIQUE
from libs.connectors.contract import (
    Awaited,
    ContactList,
    Field,
    FieldType,
    ImportState,
    NotMappable,
    RemoteContact,
    Write,
)
from libs.connectors.http import plain_code

NO_ATTRIBUTES = msgspec.Raw(b"{}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ContactBody(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What a write says of a contact; what it leaves out stays as it is at Brevo.

    `email_blacklisted` and `sms_blacklisted` are only ever sent as true, to keep a block (S3).
    """

    email: str | None = None
    attributes: msgspec.Raw = NO_ATTRIBUTES
    list_ids: list[int] | None = None
    unlink_list_ids: list[int] | None = None
    email_blacklisted: bool | None = None
    sms_blacklisted: bool | None = None
    update_enabled: bool | None = None


class ContactRecord(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A contact as Brevo shows it; one that has only a phone has no `email`."""

    id: int
    email: str | None = None
    email_blacklisted: bool = False
    sms_blacklisted: bool = False
    list_ids: tuple[int, ...] = ()
    list_unsubscribed: tuple[int, ...] | None = None
    modified_at: datetime = _EPOCH
    attributes: dict[str, Any] = {}


class ContactPage(msgspec.Struct, frozen=True):
    """Some contacts, all of them taken apart."""

    contacts: list[ContactRecord] = []


class Sighting(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A contact of which mostly no more is needed than its address and its place in the account.

    The rest stands beside, not taken apart, for the few that are looked at.
    """

    id: int
    email: str | None = None
    list_ids: tuple[int, ...] = ()
    attributes: msgspec.Raw = NO_ATTRIBUTES


class Sightings(msgspec.Struct, frozen=True):
    """A page of contacts, most of them not taken apart."""

    contacts: list[Sighting] = []
    count: int | None = None


class ChangedContact(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A contact as it is read for the way back: its values are passed through as they are.

    `modified_at` moves with every touch: a list, our own writes, an attribute nobody mapped.
    """

    id: int
    modified_at: datetime
    email: str | None = None
    attributes: msgspec.Raw = NO_ATTRIBUTES


class ChangedContacts(msgspec.Struct, frozen=True):
    """A page of such contacts; `count` is how many there are in all."""

    contacts: list[ChangedContact] = []
    count: int | None = None


class ListRecord(msgspec.Struct, frozen=True, rename="camel"):
    """A list. Its totals are being dropped to 0 by Brevo; this one still counts."""

    id: int
    name: str = ""
    unique_subscribers: int | None = None


class ListPage(msgspec.Struct, frozen=True):
    """A page of lists."""

    lists: list[ListRecord] = []


class FolderRecord(msgspec.Struct, frozen=True):
    """A folder of lists."""

    id: int
    name: str


class FolderPage(msgspec.Struct, frozen=True):
    """A page of folders."""

    folders: list[FolderRecord] = []


class Created(msgspec.Struct, frozen=True):
    """What Brevo answers for something new."""

    id: int


class Acknowledged(msgspec.Struct, frozen=True):
    """What a write's success may say beside nothing; with a code it is an error after all."""

    code: str = ""


class AttributeRecord(msgspec.Struct, frozen=True):
    """An attribute; `type` may be absent for one of the category `category`."""

    name: str
    category: str
    type: str = ""


class AttributePage(msgspec.Struct, frozen=True):
    """All attributes: they are not paged."""

    attributes: list[AttributeRecord] = []


class AccountRecord(msgspec.Struct, frozen=True):
    """Whose key it is."""

    organization_id: str
    company_name: str = msgspec.field(default="", name="companyName")
    email: str = ""


class ImportRow(msgspec.Struct, frozen=True, gc=False):
    """One contact of an import; Brevo's contract has nothing beside these two."""

    email: str
    attributes: msgspec.Raw


class ImportBody(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """An import of contacts that are new to the account.

    Contacts that turn out to be there are left as they are: a late import undoes no newer
    write. Without `disable_notification` Brevo mails the account's owner after each import.
    """

    json_body: msgspec.Raw  # Of `ImportRow`, as `import_rows` makes it.
    list_ids: list[int]
    update_existing_contacts: bool = msgspec.field(default=True)
    disable_notification: bool = msgspec.field(default=False)
    notify_url: str | None = None


class Started(msgspec.Struct, frozen=True, rename="camel"):
    """What Brevo answers for an import."""

    process_id: int


class ImportReports(msgspec.Struct, frozen=True):
    """Addresses of CSV files about rows that were left out; only this one is about bad values.

    The others list identifiers that belong to somebody else: a single write settles these.
    """

    invalid_emails: str | None = None


class ProcessDetails(msgspec.Struct, frozen=True):
    """The reports of a completed import."""

    imported: ImportReports = msgspec.field(default=ImportReports(), name="import")


class ProcessRecord(msgspec.Struct, frozen=True):
    """A background process and how it stands."""

    id: int
    name: str = ""
    status: str = ""
    info: ProcessDetails = ProcessDetails()


class ProcessPage(msgspec.Struct, frozen=True):
    """A page of processes."""

    processes: list[ProcessRecord] = []


class Metadata(msgspec.Struct, frozen=True):
    """Which identifiers belong to somebody else: the stable part of a duplicate's answer."""

    duplicate_identifiers: list[str] = []


class Fault(msgspec.Struct, frozen=True):
    """An error's body. Codes are Brevo's own, texts change."""

    code: str = ""
    message: str = ""
    metadata: Metadata | None = None


CONTACT = msgspec.json.Decoder(ContactRecord)
CONTACT_PAGE = msgspec.json.Decoder(ContactPage)
SIGHTINGS = msgspec.json.Decoder(Sightings)
CHANGED_CONTACTS = msgspec.json.Decoder(ChangedContacts)
LIST = msgspec.json.Decoder(ListRecord)
LIST_PAGE = msgspec.json.Decoder(ListPage)
FOLDER_PAGE = msgspec.json.Decoder(FolderPage)
ACKNOWLEDGED = msgspec.json.Decoder(Acknowledged)
CREATED = msgspec.json.Decoder(Created)
ATTRIBUTE_PAGE = msgspec.json.Decoder(AttributePage)
ACCOUNT = msgspec.json.Decoder(AccountRecord)
STARTED = msgspec.json.Decoder(Started)
PROCESS = msgspec.json.Decoder(ProcessRecord)
PROCESS_PAGE = msgspec.json.Decoder(ProcessPage)
_FAULT = msgspec.json.Decoder(Fault)
_ENCODER = msgspec.json.Encoder()
_ATTRIBUTES = msgspec.json.Decoder(dict[str, Any])
_RAW_ATTRIBUTES = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NULL = msgspec.Raw(b"null")

_BEFORE_VALUE = b",:[ \t\r\n"  # What may stand before one of JSON's.
# What may stand before a quotation mark that ends none, and nothing, which stands before no name.
_BEFORE_TEXT = frozenset({b"", *map(bytes, zip(_BEFORE_VALUE + b"{\\", strict=True))})
_DIGITS = re.compile(r"\D+")
_ISO_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[T ].*)?")
_OTHER_DATE = re.compile(r"(\d\d)[-/.](\d\d)[-/.](\d{4})")
_TYPES: Mapping[str, FieldType] = {
    "text": FieldType.TEXT,
    "date": FieldType.DATE,
    "float": FieldType.NUMBER,
    "boolean": FieldType.BOOLEAN,
    "category": FieldType.CATEGORY,
    "multiple-choice": FieldType.MULTIPLE_CHOICE,
}
_NOT_MAPPABLE: Mapping[FieldType, NotMappable] = {
    FieldType.BOOLEAN: NotMappable.BOOLEAN,
    FieldType.CATEGORY: NotMappable.CATEGORY,
    FieldType.MULTIPLE_CHOICE: NotMappable.MULTIPLE_VALUES,
    FieldType.OTHER: NotMappable.UNSUPPORTED_TYPE,
}
_STATES: Mapping[str, ImportState] = {
    "completed": ImportState.COMPLETED,
    "failed": ImportState.FAILED,
    "cancelled": ImportState.FAILED,
}
# What Brevo calls a type that we name; a moment is kept as its date.
ATTRIBUTE_TYPES: Mapping[FieldType, str] = {
    FieldType.TEXT: "text",
    FieldType.EMAIL: "text",
    FieldType.PHONE: "text",
    FieldType.NUMBER: "float",
    FieldType.BOOLEAN: "boolean",
    FieldType.DATE: "date",
    FieldType.DATETIME: "date",
}


def fault_of(body: bytes) -> Fault:
    """Return what an error's body says; an empty fault if it says nothing that we know."""
    try:
        fault = _FAULT.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Fault()
    return msgspec.structs.replace(fault, code=plain_code(fault.code))


def attributes_of(encoded: bytes) -> dict[str, Any]:
    """Return the attributes of a write as they were encoded."""
    return _ATTRIBUTES.decode(encoded or b"{}")


def attributes_for(
    encoded: bytes,
    identity: Identity,
    *,
    new_email: str | None = None,
    without: Collection[str] = (),
) -> msgspec.Raw:
    """Return a write's attributes as Brevo takes them.

    `new_email` moves the contact. `without` are attributes to leave out. A contact that has a
    phone alone is known by it, so the phone is then always among the attributes.
    """
    if not without and new_email is None and identity.email is not None:
        cleared = _cleared(encoded or b"{}")
        if cleared is not None:
            return msgspec.Raw(cleared)
    attributes = {
        name: "" if value is None else value
        for name, value in attributes_of(encoded).items()
        if name != "EMAIL" and name not in without
    }
    if identity.email is None and identity.sms is not None:
        attributes["SMS"] = identity.sms
    if new_email is not None:
        attributes["EMAIL"] = new_email
    return msgspec.Raw(msgspec.json.encode(attributes))


def _cleared(encoded: bytes) -> bytes | None:
    """Return encoded attributes, of one or of many, with each null as the text that clears.

    None where that takes a closer look. A quotation mark that neither is escaped nor begins a name
    or a value ends one, and only a name has a colon after it.
    """
    if b'"EMAIL"' in encoded:
        return None
    # Cut once: a search for each sign goes through all of an import as often as there are signs.
    pieces = encoded.split(b"null")
    before = pieces[:-1]
    are_nulls = [piece[-2:] == b'":' for piece in before]
    if not _BEFORE_TEXT.isdisjoint([piece[-3:-2] for piece in compress(before, are_nulls)]):
        return None
    if all(are_nulls):
        return b'""'.join(pieces)  # As mostly.
    others = [piece for piece, is_null in zip(before, are_nulls, strict=True) if not is_null]
    if any(piece[-1:] in _BEFORE_VALUE for piece in others):
        return None
    return encoded.replace(b'":null', b'":""')  # The others are in the middle of words.


def import_rows(writes: Sequence[Write]) -> msgspec.Raw:
    """Return the rows of an import, all of them with an e-mail address.

    What `attributes_for` asks of each is asked of all together: most often nobody needs more than
    that what clears is written as Brevo takes it.
    """
    addresses = [write.identity.email or "" for write in writes]
    as_they_are = [msgspec.Raw(write.attributes or b"{}") for write in writes]
    encoded = msgspec.json.encode(list(map(ImportRow, addresses, as_they_are)))
    cleared = _cleared(encoded)
    if cleared is not None:
        return msgspec.Raw(cleared)
    taken = [attributes_for(write.attributes, write.identity) for write in writes]
    return msgspec.Raw(msgspec.json.encode(list(map(ImportRow, addresses, taken))))


def remote_of(record: ContactRecord) -> RemoteContact:
    """Return a contact as it is at Brevo; a phone identifies one that has no address."""
    sms = record.attributes.get("SMS")
    return RemoteContact(
        identity=Identity(email=record.email or None, sms=str(sms) if sms else None),
        attributes=_with_pluses(record.attributes),
        list_ids=_names_of(record.list_ids),
        is_blocked=record.email_blacklisted or record.sms_blacklisted,
        left_list_ids=_names_of(record.list_unsubscribed or ()),
        id=str(record.id),
        modified_ms=milliseconds(record.modified_at),
    )


def change_of(contact: ChangedContact, names: Sequence[str]) -> Change:
    """Return a contact as a change with these attributes; raise msgspec.MsgspecError for none.

    Phones get back the plus sign that Brevo takes off: without it they have no country.
    """
    given = _RAW_ATTRIBUTES.decode(contact.attributes)
    given |= {name: _with_plus(given[name]) for name in PHONES & given.keys()}
    given["EMAIL"] = msgspec.Raw(msgspec.json.encode(contact.email or None))
    return Change(
        id=str(contact.id),
        op=Operation.UPSERT,
        version_ms=milliseconds(contact.modified_at),
        properties=msgspec.Raw(
            msgspec.json.encode({name: given.get(name, _NULL) for name in names})
        ),
    )


def _with_pluses(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    numbers = {name: attributes[name] for name in PHONES & attributes.keys()}
    if not numbers:
        return attributes
    return {**attributes, **{name: plus(str(number)) for name, number in numbers.items()}}


def plus(number: str) -> str:
    """Return a number with the plus sign that Brevo takes off: without it it has no country."""
    return f"+{number}" if number.isdecimal() else number


def _with_plus(raw: msgspec.Raw) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(plus(str(msgspec.json.decode(raw)))))


def milliseconds(moment: datetime) -> int:
    """Return a time in whole milliseconds since 1970, what is less cut off."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def moment(moment: datetime) -> str:
    """Return a time as Brevo takes it: UTC, milliseconds, Z."""
    return (
        moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"
    )


def by_address(sightings: Iterable[Sighting]) -> dict[str, Sighting]:
    """Return contacts by their address, in lower case; who has none is left out.

    Who is shown twice, because contacts moved up between two pages, counts as shown last.
    """
    return {each.email.lower(): each for each in sightings if each.email}


def arrived(shown: Mapping[str, Sighting], awaited: Awaited) -> list[list[str]]:
    """Return which rows of imports are among some contacts, on their list and as they were sent.

    A row has an e-mail address, and stands under it: only the list and the rest are looked at.
    """
    return [_arrived(shown, rows) for rows in awaited]


def _arrived(shown: Mapping[str, Sighting], rows: Mapping[str, Write]) -> list[str]:
    found = list(map(rows.get, shown))
    sent = [write for write in found if write is not None]
    if not sent:
        return []
    met, there = list(compress(shown, found)), list(compress(shown.values(), found))
    alike = _alike([each.attributes for each in there], [write.attributes for write in sent])
    if all(alike) and _are_listed(there, sent):
        return met  # As mostly.
    return [
        key
        for key, sighting, write, is_alike in zip(met, there, sent, alike, strict=True)
        if write.list_id in _names_of(sighting.list_ids)
        and (is_alike or holds(_ATTRIBUTES.decode(sighting.attributes), write.attributes))
    ]


def _are_listed(there: Sequence[Sighting], sent: Sequence[Write]) -> bool:
    """Return whether everybody is on every list that somebody was sent to: it is one mostly."""
    wanted = {write.list_id for write in sent}
    return all(wanted <= _names_of(list_ids) for list_ids in {each.list_ids for each in there})


def _alike(there: Sequence[msgspec.Raw], sent: Sequence[bytes]) -> Sequence[bool]:
    """Return of each contact whether its attributes are, at a glance, those that were sent.

    What is there is taken apart for the attributes that the first was sent with, and encoded as
    that was: mostly the same bytes come of it. False means only that `holds` has to look closer.
    """
    alike = [False] * len(sent)
    try:
        names = tuple(attributes_of(sent[0]))
        decode_sent, decode_there = _decoders(names)
        together = b"\n".join(sent)
        # As Brevo keeps them. In a text these bytes would be escaped.
        for name in PHONES.intersection(names):
            together = together.replace(b'"%b":"+' % name.encode(), b'"%b":"' % name.encode())
        found = decode_there(b"[%b]" % b",".join(there))
        encoded = _ENCODER.encode_lines(found)
        if len(encoded) == len(together) + 1 and encoded.startswith(together):
            return [True] * len(sent)  # As mostly.
        lines = together.split(b"\n")
        wanted = lines if len(lines) == len(sent) else sent  # Else somebody's has some itself.
        alike = list(map(operator.eq, encoded.splitlines(), wanted))
        others = [place for place, is_alike in enumerate(alike) if not is_alike]
        if others:
            # The same may be written otherwise: in another order, 12.0 for 12.
            decoded = decode_sent(b"[%b]" % b",".join([wanted[place] for place in others]))
            for place, each in zip(others, decoded, strict=True):
                alike[place] = astuple(each) == astuple(found[place])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return alike
    return alike


_Decode = Callable[[bytes], list[Any]]


@functools.lru_cache(maxsize=256)
def _decoders(names: tuple[str, ...]) -> tuple[_Decode, _Decode]:
    """Return decoders of these attributes: one that refuses others, one that passes them over.

    What is not there is taken for null. Raises ValueError for names that need to be escaped.
    """
    members = [(f"attribute_{number}", Any, None) for number, _ in enumerate(names)]
    rename = {member: name for (member, _, _), name in zip(members, names, strict=True)}
    only, among = (
        msgspec.defstruct(
            "Attributes",
            members,
            rename=rename,
            frozen=True,
            gc=False,
            forbid_unknown_fields=is_strict,
        )
        for is_strict in (True, False)
    )
    return (
        msgspec.json.Decoder(list[only]).decode,  # type: ignore[valid-type]  # made just now
        msgspec.json.Decoder(list[among]).decode,  # type: ignore[valid-type]  # made just now
    )


def holds(there: Mapping[str, Any], encoded: bytes) -> bool:
    """Return whether a contact's attributes are those of a write, each in Brevo's own form."""
    for name, value in attributes_of(encoded).items():
        # Most values are equal as they are: without a call for each of them.
        if there.get(name) == value or name == "EMAIL":
            continue
        if not same(name, value, there.get(name)):
            return False
    return True


@functools.lru_cache(maxsize=1024)
def _names_of(list_ids: tuple[int, ...]) -> frozenset[str]:
    """Return lists' ids as we name them; thousands of contacts are on the same few lists."""
    return frozenset(map(str, list_ids))


def list_of(record: ListRecord) -> ContactList:
    """Return a list."""
    return ContactList(id=str(record.id), name=record.name, size=record.unique_subscribers)


def field_of(record: AttributeRecord) -> Field:
    """Return an attribute as a field."""
    type_ = FieldType.PHONE if record.name in PHONES else _type_of(record)
    return Field(
        name=record.name,
        label=record.name,
        type=type_,
        not_mappable=_why_not(record, type_),
        unique=record.name in UNIQUE,
    )


def state_of(record: ProcessRecord) -> ImportState:
    """Return how a process stands; a word that is new to us is taken for "still running"."""
    return _STATES.get(record.status, ImportState.RUNNING)


def emails_of_report(text: str) -> list[str]:
    """Return the addresses of a report: a CSV file with `;` and a header that names EMAIL."""
    lines = csv.reader(io.StringIO(text.removeprefix("\ufeff")), delimiter=";")
    header = [name.strip().upper() for name in next(lines, [])]
    if "EMAIL" not in header:
        return []
    column = header.index("EMAIL")
    return [line[column].strip() for line in lines if len(line) > column and line[column].strip()]


def holds_boolean(encoded: bytes) -> bool:
    """Return whether an attribute is yes or no: an import does not overwrite true by false."""
    return may_hold_boolean(encoded) and any(
        isinstance(value, bool) for value in attributes_of(encoded).values()
    )


def may_hold_boolean(encoded: bytes) -> bool:
    """Return whether encoded attributes look as if one of them were yes or no."""
    # As they are encoded, without a blank: a longer needle is found sooner.
    return b":true" in encoded or b":false" in encoded


def digits(phone: str) -> str:
    """Return a phone number as Brevo keeps it: `+33 6…` and `0033 6…` are both `336…`."""
    plain = phone.removeprefix("+")
    if plain.isdecimal() and not plain.startswith("00"):
        return plain  # As most are: without a search for what is no digit.
    return _DIGITS.sub("", phone).removeprefix("00")


def same(name: str, wanted: Any, there: Any) -> bool:
    """Return whether Brevo holds a value, in whatever form it gives it back."""
    if wanted is None or wanted == "":
        return there in (None, "", [])
    if wanted == there or there is None:
        return there is not None
    if name in PHONES:
        wanted, there = str(wanted), str(there)
        return wanted.removeprefix("+") == there or digits(wanted) == digits(there)
    if name == "EMAIL":
        return str(wanted).lower() == str(there).lower()
    if isinstance(wanted, list) and isinstance(there, list):
        return sorted(map(str, wanted)) == sorted(map(str, there))
    return _plain(wanted) == _plain(there) or _same_date(str(wanted), str(there))


def _plain(value: Any) -> Any:
    """Return a value without what does not matter: 12.0 is 12 is "12", blanks around a text."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return float(value)
    text = str(value).strip()
    try:
        return float(text)
    except ValueError:
        return text


def _same_date(wanted: str, there: str) -> bool:
    """Return whether two texts are one date; Brevo's layout depends on the account's setting."""
    first, second = _ISO_DATE.fullmatch(wanted), _ISO_DATE.fullmatch(there)
    if first is None:
        return False
    if second is not None:
        return first.groups() == second.groups()
    other = _OTHER_DATE.fullmatch(there)
    if other is None:
        return False
    year, month, day = first.groups()
    return other[3] == year and {other[1], other[2]} == {month, day}


def _type_of(record: AttributeRecord) -> FieldType:
    if record.category == "category":
        return FieldType.CATEGORY
    return _TYPES.get(record.type, FieldType.OTHER)


def _why_not(record: AttributeRecord, type_: FieldType) -> NotMappable | None:
    if record.category in {"calculated", "global"}:
        return NotMappable.CALCULATED
    if record.category == "transactional":
        return NotMappable.READ_ONLY  # Brevo matches orders by them; a contact has none.
    return _NOT_MAPPABLE.get(type_)
