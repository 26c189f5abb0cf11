"""What tests and demos do to a Brevo account from outside."""

import time
from typing import Any

import pytest

from tests.sandbox.brevo.served import Brevo

ADA = "ada@example.org"


async def state(brevo: Brevo) -> dict[str, Any]:
    found: dict[str, Any] = await brevo.control("GET", "state")
    return found


async def refused(brevo: Brevo, path: str, body: object) -> str:
    answer = await brevo.http.post(f"/_sandbox/{path}", json=body)
    assert answer.status_code == 400, answer.text
    return str(answer.json()["error"])


async def test_an_account_is_filled_with_the_same_people_for_the_same_seed(brevo: Brevo) -> None:
    wanted = {"count": 300, "seed": 3, "list": "Newsletter", "invalid_share": 0.1}

    filled = await brevo.control("POST", "contacts:fill", wanted)
    first = [each["attributes"] for each in (await state(brevo))["contacts"]]
    await brevo.control("POST", "reset")
    again = await brevo.control("POST", "contacts:fill", wanted)

    assert filled == again
    assert [each["attributes"] for each in (await state(brevo))["contacts"]] == first
    assert (filled["count"], len(filled["ids"])) == (300, 300)
    assert sum(map(len, filled["invalid_ids"].values())) == 30
    [_, listed] = (await state(brevo))["lists"]
    assert (listed["name"], listed["id"], listed["members"]) == (
        "Newsletter",
        filled["list_id"],
        filled["ids"],
    )


async def test_filling_twice_adds_no_one_twice(brevo: Brevo) -> None:
    wanted = {"count": 50, "invalid_share": 0.2}

    first = await brevo.control("POST", "contacts:fill", wanted)
    again = await brevo.control("POST", "contacts:fill", wanted)

    assert first == again
    assert len((await state(brevo))["contacts"]) == 50


async def test_sixteen_times_the_contacts_take_about_sixteen_times_as_long(brevo: Brevo) -> None:
    async def fill(count: int) -> float:
        started_s = time.process_time()
        filled = await brevo.control("POST", "contacts:fill", {"count": count})
        assert filled["count"] == count
        return time.process_time() - started_s

    few_s, many_s = await fill(3_000), await fill(48_000)

    # By the square it would be 256 times. Others may make the machine twice as slow meanwhile.
    assert many_s < 64 * few_s


async def test_contacts_are_changed_by_number_or_share(brevo: Brevo) -> None:
    await brevo.control("POST", "contacts:fill", {"count": 100, "invalid_share": 0.1})
    before = {each["id"]: each for each in (await state(brevo))["contacts"]}

    ten = await brevo.control("POST", "contacts:change", {"count": 10, "seed": 2})
    again = await brevo.control("POST", "contacts:change", {"count": 10, "seed": 2})
    share = await brevo.control(
        "POST", "contacts:change", {"share": 0.1, "properties": ["LASTNAME"], "kind": "email"}
    )

    after = {each["id"]: each for each in (await state(brevo))["contacts"]}
    changed = [key for key in before if before[key]["attributes"] != after[key]["attributes"]]
    moved = [key for key in before if before[key].get("email") != after[key].get("email")]
    assert ten == again
    assert changed == ten["ids"]
    assert moved == share["ids"]
    assert len(moved) in {9, 10}
    assert after[changed[0]]["attributes"]["FIRSTNAME"] == f"Changed 2-{changed[0]}"


async def test_contacts_are_changed_by_id(brevo: Brevo) -> None:
    ada = await brevo.put(ADA, FIRSTNAME="Ada")
    await brevo.put("bob@example.org", FIRSTNAME="Bob")

    answer = await brevo.control(
        "POST", "contacts:change", {"ids": [ada], "properties": ["FIRSTNAME"], "seed": 4}
    )

    names = [each["attributes"]["FIRSTNAME"] for each in (await state(brevo))["contacts"]]
    assert answer == {"ids": [ada]}
    assert names == ["Changed 4-1", "Bob"]


async def test_contacts_are_deleted_by_number_or_id(brevo: Brevo) -> None:
    ids = (await brevo.control("POST", "contacts:fill", {"count": 10}))["ids"]

    await brevo.control("POST", "contacts:delete", {"ids": ids[:3]})
    drawn = await brevo.control("POST", "contacts:delete", {"count": 2})

    left = [each["id"] for each in (await state(brevo))["contacts"]]
    assert left == [each for each in ids[3:] if each not in drawn["ids"]]
    assert len(left) == 5


