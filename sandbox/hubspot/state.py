"""HubSpot portals in memory, who may call them, and how often.

Limits are those of the usage guidelines: 110 calls in 10 seconds for an OAuth application in one
portal; for a private application 100 or 190 by the portal's tier, and so many a day until midnight
in the portal's time zone; search 5 a second for whoever asks, outside the ten-secondly limit.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from sandbox.clock import Clock
from sandbox.exchange import Answer, RefusedError, Request, Route
from sandbox.faults import FaultPlan
from sandbox.hubspot import errors, versions
from sandbox.hubspot.contacts import Contact, Contacts
from sandbox.hubspot.lists import Lists
from sandbox.hubspot.properties import Properties
from sandbox.hubspot.search import Index
from sandbox.hubspot.tokens import ALL_SCOPES, CLIENT_ID, CLIENT_SECRET, AccessToken, Tokens
from sandbox.limits import DailyWindow, Limits, SlidingWindow, Window
from sandbox.provider import Account, ControlError, Provider

FIRST_PORTAL_ID = 1_000_001
OAUTH_PER_TEN_SECONDS = 110
SEARCHES_PER_SECOND = 5
TIME_ZONE = "US/Eastern"
TIERS = {
    "free": (100, 250_000),
    "starter": (100, 250_000),
    "professional": (190, 625_000),
    "enterprise": (190, 1_000_000),
}
MIGRATION_RETRY_AFTER_S = 60  # HubSpot says up to a day.
URL_CHARS_MAX = 8_192  # Not documented; long property lists in a URL are known to meet a 414.


class Knobs(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What `PUT /_sandbox/settings` may turn."""

    index_delay_s: float = 0.0
    token_ttl_s: int = 1800


class Portal(Account):
    """One HubSpot account."""

    settings: Knobs

    def __init__(
        self, portal_id: str, name: str, *, clock: Clock, tier: str, time_zone: str
    ) -> None:
        limits = Limits(clock, _buckets(tier, time_zone))
        super().__init__(portal_id, name, clock=clock, limits=limits, settings=Knobs())
        self.tier = tier
        self.time_zone = time_zone
        self.contacts = Contacts()
        self.index = Index()
        self.lists = Lists()
        self.properties = Properties(clock.now_ms())
        self.blocked_emails: set[str] = set()  # Deleted for privacy: may not come back.
        self.invalid_ids: set[int] = set()  # Filled in unusable on purpose.
        self.seed = 1  # Of the people who are filled in unless another is named.
        self.edits = 0  # Gives each edit of `contacts:change` another value.

    def set_limits(self, changes: dict[str, Any]) -> dict[str, Any]:
        rest = dict(changes)
        tier = rest.pop("tier", None)
        if tier is not None:
            for bucket, windows in _buckets(_known_tier(tier), self.time_zone).items():
                self.limits.replace(bucket, windows)
            self.tier = tier
        return rest

    def indexed(self, contact_id: int, contact: Contact | None) -> None:
        """Let search know of a write, in its own time."""
        delay_ms = int(self.settings.index_delay_s * 1000)
        visible_ms = self.clock.now_ms() + delay_ms
        self.index.put(contact_id, contact, visible_ms=visible_ms)

    def create(
        self, properties: dict[str, str], at_ms: int, *, contact_id: int | None = None
    ) -> Contact:
        contact = self.contacts.create(properties, at_ms, contact_id=contact_id)
        self.indexed(contact.id, contact)
        return contact

    def update(self, contact: Contact, changes: dict[str, str], at_ms: int) -> Contact:
        changed = self.contacts.update(contact, changes, at_ms)
        self.indexed(changed.id, changed)
        return changed

    def archive(self, contact: Contact, at_ms: int) -> None:
        self.contacts.archive(contact, at_ms)
        self.lists.forget(contact.id, at_ms)
        self.indexed(contact.id, None)

    def purge(self, contact: Contact, at_ms: int) -> None:
        self.contacts.purge(contact)
        self.lists.forget(contact.id, at_ms)
        self.indexed(contact.id, None)

    def merge(self, primary: Contact, other: Contact, at_ms: int) -> Contact:
        survivor = self.contacts.merge(primary, other, at_ms)
        for loser in (primary, other):
            for left in self.lists.forget(loser.id, at_ms):
                left.join([survivor.id], at_ms)
            self.indexed(loser.id, None)
        self.indexed(survivor.id, survivor)
        return survivor


