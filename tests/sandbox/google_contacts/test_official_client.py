"""Google's official client, google-api-python-client, unchanged, against the running sandbox.

It builds each call out of the discovery document that it ships: a parameter that the People API has
not is refused by it, and errors are read into its own exception.
"""

from collections.abc import Callable
from typing import Any

import pytest
import requests
from google.auth.exceptions import RefreshError
from google.auth.transport.requests import Request
from google.oauth2.credentials import Credentials
from googleapiclient.errors import HttpError

from sandbox.google_contacts.tokens import CLIENT_ID, CLIENT_SECRET
from tests.sandbox.google_contacts.served import MASK, Served

ME = "people/me"


def refusal(call: Callable[[], object]) -> HttpError:
    with pytest.raises(HttpError) as caught:
        call()
    return caught.value


def reason_of(error: HttpError) -> str:
    return str(error.error_details[0]["reason"])


def created(client: Any, **names: str) -> Any:
    body = {
        "names": [names],
        "emailAddresses": [{"value": "ada@example.com", "type": "work"}],
        "phoneNumbers": [{"value": "+49 (151) 123456", "type": "mobile"}],
    }
    return client.people().createContact(body=body, personFields=MASK).execute()


def test_everyone_is_listed_page_by_page(served: Served) -> None:
    ids = served.fill(7)
    connections = served.official().people().connections()
    call = connections.list(resourceName=ME, personFields=MASK, pageSize=3)
    pages = []
    while call is not None:
        pages.append(call.execute())
        call = connections.list_next(call, pages[-1])

    names = [each["resourceName"] for page in pages for each in page["connections"]]
    assert sorted(names) == sorted(f"people/{each}" for each in ids)
    assert [page.get("nextPageToken") is None for page in pages] == [False, False, True]
    assert {page["totalItems"] for page in pages} == {7}
    assert all("nextSyncToken" not in page for page in pages)


def test_a_sync_token_tells_what_changed(served: Served) -> None:
    ids = served.fill(3)
    connections = served.official().people().connections()
    asked = {"resourceName": ME, "personFields": MASK, "requestSyncToken": True}
    first = connections.list(**asked).execute()["nextSyncToken"]
    idle = connections.list(**asked, syncToken=first).execute()
    served.control("POST", "contacts:change", {"ids": ids[:1]})
    served.control("POST", "contacts:delete", {"ids": ids[1:2]})

    delta = connections.list(**asked, syncToken=idle["nextSyncToken"]).execute()

    assert idle.keys() == {"nextSyncToken"}  # An empty list is left out.
    told = {e["resourceName"]: e["metadata"].get("deleted") for e in delta["connections"]}
    assert told == {f"people/{ids[0]}": None, f"people/{ids[1]}": True}


def test_an_expired_sync_token_is_the_clients_own_error(served: Served) -> None:
    connections = served.official().people().connections()
    asked = {"resourceName": ME, "personFields": MASK, "requestSyncToken": True}
    token = connections.list(**asked).execute()["nextSyncToken"]
    served.time.now_s += 7 * 86_400

    error = refusal(connections.list(**asked, syncToken=token).execute)

    assert error.status_code == 400
    assert reason_of(error) == "EXPIRED_SYNC_TOKEN"
    assert error.reason.startswith("Sync token is expired.")


def test_a_contact_is_made_read_changed_and_deleted(served: Served) -> None:
    people = served.official().people()
    made = created(served.official(), givenName="Ada", familyName="Lovelace")
    name = made["resourceName"]
    read = people.get(resourceName=name, personFields=MASK).execute()
    read["names"] = [{"givenName": "Augusta"}]
    changed = people.updateContact(
        resourceName=name, updatePersonFields="names", personFields=MASK, body=read
    ).execute()
    gone = people.deleteContact(resourceName=name).execute()

    assert read["phoneNumbers"][0]["canonicalForm"] == "+49151123456"
    assert made["names"][0]["displayName"] == "Ada Lovelace"
    assert changed["names"][0]["givenName"] == "Augusta"
    assert changed["emailAddresses"][0]["value"] == "ada@example.com"
    assert gone == {}
    missing = refusal(people.get(resourceName=name, personFields=MASK).execute)
    assert (missing.status_code, missing.reason) == (404, "Requested entity was not found.")


def test_a_contact_that_changed_since_is_not_overwritten(served: Served) -> None:
    people = served.official().people()
    made = created(served.official(), givenName="Ada")
    body = {**made, "names": [{"givenName": "Augusta"}]}
    update = {"resourceName": made["resourceName"], "updatePersonFields": "names"}
    people.updateContact(**update, body=body).execute()

    stale = refusal(people.updateContact(**update, body=body).execute)
    bare = refusal(people.updateContact(**update, body={"names": []}).execute)

    assert stale.status_code == bare.status_code == 400
    assert "different than the current" in stale.reason
    assert "sources" in bare.reason


