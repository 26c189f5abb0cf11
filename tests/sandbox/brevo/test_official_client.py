"""Brevo's own client for Python, unchanged but for its base URL, against the running sandbox.

Synchronous and asynchronous, typed models and typed errors: what their code accepts as Brevo is
close enough to Brevo for ours. The sandbox is a process of its own, as in a demo.
"""

import inspect
import itertools
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import httpx
import pytest
from brevo import AsyncBrevo, Brevo
from brevo.contacts import (
    AddContactToListRequestBodyEmails,
    CreateAttributeRequestEnumerationItem,
    ImportContactsRequestJsonBodyItem,
    ImportContactsRequestNewList,
    RemoveContactFromListRequestBodyAll,
    RemoveContactFromListRequestBodyIds,
    UpdateBatchContactsRequestContactsItem,
)
from brevo.core.api_error import ApiError
from brevo.errors import (
    BadRequestError,
    MethodNotAllowedError,
    NotFoundError,
    TooEarlyError,
    TooManyRequestsError,
)
from brevo.types import ContactErrorModel, ErrorModel, GetContactDetails
from brevo.webhooks import CreateWebhookRequestHeadersItem

ROOT = Path(__file__).parents[3]
ADA = "ada@example.org"
T = TypeVar("T")
_names = (f"official-{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Run a sandbox process for all tests of this module; each has an account of its own."""
    command = [sys.executable, "-m", "sandbox", "--port", "brevo=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["brevo"]
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

    @staticmethod
    def read(address: str) -> str:
        """Return a file that an answer pointed to."""
        return httpx.get(address).raise_for_status().text


@pytest.fixture
def account(url: str) -> Account:
    opened = httpx.post(f"{url}/_sandbox/accounts", json={"name": next(_names)}).json()
    made = Account(url, opened["account"], opened["api_key"])
    made.control("PUT", "limits", {"enabled": False})
    return made


@pytest.fixture(params=["sync", "async"])
async def client(request: pytest.FixtureRequest, account: Account) -> AsyncIterator[Brevo]:
    """Return a client of either kind, as the synchronous one: `done` takes both."""
    base_url = f"{account.url}/v3"
    if request.param == "sync":
        with httpx.Client() as http:
            yield Brevo(
                api_key=account.api_key, base_url=base_url, max_retries=0, httpx_client=http
            )
    else:
        async with httpx.AsyncClient() as connection:
            asynchronous = AsyncBrevo(
                api_key=account.api_key, base_url=base_url, max_retries=0, httpx_client=connection
            )
            yield cast("Brevo", asynchronous)


async def done(result: T) -> T:
    """Return a result of the synchronous client, or wait for that of the other."""
    if inspect.isawaitable(result):
        return await cast("Awaitable[T]", result)
    return result


async def test_the_account_is_read(client: Brevo, account: Account) -> None:
    found = await done(client.account.get_account())

    assert found.organization_id == account.id
    assert found.plan[0].credits_type == "sendLimit"
    assert found.relay.data.port == 587


async def test_a_contact_is_created_read_updated_and_deleted(client: Brevo) -> None:
    created = await done(
        client.contacts.create_contact(
            email="Ada@Example.org",
            ext_id="crm:1",
            attributes={"FIRSTNAME": "Ada", "SMS": "+33612345678"},
            list_ids=[2],
        )
    )
    assert created is not None
    read = await done(client.contacts.get_contact_info(ADA, identifier_type="email_id"))
    by_phone = await done(client.contacts.get_contact_info("33612345678"))
    await done(
        client.contacts.update_contact(
            "crm:1",
            identifier_type="ext_id",
            attributes={"EMAIL": "countess@example.org"},
            unlink_list_ids=[2],
        )
    )
    changed = await done(client.contacts.get_contact_info(created.id))
    await done(client.contacts.delete_contact(created.id, identifier_type="contact_id"))

    assert read.id == by_phone.id == created.id
    assert (read.email, read.list_ids, read.email_blacklisted) == (ADA, [2], False)
    assert read.attributes.model_dump() == {
        "FIRSTNAME": "Ada",
        "SMS": "33612345678",
        "EXT_ID": "crm:1",
    }
    assert read.statistics.messages_sent == []
    assert (changed.email, changed.list_ids) == ("countess@example.org", [])
    with pytest.raises(NotFoundError) as gone:
        await done(client.contacts.get_contact_info(created.id))
    assert gone.value.body == {
        "code": "document_not_found",
        "message": "Contact does not exist",
    }


async def test_an_upsert_of_a_known_contact_answers_nothing(client: Brevo) -> None:
    await done(client.contacts.create_contact(email=ADA))

    updated = await done(client.contacts.create_contact(email=ADA, update_enabled=True))
    named = await done(client.contacts.create_contact(email=ADA, update_enabled=True, get_id=True))

    assert updated is None
    assert named is not None
    assert named.id == 1


async def test_contacts_are_listed_in_pages_with_filters(client: Brevo) -> None:
    for name in "abc":
        await done(
            client.contacts.create_contact(
                email=f"{name}@example.org", attributes={"FIRSTNAME": name}
            )
        )
    first = await done(client.contacts.get_contacts(limit=2))
    since = first.contacts[-1].modified_at

    modified = await done(client.contacts.get_contacts(modified_since=since, sort="asc"))
    chosen = await done(client.contacts.get_contacts(ids=[1, 3], sort="asc"))
    named = await done(client.contacts.get_contacts(filter='equals(FIRSTNAME,"b")'))
    nobody = await done(client.contacts.get_contacts(list_ids=[2]))

    assert isinstance(first.contacts[0], GetContactDetails)
    assert [each.id for each in first.contacts] == [3, 2]
    assert first.count == 3
    assert [each.id for each in modified.contacts] == [2, 3]
    assert [each.id for each in chosen.contacts] == [1, 3]
    assert [each.email for each in named.contacts] == ["b@example.org"]
    assert (nobody.contacts, nobody.count) == ([], 0)


async def test_contacts_lists_and_members_are_read_page_by_page(
    client: Brevo, account: Account
) -> None:
    filled = account.control("POST", "contacts:fill", {"count": 5, "list": "News"})
    news = filled["list_id"]

    contacts = [
        await done(client.contacts.get_contacts(limit=2, offset=at, sort="asc")) for at in (0, 2, 4)
    ]
    members = [
        await done(client.contacts.get_contacts_from_list(news, limit=3, offset=at, sort="asc"))
        for at in (0, 3)
    ]
    lists = [await done(client.contacts.get_lists(limit=1, offset=at)) for at in (0, 1)]

    assert [[each.id for each in page.contacts] for page in contacts] == [
        *(filled["ids"][:2], filled["ids"][2:4], filled["ids"][4:]),
    ]
    assert [len(page.contacts) for page in members] == [3, 2]
    assert {page.count for page in (*contacts, *members)} == {5}
    assert [len(page.lists) for page in lists] == [1, 1]
    assert lists[0].lists[0].id != lists[1].lists[0].id


async def test_a_batch_updates_several_contacts(client: Brevo) -> None:
    await done(client.contacts.create_contact(email=ADA))
    await done(client.contacts.create_contact(attributes={"SMS": "33612345678"}))
    rows = [
        UpdateBatchContactsRequestContactsItem(
            email=ADA, attributes={"FIRSTNAME": "Ada"}, list_ids=[2], email_blacklisted=True
        ),
        UpdateBatchContactsRequestContactsItem(sms="33612345678", ext_id="b"),
    ]

    await done(client.contacts.update_batch_contacts(contacts=rows))

    ada = await done(client.contacts.get_contact_info(ADA))
    assert (ada.attributes.model_dump(), ada.list_ids) == ({"FIRSTNAME": "Ada"}, [2])
    assert ada.email_blacklisted is True
    other = await done(client.contacts.get_contact_info("b", identifier_type="ext_id"))
    assert other.email is None


async def test_an_import_runs_to_its_end_and_reports(client: Brevo, account: Account) -> None:
    account.control("PUT", "settings", {"import_delay_s": 300})
    rows = [
        ImportContactsRequestJsonBodyItem(email=ADA, attributes={"FIRSTNAME": "Ada"}),
        ImportContactsRequestJsonBodyItem(email="no address", attributes={"FIRSTNAME": "X"}),
    ]

    started = await done(
        client.contacts.import_contacts(
            json_body=rows,
            new_list=ImportContactsRequestNewList(list_name="Imported", folder_id=1),
            update_existing_contacts=True,
            disable_notification=True,
        )
    )
    assert started.process_id is not None
    process = await done(client.process.get_process(started.process_id))
    seen = [process.status]
    while seen[-1] not in {"completed", "failed", "cancelled"}:
        account.control("PUT", "clock", {"advance_s": 100})
        while process.status == seen[-1]:
            process = await done(client.process.get_process(started.process_id))
        seen.append(process.status)

    assert seen == ["queued", "in_process", "processing", "completed"]
    assert process.name == "IMPORTUSER"
    assert process.info is not None
    assert process.info.import_ is not None
    assert process.info.import_.duplicate_phone_id is None
    assert process.info.import_.invalid_emails is not None
    assert account.read(process.info.import_.invalid_emails) == "EMAIL;FIRSTNAME\nno address;X\n"
    listed = await done(client.process.get_processes(limit=1))
    assert (listed.count, listed.processes[0].id) == (1, started.process_id)
    lists = (await done(client.contacts.get_lists())).lists or []
    assert (lists[0].name, lists[0].unique_subscribers) == ("Imported", 1)


async def test_folders_are_managed(client: Brevo) -> None:
    made = await done(client.contacts.create_folder(name="Sync"))
    await done(client.contacts.update_folder(made.id, name="Synced"))
    read = await done(client.contacts.get_folder(made.id))
    page = await done(client.contacts.get_folders(limit=50, offset=0, sort="asc"))
    await done(client.contacts.delete_folder(made.id))

    assert (read.id, read.name, read.unique_subscribers) == (made.id, "Synced", 0)
    assert [each.name for each in page.folders or []] == ["Your first folder", "Synced"]
    with pytest.raises(NotFoundError):
        await done(client.contacts.get_folder(made.id))


async def test_lists_and_their_members_are_managed(client: Brevo) -> None:
    await done(client.contacts.create_contact(email=ADA))
    made = await done(client.contacts.create_list(name="News", folder_id=1))
    emails = AddContactToListRequestBodyEmails(emails=[ADA, "bob@example.org"])

    added = await done(client.contacts.add_contact_to_list(made.id, request=emails))
    members = await done(client.contacts.get_contacts_from_list(made.id))
    await done(client.contacts.update_list(made.id, name="Newsletter"))
    read = await done(client.contacts.get_list(made.id))
    removed = await done(
        client.contacts.remove_contact_from_list(
            made.id, request=RemoveContactFromListRequestBodyIds(ids=[1])
        )
    )
    emptied = await done(
        client.contacts.remove_contact_from_list(
            made.id, request=RemoveContactFromListRequestBodyAll(all_=True)
        )
    )
    in_folder = await done(client.contacts.get_folder_lists(1))
    await done(client.contacts.delete_list(made.id))

    assert added.contacts.success == [ADA]
    assert added.contacts.failure == ["bob@example.org"]
    assert [each.email for each in members.contacts] == [ADA]
    assert (read.name, read.folder_id, read.unique_subscribers) == ("Newsletter", 1, 1)
    assert removed.contacts.success == [1]
    assert (emptied.contacts.total, emptied.contacts.process_id) == (0, 1)
    assert [each.name for each in in_folder.lists or []] == ["Newsletter", "Your first list"]
    with pytest.raises(NotFoundError):
        await done(client.contacts.get_list(made.id))


async def test_attributes_are_managed(client: Brevo) -> None:
    options = [CreateAttributeRequestEnumerationItem(value=1, label="Gold")]
    await done(client.contacts.create_attribute("normal", "POINTS", type="float"))
    await done(
        client.contacts.create_attribute("category", "TIER", type="category", enumeration=options)
    )
    await done(
        client.contacts.create_attribute(
            "normal", "LANDS", type="multiple-choice", multi_category_options=["USA"]
        )
    )
    await done(client.contacts.update_attribute("normal", "LANDS", multi_category_options=["IN"]))
    await done(client.contacts.delete_multi_attribute_options("LANDS", "USA"))
    await done(
        client.contacts.create_contact(
            email=ADA, attributes={"POINTS": 1.5, "TIER": "Gold", "LANDS": ["IN"]}
        )
    )

    listed = (await done(client.contacts.get_attributes())).attributes or []
    stored = await done(client.contacts.get_contact_info(ADA))
    await done(client.contacts.delete_attribute("normal", "POINTS"))

    by_name = {each.name: each for each in listed}
    assert by_name["POINTS"].type == "float"
    tier = by_name["TIER"].enumeration or []
    assert [(each.value, each.value_str, each.label) for each in tier] == [(1, "1", "Gold")]
    assert by_name["LANDS"].multi_category_options == ["IN"]
    assert stored.attributes.model_dump() == {"POINTS": 1.5, "TIER": 1, "LANDS": ["IN"]}
    with pytest.raises(NotFoundError):
        await done(client.contacts.delete_attribute("normal", "POINTS"))


async def test_webhooks_are_managed(client: Brevo) -> None:
    with pytest.raises(BadRequestError) as none:
        await done(client.webhooks.get_webhooks(type="marketing"))
    made = await done(
        client.webhooks.create_webhook(
            url="https://example.org/hook",
            type="marketing",
            events=["contactUpdated", "listAddition"],
            description="sync",
            headers=[CreateWebhookRequestHeadersItem(key="x-k", value="v")],
        )
    )
    assert made.id is not None
    await done(client.webhooks.update_webhook(made.id, events=["contactDeleted"], batched=True))
    read = await done(client.webhooks.get_webhook(made.id))
    listed = await done(client.webhooks.get_webhooks(type="marketing"))
    await done(client.webhooks.delete_webhook(made.id))

    assert none.value.body["code"] == "document_not_found"
    assert (read.events, read.batched, read.type) == (["contactDeleted"], True, "marketing")
    assert [each.id for each in listed.webhooks or []] == [made.id]
    with pytest.raises(NotFoundError):
        await done(client.webhooks.get_webhook(made.id))


async def test_segments_and_statistics_are_empty(client: Brevo) -> None:
    await done(client.contacts.create_contact(email=ADA))

    segments = await done(client.contacts.get_segments())
    statistics = await done(client.contacts.get_contact_stats(ADA))

    assert (segments.segments, segments.count) == ([], 0)
    assert statistics.delivered == []


async def test_a_duplicate_is_a_bad_request_that_names_the_identifier(client: Brevo) -> None:
    await done(client.contacts.create_contact(email=ADA, attributes={"SMS": "33612345678"}))

    with pytest.raises(BadRequestError) as clash:
        await done(
            client.contacts.create_contact(
                email="bob@example.org", attributes={"SMS": "33612345678"}
            )
        )

    assert clash.value.status_code == 400
    assert clash.value.body == {
        "code": "duplicate_parameter",
        "message": "Unable to create contact, SMS is already associated with another Contact",
        "metadata": {"duplicate_identifiers": ["SMS"]},
    }


async def test_an_invalid_phone_is_a_bad_request(client: Brevo) -> None:
    with pytest.raises(BadRequestError) as invalid:
        await done(client.contacts.create_contact(attributes={"SMS": "0612345678"}))

    assert invalid.value.body == {
        "code": "invalid_parameter",
        "message": "Invalid phone number",
    }


async def test_a_busy_account_is_too_early(client: Brevo, account: Account) -> None:
    account.control("PUT", "settings", {"too_early_calls": 2})

    with pytest.raises(TooEarlyError) as creating:
        await done(client.contacts.create_contact(email=ADA))
    with pytest.raises(TooEarlyError) as updating:
        await done(client.contacts.update_contact(ADA, attributes={}))

    for early in (creating.value, updating.value):
        assert isinstance(early.body, ContactErrorModel)
        assert early.body.code == "account_in_process"


async def test_the_accounts_own_contact_is_not_deleted(client: Brevo) -> None:
    owner = (await done(client.account.get_account())).email
    await done(client.contacts.create_contact(email=owner))

    with pytest.raises(MethodNotAllowedError) as refused:
        await done(client.contacts.delete_contact(owner))

    assert isinstance(refused.value.body, ErrorModel)
    assert refused.value.body.code == "method_not_allowed"


async def test_an_unknown_process_is_not_found(client: Brevo) -> None:
    with pytest.raises(NotFoundError) as unknown:
        await done(client.process.get_process(99))

    assert unknown.value.body["message"] == "processId is invalid"


async def test_a_wrong_key_is_an_error_with_its_status(account: Account) -> None:
    with httpx.Client() as http:
        stranger = Brevo(api_key="other", base_url=f"{account.url}/v3", httpx_client=http)
        with pytest.raises(ApiError) as refused:
            stranger.account.get_account()

    assert refused.value.status_code == 401
    assert refused.value.body == {"code": "unauthorized", "message": "Key not found"}


async def test_a_call_over_the_limit_is_too_many_requests_with_headers(
    client: Brevo, account: Account
) -> None:
    account.control("PUT", "limits", {"contacts": {"limit": 1, "window_s": 60}, "enabled": True})
    account.control("POST", "calls:reset")
    await done(client.contacts.get_contacts())

    with pytest.raises(TooManyRequestsError) as refused:
        await done(client.contacts.get_contacts())

    assert isinstance(refused.value.body, ErrorModel)
    assert refused.value.body.code == "too_many_requests"
    headers = refused.value.headers or {}
    assert headers["x-sib-ratelimit-limit"] == "1"
    assert headers["x-sib-ratelimit-remaining"] == "0"
    assert 1 <= int(headers["x-sib-ratelimit-reset"]) <= 60
    assert account.control("GET", "calls")["violations_by_bucket"] == {"contacts": 1}
