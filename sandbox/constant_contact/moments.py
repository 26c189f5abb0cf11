"""Moments as Constant Contact writes and reads them: whole seconds out, three layouts in."""

import re
from datetime import UTC, date, datetime

from sandbox.constant_contact.errors import invalid

_NO_COLON = re.compile(r"([+-]\d{2})(\d{2})$")  # `+0000`, as the official client writes it.


def written(at_s: int) -> str:
    """Return a moment as answers have it: UTC, to the second."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def day(at_s: int) -> str:
    """Return a plain date: `deleted_at` of a contact has no more."""
    return datetime.fromtimestamp(at_s, UTC).date().isoformat()


def read_s(text: str, name: str) -> float:
    """Return the seconds since 1970 of a parameter; raises the 400 of one that is no moment.

    `Z`, `+00:00` and `+0000` are taken, and a date alone is its midnight.
    """
    try:
        if len(text) == 10:
            moment = datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
        else:
            moment = datetime.fromisoformat(_NO_COLON.sub(r"\1:\2", text))
    except ValueError:
        message = f"{name} is invalid"
        raise invalid(message) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
