"""Read the ways in which providers write a date or a point in time.

Accepted: an ISO 8601 date, an ISO 8601 date and time (without a zone it is UTC), and milliseconds
since 1970 (HubSpot's older form). Promises: the answer is in UTC; what is no moment is None.
"""

import re
from datetime import UTC, date, datetime, timedelta

_MILLISECONDS = re.compile(r"-?[0-9]{11,14}")  # Fewer digits are more likely a plain number.
_DATED = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ].+)?")
DATE_LENGTH = len("YYYY-MM-DD")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment_of(text: str) -> datetime | None:
    """Return the point in time a text names, in UTC; None if it names none."""
    try:
        if _MILLISECONDS.fullmatch(text):
            return _EPOCH + timedelta(milliseconds=int(text))
        if not _DATED.fullmatch(text):
            return None
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def is_date(text: str) -> bool:
    """Return whether a text is a date as YYYY-MM-DD, the form most of them have already."""
    if len(text) != DATE_LENGTH or text[4] != "-" or text[7] != "-":
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
