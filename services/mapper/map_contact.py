"""Turn contacts as their source gave them into the effects that are wanted at the destination.

A mapping version is immutable, so it is compiled once: a decoder of the mapped fields only, and a
closure that checks, converts, encodes and hashes. It goes through a page field by field, not
contact by contact: what is called once for a column is not called two hundred times. Pure: no
input, no output, no clock.

Promises: the same contact under the same mapping gives the same bytes and the same hash, whatever
the order of its properties and whoever is beside it; a field asked for and null or absent clears
the attribute, one that was not asked for is left alone, and so is an empty phone where phones stay
(SF6); whatever is wrong with a contact is a reason of `libs.common.reasons.Reject`, for this
contact only: the first that is found, in the order decoding, e-mail, phone, the attributes by
name, size. `attributes` never hold the address
that the contact is known by (`Identity.key`): it moves by decision only (S5).
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import repeat
from typing import Any

import msgspec
from msgspec import UNSET
from msgspec.structs import astuple

from libs.common.criteria import Criteria, compile_criteria
from libs.common.errors import ContactRejectedError
from libs.common.events import Change, Effect, Identity, Operation
from libs.common.reasons import Filter, Reject
from libs.connectors.contract import FieldType
from services.mapper.values import NOTHING, Column, Converter, converter

HASH_BYTES = 16
# What a contact may weigh at most once mapped: two hundred of ordinary size fit a record, and one
# that is larger is no contact any more.
ATTRIBUTES_BYTES_MAX = 128 * 1024
SMS = "SMS"  # What the phone that identifies a contact is called (W5).

_ENCODER = msgspec.json.Encoder()
_HASHER = blake2b(digest_size=HASH_BYTES)  # A copy costs half of what making one does.

Outcome = Effect | Filter | Reject
MapContacts = Callable[[Sequence[Change]], Sequence[Outcome]]

# Who of a page is refused and why, by place. The first reason stays.
_Refused = dict[int, Filter | Reject]
# The addresses, numbers and encoded attributes of a page's contacts.
_Described = tuple[Sequence[str | None], Sequence[str | None], Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class FieldMapping:
    """From which source field a destination attribute gets its value."""

    source: str
    destination: str
    destination_type: FieldType
    length_max: int | None = None

    @property
    def is_email(self) -> bool:
        """Return whether this is the address that a contact is known by."""
        return self.destination_type is FieldType.EMAIL

    @property
    def is_sms(self) -> bool:
        """Return whether this is the number that a contact without e-mail mapping is known by."""
        return self.destination_type is FieldType.PHONE and self.destination.upper() == SMS


@dataclass(frozen=True, slots=True)
class MappingVersion:
    """Everything that decides how a contact comes out.

    `phones_stay`: a phone that is empty at the source is left alone at the destination (SF6).
    """

    fields: Sequence[FieldMapping]
    criteria: Criteria | None
    default_country: str | None
    phones_stay: bool = False


def compile_mapping(mapping: MappingVersion, asked_for: Collection[str]) -> MapContacts:
    """Return what maps contacts whose fields `asked_for` were read: an outcome each, in order.

    Deletions and leaves pass as they are; a contact that does not match the criteria comes back as
    `Filter.CRITERIA`. Raises ValueError for an attribute that is fed twice, and for names with
    quotation marks, backslashes or control characters.
    """
    names = _names(mapping, asked_for)
    decode = _decoder(names)
    filter_out = _filter(mapping.criteria, names)
    describe = _compile_fields(mapping, names)

    def map_upserts(changes: Sequence[Change]) -> Sequence[Outcome]:
        refused: _Refused = {}
        contacts = decode([change.properties for change in changes], refused)
        filter_out(contacts, refused)
        emails, numbers, described = describe(contacts, refused)
        outcomes: list[Outcome] = [
            Effect(
                id=change.id,
                op=change.op,
                version_ms=change.version_ms,
                identity=Identity(email=email, sms=sms),
                attributes=msgspec.Raw(attributes),
                hash=content_hash(email, sms, attributes),
                merged_from=tuple(change.merged_from),
            )
            for change, email, sms, attributes in zip(
                changes, emails, numbers, described, strict=True
            )
        ]
        for place, reason in refused.items():
            outcomes[place] = reason
        return outcomes

    return lambda changes: with_others(changes, map_upserts)


def with_others(changes: Sequence[Change], map_upserts: MapContacts) -> Sequence[Outcome]:
    """Return the outcomes of all, mapping those that a mapping concerns: no delete, no leave."""
    upsert = Operation.UPSERT  # Looked up once, not for each: as long as all the rest of this.
    if changes and [change.op for change in changes].count(upsert) == len(changes):
        return map_upserts(changes)
    upserts = [change for change in changes if change.op is upsert]
    outcomes = iter(map_upserts(upserts)) if upserts else iter(())
    return [
        next(outcomes)
        if change.op is upsert
        else Effect(id=change.id, op=change.op, version_ms=change.version_ms)
        for change in changes
    ]


def content_hash(email: str | None, sms: str | None, attributes: bytes) -> bytes:
    """Return the 16 bytes that tell whether a contact came out as it did before."""
    hasher = _HASHER.copy()
    hasher.update(f"{email or ''}\x1f{sms or ''}\x1f".encode() + attributes)
    return hasher.digest()


def _names(mapping: MappingVersion, asked_for: Collection[str]) -> list[str]:
    """Return the source fields that matter, of those that were read."""
    wanted = {field.source for field in mapping.fields}
    if mapping.criteria is not None:
        wanted |= mapping.criteria.fields
    return sorted(wanted & set(asked_for))


def _places(names: Sequence[str]) -> dict[str, str]:
    """Return how a generated struct calls its members, which is not how JSON calls them."""
    return {name: f"field_{number}" for number, name in enumerate(names)}


def _decoder(names: Sequence[str]) -> Callable[[Sequence[msgspec.Raw], _Refused], Sequence[Any]]:
    """Return a decoder of these fields, generated once: the others are skipped."""
    places = _places(names)
    contact = msgspec.defstruct(
        "MappedFields",
        [(place, str | int | float | bool | None, None) for place in places.values()],
        rename={place: name for name, place in places.items()},
        frozen=True,
        # Scalars refer to nothing: the collector need not look through them.
        gc=False,
    )
    decoder = msgspec.json.Decoder(contact)

    def decode_one(properties: msgspec.Raw) -> object:
        try:
            return decoder.decode(properties)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # `null` stands for a contact that was too large to travel (services/poller).
            is_null = bytes(properties).strip() == b"null"
            reason = Reject.VALUE_TOO_LONG if is_null else Reject.MALFORMED
            # From None: the decoder's message may quote the contact.
            raise ContactRejectedError(reason) from None

    empty = contact()

    def decode(given: Sequence[msgspec.Raw], refused: _Refused) -> Sequence[Any]:
        try:
            return list(map(decoder.decode, given))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return _each(decode_one, given, refused, empty)

    return decode


def _converted(converter: Converter, given: Column, refused: _Refused) -> Sequence[Any]:
    """Return what everyone's value becomes, None for those that are refused."""
    try:
        return converter.column(given)
    except ContactRejectedError:
        return _each(converter.one, given, refused)


