"""Contacts, their lists, values and tags, as the documentation has them."""

from typing import Any

import pytest

from tests.sandbox.activecampaign.served import ActiveCampaign

ADA = "ada@example.org"


async def test_sync_creates_then_updates_what_is_sent(ac: ActiveCampaign) -> None:
    await ac.post("/fields", {"field": {"type": "text", "title": "City"}})
    values = [{"field": "1", "value": "Leeds"}, {"field": "99", "value": "nowhere"}]
    wanted = {"email": "Ada@Example.org", "firstName": "Ada", "fieldValues": values}

    made = await ac.ask("POST", "/contact/sync", {"contact": wanted})
    again = await ac.ask("POST", "/contact/sync", {"contact": {"email": ADA, "lastName": "L"}})

    assert (made.status_code, again.status_code) == (201, 200)
    assert [each["value"] for each in made.json()["fieldValues"]] == ["Leeds"]
    assert again.json()["fieldValues"] == []
    contact = again.json()["contact"]
    assert (contact["id"], contact["firstName"], contact["lastName"]) == ("1", "Ada", "L")
    assert (await ac.get("/contacts/1/fieldValues"))["fieldValues"][0]["value"] == "Leeds"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "told"),
    [
        ("POST", "/contact/sync", {"contact": {}}, 400, "Contact email must be provided for sync"),
        ("POST", "/contact/sync", {"contact": {"email": "x"}}, 422, "email_invalid"),
        ("POST", "/contacts", {"contact": {"email": "bob@example.org"}}, 422, "duplicate"),
        ("POST", "/contacts", {}, 400, "must have a 'contact' object"),
        ("PUT", "/contacts/1", {"contact": {"email": "bob@example.org"}}, 422, "duplicate"),
        ("PUT", "/contacts/9", {"contact": {}}, 404, "Subscriber with id 9"),
        ("GET", "/contacts/9", None, 404, "Subscriber with id 9"),
        ("DELETE", "/contacts/9", None, 404, "No result found for contact with id 9"),
        ("POST", "/contactLists", {"contactList": {"list": 9, "contact": 1, "status": 1}}, 422,
         "list_not_exist"),
        ("POST", "/contactLists", {"contactList": {"list": 1, "contact": 9, "status": 1}}, 422,
         "contact_not_exist"),
        ("POST", "/contactLists", {"contactList": {"list": 1, "contact": 1, "status": 4}}, 422,
         "not a valid choice"),
        ("POST", "/fieldValues", {"fieldValue": {"contact": 1, "field": "CITY"}}, 422,
         "Field id not valid"),
        ("GET", "/fieldValues/9", None, 404, "FieldValue"),
        ("POST", "/fields", {"field": {"title": "N", "type": "number"}}, 422, "field_invalid"),
        ("POST", "/fields", {"field": {"type": "text"}}, 422, "title"),
        ("GET", "/fields/9", None, 404, "Field with id 9"),
        ("POST", "/fieldOption/bulk", {}, 422, "array of fieldOption"),
        ("POST", "/lists", {"list": {"name": "News"}}, 422, "stringid"),
        ("GET", "/lists/9", None, 404, "No Result found"),
        ("POST", "/tags", {"tag": {}}, 422, "tag"),
        ("GET", "/tags/9", None, 404, "Tag"),
        ("POST", "/contactTags", {"contactTag": {"contact": 1}}, 422, "Missing attribute"),
        ("POST", "/contactTags", {"contactTag": {"contact": 9, "tag": 1}}, 404,
         "Contact not found"),
        ("DELETE", "/contactTags/9", None, 404, "SubscriberTag"),
        ("GET", "/import/info", None, 400, "batchId"),
        ("GET", "/nowhere", None, 404, "Not Found"),
        ("DELETE", "/users/me", None, 405, ""),
    ],
)  # fmt: skip
async def test_a_refusal_has_one_of_the_documented_shapes(
    ac: ActiveCampaign, method: str, path: str, body: Any, status: int, told: str
) -> None:
    await ac.put(ADA)
    await ac.put("bob@example.org")

    answer = await ac.ask(method, path, body)

    assert answer.status_code == status, answer.text
    assert told in answer.text
    assert set(answer.json()) & {"errors", "message"}


