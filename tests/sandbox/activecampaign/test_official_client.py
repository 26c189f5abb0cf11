"""activecampaign-python, unchanged, against the running sandbox.

It takes the account's address and a key, and gives back what was answered, errors too. What it
accepts as ActiveCampaign is close enough for ours. The sandbox is a process of its own, as in a
demo.
"""

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from activecampaign.client import Client

ROOT = Path(__file__).parents[3]
ADA = "ada@example.org"
_names = (f"official-{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Run a sandbox process for all tests of this module; each has an account of its own."""
    command = [sys.executable, "-m", "sandbox", "--port", "activecampaign=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["activecampaign"]
        process.terminate()


@dataclass(frozen=True)
class Account:
    """An account of the running sandbox, and the control of it."""

    url: str
    id: str
    api_key: str

    def control(self, method: str, path: str, body: Any = None) -> Any:
        address = f"{self.url}/_sandbox/{path}"
        answer = httpx.request(method, address, json=body, params={"account": self.id})
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None


@pytest.fixture
def account(url: str) -> Account:
    opened = httpx.post(f"{url}/_sandbox/accounts", json={"name": next(_names)}).json()
    made = Account(url, opened["account"], opened["api_key"])
    made.control("PUT", "limits", {"enabled": False})
    return made


@pytest.fixture
def client(account: Account) -> Client:
    return Client(account.url, account.api_key)


def test_the_user_is_read(client: Client) -> None:
    assert client.users.retrieve_logged_in_user()["user"]["username"] == "user1"


def test_a_contact_is_created_read_updated_and_deleted(client: Client) -> None:
    made = client.contacts.create_a_contact({"contact": {"email": ADA, "firstName": "Ada"}})
    number = made["contact"]["id"]
    client.contacts.update_a_contact(number, {"contact": {"lastName": "Lovelace"}})
    synced = client.contacts.create_or_update_contact({"contact": {"email": ADA, "phone": "1"}})

    read = client.contacts.retrieve_a_contact(number)["contact"]
    gone = client.contacts.delete_a_contact(number)

    assert synced["contact"]["id"] == number
    assert (read["firstName"], read["lastName"], read["phone"]) == ("Ada", "Lovelace", "1")
    assert gone == {}
    assert "message" in client.contacts.retrieve_a_contact(number)


def test_contacts_are_listed_in_pages(client: Client, account: Account) -> None:
    account.control("POST", "contacts:fill", {"count": 45, "list": "News"})

    pages = [client.contacts.list_all_contacts(limit=20, offset=offset) for offset in (0, 20, 40)]
    after = client.contacts.list_all_contacts(id_greater=40, **{"orders[id]": "ASC"})

    assert [len(page["contacts"]) for page in pages] == [20, 20, 5]
    assert {page["meta"]["total"] for page in pages} == {"45"}
    assert [each["id"] for each in after["contacts"]] == ["41", "42", "43", "44", "45"]


def test_lists_are_made_found_and_joined(client: Client) -> None:
    wanted = {
        "name": "News",
        "stringid": "news",
        "sender_url": "https://example.com",
        "sender_reminder": "You signed up.",
    }
    number = client.lists.create_a_list({"list": wanted})["list"]["id"]
    contact = client.contacts.create_a_contact({"contact": {"email": ADA}})["contact"]["id"]
    status = {"contactList": {"list": number, "contact": contact, "status": 1}}

    joined = client.contacts.update_list_status_for_a_contact(status)

    assert joined["contactList"]["status"] == 1
    assert [each["name"] for each in client.lists.retrieve_all_lists(limit=100)["lists"]] == [
        "Master Contact List",
        "News",
    ]
    assert client.lists.retrieve_a_list(number)["list"]["stringid"] == "news"
    assert client.lists.delete_a_list(number) == {}


def test_lists_and_fields_are_listed_in_pages(client: Client) -> None:
    for number in range(5):
        wanted = {
            "name": f"List {number}",
            "stringid": f"list-{number}",
            "sender_url": "https://example.com",
            "sender_reminder": "You signed up.",
        }
        client.lists.create_a_list({"list": wanted})
        field = {"type": "text", "title": f"Field {number}", "perstag": f"FIELD_{number}"}
        client.contacts.create_a_custom_field({"field": field})

    lists = [client.lists.retrieve_all_lists(limit=4, offset=offset) for offset in (0, 4)]
    fields = [client.contacts.list_all_custom_fields(limit=3, offset=offset) for offset in (0, 3)]

    assert [len(page["lists"]) for page in lists] == [4, 2]
    assert [len(page["fields"]) for page in fields] == [3, 2]
    assert {page["meta"]["total"] for page in lists} == {"6"}


def test_an_import_is_queued_and_read_back(client: Client, account: Account) -> None:
    """It has no name for the importer: its own transport carries the call."""
    account.control("PUT", "settings", {"import_delay_s": 0})
    rows = [{"email": f"ada{number}@example.org", "first_name": "Ada"} for number in range(3)]

    queued = client._post("/import/bulk_import", json={"contacts": rows})
    state = client._get("/import/info", params={"batchId": queued["batchId"]})

    assert queued["queued_contacts"] == 3
    assert (state["status"], len(state["success"]), state["failure"]) == ("completed", 3, [])
    assert client.contacts.list_all_contacts(limit=20)["meta"]["total"] == "3"


def test_what_is_not_there_is_not_changed(client: Client) -> None:
    body = {"contact": {"firstName": "Ada"}}
    answers = (
        client.contacts.update_a_contact("4711", body),
        client.contacts.delete_a_contact("4711"),
        client.lists.retrieve_a_list("4711"),
    )

    assert all("message" in answer for answer in answers), answers


def test_an_import_into_a_full_account_says_whom_it_left_out(
    client: Client, account: Account
) -> None:
    account.control("PUT", "settings", {"contact_limit": 1, "import_delay_s": 0})
    rows = [{"email": ADA}, {"email": "bob@example.org"}]

    queued = client._post("/import/bulk_import", json={"contacts": rows})
    state = client._get("/import/info", params={"batchId": queued["batchId"]})

    assert (len(state["success"]), len(state["failure"])) == (1, 1)
    assert client.contacts.list_all_contacts(limit=20)["meta"]["total"] == "1"


def test_custom_fields_are_made_and_filled(client: Client) -> None:
    field = {"type": "dropdown", "title": "Loyalty Tier", "perstag": "LOYALTY_TIER"}
    number = client.contacts.create_a_custom_field({"field": field})["field"]["id"]
    option = {"orderid": 1, "value": "Gold", "label": "Gold", "field": number}
    client.contacts.create_custom_field_options({"fieldOptions": [option]})
    client.contacts.create_a_custom_field_relationship_to_list(
        {"fieldRel": {"field": number, "relid": 0}}
    )
    contact = client.contacts.create_a_contact({"contact": {"email": ADA}})["contact"]["id"]
    value = {"fieldValue": {"contact": contact, "field": number, "value": "Gold"}}
    client.contacts.create_a_custom_field_value(value)

    values = client.contacts.retrieve_a_contacts_field_values(contact)["fieldValues"]

    assert [(each["field"], each["value"]) for each in values] == [(number, "Gold")]
    options = client.contacts.retrieve_field_options(number)["fieldOptions"]
    assert [each["value"] for each in options] == ["Gold"]
    assert client.contacts.list_all_custom_fields(limit=100)["fields"][0]["relations"] == ["1"]


def test_tags_are_made_and_put_on(client: Client) -> None:
    contact = client.contacts.create_a_contact({"contact": {"email": ADA}})["contact"]["id"]
    tag = client.tags.create_a_tag({"tag": {"tag": "vip", "tagType": "contact"}})["tag"]["id"]

    link = client.contacts.add_a_tag_to_contact({"contactTag": {"contact": contact, "tag": tag}})

    tags = client.contacts.retrieve_contact_tags(contact)["contactTags"]
    assert [each["tag"] for each in tags] == [tag]
    assert client.contacts.remove_a_tag_from_a_contact(link["contactTag"]["id"]) == {}


def test_errors_and_limits_come_as_they_are_answered(client: Client, account: Account) -> None:
    client.contacts.create_a_contact({"contact": {"email": ADA}})
    taken = client.contacts.create_a_contact({"contact": {"email": ADA}})
    invalid = client.contacts.create_or_update_contact({"contact": {"email": "no address"}})
    forbidden = Client(account.url, "unknown").lists.retrieve_all_lists()
    account.control("PUT", "limits", {"enabled": True})
    limited = [client.lists.retrieve_all_lists() for _ in range(12)]

    assert taken["errors"][0]["code"] == "duplicate"
    assert invalid["errors"][0]["error"] == "must_be_valid_email_address"
    assert forbidden == {"message": "Forbidden"}
    assert {"message": "Too Many Requests"} in limited
    assert account.control("GET", "calls")["violations"] > 0
