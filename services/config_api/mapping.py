"""Which mappings make sense, and what changing one costs: decisions without I/O (W5, S6, S7).

A mapping names, for each destination attribute, the source field it comes from. What is wrong with
one is said all at once, with a JSON Pointer for each entry.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from libs.common import criteria
from libs.common.criteria import CriteriaError, Operator
from libs.connectors.contract import Field, FieldType
from services.config_api.errors import Flaw, pointer

FIELDS_MAX = 200  # More than Brevo's attributes in practice; each costs every contact.

# What a destination attribute of a type can be filled from without guessing.
ACCEPTED: Mapping[FieldType, frozenset[FieldType]] = {
    FieldType.TEXT: frozenset(
        {
            FieldType.TEXT,
            FieldType.NUMBER,
            FieldType.DATE,
            FieldType.DATETIME,
            FieldType.EMAIL,
            FieldType.PHONE,
        }
    ),
    FieldType.NUMBER: frozenset({FieldType.NUMBER}),
    FieldType.DATE: frozenset({FieldType.DATE, FieldType.DATETIME}),
    FieldType.DATETIME: frozenset({FieldType.DATE, FieldType.DATETIME}),
    FieldType.EMAIL: frozenset({FieldType.EMAIL, FieldType.TEXT}),
    FieldType.PHONE: frozenset({FieldType.PHONE, FieldType.TEXT, FieldType.NUMBER}),
}

IDENTITY_TYPES = frozenset({FieldType.EMAIL, FieldType.PHONE})


@dataclass(frozen=True, slots=True)
class Pair:
    """One entry of a mapping, as people give it."""

    source: str
    destination: str


@dataclass(frozen=True, slots=True)
class Cost:
    """What a change of mapping or criteria means for an integration.

    `tasks_at_most` is what a full run could be charged: what turns out unchanged costs nothing
    (Q6). None: nobody knows yet how many contacts there are.
    """

    full_run: bool
    tasks_at_most: int | None


def check(
    pairs: Sequence[Pair], source: Sequence[Field], destination: Sequence[Field]
) -> list[Flaw]:
    """Return everything that is wrong with a mapping; empty: it can be saved."""
    sources = {field.name: field for field in source}
    attributes = {field.name: field for field in destination}
    flaws = [
        flaw
        for at, pair in enumerate(pairs)
        for flaw in _check_pair(
            at, pair, sources.get(pair.source), attributes.get(pair.destination)
        )
    ]
    flaws.extend(_find_duplicates(pairs))
    if not any(_is_identity(attributes.get(pair.destination)) for pair in pairs):
        flaws.append(
            Flaw(
                "identity_missing",
                "Map at least one of e-mail and SMS: contacts are told apart by them.",
                pointer="/fields",
                rule="W5",
            )
        )
    return flaws


def _check_pair(
    at: int, pair: Pair, field: Field | None, attribute: Field | None
) -> Iterable[Flaw]:
    source_at, destination_at = (
        pointer("fields", at, "source"),
        pointer("fields", at, "destination"),
    )
    if field is None:
        yield Flaw("unknown_field", "The source has no such field.", pointer=source_at)
    elif field.not_mappable is not None:
        yield Flaw(
            f"not_mappable_{field.not_mappable}",
            f"This field cannot be mapped: {_WORDS[field.not_mappable]}.",
            pointer=source_at,
            rule=_RULES.get(field.not_mappable),
        )
    if attribute is None:
        yield Flaw(
            "unknown_attribute", "The destination has no such attribute.", pointer=destination_at
        )
    elif attribute.not_mappable is not None:
        yield Flaw(
            f"not_mappable_{attribute.not_mappable}",
            f"This attribute cannot be written: {_WORDS[attribute.not_mappable]}.",
            pointer=destination_at,
        )
    elif field is not None and field.not_mappable is None and not _fits(field, attribute):
        yield Flaw(
            "type_mismatch",
            f"A {field.type} field cannot fill a {attribute.type} attribute.",
            pointer=destination_at,
        )


def _fits(field: Field, attribute: Field) -> bool:
    if field.type is FieldType.UNTYPED:
        return attribute.type in ACCEPTED
    return field.type in ACCEPTED.get(attribute.type, frozenset())


def _is_identity(attribute: Field | None) -> bool:
    return attribute is not None and attribute.unique and attribute.type in IDENTITY_TYPES


def _find_duplicates(pairs: Sequence[Pair]) -> Iterable[Flaw]:
    seen: dict[str, int] = {}
    for at, pair in enumerate(pairs):
        first = seen.setdefault(pair.destination, at)
        if first != at:
            yield Flaw(
                "duplicate_attribute",
                f"This attribute is filled by entry {first} already.",
                pointer=pointer("fields", at, "destination"),
            )


_WORDS = {
    "boolean": "it is a yes/no field",
    "category": "it is a category field",
    "read_only": "it is read-only",
    "calculated": "the provider calculates it",
    "hidden": "the provider hides it",
    "multiple_values": "it holds several values",
    "unsupported_type": "its type is not supported",
}
_RULES = {"boolean": "S6", "category": "S6", "read_only": "S7", "calculated": "S7"}


def compose(
    pairs: Sequence[Pair], source: Sequence[Field], destination: Sequence[Field]
) -> list[dict[str, Any]]:
    """Return a checked mapping as it is stored, with the types that the mapper goes by."""
    sources = {field.name: field for field in source}
    attributes = {field.name: field for field in destination}
    return [_stored(sources[pair.source], attributes[pair.destination]) for pair in pairs]


def _stored(field: Field, attribute: Field) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "source": field.name,
        "source_type": field.type.value,
        "destination": attribute.name,
        "destination_type": attribute.type.value,
    }
    if attribute.length_max is not None:
        entry["length_max"] = attribute.length_max
    return entry


def check_both_ways(fields: Sequence[Mapping[str, Any]]) -> list[Flaw]:
    """Return why a checked mapping cannot go both ways; empty: it can (SF3)."""
    flaws = [
        Flaw(
            "not_both_ways",
            "A point in time cannot be written back, dates can: leave this field out, or sync one "
            "way only.",
            pointer=pointer("fields", at, "source"),
            rule="SF3",
        )
        for at, each in enumerate(fields)
        if each["source_type"] == FieldType.DATETIME
    ]
    if not any(each["destination_type"] == FieldType.EMAIL for each in fields):
        flaws.append(
            Flaw(
                "not_both_ways",
                "Map the e-mail address: by it a contact and its record are told to be one.",
                pointer="/fields",
                rule="SF3",
            )
        )
    return flaws


def turned(fields: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a stored mapping as the way back goes by it."""
    return [
        {
            "source": each["destination"],
            "source_type": each["destination_type"],
            "destination": each["source"],
            "destination_type": each["source_type"],
        }
        for each in fields
    ]


