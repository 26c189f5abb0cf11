"""API keys: how they look, how they are kept, and how a wrong one is told from a right one.

A key is `csk_<id>_<secret>`: 32 hexadecimal digits that find its row, and 43 characters of base62
(256 bits), of which only the SHA-256 is stored. With that much chance in a secret a slow hash
would add nothing (RELIABILITY 6). Comparison takes the same time for every wrong secret, and a key
that does not exist is compared too.
"""

import hashlib
import hmac
import secrets
import string
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from libs.common import ids
from libs.common.clock import Clock
from services.config_api.errors import TooManyRequestsError

HEAD = "csk"
SECRET_LENGTH = 43  # 62^43 > 2^256.
_ALPHABET = string.ascii_letters + string.digits

# An address that sends this many wrong keys in a minute is not asked the database about any more.
FAILURES_MAX = 20
FAILURES_WINDOW_S = 60.0
ADDRESSES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made; `text` is shown once and kept nowhere."""

    key_id: UUID
    text: str
    secret_sha256: bytes


@dataclass(frozen=True, slots=True)
class PresentedKey:
    """What a caller sent."""

    key_id: UUID
    secret: str


def make() -> NewKey:
    """Draw a new key."""
    key_id = ids.new()
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(SECRET_LENGTH))
    return NewKey(key_id, f"{HEAD}_{key_id.hex}_{secret}", digest(secret))


def digest(secret: str) -> bytes:
    """Return what is stored of a secret."""
    return hashlib.sha256(secret.encode()).digest()


def parse(text: str) -> PresentedKey | None:
    """Return the parts of a key; None if it does not look like one."""
    head, _, rest = text.partition("_")
    key_id, _, secret = rest.partition("_")
    if head != HEAD or len(key_id) != 32 or len(secret) != SECRET_LENGTH:
        return None
    try:
        return PresentedKey(UUID(hex=key_id), secret)
    except ValueError:
        return None


def is_right(presented: PresentedKey, secret_sha256: bytes | None) -> bool:
    """Compare in constant time; None (no such key) is never right."""
    expected = secret_sha256 if secret_sha256 is not None else bytes(32)
    same = hmac.compare_digest(digest(presented.secret), expected)
    return same and secret_sha256 is not None


def is_live(*, expires_at: datetime | None, revoked_at: datetime | None, now: datetime) -> bool:
    """Return whether a key is neither revoked nor expired."""
    return revoked_at is None and (expires_at is None or expires_at > now)


class FailureThrottle:
    """Counts wrong keys by network address, in this process, and refuses after too many.

    Fails open for an address that was forgotten: at most `ADDRESSES_MAX` are remembered, the
    longest quiet ones go first. A right key within the limit never counts.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, list[float]] = OrderedDict()

    def check(self, address: str) -> None:
        """Raise TooManyRequestsError if the address failed too often within the window."""
        recent = self._recent(address)
        if len(recent) >= FAILURES_MAX:
            wait_s = max(1, round(recent[0] + FAILURES_WINDOW_S - self._clock.monotonic()))
            raise TooManyRequestsError(
                detail=f"Too many wrong API keys came from this address; wait {wait_s} s.",
                headers={"Retry-After": str(wait_s)},
            )

    def count(self, address: str) -> None:
        """Count one wrong key."""
        recent = self._recent(address)
        recent.append(self._clock.monotonic())
        self._failures[address] = recent
        self._failures.move_to_end(address)
        if len(self._failures) > ADDRESSES_MAX:
            self._failures.popitem(last=False)

    def _recent(self, address: str) -> list[float]:
        since = self._clock.monotonic() - FAILURES_WINDOW_S
        return [at for at in self._failures.get(address, []) if at > since]
