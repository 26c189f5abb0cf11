"""Keys, limits, faults and accounts: who may call, how often, and what goes wrong on request."""

import httpx
import pytest

from sandbox.brevo.state import DEFAULT_KEY
from tests.sandbox.brevo.served import Brevo, refusal

ADA = "ada@example.org"


async def test_a_call_without_a_key_and_one_with_a_wrong_key_are_told_apart(brevo: Brevo) -> None:
    without = await brevo.http.get("/v3/account")
    wrong = await brevo.http.get("/v3/account", headers={"api-key": "xkeysib-other"})

    assert refusal(without) == (401, "unauthorized", "authentication not found in headers")
    assert refusal(wrong) == (401, "unauthorized", "Key not found")


async def test_a_deleted_key_and_an_unknown_address_are_told_apart(brevo: Brevo) -> None:
    await brevo.settings(key_enabled=False)
    deleted = await brevo.ask("GET", "/account")
    await brevo.settings(key_enabled=True, address_authorised=False)
    elsewhere = await brevo.ask("GET", "/account")

    assert refusal(deleted) == (401, "unauthorized", "Key not found")
    assert refusal(elsewhere)[:2] == (401, "unauthorized")
    assert "unrecognised IP address" in refusal(elsewhere)[2]
    assert "app.brevo.com/security/authorised_ips" in refusal(elsewhere)[2]


async def test_paths_and_methods_that_are_not_there_are_refused(brevo: Brevo) -> None:
    assert refusal(await brevo.ask("GET", "/nothing"))[0] == 404
    assert refusal(await brevo.ask("PATCH", "/contacts"))[:2] == (405, "method_not_allowed")


async def test_a_body_that_is_not_json_is_refused(brevo: Brevo) -> None:
    for content in (b"{", b'"\xff"'):
        answer = await brevo.http.post(
            "/v3/contacts", content=content, headers={"api-key": DEFAULT_KEY}
        )
        assert refusal(answer)[:2] == (400, "invalid_parameter")


async def test_ten_calls_a_second_go_through_and_the_next_is_a_violation(limited: Brevo) -> None:
    answers = [await limited.ask("GET", "/contacts/folders") for _ in range(11)]

    assert [each.status_code for each in answers] == [200] * 10 + [429]
    assert answers[0].headers["x-sib-ratelimit-limit"] == "10"
    assert answers[0].headers["x-sib-ratelimit-remaining"] == "9"
    assert answers[10].headers["x-sib-ratelimit-remaining"] == "0"
    assert answers[10].headers["x-sib-ratelimit-reset"] == "1"
    assert "retry-after" not in answers[10].headers
    assert answers[10].json()["code"] == "too_many_requests"
    calls = await limited.control("GET", "calls")
    assert (calls["total"], calls["violations"]) == (11, 1)
    assert calls["violations_by_bucket"] == {"contacts": 1}


async def test_a_second_later_there_is_room_again(limited: Brevo) -> None:
    for _ in range(10):
        await limited.ask("GET", "/contacts/folders")

    await limited.control("PUT", "clock", {"advance_s": 1})

    assert (await limited.ask("GET", "/contacts/folders")).status_code == 200
    assert (await limited.control("GET", "calls"))["violations"] == 0


async def test_everything_but_contacts_shares_a_hundred_calls_an_hour(limited: Brevo) -> None:
    for _ in range(50):
        await limited.ask("GET", "/account")
        await limited.ask("GET", "/processes")

    over = await limited.ask("GET", "/webhooks")
    contacts = await limited.ask("GET", "/contacts")

    assert over.status_code == 429
    assert over.headers["x-sib-ratelimit-limit"] == "100"
    assert over.headers["x-sib-ratelimit-reset"] == "3600"
    assert contacts.status_code == 200


async def test_contacts_have_an_hourly_limit_too_and_its_headers_say_so(limited: Brevo) -> None:
    limits = limited.state.default.limits
    for _ in range(3600):
        limited.state.clock.move(0.96)  # As fast as the tolerance of a second's window allows.
        assert not any(limits.take("contacts") for _ in range(10))
    limited.state.clock.move(2)

    answer = await limited.ask("GET", "/contacts/folders")

    assert answer.status_code == 429
    assert answer.headers["x-sib-ratelimit-limit"] == "36000"
    assert 100 < int(answer.headers["x-sib-ratelimit-reset"]) < 200


@pytest.mark.parametrize(("tier", "per_second"), [("advanced", 20), ("extended", 60)])
async def test_a_higher_tier_has_higher_limits(limited: Brevo, tier: str, per_second: int) -> None:
    await limited.control("PUT", "limits", {"tier": tier})

    answer = await limited.ask("GET", "/contacts/folders")

    assert answer.headers["x-sib-ratelimit-limit"] == str(per_second)
    refused = await limited.http.put("/_sandbox/limits", json={"tier": "platinum"})
    assert "there is no tier 'platinum'" in refused.json()["error"]


async def test_without_limits_nothing_is_refused_and_nothing_is_a_violation(brevo: Brevo) -> None:
    answers = [await brevo.ask("GET", "/account") for _ in range(101)]

    assert {each.status_code for each in answers} == {200}
    assert (await brevo.control("GET", "calls"))["violations"] == 0


