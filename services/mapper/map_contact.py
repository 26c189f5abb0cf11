"""Turn a contact as its source gave it into the effect that is wanted at the destination.

A mapping version is immutable, so it is compiled once: a decoder of the mapped fields only, and a
closure that checks, converts, encodes and hashes. Pure: no input, no output, no clock.

Promises: the same contact under the same mapping gives the same bytes and the same hash, whatever
the order of its properties; a field asked for and null or absent clears the attribute, one that was
not asked for is left alone; whatever is wrong with a contact is ContactRejectedError with a reason
of `libs.common.reasons.Reject`, for this contact only. `attributes` never hold the address that the
contact is known by (`Identity.key`): it moves by decision only (S5).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from operator import attrgetter
from typing import Any

import msgspec

from libs.common.criteria import Criteria, compile_criteria
from libs.common.errors import ContactRejectedError
from libs.common.events import Change, Effect, Identity, Operation
from libs.common.reasons import Filter, Reject
from libs.connectors.contract import FieldType
from services.mapper.values import Scalar, converter

HASH_BYTES = 16
# What a contact may weigh at most once mapped: two hundred of ordinary size fit a record, and one
# that is larger is no contact any more.
ATTRIBUTES_BYTES_MAX = 128 * 1024
SMS = "SMS"  # What the phone that identifies a contact is called (W5).

_ENCODER = msgspec.json.Encoder()

MapContact = Callable[[Change], Effect | Filter]


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
    """Everything that decides how a contact comes out."""

    fields: Sequence[FieldMapping]
    criteria: Criteria | None
    default_country: str | None


def compile_mapping(mapping: MappingVersion, asked_for: Collection[str]) -> MapContact:
    """Return what maps a contact whose fields `asked_for` were read.

    Deletions and leaves pass as they are; a contact that does not match the criteria comes back as
    `Filter.CRITERIA`.
    """
    names = _names(mapping, asked_for)
    decode = _decoder(names)
    matches = _matcher(mapping.criteria, names)
    identify, describe = _compile_fields(mapping, names)

    def map_contact(change: Change) -> Effect | Filter:
        if change.op is not Operation.UPSERT:
            return Effect(id=change.id, op=change.op, version_ms=change.version_ms)
        values = decode(change.properties)
        if matches is not None and not matches(values):
            return Filter.CRITERIA
        identity = identify(values)
        attributes = describe(values)
        return Effect(
            id=change.id,
            op=change.op,
            version_ms=change.version_ms,
            identity=identity,
            attributes=msgspec.Raw(attributes),
            hash=content_hash(identity, attributes),
            merged_from=change.merged_from,
        )

    return map_contact


def content_hash(identity: Identity, attributes: bytes) -> bytes:
    """Return the 16 bytes that tell whether a contact came out as it did before."""
    head = f"{identity.email or ''}\x1f{identity.sms or ''}\x1f".encode()
    return blake2b(head + attributes, digest_size=HASH_BYTES).digest()


# A contact's values in the order of the compiled mapping's names: positions are cheaper than keys.
Values = Sequence[Scalar | None]


def _names(mapping: MappingVersion, asked_for: Collection[str]) -> list[str]:
    """Return the source fields that matter, of those that were read."""
    wanted = {field.source for field in mapping.fields}
    if mapping.criteria is not None:
        wanted |= mapping.criteria.fields
    return sorted(wanted & set(asked_for))


def _decoder(names: Sequence[str]) -> Callable[[msgspec.Raw], Values]:
    """Return a decoder of these fields, generated once: the others are skipped."""
    attributes = [f"field_{number}" for number in range(len(names))]
    contact = msgspec.defstruct(
        "MappedFields",
        [(attribute, str | int | float | bool | None, None) for attribute in attributes],
        rename=dict(zip(attributes, names, strict=True)),
        frozen=True,
    )
    decoder = msgspec.json.Decoder(contact)
    take = _taker(attributes)

    def decode(properties: msgspec.Raw) -> Values:
        try:
            return take(decoder.decode(properties))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # `null` stands for a contact that was too large to travel (services/poller).
            is_null = bytes(properties).strip() == b"null"
            reason = Reject.VALUE_TOO_LONG if is_null else Reject.MALFORMED
            # From None: the decoder's message may quote the contact.
            raise ContactRejectedError(reason) from None

    return decode


def _taker(attributes: Sequence[str]) -> Callable[[Any], Values]:
    """Return what reads all attributes of an object at once, as a sequence."""
    if len(attributes) > 1:
        return attrgetter(*attributes)
    # `attrgetter` of one name gives the value itself, and of none it is an error.
    return lambda contact: [getattr(contact, attribute) for attribute in attributes]


def _matcher(criteria: Criteria | None, names: Sequence[str]) -> Callable[[Values], bool] | None:
    if criteria is None:
        return None
    matches = compile_criteria(criteria)
    return lambda values: matches(dict(zip(names, values, strict=True)))


def _compile_fields(
    mapping: MappingVersion, names: Sequence[str]
) -> tuple[Callable[[Values], Identity], Callable[[Values], bytes]]:
    positions = {name: position for position, name in enumerate(names)}
    fields = sorted(
        (field for field in mapping.fields if field.source in positions),
        # The hash must not depend on the order in which a person chose the fields.
        key=lambda field: field.destination,
    )
    email = next((field for field in fields if field.is_email), None)
    sms = next((field for field in fields if field.is_sms), None)
    known_by = email or sms
    take_email = _taking(email, mapping, positions)
    take_sms = _taking(sms, mapping, positions)
    steps = [
        (field.destination, _taking(field, mapping, positions))
        for field in fields
        if field is not known_by
    ]

    def identify(values: Values) -> Identity:
        identity = Identity(email=take_email(values), sms=take_sms(values))
        # Where an e-mail address is mapped, a number alone is not enough (S9).
        if (identity.email if email else identity.sms) is None:
            raise ContactRejectedError(Reject.NO_IDENTITY)
        return identity

    def describe(values: Values) -> bytes:
        encoded = _ENCODER.encode({destination: take(values) for destination, take in steps})
        if len(encoded) > ATTRIBUTES_BYTES_MAX:
            raise ContactRejectedError(Reject.VALUE_TOO_LONG)
        return encoded

    return identify, describe


def _taking(
    field: FieldMapping | None, mapping: MappingVersion, positions: Mapping[str, int]
) -> Callable[[Values], Any]:
    """Return what takes one converted value; None for what a provider means as "nothing"."""
    if field is None:
        return lambda values: None
    position = positions[field.source]
    convert = converter(
        field.destination_type,
        length_max=field.length_max,
        default_country=mapping.default_country,
    )

    def take(values: Values) -> object:
        value = values[position]
        # Blanks alone are nothing as well.
        if value is None or (isinstance(value, str) and (not value or value.isspace())):
            return None
        return convert(value)

    return take
