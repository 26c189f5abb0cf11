"""Salesforce through the wizard: its plan, its login, its objects and campaigns, five times."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.services.config_api.served import (
    Served,
    codes,
    connect_brevo,
    connect_by_login,
    edit,
    grant,
    pointers,
)

PROVIDER = "salesforce"
MAPPING = (("Email", "EMAIL"), ("MobilePhone", "SMS"))


@pytest.fixture
async def enterprise(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of a workspace on the enterprise plan."""
    workspace = await served.make_workspace(plan="enterprise")
    async with served.caller(workspace["api_key"]["secret"]) as client:
        yield client


async def new_draft(api: httpx.AsyncClient, name: str = "one") -> str:
    made = await api.post("/v1/integrations", json={"name": name})
    return f"/v1/integrations/{made.json()['id']}"


async def source_step(api: httpx.AsyncClient, path: str) -> list[str]:
    """Return what is open in the checklist's source step."""
    steps = (await api.get(f"{path}/checklist")).json()["steps"]
    [errors] = [each["errors"] for each in steps if each["step"] == "source"]
    return [each["code"] for each in errors]


async def begin_login(api: httpx.AsyncClient) -> tuple[str, str]:
    """Start to connect; return the connection and where the browser is sent."""
    made = await api.post("/v1/connections", json={"provider": PROVIDER, "name": "Ours"})
    asked = await api.post(f"/v1/connections/{made.json()['id']}:authorize", json={})
    return made.json()["id"], asked.json()["authorize_url"]


async def test_only_the_enterprise_plan_has_salesforce(
    served: Served, api: httpx.AsyncClient, enterprise: httpx.AsyncClient
) -> None:
    """Proves SF1: refused before anything is made, with what to do."""
    wanted = {"provider": PROVIDER, "name": "Ours"}

    refused = await api.post("/v1/connections", json=wanted)
    allowed = await enterprise.post("/v1/connections", json=wanted)

    assert (refused.status_code, allowed.status_code) == (422, 201)
    assert (codes(refused), pointers(refused)) == (["plan_needed"], ["/provider"])
    error = refused.json()["errors"][0]
    assert error["rule"] == "SF1"
    assert "enterprise plan" in error["detail"]
    assert "standard plan" in error["detail"]
    assert (await api.get("/v1/connections")).json()["items"] == []
    plans = {each["id"]: each["plan"] for each in (await api.get("/v1/providers")).json()["items"]}
    assert (plans[PROVIDER], plans["hubspot"]) == ("enterprise", None)


async def test_a_workspace_that_leaves_the_plan_starts_nothing_more(
    served: Served, operator: httpx.AsyncClient
) -> None:
    """Proves SF1: neither a draft nor one that was paused."""
    workspace = await served.make_workspace(plan="enterprise")
    async with served.caller(workspace["api_key"]["secret"]) as api:
        path = await new_draft(api)
        source = {"connection_id": await connect_by_login(api, PROVIDER), "object": "contacts"}
        await edit(api, "PATCH", path, {"source": source})
        before = await source_step(api, path)
        await operator.patch(f"/v1/workspaces/{workspace['id']}", json={"plan": "standard"},
                             headers={"if-match": "*"})  # fmt: skip

        after = await source_step(api, path)
        started = await api.post(f"{path}:activate", headers={"if-match": "*"})

    assert (before, after) == ([], ["plan_needed"])
    assert "plan_needed" in codes(started)


async def test_an_organisation_is_connected_where_its_login_says(
    served: Served, enterprise: httpx.AsyncClient
) -> None:
    """Proves W2 and W3: login, then contacts or leads, all or one of the campaigns."""
    filled = await served.control(
        PROVIDER, "POST", "contacts:fill", {"count": 5, "seed": 1, "list": "Newsletter"}
    )

    connection = await connect_by_login(enterprise, PROVIDER)
    shown = (await enterprise.get(f"/v1/connections/{connection}")).json()
    path = f"/v1/connections/{connection}/lists?object="
    lists = {
        name: (await enterprise.get(path + name)).json()["items"] for name in ("contacts", "leads")
    }

    assert shown["state"] == "connected"
    assert shown["account_url"] == served.providers[PROVIDER]
    assert (shown["account_name"], shown["tier"]) == ("Salesforce Salesforce sandbox", "enterprise")
    assert [(each["id"], each["size"]) for each in lists["contacts"]] == [(filled["list_id"], 5)]
    assert [(each["id"], each["size"]) for each in lists["leads"]] == [(filled["list_id"], 0)]