async def test_a_body_that_is_no_json_is_refused(ac: ActiveCampaign) -> None:
    answer = await ac.http.post(
        "/api/3/contacts", content=b"{", headers={"api-token": "activecampaign-sandbox"}
    )

    assert answer.status_code == 400


async def test_a_subscription_takes_back_who_had_left(ac: ActiveCampaign) -> None:
    """The warning of the documentation, so that S3 can fail."""
    contact = await ac.put(ADA, on="News")
    await ac.control("POST", "contacts:block", {"emails": [ADA], "list": "News"})
    wanted = {"list": 2, "contact": contact, "status": "1"}

    set_again = await ac.post("/contactLists", {"contactList": wanted})

    assert (set_again["contactList"]["status"], set_again["contactList"]["sourceid"]) == (1, "4")
    assert (await ac.whole())["resubscribed"] == [[ADA, 2]]


async def test_a_contact_keeps_its_lists_when_its_address_moves(ac: ActiveCampaign) -> None:
    contact = await ac.put(ADA, on="News")

    moved = await ac.ask("PUT", f"/contacts/{contact}", {"contact": {"email": "new@example.org"}})

    assert moved.status_code == 200
    [shown] = (await ac.whole())["contacts"]
    assert (shown["email"], shown["listIds"]) == ("new@example.org", [2])
    assert (await ac.get("/contacts", email=ADA))["contacts"] == []


async def test_contacts_are_found_by_what_is_asked_for(ac: ActiveCampaign) -> None:
    ids = [await ac.put(f"{name}@example.org", on="News", FIRSTNAME=name) for name in "abcd"]
    await ac.control("POST", "contacts:block", {"emails": ["b@example.org"], "list": "News"})
    await ac.post("/tags", {"tag": {"tag": "vip", "tagType": "contact"}})
    await ac.post("/contactTags", {"contactTag": {"contact": ids[2], "tag": 1}})

    async def found(**query: Any) -> str:
        page = await ac.get("/contacts", **query)
        return "".join(each["firstName"] for each in page["contacts"])

    assert await found(listid=2) == "abcd"
    assert await found(listid=2, status=1) == "acd"
    assert await found(status=2) == "b"
    assert await found(listid=1) == ""
    assert await found(email="C@example.org") == "c"
    assert await found(email_like="d@") == "d"
    assert await found(search="B@EX") == "b"
    assert await found(tagid=1) == "c"
    assert await found(id_greater=ids[1], **{"orders[id]": "DESC"}) == "dc"
    assert await found(id_less=ids[1], limit=5) == "a"
    assert await found(**{"ids[]": [ids[0], ids[3]]}) == "ad"
    assert await found(limit=2, offset=1) == "bc"
    assert await found(**{"filters[updated_after]": "2020-01-01"}) == "abcd"
    assert await found(**{"filters[created_before]": "2020-01-01"}) == ""
    page = await ac.get("/contacts", limit=1, include="contactLists,fieldValues,contactTags")
    assert (page["meta"]["total"], page["contactLists"][0]["status"]) == ("4", "1")
    assert await found(phone="+49") == ""


async def test_a_field_has_options_relations_and_a_tag_of_its_own(ac: ActiveCampaign) -> None:
    made = await ac.post(
        "/fields", {"field": {"type": "dropdown", "title": "Loyalty Tier", "perstag": "my Tag!"}}
    )
    second = await ac.post("/fields", {"field": {"type": "text", "title": "Another Test Title"}})
    options = [{"field": 1, "value": "Gold", "label": "Gold", "orderid": 1}]
    await ac.post("/fieldOption/bulk", {"fieldOptions": options})
    await ac.post("/fieldRels", {"fieldRel": {"field": 1, "relid": 0}})

    taken = await ac.ask("POST", "/fields", {"field": {"type": "text", "title": "loyalty tier"}})
    renamed = await ac.ask("PUT", "/fields/1", {"field": {"title": "Tier", "perstag": "tier"}})

    assert (made["field"]["perstag"], made["field"]["relations"]) == ("MYTAG", [])
    assert second["field"]["perstag"] == "ANOTHER_TEST_TITLE"
    assert taken.json()["errors"][0]["code"] == "duplicate"
    assert renamed.json()["field"]["perstag"] == "TIER"
    page = await ac.get("/fields", **{"filters[perstag]": "tier"})
    assert [each["relations"] for each in page["fields"]] == [["1"]]
    assert (await ac.get("/fields/1/options"))["fieldOptions"][0]["value"] == "Gold"
    assert (await ac.ask("DELETE", "/fields/1")).json() == {}


