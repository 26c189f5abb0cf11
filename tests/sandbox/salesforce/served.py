"""A Salesforce sandbox that tests talk to without a socket, at a time that they choose."""

from dataclasses import dataclass
from typing import Any

import httpx

from sandbox.salesforce.state import State
from sandbox.salesforce.tokens import STANDING_TOKEN

START_S = 1_790_000_000.0  # 2026-09-21T14:13:20Z.
START = "2026-09-21T14:13:20Z"
V = "/services/data/v67.0"
AUTHORIZED = {"authorization": f"Bearer {STANDING_TOKEN}"}


class HandClock:
    """A clock that stands still until it is moved; what reads it is `sandbox.clock.Clock`."""

    def __init__(self) -> None:
        self.now_s = START_S

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Served:
    """A running sandbox: its state, its time, and a client with the standing session."""

    state: State
    time: HandClock
    http: httpx.AsyncClient

    async def control(self, method: str, path: str, body: object = None) -> Any:
        """Make a control call that must succeed; return what it answers."""
        answer = await self.http.request(method, f"/_sandbox/{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    async def settings(self, **knobs: Any) -> None:
        await self.control("PUT", "settings", knobs)

    async def get(self, path: str, **parameters: str | int) -> Any:
        """Return what a call answers that must succeed."""
        answer = await self.http.get(f"{V}{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def query(self, text: str, *, everything: bool = False) -> Any:
        """Return the first page of a query; `everything`: of what was deleted too."""
        return await self.get("/queryAll" if everything else "/query", q=text)

    async def rows(self, text: str, *, everything: bool = False) -> list[dict[str, Any]]:
        """Return the records of a query's first page, without their attributes."""
        page = await self.query(text, everything=everything)
        return [
            {name: value for name, value in each.items() if name != "attributes"}
            for each in page["records"]
        ]

    async def ids(self, text: str, *, everything: bool = False) -> list[str]:
        return [each["Id"] for each in await self.rows(text, everything=everything)]

    async def refusal(self, text: str) -> tuple[int, str, str]:
        """Return status, error code and message of a query that must fail."""
        answer = await self.http.get(f"{V}/query", params={"q": text})
        (problem,) = answer.json()
        return answer.status_code, problem["errorCode"], problem["message"]

    async def fill(self, count: int, **wishes: Any) -> list[str]:
        """Fill in valid people unless asked otherwise; return their ids."""
        wish = {"count": count, "invalid_share": 0, **wishes}
        ids: list[str] = (await self.control("POST", "contacts:fill", wish))["ids"]
        return ids

    async def put(self, kind: str = "Contact", **properties: Any) -> str:
        """Put in one record as it is given; return its id."""
        wish = {"object": kind, "contacts": [{"properties": properties}]}
        ids: list[str] = (await self.control("POST", "contacts:upsert", wish))["ids"]
        return ids[0]
