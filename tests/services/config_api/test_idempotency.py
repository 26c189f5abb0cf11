"""A POST that is sent twice happens once."""

import asyncio

import httpx
import pytest
from sqlalchemy import text

from libs.common.database import SessionMaker
from tests.services.config_api.served import Served, connect_brevo

KEY = {"idempotency-key": "3f0a"}
NAME = {"name": "one"}


async def count(sessions: SessionMaker, table: str) -> int:
    async with sessions.begin() as session:
        return int(await session.scalar(text(f"select count(*) from config.{table}")))


async def test_the_same_request_again_gets_the_same_answer(
    api: httpx.AsyncClient, sessions: SessionMaker
) -> None:
    first = await api.post("/v1/integrations", json=NAME, headers=KEY)
    second = await api.post("/v1/integrations", json=NAME, headers=KEY)

    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert second.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert second.headers["location"] == first.headers["location"]
    assert await count(sessions, "integrations") == 1


async def test_another_body_under_the_same_key_is_refused(api: httpx.AsyncClient) -> None:
    await api.post("/v1/integrations", json=NAME, headers=KEY)

    answer = await api.post("/v1/integrations", json={"name": "two"}, headers=KEY)

    assert answer.status_code == 422
    assert answer.json()["code"] == "idempotency_key_reused"


async def test_keys_of_two_workspaces_have_nothing_to_do_with_each_other(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves X3."""
    await api.post("/v1/integrations", json=NAME, headers=KEY)
    other = await served.make_workspace(name="Other")

    async with served.caller(other["api_key"]["secret"]) as stranger:
        answer = await stranger.post("/v1/integrations", json={"name": "two"}, headers=KEY)

    assert answer.status_code == 201
    assert answer.json()["name"] == "two"


async def test_a_refused_request_may_be_mended_under_its_key(api: httpx.AsyncClient) -> None:
    refused = await api.post("/v1/integrations", json={"name": ""}, headers=KEY)

    answer = await api.post("/v1/integrations", json=NAME, headers=KEY)

    assert (refused.status_code, answer.status_code) == (422, 201)


@pytest.mark.parametrize("content", [b'{"provider": 5}', b'{"provider"', b"\xff"])
async def test_a_body_that_no_model_takes_may_be_mended_under_its_key_at_once(
    api: httpx.AsyncClient, content: bytes
) -> None:
    """Where a provider is called, too: nobody waits for a request that never began."""
    json = {"content-type": "application/json"}
    refused = await api.post("/v1/connections", content=content, headers=KEY | json)

    answer = await api.post(
        "/v1/connections", json={"provider": "hubspot", "name": "Our HubSpot"}, headers=KEY
    )

    assert (refused.is_client_error, answer.status_code) == (True, 201)


async def test_while_the_first_is_under_way_the_second_waits(
    api: httpx.AsyncClient, sessions: SessionMaker
) -> None:
    await api.post("/v1/integrations", json=NAME, headers=KEY)
    async with sessions.begin() as session:
        await session.execute(text("update config.idempotency_keys set status = null"))

    waiting = await api.post("/v1/integrations", json=NAME, headers=KEY)
    async with sessions.begin() as session:
        await session.execute(
            text("update config.idempotency_keys set created_at = now() - interval '3 minutes'")
        )
    abandoned = await api.post("/v1/integrations", json=NAME, headers=KEY)

    assert (waiting.status_code, waiting.json()["code"]) == (409, "request_under_way")
    assert waiting.headers["retry-after"] == "1"
    assert abandoned.status_code == 201


async def test_of_many_at_once_one_happens(api: httpx.AsyncClient, sessions: SessionMaker) -> None:
    answers = await asyncio.gather(
        *(api.post("/v1/integrations", json=NAME, headers=KEY) for _ in range(8))
    )

    assert {answer.status_code for answer in answers} <= {201, 409}
    assert await count(sessions, "integrations") == 1


async def test_a_key_is_forgotten_after_a_day(
    api: httpx.AsyncClient, sessions: SessionMaker
) -> None:
    await api.post("/v1/integrations", json=NAME, headers=KEY)
    async with sessions.begin() as session:
        await session.execute(
            text("update config.idempotency_keys set created_at = now() - interval '25 hours'")
        )

    answer = await api.post("/v1/integrations", json={"name": "two"}, headers=KEY)

    assert answer.status_code == 201


async def test_a_stored_answer_does_not_show_the_secret_in_it(
    api: httpx.AsyncClient, sessions: SessionMaker
) -> None:
    """Proves X4."""
    first = await api.post("/v1/api-keys", json=NAME, headers=KEY)
    second = await api.post("/v1/api-keys", json=NAME, headers=KEY)
    async with sessions.begin() as session:
        stored = await session.scalar(text("select sealed_body from config.idempotency_keys"))

    assert first.json()["secret"] == second.json()["secret"]
    assert stored.startswith("v1|")
    assert await count(sessions, "api_keys where workspace_id is not null") == 2


async def test_a_list_whose_making_was_lost_is_not_made_twice(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves X1: the same key repeats the answer that nobody knows what happened."""
    destination = await connect_brevo(api)
    path = f"/v1/connections/{destination}/lists"
    await served.fail("brevo", "POST", "/contacts/lists", kind="cut_after")

    lost = await api.post(path, json={"name": "News"}, headers=KEY)
    again = await api.post(path, json={"name": "News"}, headers=KEY)
    lists = (await api.get(path)).json()["items"]

    assert (lost.status_code, lost.json()["code"]) == (502, "provider_outcome_unknown")
    assert (again.status_code, again.headers["idempotency-replayed"]) == (502, "true")
    assert [each["name"] for each in lists].count("News") == 1


async def test_a_call_that_the_provider_did_not_take_may_be_repeated(
    served: Served, api: httpx.AsyncClient
) -> None:
    destination = await connect_brevo(api)
    path = f"/v1/connections/{destination}/lists"
    await served.fail("brevo", "POST", "/contacts/lists", kind="status", status=503)

    refused = await api.post(path, json={"name": "News"}, headers=KEY)
    answer = await api.post(path, json={"name": "News"}, headers=KEY)

    assert (refused.status_code, answer.status_code) == (502, 201)


@pytest.mark.parametrize("key", ["", "x" * 256, "a b"])
async def test_a_key_that_is_none_is_refused(api: httpx.AsyncClient, key: str) -> None:
    answer = await api.post("/v1/integrations", json=NAME, headers={"idempotency-key": key})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["parameter"] == "Idempotency-Key"
