"""Constant Contact's limits, and its part of the control interface."""

from random import Random
from typing import Any

import httpx
import pytest

from sandbox.constant_contact.app import create_app
from sandbox.constant_contact.state import State
from tests.sandbox.constant_contact.served import AUTHORIZED, Served


async def statuses(strict: Served, count: int) -> list[int]:
    calls = [await strict.http.get("/v3/account/user/privileges") for _ in range(count)]
    return [each.status_code for each in calls]


async def test_the_fifth_call_in_a_second_is_over_the_limit(strict: Served) -> None:
    at_once = await statuses(strict, 5)
    refused = await strict.http.get("/v3/contacts")
    strict.time.now_s += 1
    later = await statuses(strict, 4)

    assert at_once == [200, 200, 200, 200, 429]
    assert refused.json() == {"error_key": "throttled", "error_message": "Too Many Requests"}
    assert "retry-after" not in refused.headers
    assert later == [200] * 4
    calls = await strict.control("GET", "calls")
    assert calls["violations_by_bucket"] == {"per_second": 2}


async def test_the_day_ends_at_midnight_utc(strict: Served) -> None:
    await strict.control("PUT", "limits", {"per_second": {"limit": 20_000, "window_s": 1}})
    for _ in range(10_000):
        assert not strict.state.limits.take("daily")

    over = await strict.http.get("/v3/contacts")
    strict.time.now_s += 35_199  # 23:59:59 UTC.
    still_over = await strict.http.get("/v3/contacts")
    strict.time.now_s += 1
    next_day = await strict.http.get("/v3/contacts")

    assert over.json() == {"error_key": "quota_exceeded", "error_message": "Limit Exceeded"}
    assert (over.status_code, still_over.status_code, next_day.status_code) == (429, 429, 200)


async def test_limits_are_the_applications_so_all_accounts_share_them(strict: Served) -> None:
    other = await strict.control("POST", "accounts", {"name": "second"})
    headers = {"authorization": f"Bearer {other['access_token']}"}
    await statuses(strict, 4)

    answer = await strict.http.get("/v3/contacts", headers=headers)

    assert answer.status_code == 429
    assert (await strict.http.get("/_sandbox/calls?account=" + other["account"])).json()[
        "violations"
    ] == 1


async def test_each_application_has_limits_of_its_own(strict: Served) -> None:
    """Rate limits page: 4 a second and 10,000 a day for an API key."""
    own = {"client_id": "own", "client_secret": "s"}
    await strict.control("POST", "applications", own)
    token = strict.state.tokens.issue(
        strict.state.default.id, ("contact_data",), expires_s=float("inf"), client_id="own"
    ).token
    headers = {"authorization": f"Bearer {token}"}
    await statuses(strict, 4)

    theirs = [await strict.http.get("/v3/contacts", headers=headers) for _ in range(5)]
    again = await strict.http.post("/_sandbox/applications", json=own)

    assert [each.status_code for each in theirs] == [200, 200, 200, 200, 429]
    assert again.status_code == 400


async def test_accounts_have_contacts_of_their_own(served: Served) -> None:
    await served.fill(2)
    other = await served.control("POST", "accounts", {"name": "second"})
    headers = {"authorization": f"Bearer {other['access_token']}"}

    theirs = (await served.http.get("/v3/contacts", headers=headers)).json()["contacts"]

    assert theirs == []
    assert len(await served.ids()) == 2


async def test_one_seed_gives_the_same_people_and_ids(served: Served) -> None:
    first = await served.fill(20, list="Newsletter", invalid_share=0.2)
    state = await served.control("GET", "state")
    await served.control("POST", "reset", {"seed": 1})
    await served.control("PUT", "limits", {"enabled": False})
    again = await served.fill(20, list="Newsletter", invalid_share=0.2)

    assert first == again
    assert (await served.control("GET", "state"))["contacts"] == state["contacts"]
    assert len(state["invalid_ids"]) == 4
    assert state["lists"][0]["members"] == first


