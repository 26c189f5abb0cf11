"""What the OAuth application of the sandbox has been granted: codes, refresh tokens, access tokens.

There is one application, which any portal may install. A code is good for one exchange; a refresh
token stays good until it is revoked or the application uninstalled, and is the same after each
refresh; an access token lives `token_ttl_s`. Revoking a refresh token leaves the access tokens
that it gave alive.
"""

import secrets
from dataclasses import dataclass

from sandbox.hubspot.errors import oauth
from sandbox.login import challenge

CLIENT_ID = "sandbox-client"
CLIENT_SECRET = "sandbox-secret"
APP_ID = 424242
USER_ID = 222222
CODE_LIFETIME_MS = 600_000  # HubSpot says "a short window" and no number.
ALL_SCOPES = (
    "oauth",
    "crm.lists.read",
    "crm.lists.write",
    "crm.objects.contacts.read",
    "crm.objects.contacts.write",
    "crm.schemas.contacts.read",
    "crm.schemas.contacts.write",
)


@dataclass(frozen=True, slots=True)
class Code:
    portal_id: str
    redirect_uri: str
    scopes: tuple[str, ...]
    expires_ms: int
    challenge: str
    challenge_method: str


@dataclass(frozen=True, slots=True)
class Grant:
    """What a refresh token stands for."""

    token: str
    portal_id: str
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AccessToken:
    token: str
    portal_id: str
    scopes: tuple[str, ...]
    expires_ms: int | None  # None: a private application's, which does not expire.

    @property
    def is_private(self) -> bool:
        return self.expires_ms is None


class Tokens:
    """Codes and tokens of all portals."""

    def __init__(self) -> None:
        self._codes: dict[str, Code] = {}
        self.grants: dict[str, Grant] = {}
        self.access: dict[str, AccessToken] = {}

    def add_private(self, token: str, portal_id: str, scopes: tuple[str, ...]) -> None:
        self.access[token] = AccessToken(token, portal_id, scopes, None)

    def code(self, code: Code) -> str:
        text = f"na1-{secrets.token_hex(4)}-{secrets.token_hex(8)}"
        self._codes[text] = code
        return text

    def redeem(self, text: str, *, redirect_uri: str, verifier: str, now_ms: int) -> Grant:
        """Exchange a code, which is then spent; raises a `RefusedError` as HubSpot would."""
        code = self._codes.get(text)
        if code is None or now_ms >= code.expires_ms:
            status, message = "BAD_AUTH_CODE", "missing or unknown auth code"
            raise oauth(status, message)
        if redirect_uri != code.redirect_uri:
            status, message = "BAD_REDIRECT_URI", "redirect_uri does not match the auth code's"
            raise oauth(status, message)
        if code.challenge and _challenge(verifier, code.challenge_method) != code.challenge:
            status, message = "BAD_CODE_VERIFIER", "code_verifier does not match the challenge"
            raise oauth(status, message)
        del self._codes[text]
        return self.grant(code.portal_id, code.scopes)

    def grant(self, portal_id: str, scopes: tuple[str, ...]) -> Grant:
        token = f"na1-{'-'.join(secrets.token_hex(2) for _ in range(5))}"
        self.grants[token] = Grant(token, portal_id, scopes)
        return self.grants[token]

    def issue(self, grant: Grant, *, expires_ms: int) -> AccessToken:
        token = f"C{secrets.token_urlsafe(48)}"
        issued = AccessToken(token, grant.portal_id, grant.scopes, expires_ms)
        self.access[token] = issued
        return issued

    def uninstall(self, portal_id: str) -> None:
        """Take everything the application has of a portal; private tokens are not its own."""
        self.grants = {
            token: grant for token, grant in self.grants.items() if grant.portal_id != portal_id
        }
        self.access = {
            token: access
            for token, access in self.access.items()
            if access.is_private or access.portal_id != portal_id
        }


def _challenge(verifier: str, method: str) -> str:
    """Return a verifier's challenge (RFC 7636)."""
    return challenge(verifier) if method == "S256" else verifier
