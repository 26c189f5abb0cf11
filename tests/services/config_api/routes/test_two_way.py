"""Both ways through the wizard: where it can be, and that the way back follows its integration."""

from typing import Any

import httpx
import pytest
from sqlalchemy import text

from tests.services.config_api.served import (
    Draft,
    Served,
    codes,
    connect_brevo,
    connect_by_login,
    edit,
    make_draft,
    pointers,
)

FIELDS = [
    {"source": "Email", "destination": "EMAIL"},
    {"source": "FirstName", "destination": "FIRSTNAME"},
    {"source": "LastName", "destination": "LASTNAME"},
]


async def salesforce_draft(served: Served, api: httpx.AsyncClient) -> Draft:
    """Walk the wizard from Salesforce to Brevo, up to the activation."""
    async with served.owner.begin() as session:
        await session.execute(text("update config.workspaces set plan = 'enterprise'"))
    source, destination = await connect_by_login(api, "salesforce"), await connect_brevo(api)
    created = await api.post(f"/v1/connections/{destination}/lists", json={"name": "News"})
    made = await api.post("/v1/integrations", json={"name": "Salesforce and Brevo"})
    path = f"/v1/integrations/{made.json()['id']}"
    await edit(
        api,
        "PATCH",
        path,
        {
            "source": {"connection_id": source, "object": "contacts"},
            "opt_in": {"accepted": True},
            "destination": {"connection_id": destination, "list_id": created.json()["id"]},
        },
    )
    await edit(api, "PUT", f"{path}/mapping", {"fields": FIELDS}, resource=path)
    return Draft(made.json()["id"], path, source, destination)


async def rows(served: Served, statement: str) -> list[dict[str, Any]]:
    async with served.owner.begin() as session:
        return [dict(row._mapping) for row in await session.execute(text(statement))]


async def way_back(served: Served) -> dict[str, Any]:
    """Return the way back as the pollers and writers see it, with its schedule."""
    [row] = await rows(
        served,
        "select b.state, b.mapping_version, b.interval_minutes, b.deletion_policy,"
        " s.provider, s.is_active, m.fields from config.integrations b"
        " left join sync.schedules s using (integration_id)"
        " left join config.field_mappings m on m.integration_id = b.integration_id"
        "   and m.version = b.mapping_version where b.way_back_of is not null",
    )
    return row


async def test_the_way_back_follows_its_integration(served: Served, api: httpx.AsyncClient) -> None:
    """Proves SF3, SF9: it goes, rests, is mapped and ends with it, and takes deletions along."""
    draft = await salesforce_draft(served, api)
    shown = await edit(api, "PATCH", draft.path, {"two_way": True})
    assert (shown["two_way"], shown["way_back_of"]) == (True, None)
    assert (await way_back(served))["state"] == "draft"

    await edit(api, "POST", f"{draft.path}:activate", {}, resource=draft.path)
    active = await way_back(served)
    assert (active["state"], active["provider"], active["is_active"]) == ("active", "brevo", True)
    assert active["deletion_policy"] == "remove_from_list"
    assert active["fields"][1] == {
        "source": "FIRSTNAME",
        "source_type": "text",
        "destination": "FirstName",
        "destination_type": "text",
    }

    await edit(api, "PATCH", draft.path, {"interval_minutes": 60})
    await edit(api, "PUT", f"{draft.path}/mapping", {"fields": FIELDS[:2]}, resource=draft.path)
    changed = await way_back(served)
    assert (changed["interval_minutes"], changed["mapping_version"]) == (60, 2)
    assert len(changed["fields"]) == 2

    await edit(api, "POST", f"{draft.path}:pause", {}, resource=draft.path)
    paused = await way_back(served)
    assert (paused["state"], paused["is_active"]) == ("paused", False)
    await edit(api, "POST", f"{draft.path}:resume", {}, resource=draft.path)
    assert (await way_back(served))["is_active"]

    await edit(api, "PATCH", draft.path, {"two_way": False})
    rests = await way_back(served)
    assert (rests["state"], rests["is_active"]) == ("paused", False)
    await api.delete(draft.path)
    assert (await way_back(served))["state"] == "archived"


