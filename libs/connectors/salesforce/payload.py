"""Salesforce's JSON as types, and what it means to us: pure functions, no call.

A record leaves as it came, its own bytes spliced into a change: its fields stand flat beside a few
keys of Salesforce's, which nobody maps. Only its id and its time are looked at. Every optional key
is optional here, and an unknown one is ignored.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

from libs.common.events import Change, Operation
from libs.connectors.contract import ContactList, Field, FieldType, NotMappable


class Record(msgspec.Struct, frozen=True, rename="pascal", gc=False):
    """What must be readable of any contact or lead, or nothing is known of it at all."""

    id: str
    system_modstamp: str


class Identified(msgspec.Struct, frozen=True, rename="pascal", gc=False):
    """Who a record is; `master_record_id`: it is no more, and was merged into that one."""

    id: str
    master_record_id: str | None = None


class Campaign(msgspec.Struct, frozen=True, rename="pascal"):
    """A campaign; its numbers are Salesforce's own, of converted leads as well."""

    id: str
    name: str
    number_of_contacts: float | None = None
    number_of_leads: float | None = None


class Organization(msgspec.Struct, frozen=True, rename="pascal"):
    """Whose data it is."""

    id: str
    name: str = ""
    organization_type: str | None = None


class Page(msgspec.Struct, frozen=True, rename="camel"):
    """An answer to a query, each record read by itself: one that is odd does not spoil the others.

    `done` False: there is more than this answer holds, whatever the query's own limit.
    """

    records: Sequence[msgspec.Raw] = ()
    total_size: int = 0
    done: bool = True


class Campaigns(msgspec.Struct, frozen=True):
    """Campaigns; `done` as of a `Page`."""

    records: Sequence[Campaign] = ()
    done: bool = True


class Organizations(msgspec.Struct, frozen=True):
    """The one organisation there is."""

    records: Sequence[Organization] = ()


class Ids(msgspec.Struct, frozen=True):
    """Records of whom nothing is asked but who they are."""

    records: Sequence[Identified] = ()
    done: bool = True


class Definition(msgspec.Struct, frozen=True, rename="camel"):
    """A field's definition. Fields that the person may not see are not told of at all."""

    name: str
    label: str = ""
    type: str = ""
    length: int = 0
    createable: bool = False
    updateable: bool = False
    calculated: bool = False
    auto_number: bool = False
    deprecated_and_hidden: bool = False
    unique: bool = False
    id_lookup: bool = False


class Described(msgspec.Struct, frozen=True):
    """An object's definition."""

    fields: Sequence[Definition] = ()


class Fault(msgspec.Struct, frozen=True, rename="camel"):
    """An error: data calls answer with several of them, and the first one tells."""

    error_code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """How many calls of the last 24 hours the organisation has used, of how many."""

    used: int
    most: int

    @property
    def share(self) -> float:
        """Return the share that is used; more than 1 where Salesforce lets one go on a while."""
        return self.used / self.most if self.most else 1.0


PAGE = msgspec.json.Decoder(Page)
IDS = msgspec.json.Decoder(Ids)
CAMPAIGNS = msgspec.json.Decoder(Campaigns)
ORGANIZATIONS = msgspec.json.Decoder(Organizations)
DESCRIBED = msgspec.json.Decoder(Described)
_RECORD = msgspec.json.Decoder(Record)
_FAULTS = msgspec.json.Decoder(list[Fault] | Fault)
_UPSERT = Operation.UPSERT  # Looked up once: an enum takes a quarter of a microsecond a time.
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
# Not from the beginning of the header: more and other figures may stand beside it.
_USAGE = re.compile(r"(?<![a-z-])api-usage=(\d{1,12})/(\d{1,12})")

_TYPES: Mapping[str, FieldType] = {
    "string": FieldType.TEXT,
    "textarea": FieldType.TEXT,
    "url": FieldType.TEXT,
    "email": FieldType.EMAIL,
    "phone": FieldType.PHONE,
    "int": FieldType.NUMBER,
    "long": FieldType.NUMBER,
    "double": FieldType.NUMBER,
    "currency": FieldType.NUMBER,
    "percent": FieldType.NUMBER,
    "date": FieldType.DATE,
    "datetime": FieldType.DATETIME,
    "boolean": FieldType.BOOLEAN,
    "picklist": FieldType.CATEGORY,
    # Text with a list beside it to choose from: a drop-down field as well.
    "combobox": FieldType.CATEGORY,
    "multipicklist": FieldType.MULTIPLE_CHOICE,
}
_NOT_MAPPABLE: Mapping[FieldType, NotMappable] = {
    FieldType.BOOLEAN: NotMappable.BOOLEAN,
    FieldType.CATEGORY: NotMappable.CATEGORY,
    FieldType.MULTIPLE_CHOICE: NotMappable.MULTIPLE_VALUES,
    # Ids of other records, compound values (an address), files, masked texts, times of day.
    FieldType.OTHER: NotMappable.UNSUPPORTED_TYPE,
}
_WITH_LENGTH = frozenset({FieldType.TEXT, FieldType.EMAIL, FieldType.PHONE})