class State(Provider[Portal]):
    """All portals of the process, and the tokens for them."""

    tokens: Tokens

    def start(self) -> None:
        self.tokens = Tokens()
        self._open("HubSpot sandbox", "professional", TIME_ZONE, token="pat-sandbox")

    def open_account(self, wishes: dict[str, Any]) -> tuple[Portal, dict[str, Any]]:
        unknown = set(wishes) - {"name", "tier", "time_zone"}
        if unknown:
            message = f"an account takes name, tier and time_zone, not {', '.join(sorted(unknown))}"
            raise ControlError(message)
        tier = _known_tier(wishes.get("tier", "professional"))
        time_zone = _known_time_zone(wishes.get("time_zone", TIME_ZONE))
        portal = self._open(str(wishes.get("name", "")), tier, time_zone)
        return portal, {
            "hub_id": int(portal.id),
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "private_app_token": f"pat-{portal.id}",
            "authorize_path": f"/oauth/{portal.id}/authorize",
        }

    def account_of(self, request: Request) -> Portal | None:
        access = self.token_of(request)
        if access is not None:
            return self.accounts.get(access.portal_id)
        if request.path.startswith("/oauth/") and request.method == "POST":
            return self._portal_of_grant(request)
        return None

    def token_of(self, request: Request) -> AccessToken | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return self.tokens.access.get(token) if scheme.lower() == "bearer" else None

    def admit(self, account: Portal | None, route: Route[Portal], request: Request) -> Portal:
        if len(request.path) + len(request.query_string) > URL_CHARS_MAX:
            raise errors.refused(414, "The request URI is too long")
        if route.tags.get("open"):
            return account or self.default
        access = self.token_of(request)
        if access is None or account is None:
            raise errors.no_credentials()
        now_ms = self.clock.now_ms()
        if access.expires_ms is not None and now_ms >= access.expires_ms:
            raise errors.expired(now_ms, access.expires_ms)
        self._take(account, access, route, request)
        any_of = route.tags.get("any_scope", ())
        missing = [each for each in route.tags.get("scopes", ()) if each not in access.scopes]
        if missing or (any_of and not set(any_of) & set(access.scopes)):
            raise errors.missing_scopes(missing or any_of)
        return account

    def no_route(self, request: Request, methods: list[str]) -> Answer:
        if methods:
            return Answer(405, errors.body("Method Not Allowed"), {"allow": ", ".join(methods)})
        return Answer(404, errors.body("resource not found"))

    def error(self, status: int) -> Answer:
        message = _STATUS_MESSAGES.get(status, "internal error")
        # Only a 477 is documented to say when to come back.
        headers = {"Retry-After": str(MIGRATION_RETRY_AFTER_S)} if status == 477 else {}
        return Answer(status, errors.body(message), headers)

    def throttled(self, account: Portal, route: Route[Portal] | None) -> Answer:
        bucket = "search" if route and route.tags.get("search") else "ten_secondly"
        return errors.rate_limited(bucket, account.id)

    def bad_json(self, request: Request, reason: str) -> Answer:
        message = f"Invalid input JSON on line 1, column 1: {reason}"
        return Answer(400, errors.body(message, category="VALIDATION_ERROR"))

    def lie(
        self, account: Portal, route: Route[Portal], request: Request, fault: FaultPlan
    ) -> Answer:
        """Claim that a write was done, in the words of one that was."""
        if fault.status is not None or fault.body is not None or request.method == "GET":
            return super().lie(account, route, request, fault)
        if request.method == "DELETE":
            return Answer(204)
        now = errors.iso(self.clock.now_ms())
        if "/batch/" in route.template:
            return Answer(
                200, {"status": "COMPLETE", "results": [], "startedAt": now, "completedAt": now}
            )
        sent = request.json.get("properties", {}) if isinstance(request.json, dict) else {}
        told = {"id": "1", "properties": sent, "createdAt": now, "updatedAt": now}
        return Answer(200, {**told, "archived": False})

    def finish(
        self,
        account: Portal | None,
        route: Route[Portal] | None,
        request: Request,
        answer: Answer,
    ) -> Answer:
        """Add the correlation id; and on calls that are not searches, how full the limits are."""
        headers = dict(answer.headers)
        if isinstance(answer.body, dict):
            headers.setdefault("content-type", "application/json;charset=utf-8")
        headers["x-hubspot-correlation-id"] = _correlation_id(answer)
        access = self.token_of(request)
        if account and access and route and account.limits.enabled and not route.tags.get("search"):
            headers |= _limit_headers(account, access)
        return replace(answer, headers=headers)

    def _take(
        self, account: Portal, access: AccessToken, route: Route[Portal], request: Request
    ) -> None:
        """Count a call in every bucket it belongs to; raise HubSpot's 429 if one is full."""
        main = "private_ten_secondly" if access.is_private else "ten_secondly"
        buckets = ["search" if route.tags.get("search") else main]
        if access.is_private:
            buckets.append("daily")
        for bucket in buckets:
            if account.limits.take(bucket, request.arrived_s, request.unseen_s):
                account.calls.violate(bucket, route.name)
                raise RefusedError(errors.rate_limited(bucket, account.id))

    def _portal_of_grant(self, request: Request) -> Portal | None:
        """Return whose refresh token a call to the token endpoint carries."""
        grant = self.tokens.grants.get(request.form().get("refresh_token", ""))
        return self.accounts.get(grant.portal_id) if grant else None

    def _open(self, name: str, tier: str, time_zone: str, *, token: str = "") -> Portal:
        portal_id = str(FIRST_PORTAL_ID + len(self.accounts))
        name = name or f"Portal {portal_id}"
        portal = Portal(portal_id, name, clock=self.clock, tier=tier, time_zone=time_zone)
        portal.seed = self.seed
        self.accounts[portal_id] = portal
        self.tokens.add_private(token or f"pat-{portal_id}", portal_id, ALL_SCOPES)
        return portal


