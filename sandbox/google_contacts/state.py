"""Google accounts in memory, who may call for them, and how often.

Calls are counted per minute: for each user by four metrics, and for the project as a whole. Google
publishes what calls cost, not how many there may be: the numbers here are those a console showed
(docs/sandbox.md), and `PUT /_sandbox/limits` changes them.
"""

from typing import Any

import msgspec

from sandbox.clock import Clock
from sandbox.exchange import Answer, RefusedError, Request, Route
from sandbox.google_contacts import errors
from sandbox.google_contacts.contacts import Contacts
from sandbox.google_contacts.groups import Groups
from sandbox.google_contacts.tokens import (
    ACCESS_LIFETIME_S,
    ALL_SCOPES,
    CLIENT_ID,
    CLIENT_SECRET,
    CONTACTS,
    STANDING_TOKEN,
    AccessToken,
    Tokens,
)
from sandbox.limits import DailyWindow, Limits, SlidingWindow
from sandbox.provider import Account, ControlError, Provider

MINUTE_S = 60
LIMITS = {
    "critical_reads": 60,
    "reads": 90,
    "critical_writes": 30,
    "writes": 30,
    "full_syncs": 30,  # That first pages are limited beyond that is told, how much is not.
}
DAILY_WRITES = 100_000
PROJECT_READS = 3_000  # Ours: only that there is such a limit is told.
DAY_ZONE = "America/Los_Angeles"  # Google's quotas by the day begin at midnight Pacific time.
FIRST_ACCOUNT = 110_000_000_000_000_000_001
SYNC_TOKEN_LIFETIME_S = 7 * 86_400