def test_contacts_are_read_in_a_batch_each_with_its_status(served: Served) -> None:
    ids = served.fill(2)
    names = [f"people/{each}" for each in (*ids, "c1")]

    told = served.official().people().getBatchGet(resourceNames=names, personFields=MASK).execute()

    answers = told["responses"]
    assert [each["requestedResourceName"] for each in answers] == names
    assert [each["status"].get("code") for each in answers] == [None, None, 5]
    assert "person" not in answers[2]


def test_groups_are_made_filled_renamed_and_deleted(served: Served) -> None:
    ids = served.fill(3)
    groups = served.official().contactGroups()
    name = groups.create(body={"contactGroup": {"name": "VIP"}}).execute()["resourceName"]
    taken = refusal(groups.create(body={"contactGroup": {"name": "VIP"}}).execute)
    members = [f"people/{each}" for each in ids]
    added = {"resourceNamesToAdd": [*members, "people/c1"]}
    told = groups.members().modify(resourceName=name, body=added).execute()
    removed = {"resourceNamesToRemove": members[:1]}
    groups.members().modify(resourceName=name, body=removed).execute()
    read = groups.get(resourceName=name, maxMembers=10).execute()
    groups.update(resourceName=name, body={"contactGroup": {"name": "Best"}}).execute()
    found = groups.list(pageSize=1000).execute()["contactGroups"]
    groups.delete(resourceName=name).execute()

    assert taken.status_code == 409
    assert told == {"notFoundResourceNames": ["people/c1"]}
    assert (read["memberCount"], read["memberResourceNames"]) == (2, members[1:])
    assert [each["name"] for each in found if each["groupType"] == "USER_CONTACT_GROUP"] == ["Best"]
    assert refusal(groups.get(resourceName=name).execute).status_code == 404


def test_groups_are_listed_page_by_page(served: Served) -> None:
    groups = served.official().contactGroups()
    names = [f"Group {number}" for number in range(5)]
    for name in names:
        groups.create(body={"contactGroup": {"name": name}}).execute()

    found: list[str] = []
    pages = 0
    request = groups.list(pageSize=3)
    while request is not None:
        page = request.execute()
        pages += 1
        found += [
            each["name"]
            for each in page["contactGroups"]
            if each["groupType"] == "USER_CONTACT_GROUP"
        ]
        request = groups.list_next(request, page)

    assert sorted(found) == names
    assert pages > 1


def test_a_contact_keeps_its_last_group(served: Served) -> None:
    ids = served.fill(1)
    body = {"resourceNamesToRemove": [f"people/{ids[0]}"]}
    members = served.official().contactGroups().members()

    told = members.modify(resourceName="contactGroups/myContacts", body=body).execute()

    assert told == {"canNotRemoveLastContactGroupResourceNames": [f"people/{ids[0]}"]}


def test_refusals_have_their_reasons(served: Served) -> None:
    stranger = served.official("unknown").people()
    with pytest.raises(RefreshError):  # A 401: it would have another token, and has none.
        stranger.get(resourceName=ME, personFields="names").execute()

    scopes = ["https://www.googleapis.com/auth/userinfo.email"]
    token = served.control("POST", "tokens", {"scopes": scopes})["access_token"]
    people = served.official(token).people()
    error = refusal(people.connections().list(resourceName=ME, personFields="names").execute)
    assert (error.status_code, reason_of(error)) == (403, "ACCESS_TOKEN_SCOPE_INSUFFICIENT")
    assert people.get(resourceName=ME, personFields="names").execute()["resourceName"]

    people = served.official().people()
    no_mask = refusal(people.connections().list(resourceName=ME).execute)
    unknown = refusal(people.connections().list(resourceName=ME, personFields="nope").execute)
    assert no_mask.reason.startswith("personFields mask is required.")
    assert unknown.reason.startswith('Invalid personFields mask path: "nope".')


def test_a_limit_is_told_with_its_metric(strict: Served) -> None:
    people = strict.official().people()
    for _ in range(60):
        people.get(resourceName=ME, personFields="names").execute()

    error = refusal(people.get(resourceName=ME, personFields="names").execute)

    assert (error.status_code, reason_of(error)) == (429, "RATE_LIMIT_EXCEEDED")
    assert "per minute per user" in error.reason
    assert "retry-after" not in error.resp
    assert strict.control("GET", "calls")["violations_by_bucket"] == {"critical_reads": 1}
    strict.time.now_s += 60
    assert people.get(resourceName=ME, personFields="names").execute()


def test_googles_own_library_refreshes_and_keeps_its_refresh_token(served: Served) -> None:
    granted = served.control("POST", "tokens")
    credentials: Any = Credentials(  # type: ignore[no-untyped-call]  # theirs has no types
        token=None,
        refresh_token=granted["refresh_token"],
        token_uri=f"{served.url}/token",
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
    )

    with requests.Session() as session:
        credentials.refresh(Request(session))

    assert credentials.token != granted["access_token"]
    assert credentials.refresh_token == granted["refresh_token"]
    people = served.official(credentials.token).people()
    assert people.get(resourceName=ME, personFields="names").execute()
    served.control("POST", "app:uninstall")
    with requests.Session() as session, pytest.raises(RefreshError, match="invalid_grant"):
        credentials.refresh(Request(session))