async def test_turning_two_ways_on_compares_everybody_once(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves SF3: who was written before has never been agreed on."""
    draft = await salesforce_draft(served, api)
    await edit(api, "POST", f"{draft.path}:activate", {}, resource=draft.path)
    async with served.owner.begin() as session:
        await session.execute(text("update sync.schedules set wanted_mode = 'changes'"))

    await edit(api, "PATCH", draft.path, {"two_way": True})

    modes = await rows(served, "select provider, wanted_mode from sync.schedules order by provider")
    assert modes == [
        {"provider": "brevo", "wanted_mode": "full"},
        {"provider": "salesforce", "wanted_mode": "full"},
    ]


async def test_the_way_back_is_seen_and_not_touched_by_itself(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves W8: one integration is listed; the other's runs are read by its id."""
    draft = await salesforce_draft(served, api)
    await edit(api, "PATCH", draft.path, {"two_way": True})
    shown = await edit(api, "POST", f"{draft.path}:activate", {}, resource=draft.path)
    back = f"/v1/integrations/{shown['way_back_id']}"

    listed = (await api.get("/v1/integrations")).json()["items"]
    read = await api.get(back)
    runs = await api.get(f"{back}/runs")
    refused = [
        await api.post(f"{back}:pause", json={}),
        await api.delete(back),
        await api.patch(back, json={"name": "x"}, headers={"if-match": "*"}),
        await api.put(f"{back}/mapping", json={"fields": FIELDS}, headers={"if-match": "*"}),
    ]

    assert [each["id"] for each in listed] == [draft.id]
    assert read.json()["way_back_of"] == draft.id
    assert runs.status_code == 200
    assert [each.status_code for each in refused] == [409] * 4
    assert (await way_back(served))["state"] == "active"


async def test_two_ways_are_for_those_that_can(served: Served, api: httpx.AsyncClient) -> None:
    """Proves SF3, HS2, X1: HubSpot is read only, and says so."""
    draft = await make_draft(served, api)

    refused = await api.patch(draft.path, json={"two_way": True}, headers={"if-match": "*"})

    assert refused.status_code == 422
    assert (codes(refused), pointers(refused)) == (["not_both_ways"], ["/two_way"])
    ways = "select integration_id from config.integrations where way_back_of is not null"
    assert await rows(served, ways) == []


async def test_an_address_must_be_mapped_to_go_both_ways(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves SF3, X1: without it nobody tells which contact is which record."""
    draft = await salesforce_draft(served, api)
    phones = [{"source": "MobilePhone", "destination": "SMS"}]
    await edit(api, "PUT", f"{draft.path}/mapping", {"fields": phones}, resource=draft.path)

    refused = await api.patch(draft.path, json={"two_way": True}, headers={"if-match": "*"})
    await edit(api, "PUT", f"{draft.path}/mapping", {"fields": FIELDS}, resource=draft.path)
    await edit(api, "PATCH", draft.path, {"two_way": True})
    mapped = await api.put(
        f"{draft.path}/mapping", json={"fields": phones}, headers={"if-match": "*"}
    )

    assert codes(refused) == codes(mapped) == ["not_both_ways"]


@pytest.mark.parametrize("reason", ["value_too_long", "date_format"])
async def test_a_first_name_that_is_too_long_shows_as_an_error(
    served: Served, api: httpx.AsyncClient, reason: str
) -> None:
    """Proves SF8: other refusals are told by the contact, this one by the integration."""
    draft = await salesforce_draft(served, api)
    await edit(api, "PATCH", draft.path, {"two_way": True})
    await edit(api, "POST", f"{draft.path}:activate", {}, resource=draft.path)
    async with served.owner.begin() as session:
        await session.execute(
            text(
                "insert into activity.contacts (integration_id, source_id, workspace_id, status,"
                " reason, run_no) select integration_id, '7', workspace_id, 'rejected', :reason, 1"
                " from config.integrations where way_back_of is not null"
            ),
            {"reason": reason},
        )

    shown = (await api.get(draft.path)).json()

    is_error = reason == "value_too_long"
    assert shown["status"] == ("error" if is_error else "active")
    assert shown["status_reason"] == (reason if is_error else None)
    assert shown["state"] == "active"
