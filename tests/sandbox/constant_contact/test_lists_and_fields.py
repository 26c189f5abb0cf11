"""Contact lists, custom fields and bulk activities."""

from typing import Any

import pytest

from tests.sandbox.constant_contact.served import Served


async def new_list(served: Served, name: str) -> str:
    made = await served.http.post("/v3/contact_lists", json={"name": name})
    assert made.status_code == 201, made.text
    list_id: str = made.json()["list_id"]
    return list_id


async def test_a_lists_size_is_shown_only_if_it_is_asked_for(served: Served) -> None:
    await served.fill(3, list="Newsletter")
    [bare] = (await served.get("/contact_lists"))["lists"]
    path = f"/contact_lists/{bare['list_id']}"
    [person, *_] = (await served.get("/contacts"))["contacts"]
    without = {"first_name": "Nobody", "update_source": "Account", "email_address": None}
    await served.http.put(f"/v3/contacts/{person['contact_id']}", json=without)

    every = await served.get(path, include_membership_count="all")
    active = await served.get(path, include_membership_count="active")

    assert "membership_count" not in bare
    assert (every["membership_count"], active["membership_count"]) == (3, 2)


async def test_lists_are_made_renamed_paged_and_deleted(served: Served) -> None:
    first, second = await new_list(served, "One"), await new_list(served, "Two")
    taken = await served.http.post("/v3/contact_lists", json={"name": "one"})
    named = await served.http.put(f"/v3/contact_lists/{first}", json={"name": "First"})
    page = await served.get("/contact_lists", limit=1, include_count="true")
    deleted = await served.http.delete(f"/v3/contact_lists/{second}")

    assert (taken.status_code, named.json()["name"]) == (409, "First")
    assert (page["lists_count"], len(page["lists"])) == (2, 1)
    assert page["_links"]["next"]["href"].startswith("/v3/contact_lists?cursor=")
    assert deleted.status_code == 202
    assert deleted.headers["location"].endswith(deleted.json()["_links"]["self"]["href"])
    assert (await served.http.get(f"/v3/contact_lists/{second}")).status_code == 404
    [kept] = (await served.get("/contact_lists", status="deleted"))["lists"]
    assert kept["deleted_at"] == "2026-09-21T14:13:20Z"


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "x" * 256}, {"name": 1}])
async def test_a_list_without_a_usable_name_is_refused(
    served: Served, body: dict[str, Any]
) -> None:
    answer = await served.http.post("/v3/contact_lists", json=body)

    assert answer.status_code == 400


async def test_there_is_a_field_of_every_type_and_more_can_be_made(served: Served) -> None:
    made = await served.http.post(
        "/v3/contact_custom_fields", json={"label": "Shoe Size", "type": "number"}
    )
    again = await served.http.post(
        "/v3/contact_custom_fields", json={"label": "shoe size", "type": "string"}
    )
    wrong = await served.http.post("/v3/contact_custom_fields", json={"label": "x", "type": "odd"})
    page = await served.get("/contact_custom_fields", limit=3)

    assert (made.status_code, made.json()["name"]) == (201, "shoe_size")
    assert (again.status_code, wrong.status_code) == (409, 400)
    assert len(page["custom_fields"]) == 3
    fields = {each["label"]: each for each in (await served.get("/contact_custom_fields"))[
        "custom_fields"
    ]}  # fmt: skip
    assert fields["Fruit"]["choices"][0]["choice_label"] == "Apple"
    assert (fields["Member since"]["version"], fields["Old date"]["version"]) == (2, 1)