def _each(
    convert: Callable[[Any], Any], given: Sequence[Any], refused: _Refused, instead: object = None
) -> Sequence[Any]:
    """Return what everyone's value becomes, `instead` for those that are refused: seldom."""
    converted: list[Any] = []
    for place, value in enumerate(given):
        try:
            converted.append(convert(value))
        except ContactRejectedError as error:
            converted.append(instead)
            refused.setdefault(place, Reject(error.reason))
    return converted


def _filter(
    criteria: Criteria | None, names: Sequence[str]
) -> Callable[[Sequence[Any], _Refused], None]:
    """Return what refuses those who do not match the criteria."""
    if criteria is None:
        return lambda _contacts, _refused: None
    matches = compile_criteria(criteria)
    places = _places(names)

    def filter_out(contacts: Sequence[Any], refused: _Refused) -> None:
        for place, contact in enumerate(contacts):
            if not matches({name: getattr(contact, at) for name, at in places.items()}):
                refused.setdefault(place, Filter.CRITERIA)

    return filter_out


def _compile_fields(
    mapping: MappingVersion, names: Sequence[str]
) -> Callable[[Sequence[Any], _Refused], _Described]:
    """Return what checks decoded contacts and tells who they are and what their attributes are."""
    fields = sorted(
        (field for field in mapping.fields if field.source in names),
        # The hash must not depend on the order in which a person chose the fields.
        key=lambda field: field.destination,
    )
    email = next((field for field in fields if field.is_email), None)
    sms = next((field for field in fields if field.is_sms), None)
    known_by = email or sms
    described = [field for field in fields if field is not known_by]
    take = _taker(names, [email, sms, *described])
    convert_email, convert_sms = _converter(email, mapping), _converter(sms, mapping)
    # None: the number, which is an attribute as well, and is converted once.
    converters = [None if field is sms else _converter(field, mapping) for field in described]
    encode = _encoder([field.destination for field in described])
    staying = [
        place
        for place, field in enumerate(described)
        if mapping.phones_stay and field.destination_type is FieldType.PHONE
    ]

    def describe(contacts: Sequence[Any], refused: _Refused) -> _Described:
        emails_given, numbers_given, *columns = take(contacts)
        emails = _converted(convert_email, emails_given, refused)
        numbers = _converted(convert_sms, numbers_given, refused)
        # Where an e-mail address is mapped, a number alone is not enough (S9).
        _refuse_unknown(emails if email else numbers, refused)
        converted = [
            numbers if converter is None else _converted(converter, column, refused)
            for converter, column in zip(converters, columns, strict=True)
        ]
        for place in staying:
            converted[place] = [UNSET if each is None else each for each in converted[place]]
        return emails, numbers, encode(len(contacts), converted, refused)

    return describe


