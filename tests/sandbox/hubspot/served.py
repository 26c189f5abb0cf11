"""A HubSpot sandbox that is being served, as tests handle it."""

from dataclasses import dataclass, field
from typing import Any

import httpx
import hubspot
from hubspot.discovery.discovery_base import DiscoveryBase

from sandbox.hubspot.state import State

PRIVATE_TOKEN = "pat-sandbox"


@dataclass
class Served:
    """A running sandbox: its address, its state, and a plain HTTP client with a private token."""

    url: str
    state: State
    http: httpx.Client
    _pools: list[Any] = field(default_factory=list)

    def control(self, method: str, path: str, body: object = None) -> Any:
        """Make a control call that must succeed; return what it answers."""
        answer = self.http.request(method, f"/_sandbox/{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def fill(self, count: int, **wishes: Any) -> list[str]:
        """Fill in valid contacts unless asked otherwise; return their ids."""
        filled = self.control(
            "POST", "contacts:fill", {"count": count, "invalid_share": 0, **wishes}
        )
        ids: list[str] = filled["ids"]
        return ids

    def official(self, token: str = PRIVATE_TOKEN) -> Any:
        """Return HubSpot's own client, unchanged, with only its host told."""
        return hubspot.HubSpot(access_token=token, host=self.url, api_factory=self._api)

    def token(self, *scopes: str) -> str:
        """Grant an OAuth token, for these scopes only if any are named."""
        wish = {"scopes": scopes} if scopes else {}
        token: str = self.control("POST", "tokens", wish)["access_token"]
        return token

    def close(self) -> None:
        for pool in self._pools:
            pool.clear()

    def _api(self, package: Any, name: str, options: dict[str, Any]) -> Any:
        """Make one of the client's APIs as it does itself; keep its connections, to close them."""
        api = DiscoveryBase._default_api_factory(package, name, options)
        self._pools.append(api.api_client.rest_client.pool_manager)
        return api