async def test_one_value_is_set_alone(ac: ActiveCampaign) -> None:
    contact = await ac.put(ADA)
    await ac.post("/fields", {"field": {"type": "text", "title": "City"}})
    wanted = {"fieldValue": {"contact": contact, "field": 1, "value": "Leeds"}}

    first = await ac.post("/fieldValues", wanted)
    second = await ac.post("/fieldValues", wanted)

    assert first["fieldValue"]["id"] == second["fieldValue"]["id"]
    assert (await ac.get("/fieldValues/1"))["fieldValue"]["value"] == "Leeds"
    assert len((await ac.get("/fieldValues"))["fieldValues"]) == 1


async def test_a_list_is_made_shown_and_deleted(ac: ActiveCampaign) -> None:
    wanted = {
        "name": "News",
        "stringid": "news",
        "sender_url": "https://example.com",
        "sender_reminder": "You signed up.",
    }
    made = await ac.ask("POST", "/lists", {"list": wanted})
    shown = await ac.ask("POST", "/listGroups", {"listGroup": {"listid": 2, "groupid": 1}})
    contact = await ac.put(ADA, on="News")

    gone = await ac.ask("DELETE", "/lists/2")

    assert (made.status_code, shown.status_code, gone.status_code) == (200, 201, 200)
    assert (await ac.get(f"/contacts/{contact}"))["contactLists"] == []
    assert [each["name"] for each in (await ac.get("/lists"))["lists"]] == ["Master Contact List"]


async def test_tags_are_searched_renamed_and_taken_off(ac: ActiveCampaign) -> None:
    contact = await ac.put(ADA)
    for name in ("vip", "vip-2", "other"):
        await ac.post("/tags", {"tag": {"tag": name, "tagType": "contact"}})
    link = await ac.post("/contactTags", {"contactTag": {"contact": contact, "tag": 1}})

    found = await ac.get("/tags", search="VIP")
    renamed = await ac.ask("PUT", "/tags/2", {"tag": {"tag": "very important"}})
    off = await ac.ask("DELETE", f"/contactTags/{link['contactTag']['id']}")
    gone = await ac.ask("DELETE", "/tags/1")

    assert [each["tag"] for each in found["tags"]] == ["vip", "vip-2"]
    assert renamed.json()["tag"]["tag"] == "very important"
    assert (off.json(), gone.json()) == ({}, {})
    assert (await ac.get(f"/contacts/{contact}/contactTags"))["contactTags"] == []


async def test_every_single_call_sets_something_off(ac: ActiveCampaign) -> None:
    """So that AC3 can fail: version 3 has no switch for single calls."""
    await ac.post("/contact/sync", {"contact": {"email": ADA}})
    await ac.post("/tags", {"tag": {"tag": "vip"}})
    await ac.post("/contactTags", {"contactTag": {"contact": 1, "tag": 1}})
    await ac.post("/contactLists", {"contactList": {"list": 1, "contact": 1, "status": 1}})
    await ac.post("/contactLists", {"contactList": {"list": 1, "contact": 1, "status": 2}})

    state = await ac.whole()

    assert state["triggered"] == {
        "automation": 4,
        "autoresponder": 1,
        "notification": 2,
        "webhook": 4,
    }
    assert [each["on"] for each in state["last_triggered"] if each["kind"] == "webhook"] == [
        "update",
        "tag",
        "subscribe",
        "unsubscribe",
    ]
