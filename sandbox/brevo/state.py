"""Brevo as a whole: its accounts, who may call, and how it answers a call that goes nowhere."""

import hashlib
import math
import re
from typing import Any

from sandbox.brevo import (
    account_routes,
    attribute_routes,
    contact_routes,
    control,
    errors,
    import_routes,
    list_routes,
)
from sandbox.brevo.account import BrevoAccount, check_tier
from sandbox.brevo.attributes import DEFAULT_NAMES
from sandbox.clock import Clock
from sandbox.exchange import Answer, RefusedError, Request, Route
from sandbox.faults import FaultPlan
from sandbox.provider import ControlError, Provider

DEFAULT_KEY = "xkeysib-sandbox"
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_AUTHORISED_ADDRESSES = "https://app.brevo.com/security/authorised_ips"


class State(Provider[BrevoAccount]):
    """Every Brevo account of this process. The default one's key is `xkeysib-sandbox`."""

    def __init__(self, *, seed: int = 1, clock: Clock | None = None) -> None:
        super().__init__(seed=seed, clock=clock)
        for part in (
            account_routes,
            attribute_routes,
            contact_routes,
            import_routes,
            list_routes,
        ):
            part.register(self.routes)
        control.register(self.control)

    def reset(self, seed: int) -> None:
        for account in self.accounts.values():
            account.close()
        super().reset(seed)

    def start(self) -> None:
        self._open("default", DEFAULT_KEY, tier="general", language="en")

    def open_account(self, wishes: dict[str, Any]) -> tuple[BrevoAccount, dict[str, Any]]:
        """Make an account: `name`, and if wanted `tier` and `language` (of attribute names)."""
        unknown = set(wishes) - {"name", "tier", "language"}
        if unknown:
            message = f"an account has no {', '.join(sorted(unknown))}: use name, tier, language"
            raise ControlError(message)
        name, language = wishes.get("name"), wishes.get("language", "en")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            message = "name must be 1 to 40 small letters, digits and hyphens"
            raise ControlError(message)
        if any(account.name == name for account in self.accounts.values()):
            message = f"there is an account {name} already"
            raise ControlError(message)
        if language not in DEFAULT_NAMES:
            message = f"language must be one of: {', '.join(DEFAULT_NAMES)}"
            raise ControlError(message)
        tier = check_tier(wishes.get("tier", "general"))
        account = self._open(
            name, f"xkeysib-{_digest(f'key of {name}')}", tier=tier, language=language
        )
        return account, {"api_key": account.api_key}

    def _open(self, name: str, api_key: str, *, tier: str, language: str) -> BrevoAccount:
        account = BrevoAccount(
            _digest(name), name, api_key, clock=self.clock, tier=tier, language=language
        )
        self.accounts[account.id] = account
        return account

    def account_of(self, request: Request) -> BrevoAccount | None:
        if "account" in request.arguments:  # A file's address says whose it is.
            return self.accounts.get(request.arguments["account"])
        key = request.headers.get("api-key")
        return next((each for each in self.accounts.values() if each.api_key == key), None)

    def admit(
        self, account: BrevoAccount | None, route: Route[BrevoAccount], request: Request
    ) -> BrevoAccount:
        if account is None or not account.settings.key_enabled:
            raise RefusedError(_no_key(request))
        if route.tags.get("open"):
            return account
        if not account.settings.address_authorised:
            raise RefusedError(_unknown_address())
        bucket = _bucket(request)
        if account.limits.take(bucket, request.arrived_s, request.unseen_s):
            account.calls.violate(bucket, route.name)
            raise RefusedError(errors.usual(429))
        return account

    def no_route(self, request: Request, methods: list[str]) -> Answer:
        return errors.usual(405 if methods else 404)

    def error(self, status: int) -> Answer:
        return errors.usual(status)

    def throttled(self, account: BrevoAccount, route: Route[BrevoAccount] | None) -> Answer:
        return Answer(429, errors.usual(429).body, {**_headers(10, 0, 1)})

    def bad_json(self, request: Request, reason: str) -> Answer:
        return errors.answer(400, "invalid_parameter", "The body is not valid JSON")

    def lie(
        self,
        account: BrevoAccount,
        route: Route[BrevoAccount],
        request: Request,
        fault: FaultPlan,
    ) -> Answer:
        if fault.status is not None or fault.body is not None:
            return super().lie(account, route, request, fault)
        if request.method == "GET":
            return super().lie(account, route, request, fault)
        claim = route.tags.get("claim")
        return claim(account, request) if claim else Answer(204)

    def finish(
        self,
        account: BrevoAccount | None,
        route: Route[BrevoAccount] | None,
        request: Request,
        answer: Answer,
    ) -> Answer:
        """Add the rate limit headers that every answer to a known key carries."""
        if account is None or not request.path.startswith("/v3/"):
            return answer
        readings = account.limits.read(_bucket(request))
        # The window that is full decides; of several the one that takes longest to have room.
        shown = max(
            readings, key=lambda each: (each.remaining == 0, each.remaining == 0 and each.window_s)
        )
        reset_s = max(math.ceil(shown.resets_in_s), 1)
        headers = {**_headers(shown.limit, shown.remaining, reset_s), **answer.headers}
        return Answer(answer.status, answer.body, headers, answer.media_type)


def _bucket(request: Request) -> str:
    path = request.path
    return "contacts" if path == "/v3/contacts" or path.startswith("/v3/contacts/") else "other"


def _headers(limit: int, remaining: int, reset_s: int) -> dict[str, str]:
    """Return the headers; `reset` is in seconds from now, and there is no Retry-After."""
    return {
        "x-sib-ratelimit-limit": str(limit),
        "x-sib-ratelimit-remaining": str(remaining),
        "x-sib-ratelimit-reset": str(reset_s),
    }


def _no_key(request: Request) -> Answer:
    if "api-key" not in request.headers:
        return errors.answer(401, "unauthorized", "authentication not found in headers")
    return errors.usual(401)


def _unknown_address() -> Answer:
    message = (
        "We have detected you are using an unrecognised IP address 127.0.0.1. If you performed "
        f"this action make sure to add the new IP address in this link: {_AUTHORISED_ADDRESSES}"
    )
    return errors.answer(401, "unauthorized", message)


def _digest(text: str) -> str:
    """Return an id that looks like Brevo's and is the same on every start."""
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