class Knobs(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What `PUT /_sandbox/settings` may turn."""

    token_ttl_s: int = ACCESS_LIFETIME_S
    is_testing: bool = False  # The application's publishing status: refresh tokens live a week.
    granted_scopes: tuple[str, ...] | None = None  # What the person leaves ticked; None: all.
    is_api_enabled: bool = True
    sync_token_ttl_s: float = SYNC_TOKEN_LIFETIME_S  # Since the full sync that began its chain.
    expired_code: int = 400  # Or 410, as an older guide has it.
    expired_status: str = "FAILED_PRECONDITION"  # Or INVALID_ARGUMENT: both were captured.
    propagation_s: float = 0.0  # Changes younger than this are in no sync read yet.
    # How a listing's pages hang together is not told: rows stay where they were when it began, or
    # a page is a position in the rows of its moment.
    rows_move: bool = False


class Customer(Account):
    """One Google account."""

    settings: Knobs

    def __init__(self, account_id: str, name: str, *, clock: Clock, limits: Limits) -> None:
        super().__init__(account_id, name, clock=clock, limits=limits, settings=Knobs())
        self.contacts = Contacts()
        self.groups = Groups()
        self.listings: dict[str, list[str]] = {}  # Ids as they stood when a listing began.
        self.sync_tokens_since_s = 0.0  # Those of before were taken back (`sync-tokens:expire`).
        self.invalid_ids: set[str] = set()  # Filled in unusable on purpose.
        self.seed = 1  # Of the people who are filled in unless another is named.
        self.edits = 0  # Gives each edit of `contacts:change` another value.

    @property
    def now_us(self) -> int:
        return int(self.clock.now_s() * 1_000_000)

    def size_of(self, group_id: str) -> int:
        return sum(group_id in each.groups for each in self.contacts.live)


class State(Provider[Customer]):
    """All accounts of the process, and the tokens for them."""

    tokens: Tokens
    project: SlidingWindow

    def start(self) -> None:
        self.tokens = Tokens()
        self.project = SlidingWindow(PROJECT_READS, MINUTE_S)
        account = self._open("Google sandbox")
        self.tokens.access[STANDING_TOKEN] = AccessToken(
            STANDING_TOKEN, account.id, ALL_SCOPES, None
        )

    def open_account(self, wishes: dict[str, Any]) -> tuple[Customer, dict[str, Any]]:
        unknown = set(wishes) - {"name"}
        if unknown:
            message = f"an account takes a name, not {', '.join(sorted(unknown))}"
            raise ControlError(message)
        account = self._open(str(wishes.get("name", "")))
        token = self.tokens.issue(account.id, ALL_SCOPES, expires_s=float("inf")).token
        credentials = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        return account, {**credentials, "access_token": token}

    def account_of(self, request: Request) -> Customer | None:
        access = self.token_of(request)
        return self.accounts.get(access.account) if access else None

    def token_of(self, request: Request) -> AccessToken | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if not token:
            token, scheme = request.parameter("access_token"), "bearer"
        return self.tokens.access.get(token) if scheme.lower() == "bearer" else None

    def admit(self, account: Customer | None, route: Route[Customer], request: Request) -> Customer:
        if route.tags.get("open"):
            return account or self.default
        access = self.token_of(request)
        if access is None or account is None:
            raise errors.unauthenticated(
                reason="ACCESS_TOKEN_TYPE_UNSUPPORTED"
                if "authorization" in request.headers
                else "CREDENTIALS_MISSING"
            )
        if access.expires_s is not None and self.clock.now_s() >= access.expires_s:
            raise errors.unauthenticated(reason="ACCESS_TOKEN_EXPIRED")
        if not account.settings.is_api_enabled:
            raise errors.service_disabled()
        if not {*route.tags["scopes"], CONTACTS} & {*access.scopes}:
            raise errors.scope_insufficient()
        self._take(account, route, request)
        return account

    def no_route(self, request: Request, methods: list[str]) -> Answer:
        return errors.told(404, errors.NOT_FOUND)

    def error(self, status: int) -> Answer:
        if status == 401:
            return errors.unauthenticated("ACCESS_TOKEN_EXPIRED").answer
        return errors.told(status, "The service is currently unavailable.")

    def throttled(self, account: Customer, route: Route[Customer] | None) -> Answer:
        bucket = route.tags["buckets"][0] if route and "buckets" in route.tags else "critical_reads"
        return errors.over(bucket, LIMITS.get(bucket, DAILY_WRITES))

    def bad_json(self, request: Request, reason: str) -> Answer:
        return errors.told(400, f"Invalid JSON payload received. {reason}")

    def _take(self, account: Customer, route: Route[Customer], request: Request) -> None:
        """Count a call in each of its metrics; raise the 429 of the one that is full."""
        for bucket in route.tags["buckets"]:
            self.take(account, bucket, route.name, request.arrived_s)
        if not account.limits.enabled or route.tags["buckets"][0] != "critical_reads":
            return
        now_s = self.clock.now_s() if request.arrived_s is None else request.arrived_s
        if not self.project.has_room(now_s):
            account.calls.violate("project", route.name)
            raise RefusedError(errors.over("project", self.project.limit))
        self.project.take(now_s)

    @staticmethod
    def take(account: Customer, bucket: str, endpoint: str, arrived_s: float | None) -> None:
        """Count a call in one bucket; raise its 429 if it is full."""
        if overrun := account.limits.take(bucket, arrived_s):
            account.calls.violate(bucket, endpoint)
            raise RefusedError(errors.over(bucket, overrun.reading.limit))

    def _open(self, name: str) -> Customer:
        account_id = str(FIRST_ACCOUNT + len(self.accounts))
        limits = Limits(
            self.clock,
            {
                **{bucket: [SlidingWindow(limit, MINUTE_S)] for bucket, limit in LIMITS.items()},
                "daily_writes": [DailyWindow(DAILY_WRITES, DAY_ZONE)],
            },
        )
        account = Customer(
            account_id, name or f"Account {account_id}", clock=self.clock, limits=limits
        )
        account.seed = self.seed
        self.accounts[account_id] = account
        return account
