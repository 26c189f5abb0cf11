"""/v1/connections: lists, fields, and what is made in place."""

import httpx
import pytest

from tests.services.config_api.served import (
    BREVO_KEY,
    Served,
    codes,
    connect_brevo,
    connect_hubspot,
    grant,
    pointers,
)


async def test_connections_are_listed_page_by_page(api: httpx.AsyncClient) -> None:
    names = ["a", "b", "c"]
    for name in names:
        await api.post("/v1/connections", json={"provider": "hubspot", "name": name})

    first = await api.get("/v1/connections?page_size=2")
    second = await api.get(first.headers["link"].partition(">")[0].lstrip("<"))
    other = await api.get("/v1/connections?provider=brevo")

    shown = [each["name"] for page in (first, second) for each in page.json()["items"]]
    assert shown == names
    assert first.headers["link"].endswith('rel="next"')
    assert second.json()["next_page_token"] is None
    assert "link" not in second.headers
    assert other.json()["items"] == []


async def test_a_connection_gets_another_name(api: httpx.AsyncClient) -> None:
    connection = await connect_brevo(api)

    changed = await api.patch(f"/v1/connections/{connection}", json={"name": "Mail"})

    assert changed.json()["name"] == "Mail"
    assert (await api.get(f"/v1/connections/{connection}")).json()["name"] == "Mail"


