"""One account of a provider's sandbox, with what only benchmarks do to it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Self

import httpx

from local.api import Json
from local.providers import ANSWER_WITHIN_S, Provider

UNAVAILABLE = {"kind": "status", "status": 503}


class Account(Provider):
    """The control interface of one account; `local.providers` has what others need too."""

    @classmethod
    @asynccontextmanager
    async def of(cls, url: str, account: str) -> AsyncIterator[Self]:
        """Open a client for an account that is not the default one; the block's end closes it."""
        async with httpx.AsyncClient(
            base_url=url, params={"account": account}, timeout=ANSWER_WITHIN_S, trust_env=False
        ) as client:
            yield cls(client)

    async def open_account(self, name: str) -> Json:
        """Make another account; return its id and its credentials."""
        return await self._call("POST", "accounts", {"name": name})

    async def add_key(self) -> str:
        """Give another person of the account a key, where each has one; return it."""
        return str((await self._call("POST", "keys"))["api_key"])

    async def add(self, count: int, *, seed: int, name: str) -> list[str]:
        """Add seeded valid contacts to a list; return their ids."""
        wish = {"count": count, "seed": seed, "list": name, "invalid_share": 0.0}
        return list((await self._call("POST", "contacts:fill", wish))["ids"])

    async def edit(self, ids: Sequence[str], *, seed: int) -> None:
        """Edit plain fields of these contacts, each time others with another seed."""
        await self._call("POST", "contacts:change", {"ids": list(ids), "seed": seed})

    async def keep_limits(self, **buckets: Json) -> None:
        """Hold callers to the provider's limits again, some of them replaced by these."""
        await self._call("PUT", "limits", {"enabled": True, **buckets})

    async def forget_calls(self) -> None:
        """Count calls and violations from zero."""
        await self._call("POST", "calls:reset")

    async def limits(self) -> Json:
        """Return the windows of each bucket, and what was let through in each second."""
        answer = await self._client.get("/_sandbox/limits")
        return dict(answer.raise_for_status().json())

    async def die(self) -> None:
        """Answer every call 503 from now on."""
        await self._send("PUT", "faults", [UNAVAILABLE])

    async def recover(self) -> None:
        """Answer as before."""
        await self._send("DELETE", "faults", None)

    async def writes(self, after: int = 0) -> list[Json]:
        """Return the writes to contacts with a higher number than this one, oldest first."""
        answer = await self._client.get("/_sandbox/writes", params={"after": after})
        return list(answer.raise_for_status().json()["writes"])
