"""What the sandbox's applications have been granted: codes, refresh tokens, access tokens.

Every account may become a user of each application; a code or a refresh token is of use to the one
that it was given to alone. A code lives five minutes and works once. Refresh tokens rotate, or are
long-lived, by a setting of the application (`Knobs.refresh_tokens`): a rotating one works once, and
its refresh ends all that came before it. One that nobody used for 180 days dies. Sources: the
server flow and PKCE pages of the API guide; lifetimes and kinds of refresh tokens are answers of
its support.
"""

import secrets
from dataclasses import dataclass, replace

from sandbox.constant_contact.errors import oauth
from sandbox.login import challenge

CLIENT_ID = "sandbox-client"
CLIENT_SECRET = "sandbox-secret"
STANDING_TOKEN = "sandbox-access-token"  # Of the default account, for ever: the sandbox's own.
CODE_LIFETIME_S = 300
ACCESS_LIFETIME_S = 86_400
UNUSED_LIFETIME_S = 180 * 86_400
OFFLINE = "offline_access"
ALL_SCOPES = (
    "contact_data",
    "campaign_data",
    "account_read",
    "account_update",
    "billing_data",
    OFFLINE,
)
_SIGNATURE_BYTES = 600  # Their tokens have a thousand characters and more.


@dataclass(frozen=True, slots=True)
class Code:
    account: str
    redirect_uri: str
    scopes: tuple[str, ...]
    expires_s: float
    challenge: str
    client_id: str = CLIENT_ID


@dataclass(frozen=True, slots=True)
class Grant:
    """What an account's owner agreed to; `used_s` is when its refresh token was last used."""

    id: str
    account: str
    scopes: tuple[str, ...]
    used_s: float
    client_id: str = CLIENT_ID


@dataclass(frozen=True, slots=True)
class AccessToken:
    token: str
    account: str
    scopes: tuple[str, ...]
    expires_s: float | None  # None: the standing one.
    client_id: str = CLIENT_ID


class Tokens:
    """Codes and tokens of all accounts."""

    def __init__(self) -> None:
        self._codes: dict[str, Code] = {}
        self.refresh: dict[str, Grant] = {}  # By refresh token.
        self.access: dict[str, AccessToken] = {}

    def code(self, code: Code) -> str:
        text = secrets.token_urlsafe(24)
        self._codes[text] = code
        return text

    def redeem(
        self, text: str, client_id: str, *, redirect_uri: str, verifier: str, now_s: float
    ) -> Grant:
        """Exchange a code, which is then spent whatever becomes of it."""
        code = self._codes.pop(text, None)
        if code is None or now_s >= code.expires_s or code.client_id != client_id:
            raise oauth(400, "invalid_grant", "The authorization code is invalid or has expired.")
        if redirect_uri != code.redirect_uri:
            message = "The 'redirect_uri' does not match the redirection URI of the request."
            raise oauth(400, "invalid_grant", message)
        if code.challenge and challenge(verifier) != code.challenge:
            raise oauth(400, "invalid_grant", "PKCE verification failed.")
        return Grant(secrets.token_hex(8), code.account, code.scopes, now_s, client_id)

    def use(self, token: str, client_id: str, *, rotates: bool, now_s: float) -> tuple[Grant, str]:
        """Use a refresh token; return what it stands for and the one to use next."""
        grant = self.refresh.get(token)
        is_old = grant is not None and now_s - grant.used_s >= UNUSED_LIFETIME_S
        if grant is None or is_old or grant.client_id != client_id:
            message = "The refresh token is invalid or expired."
            raise oauth(400, "invalid_grant", message)
        used = replace(grant, used_s=now_s)
        if rotates:
            return used, self.renew(used)
        self.refresh[token] = used
        return used, token

    def renew(self, grant: Grant) -> str:
        """Make a refresh token for a grant, and end all that it had before."""
        self.refresh = {text: each for text, each in self.refresh.items() if each.id != grant.id}
        token = secrets.token_urlsafe(32)
        self.refresh[token] = grant
        return token

    def issue(
        self,
        account: str,
        scopes: tuple[str, ...],
        *,
        expires_s: float,
        client_id: str = CLIENT_ID,
    ) -> AccessToken:
        token = ".".join(secrets.token_urlsafe(each) for each in (24, 180, _SIGNATURE_BYTES))
        self.access[token] = AccessToken(token, account, scopes, expires_s, client_id)
        return self.access[token]

    def revoke(self, account: str) -> None:
        """Take back everything an account's owner granted; the standing token stays."""
        self.refresh = {
            text: each for text, each in self.refresh.items() if each.account != account
        }
        self.access = {
            text: each
            for text, each in self.access.items()
            if each.account != account or each.expires_s is None
        }
