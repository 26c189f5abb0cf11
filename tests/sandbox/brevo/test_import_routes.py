"""Imports: what goes in, what is reported, what is silently not done, and how it is told."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sandbox.server import serve
from tests.sandbox.brevo.served import Brevo, refusal

ADA = "ada@example.org"


async def imported(brevo: Brevo, **body: Any) -> dict[str, Any]:
    """Start an import into the first list and return its process once it is over."""
    await brevo.settings(import_delay_s=0)
    answer = await brevo.ask("POST", "/contacts/import", {"listIds": [2], **body})
    assert answer.status_code == 202, answer.text
    return await over(brevo, answer.json()["processId"])


async def over(brevo: Brevo, process_id: int) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            process: dict[str, Any] = await brevo.get(f"/processes/{process_id}")
            if process["status"] in {"completed", "failed", "cancelled"}:
                return process
            await asyncio.sleep(0.01)


def row(email: str, **attributes: Any) -> dict[str, Any]:
    return {"email": email, "attributes": attributes}


async def attributes(brevo: Brevo, email: str) -> dict[str, Any]:
    found: dict[str, Any] = (await brevo.contact(email))["attributes"]
    return found


async def test_rows_are_created_and_updated_and_put_into_the_lists(brevo: Brevo) -> None:
    await brevo.put(ADA, FIRSTNAME="Ada", LASTNAME="Byron")

    process = await imported(
        brevo, jsonBody=[row(ADA, LASTNAME="Lovelace"), row("bob@example.org", FIRSTNAME="Bob")]
    )

    assert process["name"] == "IMPORTUSER"
    assert set(process["info"]["import"].values()) == {None}
    assert await attributes(brevo, ADA) == {"FIRSTNAME": "Ada", "LASTNAME": "Lovelace"}
    assert (await brevo.contact("bob@example.org"))["listIds"] == [2]
    [report] = (await brevo.control("GET", "state"))["imports"]
    assert (report["rows"], report["created"], report["updated"]) == (2, 1, 1)


async def test_a_new_list_is_made_for_an_import(brevo: Brevo) -> None:
    body = {"jsonBody": [row(ADA)], "newList": {"listName": "Fresh", "folderId": 1}}

    await imported(brevo, **body, listIds=None)

    lists = (await brevo.get("/contacts/lists"))["lists"]
    assert (lists[0]["name"], lists[0]["uniqueSubscribers"]) == ("Fresh", 1)


async def test_existing_contacts_are_left_alone_but_listed_if_they_may_not_be_updated(
    brevo: Brevo,
) -> None:
    await brevo.put(ADA, FIRSTNAME="Ada")

    await imported(brevo, jsonBody=[row(ADA, FIRSTNAME="X")], updateExistingContacts=False)

    assert await attributes(brevo, ADA) == {"FIRSTNAME": "Ada"}
    assert (await brevo.contact(ADA))["listIds"] == [2]


@pytest.mark.parametrize(("erases", "kept"), [(False, {"FIRSTNAME": "Ada"}), (True, {})])
async def test_empty_values_erase_only_on_request(
    brevo: Brevo, erases: bool, kept: dict[str, str]
) -> None:
    await brevo.put(ADA, FIRSTNAME="Ada")

    await imported(brevo, jsonBody=[row(ADA, FIRSTNAME="")], emptyContactsAttributes=erases)

    assert await attributes(brevo, ADA) == kept


async def test_false_does_not_overwrite_true_though_an_update_does(brevo: Brevo) -> None:
    await brevo.ask("POST", "/contacts/attributes/normal/VIP", {"type": "boolean"})
    await brevo.put(ADA, VIP=True)

    await imported(brevo, jsonBody=[row(ADA, VIP=False), row("bob@example.org", VIP=False)])
    after_import = await attributes(brevo, ADA)
    await brevo.ask("PUT", f"/contacts/{ADA}", {"attributes": {"VIP": False}})

    assert after_import == {"VIP": True}
    assert await attributes(brevo, ADA) == {"VIP": False}
    assert await attributes(brevo, "bob@example.org") == {"VIP": False}


async def test_an_invalid_phone_and_an_unknown_attribute_are_dropped_from_their_row(
    brevo: Brevo,
) -> None:
    process = await imported(brevo, jsonBody=[row(ADA, SMS="0612", NICKNAME="A", FIRSTNAME="Ada")])

    assert set(process["info"]["import"].values()) == {None}
    assert await attributes(brevo, ADA) == {"FIRSTNAME": "Ada"}


async def test_rows_that_cannot_go_in_are_listed_in_files_by_reason(brevo: Brevo) -> None:
    await brevo.put("bob@example.org", SMS="33612345678", EXT_ID="b")
    rows = [
        row("no address", FIRSTNAME="A"),
        {"attributes": {"FIRSTNAME": "nobody"}},
        row("phone@example.org", SMS="+33612345678"),
        row("key@example.org", EXT_ID="b"),
        row("good@example.org"),
    ]

    reports = (await imported(brevo, jsonBody=rows))["info"]["import"]

    files = {
        name: (await brevo.http.get(url)).text for name, url in reports.items() if url is not None
    }
    assert files == {
        "invalid_emails": "EMAIL;FIRSTNAME\nno address;A\n;nobody\n",
        "duplicate_phone_id": "EMAIL;SMS\nphone@example.org;+33612345678\n",
        "duplicate_ext_id": "EMAIL;EXT_ID\nkey@example.org;b\n",
    }
    assert (await brevo.get("/contacts"))["count"] == 2
    missing = reports["invalid_emails"].replace("invalid_emails", "duplicate_email_id")
    assert (await brevo.http.get(missing)).status_code == 404


async def test_a_file_body_is_read_with_semicolons_and_its_words_are_typed(brevo: Brevo) -> None:
    lands = {"type": "multiple-choice", "multiCategoryOptions": ["USA", "INDIA"]}
    await brevo.ask("POST", "/contacts/attributes/normal/LANDS", lands)
    await brevo.ask("POST", "/contacts/attributes/normal/POINTS", {"type": "float"})
    lines = [
        "EMAIL;firstname;POINTS;LANDS",
        'ada@example.org;"Ada; Lovelace";12.5;USA, INDIA',
        "",
        "bob@example.org;Bob;x;MARS",
    ]

    await imported(brevo, fileBody="\n".join(lines))

    assert await attributes(brevo, ADA) == {
        "FIRSTNAME": "Ada; Lovelace",
        "POINTS": 12.5,
        "LANDS": ["USA", "INDIA"],
    }
    assert await attributes(brevo, "bob@example.org") == {"FIRSTNAME": "Bob"}


async def test_a_file_without_a_header_fails_as_a_process(brevo: Brevo) -> None:
    process = await imported(brevo, fileBody="ada@example.org;Ada")

    assert process == {"id": 1, "name": "IMPORTUSER", "status": "failed"}


async def test_a_share_of_good_rows_may_fail_without_a_word(brevo: Brevo) -> None:
    await brevo.settings(import_silent_failures=0.25)

    process = await imported(brevo, jsonBody=[row(f"p{n}@example.org") for n in range(400)])

    left_out = (await brevo.control("GET", "state"))["imports"][0]["left_out"]
    assert 60 < left_out < 140
    assert (await brevo.get("/contacts"))["count"] == 400 - left_out
    assert process["status"] == "completed"
    assert set(process["info"]["import"].values()) == {None}


async def test_a_full_plan_takes_no_new_rows_and_says_nothing(brevo: Brevo) -> None:
    await brevo.settings(contact_limit=1)

    process = await imported(brevo, jsonBody=[row(ADA), row("bob@example.org")])

    assert process["status"] == "completed"
    assert (await brevo.get("/contacts"))["count"] == 1


@pytest.mark.parametrize("outcome", ["failed", "cancelled"])
async def test_an_import_may_end_half_done(brevo: Brevo, outcome: str) -> None:
    await brevo.settings(import_outcome=outcome)

    process = await imported(brevo, jsonBody=[row(f"p{n}@example.org") for n in range(10)])

    assert (process["status"], "info" in process) == (outcome, False)
    assert (await brevo.get("/contacts"))["count"] == 5


async def test_a_blocked_contact_stays_blocked_and_all_may_be_blocked(brevo: Brevo) -> None:
    await brevo.put(ADA)
    await brevo.control("POST", "contacts:block", {"emails": [ADA]})

    await imported(brevo, jsonBody=[row(ADA, FIRSTNAME="Ada")])
    await imported(brevo, jsonBody=[row("bob@example.org")], emailBlacklist=True, smsBlacklist=True)

    assert (await brevo.contact(ADA))["emailBlacklisted"] is True
    bob = await brevo.contact("bob@example.org")
    assert (bob["emailBlacklisted"], bob["smsBlacklisted"]) == (True, True)


async def test_a_process_waits_runs_and_ends_by_the_sandboxs_clock(brevo: Brevo) -> None:
    await brevo.settings(import_delay_s=300)
    await brevo.ask("POST", "/contacts/import", {"jsonBody": [row(ADA)], "listIds": [2]})

    seen = []
    for _ in range(3):
        seen.append((await brevo.get("/processes/1"))["status"])
        await brevo.control("PUT", "clock", {"advance_s": 100})

    assert seen == ["queued", "in_process", "processing"]
    assert (await over(brevo, 1))["status"] == "completed"


async def test_processes_are_listed_newest_first_in_pages(brevo: Brevo) -> None:
    for name in "abc":
        await imported(brevo, jsonBody=[row(f"{name}@example.org")])

    newest = await brevo.get("/processes", limit=2)
    oldest = await brevo.get("/processes", limit=1, sort="asc")

    assert [each["id"] for each in newest["processes"]] == [3, 2]
    assert [each["id"] for each in oldest["processes"]] == [1]
    assert newest["count"] == 3
    assert refusal(await brevo.ask("GET", "/processes", limit=51))[1] == "out_of_range"


async def test_an_unknown_process_is_not_found(brevo: Brevo) -> None:
    for process_id in ("99", "abc"):
        answer = await brevo.ask("GET", f"/processes/{process_id}")
        assert refusal(answer) == (404, "invalid_parameter", "processId is invalid")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"listIds": [2]}, "missing_parameter"),
        ({"jsonBody": [], "listIds": [2]}, "missing_parameter"),
        ({"jsonBody": [{"email": ADA}]}, "missing_parameter"),
        ({"jsonBody": [{"email": ADA}], "newList": {"listName": "A"}}, "missing_parameter"),
        ({"jsonBody": [{"email": ADA}], "fileBody": "EMAIL", "listIds": [2]}, "invalid_parameter"),
        ({"jsonBody": [{"email": ADA}], "listIds": [99]}, "invalid_parameter"),
        ({"jsonBody": [{"email": 1}], "listIds": [2]}, "invalid_parameter"),
    ],
)
async def test_an_import_that_cannot_be_started_is_refused(
    brevo: Brevo, body: dict[str, object], code: str
) -> None:
    answer = await brevo.ask("POST", "/contacts/import", body)

    assert refusal(answer)[:2] == (400, code)
    assert (await brevo.get("/processes"))["count"] == 0


async def test_a_body_of_more_than_ten_megabytes_is_refused(brevo: Brevo) -> None:
    body = {"fileBody": "EMAIL\n" + "x" * 10 * 1024 * 1024, "listIds": [2]}

    answer = await brevo.ask("POST", "/contacts/import", body)

    assert refusal(answer)[:2] == (400, "out_of_range")


async def test_sixteen_times_the_rows_take_about_sixteen_times_as_long(brevo: Brevo) -> None:
    async def take(numbers: range) -> float:
        rows = [
            row(f"p{n}@example.org", FIRSTNAME="Ada", LASTNAME="Lovelace", SMS=f"336{n:08d}")
            for n in numbers
        ]
        started_s = time.process_time()
        process = await imported(brevo, jsonBody=rows)
        assert process["status"] == "completed"
        return time.process_time() - started_s

    few_s, many_s = await take(range(1_250)), await take(range(1_250, 21_250))

    # By the square it would be 256 times. Others may make the machine twice as slow meanwhile.
    assert many_s < 64 * few_s
    assert (await brevo.get("/contacts", limit=1))["count"] == 21_250


class Listener:
    """Somebody to notify, who also serves a file to import."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.heard = asyncio.Event()
        self.url = ""

    async def notify(self, request: Request) -> Response:
        self.told.append({**await request.json(), "path": request.url.path})
        self.heard.set()
        return PlainTextResponse("thanks")

    @staticmethod
    async def serve_file(request: Request) -> Response:
        name = request.path_params["name"]
        files = {
            "people.csv": "EMAIL;FIRSTNAME\nada@example.org;Ada\n",
            "people.json": '[{"email": "ada@example.org", "attributes": {"FIRSTNAME": "Ada"}}]',
        }
        return PlainTextResponse(files[name]) if name in files else Response(status_code=404)


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    listener = Listener()
    routes = [
        Route("/hooks/{name}", listener.notify, methods=["POST"]),
        Route("/{name}", listener.serve_file),
    ]
    async with serve(Starlette(routes=routes)) as url:
        listener.url = url
        yield listener


