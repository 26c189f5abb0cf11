"""Turn one source value into what a destination attribute of a given type takes.

Pure. A converter gets a value and returns what goes into the attributes' JSON, None for what a
provider means as "nothing" (null, empty, blanks alone); it raises ContactRejectedError with the
reason if the value can not be that. A column of values is converted in one loop, in which what is
usual needs no call of a function.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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
# A date that every month has; the others are found out by the calendar.
_DATE = r"(?!0000)[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])"

Scalar = str | int | float | bool
Convert = Callable[[Scalar | None], object]
Column = Sequence[Scalar | None]


@dataclass(frozen=True, slots=True)
class Converter:
    """Turns a value into what an attribute takes, or a column of values.

    A column is refused as a whole if one of its values is: then each is to be asked.
    """

    one: Convert
    column: Callable[[Column], Sequence[object]]


def converter(
    type_: FieldType, *, length_max: int | None, default_country: str | None
) -> Converter:
    """Return what turns values into an attribute's type; `length_max` is in characters."""
    match type_:
        case FieldType.EMAIL:
            return _usually(email.PLAIN, lambda value: email.normalise(as_text(value)))
        case FieldType.PHONE:
            return _usually(
                phone.E164,
                lambda value: phone.normalise(as_text(value).strip(), default_country),
            )
        case FieldType.NUMBER:
            return _one_by_one(_unless_nothing(as_number))
        case FieldType.DATE | FieldType.DATETIME:
            return _usually(_DATE, as_date)
        case FieldType.BOOLEAN:
            return _one_by_one(_unless_nothing(as_boolean))
        case (
            FieldType.TEXT
            | FieldType.CATEGORY
            | FieldType.MULTIPLE_CHOICE
            | FieldType.UNTYPED
            | FieldType.OTHER
        ):
            return _text(min(length_max or CHARACTERS_MAX, CHARACTERS_MAX))
        case _:
            assert_never(type_)


# Of what no attribute wants.
NOTHING = Converter(lambda _value: None, lambda values: [None] * len(values))


def _one_by_one(convert: Convert) -> Converter:
    return Converter(convert, lambda values: [convert(value) for value in values])


def _usually(form: str, convert: Callable[[Scalar], object]) -> Converter:
    """Return a converter that has nothing to do for text of a usual form, a regular expression.

    It must match no line break: a column is looked at as lines, as far as it is usual in one call.
    """
    convert_unless_nothing = _unless_nothing(convert)
    usual_lines = re.compile(rf"(?:(?:{form})?\n)*+")

    def column(values: Column) -> Sequence[object]:
        lines = _lines(values)
        if lines is None:
            return [convert_unless_nothing(value) for value in values]
        converted: list[object] = [value or None for value in values]
        for place in _unusual(usual_lines, lines):
            converted[place] = convert_unless_nothing(values[place])
        return converted

    return Converter(convert_unless_nothing, column)


def _lines(values: Column) -> str | None:
    """Return texts as lines, nothing as an empty one; None if that is not what they are."""
    texts = ["" if value is None else value for value in values]
    try:
        lines = "\n".join(texts) + "\n"  # type: ignore[arg-type]  # asked by doing it
    except TypeError:
        return None
    return lines if lines.count("\n") == len(texts) else None


def _unusual(usual_lines: re.Pattern[str], lines: str) -> Iterator[int]:
    """Yield which lines are not of the usual form."""
    place = begin = 0
    while (end := _end(usual_lines, lines, begin)) < len(lines):
        place += lines.count("\n", begin, end)
        yield place
        place, begin = place + 1, lines.index("\n", end) + 1


def _end(usual_lines: re.Pattern[str], lines: str, begin: int) -> int:
    found = usual_lines.match(lines, begin)
    assert found is not None, "no line at all matches, too"
    return found.end()


def _unless_nothing(convert: Callable[[Scalar], object]) -> Convert:
    def convert_unless_nothing(value: Scalar | None) -> object:
        # Blanks alone are nothing as well.
        if value is None or (isinstance(value, str) and (not value or value.isspace())):
            return None
        return convert(value)

    return convert_unless_nothing


def _text(longest: int) -> Converter:
    """Return what takes text: most attributes are."""

    def text(value: Scalar | None) -> str | None:
        if value is None:
            return None
        written = value if isinstance(value, str) else as_text(value)
        if not written or written.isspace():
            return None
        if "\0" in written:
            raise ContactRejectedError(Reject.MALFORMED)
        if len(written) > longest:
            raise ContactRejectedError(Reject.VALUE_TOO_LONG)
        return written

    def column(values: Column) -> Sequence[object]:
        given = [value for value in values if value is not None]
        try:
            together = "".join(given)  # type: ignore[arg-type]  # asked by doing it
        except TypeError:
            return [text(value) for value in values]
        texts: list[str] = list(filter(None, given))  # type: ignore[arg-type]  # as joined
        is_usual = (
            "\0" not in together
            and (len(together) <= longest or max(map(len, texts)) <= longest)
            and all(map(str.strip, texts))
        )
        if not is_usual:
            return [text(value) for value in values]
        return values if len(texts) == len(values) else [value or None for value in values]

    return Converter(text, column)


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
    if "_" in text:  # Python's own way to write numbers, and nobody else's.
        raise ContactRejectedError(Reject.VALUE_NOT_ACCEPTED)
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
