"""Record ids: 15 characters that heed case, and three more that make up for those who do not.

The first three characters tell the object, the next three the org, the rest count. The last three
of an 18-character id say which of the fifteen are capitals. The API answers with 18 and takes both.
"""

import re

PREFIXES = {
    "Account": "001",
    "Contact": "003",
    "User": "005",
    "CampaignMember": "00v",
    "Lead": "00Q",
    "Organization": "00D",
    "Case": "500",
    "Campaign": "701",
}
BULK_JOB = "750"
LOCATOR = "0r8"  # Of a query's result; older documentation shows 01g.
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SUFFIX = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
_SHAPE = re.compile(r"[0-9A-Za-z]{15}([0-9A-Za-z]{3})?")


def new_id(prefix: str, org: int, number: int) -> str:
    """Return an 18-character id; ids of one prefix sort in the order of their numbers."""
    return _whole(f"{prefix}{_base62(org, 3)}{_base62(number, 9)}")


def as_18(text: str) -> str | None:
    """Return an id in its long form; None if it is no id at all."""
    if not _SHAPE.fullmatch(text):
        return None
    whole = _whole(text[:15])
    return whole if len(text) == 15 or whole[15:] == text[15:].upper() else None


def _whole(short: str) -> str:
    suffix = ""
    for start in (0, 5, 10):
        capitals = sum(
            1 << at for at, each in enumerate(short[start : start + 5]) if each.isupper()
        )
        suffix += _SUFFIX[capitals]
    return short + suffix


def _base62(number: int, width: int) -> str:
    digits = ""
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits = _DIGITS[digit] + digits
    return digits