def pairs_of(fields: Iterable[Mapping[str, Any]]) -> list[Pair]:
    """Return a stored mapping as people give it."""
    return [Pair(entry["source"], entry["destination"]) for entry in fields]


def needs_full_run(
    before: Sequence[Mapping[str, Any]],
    after: Sequence[Mapping[str, Any]],
    *,
    criteria_changed: bool,
) -> bool:
    """Return whether contacts must be read anew: fields taken away need nothing (PROTOCOL 2)."""
    known = [dict(entry) for entry in before]
    return criteria_changed or any(dict(entry) not in known for entry in after)


def check_criteria(document: Mapping[str, Any], source: Sequence[Field]) -> list[Flaw]:
    """Return everything that is wrong with criteria (S11); pointers start at /criteria."""
    try:
        parsed = criteria.parse(dict(document))
    except CriteriaError as error:
        return [
            Flaw(error.code, _CRITERIA[error.code], pointer=f"/criteria{error.pointer}", rule="S11")
        ]
    fields = {field.name: field for field in source}
    return [
        flaw
        for at, condition in enumerate(parsed.conditions)
        for flaw in _check_condition(at, fields.get(condition.field), condition.operator)
    ]


def _check_condition(at: int, field: Field | None, operator: Operator) -> Iterable[Flaw]:
    where = pointer("criteria", "conditions", at)
    if field is None:
        yield Flaw(
            "unknown_field", "The source has no such field.", pointer=f"{where}/field", rule="S11"
        )
    elif operator in (Operator.BEFORE, Operator.AFTER) and field.type not in (
        FieldType.DATE,
        FieldType.DATETIME,
        FieldType.UNTYPED,
    ):
        yield Flaw(
            "operator_not_for_type",
            f"`{operator}` asks for a date, and this field is of type {field.type}.",
            pointer=f"{where}/operator",
            rule="S11",
        )


_CRITERIA = {
    "object_expected": "This must be an object.",
    "match_unknown": "`match` is `all` or `any`.",
    "conditions_expected": "Criteria have at least one condition; without any, send null.",
    "too_many_conditions": f"Criteria have at most {criteria.CONDITIONS_MAX} conditions.",
    "field_expected": "Name a source field.",
    "operator_unknown": "The operator is one of " + ", ".join(Operator) + ".",
    "value_expected": "This operator compares with a value: text or a number.",
    "value_not_expected": "`is_set` takes no value.",
    "value_too_long": f"A value has at most {criteria.VALUE_LENGTH_MAX} characters.",
    "moment_expected": "Send a date, or a date and time, as in RFC 3339.",
}
