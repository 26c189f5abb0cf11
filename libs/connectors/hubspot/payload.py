"""HubSpot's JSON as types, and what it means to us: pure functions, no call.

A contact's properties stay raw bytes, spliced later into a record as they are (PERFORMANCE 4.1);
only the two that the platform itself needs are looked at here. Every optional key of HubSpot's
contract is optional here, and an unknown one is ignored.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from libs.common.events import Change, Operation
from libs.connectors.contract import ContactList, Field, FieldType, NotMappable
from libs.connectors.hubspot.facts import STRING_CHARACTERS_MAX

EMPTY = msgspec.Raw(b"{}")
# What is read of every contact beside the mapped properties. Either of the two about merges was
# seen to lack what the other had (fivetran/dbt_hubspot#168), so both are asked for.
MODIFIED, MERGED, MERGED_AT = (
    "lastmodifieddate", "hs_merged_object_ids", "hs_calculated_merged_vids",
)  # fmt: skip


class Record(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A contact as it comes in every answer that holds contacts."""

    id: str
    properties: msgspec.Raw = EMPTY
    updated_at: datetime | None = None


class Next(msgspec.Struct, frozen=True):
    """Where the next page begins."""

    after: str


class Paging(msgspec.Struct, frozen=True):
    """The paging of an answer; without a next page this was the last."""

    next: Next | None = None


class Records(msgspec.Struct, frozen=True):
    """A page of contacts; `total` comes with a search only."""

    results: list[Record]
    total: int | None = None
    paging: Paging | None = None