def fault_of(body: bytes) -> Fault:
    """Return what an error's body says; an empty fault if it says nothing that we know."""
    try:
        told = _FAULTS.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Fault()
    if isinstance(told, Fault):
        return told
    return told[0] if told else Fault()


def usage_of(header: str) -> Usage | None:
    """Return what `Sforce-Limit-Info` says; None if it says nothing that we know."""
    found = _USAGE.search(header)
    return Usage(int(found[1]), int(found[2])) if found else None


def record_of(raw: msgspec.Raw) -> Record:
    """Return a record's id and time; raise msgspec.MsgspecError if it has not both."""
    return _RECORD.decode(raw)


def change_of(raw: msgspec.Raw, merged_from: Mapping[str, Sequence[str]]) -> Change:
    """Return a record as a change; raise msgspec.MsgspecError if it has no readable id and time.

    `merged_from` has, by the survivor's id, the ids that were merged into it.
    """
    record = _RECORD.decode(raw)
    return Change(
        id=record.id,
        op=_UPSERT,
        version_ms=milliseconds(record.system_modstamp),
        merged_from=list(merged_from.get(record.id, ())),
        properties=raw,
    )


def milliseconds(stamp: str) -> int:
    """Return a time as milliseconds since 1970; raise msgspec.ValidationError for what is none.

    Salesforce writes its zone without a colon (`+0000`), which RFC 3339 does not know.
    """
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        message = "a record without a readable time"
        raise msgspec.ValidationError(message) from None
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // _MILLISECOND


def survivors_of(gone: Sequence[Identified]) -> dict[str, str | None]:
    """Return of each record that is no more in which it lives on; None: in none.

    Who was merged into somebody that was merged later lives on in the last of them. Whether that
    one lives is not said here, only that it is not among these.
    """
    masters = {each.id: each.master_record_id for each in gone}
    return {each: _last_of(each, masters) for each in masters}


def _last_of(record_id: str, masters: Mapping[str, str | None]) -> str | None:
    seen = {record_id}
    master = masters[record_id]
    while master is not None and master in masters:
        if master in seen:  # A ring, which only a damaged answer can hold.
            return None
        seen.add(master)
        master = masters[master]
    return master


def merged_into(survivors: Mapping[str, str | None]) -> dict[str, list[str]]:
    """Return by survivor who was merged into it."""
    merged: dict[str, list[str]] = {}
    for old, survivor in survivors.items():
        if survivor is not None:
            merged.setdefault(survivor, []).append(old)
    return merged


def list_of(campaign: Campaign, object_name: str) -> ContactList:
    """Return a campaign as it is offered: its size is of all its members of a kind, ever."""
    counted = campaign.number_of_leads if object_name == "leads" else campaign.number_of_contacts
    return ContactList(campaign.id, campaign.name, None if counted is None else int(counted))


def tier_of(organization: Organization) -> str | None:
    """Return the word for an edition: `enterprise` of "Enterprise Edition"."""
    edition = (organization.organization_type or "").partition(" ")[0].lower()
    return edition or None


def field_of(definition: Definition) -> Field:
    """Return a field, with the reason why it is not offered (S6, S7)."""
    type_ = _TYPES.get(definition.type, FieldType.OTHER)
    return Field(
        name=definition.name,
        label=definition.label or definition.name,
        type=type_,
        not_mappable=_why_not(definition, type_),
        unique=definition.unique or definition.id_lookup or definition.type == "id",
        length_max=definition.length if definition.length and type_ in _WITH_LENGTH else None,
    )


def _why_not(definition: Definition, type_: FieldType) -> NotMappable | None:
    """Return why a field is not offered: hidden first, then computed, then by its type.

    A roll-up summary says `calculated` as a formula does. A compound value (Name of its parts)
    and what Salesforce keeps itself can be neither entered nor edited.
    """
    if definition.deprecated_and_hidden:
        return NotMappable.HIDDEN
    if definition.calculated:
        return NotMappable.CALCULATED
    if definition.auto_number or not (definition.createable and definition.updateable):
        return NotMappable.READ_ONLY
    return _NOT_MAPPABLE.get(type_)
