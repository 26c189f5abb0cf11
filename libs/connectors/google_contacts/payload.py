"""Google's people as types, and what they mean to us: pure functions, no call.

Of what may have several values the primary one is taken, else the first that the contact itself
has, else the first. A person leaves as one flat object of the names that a mapping takes. Every
optional key is optional here, and an unknown one is ignored.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from libs.common.events import Change, Operation
from libs.connectors.contract import ContactList, Field, FieldType, NotMappable

CUSTOM = "custom:"  # Before the key of a field that people made up themselves.
PEOPLE = "people/"
GROUPS = "contactGroups/"
MALFORMED = msgspec.Raw(b"[]")  # No object: the mapper rejects the contact, and nobody else.
# All that may be mapped, and what tells who and when it is. Always the same: a sync token is good
# for the fields only that it was asked for with, and a mapping may lose a field without a full run.
MASK = (
    *("names", "nicknames", "emailAddresses", "phoneNumbers", "addresses", "organizations"),
    *("birthdays", "biographies", "urls", "userDefined", "memberships", "metadata"),
)
# Groups that are no lists of contacts: everyone, and who was blocked or chatted with.
_NO_LISTS = frozenset({"all", "blocked", "chatBuddies"})


class Camel(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A part of an answer: its keys are lowerCamelCase."""


class Origin(Camel, frozen=True):
    """Where a value, or a person, comes from; `update_time` only of a person's own."""

    type: str = ""
    update_time: datetime | None = None


class ValueMetadata(Camel, frozen=True):
    """What Google says of a value."""

    primary: bool = False
    source: Origin = Origin()


class Membership(Camel, frozen=True):
    """A group that a person is in."""

    contact_group_resource_name: str = ""


class Date(Camel, frozen=True):
    """A date; what is not known is 0 or missing."""

    year: int = 0
    month: int = 0
    day: int = 0


class Value(Camel, frozen=True):
    """A value of any field: each has some of these keys."""

    metadata: ValueMetadata = ValueMetadata()
    type: str | None = None
    key: str | None = None
    value: str | None = None
    canonical_form: str | None = None
    given_name: str | None = None
    family_name: str | None = None
    middle_name: str | None = None
    honorific_prefix: str | None = None
    honorific_suffix: str | None = None
    display_name: str | None = None
    name: str | None = None
    title: str | None = None
    department: str | None = None
    street_address: str | None = None
    city: str | None = None
    region: str | None = None
    postal_code: str | None = None
    country: str | None = None
    country_code: str | None = None
    date: Date | None = None
    contact_group_membership: Membership = Membership()


class PersonMetadata(Camel, frozen=True):
    """Where a person comes from, what they were called before, and whether they are gone."""

    sources: Sequence[Origin] = ()
    previous_resource_names: Sequence[str] = ()
    deleted: bool = False


class Head(Camel, frozen=True):
    """What must be readable of anybody, or nothing is known of them at all."""

    resource_name: str
    metadata: PersonMetadata = PersonMetadata()


class Person(Head, frozen=True):
    """A person with the fields of our mask."""

    names: Sequence[Value] = ()
    nicknames: Sequence[Value] = ()
    email_addresses: Sequence[Value] = ()
    phone_numbers: Sequence[Value] = ()
    addresses: Sequence[Value] = ()
    organizations: Sequence[Value] = ()
    birthdays: Sequence[Value] = ()
    biographies: Sequence[Value] = ()
    urls: Sequence[Value] = ()
    user_defined: Sequence[Value] = ()
    memberships: Sequence[Value] = ()


class Connections(Camel, frozen=True):
    """A page of people, each read by itself; a list that is empty is missing."""

    connections: Sequence[msgspec.Raw] = ()
    next_page_token: str | None = None
    next_sync_token: str | None = None
    total_items: int = 0


class Status(Camel, frozen=True):
    """How one of a batch was answered; 0 is well, 5 is not found."""

    code: int = 0


class Response(Camel, frozen=True):
    """One of a batch."""

    requested_resource_name: str = ""
    status: Status = Status()
    person: msgspec.Raw = msgspec.Raw()


class Batch(Camel, frozen=True):
    """What a batch is answered."""

    responses: Sequence[Response] = ()


class GroupMetadata(Camel, frozen=True):
    """Whether a group is gone."""

    deleted: bool = False


class Group(Camel, frozen=True):
    """A contact group; a size of 0 is missing."""

    resource_name: str
    name: str = ""
    formatted_name: str = ""
    group_type: str = ""
    member_count: int = 0
    member_resource_names: Sequence[str] = ()
    metadata: GroupMetadata = GroupMetadata()


class GroupPage(Camel, frozen=True):
    """A page of groups."""

    contact_groups: Sequence[Group] = ()
    next_page_token: str | None = None


class _Detail(Camel, frozen=True):
    reason: str = ""


class _Error(Camel, frozen=True):
    status: str = ""
    message: str = ""
    details: Sequence[_Detail] = ()


class _Told(Camel, frozen=True):
    error: _Error = _Error()


