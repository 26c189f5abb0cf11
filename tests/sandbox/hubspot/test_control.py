"""What tests do to a HubSpot portal from outside."""

from typing import Any

import pytest

from sandbox.people import Invalid
from tests.sandbox.hubspot.served import Served


def contacts(served: Served) -> dict[str, dict[str, Any]]:
    state = served.control("GET", "state")
    return {each["id"]: each for each in state["contacts"]}


def refused(served: Served, path: str, body: object) -> str:
    answer = served.http.post(f"/_sandbox/{path}", json=body)
    assert answer.status_code == 400
    error: str = answer.json()["error"]
    return error


def test_a_fill_tells_who_is_invalid_and_why(served: Served) -> None:
    filled = served.control(
        "POST", "contacts:fill", {"count": 200, "seed": 3, "invalid_share": 0.03, "list": "All"}
    )

    everyone = contacts(served)
    assert (filled["count"], filled["ids"], filled["list_id"]) == (200, list(everyone), "1")
    assert {kind: len(ids) for kind, ids in filled["invalid_ids"].items()} == dict.fromkeys(
        Invalid, 2
    )
    for each in filled["invalid_ids"]["no_email"]:
        assert "email" not in everyone[each]["properties"]
    for each in filled["invalid_ids"]["short_phone"]:
        assert len(everyone[each]["properties"]["phone"]) == 5


def test_one_seed_fills_in_the_same_people_and_only_once(served: Served) -> None:
    served.fill(20, seed=5)
    names = [each["properties"].get("firstname") for each in contacts(served).values()]
    again = refused(served, "contacts:fill", {"count": 20, "seed": 5})
    served.control("POST", "reset")
    served.fill(20, seed=5)

    assert "take another seed" in again
    assert names == [each["properties"].get("firstname") for each in contacts(served).values()]


def test_without_a_seed_the_sandboxs_own_is_taken(served: Served) -> None:
    served.control("POST", "reset", {"seed": 77})
    (first,) = served.fill(1)
    address = contacts(served)[first]["properties"]["email"]

    assert ".s77@" in address


def test_a_change_edits_valid_contacts_in_plain_fields(served: Served) -> None:
    filled = served.control("POST", "contacts:fill", {"count": 50, "invalid_share": 0.5})
    invalid = {each for ids in filled["invalid_ids"].values() for each in ids}
    before = contacts(served)
    served.state.clock.move(1)

    first = served.control("POST", "contacts:change", {"share": 0.4, "seed": 9})["ids"]
    once = contacts(served)
    second = served.control(
        "POST", "contacts:change", {"count": 10, "seed": 9, "properties": ["city"]}
    )["ids"]
    twice = contacts(served)

    assert (len(first), first) == (10, second)
    assert not set(first) & invalid
    for each in before:
        edited = each in first
        assert (before[each]["updated_at"] != once[each]["updated_at"]) is edited
        assert (before[each]["properties"] != once[each]["properties"]) is edited
        assert before[each]["properties"].get("email") == twice[each]["properties"].get("email")
    for each in second:
        assert once[each]["properties"]["city"] != twice[each]["properties"]["city"]
        assert once[each]["properties"]["firstname"] == twice[each]["properties"]["firstname"]


def test_a_change_of_addresses_is_asked_for(served: Served) -> None:
    ids = served.fill(3)

    changed = served.control("POST", "contacts:change", {"ids": ids[:1], "kind": "email"})["ids"]

    assert changed == ids[:1]
    assert contacts(served)[ids[0]]["properties"]["email"] == f"moved1.{ids[0]}@example.org"


