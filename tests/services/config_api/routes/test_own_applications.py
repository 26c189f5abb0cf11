"""Connections by an application that the workspace registered at the provider (PROTOCOL 10)."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from sqlalchemy import text

from libs.common.database import SessionMaker
from tests.services.config_api.served import BREVO_KEY, Served, codes, grant, pointers

OWN = {"id": "own-client", "secret": "own-secret"}
CALLBACK = "http://api.example/v1/oauth/callback"


async def register(served: Served, **own: str) -> None:
    """Register an application at the provider's portal."""
    wanted = {**OWN, **own}
    body = {"client_id": wanted["id"], "client_secret": wanted["secret"]}
    await served.control("constant_contact", "POST", "applications", body)


async def make(api: httpx.AsyncClient, **members: Any) -> dict[str, Any]:
    wanted = {"provider": "constant_contact", "name": "Ours", "oauth_client": OWN, **members}
    made = await api.post("/v1/connections", json=wanted)
    assert made.status_code == 201, made.text
    return dict(made.json())


async def log_in(api: httpx.AsyncClient, connection: str) -> httpx.Response:
    asked = await api.post(f"/v1/connections/{connection}:reauthorize", json={})
    assert asked.status_code == 200, asked.text
    return await api.get(await grant(asked.json()["authorize_url"]))


async def read(api: httpx.AsyncClient, connection: str) -> dict[str, Any]:
    return dict((await api.get(f"/v1/connections/{connection}")).json())


async def test_the_login_is_asked_for_by_the_workspaces_own_application(
    served: Served, api: httpx.AsyncClient, sessions: SessionMaker
) -> None:
    """Proves CC5 and X4: its secret is sealed, and comes out of nowhere."""
    await register(served)
    catalogue = (await api.get("/v1/providers")).json()["items"]
    made = await make(api)

    asked = await api.post(f"/v1/connections/{made['id']}:authorize", json={})
    back = await api.get(await grant(asked.json()["authorize_url"]))

    page = parse_qs(urlsplit(asked.json()["authorize_url"]).query)
    shown = await read(api, made["id"])
    async with sessions.begin() as session:
        row = str((await session.execute(text("select * from config.connections"))).one())
        audit = str((await session.execute(text("select * from config.audit_log"))).all())
    assert back.status_code == 200, back.text
    assert (page["client_id"], page["redirect_uri"]) == (["own-client"], [CALLBACK])
    assert (shown["state"], shown["oauth_client_id"]) == ("connected", "own-client")
    assert "own-client" in row
    assert "own-secret" not in f"{row} {audit} {made} {shown}"
    addresses = {each["id"]: each["oauth_redirect_url"] for each in catalogue}
    assert (addresses["constant_contact"], addresses["brevo"]) == (CALLBACK, None)


async def test_tokens_are_refreshed_by_the_application_that_they_were_given_to(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves CC5: by another's the provider would refuse them."""
    await register(served)
    # Shorter than the margin before their end, so each call refreshes them first.
    await served.control("constant_contact", "PUT", "settings", {"token_ttl_s": 20})
    connection = (await make(api))["id"]
    await log_in(api, connection)

    tested = [await api.post(f"/v1/connections/{connection}:test") for _ in range(2)]

    assert [each.status_code for each in tested] == [200, 200], tested[0].text


async def test_an_application_that_is_refused_is_told_of_with_the_remedy(
    served: Served, api: httpx.AsyncClient
) -> None:
    await register(served, secret="another")
    connection = (await make(api))["id"]

    back = await log_in(api, connection)

    assert back.status_code == 422, back.text
    assert back.json()["provider_code"] == "client_refused"
    assert "PATCH `oauth_client`" in back.json()["detail"]
    assert (await read(api, connection))["state"] == "pending"


async def test_a_new_secret_of_the_same_application_needs_no_login(
    served: Served, api: httpx.AsyncClient
) -> None:
    await register(served)
    await served.control("constant_contact", "PUT", "settings", {"token_ttl_s": 20})
    connection = (await make(api))["id"]
    await log_in(api, connection)
    path = f"/v1/connections/{connection}"

    wrong = await api.patch(path, json={"oauth_client": {"id": "own-client", "secret": "typo"}})
    refused = await api.post(f"{path}:test")
    await api.patch(path, json={"oauth_client": OWN})
    mended = await api.post(f"{path}:test")

    assert wrong.json()["state"] == "connected"
    assert (refused.status_code, refused.json()["provider_code"]) == (422, "client_refused")
    assert mended.status_code == 200, mended.text


async def test_another_application_needs_a_new_login(
    served: Served, api: httpx.AsyncClient, sessions: SessionMaker
) -> None:
    """What was granted is the other one's, and is forgotten."""
    await register(served)
    connection = (await make(api))["id"]
    await log_in(api, connection)

    changed = await api.patch(f"/v1/connections/{connection}", json={"oauth_client": None})
    refused = await api.post(f"/v1/connections/{connection}:test")
    async with sessions.begin() as session:
        left = await session.scalar(
            text(
                "select coalesce(sealed_access_token, sealed_refresh_token, sealed_client_secret)"
                " from config.connections"
            )
        )
    await log_in(api, connection)

    told = changed.json()
    assert (told["state"], told["reason"]) == ("needs_reauth", "client_changed")
    assert told["oauth_client_id"] is None
    assert (refused.status_code, refused.json()["code"]) == (424, "connection_needs_reauth")
    assert left is None
    assert (await read(api, connection))["state"] == "connected"


async def test_before_the_first_login_an_application_is_only_another(
    served: Served, api: httpx.AsyncClient
) -> None:
    connection = (await make(api, oauth_client=None))["id"]

    changed = await api.patch(f"/v1/connections/{connection}", json={"oauth_client": OWN})

    assert (changed.json()["state"], changed.json()["reason"]) == ("pending", None)
    assert changed.json()["oauth_client_id"] == "own-client"


async def test_nobody_is_asked_for_an_application_where_there_is_no_login(
    api: httpx.AsyncClient,
) -> None:
    wanted = {"provider": "brevo", "name": "B", "api_key": BREVO_KEY}

    refused = await api.post("/v1/connections", json={**wanted, "oauth_client": OWN})
    blank = await api.post(
        "/v1/connections",
        json={"provider": "hubspot", "name": "H", "oauth_client": {"id": " ", "secret": "s"}},
    )

    assert (refused.status_code, codes(refused)) == (422, ["no_login"])
    assert pointers(refused) == ["/oauth_client"]
    assert (blank.status_code, pointers(blank)) == (422, ["/oauth_client/id"])


async def test_a_removed_connection_keeps_no_secret(
    served: Served, api: httpx.AsyncClient, sessions: SessionMaker
) -> None:
    """Proves X4."""
    connection = (await make(api))["id"]

    assert (await api.delete(f"/v1/connections/{connection}")).status_code == 204

    async with sessions.begin() as session:
        row = await session.execute(
            text("select client_id, sealed_client_secret from config.connections")
        )
        assert tuple(row.one()) == (None, None)