@pytest.mark.parametrize(
    ("told", "stored"),
    [
        ("https://acme.my.salesforce.com", "https://acme.my.salesforce.com"),
        ("https://acme.my.salesforce.com.example.com", None),
    ],
)
async def test_only_an_address_of_salesforces_is_stored(
    served: Served, enterprise: httpx.AsyncClient, told: str, stored: str | None
) -> None:
    """Proves API7: what a login's answer says is hostile until checked."""
    await served.control(PROVIDER, "PUT", "settings", {"instance_url": told})

    connection = await connect_by_login(enterprise, PROVIDER)

    shown = (await enterprise.get(f"/v1/connections/{connection}")).json()
    assert shown["account_url"] == stored


@pytest.mark.parametrize("code", ["API_DISABLED_FOR_ORG", "API_CURRENTLY_DISABLED"])
async def test_an_organisation_without_its_api_is_told_so_at_the_login(
    served: Served, enterprise: httpx.AsyncClient, code: str
) -> None:
    """Proves SF2: who has to do what; and nothing is connected."""
    off = {"api_enabled": False, "api_disabled_code": code}
    await served.control(PROVIDER, "PUT", "settings", off)
    connection, address = await begin_login(enterprise)
    back = await grant(address)

    answer = await enterprise.get(back)

    assert answer.status_code == 422
    told = answer.json()
    assert (told["code"], told["provider_code"]) == ("provider_misconfigured", "api_disabled")
    assert "API is switched off" in told["detail"]
    assert "administrator" in told["detail"]
    shown = (await enterprise.get(f"/v1/connections/{connection}")).json()
    assert (shown["state"], shown["account_id"]) == ("pending", None)


async def test_what_may_not_be_mapped_is_not_offered(enterprise: httpx.AsyncClient) -> None:
    """Proves S6 and S7 over the API: formulas, drop-downs, yes/no fields, what is read only."""
    connection = await connect_by_login(enterprise, PROVIDER)
    path = f"/v1/connections/{connection}/fields?page_size=200&object="

    for name in ("contacts", "leads"):
        offered = {each["name"] for each in (await enterprise.get(path + name)).json()["items"]}
        assert offered >= {"Email", "FirstName", "LastName", "MobilePhone", "Anniversary__c"}
        assert not offered & {"Greeting__c", "LeadSource", "HasOptedOutOfEmail", "Name", "Id"}


async def test_an_organisation_is_used_five_times_contacts_and_leads_together(
    enterprise: httpx.AsyncClient,
) -> None:
    """Proves SF7: also over two connections to it."""
    connections = [await connect_by_login(enterprise, PROVIDER) for _ in range(2)]
    chosen = []
    for number in range(6):
        path = await new_draft(enterprise, f"number {number}")
        source = {
            "connection_id": connections[number % 2],
            "object": ("contacts", "leads")[number % 2],
        }
        headers = {"if-match": "*"}
        chosen.append(await enterprise.patch(path, json={"source": source}, headers=headers))

    assert [each.status_code for each in chosen] == [200] * 5 + [422]
    assert codes(chosen[5]) == ["account_in_use"]
    assert "5 integrations" in chosen[5].json()["errors"][0]["detail"]


@pytest.mark.parametrize("object_name", ["contacts", "leads"])
async def test_all_or_a_campaign_of_either_kind_can_be_activated(
    served: Served, enterprise: httpx.AsyncClient, object_name: str
) -> None:
    """Proves W3 and W7: without a campaign all are meant."""
    filled = await served.control(
        PROVIDER, "POST", "contacts:fill", {"count": 3, "seed": 1, "list": "Newsletter"}
    )
    source = {"connection_id": await connect_by_login(enterprise, PROVIDER), "object": object_name}
    destination = await connect_brevo(enterprise)
    created = await enterprise.post(f"/v1/connections/{destination}/lists", json={"name": "News"})

    for list_id in (None, filled["list_id"]):
        path = await new_draft(enterprise, f"{list_id}")
        steps = {
            "source": {**source, "list_id": list_id},
            "destination": {"connection_id": destination, "list_id": created.json()["id"]},
            "opt_in": {"accepted": True},
        }
        await edit(enterprise, "PATCH", path, steps)
        fields = [{"source": name, "destination": attribute} for name, attribute in MAPPING]
        await edit(enterprise, "PUT", f"{path}/mapping", {"fields": fields}, resource=path)
        started = await enterprise.post(f"{path}:activate", headers={"if-match": "*"})

        assert started.status_code == 200, started.text
        assert started.json()["state"] == "active"
