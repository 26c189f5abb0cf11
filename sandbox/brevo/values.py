"""What Brevo makes of a phone number, an e-mail address, a date and an attribute's value.

Pure functions: None means that Brevo does not take the value.
"""

import re
from datetime import date
from typing import Any

Value = str | int | float | bool | list[str]

# S8 of the platform and the documentation of the SMS attribute: an international number, with `+`,
# `00` or nothing before its country code.
PHONE_DIGITS_MIN, PHONE_DIGITS_MAX = 6, 16
_PHONE = re.compile(r"(?:\+|00)?([1-9][0-9]*)")
# ITU-T E.164, assigned country codes: those of one and two digits, and ranges of three.
_SHORT_CODES = (
    1,
    7,
    20,
    27,
    30,
    31,
    32,
    33,
    34,
    36,
    39,
    40,
    41,
    43,
    44,
    45,
    46,
    47,
    48,
    49,
    51,
    52,
    53,
    54,
    55,
    56,
    57,
    58,
    60,
    61,
    62,
    63,
    64,
    65,
    66,
    81,
    82,
    84,
    86,
    90,
    91,
    92,
    93,
    94,
    95,
    98,
)
_LONG_CODES = (
    (211, 214),
    (216, 217),
    (218, 219),
    (220, 259),
    (260, 270),
    (290, 292),
    (297, 300),
    (350, 360),
    (370, 384),
    (385, 388),
    (389, 390),
    (420, 422),
    (423, 424),
    (500, 510),
    (590, 600),
    (670, 671),
    (672, 684),
    (685, 693),
    (800, 801),
    (808, 809),
    (850, 851),
    (852, 854),
    (855, 857),
    (870, 871),
    (878, 879),
    (880, 884),
    (886, 887),
    (888, 889),
    (960, 969),
    (970, 978),
    (979, 980),
    (992, 997),
    (998, 999),
)
_CALLING_CODES = frozenset(
    str(code) for code in (*_SHORT_CODES, *(code for span in _LONG_CODES for code in range(*span)))
)

# RFC 5321's lengths, and an ASCII address as campaign tools take them: no quotes, no comments.
EMAIL_LENGTH_MAX, LOCAL_PART_LENGTH_MAX = 254, 64
_EMAIL = re.compile(
    r"([a-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*)"
    r"@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+(?:xn--[a-z0-9-]+|[a-z]{2,63})"
)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def phone(value: Any) -> str | None:
    """Return a number as Brevo keeps it: digits with the country code, without `+`."""
    match = _PHONE.fullmatch(str(value).strip())
    if match is None or isinstance(value, bool):
        return None
    digits = match[1]
    if not PHONE_DIGITS_MIN <= len(digits) <= PHONE_DIGITS_MAX:
        return None
    return digits if any(digits[:length] in _CALLING_CODES for length in (1, 2, 3)) else None


def email(value: str) -> str | None:
    """Return an address as Brevo keeps it: in lower case."""
    address = value.strip().lower()
    match = _EMAIL.fullmatch(address)
    if match is None or len(address) > EMAIL_LENGTH_MAX or len(match[1]) > LOCAL_PART_LENGTH_MAX:
        return None
    return address


def text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def number(value: Any, *, from_text: bool = False) -> float | int | None:
    """Return a number; from CSV (`from_text`) it may be written out."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value
    if not (from_text and isinstance(value, str)):
        return None
    try:
        parsed = float(value)
    except ValueError:
        return None
    return int(parsed) if parsed.is_integer() else parsed


def boolean(value: Any, *, from_text: bool = False) -> bool | None:
    if isinstance(value, bool):
        return value
    return _WORDS.get(value.strip().lower()) if from_text and isinstance(value, str) else None


def day(value: Any) -> str | None:
    """Return a date in the one layout that every account takes: YYYY-MM-DD."""
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        return None
    try:
        date.fromisoformat(value)
    except ValueError:
        return None
    return value
