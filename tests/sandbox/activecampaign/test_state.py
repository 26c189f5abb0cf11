"""Accounts, keys, limits and the control interface."""

from typing import Any

import httpx
import pytest

from tests.sandbox.activecampaign.served import ActiveCampaign


async def test_five_calls_a_second_are_the_accounts_over_all_its_keys(
    limited: ActiveCampaign,
) -> None:
    other = (await limited.control("POST", "keys"))["api_key"]

    answers = [await limited.ask("GET", "/users/me") for _ in range(3)]
    answers += [await limited.ask("GET", "/users/me", key=other) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert answers[-1].headers["retry-after"] == "30"
    assert answers[-1].headers["ratelimit-limit"] == "5"
    await limited.control("PUT", "clock", {"advance_s": 1})
    assert (await limited.ask("GET", "/users/me")).status_code == 200
    assert answers[4].json()["user"]["id"] == "2"
    assert (await limited.control("GET", "calls"))["violations_by_bucket"] == {"api": 1}


async def test_a_key_that_is_none_is_forbidden(ac: ActiveCampaign) -> None:
    unknown = await ac.ask("GET", "/lists", key="unknown")
    await ac.settings(key_enabled=False)
    taken_back = await ac.ask("GET", "/lists")

    assert (unknown.status_code, taken_back.status_code) == (403, 403)


async def test_a_right_that_is_missing_is_told_as_plain_text(ac: ActiveCampaign) -> None:
    await ac.settings(may_manage_lists=False)

    answer = await ac.ask("GET", "/lists")

    assert answer.status_code == 403
    assert answer.headers["content-type"] == "text/plain"
    assert answer.json()["errors"][0]["title"] == "Forbidden"


async def test_an_account_of_its_own_answers_to_its_own_key(ac: ActiveCampaign) -> None:
    opened = await ac.control("POST", "accounts", {"name": "second"})

    me = (await ac.ask("GET", "/users/me", key=opened["api_key"])).json()["user"]

    assert opened["account_url"] == "https://second.api-us1.com"
    assert me["links"]["lists"].startswith("https://second.api-us1.com/api/3/users/1/")


@pytest.mark.parametrize(
    ("method", "path", "body", "told"),
    [
        ("POST", "accounts", {"name": "Not Small"}, "small letters"),
        ("POST", "accounts", {"name": "default"}, "already"),
        ("POST", "accounts", {"name": "x", "tier": "y"}, "nothing else"),
        ("POST", "contacts:delete", {"ids": [9]}, "no contact 9"),
        ("POST", "contacts:delete", {"count": 9}, "only 0 contacts"),
        ("POST", "contacts:change", {}, "one of count and share"),
        ("POST", "contacts:block", {"emails": ["a@example.com"]}, "no contact a@example.com"),
        ("POST", "contacts:block", {"emails": [], "list": "None"}, "no list None"),
        ("POST", "contacts:upsert", {"contacts": [{}]}, "an id or an email"),
        ("POST", "contacts:upsert",
         {"contacts": [{"email": "a@example.com", "attributes": {"X": "1"}}]}, "no field X"),
    ],
)  # fmt: skip
async def test_a_control_call_that_cannot_be_says_why(
    ac: ActiveCampaign, method: str, path: str, body: Any, told: str
) -> None:
    answer = await ac.http.request(method, f"/_sandbox/{path}", json=body)

    assert answer.status_code == 400
    assert told in answer.json()["error"]


async def test_people_are_filled_in_changed_and_deleted(ac: ActiveCampaign) -> None:
    told = await ac.control(
        "POST", "contacts:fill", {"count": 30, "list": "News", "invalid_share": 0.2}
    )
    again = await ac.control("POST", "contacts:fill", {"count": 30, "invalid_share": 0.2})
    changed = await ac.control("POST", "contacts:change", {"count": 3})
    moved = await ac.control("POST", "contacts:change", {"ids": told["ids"][:1], "kind": "email"})
    gone = await ac.control("POST", "contacts:delete", {"count": 2})
    state = await ac.whole()

    assert again["ids"] == told["ids"]
    assert set(told["invalid_ids"]) == {"malformed_email", "short_phone"}
    assert told["count"] == 28
    by_id = {each["id"]: each for each in state["contacts"]}
    for each in set(changed["ids"]) - set(gone["ids"]):
        assert by_id[each]["attributes"]["FIRSTNAME"].startswith("Changed")
    if moved["ids"][0] in by_id:
        assert by_id[moved["ids"][0]]["email"].startswith("changed.")
    assert len(state["lists"][1]["members"]) == len(by_id) == 26
    assert state["triggered"] == {}


async def test_members_join_and_leave(ac: ActiveCampaign) -> None:
    contact = await ac.put("a@example.com")

    await ac.control("POST", "lists/1:join", {"ids": [contact]})
    joined = (await ac.whole())["lists"][0]["members"]
    await ac.control("POST", "lists/1:leave", {"ids": [contact]})

    assert joined == [contact]
    assert (await ac.whole())["lists"][0]["members"] == []


async def test_a_fault_answers_as_the_service_would(ac: ActiveCampaign) -> None:
    await ac.control("PUT", "faults", [{"kind": "throttle", "times": 1}])
    throttled = await ac.ask("GET", "/lists")
    await ac.control("PUT", "faults", [{"kind": "status", "status": 503}])
    down = await ac.ask("GET", "/lists")

    assert (throttled.status_code, throttled.headers["retry-after"]) == (429, "30")
    assert (down.status_code, down.json()) == (503, {"message": "Service Unavailable"})


async def test_a_reset_leaves_nothing(ac: ActiveCampaign) -> None:
    await ac.put("a@example.com")
    await ac.control("POST", "reset", {})

    answer: httpx.Response = await ac.ask("GET", "/contacts")

    assert answer.json()["contacts"] == []


async def test_a_full_account_may_be_told_to_refuse(ac: ActiveCampaign) -> None:
    await ac.settings(contact_limit=0)
    added = await ac.ask("POST", "/contact/sync", {"contact": {"email": "a@example.com"}})
    await ac.settings(adds_over_limit=False)
    refused = await ac.ask("POST", "/contact/sync", {"contact": {"email": "b@example.com"}})

    assert (added.status_code, refused.status_code) == (201, 403)
