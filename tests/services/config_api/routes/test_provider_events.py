"""Events of providers: who is asked to send them, what they bring forward, and what is refused."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from libs.common.database import SessionMaker
from services.config_api.listening import arrange_missing, keep_arranged
from tests.services.config_api.routes.test_two_way import rows, salesforce_draft
from tests.services.config_api.served import BREVO_KEY, Draft, Served, config_api, edit

ADA = "ada@example.com"
SECONDS = 5.0


@pytest.fixture
async def served(role_url: Callable[[str], str], sessions: SessionMaker) -> AsyncIterator[Served]:
    """Return the API where providers can reach it."""
    async with config_api(role_url("api"), sessions, is_reachable=True) as running:
        yield running


async def both_ways(served: Served, api: httpx.AsyncClient) -> Draft:
    """Activate an integration that goes both ways; its runs are not due."""
    draft = await salesforce_draft(served, api)
    await edit(api, "PATCH", draft.path, {"two_way": True})
    await edit(api, "POST", f"{draft.path}:activate", {}, resource=draft.path)
    await rest(served)
    return draft


async def rest(served: Served) -> None:
    """Let the next runs be an hour away."""
    async with served.owner.begin() as session:
        await session.execute(text("update sync.schedules set next_due_at = now() + '1 hour'"))


async def webhooks(served: Served) -> list[dict[str, Any]]:
    state = await served.control("brevo", "GET", "state")
    return list(state["webhooks"])


async def delivered(served: Served, count: int) -> list[str]:
    """Return what the sandbox was answered, once it has sent so many events."""
    async with asyncio.timeout(SECONDS):
        while True:
            found = [each for webhook in await webhooks(served) for each in webhook["deliveries"]]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.02)


async def due(served: Served) -> list[dict[str, Any]]:
    """Return by provider whether its integration is due within seconds, and all members wanted."""
    return await rows(
        served,
        "select provider, next_due_at < now() + '10 seconds' as is_due,"
        " members_wanted_at is not null as wants_members from sync.schedules order by provider",
    )


async def link(served: Served, email: str) -> None:
    """Link somebody, as the way there does."""
    async with served.owner.begin() as session:
        await session.execute(
            text(
                "insert into delivery.links (integration_id, source_id, workspace_id, identity,"
                " email, version_ms, run_no, operation, state)"
                " select integration_id, '1', workspace_id, :email, :email, 1, 1, 'upsert',"
                " 'linked' from config.integrations where way_back_of is null"
            ),
            {"email": email},
        )


async def upsert(served: Served, **attributes: object) -> int:
    wanted = {"contacts": [{"attributes": attributes}]}
    told = await served.control("brevo", "POST", "contacts:upsert", wanted)
    return int(told["ids"][0])


async def test_edits_are_told_while_somebody_reads_them(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves SF3: one subscription an account, from the activation to the end."""
    draft = await salesforce_draft(served, api)
    await edit(api, "PATCH", draft.path, {"two_way": True})
    assert await webhooks(served) == []

    await edit(api, "POST", f"{draft.path}:activate", {}, resource=draft.path)
    await edit(api, "PATCH", draft.path, {"interval_minutes": 60})
    [webhook] = await webhooks(served)
    [kept] = await rows(served, "select * from config.event_subscriptions")
    assert webhook["events"] == ["contactUpdated", "contactDeleted", "unsubscribed"]
    assert (webhook["url"], str(webhook["id"])) == (kept["url"], kept["remote_id"])
    # Only the provider has the token (X4).
    assert webhook["auth"]["token"].encode() not in bytes(kept["token_sha256"])

    await edit(api, "PATCH", draft.path, {"two_way": False})
    assert await webhooks(served) == []
    await edit(api, "PATCH", draft.path, {"two_way": True})
    assert len(await webhooks(served)) == 1
    await api.delete(draft.path)
    assert await webhooks(served) == []
    assert await rows(served, "select * from config.event_subscriptions") == []