async def test_an_import_is_carried_out_when_its_time_has_come(served: Served) -> None:
    await served.control("PUT", "settings", {"activity_delay_s": 30})
    list_id = await new_list(served, "Newsletter")
    rows = [
        {"email": "ada@example.com", "first_name": "Ada", "cf:hobby": "Sums", "work_phone": "1"},
        {"email": "nobody"},
        {"email": f"{'a' * 50}@example.com"},
    ]
    body = {"import_data": rows, "list_ids": [list_id]}
    accepted = await served.http.post("/v3/activities/contacts_json_import", json=body)
    path = f"/activities/{accepted.json()['activity_id']}"

    early = await served.get(path)
    served.time.now_s += 31
    late = await served.get(path)

    assert (accepted.status_code, accepted.json()["state"]) == (201, "initialized")
    assert early["state"] == "initialized"
    assert (late["state"], late["percent_done"]) == ("completed", 100)
    assert (late["status"]["person_count"], late["status"]["error_count"]) == (1, 2)
    [ada] = (await served.get("/contacts", include="list_memberships,custom_fields"))["contacts"]
    assert (ada["list_memberships"], ada["custom_fields"][0]["value"]) == ([list_id], "Sums")
    [recent] = (await served.get("/activities", state="completed"))["activities"]
    assert recent["activity_id"] == late["activity_id"]


async def test_an_import_leaves_who_unsubscribed_off_the_lists(served: Served) -> None:
    list_id = await new_list(served, "Newsletter")
    rows = [{"email": "ada@example.com"}]
    body = {"import_data": rows, "list_ids": [list_id]}
    await served.http.post("/v3/activities/contacts_json_import", json=body)
    await served.control("POST", "contacts:block", {"emails": ["ada@example.com"]})

    again = await served.http.post("/v3/activities/contacts_json_import", json=body)

    activity = await served.get(f"/activities/{again.json()['activity_id']}")
    assert activity["status"]["cannot_add_to_list_count"] == 1
    assert await served.ids(lists=list_id) == []


async def test_lists_are_joined_and_left_in_bulk_and_each_contact_is_changed(
    served: Served,
) -> None:
    ids = await served.fill(3)
    list_id = await new_list(served, "Newsletter")
    served.time.now_s += 60
    joined = {"source": {"contact_ids": ids[:2]}, "list_ids": [list_id]}
    await served.http.post("/v3/activities/add_list_memberships", json=joined)
    members = await served.ids(lists=list_id)
    changed = await served.ids(updated_after="2026-09-21T14:13:50Z")
    left = {"source": {"list_ids": [list_id]}, "list_ids": [list_id]}
    await served.http.post("/v3/activities/remove_list_memberships", json=left)

    assert members == changed == ids[:2]
    assert await served.ids(lists=list_id) == []


async def test_contacts_are_deleted_in_bulk(served: Served) -> None:
    ids = await served.fill(3)

    body = {"contact_ids": ids[:2]}
    accepted = await served.http.post("/v3/activities/contact_delete", json=body)

    assert accepted.json()["state"] == "initialized"
    assert await served.ids() == ids[2:]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("contacts_json_import", {}),
        ("contacts_json_import", {"import_data": [{"email": "a@b.c"}], "list_ids": ["unknown"]}),
        ("contact_delete", {"contact_ids": []}),
        ("contact_delete", {"contact_ids": ["x"] * 501}),
        ("add_list_memberships", {"source": [], "list_ids": []}),
        ("remove_list_memberships", {"source": {"contact_ids": ["x"]}, "list_ids": 1}),
    ],
)
async def test_an_activity_that_makes_no_sense_is_refused(
    served: Served, path: str, body: dict[str, Any]
) -> None:
    answer = await served.http.post(f"/v3/activities/{path}", json=body)

    assert answer.status_code == 400


async def test_a_full_queue_takes_no_more(served: Served) -> None:
    await served.control("PUT", "settings", {"activity_delay_s": 600})
    ids = await served.fill(1)
    body = {"contact_ids": ids}
    for _ in range(1_000):
        served.state.default.activities.add("any", 1, lambda: None, now_s=0, delay_s=2**40)  # type: ignore[arg-type, return-value]  # never carried out

    answer = await served.http.post("/v3/activities/contact_delete", json=body)

    assert answer.status_code == 429
    assert (await served.http.get("/v3/activities/unknown")).status_code == 404
