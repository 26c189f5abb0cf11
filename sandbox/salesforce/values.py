"""Values as a write brings them in, and what is kept of them.

Texts are trimmed, and an empty one is null. Addresses are kept in lower case. Phones are kept as
they were typed. A date is `YYYY-MM-DD`. A value of another JSON type than its field's is an error
of the whole body (`BodyError`), a value of the right type that cannot be kept is one of its record.
"""

import re
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from sandbox.salesforce.errors import Problem
from sandbox.salesforce.fields import NUMBERS, Field
from sandbox.salesforce.ids import as_18
from sandbox.salesforce.moments import read_s, written

Keep = Callable[[Field, Any], Any]

SHOWN_CHARACTERS = 255  # Of a value that is too long, in the text that says so.
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


class BodyError(Exception):
    """A value is not of its field's JSON type: the body is refused as a whole."""

    def __init__(self, kind: str, value: object) -> None:
        named = {str: "VALUE_STRING", bool: "VALUE_BOOLEAN", int: "VALUE_NUMBER_INT"}
        token = named.get(type(value), "START_OBJECT")
        super().__init__(
            f"Cannot deserialize instance of {kind} from {token} value {value} or request may be "
            "missing a required field at [line:1, column:1]"
        )


class ValueProblemError(Exception):
    """A value cannot be kept; `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def kept(field: Field, value: Any) -> Any:
    """Return what a record keeps of a value; raise `BodyError` or `ValueProblemError`."""
    if value is None:
        return None
    keep: Keep = _KEPT.get(field.type, _text)
    return keep(field, value)


def _boolean(field: Field, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    raise BodyError(field.type, value)


def _number(field: Field, value: Any) -> float | int | None:
    if value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise BodyError(field.type, value) from None
    if isinstance(value, bool):
        raise BodyError(field.type, value)
    if abs(number) >= 10 ** ((field.precision or 18) - field.scale):
        message = f"{field.label}: value outside of valid range on numeric field: {value}"
        raise ValueProblemError(Problem("NUMBER_OUTSIDE_VALID_RANGE", message, [field.name]))
    return int(number) if field.type == "int" else round(number, field.scale)


def _date(field: Field, value: Any) -> str | None:
    if value == "":
        return None
    if not isinstance(value, str) or not _DAY.fullmatch(value):
        raise BodyError(field.type, value)
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError:
        raise BodyError(field.type, value) from None


def _moment(field: Field, value: Any) -> str | None:
    if value == "":
        return None
    at_s = read_s(value) if isinstance(value, str) else None
    if at_s is None:
        raise BodyError(field.type, value)
    return written(at_s)


def _reference(field: Field, value: Any) -> str | None:
    if value == "":
        return None
    whole = as_18(value) if isinstance(value, str) else None
    if whole is None:
        message = f"{field.label}: id value of incorrect type: {value}"
        raise ValueProblemError(Problem("MALFORMED_ID", message, [field.name]))
    return whole


def _text(field: Field, value: Any) -> str | None:
    if isinstance(value, dict | list | bool):
        kind = "string"
        raise BodyError(kind, value)
    text = str(value).strip()
    if not text:
        return None
    if field.length and len(text) > field.length:
        shown = f"{text[:SHOWN_CHARACTERS]} (max length={field.length})"
        message = f"{field.label}: data value too large: {shown}"
        raise ValueProblemError(Problem("STRING_TOO_LONG", message, [field.name]))
    if field.type == "email":
        return _address(field, text)
    if field.restricted:
        _check_options(field, text)
    return text


def _address(field: Field, text: str) -> str:
    if not _ADDRESS.fullmatch(text):
        message = f"{field.label}: invalid email address: {text}"
        raise ValueProblemError(Problem("INVALID_EMAIL_ADDRESS", message, [field.name]))
    return text.lower()


def _check_options(field: Field, text: str) -> None:
    chosen = text.split(";") if field.type == "multipicklist" else [text]
    unknown = [each for each in chosen if each not in field.options]
    if unknown:
        code = "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"
        message = f"{field.label}: bad value for restricted picklist field: {unknown[0]}"
        raise ValueProblemError(Problem(code, message, [field.name]))


_KEPT: Mapping[str, Keep] = {
    "boolean": _boolean,
    "date": _date,
    "datetime": _moment,
    "id": _reference,
    "reference": _reference,
    **dict.fromkeys(NUMBERS, _number),
}
