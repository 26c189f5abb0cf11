"""Google Contacts through the wizard: its login, all contacts or a group, its fields."""

import httpx
from sqlalchemy import text

from tests.services.config_api.served import Served, connect_by_login, edit, grant

PROVIDER = "google_contacts"
EMAIL = "https://www.googleapis.com/auth/userinfo.email"


async def source_step(api: httpx.AsyncClient, path: str) -> list[str]:
    """Return what is open in the checklist's source step."""
    steps = (await api.get(f"{path}/checklist")).json()["steps"]
    [errors] = [each["errors"] for each in steps if each["step"] == "source"]
    return [each["code"] for each in errors]


async def test_an_account_is_connected_by_its_own_login(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves W2: also who connects once more is given a refresh token."""
    first = await connect_by_login(api, PROVIDER)
    second = await connect_by_login(api, PROVIDER)

    async with served.owner.begin() as session:
        kept = await session.scalar(
            text("select count(*) from config.connections where sealed_refresh_token is not null")
        )
    shown = [(await api.get(f"/v1/connections/{each}")).json() for each in (first, second)]
    assert kept == 2
    assert {each["state"] for each in shown} == {"connected"}
    assert {each["account_name"] for each in shown} == {"Google owner@example.com"}


async def test_all_contacts_or_a_group_may_be_chosen(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves W3: without a group the step is done; with one as well."""
    filled = await served.control(
        PROVIDER, "POST", "contacts:fill", {"count": 5, "seed": 1, "list": "Newsletter"}
    )
    connection = await connect_by_login(api, PROVIDER)
    lists = (await api.get(f"/v1/connections/{connection}/lists?object=contacts")).json()["items"]
    made = await api.post("/v1/integrations", json={"name": "one"})
    path = f"/v1/integrations/{made.json()['id']}"

    await edit(api, "PATCH", path, {"source": {"connection_id": connection, "object": "contacts"}})
    everyone = await source_step(api, path)
    await edit(api, "PATCH", path, {"source": {"list_id": filled["list_id"]}})
    group = await source_step(api, path)

    assert (everyone, group) == ([], [])
    assert (filled["list_id"], "Newsletter", 5) in [
        (each["id"], each["name"], each["size"]) for each in lists
    ]
    assert not {"All", "Blocked"} & {each["name"] for each in lists}


async def test_what_may_not_be_mapped_is_not_offered(api: httpx.AsyncClient) -> None:
    """Proves S6, S7 over the API: choices, yes/no, what Google makes itself."""
    connection = await connect_by_login(api, PROVIDER)
    path = f"/v1/connections/{connection}/fields?object=contacts&page_size=200"

    offered = {each["name"] for each in (await api.get(path)).json()["items"]}
    every = (await api.get(f"{path}&all=true")).json()["items"]

    reasons = {each["name"]: each["not_mappable_reason"] for each in every}
    assert offered >= {"email", "first_name", "mobile_phone", "home_city", "birthday"}
    assert not offered & {"gender", "current_organization", "updated_at", "memberships"}
    assert (reasons["gender"], reasons["photo"]) == ("category", "read_only")


async def test_who_unticks_the_right_to_contacts_is_told_so(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves W2, X1: the login succeeds, and nothing could be read with it."""
    await served.control(PROVIDER, "PUT", "settings", {"granted_scopes": [EMAIL, "openid"]})
    made = await api.post("/v1/connections", json={"provider": PROVIDER, "name": "Ours"})
    connection = made.json()["id"]
    asked = await api.post(f"/v1/connections/{connection}:authorize", json={})

    back = await api.get(await grant(asked.json()["authorize_url"]))

    assert back.status_code == 422, back.text
    assert "scope" in back.text
    assert (await api.get(f"/v1/connections/{connection}")).json()["state"] != "connected"
