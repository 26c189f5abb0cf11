"""What ActiveCampaign makes of an e-mail address, a tag of a field and a moment.

Pure functions.
"""

import re
from datetime import UTC, datetime, timedelta, timezone

# The importer's page: these characters, a domain without a dot, and fewer than two letters after
# the last one make an address invalid.
_FORBIDDEN = re.compile(r"[\s\"(),:;<>\[\\\]]")
_EMAIL = re.compile(r"[^@]+@[^@]*\.[^@.]{2,}")
_LETTERS = re.compile(r"[A-Za-z]{2,}")
CENTRAL = timezone(timedelta(hours=-5))  # Of the account; the product is from Chicago.
NO_MOMENT = "0000-00-00 00:00:00"


def email(text: str) -> str | None:
    """Return an address as it is kept: in lower case; None if it is none."""
    address = text.strip().lower()
    if _FORBIDDEN.search(address) or not _EMAIL.fullmatch(address):
        return None
    return address if _LETTERS.match(address.rpartition(".")[2]) else None


def tag(text: str) -> str:
    """Return a personalisation tag out of one that was asked for: blanks and marks are lost."""
    return re.sub(r"\W", "", text.strip("%")).upper()


def tag_of_title(title: str) -> str:
    """Return the tag that a field gets by itself: blanks become underscores."""
    return tag(re.sub(r"\s+", "_", title.strip()))


def shown(moment_s: float | None) -> str | None:
    """Return a time as it is shown: with the account's offset, in seconds."""
    if moment_s is None:
        return None
    return datetime.fromtimestamp(int(moment_s), CENTRAL).isoformat()


def utc(moment_s: float) -> str:
    return datetime.fromtimestamp(moment_s, UTC).strftime("%Y-%m-%d %H:%M:%S")


def moment_s(text: str) -> float | None:
    """Return a moment, or the beginning of a day of the account's zone; None if it is neither."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=CENTRAL)).timestamp()
