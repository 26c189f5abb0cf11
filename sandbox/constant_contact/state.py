"""Constant Contact accounts in memory, who may call them, and how often.

4 calls a second and 10,000 a day until 00:00 UTC, both of the application: all accounts share them
(rate limits page of the API guide). No answer has a header that tells of a limit. One application
there is from the start; more are registered by the control interface, each with limits of its own.
"""

from dataclasses import dataclass
from typing import Any
from uuid import uuid5

import msgspec

from sandbox.clock import Clock
from sandbox.constant_contact import errors
from sandbox.constant_contact.activities import Activities
from sandbox.constant_contact.contacts import NAMESPACE, Contacts
from sandbox.constant_contact.custom_fields import CustomFields
from sandbox.constant_contact.lists import Lists
from sandbox.constant_contact.tokens import (
    ACCESS_LIFETIME_S,
    ALL_SCOPES,
    CLIENT_ID,
    CLIENT_SECRET,
    STANDING_TOKEN,
    AccessToken,
    Tokens,
)
from sandbox.exchange import Answer, RefusedError, Request, Route
from sandbox.faults import FaultPlan
from sandbox.limits import DailyWindow, Limits, SlidingWindow
from sandbox.provider import Account, ControlError, Provider

CALLS_PER_SECOND = 4
CALLS_PER_DAY = 10_000
PRIVILEGES = (
    *("contacts:read", "contacts:write", "contacts:lists:read", "contacts:lists:write"),
    "account:read",
)


class Knobs(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What `PUT /_sandbox/settings` may turn."""

    refresh_tokens: str = "rotating"  # Or "long_lived".
    token_ttl_s: int = ACCESS_LIFETIME_S
    # Where the documentation is silent, the harder reading is the usual one.
    bounds_are_inclusive: bool = False  # Of updated_after and its like.
    deletion_updates: bool = False  # Whether a deletion moves updated_at.
    order: str = "created"  # Or "updated": the order of a listing.
    last_page_has_links: bool = True  # As an empty object; False: not at all.
    strict_parameters: bool = False  # True: a query parameter that does not exist is a 400.
    activity_delay_s: float = 0.0
    privileges: tuple[str, ...] = PRIVILEGES


class Customer(Account):
    """One Constant Contact account."""

    settings: Knobs

    def __init__(self, account_id: str, name: str, *, clock: Clock, limits: Limits) -> None:
        super().__init__(account_id, name, clock=clock, limits=limits, settings=Knobs())
        self.contacts = Contacts(account_id)
        self.lists = Lists(account_id)
        self.custom_fields = CustomFields(account_id, self.now_s)
        self.activities = Activities(account_id)
        self.invalid_ids: set[str] = set()  # Filled in unusable on purpose.
        self.seed = 1  # Of the people who are filled in unless another is named.
        self.edits = 0  # Gives each edit of `contacts:change` another value.

    @property
    def now_s(self) -> int:
        """The present second: no time is finer here."""
        return int(self.clock.now_s())

    def size_of(self, list_id: str, *, active_only: bool = False) -> int:
        return sum(
            list_id in each.lists and (not active_only or each.status == "active")
            for each in self.contacts.by_id.values()
        )


@dataclass(frozen=True, slots=True)
class Application:
    """Who may call for an account's owner: what proves it, and how often."""

    secret: str
    limits: Limits


class State(Provider[Customer]):
    """All accounts of the process, and the tokens for them."""

    tokens: Tokens
    applications: dict[str, Application]  # By client id.
    limits: Limits  # Of the first application.

    def start(self) -> None:
        self.tokens = Tokens()
        self.applications = {}
        self.limits = self.add_application(CLIENT_ID, CLIENT_SECRET).limits
        account = self._open("Constant Contact sandbox")
        self.tokens.access[STANDING_TOKEN] = AccessToken(
            STANDING_TOKEN, account.id, ALL_SCOPES, None
        )

    def add_application(self, client_id: str, secret: str) -> Application:
        """Register an application."""
        limits = Limits(
            self.clock,
            {
                "per_second": [SlidingWindow(CALLS_PER_SECOND, 1)],
                "daily": [DailyWindow(CALLS_PER_DAY, "UTC")],
            },
        )
        self.applications[client_id] = Application(secret, limits)
        return self.applications[client_id]

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
        return self.tokens.access.get(token) if scheme.lower() == "bearer" else None

    def admit(self, account: Customer | None, route: Route[Customer], request: Request) -> Customer:
        if route.tags.get("open"):
            return account or self.default
        if "authorization" not in request.headers:
            raise errors.forbidden()
        access = self.token_of(request)
        if access is None or account is None:
            raise errors.unauthorized()
        if access.expires_s is not None and self.clock.now_s() >= access.expires_s:
            raise errors.unauthorized()
        self._take(account, route, request, self.applications[access.client_id].limits)
        if route.tags["scope"] not in ({*access.scopes, ""}):
            raise errors.forbidden()
        if not set(route.tags.get("privileges", ())) <= set(account.settings.privileges):
            raise errors.forbidden()
        account.activities.carry_out_until(account.clock.now_s())
        return account

    def no_route(self, request: Request, methods: list[str]) -> Answer:
        if methods:
            message = "Method Not Allowed"
            return errors.listed(405, "contacts.api.method_not_allowed", message)
        return errors.listed(404, "contacts.api.not_found", "Resource not found")

    def error(self, status: int) -> Answer:
        gateway = {401: errors.UNAUTHORIZED, 403: errors.FORBIDDEN, 429: errors.THROTTLED}
        if status in gateway:
            return Answer(status, gateway[status])
        return errors.listed(status, "contacts.api.error", "An unexpected error occurred")

    def throttled(self, account: Customer, route: Route[Customer] | None) -> Answer:
        return errors.over("per_second")

    def bad_json(self, request: Request, reason: str) -> Answer:
        return errors.listed(400, "contacts.api.json.error", f"The JSON is malformed: {reason}")

    def lie(
        self, account: Customer, route: Route[Customer], request: Request, fault: FaultPlan
    ) -> Answer:
        """Claim that a write was done, in the words of one that was."""
        if fault.status is not None or fault.body is not None or request.method != "POST":
            return super().lie(account, route, request, fault)
        return Answer(201, {"contact_id": str(uuid5(NAMESPACE, "a lie")), "action": "created"})

    def _take(
        self, account: Customer, route: Route[Customer], request: Request, limits: Limits
    ) -> None:
        """Count a call in both windows; raise the 429 of the one that is full."""
        for bucket in ("per_second", "daily"):
            if limits.take(bucket, request.arrived_s, request.unseen_s):
                account.calls.violate(bucket, route.name)
                raise RefusedError(errors.over(bucket))

    def _open(self, name: str) -> Customer:
        account_id = uuid5(NAMESPACE, f"account:{len(self.accounts) + 1}").hex[:14]
        name = name or f"Account {account_id}"
        account = Customer(account_id, name, clock=self.clock, limits=self.limits)
        account.seed = self.seed
        self.accounts[account_id] = account
        return account