async def test_a_provider_that_cannot_be_asked_holds_nothing_up(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves X1: without events edits are read at the interval; the next change asks again."""
    draft = await salesforce_draft(served, api)
    await edit(api, "PATCH", draft.path, {"two_way": True})
    await served.fail("brevo", "POST", "/v3/webhooks", kind="status", status=500)

    shown = await edit(api, "POST", f"{draft.path}:activate", {}, resource=draft.path)

    assert shown["state"] == "active"
    assert await webhooks(served) == []
    await edit(api, "PATCH", draft.path, {"interval_minutes": 60})
    assert len(await webhooks(served)) == 1


async def test_what_a_lost_answer_left_behind_is_removed(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves SF3: of two webhooks to one address the one whose token nobody has goes."""
    await both_ways(served, api)
    [first] = await webhooks(served)
    async with served.owner.begin() as session:
        await session.execute(text("delete from config.event_subscriptions"))

    path = (await api.get("/v1/integrations")).json()["items"][0]["id"]
    await edit(api, "PATCH", f"/v1/integrations/{path}", {"interval_minutes": 60})

    [second] = await webhooks(served)
    assert (second["url"], second["id"]) == (first["url"], first["id"] + 1)


async def test_an_edit_there_brings_the_next_read_forward(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves SF3: of the way back alone; members need not be read for it."""
    contact = await upsert(served, EMAIL=ADA, FIRSTNAME="Ada")
    await both_ways(served, api)
    await link(served, ADA)

    changed = {"contacts": [{"id": contact, "attributes": {"FIRSTNAME": "Augusta"}}]}
    await served.control("brevo", "POST", "contacts:upsert", changed)

    assert await delivered(served, 1) == ["contact_updated HTTP 204"]
    assert await due(served) == [
        {"provider": "brevo", "is_due": True, "wants_members": False},
        {"provider": "salesforce", "is_due": False, "wants_members": False},
    ]


@pytest.mark.parametrize("is_linked", [True, False])
async def test_a_deletion_there_has_all_members_read(
    served: Served, api: httpx.AsyncClient, is_linked: bool
) -> None:
    """Proves SF9: of somebody who is linked; a stranger's deletion costs one read of changes."""
    contact = await upsert(served, EMAIL="Ada@Example.com")
    await both_ways(served, api)
    if is_linked:
        await link(served, ADA)

    await served.control("brevo", "POST", "contacts:delete", {"ids": [contact]})

    assert await delivered(served, 1) == ["contact_deleted HTTP 204"]
    assert (await due(served))[0] == {
        "provider": "brevo",
        "is_due": True,
        "wants_members": is_linked,
    }


async def test_who_unsubscribes_is_a_hint_like_any(served: Served, api: httpx.AsyncClient) -> None:
    """Proves S3: something is read, and consent is nothing that is."""
    await upsert(served, EMAIL=ADA)
    await both_ways(served, api)

    await served.control("brevo", "POST", "contacts:block", {"emails": [ADA]})

    assert await delivered(served, 1) == ["unsubscribe HTTP 204"]
    assert (await due(served))[0]["is_due"]


async def test_a_run_that_was_put_off_stays_so(served: Served, api: httpx.AsyncClient) -> None:
    """Proves S10: events do not hurry a provider that has asked to be left alone."""
    await upsert(served, EMAIL=ADA)
    await both_ways(served, api)
    async with served.owner.begin() as session:
        await session.execute(text("update sync.schedules set resume_at = now() + '1 hour'"))

    await served.control("brevo", "POST", "contacts:block", {"emails": [ADA]})
    await delivered(served, 1)

    [row] = await rows(
        served,
        "select resume_at > now() + '50 minutes' as rests from sync.schedules"
        " where provider = 'brevo'",
    )
    assert row["rests"]


async def test_only_who_has_the_token_brings_anything_forward(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves X3: neither guessing, nor another account's token, nor an end that nobody wants."""
    await both_ways(served, api)
    [webhook] = await webhooks(served)
    path = "/v1/provider-events/" + webhook["url"].partition("/v1/provider-events/")[2]
    event = {"event": "contact_deleted", "email": [ADA]}
    right = {"authorization": f"Bearer {webhook['auth']['token']}"}
    elsewhere = "/v1/provider-events/brevo/con_" + "0" * 32

    async with served.caller() as stranger:
        refused = [
            await stranger.post(path, json=event),
            await stranger.post(path, json=event, headers={"authorization": "Bearer guessed"}),
            await stranger.post(elsewhere, json=event, headers=right),
            await stranger.post(path.replace("brevo", "hubspot"), json=event, headers=right),
            await stranger.post(path, content=b"not json", headers=right),
            await stranger.post(path, json=[event, {"event": 1}], headers=right),
        ]
        assert not any(each["is_due"] for each in await due(served))
        unknown = await stranger.post(path, json={"event": "opened"}, headers=right)
        assert not any(each["is_due"] for each in await due(served))
        taken = await stranger.post(path, json=[event], headers=right)

    assert [each.status_code for each in refused] == [401, 401, 401, 404, 422, 422]
    assert (unknown.status_code, taken.status_code) == (204, 204)
    assert (await due(served))[0]["is_due"]


async def test_integrations_that_went_both_ways_before_are_told_of_edits_as_well(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves SF3: without anybody's change, once, and whatever process looks."""
    contact = await upsert(served, EMAIL=ADA, FIRSTNAME="Ada")
    await both_ways(served, api)
    await forget_events(served)

    counts = await asyncio.gather(*(arrange_missing(served.parts) for _ in range(3)))
    counts.append(await arrange_missing(served.parts))

    assert sorted(counts) == [0, 0, 0, 1]
    assert len(await webhooks(served)) == 1
    changed = {"contacts": [{"id": contact, "attributes": {"FIRSTNAME": "Augusta"}}]}
    await served.control("brevo", "POST", "contacts:upsert", changed)
    assert await delivered(served, 1) == ["contact_updated HTTP 204"]


async def test_only_accounts_whose_edits_are_read_are_asked(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves SF3, X3: no draft, nobody's who is deleted or goes one way, and no lost login."""
    draft = await salesforce_draft(served, api)
    await edit(api, "PATCH", draft.path, {"two_way": True})
    as_draft = await arrange_missing(served.parts)
    await edit(api, "POST", f"{draft.path}:activate", {}, resource=draft.path)
    await forget_events(served)
    async with served.owner.begin() as session:
        await session.execute(text("update config.connections set state = 'needs_reauth'"))
    logged_out = await arrange_missing(served.parts)
    async with served.owner.begin() as session:
        await session.execute(text("update config.connections set state = 'connected'"))
    await edit(api, "PATCH", draft.path, {"two_way": False})
    one_way = await arrange_missing(served.parts)

    assert (as_draft, logged_out, one_way) == (0, 0, 0)
    assert await webhooks(served) == []


async def test_an_account_that_cannot_be_asked_is_asked_again_later(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves SF3, X1: not at every look, and not never."""
    await both_ways(served, api)
    await forget_events(served)
    await served.fail("brevo", "POST", "/v3/webhooks", kind="status", status=500)

    refused, at_once = [await arrange_missing(served.parts) for _ in range(2)]
    webhooks_then = await webhooks(served)
    async with served.owner.begin() as session:
        await session.execute(
            text(
                "update config.connections"
                " set events_tried_at = events_tried_at - interval '2 hours'"
            )
        )
    later = await arrange_missing(served.parts)

    assert (refused, at_once, later) == (1, 0, 1)
    assert webhooks_then == []
    assert len(await webhooks(served)) == 1


async def test_another_public_address_is_told_to_the_accounts(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves SF3: events would go where nobody listens any more."""
    await both_ways(served, api)
    moved = "https://moved.example/v1/provider-events"
    parts = replace(served.parts, addresses=replace(served.parts.addresses, events_url=moved))

    assert await arrange_missing(served.parts) == 0
    assert await arrange_missing(parts) == 1

    [kept] = await rows(served, "select url from config.event_subscriptions")
    assert kept["url"].startswith(f"{moved}/brevo/")
    assert [each["url"] for each in await webhooks(served)] == [kept["url"]]


async def test_what_is_missing_is_arranged_until_told_to_stop(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves SF3: the process does it beside its routes, and ends with them."""
    await both_ways(served, api)
    await forget_events(served)
    stop = asyncio.Event()
    keeping = asyncio.create_task(keep_arranged(served.parts, stop))

    async with asyncio.timeout(SECONDS):
        while not await webhooks(served):  # noqa: ASYNC110  # it must be asked
            await asyncio.sleep(0.02)
        stop.set()
        await keeping


async def forget_events(served: Served) -> None:
    """Let it be as before there were events: nothing is sent, and nobody has asked for it."""
    for webhook in await webhooks(served):
        async with httpx.AsyncClient(base_url=served.providers["brevo"]) as client:
            ended = await client.delete(
                f"/v3/webhooks/{webhook['id']}", headers={"api-key": BREVO_KEY}
            )
        assert ended.is_success
    async with served.owner.begin() as session:
        await session.execute(text("delete from config.event_subscriptions"))
