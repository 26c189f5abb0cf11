"""What the app of the sandbox has been granted: codes, refresh tokens, sessions.

There is one app (an External Client App), of which every org's user may approve. An access token is
a session: it ends two hours after its last use, and nobody says so (there is no `expires_in`). With
rotation a refresh token works once; whoever shows a spent one ends the whole grant. A user's sixth
approval ends the first. Sources: the OAuth pages of Salesforce's help, the packaging guide's page
on securing apps, and its clients.
"""

import hashlib
import hmac
import secrets
from base64 import b64encode
from dataclasses import dataclass, field

from sandbox.login import challenge
from sandbox.salesforce.errors import oauth

CLIENT_ID = "sandbox-client"
CLIENT_SECRET = "sandbox-secret"
STANDING_TOKEN = "sandbox-access-token"  # Of the default org, for ever: the sandbox's own.
ALL_SCOPES = ("api", "refresh_token", "id")
KNOWN_SCOPES = frozenset(
    {*ALL_SCOPES, "offline_access", "openid", "profile", "email", "web", "full"}
)
TO_REFRESH = frozenset({"refresh_token", "offline_access"})
APPROVALS_MAX = 5  # Per user and app.


@dataclass(frozen=True, slots=True)
class Code:
    account: str
    redirect_uri: str
    scopes: tuple[str, ...]
    expires_s: float
    challenge: str


@dataclass(slots=True)
class Grant:
    """What an org's user approved; `used_s` is when its refresh token was last used."""

    id: str
    account: str
    scopes: tuple[str, ...]
    used_s: float
    refresh: str | None = None
    spent: set[str] = field(default_factory=set)  # Refresh tokens that were rotated out.


@dataclass(slots=True)
class Session:
    token: str
    account: str
    scopes: tuple[str, ...]
    started_s: float
    used_s: float
    grant: str | None = None  # None: of no approval (JWT bearer, the standing one).
    is_standing: bool = False

    def is_over(self, now_s: float, ttl_s: float) -> bool:
        return not self.is_standing and now_s - self.used_s >= ttl_s


class Tokens:
    """Codes, grants and sessions of all orgs."""

    def __init__(self) -> None:
        self._codes: dict[str, Code] = {}
        self.grants: dict[str, Grant] = {}  # In the order of their approval.
        self.sessions: dict[str, Session] = {}
        self.certificates: list[str] = []  # Public keys that JWTs may be signed for (PEM).

    def code(self, code: Code) -> str:
        text = "aPrx" + secrets.token_urlsafe(40)
        self._codes[text] = code
        return text

    def redeem(self, text: str, *, redirect_uri: str, verifier: str, now_s: float) -> Grant:
        """Exchange a code, which is then spent whatever becomes of it."""
        code = self._codes.pop(text, None)
        if code is None:
            raise oauth(400, "invalid_grant", "invalid authorization code")
        if now_s >= code.expires_s:
            raise oauth(400, "invalid_grant", "expired authorization code")
        if redirect_uri != code.redirect_uri:
            raise oauth(400, "redirect_uri_mismatch", "redirect_uri must match configuration")
        if code.challenge and not verifier:
            raise oauth(400, "invalid_grant", "missing required code verifier")
        if code.challenge and challenge(verifier) != code.challenge:
            raise oauth(400, "invalid_request", "invalid code verifier")
        return self.approve(code.account, code.scopes, now_s)

    def approve(self, account: str, scopes: tuple[str, ...], now_s: float) -> Grant:
        """Remember an approval; the oldest of the user's goes without a word if it is one more."""
        grant = Grant(secrets.token_hex(8), account, scopes, now_s)
        self.grants[grant.id] = grant
        if TO_REFRESH & set(scopes):
            grant.refresh = _refresh_token()
        theirs = [each for each in self.grants.values() if each.account == account]
        for oldest in theirs[:-APPROVALS_MAX]:
            self.end(oldest)
        return grant

    def grant_of(self, refresh: str) -> Grant | None:
        """Return whose refresh token this is, or was before it was rotated out."""
        for grant in self.grants.values():
            if grant.refresh == refresh or refresh in grant.spent:
                return grant
        return None

    def use(self, refresh: str, *, rotates: bool, idle_s: float, now_s: float) -> Grant:
        """Use a refresh token; with rotation the grant has another afterwards.

        A spent one ends the grant: two have it, and nobody knows who is the thief.
        """
        grant = self.grant_of(refresh)
        if grant is not None and (refresh in grant.spent or now_s - grant.used_s >= idle_s):
            self.end(grant)
            grant = None
        if grant is None:
            raise oauth(400, "invalid_grant", "expired access/refresh token")
        grant.used_s = now_s
        if rotates:
            grant.spent.add(refresh)
            grant.refresh = _refresh_token()
        return grant

    def open(
        self, account: str, scopes: tuple[str, ...], now_s: float, *, grant: str | None
    ) -> Session:
        """Begin a session."""
        token = f"{account[:15]}!AQ{secrets.token_urlsafe(72)}"
        self.sessions[token] = Session(token, account, scopes, now_s, now_s, grant)
        return self.sessions[token]

    def end(self, grant: Grant) -> None:
        """Take back a grant, with the sessions that came of it."""
        self.grants.pop(grant.id, None)
        for token in [each.token for each in self.sessions.values() if each.grant == grant.id]:
            del self.sessions[token]

    def revoke(self, account: str) -> None:
        """Take back everything that an org's user approved; the standing session stays."""
        for grant in [each for each in self.grants.values() if each.account == account]:
            self.end(grant)
        self.expire(account)

    def expire(self, account: str) -> None:
        """End an org's sessions; refresh tokens stay."""
        kept = self.sessions.values()
        self.sessions = {
            each.token: each for each in kept if each.account != account or each.is_standing
        }


def signature(identity: str, issued_at: str) -> str:
    """Return what proves an identity URL to whoever knows the app's secret."""
    signed = hmac.new(CLIENT_SECRET.encode(), (identity + issued_at).encode(), hashlib.sha256)
    return b64encode(signed.digest()).decode()


def _refresh_token() -> str:
    return f"5Aep861{secrets.token_urlsafe(48)}"