async def test_exact_contacts_are_set_even_ones_that_brevo_would_refuse(brevo: Brevo) -> None:
    contact = {
        "email": "Ada@Example.org",
        "attributes": {"SMS": "+33612345678", "FIRSTNAME": "Ada"},
        "emailBlacklisted": True,
    }
    broken = {"properties": {"EMAIL": "no address", "SMS": "12"}}

    made = await brevo.control(
        "POST", "contacts:upsert", {"contacts": [contact, broken], "list": "News"}
    )
    await brevo.control(
        "POST",
        "contacts:upsert",
        {"contacts": [{"id": made["ids"][0], "attributes": {"EMAIL": "new@example.org"}}]},
    )
    await brevo.control(
        "POST", "contacts:upsert", {"contacts": [{"attributes": {"SMS": "12", "LASTNAME": "B"}}]}
    )

    ada, other = (await state(brevo))["contacts"]
    assert (ada["email"], ada["version"]) == ("new@example.org", 2)
    assert ada["attributes"] == {"FIRSTNAME": "Ada", "SMS": "33612345678"}
    assert other["email"] == "no address"
    assert other["attributes"] == {"LASTNAME": "B", "SMS": "12"}
    assert (await state(brevo))["lists"][1]["members"] == made["ids"]


async def test_people_leave_and_the_blocklist_knows(brevo: Brevo) -> None:
    await brevo.put(ADA)
    await brevo.put("bob@example.org")

    answer = await brevo.control("POST", "contacts:block", {"emails": ["Ada@example.org"]})

    assert answer == {"blocked": 1}
    assert (await state(brevo))["blocklist"] == [ADA]


async def test_people_leave_one_list_and_who_puts_them_back_is_remembered(brevo: Brevo) -> None:
    ada = await brevo.put(ADA)
    await brevo.control("POST", "lists/2:join", {"ids": [ada]})

    await brevo.control("POST", "contacts:block", {"emails": [ADA], "list": "Your first list"})
    left = await brevo.contact(ADA)
    await brevo.ask("PUT", f"/contacts/{ADA}", {"listIds": [2]})
    back = await brevo.contact(ADA)

    assert (left["listIds"], left["listUnsubscribed"]) == ([], [2])
    assert left["emailBlacklisted"] is False
    assert (back["listIds"], back["listUnsubscribed"]) == ([2], None)
    assert (await state(brevo))["rejoined"] == [[ADA, 2]]


async def test_contacts_join_and_leave_lists_by_name_or_id(brevo: Brevo) -> None:
    ids = [await brevo.put(f"{name}@example.org") for name in "ab"]

    joined = await brevo.control("POST", "lists/Your%20first%20list:join", {"ids": ids})
    left = await brevo.control("POST", "lists/2:leave", {"ids": ids[:1]})

    assert (joined, left) == ({"ids": ids}, {"ids": ids[:1]})
    assert (await state(brevo))["lists"][0]["members"] == ids[1:]


async def test_the_whole_state_is_read_back(brevo: Brevo) -> None:
    await brevo.put(ADA)
    hook = {"url": "https://example.org", "events": ["contactUpdated"], "type": "marketing"}
    await brevo.ask("POST", "/webhooks", hook)

    whole = await state(brevo)

    assert whole["account"]["tier"] == "general"
    assert whole["folders"] == [{"id": 1, "name": "Your first folder"}]
    assert whole["webhooks"][0]["url"] == "https://example.org"
    assert whole["attributes"][0]["name"] == "FIRSTNAME"
    assert [each["email"] for each in whole["contacts"]] == [ADA]


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("contacts:fill", {}, "count"),
        ("contacts:fill", {"count": -1}, "count"),
        ("contacts:fill", {"count": 1, "colour": 1}, "colour"),
        ("contacts:change", {}, "one of count and share"),
        ("contacts:change", {"count": 1}, "only 0 contacts"),
        ("contacts:change", {"count": 0, "properties": ["SMS"]}, "no plain text attribute"),
        ("contacts:delete", {"ids": [9]}, "no contact 9"),
        ("contacts:block", {"emails": ["x@example.org"]}, "no contact x@example.org"),
        ("contacts:block", {"emails": [], "list": 9}, "no list 9"),
        ("contacts:upsert", {"contacts": [{"attributes": {"A": 1}}]}, "no attribute A"),
        ("contacts:upsert", {"contacts": [{}]}, "identifier of its own"),
        ("lists/Nothing:join", {"ids": []}, "no list Nothing"),
    ],
)
async def test_what_cannot_be_done_is_refused_with_the_reason(
    brevo: Brevo, path: str, body: object, reason: str
) -> None:
    assert reason in await refused(brevo, path, body)


async def test_a_contact_cannot_be_given_somebody_elses_identifier(brevo: Brevo) -> None:
    ada = await brevo.put(ADA)
    await brevo.put("bob@example.org", SMS="33612345678")
    wanted = {"contacts": [{"id": ada, "attributes": {"SMS": "33612345678"}}]}

    assert "SMS belongs to another contact" in await refused(brevo, "contacts:upsert", wanted)


async def test_settings_that_make_no_sense_are_refused(brevo: Brevo) -> None:
    for knobs in ({"import_silent_failures": 2}, {"colour": "red"}, {"too_early_calls": -1}):
        answer = await brevo.http.put("/_sandbox/settings", json=knobs)
        assert answer.status_code == 400