class Fault(msgspec.Struct, frozen=True):
    """An error's status and reason, and its message in lower case: stable codes come first."""

    status: str = ""
    reason: str = ""
    text: str = ""


CONNECTIONS = msgspec.json.Decoder(Connections)
BATCH = msgspec.json.Decoder(Batch)
GROUP = msgspec.json.Decoder(Group)
GROUP_PAGE = msgspec.json.Decoder(GroupPage)
PERSON = msgspec.json.Decoder(Person)
_HEAD = msgspec.json.Decoder(Head)
_TOLD = msgspec.json.Decoder(_Told)
_ENCODER = msgspec.json.Encoder()
_UPSERT = Operation.UPSERT
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def fault_of(body: bytes) -> Fault:
    """Return what an error's body says; an empty fault if it says nothing that we know."""
    try:
        error = _TOLD.decode(body).error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Fault()
    reason = next((each.reason for each in error.details if each.reason), "")
    return Fault(error.status, reason, error.message.lower())


def id_of(resource_name: str) -> str:
    """Return a person's or group's id: their resource name without its kind."""
    return resource_name.removeprefix(PEOPLE).removeprefix(GROUPS)


def list_of(group: Group) -> ContactList:
    """Return a group as a list. When somebody joined or left last is not told."""
    name = group.formatted_name or group.name
    return ContactList(
        id_of(group.resource_name), name, group.member_count, None, group.metadata.deleted
    )


def is_list(group: Group) -> bool:
    """Return whether a group may be chosen as a list."""
    is_system = group.group_type == "SYSTEM_CONTACT_GROUP"
    return not group.metadata.deleted and not (
        is_system and id_of(group.resource_name) in _NO_LISTS
    )


def head_of(raw: msgspec.Raw) -> Head:
    """Return who somebody is; raise msgspec.MsgspecError if that cannot be read."""
    return _HEAD.decode(raw)


def version_ms(head: Head) -> int:
    """Return when a contact was changed last, as Google says it; ValueError if it does not."""
    times = {each.type: each.update_time for each in head.metadata.sources if each.update_time}
    changed_at = times.get("CONTACT") or max(times.values())
    aware = changed_at if changed_at.tzinfo is not None else changed_at.replace(tzinfo=UTC)
    return (aware - _EPOCH) // _MILLISECOND


class Sight(msgspec.Struct, frozen=True):
    """What one entry of a page tells: a change, or None of who is gone; and their groups."""

    id: str
    change: Change | None
    groups: frozenset[str]


Reader = Callable[[msgspec.Raw], Sight]


def reader(properties: Iterable[str]) -> Reader:
    """Return what reads an entry of a page, with these properties in it and no others.

    It raises msgspec.MsgspecError or ValueError for somebody whose id or time cannot be read; one
    who is odd elsewhere is a change that the mapper rejects.
    """
    values = [(name, _value_of(name)) for name in properties]

    def read(raw: msgspec.Raw) -> Sight:
        try:
            person = PERSON.decode(raw)
        except (msgspec.ValidationError, UnicodeDecodeError):
            head = _HEAD.decode(raw)
            return _sight(head, MALFORMED, frozenset(_groups_of(raw)))
        if person.metadata.deleted:
            return Sight(id_of(person.resource_name), None, frozenset())
        found = {name: value(person) for name, value in values}
        groups = frozenset(map(_group_id, person.memberships))
        return _sight(person, msgspec.Raw(_ENCODER.encode(found)), groups)

    return read


def _sight(head: Head, properties: msgspec.Raw, groups: frozenset[str]) -> Sight:
    id_ = id_of(head.resource_name)
    if head.metadata.deleted:
        return Sight(id_, None, frozenset())
    change = Change(
        id=id_,
        op=_UPSERT,
        version_ms=version_ms(head),
        merged_from=[id_of(each) for each in head.metadata.previous_resource_names],
        properties=properties,
    )
    return Sight(id_, change, groups)


class _Memberships(Camel, frozen=True):
    memberships: Sequence[Value] = ()


_MEMBERSHIPS = msgspec.json.Decoder(_Memberships)


def _groups_of(raw: msgspec.Raw) -> Iterable[str]:
    """Return the groups of somebody who is odd elsewhere; none if they are what is odd."""
    try:
        return map(_group_id, _MEMBERSHIPS.decode(raw).memberships)
    except (msgspec.ValidationError, UnicodeDecodeError):
        return ()


def _group_id(membership: Value) -> str:
    return id_of(membership.contact_group_membership.contact_group_resource_name)


def _best(values: Sequence[Value], kind: str | None = None) -> Value | None:
    """Return the primary value, else the contact's own first one, else the first; of a kind."""
    chosen = [each for each in values if kind in (None, each.type)]
    return next(
        (each for wanted in (_is_primary, _is_own, _is_any) for each in chosen if wanted(each)),
        None,
    )


def _is_primary(value: Value) -> bool:
    return value.metadata.primary


def _is_own(value: Value) -> bool:
    return value.metadata.source.type == "CONTACT"


def _is_any(value: Value) -> bool:
    return True


Read = Callable[[Person], str | None]


