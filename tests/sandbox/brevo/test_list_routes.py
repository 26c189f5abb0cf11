"""Folders, lists and their members."""

import pytest

from tests.sandbox.brevo.served import Brevo, refusal


async def test_an_account_begins_with_a_folder_and_a_list(brevo: Brevo) -> None:
    totals = {"totalBlacklisted": 0, "totalSubscribers": 0, "uniqueSubscribers": 0}

    assert await brevo.get("/contacts/folders") == {
        "folders": [{"id": 1, "name": "Your first folder", **totals}],
        "count": 1,
    }
    assert await brevo.get("/contacts/lists") == {
        "lists": [{"id": 2, "name": "Your first list", "folderId": 1, **totals}],
        "count": 1,
    }
    assert await brevo.get("/contacts/folders/1/lists") == {
        "lists": [{"id": 2, "name": "Your first list", **totals}],
        "count": 1,
    }


async def test_folders_are_made_renamed_and_deleted_with_their_lists(brevo: Brevo) -> None:
    await brevo.put("ada@example.org")
    made = await brevo.ask("POST", "/contacts/folders", {"name": "Sync"})
    folder = made.json()["id"]
    listed = await brevo.ask("POST", "/contacts/lists", {"name": "News", "folderId": folder})
    list_id = listed.json()["id"]
    await brevo.ask("POST", f"/contacts/lists/{list_id}/contacts/add", {"ids": [1]})

    renamed = await brevo.ask("PUT", f"/contacts/folders/{folder}", {"name": "Synced"})
    name = (await brevo.get(f"/contacts/folders/{folder}"))["name"]
    deleted = await brevo.ask("DELETE", f"/contacts/folders/{folder}")

    assert (made.status_code, listed.status_code) == (201, 201)
    assert (renamed.status_code, name, deleted.status_code) == (204, "Synced", 204)
    assert refusal(await brevo.ask("GET", f"/contacts/folders/{folder}"))[0] == 404
    assert refusal(await brevo.ask("GET", f"/contacts/lists/{list_id}"))[0] == 404
    assert (await brevo.contact("ada@example.org"))["listIds"] == []


async def test_a_list_is_renamed_or_moved_but_not_both_at_once(brevo: Brevo) -> None:
    folder = (await brevo.ask("POST", "/contacts/folders", {"name": "Other"})).json()["id"]
    path = "/contacts/lists/2"

    both = await brevo.ask("PUT", path, {"name": "A", "folderId": folder})
    nothing = await brevo.ask("PUT", path, {})
    nowhere = await brevo.ask("PUT", path, {"folderId": 99})
    renamed = await brevo.ask("PUT", path, {"name": "A"})
    moved = await brevo.ask("PUT", path, {"folderId": folder})

    assert [each.status_code for each in (both, nothing, nowhere, renamed, moved)] == [
        *(400, 400, 400),
        *(204, 204),
    ]
    shown = await brevo.get(path)
    assert (shown["name"], shown["folderId"], shown["dynamicList"]) == ("A", folder, False)


async def test_a_deleted_list_leaves_its_contacts(brevo: Brevo) -> None:
    await brevo.put("ada@example.org")
    await brevo.ask("POST", "/contacts/lists/2/contacts/add", {"emails": ["ada@example.org"]})

    deleted = await brevo.ask("DELETE", "/contacts/lists/2")

    assert deleted.status_code == 204
    assert (await brevo.contact("ada@example.org"))["listIds"] == []
    assert refusal(await brevo.ask("DELETE", "/contacts/lists/2"))[0] == 404


async def test_pages_of_lists_are_short_at_the_end_and_of_fifty_at_most(brevo: Brevo) -> None:
    for number in range(11):
        await brevo.ask("POST", "/contacts/lists", {"name": f"List {number}", "folderId": 1})

    first = await brevo.get("/contacts/lists")
    second = await brevo.get("/contacts/lists", offset=10)
    oldest = await brevo.get("/contacts/lists", limit=1, sort="asc")
    too_many = await brevo.ask("GET", "/contacts/lists", limit=51)

    assert [len(first["lists"]), len(second["lists"])] == [10, 2]
    assert first["lists"][0]["name"] == "List 10"
    assert oldest["lists"][0]["name"] == "Your first list"
    assert refusal(too_many) == (400, "out_of_range", "Limit exceeds max value")


@pytest.mark.parametrize(
    ("key", "known", "unknown"),
    [
        ("emails", "Ada@example.org", "bob@example.org"),
        ("ids", 1, 99),
        ("extIds", "crm-1", "crm-2"),
    ],
)
async def test_members_come_and_go_by_any_key_and_each_is_answered_for(
    brevo: Brevo, key: str, known: str | int, unknown: str | int
) -> None:
    await brevo.put("ada@example.org", EXT_ID="crm-1")
    path = "/contacts/lists/2/contacts"

    added = await brevo.ask("POST", f"{path}/add", {key: [known, unknown]})
    again = await brevo.ask("POST", f"{path}/add", {key: [known]})
    members = await brevo.get("/contacts/lists/2/contacts")
    unique = (await brevo.get("/contacts/lists/2"))["uniqueSubscribers"]
    removed = await brevo.ask("POST", f"{path}/remove", {key: [known, unknown]})
    absent = await brevo.ask("POST", f"{path}/remove", {key: [known]})

    for answer in (added, removed):
        assert answer.status_code == 201
        assert answer.json() == {"contacts": {"success": [known], "failure": [unknown]}}
    message = "Contact already in list and/or does not exist"
    assert refusal(again) == (400, "invalid_parameter", message)
    message = "Contact already removed from list and/or does not exist"
    assert refusal(absent) == (400, "invalid_parameter", message)
    assert (members["count"], unique) == (1, 1)


async def test_a_list_is_emptied_by_a_process(brevo: Brevo) -> None:
    ids = [await brevo.put(f"{name}@example.org") for name in "ab"]
    await brevo.ask("POST", "/contacts/lists/2/contacts/add", {"ids": ids})

    answer = await brevo.ask("POST", "/contacts/lists/2/contacts/remove", {"all": True})

    assert answer.json() == {"contacts": {"total": 2, "processId": 1}}
    assert (await brevo.get("/processes/1"))["status"] == "completed"
    assert (await brevo.get("/contacts/lists/2/contacts"))["contacts"] == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "missing_parameter"),
        ({"emails": []}, "missing_parameter"),
        ({"emails": ["a@example.org"], "ids": [1]}, "invalid_parameter"),
        ({"ids": list(range(151))}, "out_of_range"),
        ({"ids": ["1"]}, "invalid_parameter"),
    ],
)
async def test_members_that_cannot_be_meant_are_refused(
    brevo: Brevo, body: dict[str, object], code: str
) -> None:
    for step in ("add", "remove"):
        answer = await brevo.ask("POST", f"/contacts/lists/2/contacts/{step}", body)
        assert refusal(answer)[:2] == (400, code)


@pytest.mark.parametrize("body", [{"name": "A"}, {"folderId": 1}, {"name": "A", "folderId": 99}])
async def test_a_list_needs_a_name_and_a_folder_that_exists(
    brevo: Brevo, body: dict[str, object]
) -> None:
    answer = await brevo.ask("POST", "/contacts/lists", body)

    assert answer.status_code == 400
    assert (await brevo.get("/contacts/lists"))["count"] == 1


async def test_segments_are_an_empty_page(brevo: Brevo) -> None:
    assert await brevo.get("/contacts/segments") == {"segments": [], "count": 0}