def _refuse_unknown(addresses: Sequence[str | None], refused: _Refused) -> None:
    if None in addresses:
        for place, address in enumerate(addresses):
            if address is None:
                refused.setdefault(place, Reject.NO_IDENTITY)


def _encoder(
    destinations: Sequence[str],
) -> Callable[[int, Sequence[Sequence[object]], _Refused], Sequence[bytes]]:
    """Return an encoder of columns of values for these attributes.

    A struct is made and encoded in half the time of a dict.
    """
    if len(set(destinations)) < len(destinations):
        message = "an attribute is fed twice"
        raise ValueError(message)
    places = _places(destinations)
    attributes = msgspec.defstruct(
        "Attributes",
        list(places.values()),
        rename={place: name for name, place in places.items()},
        frozen=True,
        gc=False,
    )

    def encode(
        count: int, columns: Sequence[Sequence[object]], refused: _Refused
    ) -> Sequence[bytes]:
        made = map(attributes, *columns) if columns else repeat(attributes(), count)
        # All in one call: within what is encoded there is no line break.
        lines = _ENCODER.encode_lines(list(made))
        encoded = lines.splitlines()
        if len(lines) > ATTRIBUTES_BYTES_MAX:
            for place, each in enumerate(encoded):
                if len(each) > ATTRIBUTES_BYTES_MAX:
                    refused.setdefault(place, Reject.VALUE_TOO_LONG)
        return encoded

    return encode


def _taker(
    names: Sequence[str], fields: Sequence[FieldMapping | None]
) -> Callable[[Sequence[Any]], Sequence[Column]]:
    """Return what takes these fields' values out of decoded contacts; of None there are none."""
    places = [None if field is None else names.index(field.source) for field in fields]

    def take(contacts: Sequence[Any]) -> Sequence[Column]:
        # As the decoder's members are ordered: all of a contact at once costs half of one by one.
        given: Sequence[Column] = list(zip(*map(astuple, contacts), strict=True))
        absent = [None] * len(contacts)
        return [absent if place is None else given[place] for place in places]

    return take


def _converter(field: FieldMapping | None, mapping: MappingVersion) -> Converter:
    if field is None:
        return NOTHING
    return converter(
        field.destination_type,
        length_max=field.length_max,
        default_country=mapping.default_country,
    )
