"""Whose key it is, and where events would be sent."""

from typing import Any

import pytest

from tests.sandbox.brevo.served import Brevo, refusal

HOOK = {"url": "https://example.org/hook", "events": ["contactUpdated"], "type": "marketing"}


async def test_an_account_says_whose_it_is_and_keeps_its_id(brevo: Brevo) -> None:
    account = await brevo.get("/account")
    await brevo.control("POST", "reset")

    again = await brevo.get("/account")

    assert account["organization_id"] == again["organization_id"]
    assert account["email"] == "owner@default.example.com"
    assert account["plan"][0]["creditsType"] == "sendLimit"
    assert account["relay"]["data"]["port"] == 587


async def test_webhooks_are_made_read_changed_and_deleted(brevo: Brevo) -> None:
    more = {"description": "sync", "batched": True, "auth": {"type": "bearer", "token": "t"}}
    headers = [{"key": "x-k", "value": "v"}]

    made = await brevo.ask("POST", "/webhooks", {**HOOK, **more, "headers": headers})
    read = await brevo.get("/webhooks/1")
    changed = await brevo.ask(
        "PUT", "/webhooks/1", {"events": ["contactDeleted"], "url": "http://x"}
    )
    listed = await brevo.get("/webhooks", type="marketing")
    deleted = await brevo.ask("DELETE", "/webhooks/1")

    assert (made.status_code, made.json()) == (201, {"id": 1})
    assert {**HOOK, **more, "headers": headers}.items() <= read.items()
    assert read["channel"] == "email"
    assert (changed.status_code, deleted.status_code) == (204, 204)
    [webhook] = listed["webhooks"]
    assert (webhook["events"], webhook["url"]) == (["contactDeleted"], "http://x")
    assert webhook["createdAt"] == read["createdAt"]
    for method, body in [("GET", None), ("PUT", HOOK), ("DELETE", None)]:
        answer = await brevo.ask(method, "/webhooks/1", body)
        assert refusal(answer)[:2] == (404, "document_not_found")


async def test_no_webhooks_of_a_type_are_an_error_and_transactional_is_the_default(
    brevo: Brevo,
) -> None:
    await brevo.ask("POST", "/webhooks", HOOK)

    answer = await brevo.ask("GET", "/webhooks")
    await brevo.ask("POST", "/webhooks", {"url": "https://a.example", "events": ["sent"]})
    inbound = {"events": ["inboundEmailProcessed"], "type": "inbound", "domain": "in.example.org"}
    await brevo.ask("POST", "/webhooks", {**HOOK, **inbound})

    assert refusal(answer)[:2] == (400, "document_not_found")
    assert [each["id"] for each in (await brevo.get("/webhooks"))["webhooks"]] == [2]
    [shown] = (await brevo.get("/webhooks", type="inbound"))["webhooks"]
    assert shown["domain"] == "in.example.org"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"url": None}, "missing_parameter"),
        ({"events": []}, "missing_parameter"),
        ({"events": ["contactCreated"]}, "invalid_parameter"),
        ({"type": "transactional"}, "invalid_parameter"),
        ({"type": "other"}, "invalid_parameter"),
        ({"channel": "pigeon"}, "invalid_parameter"),
        ({"url": "ftp://example.org"}, "invalid_parameter"),
        ({"type": "inbound", "events": ["inboundEmailProcessed"]}, "missing_parameter"),
    ],
)
async def test_a_webhook_that_cannot_be_is_refused(
    brevo: Brevo, change: dict[str, Any], code: str
) -> None:
    answer = await brevo.ask("POST", "/webhooks", {**HOOK, **change})

    assert refusal(answer)[:2] == (400, code)


async def test_an_empty_change_of_a_webhook_is_refused(brevo: Brevo) -> None:
    await brevo.ask("POST", "/webhooks", HOOK)

    assert refusal(await brevo.ask("PUT", "/webhooks/1", {}))[0] == 400
    assert refusal(await brevo.ask("PUT", "/webhooks/1", {"events": []}))[0] == 400
    assert refusal(await brevo.ask("GET", "/webhooks/one"))[0] == 400


async def test_an_account_has_forty_webhooks_at_most(brevo: Brevo) -> None:
    answers = [await brevo.ask("POST", "/webhooks", HOOK) for _ in range(41)]

    assert [each.status_code for each in answers] == [201] * 40 + [400]
