"""Turn one source value into what a destination attribute of a given type takes.

Pure. A converter gets a value that is neither null nor empty and returns what goes into the
attributes' JSON; it raises ContactRejectedError with the reason if the value can not be that.
"""

import math
from collections.abc import Callable
from typing import assert_never

from libs.common import email, phone
from libs.common.errors import ContactRejectedError
from libs.common.moments import is_date, moment_of
from libs.common.reasons import Reject
from libs.connectors.contract import FieldType

# The longest value HubSpot holds (65,536 characters, its property documentation); other sources
# allow less. No destination takes more in one attribute.
CHARACTERS_MAX = 65_536
# A whole number above this loses digits in every JSON reader that uses doubles (RFC 8259 6).
EXACT_NUMBER_MAX = 2**53

Scalar = str | int | float | bool
Convert = Callable[[Scalar], object]


def converter(type_: FieldType, *, length_max: int | None, default_country: str | None) -> Convert:
    """Return what turns values into an attribute's type; `length_max` is in characters."""
    longest = min(length_max or CHARACTERS_MAX, CHARACTERS_MAX)

    def text(value: Scalar) -> str:
        written = as_text(value)
        if len(written) > longest:
            raise ContactRejectedError(Reject.VALUE_TOO_LONG)
        return written

    def number_of(value: Scalar) -> str:
        return phone.normalise(as_text(value).strip(), default_country)

    match type_:
        case FieldType.EMAIL:
            return lambda value: email.normalise(as_text(value))
        case FieldType.PHONE:
            return number_of
        case FieldType.NUMBER:
            return as_number
        case FieldType.DATE | FieldType.DATETIME:
            return as_date
        case FieldType.BOOLEAN:
            return as_boolean
        case FieldType.TEXT | FieldType.CATEGORY | FieldType.MULTIPLE_CHOICE | FieldType.OTHER:
            return text
        case _:
            assert_never(type_)


def as_text(value: Scalar) -> str:
    """Return a value as text; PostgreSQL holds no NUL, and no provider means one."""
    if isinstance(value, str):
        if "\0" in value:
            raise ContactRejectedError(Reject.MALFORMED)
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def as_number(value: Scalar) -> int | float:
    """Return a finite number; HubSpot and others send numbers as text."""
    text = as_text(value).strip()
    try:
        number = float(text)
    except ValueError:
        raise ContactRejectedError(Reject.VALUE_NOT_ACCEPTED) from None
    if not math.isfinite(number):
        raise ContactRejectedError(Reject.VALUE_NOT_ACCEPTED)
    is_whole = number.is_integer() and abs(number) <= EXACT_NUMBER_MAX
    return int(number) if is_whole else number


def as_date(value: Scalar) -> str:
    """Return YYYY-MM-DD in UTC, the one layout that every Brevo account takes."""
    text = as_text(value).strip()
    if is_date(text):
        return text
    moment = moment_of(text)
    if moment is None:
        raise ContactRejectedError(Reject.DATE_FORMAT)
    return moment.date().isoformat()


def as_boolean(value: Scalar) -> bool:
    """Return a truth value; only `true` and `false` are one."""
    match as_text(value).strip().lower():
        case "true":
            return True
        case "false":
            return False
        case _:
            raise ContactRejectedError(Reject.VALUE_NOT_ACCEPTED)
