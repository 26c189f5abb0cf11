"""Constant Contact's official client, unchanged, against the running sandbox: a script.

It runs in an environment of its own (requirements/clients-constant-contact.txt), without anything
of ours: `python official_client.py URL TOKEN`. It goes through its checks, one after the other, and
prints as JSON what became of each: null, or what was wrong. The client reads each answer into its
own models, which refuse what the provider's contract does not allow.
"""

import json
import sys
import traceback
import urllib.request
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from constant_contact_api_client import ApiClient, Configuration
from constant_contact_api_client.api.account_services_api import AccountServicesApi
from constant_contact_api_client.api.bulk_activities_api import BulkActivitiesApi
from constant_contact_api_client.api.contact_lists_api import ContactListsApi
from constant_contact_api_client.api.contacts_api import ContactsApi
from constant_contact_api_client.api.contacts_custom_fields_api import ContactsCustomFieldsApi
from constant_contact_api_client.exceptions import (
    ApiException,
    BadRequestException,
    NotFoundException,
    UnauthorizedException,
)

UNKNOWN = "00000000-0000-4000-8000-000000000000"
ADA = {
    "email_address": {"address": "ada@example.com", "permission_to_send": "implicit"},
    "first_name": "Ada",
    "create_source": "Account",
}


class Sandbox:
    """The client's interfaces, and the sandbox's control interface."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.key = {"Authorization": f"Bearer {token}"}
        self.client = self.client_with(token)
        self.contacts = ContactsApi(self.client)
        self.lists = ContactListsApi(self.client)
        self.fields = ContactsCustomFieldsApi(self.client)
        self.activities = BulkActivitiesApi(self.client)
        self.account = AccountServicesApi(self.client)

    def client_with(self, token: str) -> Any:
        return ApiClient(Configuration(host=f"{self.url}/v3", access_token=token))

    def control(self, method: str, path: str, body: object = None) -> Any:
        request = urllib.request.Request(
            f"{self.url}/_sandbox/{path}",
            method=method,
            data=json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def fill(self, count: int, name: str = "Newsletter") -> Any:
        wish = {"count": count, "list": name, "invalid_share": 0}
        return self.control("POST", "contacts:fill", wish)


def refused(kind: type[ApiException], call: Callable[[], object]) -> Any:
    """Return the exception that a call raises."""
    try:
        call()
    except kind as error:
        return error
    message = f"{kind.__name__} was not raised"
    raise AssertionError(message)


def lists_are_made_found_renamed_and_deleted(sandbox: Sandbox) -> None:
    made = sandbox.lists.create_list({"name": "Customers", "description": "All of them"})
    found = sandbox.lists.get_all_lists(include_membership_count="all", include_count=True)
    renamed = sandbox.lists.update_list(made.list_id, {"name": "Clients"})
    sandbox.lists.delete_list(made.list_id)

    assert [each.name for each in found.lists] == ["Customers"]
    assert found.lists_count == 1
    assert (renamed.list_id, renamed.name) == (made.list_id, "Clients")
    refused(NotFoundException, lambda: sandbox.lists.get_list(made.list_id))


def contacts_are_listed_with_their_count(sandbox: Sandbox) -> None:
    filled = sandbox.fill(7)
    first = sandbox.contacts.get_all_contacts(
        lists=filled["list_id"], limit=5, include_count=True, include="phone_numbers"
    )

    # It takes no cursor: it leaves following the link to whoever uses it.
    assert first.links.next.href.startswith("/v3/contacts?cursor=")
    assert first.contacts_count == 7
    assert len(first.contacts) == 5
    assert all(each.phone_numbers is not None for each in first.contacts)


def everybody_is_read_page_by_page(sandbox: Sandbox) -> None:
    filled = sandbox.fill(7)
    page = sandbox.contacts.get_all_contacts(limit=3)
    pages = [page]
    # Its methods take no cursor: what they are made of follows the link.
    while page.links is not None and page.links.next is not None:
        answer = sandbox.client.call_api("GET", f"{sandbox.url}{page.links.next.href}", sandbox.key)
        answer.read()
        page = sandbox.client.response_deserialize(
            response_data=answer, response_types_map={"200": "GetAllContacts200Response"}
        ).data
        pages.append(page)

    assert [len(each.contacts) for each in pages] == [3, 3, 1]
    read = {each.contact_id for page in pages for each in page.contacts}
    assert read == set(filled["ids"])


def changes_are_asked_for_by_time(sandbox: Sandbox) -> None:
    filled = sandbox.fill(3)
    sandbox.control("PUT", "clock", {"advance_s": 3_600})
    one = sandbox.contacts.get_contact_by_id(filled["ids"][0])
    address = {"address": one.email_address.address, "permission_to_send": "implicit"}
    body = {"email_address": address, "first_name": "Augusta", "update_source": "Account"}
    changed = sandbox.contacts.update_contact(one.contact_id, body)
    since = changed.updated_at - timedelta(minutes=1)

    found = sandbox.contacts.get_all_contacts(updated_after=since)

    assert [each.contact_id for each in found.contacts] == [one.contact_id]


def a_contact_is_made_read_changed_and_deleted(sandbox: Sandbox) -> None:
    made = sandbox.contacts.create_contact(ADA)
    found = sandbox.contacts.get_contact_by_id(made.contact_id, include="list_memberships")
    changed = sandbox.contacts.update_contact(
        made.contact_id, {**ADA, "first_name": "Augusta", "update_source": "Account"}
    )
    sandbox.contacts.delete_contact(made.contact_id)

    assert found.first_name == "Ada"
    assert found.email_address.address == "ada@example.com"
    assert changed.first_name == "Augusta"
    assert sandbox.contacts.get_contact_by_id(made.contact_id).deleted_at


def a_sign_up_makes_and_then_changes(sandbox: Sandbox) -> None:
    which = sandbox.lists.create_list({"name": "Sign-ups"})
    person = {"email_address": "ada@example.com", "list_memberships": [which.list_id]}
    first = sandbox.contacts.create_or_update_contact({**person, "first_name": "Ada"})
    second = sandbox.contacts.create_or_update_contact({**person, "first_name": "Augusta"})

    assert (first.action, second.action) == ("created", "updated")
    assert first.contact_id == second.contact_id


def custom_fields_are_shown_and_made(sandbox: Sandbox) -> None:
    made = sandbox.fields.create_custom_fields({"label": "Shoe size", "type": "string"})
    found = sandbox.fields.get_all_custom_fields(limit=100)

    assert made.custom_field_id in {each.custom_field_id for each in found.custom_fields}


def activities_tell_how_they_went(sandbox: Sandbox) -> None:
    filled = sandbox.fill(2)
    other = sandbox.lists.create_list({"name": "Others"})
    asked = sandbox.activities.create_list_add_activity(
        {"source": {"contact_ids": filled["ids"]}, "list_ids": [other.list_id]}
    )
    sandbox.account.get_account_details()
    done = sandbox.activities.get_activity_by_id(asked.activity_id)
    members = sandbox.contacts.get_all_contacts(lists=other.list_id)

    assert done.state == "completed"
    assert len(members.contacts) == 2


def the_account_says_whose_it_is(sandbox: Sandbox) -> None:
    details = sandbox.account.get_account_details()
    privileges = sandbox.account.get_user_privileges()

    assert details.organization_name == "Constant Contact sandbox"
    assert "contacts:read" in {each.privilege_name for each in privileges}


def refusals_are_the_clients_own_exceptions(sandbox: Sandbox) -> None:
    stranger = ContactsApi(sandbox.client_with("unknown"))
    refused(UnauthorizedException, stranger.get_all_contacts)
    refused(NotFoundException, lambda: sandbox.contacts.get_contact_by_id(UNKNOWN))
    sandbox.contacts.create_contact(ADA)
    taken = refused(ApiException, lambda: sandbox.contacts.create_contact(ADA))

    invalid = {**ADA, "email_address": {"address": "nobody", "permission_to_send": "implicit"}}
    wrong = refused(BadRequestException, lambda: sandbox.contacts.create_contact(invalid))

    assert json.loads(wrong.body)[0]["error_key"] == "contacts.api.validation.error"
    assert taken.status == 409
    assert json.loads(taken.body)[0]["error_key"] == "contacts.api.conflict"


def a_limit_is_a_429(sandbox: Sandbox) -> None:
    sandbox.control("PUT", "limits", {"enabled": True})
    for _ in range(4):
        sandbox.account.get_user_privileges()
    over = refused(ApiException, sandbox.account.get_user_privileges)

    assert over.status == 429
    assert json.loads(over.body)["error_key"] == "throttled"


def the_days_limit_is_a_429_too(sandbox: Sandbox) -> None:
    sandbox.control("PUT", "limits", {"enabled": True, "daily": {"limit": 1, "window_s": 86_400}})
    sandbox.account.get_user_privileges()
    over = refused(ApiException, sandbox.account.get_user_privileges)

    assert over.status == 429
    assert json.loads(over.body)["error_key"] == "quota_exceeded"


CHECKS = (
    lists_are_made_found_renamed_and_deleted,
    contacts_are_listed_with_their_count,
    everybody_is_read_page_by_page,
    changes_are_asked_for_by_time,
    a_contact_is_made_read_changed_and_deleted,
    a_sign_up_makes_and_then_changes,
    custom_fields_are_shown_and_made,
    activities_tell_how_they_went,
    the_account_says_whose_it_is,
    refusals_are_the_clients_own_exceptions,
    a_limit_is_a_429,
    the_days_limit_is_a_429_too,
)


def main(url: str, token: str) -> dict[str, str | None]:
    """Run each check in an empty sandbox; return what was wrong with each."""
    sandbox = Sandbox(url, token)
    found: dict[str, str | None] = {}
    for check in CHECKS:
        sandbox.control("POST", "reset", {})
        sandbox.control("PUT", "limits", {"enabled": False})
        try:
            check(sandbox)
            found[check.__name__] = None
        except Exception:  # noqa: BLE001  # the test shows it, whatever it is
            found[check.__name__] = traceback.format_exc()
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])))
