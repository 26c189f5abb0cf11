"""How every id is made: computed from what happened, or drawn once by the API.

Computed ids (uuid5, blake2b) make effects idempotent: the same cause has the same id in every
process and on every retry (PROTOCOL.md 1). Drawn ids are UUIDv7, so they sort by time, and are
shown to people with a prefix that says what they name (`int_0199…`).
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from uuid import UUID, uuid5

import uuid_utils.compat

# One namespace for all computed ids; its value is arbitrary and must never change.
NAMESPACE = UUID("6f1a3a52-93c5-5f0e-8d0b-2f4bb1a6d6a1")

EFFECT_KEY_BYTES = 16


class Prefix(StrEnum):
    """What an id names, as people see it."""

    WORKSPACE = "ws"
    USER = "usr"
    API_KEY = "key"
    CONNECTION = "con"
    INTEGRATION = "int"
    RUN = "run"
    EVENT = "evt"
    QUOTA_REQUEST = "req"
    NOTICE = "ntc"
    RECONCILIATION = "rec"
    IMPORT = "imp"


def new() -> UUID:
    """Draw a UUIDv7."""
    return uuid_utils.compat.uuid7()


def show(prefix: Prefix, value: UUID) -> str:
    """Return an id as people see it: `int_` and 32 hexadecimal digits."""
    return f"{prefix}_{value.hex}"


def parse(prefix: Prefix, text: str) -> UUID:
    """Return the UUID of a shown id; raise ValueError if it is not one of this kind."""
    head, _, digits = text.partition("_")
    if head != prefix or len(digits) != 32:
        message = f"expected {prefix}_ and 32 hexadecimal digits"
        raise ValueError(message)
    return UUID(hex=digits)


def computed(*parts: object) -> UUID:
    """Return the uuid5 of what happened; parts are joined by an unprintable separator."""
    return uuid5(NAMESPACE, "\x1f".join(str(part) for part in parts))


@lru_cache(maxsize=1_000)
def run_id(integration: UUID, run_no: int) -> UUID:
    """Return the id of an integration's run; remembered, as each record of a run asks for it."""
    return computed("run", integration, run_no)


def record_id(run: UUID, page: int, part: int, versions: Iterable[tuple[str, int]]) -> UUID:
    """Return the id of one part of one page, by the contacts and versions it carries."""
    content = "".join([f"{source_id}\x1f{version_ms}\x1e" for source_id, version_ms in versions])
    digest = blake2b(content.encode(), digest_size=16)
    return computed("record", run, page, part, digest.hexdigest())


class EffectKeys:
    """Makes the ids of effects that have integration, run and operation in common."""

    def __init__(self, integration: UUID, run_no: int, operation: str) -> None:
        self._begun = blake2b(
            f"{run_no}\x1f{operation}\x1f".encode(),
            digest_size=EFFECT_KEY_BYTES,
            salt=integration.bytes,
        )

    def of(
        self, source_id: str, version_ms: int, address: str | None, content_hash: bytes
    ) -> bytes:
        """Return the 16 bytes that name one effect in `ledger.postings`.

        `address` is where it is written: another address, another effect.
        """
        made = self._begun.copy()
        made.update(f"{source_id}\x1f{version_ms}\x1f{address}\x1f".encode() + content_hash)
        return made.digest()


def batch_id(kind: str, keys: Sequence[bytes], attempt: str) -> UUID:
    """Return the id of a hold or an intent: its effects' keys in order, and which attempt it is."""
    digest = blake2b(b"".join(keys), digest_size=16).hexdigest()
    return computed(kind, digest, attempt)