class Member(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A member of a list."""

    record_id: str


class Members(msgspec.Struct, frozen=True):
    """A page of a list's members, in the order of their ids."""

    results: list[Member]
    total: int | None = None
    paging: Paging | None = None


class ListRecord(msgspec.Struct, frozen=True, rename="camel"):
    """A list; sizes and times come as texts among the additional properties."""

    list_id: str
    name: str
    size: int | None = None
    deleted_at: str | None = None
    additional_properties: dict[str, str | None] = {}


class ListPage(msgspec.Struct, frozen=True, rename="camel"):
    """A page of lists; `offset` is where the next one begins."""

    lists: list[ListRecord]
    offset: int = 0
    has_more: bool = False


class ModificationMetadata(msgspec.Struct, frozen=True, rename="camel"):
    """What may be changed about a property."""

    read_only_value: bool = False


class Property(msgspec.Struct, frozen=True, rename="camel"):
    """A property's definition."""

    name: str
    label: str
    type: str
    field_type: str = ""
    archived: bool = False
    calculated: bool = False
    calculation_formula: str | None = None
    hidden: bool = False
    has_unique_value: bool = False
    modification_metadata: ModificationMetadata = ModificationMetadata()


class Properties(msgspec.Struct, frozen=True):
    """All definitions: they are not paged."""

    results: list[Property]


class AccountDetails(msgspec.Struct, frozen=True, rename="camel"):
    """Whose token it is."""

    portal_id: int
    time_zone: str = "UTC"
    ui_domain: str = "app.hubspot.com"


class Fault(msgspec.Struct, frozen=True, rename="camel"):
    """An error's body; every key is optional (HubSpot's error handling guide)."""

    message: str = ""
    category: str = ""
    sub_category: str = ""
    policy_name: str = ""


class _Watched(msgspec.Struct, frozen=True, gc=False):
    lastmodifieddate: datetime | None = None
    hs_merged_object_ids: str | None = None
    hs_calculated_merged_vids: str | None = None


RECORDS = msgspec.json.Decoder(Records)
MEMBERS = msgspec.json.Decoder(Members)
LIST_PAGE = msgspec.json.Decoder(ListPage)
PROPERTIES = msgspec.json.Decoder(Properties)
ACCOUNT = msgspec.json.Decoder(AccountDetails)
_WATCHED = msgspec.json.Decoder(_Watched)
_FAULT = msgspec.json.Decoder(Fault)

# S7 names these, whatever their metadata says: what HubSpot computes and a person cannot type.
# Names as in HubSpot's default contact properties.
_COMPUTED = frozenset(
    {
        "createdate",
        "hs_calculated_merged_vids",
        "hs_email_domain",
        "hs_lastmodifieddate",
        "hs_lead_score",
        "hs_merged_object_ids",
        "hs_object_id",
        "hs_predictivecontactscore",
        "hs_predictivecontactscore_v2",
        "hs_predictivecontactscorebucket",
        "hs_predictivescoringtier",
        "hubspotscore",
        "lastmodifieddate",
        "registered_at",
        "registeredat",
        "score",
    }
)
_TYPES: Mapping[str, FieldType] = {
    "string": FieldType.TEXT,
    "number": FieldType.NUMBER,
    "date": FieldType.DATE,
    "datetime": FieldType.DATETIME,
    "bool": FieldType.BOOLEAN,
    "enumeration": FieldType.CATEGORY,
    "phone_number": FieldType.PHONE,
}
_NOT_MAPPABLE: Mapping[FieldType, NotMappable] = {
    FieldType.BOOLEAN: NotMappable.BOOLEAN,
    FieldType.CATEGORY: NotMappable.CATEGORY,
    FieldType.MULTIPLE_CHOICE: NotMappable.MULTIPLE_VALUES,
    FieldType.OTHER: NotMappable.UNSUPPORTED_TYPE,
}
_SEVERAL = frozenset({"hs_additional_emails"})  # A text with `;` between its values.
_UPSERT = Operation.UPSERT  # Looked up once: an enum takes a quarter of a microsecond a time.
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_MS = 24 * 3_600 * 1_000
_SEPARATED = re.compile(r"[;,\s]+")


def fault_of(body: bytes) -> Fault:
    """Return what an error's body says; an empty fault if it says nothing that we know."""
    try:
        return _FAULT.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Fault()


def change_of(record: Record, asked_as: Sequence[str] = ()) -> Change:
    """Return a contact as a change; raise msgspec.MsgspecError if its times are none.

    `asked_as` are ids that were asked for and led here: ids that were merged into this one.
    """
    watched = _watched(record)
    modified = watched.lastmodifieddate or record.updated_at
    if modified is None:
        message = "a contact without a modification time"
        raise msgspec.ValidationError(message)
    return Change(
        id=record.id,
        op=_UPSERT,
        version_ms=_milliseconds(modified - _EPOCH),
        merged_from=_merged_into(record.id, watched, asked_as),
        properties=record.properties,
    )


def changes_of(records: Sequence[Record], asked_as: Sequence[str] = ()) -> list[Change]:
    """Return contacts as changes, as `change_of` does: what is usual in four fifths of its time."""
    try:
        watched = list(map(_WATCHED.decode, [record.properties for record in records]))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return [change_of(record, asked_as) for record in records]
    changes: list[Change] = []
    for record, seen in zip(records, watched, strict=True):
        modified = seen.lastmodifieddate
        merged = seen.hs_merged_object_ids or seen.hs_calculated_merged_vids or asked_as
        if modified is None or merged:
            changes.append(change_of(record, asked_as))
            continue
        since = modified - _EPOCH
        changes.append(
            Change(
                id=record.id,
                op=_UPSERT,
                # As `_milliseconds`, without the call.
                version_ms=since.days * _DAY_MS
                + since.seconds * 1_000
                + since.microseconds // 1_000,
                properties=record.properties,
            )
        )
    return changes


def _watched(record: Record) -> _Watched:
    """Return what we look at; nothing for a contact that the mapper rejects as malformed.

    Only where its own time stands beside the properties, or it would have no version.
    """
    try:
        return _WATCHED.decode(record.properties)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        if record.updated_at is None:
            raise
        return _Watched()


def _milliseconds(since: timedelta) -> int:
    """Return whole milliseconds: no float, so no rounding, and twice as fast as a division."""
    return since.days * _DAY_MS + since.seconds * 1_000 + since.microseconds // 1_000


def list_of(record: ListRecord) -> ContactList:
    """Return a list with what tells whether anybody joined or left."""
    more = record.additional_properties
    times = [_number(more.get(f"hs_last_record_{what}_at")) for what in ("added", "removed")]
    known = [each for each in times if each is not None]
    size = record.size if record.size is not None else _number(more.get("hs_list_size"))
    return ContactList(
        id=record.list_id,
        name=record.name,
        size=size,
        changed_at_ms=max(known) if known else None,
        is_deleted=record.deleted_at is not None,
    )


def field_of(definition: Property) -> Field:
    """Return a property as a field, with the reason why it is not offered (S6, S7)."""
    return Field(
        name=definition.name,
        label=definition.label,
        type=_type_of(definition),
        not_mappable=_why_not(definition),
        unique=definition.has_unique_value or definition.name in {"email", "hs_object_id"},
        length_max=STRING_CHARACTERS_MAX if definition.type == "string" else None,
    )


def _type_of(definition: Property) -> FieldType:
    if definition.field_type == "booleancheckbox":
        return FieldType.BOOLEAN
    if definition.field_type == "checkbox" or definition.name in _SEVERAL:
        return FieldType.MULTIPLE_CHOICE
    if definition.name == "email":
        return FieldType.EMAIL
    if definition.field_type == "phonenumber":
        return FieldType.PHONE
    return _TYPES.get(definition.type, FieldType.OTHER)


def _why_not(definition: Property) -> NotMappable | None:
    """Return why a property is not offered: hidden first, then computed, then by its type.

    `calculated` says nothing about custom properties (HubSpot's contract), so all three tests
    are made: the flag, the metadata and the kind of field with its formula.
    """
    if definition.hidden:
        return NotMappable.HIDDEN
    by_formula = definition.calculation_formula or definition.field_type.startswith("calculation")
    if definition.calculated or by_formula or definition.name in _COMPUTED:
        return NotMappable.CALCULATED
    if definition.modification_metadata.read_only_value:
        return NotMappable.READ_ONLY
    return _NOT_MAPPABLE.get(_type_of(definition))


def _merged_into(contact_id: str, watched: _Watched, asked_as: Sequence[str]) -> list[str]:
    """Return which ids are now this contact: those that HubSpot names, those that led here."""
    ids, with_times = watched.hs_merged_object_ids, watched.hs_calculated_merged_vids
    if not (ids or with_times or asked_as):
        return []
    named = _SEPARATED.split(ids or "")  # `51;1;1551`
    dated = [each.partition(":")[0] for each in _SEPARATED.split(with_times or "")]  # `51:16999…`
    found = dict.fromkeys([*named, *dated, *asked_as])
    return [each for each in found if each and each != contact_id]


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None
