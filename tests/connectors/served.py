"""The sandbox's providers over real HTTP, and what a test needs to talk to them."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from starlette.types import ASGIApp

from libs.common.errors import RateLimitedError
from libs.common.settings import Environment
from libs.connectors.http import HttpClient
from sandbox.server import serve


@dataclass
class RecordingGate:
    """A gate that lets `calls_max` calls through and remembers each; it behaves as the real one."""

    calls_max: int = 1_000_000
    entered: list[str] = field(default_factory=list)
    refusals: list[tuple[str, float]] = field(default_factory=list)

    async def enter(self, bucket: str) -> None:
        if len(self.entered) >= self.calls_max:
            raise RateLimitedError(bucket, 1.0)
        self.entered.append(bucket)

    async def limited(self, bucket: str, retry_after_s: float) -> None:
        self.refusals.append((bucket, retry_after_s))


@dataclass
class RecordingObserver:
    """Who hears of calls, and remembers them."""

    heard: list[tuple[str, str, str, float]] = field(default_factory=list)

    def __call__(self, provider: str, bucket: str, status: str, seconds: float) -> None:
        self.heard.append((provider, bucket, status, seconds))


@dataclass
class Served:
    """One provider on loopback, a client of its control interface, and ours for its own."""

    url: str
    control: httpx.AsyncClient
    http: HttpClient
    observer: RecordingObserver

    async def put(self, path: str, body: Any) -> Any:
        return self._told(await self.control.put(f"/_sandbox/{path}", json=body))

    async def post(self, path: str, body: Any) -> Any:
        return self._told(await self.control.post(f"/_sandbox/{path}", json=body))

    async def get(self, path: str) -> Any:
        return self._told(await self.control.get(f"/_sandbox/{path}"))

    async def fault(self, *faults: Mapping[str, Any]) -> None:
        await self.put("faults", list(faults))

    async def heal(self) -> None:
        self._told(await self.control.delete("/_sandbox/faults"))

    async def calls(self) -> dict[str, int]:
        by_endpoint: dict[str, int] = (await self.get("calls"))["by_endpoint"]
        return by_endpoint

    @staticmethod
    def _told(answer: httpx.Response) -> Any:
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[Served]:
    """Serve a provider without limits for as long as the block lasts."""
    observer = RecordingObserver()
    async with serve(app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as control:
        http = HttpClient(
            environment=Environment.TEST, loopback_urls={"any": url}, observe=observer
        )
        try:
            one = Served(url, control, http, observer)
            await one.put("limits", {"enabled": False})
            yield one
        finally:
            await http.aclose()
