"""Moments as Salesforce writes and reads them: in UTC, to the second.

Within the sandbox a moment is the text that JSON answers have. All of them are of one form, so they
sort as they follow one another.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache

_OFFSET = re.compile(r"([+-]\d{2})(\d{2})$")


def written(at_s: float) -> str:
    """Return a moment as JSON answers have it; what is finer than a second is cut off."""
    return _of_second(int(at_s))


@lru_cache(maxsize=1_024)  # What is put in at once is of one second.
def _of_second(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.000+0000")


def in_csv(moment: str) -> str:
    """Return a written moment as results of the Bulk API have it."""
    return moment.replace("+0000", "Z")


def read_s(text: str) -> float | None:
    """Return the seconds since 1970 of a moment with a zone; None if the text is none."""
    try:
        moment = datetime.fromisoformat(_OFFSET.sub(r"\1:\2", text))
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo and "T" in text else None
