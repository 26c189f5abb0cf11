"""Automatic imports: a kind of its own, without a mapping step (AC1, AC2, AC4, AC7)."""

from dataclasses import dataclass

import httpx
import pytest
from sqlalchemy import text

from libs.common.database import SessionMaker
from tests.services.config_api.served import (
    Json,
    Served,
    codes,
    connect_brevo,
    connect_hubspot,
    edit,
    pointers,
)


@dataclass(frozen=True)
class Importer:
    """A draft of an automatic import that lacks nothing."""

    path: str
    source: str
    destination: str


async def connect_activecampaign(api: httpx.AsyncClient) -> str:
    wanted = {
        "provider": "activecampaign",
        "name": "Our ActiveCampaign",
        "api_key": "activecampaign-sandbox",
        "account_url": "https://default.api-us1.com/api/3",
    }
    made = await api.post("/v1/connections", json=wanted)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


async def make_importer(
    served: Served, api: httpx.AsyncClient, name: str = "Import", *, seed: int = 1
) -> Importer:
    """Walk the wizard of an automatic import up to, and without, the activation."""
    filled = await served.control(
        "hubspot", "POST", "contacts:fill", {"count": 5, "seed": seed, "list": "Newsletter"}
    )
    source, destination = await connect_hubspot(api), await connect_activecampaign(api)
    lists = await api.get(f"/v1/connections/{destination}/lists")
    made = await api.post("/v1/integrations", json={"name": name, "kind": "automatic"})
    assert made.status_code == 201, made.text
    path = f"/v1/integrations/{made.json()['id']}"
    change = {
        "source": {
            "connection_id": source,
            "object": "contacts",
            "list_id": str(filled["list_id"]),
        },
        "opt_in": {"accepted": True},
        "destination": {
            "connection_id": destination,
            "list_id": lists.json()["items"][0]["id"],
        },
    }
    await edit(api, "PATCH", path, change)
    return Importer(path, source, destination)


async def activate(api: httpx.AsyncClient, importer: Importer) -> Json:
    return await edit(api, "POST", f"{importer.path}:activate", {}, resource=importer.path)


async def rows(sessions: SessionMaker, statement: str) -> list[Json]:
    async with sessions.begin() as session:
        return [dict(row._mapping) for row in await session.execute(text(statement))]


async def test_an_automatic_import_has_no_mapping_step(
    served: Served, api: httpx.AsyncClient, sessions: SessionMaker
) -> None:
    """Proves AC1: what the source has is asked for, and nothing is read before there is a place."""
    importer = await make_importer(served, api)
    checklist = (await api.get(f"{importer.path}/checklist")).json()

    active = await activate(api, importer)

    fields = await rows(sessions, "select * from delivery.wanted_fields")
    titles = {each["source"]: each["title"] for each in fields}
    assert checklist["ready"]
    assert [each["step"] for each in checklist["steps"]] == [
        "name",
        "source",
        "opt_in",
        "destination",
    ]
    assert (active["kind"], active["state"], active["mapping_version"]) == (
        "automatic",
        "active",
        0,
    )
    assert titles["jobtitle"] == "HubSpot – Job Title"  # noqa: RUF001  # as it is made
    assert "hs_email_domain" not in titles  # S7: it is calculated.
    assert set(active["fields_asked"]["waiting"]) == set(titles)
    assert {each["source"]: each["standard"] for each in fields}["email"] == "email"
    assert await rows(sessions, "select * from sync.schedules") == []


async def test_nobody_maps_an_automatic_import(served: Served, api: httpx.AsyncClient) -> None:
    """Proves AC1."""
    importer = await make_importer(served, api)
    body = {"fields": [{"source": "email", "destination": "EMAIL"}]}

    saved = await api.put(f"{importer.path}/mapping", json=body, headers={"if-match": "*"})
    checked = await api.post(f"{importer.path}/mapping:check", json=body)

    assert (saved.status_code, checked.status_code) == (409, 409)
    assert saved.json()["code"] == "state_conflict"


