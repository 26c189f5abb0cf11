"""Which contacts an integration is about: conditions on source fields (S11).

Criteria are stored as JSON, `{"match": "all" | "any", "conditions": [{"field", "operator",
"value"}]}`, as the API takes them. Promises: parsing says what is wrong and where; matching is a
function of the contact's values only, never raises, and a value that is absent, null or empty
meets no condition. Text is compared without regard to case, as HubSpot's own search does; numbers
are equal if their values are; moments are compared in UTC, a date being its first moment.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, assert_never

from libs.common.moments import moment_of

Value = str | int | float | bool | None
Values = Mapping[str, Value]

CONDITIONS_MAX = 20  # More than HubSpot's own 18 filters in a search; each costs every contact.
VALUE_LENGTH_MAX = 1_000
FIELD_LENGTH_MAX = 200


class Match(StrEnum):
    """Whether every condition must hold, or one of them."""

    ALL = "all"
    ANY = "any"


class Operator(StrEnum):
    """What a condition asks of a field."""

    EQUALS = "equals"
    CONTAINS = "contains"
    IS_SET = "is_set"
    BEFORE = "before"
    AFTER = "after"


class CriteriaError(ValueError):
    """Criteria that are none; `pointer` (RFC 6901) says where, `code` what is wrong there.

    Codes: object_expected, match_unknown, conditions_expected, too_many_conditions,
    field_expected, operator_unknown, value_expected, value_not_expected, value_too_long,
    moment_expected.
    """

    def __init__(self, *, pointer: str, code: str) -> None:
        self.pointer = pointer
        self.code = code
        super().__init__(f"criteria{pointer}: {code}")


@dataclass(frozen=True, slots=True)
class Condition:
    """One question about one source field; `value` is empty for `is_set`."""

    field: str
    operator: Operator
    value: str = ""


@dataclass(frozen=True, slots=True)
class Criteria:
    """At least one condition, and how they combine."""

    match: Match
    conditions: Sequence[Condition]

    @property
    def fields(self) -> frozenset[str]:
        """Return the source fields that must be read to decide."""
        return frozenset(condition.field for condition in self.conditions)


Matches = Callable[[Values], bool]


def parse(document: object) -> Criteria:
    """Return criteria from their JSON document; raise CriteriaError if it is not one."""
    if not isinstance(document, dict):
        raise CriteriaError(pointer="", code="object_expected")
    if document.get("match") not in list(Match):
        raise CriteriaError(pointer="/match", code="match_unknown")
    conditions = document.get("conditions")
    if not isinstance(conditions, list) or not conditions:
        raise CriteriaError(pointer="/conditions", code="conditions_expected")
    if len(conditions) > CONDITIONS_MAX:
        raise CriteriaError(pointer="/conditions", code="too_many_conditions")
    return Criteria(
        Match(document["match"]),
        tuple(_condition(entry, f"/conditions/{at}") for at, entry in enumerate(conditions)),
    )


def _condition(entry: object, pointer: str) -> Condition:
    if not isinstance(entry, dict):
        raise CriteriaError(pointer=pointer, code="object_expected")
    field = entry.get("field")
    if not isinstance(field, str) or not 0 < len(field) <= FIELD_LENGTH_MAX:
        raise CriteriaError(pointer=f"{pointer}/field", code="field_expected")
    if entry.get("operator") not in list(Operator):
        raise CriteriaError(pointer=f"{pointer}/operator", code="operator_unknown")
    operator = Operator(entry["operator"])
    return Condition(field, operator, _value(entry, operator, f"{pointer}/value"))


def _value(entry: Mapping[str, Any], operator: Operator, pointer: str) -> str:
    value = entry.get("value")
    if operator is Operator.IS_SET:
        if value not in (None, "", True):
            raise CriteriaError(pointer=pointer, code="value_not_expected")
        return ""
    if not isinstance(value, str | int | float) or not _text(value):
        raise CriteriaError(pointer=pointer, code="value_expected")
    text = _text(value)
    if len(text) > VALUE_LENGTH_MAX:
        raise CriteriaError(pointer=pointer, code="value_too_long")
    if operator in (Operator.BEFORE, Operator.AFTER) and moment_of(text) is None:
        raise CriteriaError(pointer=pointer, code="moment_expected")
    return text


def compile_criteria(criteria: Criteria) -> Matches:
    """Return what decides whether a contact's values match."""
    tests = [_compile(condition) for condition in criteria.conditions]
    combine = all if criteria.match is Match.ALL else any
    return lambda values: combine(test(values) for test in tests)


def _compile(condition: Condition) -> Matches:
    test = _test(condition)
    field = condition.field

    def holds(values: Values) -> bool:
        text = _text(values.get(field))
        return text != "" and test(text)

    return holds


def _test(condition: Condition) -> Callable[[str], bool]:
    match condition.operator:
        case Operator.IS_SET:
            return lambda text: True
        case Operator.EQUALS:
            return _equals(condition.value)
        case Operator.CONTAINS:
            wanted = condition.value.casefold()
            return lambda text: wanted in text.casefold()
        case Operator.BEFORE:
            return _on_moments(condition.value, is_before=True)
        case Operator.AFTER:
            return _on_moments(condition.value, is_before=False)
        case _:
            assert_never(condition.operator)


def _equals(value: str) -> Callable[[str], bool]:
    wanted = value.casefold()
    number = _number(value)

    def equals(text: str) -> bool:
        return text.casefold() == wanted or (number is not None and _number(text) == number)

    return equals


def _on_moments(value: str, *, is_before: bool) -> Callable[[str], bool]:
    # Criteria were checked when they were made; the oldest moment makes a stored mistake match
    # nothing before it and everything after it, rather than stop the page.
    limit = moment_of(value) or datetime.min.replace(tzinfo=UTC)

    def compare(text: str) -> bool:
        moment = moment_of(text)
        if moment is None:
            return False
        return moment < limit if is_before else moment > limit

    return compare


def _number(text: str) -> float | None:
    """Return the finite number a text is; None if it is none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _text(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value).strip()
