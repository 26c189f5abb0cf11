"""Credentials at rest: AES-256-GCM, bound to the row and field they belong to (X4).

A sealed value is `v1|kek id|nonce|ciphertext` (base64). Its associated data is
`workspace|connection|field`, so a value copied to another row does not open there. The first key
of the ring seals; all keys open, so a key is rotated by putting the new one first, sealing again
what the old one sealed, and taking the old one off (RELIABILITY.md 6).
"""

import base64
import binascii
import os
from dataclasses import dataclass
from datetime import datetime
from typing import Self
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

FORMAT = "v1"
KEY_BYTES = 32
NONCE_BYTES = 12  # 96 bits, drawn anew each time (NIST SP 800-38D 8.2.2).


@dataclass(frozen=True, slots=True)
class Sealed:
    """A connection's credentials as they are stored; without the keys they are of no use.

    `expires_at` and `version` are those of `libs.common.tokens.Tokens`. `client_id` and
    `client_secret` are those of an application of the workspace's own; None: the operator's.
    """

    provider: str
    access_token: str | None = None
    refresh_token: str | None = None
    api_key: str | None = None
    expires_at: datetime | None = None
    version: int = 0
    client_id: str | None = None
    client_secret: str | None = None


class SecretsError(Exception):
    """A key or a sealed value cannot be used; the message never holds either."""


class KeyRing:
    """The keys that seal and open; build it with `parse`."""

    def __init__(self, keys: dict[str, bytes]) -> None:
        self._keys = {name: AESGCM(key) for name, key in keys.items()}
        self._newest = next(iter(keys))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `KEYS`: `<kek id>:<base64 of 32 bytes>`, newest first, separated by commas."""
        keys: dict[str, bytes] = {}
        for number, item in enumerate(text.split(","), start=1):
            name, _, encoded = item.strip().partition(":")
            try:
                key = base64.b64decode(encoded, validate=True)
            except binascii.Error:
                key = b""
            if not name or "|" in name or len(key) != KEY_BYTES or name in keys:
                message = (
                    f"KEYS: entry {number} is not `<id>:<base64 of {KEY_BYTES} bytes>` with an id "
                    "of its own; make one with `openssl rand -base64 32`"
                )
                raise SecretsError(message)
            keys[name] = key
        return cls(keys)

    def seal(self, plaintext: str, *, workspace: UUID, connection: UUID, field: str) -> str:
        """Return the sealed form, under the newest key."""
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._keys[self._newest].encrypt(
            nonce, plaintext.encode(), _bound_to(workspace, connection, field)
        )
        parts = (base64.b64encode(part).decode() for part in (nonce, sealed))
        return "|".join((FORMAT, self._newest, *parts))

    def unseal(self, sealed: str, *, workspace: UUID, connection: UUID, field: str) -> str:
        """Return the plaintext; raise SecretsError if no key of the ring opens it here."""
        version, name, nonce, ciphertext = (*sealed.split("|"), "", "", "", "")[:4]
        key = self._keys.get(name) if version == FORMAT else None
        if key is None:
            message = f"{field} is sealed by a key that is not in KEYS: put that key back"
            raise SecretsError(message)
        try:
            plaintext = key.decrypt(
                base64.b64decode(nonce),
                base64.b64decode(ciphertext),
                _bound_to(workspace, connection, field),
            )
        except (InvalidTag, ValueError):
            message = f"{field} does not open: it was changed, or belongs to another row"
            raise SecretsError(message) from None
        return plaintext.decode()

    def is_outdated(self, sealed: str) -> bool:
        """Return whether an older key sealed this, so that it should be sealed again."""
        return sealed.split("|")[1:2] != [self._newest]


def _bound_to(workspace: UUID, connection: UUID, field: str) -> bytes:
    return f"{workspace}|{connection}|{field}".encode()
