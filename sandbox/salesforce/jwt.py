"""The assertion of the JWT bearer flow: who it is for, and whether its signature holds.

RS256 alone, as Salesforce takes it (RFC 7523). The certificate is uploaded to the app beforehand:
here by `POST /_sandbox/app:certificate`.
"""

import binascii
from base64 import urlsafe_b64decode
from collections.abc import Iterable
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate

from sandbox.salesforce.errors import oauth
from sandbox.salesforce.tokens import CLIENT_ID

AHEAD_MAX_S = 300  # How far ahead an assertion may expire.


def username(assertion: str, certificates: Iterable[str], audiences: set[str], now_s: float) -> str:
    """Return whose session an assertion asks for; raise why it is none."""
    try:
        header, claims, signature = assertion.split(".")
        told: dict[str, Any] = {**_part(header), **_part(claims)}
        signed = _bytes(signature)
    except (ValueError, TypeError, binascii.Error, msgspec.DecodeError):
        raise oauth(400, "invalid_grant", "invalid assertion") from None
    if told.get("iss") != CLIENT_ID:
        raise oauth(400, "invalid_client_id", "client identifier invalid")
    if told.get("alg") != "RS256" or not _is_signed(f"{header}.{claims}", signed, certificates):
        raise oauth(400, "invalid_grant", "invalid assertion")
    if not now_s <= _seconds(told.get("exp")) <= now_s + AHEAD_MAX_S:
        raise oauth(400, "invalid_grant", "expired authorization code")
    if told.get("aud") not in audiences:
        raise oauth(400, "invalid_grant", "audience is invalid")
    return str(told.get("sub"))


def _seconds(moment: object) -> float:
    """Return a time of a claim; clients write it as a text too. Never, if it is none."""
    try:
        return float(str(moment))
    except ValueError:
        return float("-inf")


def public_key(pem: str) -> RSAPublicKey:
    """Return the key of a certificate or of a plain public key; raises `ValueError`."""
    data = pem.encode()
    is_certificate = "BEGIN CERTIFICATE" in pem
    key = (
        load_pem_x509_certificate(data).public_key()
        if is_certificate
        else load_pem_public_key(data)
    )
    if not isinstance(key, RSAPublicKey):
        message = "the key must be of RSA"
        raise ValueError(message)  # noqa: TRY004 — what is wrong is the text, not its type
    return key


def _is_signed(text: str, signature: bytes, certificates: Iterable[str]) -> bool:
    for pem in certificates:
        try:
            public_key(pem).verify(signature, text.encode(), PKCS1v15(), SHA256())
        except InvalidSignature:
            continue
        return True
    return False


def _part(text: str) -> dict[str, Any]:
    return msgspec.json.decode(_bytes(text), type=dict[str, Any])


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
