"""/v1/connections: lists, fields, and what is made in place."""

import httpx
import pytest

from tests.services.config_api.served import Served, codes, connect_brevo, connect_hubspot


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
    assert made.json()["id"] in {each["id"] for each in lists}


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
