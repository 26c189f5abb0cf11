"""Contacts as the API shows and takes them."""

from base64 import urlsafe_b64decode
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.sandbox.constant_contact.served import START_S, Served

ADA = {
    "email_address": {"address": "ada@example.com", "permission_to_send": "explicit"},
    "first_name": "Ada",
    "create_source": "Account",
}


def error(answer: Any) -> tuple[int, str]:
    [first] = answer.json()
    return answer.status_code, first["error_key"]


async def test_parts_are_shown_only_if_they_are_asked_for(served: Served) -> None:
    await served.fill(1, list="Newsletter")
    parts = ("custom_fields", "list_memberships", "phone_numbers", "street_addresses")

    [bare] = (await served.get("/contacts"))["contacts"]
    [whole] = (await served.get("/contacts", include=",".join(parts)))["contacts"]

    assert not set(parts) & set(bare)
    assert set(parts) <= set(whole)
    assert whole["created_at"] == whole["updated_at"] == "2026-09-21T14:13:20Z"


async def test_a_cursor_carries_the_whole_query_and_is_all_that_is_sent(served: Served) -> None:
    ids = await served.fill(5, list="Newsletter")
    [list_id] = [each["list_id"] for each in (await served.get("/contact_lists"))["lists"]]
    page = await served.get("/contacts", limit=2, lists=list_id, include_count="true")
    seen = [each["contact_id"] for each in page["contacts"]]
    href = page["_links"]["next"]["href"]

    cursor = parse_qs(urlsplit(href).query)["cursor"][0]
    carried = parse_qs(urlsafe_b64decode(cursor).decode())
    while page["_links"]:
        answer = await served.http.get(page["_links"]["next"]["href"])
        page = answer.json()
        seen += [each["contact_id"] for each in page["contacts"]]

    assert href.startswith("/v3/contacts?cursor=")
    assert (carried["limit"], carried["next"], carried["lists"]) == (["2"], ["3"], [list_id])
    assert page["contacts_count"] == 5
    assert seen == ids


async def test_rows_move_up_when_one_before_them_leaves(served: Served) -> None:
    """What paging by offset costs: nobody is told that a contact was passed over."""
    ids = await served.fill(4)
    first = await served.get("/contacts", limit=2)
    await served.control("POST", "contacts:delete", {"ids": ids[:1]})

    answer = await served.http.get(first["_links"]["next"]["href"])

    assert [each["contact_id"] for each in answer.json()["contacts"]] == ids[3:]


async def test_in_order_of_update_an_edited_row_goes_to_the_end(served: Served) -> None:
    ids = await served.fill(4)
    await served.control("PUT", "settings", {"order": "updated"})
    before = await served.ids()
    served.time.now_s += 1
    await served.control("POST", "contacts:change", {"ids": [before[0]]})

    assert await served.ids() == [*before[1:], before[0]]
    assert set(before) == set(ids)


@pytest.mark.parametrize("has_links", [True, False])
async def test_a_last_page_has_empty_links_or_none(served: Served, *, has_links: bool) -> None:
    await served.control("PUT", "settings", {"last_page_has_links": has_links})

    assert (await served.get("/contacts")).get("_links") == ({} if has_links else None)


async def test_deleted_contacts_are_shown_only_if_they_are_asked_for(served: Served) -> None:
    ids = await served.fill(3, list="Newsletter")
    await served.http.delete(f"/v3/contacts/{ids[0]}")

    usual, every = await served.ids(), await served.ids(status="all")
    [deleted] = (await served.get("/contacts", status="deleted", include="list_memberships"))[
        "contacts"
    ]
    by_id = await served.get(f"/contacts/{ids[0]}")

    assert usual == ids[1:]
    assert every == ids
    assert (deleted["deleted_at"], deleted["list_memberships"]) == ("2026-09-21", [])
    assert by_id["deleted_at"] == "2026-09-21"


@pytest.mark.parametrize(("touches", "found"), [(False, 0), (True, 1)])
async def test_whether_a_deletion_is_a_change_is_a_setting(
    served: Served, found: int, *, touches: bool
) -> None:
    await served.control("PUT", "settings", {"deletion_updates": touches})
    ids = await served.fill(1)
    served.time.now_s += 60
    await served.control("POST", "contacts:delete", {"ids": ids})

    since = "2026-09-21T14:13:50Z"

    assert len(await served.ids(status="all", updated_after=since)) == found


@pytest.mark.parametrize(
    ("inclusive", "after", "count"),
    [
        (False, "2026-09-21T14:13:19Z", 1),
        (False, "2026-09-21T14:13:20Z", 0),
        (True, "2026-09-21T14:13:20Z", 1),
        (True, "2026-09-21T14:13:21Z", 0),
        (False, "2026-09-21T14:13:19.000000+0000", 1),
        (False, "2026-09-21T16:13:19+02:00", 1),
        (False, "2026-09-21", 1),
    ],
)
async def test_a_bound_is_read_in_every_layout(
    served: Served, after: str, count: int, *, inclusive: bool
) -> None:
    await served.control("PUT", "settings", {"bounds_are_inclusive": inclusive})
    await served.fill(1)

    assert len(await served.ids(updated_after=after)) == count
    assert len(await served.ids(created_after=after)) == count


async def test_a_contact_is_made_replaced_and_deleted(served: Served) -> None:
    made = await served.http.post("/v3/contacts", json=ADA)
    path = f"/contacts/{made.json()['contact_id']}"
    served.time.now_s = START_S + 60
    body = {"last_name": "Lovelace", "update_source": "Account"}
    replaced = await served.http.put(f"/v3{path}", json=body)
    gone = await served.http.delete(f"/v3{path}")

    assert (made.status_code, replaced.status_code, gone.status_code) == (201, 200, 204)
    assert "first_name" not in replaced.json()  # What a PUT does not name is taken away.
    assert replaced.json()["email_address"]["address"] == "ada@example.com"
    assert replaced.json()["updated_at"] == "2026-09-21T14:14:20Z"
    writes = (await served.control("GET", "writes"))["writes"]
    assert [each["created"] for each in writes] == [True, False, False]