async def test_contacts_are_changed_moved_and_put_as_told(served: Served) -> None:
    ids = await served.fill(4, list="Newsletter")
    served.time.now_s += 5
    await served.control("POST", "contacts:change", {"count": 2})
    await served.control("POST", "contacts:change", {"ids": ids[:1], "kind": "email"})
    person = {"email": "new@example.com", "first_name": "New", "phone_numbers": []}
    put = await served.control(
        "POST", "contacts:upsert", {"contacts": [{"properties": person}], "list": "Newsletter"}
    )
    again = {"id": put["ids"][0], "properties": {"first_name": None, "job_title": "Boss"}}
    await served.control("POST", "contacts:upsert", {"contacts": [again]})

    contacts = {each["contact_id"]: each for each in (await served.control("GET", "state"))["contacts"]}  # fmt: skip  # noqa: E501  # one look
    edited = [each for each in contacts.values() if "#1" in str(each.get("company_name"))]
    assert len(edited) == 2
    assert contacts[ids[0]]["email_address"]["address"].startswith("moved2.")
    new = contacts[put["ids"][0]]
    assert "first_name" not in new
    assert (new["job_title"], new["list_memberships"]) == ("Boss", [put["list_id"]])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("contacts:fill", {"count": -1}),
        ("contacts:change", {"count": 5}),
        ("contacts:change", {"count": 0, "kind": "other"}),
        ("contacts:change", {"count": 0, "properties": ["nothing"]}),
        ("contacts:delete", {"ids": ["unknown"]}),
        ("contacts:upsert", {"contacts": [{"properties": {"nothing": 1}}]}),
        ("contacts:block", {"emails": ["unknown@example.com"]}),
        ("lists/unknown:join", {"ids": []}),
        ("accounts", {"tier": "gold"}),
    ],
)
async def test_what_cannot_be_carried_out_is_told(
    served: Served, path: str, body: dict[str, Any]
) -> None:
    answer = await served.http.post(f"/_sandbox/{path}", json=body)

    assert answer.status_code == 400
    assert answer.json()["error"]


async def test_lists_are_joined_left_deleted_and_restored(served: Served) -> None:
    ids = await served.fill(2)
    made = await served.control("POST", "lists", {"name": "Newsletter"})
    await served.control("POST", "lists/Newsletter:join", {"ids": ids})
    await served.control("POST", "lists/Newsletter:leave", {"ids": ids[:1]})
    members = await served.ids(lists=made["list_id"])
    await served.control("POST", "lists/Newsletter:delete")
    gone = await served.http.get(f"/v3/contact_lists/{made['list_id']}")
    await served.control("POST", f"lists/{made['list_id']}:restore")

    assert members == ids[1:]
    assert gone.status_code == 404
    assert (await served.http.get(f"/v3/contact_lists/{made['list_id']}")).status_code == 200


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ({"kind": "throttle"}, 429),
        ({"kind": "status", "status": 401}, 401),
        ({"kind": "status", "status": 503}, 503),
        ({"kind": "lie"}, 200),
    ],
)
async def test_faults_are_told_in_the_providers_own_words(
    served: Served, fault: dict[str, Any], status: int
) -> None:
    await served.control("PUT", "faults", [fault])

    answer = await served.http.get("/v3/contacts")

    assert answer.status_code == status
    assert (await served.control("GET", "calls"))["violations"] == 0


async def test_a_lie_claims_that_a_contact_was_made(served: Served) -> None:
    await served.control("PUT", "faults", [{"kind": "lie"}])
    body = {"first_name": "Ada", "create_source": "Account"}

    told = await served.http.post("/v3/contacts", json=body)
    await served.http.delete("/_sandbox/faults")

    assert (told.status_code, told.json()["action"]) == (201, "created")
    assert await served.ids() == []


KEYS = (
    *("email_address", "address", "first_name", "phone_numbers", "kind", "street_addresses"),
    *("custom_fields", "custom_field_id", "value", "list_memberships", "create_source", "source"),
    *("import_data", "email", "list_ids", "contact_ids", "name", "label", "type", "choices"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 10**20, [], {}),
    *("", "a", "a@b.c", "\u0000", "🌻", "9" * 500, "Account", "home", "string", "single_select"),
)
PATHS = (
    *("/contacts", "/contacts/sign_up_form", "/contact_lists", "/contact_custom_fields"),
    *("/activities/contacts_json_import", "/activities/contact_delete"),
    *("/activities/add_list_memberships", "/activities/remove_list_memberships"),
)


def anything(draw: Random, depth: int = 0) -> Any:
    if depth < 4 and draw.random() < 0.6:
        inner = [anything(draw, depth + 1) for _ in range(draw.randint(0, 4))]
        return {draw.choice(KEYS): each for each in inner} if draw.random() < 0.7 else inner
    return draw.choice(VALUES)


async def test_requests_that_make_no_sense_are_refused_each_of_them() -> None:
    """A sandbox that breaks proves nothing."""
    draw = Random(1)
    state = State()
    state.limits.enabled = False
    transport = httpx.ASGITransport(create_app(state), raise_app_exceptions=True)
    base = "http://127.0.0.1:1"
    async with httpx.AsyncClient(transport=transport, base_url=base, headers=AUTHORIZED) as http:
        filled = await http.post("/_sandbox/contacts:fill", json={"count": 1})
        contact_id = filled.json()["ids"][0]
        for _ in range(600):
            body = {"create_source": "Account", "update_source": "Account", **{
                draw.choice(KEYS): anything(draw) for _ in range(draw.randint(0, 4))
            }}  # fmt: skip
            path = draw.choice((*PATHS, f"/contacts/{contact_id}"))
            method = "PUT" if path == f"/contacts/{contact_id}" else "POST"
            answer = await http.request(method, f"/v3{path}", json=body)
            assert answer.status_code in {200, 201, 400, 409}, (path, body, answer.text)