def _value_of(name: str) -> Read:
    """Return what reads one property; of a name that there is not (any more), nothing."""
    if name.startswith(CUSTOM):
        return _custom(name.removeprefix(CUSTOM))
    if name == "birthday":
        return _birthday
    if name not in _PROPERTIES:
        return lambda person: None
    field, kind, key = _PROPERTIES[name]

    def read(person: Person) -> str | None:
        value = _best(getattr(person, field), kind)
        found: str | None = None if value is None else getattr(value, key)
        if value is not None and field == "phone_numbers":
            # E.164, where Google can tell the country.
            return value.canonical_form or found
        return found

    return read


def _custom(key: str) -> Read:
    def read(person: Person) -> str | None:
        # Keys may repeat: the first one counts.
        return next((each.value for each in person.user_defined if each.key == key), None)

    return read


def _birthday(person: Person) -> str | None:
    """Return a date that is whole: many birthdays have no year."""
    value = _best(person.birthdays)
    date = value.date if value else None
    if date is None or not (date.year and date.month and date.day):
        return None
    return f"{date.year:04}-{date.month:02}-{date.day:02}"


_KINDS = ("home", "work")
_ADDRESS = {
    "street": "street_address",
    "city": "city",
    "region": "region",
    "postal_code": "postal_code",
    "country": "country",
    "country_code": "country_code",
}
_NAME = {
    "first_name": "given_name",
    "last_name": "family_name",
    "middle_name": "middle_name",
    "name_prefix": "honorific_prefix",
    "name_suffix": "honorific_suffix",
    "full_name": "display_name",
}
# By property the field it is in, the kind whose value is meant (None: any), and the value's key.
_PROPERTIES: Mapping[str, tuple[str, str | None, str]] = {
    "email": ("email_addresses", None, "value"),
    **{f"{kind}_email": ("email_addresses", kind, "value") for kind in _KINDS},
    **{name: ("names", None, key) for name, key in _NAME.items()},
    "nickname": ("nicknames", None, "value"),
    "phone": ("phone_numbers", None, "value"),
    **{f"{kind}_phone": ("phone_numbers", kind, "value") for kind in ("mobile", *_KINDS)},
    "company": ("organizations", None, "name"),
    "job_title": ("organizations", None, "title"),
    "department": ("organizations", None, "department"),
    **{name: ("addresses", None, key) for name, key in _ADDRESS.items()},
    **{
        f"{kind}_{name}": ("addresses", kind, key)
        for kind in _KINDS
        for name, key in _ADDRESS.items()
    },
    "notes": ("biographies", None, "value"),
    "website": ("urls", None, "value"),
}
_NOT_OFFERED = (
    ("email_addresses", FieldType.OTHER, NotMappable.MULTIPLE_VALUES),
    ("phone_numbers", FieldType.OTHER, NotMappable.MULTIPLE_VALUES),
    ("addresses", FieldType.OTHER, NotMappable.MULTIPLE_VALUES),
    ("organizations", FieldType.OTHER, NotMappable.MULTIPLE_VALUES),
    ("memberships", FieldType.OTHER, NotMappable.MULTIPLE_VALUES),
    ("relations", FieldType.OTHER, NotMappable.MULTIPLE_VALUES),
    ("events", FieldType.OTHER, NotMappable.MULTIPLE_VALUES),
    ("gender", FieldType.CATEGORY, NotMappable.CATEGORY),
    ("current_organization", FieldType.BOOLEAN, NotMappable.BOOLEAN),
    ("age_range", FieldType.CATEGORY, NotMappable.READ_ONLY),
    ("photo", FieldType.OTHER, NotMappable.READ_ONLY),
    ("updated_at", FieldType.DATETIME, NotMappable.READ_ONLY),
)


def fields_of(keys: Iterable[str]) -> list[Field]:
    """Return every field, those that are not offered with the reason (S6, S7).

    `keys` are those that people made up; what of them is a number or a date nobody says.
    """
    own = [_field(name) for name in (*_PROPERTIES, "birthday")]
    refused = [
        Field(name, _label(name), type_, not_mappable=reason)
        for name, type_, reason in _NOT_OFFERED
    ]
    customs = [Field(f"{CUSTOM}{key}", key, FieldType.TEXT) for key in dict.fromkeys(keys)]
    return [*own, *customs, *refused]


def _field(name: str) -> Field:
    if name == "birthday":
        return Field(name, _label(name), FieldType.DATE)
    field = _PROPERTIES[name][0]
    if field == "email_addresses":
        return Field(name, _label(name), FieldType.EMAIL, unique=name == "email")
    type_ = FieldType.PHONE if field == "phone_numbers" else FieldType.TEXT
    return Field(name, _label(name), type_)


def _label(name: str) -> str:
    return name.replace("_", " ").capitalize()


def custom_keys(raws: Iterable[msgspec.Raw]) -> list[str]:
    """Return the keys that people made up, of those who can be read."""
    found: dict[str, None] = {}
    for raw in raws:
        try:
            person = PERSON.decode(raw)
        except (msgspec.ValidationError, UnicodeDecodeError):
            continue
        found |= dict.fromkeys(each.key for each in person.user_defined if each.key)
    return sorted(found)
