"""Constant Contact through the wizard: its login, its lists and fields, one account once."""

from typing import Any

import httpx
import pytest
from sqlalchemy import text

from libs.common.clock import SystemClock
from libs.common.settings import NO_SECRET, Environment
from services.config_api.provider_accounts import ProviderAccounts
from services.config_api.settings import Settings
from tests.services.config_api.served import Served, codes, connect_by_login, edit, pointers

PROVIDER = "constant_contact"


async def new_draft(api: httpx.AsyncClient, name: str = "one") -> str:
    made = await api.post("/v1/integrations", json={"name": name})
    return f"/v1/integrations/{made.json()['id']}"


async def choose(api: httpx.AsyncClient, path: str, connection: str) -> httpx.Response:
    body = {"source": {"connection_id": connection}}
    return await api.patch(path, json=body, headers={"if-match": "*"})


async def source_step(api: httpx.AsyncClient, path: str) -> list[str]:
    """Return what is open in the checklist's source step."""
    steps = (await api.get(f"{path}/checklist")).json()["steps"]
    [errors] = [each["errors"] for each in steps if each["step"] == "source"]
    return [each["code"] for each in errors]


async def test_an_account_is_connected_by_its_own_login(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves W2 and W3: login, then the lists to choose from."""
    filled = await served.control(
        PROVIDER, "POST", "contacts:fill", {"count": 5, "seed": 1, "list": "Newsletter"}
    )

    connection = await connect_by_login(api, PROVIDER)
    shown = (await api.get(f"/v1/connections/{connection}")).json()
    lists = (await api.get(f"/v1/connections/{connection}/lists?object=contacts")).json()["items"]

    async with served.owner.begin() as session:
        kept = await session.scalar(
            text("select sealed_refresh_token is not null from config.connections")
        )

    assert shown["state"] == "connected"
    assert kept  # Only who asks for offline access is given one.
    assert shown["account_name"] == "Constant Contact Constant Contact sandbox"
    assert [(each["id"], each["size"]) for each in lists] == [(filled["list_id"], 5)]


async def test_what_may_not_be_mapped_is_not_offered(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves CC2, CC3, S6 over the API: dates, choices and fields of several values."""
    connection = await connect_by_login(api, PROVIDER)
    path = f"/v1/connections/{connection}/fields?object=contacts&page_size=200"

    offered = {each["label"] for each in (await api.get(path)).json()["items"]}
    every = (await api.get(f"{path}&all=true")).json()["items"]

    reasons = {each["label"]: each["not_mappable_reason"] for each in every}
    assert offered >= {"Email", "First name", "Phone", "Work city", "Hobby"}
    assert not offered & {"Birthday", "Anniversary", "Member since", "Fruit", "Phone numbers"}
    assert reasons["Member since"] == "unsupported_type"
    assert reasons["Phone numbers"] == "multiple_values"


async def test_a_list_must_be_chosen(served: Served, api: httpx.AsyncClient) -> None:
    """Proves W3: Constant Contact has no choice of all contacts."""
    filled = await served.control(
        PROVIDER, "POST", "contacts:fill", {"count": 1, "seed": 1, "list": "Newsletter"}
    )
    path = await new_draft(api)
    source = {"connection_id": await connect_by_login(api, PROVIDER), "object": "contacts"}

    await edit(api, "PATCH", path, {"source": source})
    without = await source_step(api, path)
    await edit(api, "PATCH", path, {"source": {**source, "list_id": filled["list_id"]}})

    assert without == ["source_list_missing"]
    assert await source_step(api, path) == []


async def test_an_account_can_be_added_once(served: Served, api: httpx.AsyncClient) -> None:
    """Proves CC1: also where the same account is connected once more; and says what to do."""
    first, second = await new_draft(api, "Our shop"), await new_draft(api, "two")
    await choose(api, first, await connect_by_login(api, PROVIDER))
    again = await connect_by_login(api, PROVIDER)

    refused = await choose(api, second, again)

    assert refused.status_code == 422
    assert (codes(refused), pointers(refused)) == (["account_in_use"], ["/source/connection_id"])
    words = refused.json()["errors"][0]["detail"]
    assert "“Our shop”" in words
    assert "choose another account" in words
    assert (await api.get(second)).json()["source"]["connection_id"] is None


async def test_another_account_or_a_deleted_integration_makes_room(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves CC1: it is about the account, and only about integrations that are there."""
    opened = await served.control(PROVIDER, "POST", "accounts", {"name": "second"})
    first, second, third = [await new_draft(api, name) for name in ("one", "two", "three")]
    mine = await connect_by_login(api, PROVIDER)
    other = await connect_by_login(api, PROVIDER, account=opened["account"])
    await choose(api, first, mine)

    elsewhere = await choose(api, second, other)
    tag = (await api.get(first)).headers["etag"]
    await api.delete(first, headers={"if-match": tag})
    freed = await choose(api, third, mine)

    assert (elsewhere.status_code, freed.status_code) == (200, 200)


async def test_of_two_that_chose_at_once_the_first_may_go_on(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves CC1: whatever slips through, two are never active."""
    first, second = await new_draft(api), await new_draft(api, "two")
    await choose(api, first, await connect_by_login(api, PROVIDER))
    async with served.owner.begin() as session:
        await session.execute(
            text(
                "update config.integrations set source_connection_id = (select max("
                "source_connection_id::text)::uuid from config.integrations)"
            )
        )

    assert "account_in_use" not in await source_step(api, first)
    assert "account_in_use" in await source_step(api, second)


async def test_an_account_of_a_provider_without_the_rule_may_be_used_again(
    api: httpx.AsyncClient,
) -> None:
    connection = await connect_by_login(api, "hubspot")
    first, second = await new_draft(api), await new_draft(api, "two")

    await edit(api, "PATCH", first, {"source": {"connection_id": connection}})
    await edit(api, "PATCH", second, {"source": {"connection_id": connection}})

    assert "account_in_use" not in await source_step(api, second)


@pytest.mark.parametrize(
    ("lifted", "most"), [({}, 1), ({PROVIDER: 3}, 3), ({PROVIDER: 0}, None), ({"hubspot": 2}, 1)]
)
def test_the_operator_may_lift_the_limit(
    served: Served, lifted: dict[str, int], most: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proves CC1 is a default: `integrations_per_account` lifts it."""
    accounts: Any = served.parts.accounts
    settings = Settings(
        database_url="postgresql://unused/unused",
        keys=NO_SECRET,
        environment=Environment.TEST,
        integrations_per_account=lifted,
        rate_limits=False,
    )

    wired = ProviderAccounts.wired(
        settings,
        http=accounts.opener.http,
        transactions=accounts.opener.transactions,
        secrets=accounts.opener.keys,
        clock=SystemClock(),
    )

    [facts] = [each for each in wired.catalogue if each.provider == PROVIDER]
    assert facts.integrations_per_account == most