def test_contacts_are_put_exactly_as_a_test_wants_them(served: Served) -> None:
    wish = {
        "contacts": [
            {"properties": {"email": "not an address", "phone": "1", "newsletter_optin": True}},
            {"id": 7, "properties": {"firstname": "Ada", "loyalty_points": 3}},
        ],
        "list": "Cases",
    }
    made = served.control("POST", "contacts:upsert", wish)
    served.control(
        "POST",
        "contacts:upsert",
        {"contacts": [{"properties": {"email": "not an address", "phone": None}}]},
    )

    everyone = contacts(served)
    first, second = made["ids"]
    assert second == "7"
    assert everyone[first]["properties"]["newsletter_optin"] == "true"
    assert "phone" not in everyone[first]["properties"]
    assert everyone["7"]["properties"]["loyalty_points"] == "3"
    (cases,) = served.control("GET", "state")["lists"]
    assert sorted(cases["members"]) == sorted(made["ids"])


def test_a_deletion_of_so_many_takes_them_off_their_lists(served: Served) -> None:
    ids = served.fill(10, list="All")

    gone = served.control("POST", "contacts:delete", {"count": 4})["ids"]

    assert [each for each, facts in contacts(served).items() if facts["archived"]] == gone
    (everyone,) = served.control("GET", "state")["lists"]
    assert everyone["members"] == [each for each in ids if each not in gone]


def test_members_join_and_leave_by_the_name_of_the_list(served: Served) -> None:
    ids = served.fill(3)
    served.control("POST", "lists", {"name": "VIP customers"})

    joined = served.control("POST", "lists/VIP%20customers:join", {"ids": ids})
    left = served.control("POST", "lists/1:leave", {"ids": [ids[0], 999]})

    assert (joined["ids"], left["ids"]) == (ids, ids[:1])


def test_a_list_is_deleted_and_restored(served: Served) -> None:
    served.control("POST", "lists", {"name": "One"})
    served.control("POST", "lists/1:delete")
    deleted = served.http.get("/crm/v3/lists/1").json()["list"]
    served.control("POST", "lists/1:restore")

    assert "deletedAt" in deleted
    assert "deletedAt" not in served.http.get("/crm/v3/lists/1").json()["list"]


def test_one_time_of_change_for_all_is_one_time(served: Served) -> None:
    served.fill(500, same_timestamp=True)

    assert len({each["updated_at"] for each in contacts(served).values()}) == 1


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        ("contacts:fill", {}, "missing required field `count`"),
        ("contacts:fill", {"count": 1, "colour": 1}, "unknown field `colour`"),
        ("contacts:fill", {"count": -1}, "count must not be negative"),
        ("contacts:change", {"count": 1}, "there are only 0 contacts to choose 1 from"),
        ("contacts:change", {"count": 0, "kind": "name"}, "kind must be"),
        ("contacts:change", {"count": 0, "properties": ["x"]}, "there are no properties x"),
        ("contacts:delete", {"ids": ["7"]}, "there is no contact 7"),
        ("contacts:delete", {"ids": ["x"]}, "x is not an id"),
        ("contacts:merge", {"primary": 1}, "missing required field `other`"),
        ("contacts:upsert", {"contacts": [{"properties": {"x": "1"}}]}, "['x']"),
        ("contacts:upsert", {"contacts": [{"properties": {"createdate": "1"}}]}, "createdate"),
        ("lists/Nobody:join", {"ids": []}, "there is no list Nobody"),
        ("lists", {"name": "A", "processing_type": "MAGIC"}, "Invalid enum value 'MAGIC'"),
    ],
)
def test_what_cannot_be_done_says_why(served: Served, path: str, body: object, error: str) -> None:
    assert error in refused(served, path, body)


def test_a_taken_address_an_archived_contact_and_a_taken_list_are_refused(served: Served) -> None:
    ids = served.fill(2)
    address = contacts(served)[ids[0]]["properties"]["email"]
    served.control("POST", "lists", {"name": "One"})
    taken = {"contacts": [{"id": ids[1], "properties": {"email": address}}]}

    assert "has the address already" in refused(served, "contacts:upsert", taken)
    assert "two contacts" in refused(served, "contacts:merge", {"primary": 101, "other": 101})
    assert "there is a list one already" in refused(served, "lists", {"name": "one"})
    served.control("POST", "contacts:delete", {"ids": ids[:1]})
    archived = {"contacts": [{"id": ids[0], "properties": {}}]}
    assert "is archived" in refused(served, "contacts:upsert", archived)
