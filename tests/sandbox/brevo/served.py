"""Short ways to ask a served Brevo sandbox."""

from typing import Any

import httpx

from sandbox.brevo.state import DEFAULT_KEY, State


class Brevo:
    """A served sandbox: `api` carries the default account's key, `control` needs none."""

    def __init__(self, state: State, http: httpx.AsyncClient) -> None:
        self.state = state
        self.http = http

    async def ask(self, method: str, path: str, body: Any = None, **query: Any) -> httpx.Response:
        """Call the provider's own interface with the key."""
        return await self.http.request(
            method,
            f"/v3{path}",
            json=body,
            params=query or None,
            headers={"api-key": DEFAULT_KEY},
        )

    async def get(self, path: str, **query: Any) -> Any:
        answer = await self.ask("GET", path, **query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def control(self, method: str, path: str, body: Any = None) -> Any:
        answer = await self.http.request(method, f"/_sandbox/{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    async def settings(self, **knobs: Any) -> None:
        await self.control("PUT", "settings", knobs)

    async def contact(self, email: str) -> dict[str, Any]:
        found = await self.get(f"/contacts/{email}")
        assert isinstance(found, dict)
        return found

    async def put(self, email: str, **attributes: Any) -> int:
        """Store a contact as the account's own people would; return its id."""
        wanted = {"contacts": [{"email": email, "attributes": attributes}]}
        ids: list[int] = (await self.control("POST", "contacts:upsert", wanted))["ids"]
        return ids[0]


def refusal(answer: httpx.Response) -> tuple[int, str, str]:
    """Return status, code and message of an error."""
    body = answer.json()
    return answer.status_code, body["code"], body["message"]