async def test_the_accounts_subscription_is_set_and_kept(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves HS1: calls a day go by a subscription that people name; HubSpot does not tell it."""
    catalogue = {each["id"]: each for each in (await api.get("/v1/providers")).json()["items"]}
    connection = await connect_hubspot(api)
    path = f"/v1/connections/{connection}"
    assumed = (await api.get(path)).json()["tier"]

    changed = await api.patch(path, json={"tier": "professional"})
    again = await api.post(f"{path}:reauthorize", json={})
    await api.get(await grant(again.json()["authorize_url"]))

    calls = {each["tier"]: each["per_day"] for each in catalogue["hubspot"]["limits"]}
    assert catalogue["hubspot"]["tiers"] == ["free", "starter", "professional", "enterprise"]
    assert assumed is None
    assert calls[""] == calls["starter"] == 250_000
    assert calls[changed.json()["tier"]] == 500_000
    assert changed.json()["name"] == "Our HubSpot"
    assert (await api.get(path)).json()["tier"] == "professional"
    assert (await api.patch(path, json={"tier": None})).json()["tier"] is None


async def test_a_connection_is_made_with_its_accounts_subscription(api: httpx.AsyncClient) -> None:
    """Proves S10 in part."""
    wanted = {"provider": "brevo", "name": "Our Brevo", "api_key": BREVO_KEY, "tier": "advanced"}

    made = await api.post("/v1/connections", json=wanted)

    assert (made.status_code, made.json()["tier"]) == (201, "advanced")


async def test_an_unknown_subscription_is_refused(api: httpx.AsyncClient) -> None:
    connection = await connect_brevo(api)
    wanted = {"provider": "brevo", "name": "Our Brevo", "api_key": BREVO_KEY, "tier": "gold"}

    made = await api.post("/v1/connections", json=wanted)
    changed = await api.patch(f"/v1/connections/{connection}", json={"name": "n", "tier": ""})

    for refused in (made, changed):
        assert (refused.status_code, codes(refused)) == (422, ["unknown_tier"])
        assert pointers(refused) == ["/tier"]
        assert refused.json()["detail"].endswith("general, advanced, extended.")
    assert (await api.get(f"/v1/connections/{connection}")).json()["name"] == "Our Brevo"
    assert codes(await api.patch(f"/v1/connections/{connection}", json={"name": None})) == [
        "null_not_allowed"
    ]


async def test_the_sources_lists_are_those_of_an_object(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves W3."""
    await served.control(
        "hubspot", "POST", "contacts:fill", {"count": 5, "seed": 1, "list": "Newsletter"}
    )
    connection = await connect_hubspot(api)

    lists = (await api.get(f"/v1/connections/{connection}/lists?object=contacts")).json()["items"]
    usual = (await api.get(f"/v1/connections/{connection}/lists")).json()["items"]
    unknown = await api.get(f"/v1/connections/{connection}/lists?object=rockets")

    assert [each["name"] for each in lists if each["name"] == "Newsletter"] == ["Newsletter"]
    assert usual == lists
    assert codes(unknown) == ["unknown_object"]


async def test_a_list_is_created_in_place(api: httpx.AsyncClient) -> None:
    """Proves W6."""
    connection = await connect_brevo(api)

    made = await api.post(f"/v1/connections/{connection}/lists", json={"name": "From HubSpot"})

    lists = (await api.get(f"/v1/connections/{connection}/lists")).json()["items"]
    assert made.status_code == 201
    assert {each["id"]: each["name"] for each in lists}[made.json()["id"]] == "From HubSpot"


async def test_only_fields_that_can_be_mapped_are_offered(api: httpx.AsyncClient) -> None:
    """Proves S6 and S7."""
    connection = await connect_hubspot(api)

    offered = (await api.get(f"/v1/connections/{connection}/fields?page_size=200")).json()["items"]
    whole = (await api.get(f"/v1/connections/{connection}/fields?all=true&page_size=200")).json()[
        "items"
    ]

    assert all(each["mappable"] and each["not_mappable_reason"] is None for each in offered)
    assert {"boolean", "category", "multiple_choice"}.isdisjoint(each["type"] for each in offered)
    assert "email" in {each["name"] for each in offered}
    reasons = {each["not_mappable_reason"] for each in whole}
    assert {"boolean", "category", "read_only", "calculated"} & reasons
    assert len(whole) > len(offered)


async def test_an_attribute_is_created_in_place(api: httpx.AsyncClient) -> None:
    """Proves W6."""
    connection = await connect_brevo(api)

    made = await api.post(
        f"/v1/connections/{connection}/fields", json={"name": "LIFETIME", "type": "number"}
    )
    again = await api.post(
        f"/v1/connections/{connection}/fields", json={"name": "LIFETIME", "type": "number"}
    )

    fields = (await api.get(f"/v1/connections/{connection}/fields?page_size=200")).json()["items"]
    assert (made.status_code, again.status_code) == (201, 201)
    assert ("LIFETIME", "number") in {(each["name"], each["type"]) for each in fields}


async def test_a_made_attribute_is_named_as_a_mapping_takes_it(api: httpx.AsyncClient) -> None:
    """Proves W5."""
    connection = await connect_brevo(api)
    path = f"/v1/connections/{connection}/fields"

    made = await api.post(path, json={"name": "Shoe_Size", "type": "number"})

    offered = (await api.get(f"{path}?page_size=200")).json()["items"]
    assert made.json()["name"] in {each["name"] for each in offered}


@pytest.mark.parametrize(
    ("path", "body"),
    [("lists", {"name": "News"}), ("fields", {"name": "A", "type": "text"})],
)
async def test_nothing_is_created_at_a_source(
    api: httpx.AsyncClient, path: str, body: dict[str, str]
) -> None:
    """Proves S2."""
    connection = await connect_hubspot(api)

    answer = await api.post(f"/v1/connections/{connection}/{path}", json=body)

    assert codes(answer) == ["no_destination"]


async def test_a_connection_that_is_used_stays(api: httpx.AsyncClient) -> None:
    connection = await connect_hubspot(api)
    made = await api.post("/v1/integrations", json={"name": "one"})
    path = f"/v1/integrations/{made.json()['id']}"
    await api.patch(path, json={"source": {"connection_id": connection}}, headers={"if-match": "*"})

    refused = await api.delete(f"/v1/connections/{connection}")
    await api.delete(path)
    done = await api.delete(f"/v1/connections/{connection}")

    assert (refused.status_code, refused.json()["code"]) == (409, "connection_in_use")
    assert refused.json()["integrations"] == [made.json()["id"]]
    assert done.status_code == 204
    assert (await api.get(f"/v1/connections/{connection}")).status_code == 404


async def test_an_id_that_is_none_is_not_found(api: httpx.AsyncClient) -> None:
    assert (await api.get("/v1/connections/con_1")).status_code == 404
    assert (await api.get("/v1/connections/" + "0" * 32)).status_code == 404
