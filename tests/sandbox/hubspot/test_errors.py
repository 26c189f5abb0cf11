"""HubSpot's error bodies, word for word where they are known."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.sandbox.hubspot.served import Served

CONTACTS = "/crm/objects/2026-09/contacts"


def facts(answer: httpx.Response) -> dict[str, Any]:
    """Return an error's body without its correlation id, which must be a UUID and the header's."""
    body: dict[str, Any] = answer.json()
    correlation_id = body.pop("correlationId")
    assert str(UUID(correlation_id)) == answer.headers["x-hubspot-correlation-id"]
    assert answer.headers["content-type"] == "application/json;charset=utf-8"
    assert body.pop("status") == "error"
    return body


def test_no_credentials(served: Served) -> None:
    answer = httpx.get(f"{served.url}{CONTACTS}")

    body = facts(answer)
    assert answer.status_code == 401
    assert body["message"].startswith("Authentication credentials not found.")
    assert body["category"] == "INVALID_AUTHENTICATION"


def test_missing_scopes(served: Served) -> None:
    bearer = {"authorization": f"Bearer {served.token('crm.objects.contacts.read')}"}

    answer = served.http.get("/crm/lists/2026-09/1", headers=bearer)

    body = facts(answer)
    assert answer.status_code == 403
    assert body["category"] == "MISSING_SCOPES"
    assert body["errors"][0]["context"] == {"requiredGranularScopes": ["crm.lists.read"]}
    assert body["links"] == {"scopes": "https://developers.hubspot.com/scopes"}


def test_any_contact_scope_opens_the_properties_and_no_other_does(served: Served) -> None:
    def status(scope: str) -> int:
        bearer = {"authorization": f"Bearer {served.token(scope)}"}
        return served.http.get("/crm/properties/2026-09/contacts", headers=bearer).status_code

    assert status("crm.objects.contacts.read") == status("crm.schemas.contacts.read") == 200
    assert status("crm.lists.read") == 403


def test_an_unknown_id_and_an_id_that_is_no_number(served: Served) -> None:
    unknown = served.http.get(f"{CONTACTS}/999999")
    no_number = served.http.get(f"{CONTACTS}/ada")

    assert (unknown.status_code, facts(unknown)) == (404, {"message": "resource not found"})
    assert (no_number.status_code, facts(no_number)) == (
        404,
        {
            "message": "Object not found.  objectId are usually numeric.",
            "context": {"id": ["ada"]},
            "category": "OBJECT_NOT_FOUND",
        },
    )


def test_an_unknown_id_is_deleted_without_complaint(served: Served) -> None:
    assert served.http.delete(f"{CONTACTS}/999999").status_code == 204


def test_a_taken_address(served: Served) -> None:
    wish = {"properties": {"email": "ada@example.org"}}
    made = served.http.post(CONTACTS, json=wish)
    other = served.http.post(CONTACTS, json={"properties": {"email": "bob@example.org"}})

    answers = [
        served.http.post(CONTACTS, json=wish),
        served.http.patch(f"{CONTACTS}/{other.json()['id']}", json=wish),
    ]

    assert made.headers["location"].endswith(f"{CONTACTS}/{made.json()['id']}")
    for answer in answers:
        assert answer.status_code == 409
        assert facts(answer) == {
            "message": f"Contact already exists. Existing ID: {made.json()['id']}",
            "category": "CONFLICT",
        }


def test_a_taken_unique_value(served: Served) -> None:
    one = {"email": "ada@example.org", "customer_number": "1"}
    two = {"email": "bob@example.org", "customer_number": "1"}
    served.http.post(CONTACTS, json={"properties": one})

    answer = served.http.post(CONTACTS, json={"properties": two})

    assert (answer.status_code, facts(answer)["category"]) == (409, "CONFLICT")


def test_an_address_too_long_for_a_url(served: Served) -> None:
    answer = served.http.get(CONTACTS, params={"properties": ",".join(["firstname"] * 900)})

    assert answer.status_code == 414
    assert facts(answer)["message"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "Invalid input JSON on line 1, column 1"),
        (b"[]", "Invalid input JSON: an object is expected"),
        (b"{}", "Invalid input JSON: some of required attributes are not set [properties]"),
        (b'{"properties":{"city":"Leeds"}}', "One of email, firstname or lastname is needed"),
    ],
)
def test_a_body_that_is_no_contact(served: Served, body: bytes, message: str) -> None:
    answer = served.http.post(CONTACTS, content=body)

    assert answer.status_code == 400
    assert facts(answer)["message"].startswith(message)


def test_a_method_that_a_path_does_not_have(served: Served) -> None:
    answer = served.http.put(CONTACTS)

    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")


def test_pages_are_bounded(served: Served) -> None:
    served.control("POST", "lists", {"name": "All"})
    statuses = {
        path: served.http.get(path).status_code
        for path in (
            f"{CONTACTS}?limit=101",
            f"{CONTACTS}?limit=0",
            f"{CONTACTS}?after=x",
            "/crm/v3/lists/1/memberships?limit=251",
            "/crm/v3/lists/1/memberships?after=!",
        )
    }

    assert set(statuses.values()) == {400}
    assert served.http.post("/crm/v3/lists/search", json={"count": 501}).status_code == 400
    assert served.http.post("/crm/v3/lists/search", json={"sort": "SIZE"}).status_code == 400


def test_merges_and_batches_that_make_no_sense(served: Served) -> None:
    (known,) = served.fill(1)
    twice = [{"properties": {"email": "ada@example.org"}}] * 2
    unknown = [{"id": "999999", "properties": {"city": "Leeds"}}]

    statuses = [
        served.http.post(f"{CONTACTS}/{path}", json=wish).status_code
        for path, wish in (
            ("merge", {"primaryObjectId": known, "objectIdToMerge": known}),
            ("merge", {"primaryObjectId": known, "objectIdToMerge": "999999"}),
            ("batch/create", {"inputs": twice}),
            ("batch/upsert", {"inputs": unknown}),
            ("batch/read", {"inputs": [], "properties": "email"}),
            ("batch/read", {"inputs": [{"id": "1"}], "idProperty": "city"}),
        )
    ]

    assert statuses == [400, 404, 400, 404, 400, 400]


def test_a_contact_takes_no_more_than_250_merges(served: Served) -> None:
    first, second = served.fill(2)
    portal = served.state.default
    contact = portal.contacts.by_id(int(first))
    assert contact is not None
    merges = tuple((number, 0) for number in range(250))
    portal.contacts._by_id[contact.id] = replace(contact, merged=merges)

    answer = served.http.post(
        f"{CONTACTS}/merge", json={"primaryObjectId": first, "objectIdToMerge": second}
    )

    message = "Cannot have more than 250 identities on a profile"
    assert (answer.status_code, facts(answer)["message"]) == (400, message)


def test_a_list_that_is_not_there(served: Served) -> None:
    answer = served.http.get("/crm/v3/lists/77")

    assert (answer.status_code, facts(answer)["category"]) == (404, "OBJECT_NOT_FOUND")


def test_a_list_of_an_object_type_that_is_not_there(served: Served) -> None:
    served.control("POST", "lists", {"name": "Deals", "object_type_id": "0-3"})

    answer = served.http.get("/crm/v3/lists/1/memberships")

    assert answer.status_code == 400
    assert facts(answer)["subCategory"] == "ListError.INVALID_OBJECT_TYPE_FOR_LIST"


def test_a_throttle_fault_is_hubspots_own_429(served: Served) -> None:
    served.control("PUT", "faults", [{"kind": "throttle"}])

    page = served.http.get(CONTACTS)
    found = served.http.post(f"{CONTACTS}/search", json={})

    assert (page.status_code, found.status_code) == (429, 429)
    assert facts(page)["policyName"] == "TEN_SECONDLY_ROLLING"
    assert facts(found) == {
        "message": "You have reached your secondly limit.",
        "errorType": "RATE_LIMIT",
    }


def test_a_migration_says_when_to_come_back_and_a_lock_does_not(served: Served) -> None:
    fault = {"kind": "status", "times": 1}
    served.control("PUT", "faults", [{**fault, "status": 477}, {**fault, "status": 423}])

    migrating, locked = served.http.get(CONTACTS), served.http.get(CONTACTS)

    assert (migrating.status_code, migrating.headers["retry-after"]) == (477, "60")
    assert (locked.status_code, "retry-after" in locked.headers) == (423, False)


def test_a_lie_claims_what_was_not_done(served: Served) -> None:
    (known,) = served.fill(1)
    served.control("PUT", "faults", [{"kind": "lie"}])

    told = served.http.patch(f"{CONTACTS}/{known}", json={"properties": {"city": "Leeds"}})
    gone = served.http.delete(f"{CONTACTS}/{known}")
    batch = served.http.post(f"{CONTACTS}/batch/archive", json={"inputs": [{"id": known}]})
    served.control("DELETE", "faults")

    assert (told.status_code, told.json()["properties"]) == (200, {"city": "Leeds"})
    assert (gone.status_code, batch.json()["status"]) == (204, "COMPLETE")
    there = served.http.get(f"{CONTACTS}/{known}", params={"properties": "city"})
    assert there.json()["properties"]["city"] != "Leeds"
