"""A Google sandbox that is being served, as tests handle it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from anyio.from_thread import start_blocking_portal
from google.oauth2.credentials import Credentials
from googleapiclient.discovery import build

from sandbox.clock import Clock
from sandbox.google_contacts.app import create_app
from sandbox.google_contacts.state import State
from sandbox.google_contacts.tokens import STANDING_TOKEN
from sandbox.server import serve

START_S = 1_790_000_000.0  # 2026-09-21T14:13:20Z.
MASK = "names,emailAddresses,phoneNumbers,memberships,metadata"


class HandClock:
    """A clock that stands still until it is moved; what reads it is `sandbox.clock.Clock`."""

    def __init__(self) -> None:
        self.now_s = START_S

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Served:
    """A running sandbox: its address, its state and time, and a plain HTTP client with a token."""

    url: str
    state: State
    time: HandClock
    http: httpx.Client
    _clients: list[Any] = field(default_factory=list)

    def control(self, method: str, path: str, body: object = None) -> Any:
        """Make a control call that must succeed; return what it answers."""
        answer = self.http.request(method, f"/_sandbox/{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def fill(self, count: int, **wishes: Any) -> list[str]:
        """Fill in valid contacts unless asked otherwise; return their ids."""
        wish = {"count": count, "invalid_share": 0, **wishes}
        ids: list[str] = self.control("POST", "contacts:fill", wish)["ids"]
        return ids

    def connections(self, **parameters: str | int) -> httpx.Response:
        """Return the answer to a listing."""
        query = {"personFields": MASK, **parameters}
        return self.http.get("/v1/people/me/connections", params=query)

    def official(self, token: str = STANDING_TOKEN) -> Any:
        """Return Google's own client, unchanged, with only its address told."""
        client = build(
            "people",
            "v1",
            credentials=Credentials(token),  # type: ignore[no-untyped-call]  # theirs has no types
            client_options={"api_endpoint": self.url},
            static_discovery=True,
        )
        self._clients.append(client)
        return client

    def close(self) -> None:
        """Close what the official clients have open."""
        for client in self._clients:
            client.close()


@contextmanager
def serving() -> Iterator[Served]:
    """Serve a sandbox from a thread, since Google's client blocks, at a time that tests choose."""
    time = HandClock()
    state = State(clock=Clock(time))
    headers = {"authorization": f"Bearer {STANDING_TOKEN}"}
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve(create_app(state))) as url,
        httpx.Client(base_url=url, headers=headers, timeout=60) as http,
    ):
        sandbox = Served(url, state, time, http)
        try:
            yield sandbox
        finally:
            sandbox.close()
