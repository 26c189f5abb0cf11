"""ActiveCampaign as a whole: its accounts, who may call, how it answers what goes nowhere."""

import re
from typing import Any

from sandbox.activecampaign import (
    contact_routes,
    control,
    errors,
    field_routes,
    import_routes,
    list_routes,
    tag_routes,
    user_routes,
)
from sandbox.activecampaign.account import ActiveCampaignAccount, key_of
from sandbox.clock import Clock
from sandbox.exchange import Answer, RefusedError, Request, Route
from sandbox.faults import FaultPlan
from sandbox.provider import ControlError, Provider

DEFAULT_KEY = "activecampaign-sandbox"
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_ROUTES = (contact_routes, field_routes, import_routes, list_routes, tag_routes, user_routes)


class State(Provider[ActiveCampaignAccount]):
    """Every account of this process. The default one's key is `activecampaign-sandbox`.

    All accounts answer at one address, told apart by their keys; their own is in what they show.
    """

    def __init__(self, *, seed: int = 1, clock: Clock | None = None) -> None:
        super().__init__(seed=seed, clock=clock)
        for part in _ROUTES:
            part.register(self.routes)
        control.register(self.control)

    def start(self) -> None:
        self._open("default", DEFAULT_KEY)

    def open_account(self, wishes: dict[str, Any]) -> tuple[ActiveCampaignAccount, dict[str, Any]]:
        """Make an account with a `name`, which is also the first part of its address."""
        if set(wishes) - {"name"}:
            message = "an account has a name and nothing else"
            raise ControlError(message)
        name = wishes.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            message = "name must be 1 to 40 small letters, digits and hyphens"
            raise ControlError(message)
        if any(account.name == name for account in self.accounts.values()):
            message = f"there is an account {name} already"
            raise ControlError(message)
        account = self._open(name, key_of(name, 1))
        return account, {"api_key": account.keys[0], "account_url": f"https://{account.host}"}

    def _open(self, name: str, api_key: str) -> ActiveCampaignAccount:
        account = ActiveCampaignAccount(name, name, api_key, clock=self.clock)
        self.accounts[account.id] = account
        return account

    def account_of(self, request: Request) -> ActiveCampaignAccount | None:
        key = request.headers.get("api-token")
        return next((each for each in self.accounts.values() if key in each.keys), None)

    def admit(
        self,
        account: ActiveCampaignAccount | None,
        route: Route[ActiveCampaignAccount],
        request: Request,
    ) -> ActiveCampaignAccount:
        if account is None or not account.settings.key_enabled:
            raise RefusedError(errors.usual(403))  # Not 401, whatever is wrong with the key.
        bucket = import_routes.bucket(request) if route.tags.get("is_import") else "api"
        if account.limits.take(bucket, request.arrived_s, request.unseen_s):
            account.calls.violate(bucket, route.name)
            over = errors.throttled() if bucket == "api" else import_routes.over_limit(bucket)
            raise RefusedError(over)
        account.settle()
        return account

    def no_route(self, request: Request, methods: list[str]) -> Answer:
        return errors.usual(405 if methods else 404)

    def error(self, status: int) -> Answer:
        return errors.usual(status)

    def throttled(
        self, account: ActiveCampaignAccount, route: Route[ActiveCampaignAccount] | None
    ) -> Answer:
        return errors.throttled()

    def bad_json(self, request: Request, reason: str) -> Answer:
        return errors.message(400, "The body is not valid JSON")

    def lie(
        self,
        account: ActiveCampaignAccount,
        route: Route[ActiveCampaignAccount],
        request: Request,
        fault: FaultPlan,
    ) -> Answer:
        claim = route.tags.get("claim")
        if fault.status is not None or fault.body is not None or claim is None:
            return super().lie(account, route, request, fault)
        answer: Answer = claim(account, request)
        return answer
