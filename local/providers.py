"""Reach into the sandbox from outside: fill it, change it, count its calls, read it back."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self

import httpx

from local.api import Json
from local.errors import StackError
from local.parties import Party, SourceParty

ANSWER_WITHIN_S = 120.0  # A state of 100,000 contacts takes a few seconds to write out.


class Provider:
    """The control interface of one provider's sandbox."""

    def __init__(self, client: httpx.AsyncClient, party: Party | None = None) -> None:
        self._client = client
        self._party = party

    @classmethod
    @asynccontextmanager
    async def connect(cls, url: str, party: Party | None = None) -> AsyncIterator[Self]:
        """Open a client; it is closed when the block ends. A party's state comes in our words."""
        async with httpx.AsyncClient(
            base_url=url, timeout=ANSWER_WITHIN_S, trust_env=False
        ) as client:
            yield cls(client, party)

    @property
    def party(self) -> SourceParty:
        """Return whose sandbox it is, where that is a source."""
        assert isinstance(self._party, SourceParty)
        return self._party

    async def fill(self, count: int, *, seed: int, name: str, invalid_share: float) -> Json:
        """Add seeded contacts to a list, which is made if it is not there."""
        wanted = {"count": count, "seed": seed, "list": name, "invalid_share": invalid_share}
        return await self._call("POST", "contacts:fill", wanted)

    async def change(self, count: int, *, seed: int) -> None:
        """Edit plain fields of so many valid contacts."""
        await self._call("POST", "contacts:change", {"count": count, "seed": seed})

    async def upsert(self, contacts: list[Mapping[str, Any]]) -> None:
        """Set contacts exactly so."""
        await self._call("POST", "contacts:upsert", {"contacts": contacts})

    async def block(self, emails: list[str]) -> None:
        """Unsubscribe people, as they would themselves."""
        await self._call("POST", "contacts:block", {"emails": emails})

    async def lift_limits(self) -> None:
        """Answer at once and without limits from now on."""
        await self._call("PUT", "limits", {"enabled": False})

    async def pass_time(self, seconds: float) -> None:
        """Move its clock; negative seconds go back."""
        await self._call("PUT", "clock", {"advance_s": seconds})

    async def delay(self, seconds: float) -> None:
        """Answer every call so much later from now on."""
        await self._send("PUT", "faults", [{"kind": "latency", "seconds": seconds}])

    async def state(self) -> Json:
        """Return everything it holds."""
        state = await self._call("GET", "state")
        return state if self._party is None else self._party.read(state)

    async def calls(self) -> Json:
        """Return how often it was called, and how often beyond its limits."""
        return await self._call("GET", "calls")

    async def _call(self, method: str, path: str, body: object = None) -> Json:
        answer = await self._send(method, path, body)
        return dict(answer.json()) if answer.content else {}

    async def _send(self, method: str, path: str, body: object) -> httpx.Response:
        answer = await self._client.request(method, f"/_sandbox/{path}", json=body)
        if not answer.is_success:
            what = f"the sandbox answered {method} {path} {answer.status_code}: {answer.text}"
            raise StackError(what, "see the log of the sandbox")
        return answer
