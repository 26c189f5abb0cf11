"""What the application of the sandbox has been granted: codes, refresh tokens, access tokens.

A refresh token is given for offline access only, and only when the person agrees anew; it does not
rotate. It dies when the person takes access back, unused for six months, after seven days while
the application is in testing, and silently when there are more than a hundred of one person.
Sources: Google's OAuth 2.0 pages (lifetimes), google-auth (it keeps the old refresh token).
"""

import secrets
from dataclasses import dataclass, replace

from sandbox.google_contacts.errors import oauth
from sandbox.login import challenge

CLIENT_ID = "sandbox-client"
CLIENT_SECRET = "sandbox-secret"
STANDING_TOKEN = "ya29.sandbox-access-token"  # Of the default account, for ever: the sandbox's own.
CODE_LIFETIME_S = 600
ACCESS_LIFETIME_S = 3_599
UNUSED_LIFETIME_S = 182 * 86_400
TESTING_LIFETIME_S = 7 * 86_400
REFRESH_TOKENS_MAX = 100
_URL = "https://www.googleapis.com/auth/"
CONTACTS = f"{_URL}contacts"
READ_CONTACTS = f"{_URL}contacts.readonly"
EMAIL = f"{_URL}userinfo.email"
PROFILE = f"{_URL}userinfo.profile"
ALL_SCOPES = (CONTACTS, READ_CONTACTS, EMAIL, PROFILE, "openid")
EXPIRED_OR_REVOKED = "Token has been expired or revoked."


@dataclass(frozen=True, slots=True)
class Code:
    account: str
    redirect_uri: str
    scopes: tuple[str, ...]
    expires_s: float
    challenge: str
    is_offline: bool


@dataclass(frozen=True, slots=True)
class Grant:
    """What a person agreed to; `used_s` is when its refresh token was last used."""

    account: str
    scopes: tuple[str, ...]
    made_s: float
    used_s: float


@dataclass(frozen=True, slots=True)
class AccessToken:
    token: str
    account: str
    scopes: tuple[str, ...]
    expires_s: float | None  # None: the standing one.


class Tokens:
    """Codes and tokens of all accounts."""

    def __init__(self) -> None:
        self._codes: dict[str, Code] = {}
        self.refresh: dict[str, Grant] = {}  # By refresh token, oldest first.
        self.access: dict[str, AccessToken] = {}
        self.agreed: set[str] = set()  # Accounts whose owner has agreed once.

    def code(self, code: Code) -> str:
        text = f"4/0A{secrets.token_urlsafe(48)}"
        self._codes[text] = code
        return text

    def redeem(self, text: str, *, redirect_uri: str, verifier: str, now_s: float) -> Code:
        """Exchange a code, which is then spent whatever becomes of it."""
        code = self._codes.pop(text, None)
        if code is None or now_s >= code.expires_s:
            raise oauth(400, "invalid_grant", "Malformed auth code.")
        if redirect_uri != code.redirect_uri:
            raise oauth(400, "redirect_uri_mismatch", "Bad Request")
        if code.challenge and challenge(verifier) != code.challenge:
            raise oauth(400, "invalid_grant", "Invalid code verifier.")
        return code

    def use(self, token: str, *, is_testing: bool, now_s: float) -> Grant:
        """Use a refresh token, which stays the same; raises the 400 of a dead one."""
        grant = self.refresh.get(token)
        if (
            grant is None
            or now_s - grant.used_s >= UNUSED_LIFETIME_S
            or (is_testing and now_s - grant.made_s >= TESTING_LIFETIME_S)
        ):
            raise oauth(400, "invalid_grant", EXPIRED_OR_REVOKED)
        self.refresh[token] = replace(grant, used_s=now_s)
        return grant

    def grant(self, grant: Grant) -> str:
        """Make a refresh token; of too many for one person the oldest dies without a word."""
        own = [text for text, each in self.refresh.items() if each.account == grant.account]
        for text in own[: len(own) + 1 - REFRESH_TOKENS_MAX]:
            del self.refresh[text]
        token = f"1//0{secrets.token_urlsafe(72)}"
        self.refresh[token] = grant
        return token

    def issue(self, account: str, scopes: tuple[str, ...], *, expires_s: float) -> AccessToken:
        token = f"ya29.a0{secrets.token_urlsafe(150)}"
        self.access[token] = AccessToken(token, account, scopes, expires_s)
        return self.access[token]

    def account_of(self, token: str) -> str | None:
        """Return whose refresh or access token this is."""
        if token in self.refresh:
            return self.refresh[token].account
        return self.access[token].account if token in self.access else None

    def revoke(self, account: str) -> None:
        """Take back everything an account's owner granted; the standing token stays."""
        self.agreed.discard(account)
        self.refresh = {
            text: each for text, each in self.refresh.items() if each.account != account
        }
        self.access = {
            text: each
            for text, each in self.access.items()
            if each.account != account or each.expires_s is None
        }