async def test_a_destination_without_automatic_imports_is_refused(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves AC1: Brevo takes none; the checklist says so of one that was chosen before."""
    importer = await make_importer(served, api)
    brevo = await connect_brevo(api)

    refused = await api.patch(
        importer.path,
        json={"destination": {"connection_id": brevo}},
        headers={"if-match": "*"},
    )

    assert (refused.status_code, codes(refused)) == (422, ["no_automatic_imports"])
    assert "ActiveCampaign" in refused.json()["errors"][0]["detail"]


@pytest.mark.parametrize("minutes", [5, 29, 60])
async def test_the_interval_is_nobodys_choice(api: httpx.AsyncClient, minutes: int) -> None:
    """Proves AC2: every 30 minutes."""
    made = await api.post("/v1/integrations", json={"name": "one", "kind": "automatic"})
    path = f"/v1/integrations/{made.json()['id']}"

    refused = await api.patch(path, json={"interval_minutes": minutes}, headers={"if-match": "*"})
    same = await api.patch(path, json={"interval_minutes": 30}, headers={"if-match": "*"})

    assert (refused.status_code, codes(refused)) == (422, ["interval_fixed"])
    assert pointers(refused) == ["/interval_minutes"]
    assert made.json()["interval_minutes"] == same.json()["interval_minutes"] == 30


async def catalogue(api: httpx.AsyncClient) -> dict[str, Json]:
    return {each["id"]: each for each in (await api.get("/v1/providers")).json()["items"]}


async def test_more_than_two_automatic_imports_of_a_service_are_warned_of(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves AC4: counted for each external service, and never refused."""
    paths = [
        (await make_importer(served, api, f"Import {each}", seed=each)).path for each in (1, 2)
    ]
    two = await catalogue(api)
    third = await make_importer(served, api, "Import 3", seed=3)
    active = await activate(api, third)
    three = await catalogue(api)
    await api.delete(paths[0])
    left = await catalogue(api)

    assert (two["hubspot"]["automatic_imports"], two["hubspot"]["warnings"]) == (2, [])
    assert active["state"] == "active"
    assert three["hubspot"]["automatic_imports"] == 3
    [warning] = three["hubspot"]["warnings"]
    assert warning["code"] == "many_automatic_imports"
    assert "HubSpot has 3" in warning["detail"]
    assert three["activecampaign"]["takes_automatic_imports"]
    assert not three["brevo"]["takes_automatic_imports"]
    assert three["activecampaign"]["warnings"] == []
    assert (left["hubspot"]["automatic_imports"], left["hubspot"]["warnings"]) == (2, [])


async def test_it_is_edited_paused_and_deleted_at_any_time(
    served: Served, api: httpx.AsyncClient, sessions: SessionMaker
) -> None:
    """Proves AC7: also while its fields are being made."""
    importer = await make_importer(served, api)
    await activate(api, importer)

    renamed = await edit(api, "PATCH", importer.path, {"name": "Another", "default_country": "DE"})
    condition = {"field": "city", "operator": "equals", "value": "London"}
    criteria = {"match": "all", "conditions": [condition]}
    narrowed = await edit(api, "PATCH", importer.path, {"criteria": criteria})
    paused = await api.post(f"{importer.path}:pause")
    resumed = await api.post(f"{importer.path}:resume")
    deleted = await api.delete(importer.path)

    assert (renamed["name"], renamed["default_country"]) == ("Another", "DE")
    assert narrowed["criteria"] == criteria
    assert (paused.status_code, resumed.status_code, deleted.status_code) == (200, 200, 204)
    assert resumed.json()["state"] == "active"
    assert (await api.get(importer.path)).json()["state"] == "archived"
    assert await rows(sessions, "select * from sync.schedules") == []  # No field, no reading.


async def test_a_person_has_refused_fields_tried_again(
    served: Served, api: httpx.AsyncClient, sessions: SessionMaker
) -> None:
    """Proves AC1: what the destination refused is shown, and asked for once more by `:resume`."""
    importer = await make_importer(served, api)
    await activate(api, importer)
    async with sessions.begin() as session:
        await session.execute(
            text("update delivery.wanted_fields set refused = 'duplicate' where source = 'city'")
        )

    shown = (await api.get(importer.path)).json()["fields_asked"]
    await api.post(f"{importer.path}:pause")
    resumed = (await api.post(f"{importer.path}:resume")).json()["fields_asked"]

    assert shown["refused"] == {"city": "duplicate"}
    assert "city" not in shown["waiting"]
    assert (resumed["refused"], "city" in resumed["waiting"]) == ({}, True)
