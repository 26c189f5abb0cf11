"""Talk to the config API as any front end would: with a key, over HTTP, and with nothing else."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self

import httpx

from local.errors import StackError

ANSWER_WITHIN_S = 30.0  # The API asks providers, which may take their time.
UPLOADED_WITHIN_S = 300.0  # A hundred megabytes are gone through on the way.
PAGE_SIZE = 200

Json = dict[str, Any]


class Api:
    """One key's view of the API."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    @classmethod
    @asynccontextmanager
    async def connect(cls, url: str, key: str) -> AsyncIterator[Self]:
        """Open a client for a key; it is closed when the block ends."""
        async with httpx.AsyncClient(
            base_url=url,
            headers={"authorization": f"Bearer {key}"},
            timeout=ANSWER_WITHIN_S,
            trust_env=False,  # A proxy is for others than this machine.
        ) as client:
            yield cls(client)

    async def get(self, path: str, **parameters: str | int) -> Json:
        """Return what a path answers; raises `StackError` with the API's words if it refuses."""
        return _body(await self._client.get(path, params=parameters))

    async def items(self, path: str, **parameters: str | int) -> list[Json]:
        """Return all items of all pages."""
        found: list[Json] = []
        page = await self.get(path, page_size=PAGE_SIZE, **parameters)
        found += page["items"]
        while page.get("next_page_token"):
            token = page["next_page_token"]
            page = await self.get(path, page_size=PAGE_SIZE, page_token=token, **parameters)
            found += page["items"]
        return found

    async def post(self, path: str, body: Mapping[str, Any] | None = None) -> Json:
        """Send a POST; raises `StackError` if it is refused."""
        return _body(await self._client.post(path, json=body or {}))

    async def upload(self, path: str, content: bytes) -> Json:
        """Send a CSV file; raises `StackError` if it is refused."""
        headers = {"content-type": "text/csv"}
        return _body(
            await self._client.post(
                path, content=content, headers=headers, timeout=UPLOADED_WITHIN_S
            )
        )

    async def put(self, path: str, body: Mapping[str, Any]) -> Json:
        """Send a PUT; raises `StackError` if it is refused."""
        return _body(await self._client.put(path, json=body))

    async def edit(self, method: str, path: str, resource: str, body: Mapping[str, Any]) -> Json:
        """Change a resource as it is now: its ETag goes with the change."""
        before = await self._client.get(resource)
        _body(before)
        tag = {"if-match": before.headers["etag"]}
        return _body(await self._client.request(method, path, json=body, headers=tag))


def _body(answer: httpx.Response) -> Json:
    if answer.is_success:
        return dict(answer.json()) if answer.content else {}
    call = f"{answer.request.method} {answer.request.url.path}"
    what = f"{call} was answered {answer.status_code}: {answer.text}"
    raise StackError(what, "see the log of config-api for the same moment")
