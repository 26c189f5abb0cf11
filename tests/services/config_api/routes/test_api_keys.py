"""/v1/api-keys, the catalogue, and what the audit log says of all this."""

import httpx
import pytest

from services.config_api.routes import api_keys
from services.config_api.scopes import WORKSPACE_SCOPES
from tests.services.config_api.served import Served, codes, connect_brevo, make_draft


async def test_a_key_is_shown_once(api: httpx.AsyncClient) -> None:
    """Proves X4."""
    made = await api.post("/v1/api-keys", json={"name": "n"})

    listed = await api.get("/v1/api-keys")

    assert made.status_code == 201
    assert [each["name"] for each in listed.json()["items"]] == ["First key", "n"]
    assert made.json()["secret"] not in listed.text
    assert made.json()["scopes"] == list(WORKSPACE_SCOPES)


async def test_a_key_is_rotated_while_both_live(served: Served, api: httpx.AsyncClient) -> None:
    second = (await api.post("/v1/api-keys", json={"name": "second"})).json()
    first_id = (await api.get("/v1/api-keys")).json()["items"][0]["id"]

    async with served.caller(second["secret"]) as other:
        both = (await api.get("/v1/quota"), await other.get("/v1/quota"))
        revoked = await other.delete(f"/v1/api-keys/{first_id}")
        again = await other.delete(f"/v1/api-keys/{first_id}")
        left = (await api.get("/v1/quota"), await other.get("/v1/quota"))
        listed = (await other.get("/v1/api-keys")).json()["items"]

    assert [answer.status_code for answer in both] == [200, 200]
    assert [revoked.status_code, again.status_code] == [204, 204]
    assert [answer.status_code for answer in left] == [401, 200]
    assert [each["id"] for each in listed] == [second["id"]]


async def test_nobody_locks_himself_out(api: httpx.AsyncClient) -> None:
    own = (await api.get("/v1/api-keys")).json()["items"][0]["id"]

    assert (await api.delete(f"/v1/api-keys/{own}")).status_code == 409


async def test_a_key_grants_only_what_it_may_do_itself(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves X3 (OWASP API5)."""
    made = await api.post(
        "/v1/api-keys", json={"name": "n", "scopes": ["api-keys:write", "quota:read"]}
    )

    async with served.caller(made.json()["secret"]) as smaller:
        more = await smaller.post(
            "/v1/api-keys", json={"name": "n", "scopes": ["quota:read", "runs:write"]}
        )
        same = await smaller.post("/v1/api-keys", json={"name": "n"})
    operators = await api.post("/v1/api-keys", json={"name": "n", "scopes": ["operator:write"]})

    assert more.json()["errors"][0]["pointer"] == "/scopes/1"
    assert same.json()["scopes"] == ["quota:read", "api-keys:write"]
    assert codes(operators) == ["scope_not_held"]


async def test_a_key_expires_in_the_future(api: httpx.AsyncClient) -> None:
    past = await api.post("/v1/api-keys", json={"name": "n", "expires_at": "2020-01-01T00:00:00Z"})
    naive = await api.post("/v1/api-keys", json={"name": "n", "expires_at": "2120-01-01T00:00:00"})

    assert codes(past) == ["in_the_past"]
    assert naive.status_code == 422


async def test_a_workspace_has_a_bounded_number_of_keys(
    api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_keys, "LIVE_KEYS_MAX", 2)
    await api.post("/v1/api-keys", json={"name": "n"})

    answer = await api.post("/v1/api-keys", json={"name": "n"})

    assert answer.status_code == 409


async def test_using_a_key_is_remembered(api: httpx.AsyncClient) -> None:
    shown = (await api.get("/v1/api-keys")).json()["items"][0]

    assert shown["last_used_at"].endswith("Z")


async def test_the_catalogue_says_what_can_be_connected_and_counts(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves W1 and AC4."""
    await make_draft(served, api)

    items = {each["id"]: each for each in (await api.get("/v1/providers")).json()["items"]}

    hubspot, brevo = items["hubspot"], items["brevo"]
    assert (hubspot["is_source"], hubspot["authentication"]) == (True, "oauth")
    assert (brevo["is_destination"], brevo["authentication"]) == (True, "api_key")
    assert (hubspot["integrations"], brevo["integrations"]) == (1, 1)
    assert "contacts" in {each["name"] for each in hubspot["objects"]}
    assert {"tier", "bucket", "calls", "window_s", "scope", "per_day"} == set(hubspot["limits"][0])


async def test_every_change_is_in_the_audit_log(served: Served, api: httpx.AsyncClient) -> None:
    """Proves W4: who did what, and when."""
    draft = await make_draft(served, api)
    await api.post(f"{draft.path}:activate", headers={"if-match": "*"})
    await api.post(f"{draft.path}/runs")
    await api.post(f"{draft.path}:pause")
    await api.post(f"{draft.path}:resume")
    await api.delete(draft.path)
    await api.patch(f"/v1/connections/{draft.source}", json={"name": "n"})
    await api.delete(f"/v1/connections/{draft.source}")

    events = (await api.get("/v1/audit-events?page_size=100")).json()["items"]
    of_it = (await api.get("/v1/audit-events", params={"subject": draft.id})).json()["items"]
    first = (await api.get("/v1/audit-events?page_size=2")).json()
    second = (
        await api.get("/v1/audit-events", params={"page_token": first["next_page_token"]})
    ).json()

    assert [event["action"] for event in reversed(of_it)] == [
        "integration.created",
        "integration.changed",
        "mapping.saved",
        "integration.activated",
        "run.requested",
        "integration.paused",
        "integration.resumed",
        "integration.deleted",
    ]
    assert {event["action"] for event in events} >= {
        "workspace.created",
        "connection.created",
        "connection.connected",
        "connection.renamed",
        "connection.removed",
        "list.created",
    }
    assert all(event["actor"].startswith("key_") or event["actor"] == "oauth" for event in events)
    assert [*first["items"], *second["items"]] == events


async def test_the_audit_log_holds_no_secret(served: Served, api: httpx.AsyncClient) -> None:
    """Proves X4."""
    await connect_brevo(api)

    assert "xkeysib" not in (await api.get("/v1/audit-events")).text