async def test_the_end_is_told_to_the_notify_url(brevo: Brevo, listener: Listener) -> None:
    rows = [row(ADA), row("x")]

    await imported(brevo, jsonBody=rows, notifyUrl=f"{listener.url}/hooks/import-7")
    await asyncio.wait_for(listener.heard.wait(), 60)

    [told] = listener.told
    assert (told["path"], told["processId"]) == ("/hooks/import-7", 1)
    assert (told["status"], told["created"], told["rejected"]) == ("completed", 1, 1)


async def test_a_notify_url_that_does_not_answer_changes_nothing(brevo: Brevo) -> None:
    process = await imported(brevo, jsonBody=[row(ADA)], notifyUrl="http://127.0.0.1:1/hooks")

    assert process["status"] == "completed"


@pytest.mark.parametrize("name", ["people.csv", "people.json"])
async def test_a_file_is_fetched_from_its_url(brevo: Brevo, listener: Listener, name: str) -> None:
    await imported(brevo, fileUrl=f"{listener.url}/{name}")

    assert await attributes(brevo, ADA) == {"FIRSTNAME": "Ada"}


async def test_a_file_that_is_not_there_fails_the_process(brevo: Brevo, listener: Listener) -> None:
    process = await imported(brevo, fileUrl=f"{listener.url}/nothing.csv")

    assert process["status"] == "failed"
