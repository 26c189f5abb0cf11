"""Short ways to ask a served ActiveCampaign sandbox."""

from typing import Any

import httpx

from sandbox.activecampaign.state import DEFAULT_KEY, State


class ActiveCampaign:
    """A served sandbox: `ask` carries the default account's key, `control` needs none."""

    def __init__(self, state: State, http: httpx.AsyncClient) -> None:
        self.state = state
        self.http = http

    async def ask(
        self, method: str, path: str, body: Any = None, *, key: str = DEFAULT_KEY, **query: Any
    ) -> httpx.Response:
        """Call the provider's own interface with a key."""
        return await self.http.request(
            method, f"/api/3{path}", json=body, params=query or None, headers={"api-token": key}
        )

    async def get(self, path: str, **query: Any) -> Any:
        answer = await self.ask("GET", path, **query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def post(self, path: str, body: Any) -> Any:
        answer = await self.ask("POST", path, body)
        assert answer.is_success, answer.text
        return answer.json()

    async def control(self, method: str, path: str, body: Any = None) -> Any:
        answer = await self.http.request(method, f"/_sandbox/{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    async def settings(self, **knobs: Any) -> None:
        await self.control("PUT", "settings", knobs)

    async def whole(self) -> dict[str, Any]:
        state: dict[str, Any] = await self.control("GET", "state")
        return state

    async def put(self, email: str, *, on: str | None = None, **attributes: str) -> int:
        """Store a contact as the account's own people would; return its id."""
        wanted = {"contacts": [{"email": email, "attributes": attributes}], "list": on}
        ids: list[int] = (await self.control("POST", "contacts:upsert", wanted))["ids"]
        return ids[0]

    async def imported(self, *rows: dict[str, Any], **more: Any) -> dict[str, Any]:
        """Hand in an import, and return how it ended: the importer takes no time here."""
        queued = await self.post("/import/bulk_import", {"contacts": list(rows), **more})
        info: dict[str, Any] = await self.get("/import/info", batchId=queued["batchId"])
        return info
