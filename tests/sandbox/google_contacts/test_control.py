"""Google's limits, its listing's rules, and its part of the control interface."""

from random import Random
from typing import Any

import pytest

from tests.sandbox.google_contacts.served import MASK, Served


def test_groups_and_contacts_have_limits_of_their_own(strict: Served) -> None:
    strict.control("PUT", "limits", {"critical_reads": {"limit": 1, "window_s": 60}})

    assert strict.connections().status_code == 200
    assert strict.connections().status_code == 429
    assert strict.http.get("/v1/contactGroups").status_code == 200


def test_a_first_page_that_asks_for_a_sync_token_costs_more(strict: Served) -> None:
    strict.control("PUT", "limits", {"full_syncs": {"limit": 1, "window_s": 60}})
    first = strict.connections(requestSyncToken="true")

    second = strict.connections(requestSyncToken="true")

    token = first.json()["nextSyncToken"]
    assert (first.status_code, second.status_code) == (200, 429)
    assert strict.connections().status_code == 200
    assert strict.connections(requestSyncToken="true", syncToken=token).status_code == 200


def test_all_users_of_the_project_share_a_limit(strict: Served) -> None:
    strict.state.project.limit = 1
    other = strict.control("POST", "accounts", {"name": "second"})
    headers = {"authorization": f"Bearer {other['access_token']}"}
    strict.connections()

    query = {"personFields": "names"}
    over = strict.http.get("/v1/people/me/connections", params=query, headers=headers)

    assert over.status_code == 429
    assert "per user" not in over.json()["error"]["message"]


@pytest.mark.parametrize(
    "changes",
    [
        {"personFields": "names"},
        {"pageSize": 2},
        {"requestSyncToken": "false"},
        {"sources": "READ_SOURCE_TYPE_CONTACT"},
        {"sortOrder": "LAST_MODIFIED_DESCENDING"},
    ],
)
def test_all_parameters_must_be_those_of_the_first_call(
    served: Served, changes: dict[str, Any]
) -> None:
    served.fill(3)
    asked: dict[str, Any] = {"pageSize": 1, "requestSyncToken": "true"}
    page_token = served.connections(**asked).json()["nextPageToken"]
    last = served.connections(requestSyncToken="true").json()["nextSyncToken"]

    paged = served.connections(**{**asked, "pageToken": page_token, **changes})
    synced = served.connections(**{"requestSyncToken": "true", "syncToken": last, **changes})

    assert paged.status_code == 400
    assert synced.status_code == 400
    assert "details" not in paged.json()["error"]
    assert served.connections(**asked, pageToken=page_token).status_code == 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"pageSize": 1_001},
        {"pageSize": "many"},
        {"pageToken": "x"},
        {"syncToken": "x"},
        {"sortOrder": "x"},
        {"sources": "x"},
        {"requestSyncToken": "true", "sortOrder": "LAST_MODIFIED_DESCENDING"},
    ],
)
def test_what_a_listing_does_not_take_is_refused(served: Served, wrong: dict[str, Any]) -> None:
    assert served.connections(**wrong).status_code == 400


def test_one_seed_gives_the_same_people_and_ids(served: Served) -> None:
    first = served.fill(20, list="Newsletter", invalid_share=0.2)
    state = served.control("GET", "state")
    served.control("POST", "reset", {"seed": 1})
    served.control("PUT", "limits", {"enabled": False})
    again = served.fill(20, list="Newsletter", invalid_share=0.2)

    assert first == again
    assert served.control("GET", "state")["contacts"] == state["contacts"]
    assert len(state["invalid_ids"]) == 4
    [members] = [each["members"] for each in state["lists"] if each["name"] == "Newsletter"]
    assert members == first


def test_contacts_are_moved_and_put_as_told(served: Served) -> None:
    ids = served.fill(2)
    served.control("POST", "contacts:change", {"ids": ids[:1], "kind": "email"})
    again = {"id": ids[1], "properties": {"names": [{"givenName": "New"}]}}
    served.control("POST", "contacts:upsert", {"contacts": [again]})

    contacts = {each["id"]: each for each in served.control("GET", "state")["contacts"]}
    assert contacts[ids[0]]["emailAddresses"][0]["value"].startswith("moved1.")
    assert contacts[ids[1]]["names"][0]["displayName"] == "New"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("contacts:fill", {"count": -1}),
        ("contacts:change", {"count": 5}),
        ("contacts:change", {"count": 0, "kind": "other"}),
        ("contacts:delete", {"ids": ["unknown"]}),
        ("contacts:upsert", {"contacts": [{"properties": {"nothing": 1}}]}),
        ("lists", {"name": "starred"}),
        ("lists/unknown:join", {"ids": []}),
        ("accounts", {"tier": "gold"}),
    ],
)
def test_what_cannot_be_carried_out_is_told(
    served: Served, path: str, body: dict[str, Any]
) -> None:
    answer = served.http.post(f"/_sandbox/{path}", json=body)

    assert answer.status_code == 400
    assert answer.json()["error"]


KEYS = (
    *("names", "givenName", "emailAddresses", "value", "metadata", "sources", "etag", "primary"),
    *("phoneNumbers", "memberships", "contactGroupMembership", "contactGroupResourceName"),
    *("contactGroup", "name", "resourceNamesToAdd", "resourceNamesToRemove", "birthdays", "date"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 10**20, [], {}),
    *("", "a", "a@b.c", "\u0000", "🌻", "9" * 500, "people/c1", "contactGroups/myContacts"),
)


def anything(draw: Random, depth: int = 0) -> Any:
    if depth < 4 and draw.random() < 0.6:
        inner = [anything(draw, depth + 1) for _ in range(draw.randint(0, 4))]
        return {draw.choice(KEYS): each for each in inner} if draw.random() < 0.7 else inner
    return draw.choice(VALUES)


def test_requests_that_make_no_sense_are_answered_each_of_them(served: Served) -> None:
    """A sandbox that breaks proves nothing."""
    draw = Random(1)
    [contact] = served.fill(1)
    group = served.control("POST", "lists", {"name": "G"})["list_id"]
    for _ in range(400):
        body = {draw.choice(KEYS): anything(draw) for _ in range(draw.randint(0, 4))}
        method, path = draw.choice(
            (
                ("POST", "/v1/people:createContact"),
                ("PATCH", f"/v1/people/{contact}:updateContact?updatePersonFields=names"),
                ("POST", "/v1/contactGroups"),
                ("PUT", f"/v1/contactGroups/{group}"),
                ("POST", f"/v1/contactGroups/{group}/members:modify"),
            )
        )
        answer = served.http.request(method, path, json=body)
        assert answer.status_code in {200, 400, 409}, (path, body, answer.text)
    assert served.http.get(f"/v1/people/{contact}", params={"personFields": MASK}).is_success
