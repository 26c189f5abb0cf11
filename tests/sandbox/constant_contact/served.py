"""A Constant Contact sandbox that tests talk to without a socket, at a time that they choose."""

from dataclasses import dataclass
from typing import Any

import httpx

from sandbox.constant_contact.state import State
from sandbox.constant_contact.tokens import STANDING_TOKEN

START_S = 1_790_000_000.0  # 2026-09-21T14:13:20Z.


class HandClock:
    """A clock that stands still until it is moved; what reads it is `sandbox.clock.Clock`."""

    def __init__(self) -> None:
        self.now_s = START_S

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Served:
    """A running sandbox: its state, its time, and a client with the standing token."""

    state: State
    time: HandClock
    http: httpx.AsyncClient

    async def control(self, method: str, path: str, body: object = None) -> Any:
        """Make a control call that must succeed; return what it answers."""
        answer = await self.http.request(method, f"/_sandbox/{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    async def get(self, path: str, **parameters: str | int) -> Any:
        """Return what a call answers that must succeed."""
        answer = await self.http.get(f"/v3{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def fill(self, count: int, **wishes: Any) -> list[str]:
        """Fill in valid contacts unless asked otherwise; return their ids."""
        wish = {"count": count, "invalid_share": 0, **wishes}
        ids: list[str] = (await self.control("POST", "contacts:fill", wish))["ids"]
        return ids

    async def ids(self, **parameters: str | int) -> list[str]:
        """Return the ids of one page of a listing."""
        page = await self.get("/contacts", **parameters)
        return [each["contact_id"] for each in page["contacts"]]


AUTHORIZED = {"authorization": f"Bearer {STANDING_TOKEN}"}
