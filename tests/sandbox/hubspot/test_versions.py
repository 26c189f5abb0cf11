"""One API at the paths of each generation, and what sets 2026-09 apart."""

from typing import Any

import pytest

from tests.sandbox.hubspot.served import Served

OBJECTS = (
    "/crm/v3/objects/contacts",
    "/crm/v3/objects/0-1",
    "/crm/objects/2026-03/contacts",
    "/crm/objects/2026-09/contacts",
    "/crm/objects/2026-09/0-1",
)


def test_contacts_are_the_same_at_every_path(served: Served) -> None:
    (first, *_) = served.fill(3)

    pages = [served.http.get(path, params={"limit": 2}).json()["results"] for path in OBJECTS]
    singles = [served.http.get(f"{path}/{first}").json() for path in OBJECTS]
    found = [
        served.http.post(f"{path}/search", json={"limit": 1}).json()["results"] for path in OBJECTS
    ]

    for told in (pages, singles, found):
        assert told[0]
        assert told == [told[0]] * len(OBJECTS)


@pytest.mark.parametrize("path", ["/crm/v3/lists", "/crm/lists/2026-03", "/crm/lists/2026-09"])
def test_lists_are_at_every_path(served: Served, path: str) -> None:
    ids = served.fill(2, list="All")

    found = served.http.post(f"{path}/search", json={}).json()
    members = served.http.get(f"{path}/1/memberships").json()
    several = served.http.post(
        f"{path}/records/memberships/batch/read",
        json={"inputs": [{"objectTypeId": "0-1", "recordId": ids[0]}]},
    ).json()

    assert [each["name"] for each in found["lists"]] == ["All"]
    assert [each["recordId"] for each in members["results"]] == ids
    (mine,) = several["results"]
    assert [each["listId"] for each in mine["recordListMemberships"]] == ["1"]


@pytest.mark.parametrize(
    "path",
    [
        "/crm/v3/properties/contacts",
        "/crm/properties/2026-03/contacts",
        "/crm/properties/2026-09/0-1",
        "/account-info/v3/details",
        "/account-info/2026-09/details",
    ],
)
def test_properties_and_details_are_at_every_path(served: Served, path: str) -> None:
    assert served.http.get(path).status_code == 200


@pytest.mark.parametrize("version", ["v1", "v3", "2026-03", "2026-09"])
def test_tokens_are_given_at_every_path(served: Served, version: str) -> None:
    grant = served.control("POST", "tokens")["refresh_token"]
    form = {"grant_type": "refresh_token", "refresh_token": grant}
    client = {"client_id": "sandbox-client", "client_secret": "sandbox-secret"}

    answer = served.http.post(f"/oauth/{version}/token", data={**form, **client})

    assert (answer.status_code, answer.json()["hub_id"]) == (200, 1000001)


@pytest.mark.parametrize(
    ("path", "status"), [(OBJECTS[0], 207), (OBJECTS[2], 207), (OBJECTS[3], 200)]
)
def test_a_batch_that_fails_in_part_is_a_207_until_2026_09(
    served: Served, path: str, status: int
) -> None:
    (known,) = served.fill(1)
    wish: dict[str, Any] = {"inputs": [{"id": known}, {"id": "999"}], "properties": ["email"]}

    answer = served.http.post(f"{path}/batch/read", json=wish)

    assert (answer.status_code, answer.json()["numErrors"]) == (status, 1)


def test_another_object_type_is_refused(served: Served) -> None:
    answers = [
        served.http.get("/crm/v3/objects/deals"),
        served.http.get("/crm/properties/2026-09/deals"),
    ]

    for answer in answers:
        assert answer.status_code == 400
        assert answer.json()["message"] == "Unable to infer object type from: deals"