_STATUS_MESSAGES = {
    401: "Authentication credentials not found.",
    403: "You do not have permissions to view object type CONTACT.",
    404: "resource not found",
    423: "This resource is locked, try again later",
    429: "You have reached your ten_secondly_rolling limit.",
    477: "Migration in Progress",
    503: "Service unavailable",
}


def _known_tier(tier: object) -> str:
    if not isinstance(tier, str) or tier not in TIERS:
        message = f"there is no tier {tier}; there are: {', '.join(TIERS)}"
        raise ControlError(message)
    return tier


def _known_time_zone(name: object) -> str:
    try:
        return ZoneInfo(str(name)).key
    except (ZoneInfoNotFoundError, ValueError) as error:
        message = f"there is no time zone {name}"
        raise ControlError(message) from error


def _buckets(tier: str, time_zone: str) -> dict[str, list[Window]]:
    per_ten_seconds, per_day = TIERS[tier]
    return {
        "ten_secondly": [SlidingWindow(OAUTH_PER_TEN_SECONDS, 10)],
        "private_ten_secondly": [SlidingWindow(per_ten_seconds, 10)],
        "daily": [DailyWindow(per_day, time_zone)],
        "search": [SlidingWindow(SEARCHES_PER_SECOND, 1)],
    }


def _correlation_id(answer: Answer) -> str:
    told = answer.body.get("correlationId") if isinstance(answer.body, dict) else None
    return str(told or errors.body("")["correlationId"])


def _limit_headers(account: Portal, access: AccessToken) -> dict[str, str]:
    bucket = "private_ten_secondly" if access.is_private else "ten_secondly"
    (rolling,) = account.limits.read(bucket)
    headers = {
        "X-HubSpot-RateLimit-Interval-Milliseconds": str(int(rolling.window_s * 1000)),
        "X-HubSpot-RateLimit-Max": str(rolling.limit),
        "X-HubSpot-RateLimit-Remaining": str(rolling.remaining),
    }
    if access.is_private:
        (daily,) = account.limits.read("daily")
        headers["X-HubSpot-RateLimit-Daily"] = str(daily.limit)
        headers["X-HubSpot-RateLimit-Daily-Remaining"] = str(daily.remaining)
    return headers


Handler = Callable[[Portal, Request], Answer]


def contacts_only(handler: Handler) -> Handler:
    """Refuse any object type but contacts, which are all that the sandbox has."""

    def checked(portal: Portal, request: Request) -> Answer:
        object_type = request.arguments.get("object_type", "contacts")
        if not versions.is_contacts(object_type):
            message = f"Unable to infer object type from: {object_type}"
            raise errors.invalid(message)
        return handler(portal, request)

    return checked