async def test_a_put_brings_a_deleted_contact_back(served: Served) -> None:
    [contact_id] = await served.fill(1)
    await served.control("POST", "contacts:delete", {"ids": [contact_id]})

    body = {"first_name": "Again", "update_source": "Account"}
    await served.http.put(f"/v3/contacts/{contact_id}", json=body)

    assert await served.ids() == [contact_id]


async def test_an_address_belongs_to_one_contact(served: Served) -> None:
    first = await served.http.post("/v3/contacts", json=ADA)

    again = await served.http.post("/v3/contacts", json=ADA)

    assert error(again) == (409, "contacts.api.conflict")
    assert first.json()["contact_id"] in again.text


async def test_a_form_changes_by_address_and_adds_lists(served: Served) -> None:
    lists = [
        (await served.control("POST", "lists", {"name": name}))["list_id"] for name in ("a", "b")
    ]
    body = {"email_address": "ada@example.com", "first_name": "Ada"}
    first = await served.http.post(
        "/v3/contacts/sign_up_form", json={**body, "list_memberships": lists[:1]}
    )
    second = await served.http.post(
        "/v3/contacts/sign_up_form",
        json={"email_address": "ada@example.com", "list_memberships": lists[1:]},
    )

    [ada] = (await served.get("/contacts", include="list_memberships"))["contacts"]
    assert (first.status_code, first.json()["action"]) == (201, "created")
    assert (second.status_code, second.json()["action"]) == (200, "updated")
    assert (ada["first_name"], ada["list_memberships"]) == ("Ada", lists)


async def test_nobody_who_unsubscribed_is_made_active_by_a_put(served: Served) -> None:
    made = (await served.http.post("/v3/contacts", json=ADA)).json()
    await served.control("POST", "contacts:block", {"emails": ["ada@example.com"]})

    body = {**ADA, "update_source": "Account"}
    replaced = (await served.http.put(f"/v3/contacts/{made['contact_id']}", json=body)).json()

    assert replaced["email_address"]["permission_to_send"] == "unsubscribed"
    assert await served.ids(status="unsubscribed") == [made["contact_id"]]
    assert await served.ids(status="active") == []


async def test_contacts_are_counted_by_permission(served: Served) -> None:
    await served.fill(3)
    await served.http.post("/v3/contacts", json=ADA)

    counts = await served.get("/contacts/counts")

    expected = {"total": 4, "explicit": 1, "implicit": 3, "pending": 0, "unsubscribed": 0}
    assert counts == expected


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ({"limit": "0"}, 400),
        ({"limit": "501"}, 400),
        ({"limit": "many"}, 400),
        ({"status": "happy"}, 400),
        ({"include": "everything"}, 400),
        ({"updated_after": "yesterday"}, 400),
        ({"lists": ",".join(str(each) for each in range(26))}, 400),
        ({"cursor": "½"}, 400),
        ({"update_date_start": "2026-01-01"}, 200),  # Passed over in silence, as they do.
    ],
)
async def test_a_parameter_that_makes_no_sense_is_refused(
    served: Served, parameters: dict[str, str], status: int
) -> None:
    answer = await served.http.get("/v3/contacts", params=parameters)

    assert answer.status_code == status
    if status == 400:
        assert error(answer) == (400, "contacts.api.validation.error")


async def test_a_strict_sandbox_refuses_a_parameter_that_there_is_not(served: Served) -> None:
    await served.control("PUT", "settings", {"strict_parameters": True})

    answer = await served.http.get("/v3/contacts", params={"update_date_start": "2026-01-01"})

    assert error(answer) == (400, "contacts.api.validation.error")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"create_source": "Account"},
        {"first_name": "Ada"},
        {**ADA, "create_source": "Nobody"},
        {**ADA, "email_address": "ada@example.com"},
        {**ADA, "email_address": {"address": "ada"}},
        {**ADA, "email_address": {"address": f"{'a' * 80}@example.com"}},
        {**ADA, "email_address": {"address": "a@example.com", "permission_to_send": "always"}},
        {**ADA, "first_name": "A" * 51},
        {**ADA, "phone_numbers": [{"phone_number": "1" * 26}]},
        {**ADA, "phone_numbers": [{"phone_number": "1"}] * 4},
        {**ADA, "phone_numbers": [{"phone_number": "1", "kind": "fax"}]},
        {**ADA, "street_addresses": [{"city": "Leeds"}]},
        {**ADA, "custom_fields": [{"custom_field_id": "unknown", "value": "x"}]},
        {**ADA, "list_memberships": ["unknown"]},
        {**ADA, "list_memberships": 1},
        [],
    ],
)
async def test_a_contact_that_makes_no_sense_is_refused(served: Served, body: object) -> None:
    answer = await served.http.post("/v3/contacts", json=body)

    assert error(answer) == (400, "contacts.api.validation.error")
    assert await served.ids() == []


async def test_what_is_not_there_is_not_found(served: Served) -> None:
    unknown = await served.http.get("/v3/contacts/unknown")
    nowhere = await served.http.get("/v3/nowhere")
    wrong_way = await served.http.patch("/v3/contacts")
    no_json = await served.http.post("/v3/contacts", content=b"{")

    assert error(unknown) == (404, "contacts.api.not_found")
    assert (nowhere.status_code, wrong_way.status_code, no_json.status_code) == (404, 405, 400)
