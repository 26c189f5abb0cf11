"""simple-salesforce, unchanged, against the running sandbox.

Salesforce has no client of its own for Python; this is the one that everybody takes. It speaks to
hosts of salesforce.com over TLS alone, so the session that it is given, as its documentation
foresees, carries its calls to the sandbox's address. What it accepts as Salesforce is close enough
for ours. The sandbox is a process of its own, as in a demo.
"""

import csv
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from requests.adapters import HTTPAdapter
from simple_salesforce.api import Salesforce
from simple_salesforce.exceptions import (
    SalesforceAuthenticationFailed,
    SalesforceExpiredSession,
    SalesforceMalformedRequest,
    SalesforceMoreThanOneRecord,
    SalesforceRefusedRequest,
    SalesforceResourceNotFound,
)

ROOT = Path(__file__).parents[3]
ADA = {"LastName": "Lovelace", "FirstName": "Ada", "Email": "ada@example.org"}
_names = (f"official-{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Run a sandbox process for all tests of this module; each has an org of its own."""
    command = [sys.executable, "-m", "sandbox", "--port", "salesforce=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["salesforce"]
        process.terminate()


class Detour(HTTPAdapter):  # type: ignore[misc]  # requests is not annotated here
    """Carries calls to any host of Salesforce to the sandbox."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def send(self, request: Any, *arguments: Any, **settings: Any) -> Any:
        _, _, rest = request.url.partition("salesforce.com")
        request.url = self._url + rest
        return super().send(request, *arguments, **settings)


@dataclass(frozen=True)
class Org:
    """An org of the running sandbox, and the control of it."""

    url: str
    id: str
    access_token: str
    username: str

    def control(self, method: str, path: str, body: Any = None) -> Any:
        address = f"{self.url}/_sandbox/{path}"
        answer = httpx.request(method, address, json=body, params={"account": self.id})
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def fill(self, count: int, **wishes: Any) -> list[str]:
        wish = {"count": count, "invalid_share": 0, **wishes}
        ids: list[str] = self.control("POST", "contacts:fill", wish)["ids"]
        return ids

    def session(self) -> requests.Session:
        session = requests.Session()
        session.mount("https://", Detour(self.url))
        return session

    def client(self) -> Any:
        return Salesforce(
            instance="acme.my.salesforce.com",
            session_id=self.access_token,
            session=self.session(),
            version="67.0",
        )


@pytest.fixture
def org(url: str) -> Org:
    opened = httpx.post(f"{url}/_sandbox/accounts", json={"name": next(_names)}).json()
    return Org(url, opened["account"], opened["access_token"], opened["username"])


@pytest.fixture
def client(org: Org) -> Iterator[Any]:
    client = org.client()
    yield client
    client.session.close()


def refusal(error: Any) -> tuple[int, str]:
    """Return status and error code of what the client raises."""
    (problem,) = error.content
    return error.status, problem["errorCode"]


def test_a_contact_is_created_read_updated_and_deleted(client: Any) -> None:
    kind = client.Contact
    made = kind.create(ADA)
    updated = kind.update(made["id"], {"Title": "Countess"})
    read = kind.get(made["id"])
    deleted = kind.delete(made["id"])

    with pytest.raises(SalesforceResourceNotFound) as gone:
        kind.get(made["id"])

    assert made["success"] is True
    assert (updated, deleted) == (204, 204)
    assert (read["Name"], read["Email"], read["Title"]) == (
        *("Ada Lovelace", "ada@example.org", "Countess"),
    )
    assert refusal(gone.value) == (404, "ENTITY_IS_DELETED")


def test_all_contacts_are_read_page_by_page(org: Org, client: Any) -> None:
    ids = org.fill(4_500)

    found = client.query_all("SELECT Id, Email, Account.Name FROM Contact ORDER BY Id")
    lazily = [each["Id"] for each in client.query_all_iter("SELECT Id FROM Contact ORDER BY Id")]

    assert (found["totalSize"], found["done"]) == (4_500, True)
    assert [each["Id"] for each in found["records"]] == lazily == ids


def test_leads_and_a_campaigns_members_are_read(org: Org, client: Any) -> None:
    contacts = org.fill(3, list="Spring")
    leads = org.fill(2, object="Lead", list="Spring")
    made = client.Lead.create({"LastName": "Hopper", "Company": "Navy", "Email": "g@example.org"})
    client.Lead.update(made["id"], {"FirstName": "Grace"})

    [campaign] = client.query("SELECT Id, Name, NumberOfContacts FROM Campaign")["records"]
    members = client.query(
        "SELECT ContactId, LeadId FROM CampaignMember "
        f"WHERE CampaignId = '{campaign['Id']}' ORDER BY Id"
    )["records"]
    named = client.query(f"SELECT Name FROM Lead WHERE Id = '{made['id']}'")["records"]

    assert campaign["Name"] == "Spring"
    assert sorted(each["ContactId"] for each in members if each["ContactId"]) == contacts
    assert sorted(each["LeadId"] for each in members if each["LeadId"]) == leads
    assert [each["Name"] for each in named] == ["Grace Hopper"]


def test_deleted_and_merged_contacts_are_found(org: Org, client: Any) -> None:
    kept, lost, gone = org.fill(3)
    org.control("POST", "contacts:merge", {"primary": kept, "other": lost})
    client.Contact.delete(gone)

    found = client.query(
        "SELECT Id, MasterRecordId FROM Contact WHERE IsDeleted = true ORDER BY Id",
        include_deleted=True,
    )

    assert [(each["Id"], each["MasterRecordId"]) for each in found["records"]] == [
        (lost, kept),
        (gone, None),
    ]


def test_changes_and_deletions_are_asked_for_by_time(org: Org, client: Any) -> None:
    ids = org.fill(2)
    client.Contact.delete(ids[0])
    now = datetime.now(UTC)
    window = (now - timedelta(minutes=5), now + timedelta(minutes=5))

    assert client.Contact.updated(*window)["ids"] == ids[1:]
    assert [each["id"] for each in client.Contact.deleted(*window)["deletedRecords"]] == ids[:1]


def test_an_external_id_makes_changes_and_finds(org: Org, client: Any) -> None:
    kind = client.Contact
    made = kind.upsert("External_Id__c/1", {"LastName": "Lovelace"})
    changed = kind.upsert("External_Id__c/1", {"Title": "Countess"})
    found = kind.get_by_custom_id("External_Id__c", "1")
    double = {"contacts": [{"properties": {"LastName": "X", "External_Id__c": "1"}}]}
    org.control("POST", "contacts:upsert", double)

    with pytest.raises(SalesforceMoreThanOneRecord):
        kind.upsert("External_Id__c/1", {"Title": "X"})

    assert (made, changed) == (201, 200)
    assert (found["LastName"], found["Title"]) == ("Lovelace", "Countess")


def test_fields_objects_and_limits_are_described(org: Org, client: Any) -> None:
    objects = client.describe()
    described = client.Contact.describe()
    limits = client.limits()

    assert {"Contact", "Lead", "Campaign"} <= {each["name"] for each in objects["sobjects"]}
    assert "LastName" in [each["name"] for each in described["fields"]]
    assert limits["DailyApiRequests"]["Max"] == 110_000
    assert client.api_usage["api-usage"].used == 3
    assert client.is_sandbox() is False
    assert client.Contact.metadata()["objectDescribe"]["keyPrefix"] == "003"


def test_collections_are_written_with_an_outcome_each(org: Org, client: Any) -> None:
    ids = org.fill(2)
    org.control("POST", "cases:attach", {"contact": ids[0]})
    records = [
        {"attributes": {"type": "Contact"}, "id": ids[0], "Title": "Countess"},
        {"attributes": {"type": "Contact"}, "id": ids[1], "Title": "x" * 129},
    ]

    body = {"allOrNone": False, "records": records}
    written = client.restful("composite/sobjects", method="PATCH", json=body)
    deleted = client.restful("composite/sobjects", params={"ids": ",".join(ids)}, method="DELETE")

    assert [each["success"] for each in written] == [True, False]
    assert [each["errors"][0]["statusCode"] for each in written if not each["success"]] == [
        "STRING_TOO_LONG"
    ]
    assert [each["success"] for each in deleted] == [False, True]


def test_a_bulk_query_is_read_in_pieces(org: Org, client: Any) -> None:
    ids = org.fill(5)

    pieces = client.bulk2.Contact.query("SELECT Id, Email FROM Contact", max_records=2, wait=0)

    rows = [row for piece in pieces for row in csv.DictReader(str(piece).splitlines())]
    assert [each["Id"] for each in rows] == ids


def test_a_bulk_query_finds_what_was_deleted(org: Org, client: Any) -> None:
    ids = org.fill(2)
    org.control("POST", "contacts:delete", {"ids": ids[:1]})

    pieces = list(client.bulk2.Contact.query_all("SELECT Id FROM Contact", wait=0))

    assert [each["Id"] for each in csv.DictReader(str(pieces[0]).splitlines())] == ids


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "REQUIRED_FIELD_MISSING"),
        ({"LastName": "x" * 81}, "STRING_TOO_LONG"),
        ({"LastName": "X", "Email": "nobody"}, "INVALID_EMAIL_ADDRESS"),
        ({"LastName": "X", "Birthdate": "1.1.1970"}, "JSON_PARSER_ERROR"),
    ],
)
def test_a_refused_write_says_why(client: Any, body: dict[str, str], code: str) -> None:
    with pytest.raises(SalesforceMalformedRequest) as refused:
        client.Contact.create(body)

    assert refusal(refused.value) == (400, code)


def test_a_refused_update_says_why(org: Org, client: Any) -> None:
    [id_] = org.fill(1)

    with pytest.raises(SalesforceMalformedRequest) as refused:
        client.Contact.update(id_, {"LastName": ""})
    with pytest.raises(SalesforceResourceNotFound) as missing:
        client.Contact.update("003000000000000AAA", {"Title": "Countess"})

    assert refusal(refused.value) == (400, "REQUIRED_FIELD_MISSING")
    assert refusal(missing.value) == (404, "NOT_FOUND")


def test_a_query_that_makes_no_sense_is_refused(client: Any) -> None:
    with pytest.raises(SalesforceMalformedRequest) as refused:
        client.query("SELECT Foo__c FROM Contact")

    assert refusal(refused.value) == (400, "INVALID_FIELD")


def test_the_days_limit_is_told(org: Org, client: Any) -> None:
    org.control("PUT", "limits", {"daily": {"limit": 1, "window_s": 86_400}})
    client.limits()

    with pytest.raises(SalesforceRefusedRequest) as refused:
        client.limits()

    assert refusal(refused.value) == (403, "REQUEST_LIMIT_EXCEEDED")
    assert org.control("GET", "calls")["violations_by_bucket"] == {"daily": 1}


def test_an_org_without_the_api_is_told(org: Org, client: Any) -> None:
    org.control("PUT", "settings", {"api_enabled": False})

    with pytest.raises(SalesforceRefusedRequest) as refused:
        client.query("SELECT Id FROM Contact")

    assert refusal(refused.value) == (403, "API_DISABLED_FOR_ORG")


def test_a_session_that_is_over_is_told(org: Org) -> None:
    client = Salesforce(instance="acme.my.salesforce.com", session_id="gone", session=org.session())
    with pytest.raises(SalesforceExpiredSession) as refused:
        client.query("SELECT Id FROM Contact")
    client.session.close()

    assert refusal(refused.value) == (401, "INVALID_SESSION_ID")


def test_a_server_logs_in_by_a_signed_assertion_and_again_when_its_session_ends(org: Org) -> None:
    key = generate_private_key(65_537, 2_048)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    login: dict[str, Any] = {"consumer_key": "sandbox-client", "privatekey": private.decode()}
    session = org.session()
    with pytest.raises(SalesforceAuthenticationFailed, match="invalid assertion"):
        Salesforce(username=org.username, session=session, **login)
    org.control("POST", "app:certificate", {"pem": public.decode()})
    org.control("PUT", "settings", {"instance_url": "https://acme.my.salesforce.com"})

    client: Any = Salesforce(username=org.username, session=session, **login)
    first = client.query("SELECT Id FROM Contact")
    org.control("POST", "sessions:end")
    second = client.query("SELECT Id FROM Contact")
    session.close()

    assert first == second == {"totalSize": 0, "done": True, "records": []}
