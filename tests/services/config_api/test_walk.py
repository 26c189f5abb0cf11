"""The wizard from its first step to its last."""

import httpx

from tests.services.config_api.served import Served, edit, make_draft


async def test_a_draft_becomes_active(served: Served, api: httpx.AsyncClient) -> None:
    """Proves W1, W2, W6 and W7."""
    draft = await make_draft(served, api)

    checklist = (await api.get(f"{draft.path}/checklist")).json()
    activated = await edit(api, "POST", f"{draft.path}:activate", {}, resource=draft.path)

    assert checklist["ready"], checklist
    assert activated["state"] == "active"
    assert activated["status"] == "active"