async def test_a_throttle_fault_answers_as_the_provider_would(limited: Brevo) -> None:
    await limited.control("PUT", "faults", [{"kind": "throttle", "times": 1}])

    answer = await limited.ask("GET", "/contacts")

    assert answer.status_code == 429
    assert answer.headers["x-sib-ratelimit-remaining"] == "0"
    assert (await limited.control("GET", "calls"))["violations"] == 0


@pytest.mark.parametrize(
    ("status", "code"), [(403, "permission_denied"), (503, "internal_server_error")]
)
async def test_a_status_fault_has_the_providers_own_body(
    brevo: Brevo, status: int, code: str
) -> None:
    await brevo.control("PUT", "faults", [{"kind": "status", "status": status}])

    assert refusal(await brevo.ask("GET", "/contacts"))[:2] == (status, code)


async def test_a_cut_after_is_applied_and_a_cut_is_not(brevo: Brevo) -> None:
    for kind, address in [("cut", "cut@example.org"), ("cut_after", "after@example.org")]:
        await brevo.control("PUT", "faults", [{"kind": kind, "times": 1}])
        with pytest.raises(httpx.RemoteProtocolError):
            await brevo.ask("POST", "/contacts", {"email": address})

    [stored] = (await brevo.get("/contacts"))["contacts"]
    assert stored["email"] == "after@example.org"


async def test_a_lie_claims_success_and_applies_nothing(brevo: Brevo) -> None:
    await brevo.put("bob@example.org")
    await brevo.control("PUT", "faults", [{"kind": "lie"}])
    wanted = {"attributes": {"FIRSTNAME": "X"}, "updateEnabled": True}
    rows = {"jsonBody": [{"email": ADA}], "listIds": [2]}

    created = await brevo.ask("POST", "/contacts", {"email": ADA})
    updated = await brevo.ask("POST", "/contacts", {"email": "bob@example.org", **wanted})
    put = await brevo.ask("PUT", "/contacts/bob@example.org", wanted)
    listed = await brevo.ask("POST", "/contacts/lists/2/contacts/add", {"ids": [1]})
    started = await brevo.ask("POST", "/contacts/import", rows)
    read = await brevo.ask("GET", "/contacts")
    await brevo.control("DELETE", "faults")

    statuses = [each.status_code for each in (created, updated, put, listed, started, read)]
    assert statuses == [201, 204, 204, 201, 202, 200]
    assert read.json() == {}
    assert listed.json() == {"contacts": {"success": [1], "failure": []}}
    assert (await brevo.ask("GET", f"/contacts/{created.json()['id']}")).status_code == 404
    assert (await brevo.get("/processes/1"))["status"] == "completed"
    [bob] = (await brevo.get("/contacts"))["contacts"]
    assert (bob["attributes"], bob["listIds"]) == ({}, [])


async def test_a_lie_may_be_told_in_other_words(brevo: Brevo) -> None:
    fault = {"kind": "lie", "status": 201, "body": {"id": 7}}
    await brevo.control("PUT", "faults", [fault])

    answer = await brevo.ask("POST", "/contacts", {"email": ADA})

    assert (answer.status_code, answer.json()) == (201, {"id": 7})


async def test_accounts_have_keys_contacts_and_limits_of_their_own(brevo: Brevo) -> None:
    await brevo.put(ADA)
    opened = await brevo.control(
        "POST", "accounts", {"name": "second", "tier": "advanced", "language": "fr"}
    )
    key = {"api-key": opened["api_key"]}

    contacts = await brevo.http.get("/v3/contacts", headers=key)
    attributes = await brevo.http.get("/v3/contacts/attributes", headers=key)
    account = await brevo.http.get("/v3/account", headers=key)
    state = await brevo.control("GET", f"state?account={opened['account']}")

    assert contacts.json() == {"contacts": [], "count": 0}
    assert contacts.headers["x-sib-ratelimit-limit"] == "20"
    assert [each["name"] for each in attributes.json()["attributes"]][:2] == ["PRENOM", "NOM"]
    assert account.json()["organization_id"] == opened["account"]
    assert state["contacts"] == []


@pytest.mark.parametrize(
    ("wishes", "reason"),
    [
        ({}, "name must be"),
        ({"name": "No Blanks"}, "name must be"),
        ({"name": "default"}, "already"),
        ({"name": "a", "language": "xx"}, "language must be"),
        ({"name": "a", "tier": "gold"}, "no tier"),
        ({"name": "a", "colour": "red"}, "has no colour"),
    ],
)
async def test_an_account_that_cannot_be_opened_is_refused_with_the_reason(
    brevo: Brevo, wishes: dict[str, str], reason: str
) -> None:
    answer = await brevo.http.post("/_sandbox/accounts", json=wishes)

    assert answer.status_code == 400
    assert reason in answer.json()["error"]


async def test_a_reset_ends_what_still_runs(brevo: Brevo) -> None:
    await brevo.settings(import_delay_s=60)
    rows = {"jsonBody": [{"email": ADA}], "listIds": [2]}
    await brevo.ask("POST", "/contacts/import", rows)
    before = brevo.state.default

    await brevo.control("POST", "reset", {"seed": 2})

    assert brevo.state.default is not before
    assert (await brevo.get("/processes"))["count"] == 0
    assert not before._tasks
    assert len(before.contacts) == 0
