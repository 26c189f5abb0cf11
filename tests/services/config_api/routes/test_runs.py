"""Runs and contacts, as the poller and activity leave them."""

import json
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import text

from libs.common import ids
from libs.common.database import SessionMaker
from libs.common.ids import Prefix
from services.config_api.routes.runs import choose_language
from tests.services.config_api.served import Served, edit, make_draft

RUN = {
    "run_no": 1,
    "mode": "full",
    "state": "read",
    "parts": 1,
    "read": 10,
    "total_before": 10,
    "total_after": 10,
    "is_complete": True,
    "withheld": 0,
}
SETTLED = {
    "state": "complete",
    "parts_settled": 1,
    "created": 6,
    "updated": 1,
    "removed": 0,
    "unchanged": 1,
    "rejected": 2,
    "verdict": "complete",
    "settled_later": json.dumps({"created": 1}),
    "rejected_by_reason": json.dumps({"invalid_email": 2}),
}


@pytest.fixture
async def integration(served: Served, api: httpx.AsyncClient) -> str:
    """Return the id of an active integration."""
    draft = await make_draft(served, api)
    await edit(api, "POST", f"{draft.path}:activate", {}, resource=draft.path)
    return draft.id


async def insert(
    sessions: SessionMaker, table: str, integration: str, members: dict[str, Any]
) -> None:
    """Add a row as the service that owns the table would."""
    row = {"integration_id": ids.parse(Prefix.INTEGRATION, integration), **members}
    columns = ", ".join(row)
    values = ", ".join(f"cast(:{name} as jsonb)" if _is_json(name) else f":{name}" for name in row)
    async with sessions.begin() as session:
        await session.execute(
            text(
                f"insert into {table} ({columns}, workspace_id) select {values}, i.workspace_id"
                " from config.integrations i where i.integration_id = :integration_id"
            ),
            row,
        )


def _is_json(name: str) -> bool:
    return name.endswith("_by_reason") or name == "settled_later"


def run_id(integration: str, run_no: int = 1) -> UUID:
    return ids.run_id(ids.parse(Prefix.INTEGRATION, integration), run_no)


async def insert_run(
    sessions: SessionMaker,
    integration: str,
    settled: dict[str, Any] | None = None,
    **members: object,
) -> str:
    """Add a run, settled as told; return its id."""
    row = {**RUN, **members}
    run = run_id(integration, int(str(row["run_no"])))
    await insert(
        sessions,
        "sync.runs",
        integration,
        {"run_id": run, "mapping_version": 1, "fencing": 1, **row},
    )
    if settled is not None:
        await insert(
            sessions,
            "activity.runs",
            integration,
            {"run_id": run, "run_no": row["run_no"], **settled},
        )
    return ids.show(Prefix.RUN, run)


async def test_a_run_shows_its_counts_and_its_proof(
    api: httpx.AsyncClient, sessions: SessionMaker, integration: str
) -> None:
    """Proves W8 and Q6."""
    run = await insert_run(sessions, integration, SETTLED)

    shown = (await api.get(f"/v1/runs/{run}")).json()

    assert shown["state"] == "complete"
    assert shown["progress"] == 1.0
    assert shown["counts"] == {
        "read": 10,
        "created": 6,
        "updated": 1,
        "removed": 0,
        "unchanged": 1,
        "superseded": 0,
        "filtered": 0,
        "rejected": 2,
        "parked": 0,
        "importing": 0,
    }
    assert shown["tasks"] == 8
    assert shown["settled_later"] == {"created": 1}
    assert shown["rejected_by_reason"] == {"invalid_email": 2}
    assert shown["proof"] == {
        "complete": True,
        "parts_expected": 1,
        "parts_settled": 1,
        "source_total_before": 10,
        "source_total_after": 10,
        "left_out": 0,
        "verdict": "complete",
    }


async def test_a_run_that_is_read_shows_how_far_it_is(
    api: httpx.AsyncClient, sessions: SessionMaker, integration: str
) -> None:
    counted = {"state": "settling", "created": 5}
    run = await insert_run(sessions, integration, counted, state="reading", read=5, expected=10)

    shown = (await api.get(f"/v1/runs/{run}")).json()

    assert (shown["state"], shown["progress"]) == ("reading", 0.5)
    assert shown["proof"]["parts_expected"] is None


async def test_a_run_that_could_not_be_read_shows_why(
    api: httpx.AsyncClient, sessions: SessionMaker, integration: str
) -> None:
    """Proves W8: in the list of integrations as well."""
    await insert_run(sessions, integration, state="failed", error_code="list_missing")

    [listed] = (await api.get("/v1/integrations")).json()["items"]

    assert (listed["last_run"]["state"], listed["last_run"]["error"]) == (
        "incomplete",
        "list_missing",
    )


async def test_runs_are_listed_newest_first_and_the_newest_stands_in_the_list(
    api: httpx.AsyncClient, sessions: SessionMaker, integration: str
) -> None:
    """Proves W8."""
    for number in (1, 2, 3):
        await insert_run(sessions, integration, run_no=number)
    path = f"/v1/integrations/{integration}/runs"

    first = (await api.get(f"{path}?page_size=2")).json()
    second = (await api.get(path, params={"page_token": first["next_page_token"]})).json()
    listed = (await api.get("/v1/integrations")).json()["items"]

    assert [each["run_no"] for each in first["items"] + second["items"]] == [3, 2, 1]
    assert listed[0]["last_run"]["run_no"] == 3


async def test_a_run_is_asked_for(
    api: httpx.AsyncClient, sessions: SessionMaker, integration: str
) -> None:
    path = f"/v1/integrations/{integration}/runs"
    async with sessions.begin() as session:
        await session.execute(
            text(
                "update sync.schedules set run_no = 7, wanted_mode = 'changes',"
                " next_due_at = now() + interval '1 hour'"
            )
        )

    asked = await api.post(path)
    async with sessions.begin() as session:
        is_due = await session.scalar(text("select next_due_at <= now() from sync.schedules"))
    whole = await api.post(path, json={"mode": "full"})
    async with sessions.begin() as session:
        mode = await session.scalar(text("select wanted_mode from sync.schedules"))

    assert asked.status_code == 202
    assert asked.json() == {"state": "requested", "after_run_no": 7}
    assert asked.headers["location"] == path
    assert asked.headers["retry-after"] == "5"
    assert is_due
    assert (whole.status_code, mode) == (202, "full")


async def test_only_an_active_integration_runs(api: httpx.AsyncClient, integration: str) -> None:
    await api.post(f"/v1/integrations/{integration}:pause")

    answer = await api.post(f"/v1/integrations/{integration}/runs")

    assert (answer.status_code, answer.json()["state"]) == (409, "paused")


async def test_many_deletions_wait_for_a_person(
    api: httpx.AsyncClient, sessions: SessionMaker, integration: str
) -> None:
    """Proves S4: the guard's question is answered once."""
    run = await insert_run(sessions, integration, SETTLED, withheld=25)
    path = f"/v1/runs/{run}:confirm-deletions"
    asking = (await api.get(f"/v1/runs/{run}")).json()

    confirmed = await api.post(path)
    again = await api.post(path)

    assert (asking["state"], asking["withheld"]) == ("needs_confirmation", 25)
    assert (confirmed.json()["state"], confirmed.json()["withheld"]) == ("complete", 0)
    assert again.status_code == 409


async def test_the_guards_question_lapses_with_the_next_full_read(
    api: httpx.AsyncClient, sessions: SessionMaker, integration: str
) -> None:
    run = await insert_run(sessions, integration, SETTLED, withheld=25)
    await insert_run(sessions, integration, run_no=2)

    shown = (await api.get(f"/v1/runs/{run}")).json()
    answer = await api.post(f"/v1/runs/{run}:confirm-deletions")

    assert shown["state"] == "complete"
    assert answer.status_code == 409


async def insert_contacts(sessions: SessionMaker, integration: str) -> None:
    for source_id, status, reason in (
        ("1", "created", None),
        ("2", "updated", None),
        ("3", "rejected", "invalid_email"),
        ("4", "rejected", "invalid_phone"),
        ("5", "parked", "quota"),
        ("6", "rejected", "of_a_newer_version"),
        # Waited, and was found to be there already: the writer has only counted it.
        ("7", "parked", "quota"),
        # Waited, and was removed from the source before it was ever written.
        ("8", "parked", "quota"),
    ):
        await insert(
            sessions,
            "activity.contacts",
            integration,
            {"source_id": source_id, "status": status, "reason": reason, "run_no": 1},
        )
    version = {"version_ms": 1, "run_no": 1, "operation": "upsert", "hash": b""}
    where = {"run_id": run_id(integration), "page": 1, "part": 0, "mapping_version": 1}
    parked = {"connection_id": uuid4(), "reason": "quota", "attributes": b"{}"}
    await insert(
        sessions, "delivery.parked", integration, {"source_id": "5", **version, **where, **parked}
    )
    for source_id, state in (("7", "linked"), ("8", "removed")):
        link = {"source_id": source_id, "state": state, **version}
        await insert(sessions, "delivery.links", integration, link)


async def test_contacts_say_why_and_what_to_do(
    api: httpx.AsyncClient, sessions: SessionMaker, integration: str
) -> None:
    """Proves AC9 and X1."""
    await insert_contacts(sessions, integration)
    path = f"/v1/integrations/{integration}/contacts"

    english = await api.get(path, params={"source_id": "3"})
    german = await api.get(
        path, params={"source_id": "3"}, headers={"accept-language": "de-AT,en;q=0.5"}
    )
    unknown = (await api.get(path, params={"source_id": "6"})).json()["items"][0]

    (contact,) = english.json()["items"]
    assert (contact["status"], contact["reason"], contact["who"]) == (
        "rejected",
        "invalid_email",
        "source",
    )
    assert contact["words"]
    assert contact["remedy"]
    assert english.headers["content-language"] == "en"
    assert german.headers["content-language"] == "de"
    assert german.json()["items"][0]["words"] != contact["words"]
    assert (unknown["reason"], unknown["words"], unknown["who"]) == (
        "of_a_newer_version",
        None,
        None,
    )


async def ask(api: httpx.AsyncClient, integration: str, **parameters: str) -> dict[str, Any]:
    """Return the answer about a single contact."""
    answer = await api.get(f"/v1/integrations/{integration}/contacts", params=parameters)
    assert answer.status_code == 200, answer.text
    (contact,) = answer.json()["items"]
    assert answer.json()["next_page_token"] is None
    if contact["reason"] is not None:
        assert contact["words"], contact
        assert contact["remedy"], contact
    return {name: contact[name] for name in ("source_id", "status", "reason", "who")}


async def test_any_contact_is_asked_for_and_gets_its_reason(
    api: httpx.AsyncClient, sessions: SessionMaker, integration: str
) -> None:
    """Proves AC9: by id, also of those that nothing was ever told of."""
    await insert_contacts(sessions, integration)
    run = await insert_run(sessions, integration, SETTLED)
    version = {"state": "none", "version_ms": 1, "run_no": 1, "hash": b""}
    for source_id, operation in (("f", "filtered"), ("g", "leave"), ("h", "delete")):
        link = {**version, "source_id": source_id, "operation": operation}
        await insert(sessions, "delivery.links", integration, link)
    left = {"source_id": "l", "run_id": ids.parse(Prefix.RUN, run), "version_ms": 1}
    await insert(sessions, "sync.left_out", integration, left)

    told = {each: await ask(api, integration, source_id=each) for each in "15fghlz"}

    assert {name: (each["status"], each["reason"], each["who"]) for name, each in told.items()} == {
        "1": ("created", None, None),
        "5": ("parked", "quota", "user"),
        "f": ("filtered", "criteria", "nobody"),
        "g": ("absent", "removed", "source"),
        "h": ("absent", "removed", "source"),
        "l": ("absent", "left_out", "user"),
        "z": ("absent", "not_read", "source"),
    }


async def test_a_contact_is_asked_for_by_its_address(
    api: httpx.AsyncClient, sessions: SessionMaker, integration: str
) -> None:
    """Proves AC9: however its letters are written, linked, waiting or refused it."""
    await insert_run(sessions, integration, SETTLED)
    await insert_contacts(sessions, integration)
    async with sessions.begin() as session:
        await session.execute(
            text("update delivery.parked set identity = 'ada@example.com', reason = 'sync_budget'")
        )
        await session.execute(
            text(
                "update delivery.links set identity = source_id || '@example.com',"
                " refused_identity = 'new@example.com' where source_id = '7'"
            )
        )
        await session.execute(
            text("update activity.contacts set reason = 'sync_budget' where source_id = '5'")
        )

    waiting = await ask(api, integration, email=" Ada@Example.com ")
    linked = await ask(api, integration, email="7@example.com")
    refused = await ask(api, integration, email="new@example.com")
    unknown = await ask(api, integration, email="nobody@example.com")
    another = await ask(api, integration, email="7@example.com", source_id="5")

    assert (waiting["source_id"], waiting["reason"]) == ("5", "sync_budget")
    assert (linked["source_id"], linked["status"]) == ("7", "updated")
    assert refused["source_id"] == "7"
    assert unknown == {
        "source_id": None,
        "status": "absent",
        "reason": "not_read",
        "who": "source",
    }
    assert another["source_id"] is None


async def test_what_keeps_an_integration_from_reading_is_the_answer(
    api: httpx.AsyncClient, sessions: SessionMaker, integration: str
) -> None:
    """Proves AC9: the code of its source's trouble has words, too, here and at the integration."""
    unread = await ask(api, integration, source_id="z")
    await insert_run(sessions, integration, state="reading")
    reading = await ask(api, integration, source_id="z")
    await api.post(f"/v1/integrations/{integration}:pause")
    paused = await ask(api, integration, source_id="z")
    async with sessions.begin() as session:
        await session.execute(
            text(
                "update config.integrations set state = 'error',"
                " error_reason = 'source_list_missing'"
            )
        )
    in_error = await ask(api, integration, source_id="z")
    shown = (await api.get(f"/v1/integrations/{integration}")).json()

    reasons = [each["reason"] for each in (unread, reading, paused, in_error)]
    assert reasons == ["not_synced_yet", "not_synced_yet", "paused", "source_list_missing"]
    assert shown["status_words"] == "The list is gone at the source."
    assert shown["status_remedy"].startswith("Choose another list")


async def test_who_was_left_out_is_listed_and_replayed(
    api: httpx.AsyncClient, sessions: SessionMaker, integration: str
) -> None:
    """Proves CC4: page by page, without those that were read since, and once."""
    run = await insert_run(sessions, integration, SETTLED, mode="changes")
    left = {"run_id": ids.parse(Prefix.RUN, run), "version_ms": 1_700_000_000_000}
    for source_id in "abcd":
        await insert(sessions, "sync.left_out", integration, {"source_id": source_id, **left})
    link = {"source_id": "b", "state": "linked", "version_ms": 1_700_000_000_000, "run_no": 2}
    await insert(
        sessions, "delivery.links", integration, {**link, "operation": "upsert", "hash": b""}
    )
    path = f"/v1/runs/{run}"

    first = (await api.get(f"{path}/left-out", params={"page_size": 2})).json()
    token = first["next_page_token"]
    second = (await api.get(f"{path}/left-out", params={"page_token": token})).json()
    async with sessions.begin() as session:
        await session.execute(text("update sync.schedules set next_due_at = now() + '1 hour'"))
    replayed = await api.post(f"{path}:replay-left-out")
    again = await api.post(f"{path}:replay-left-out")
    shown = (await api.get(f"{path}/left-out")).json()["items"]
    async with sessions.begin() as session:
        is_due = await session.scalar(text("select next_due_at <= now() from sync.schedules"))

    items = first["items"] + second["items"]
    assert [each["source_id"] for each in items] == ["a", "c", "d"]
    assert items[0]["changed_at"] == "2023-11-14T22:13:20Z"
    assert items[0]["replayed_at"] is None
    assert (replayed.status_code, replayed.json()) == (202, {"contacts": 3})
    assert replayed.headers["location"] == f"/v1/integrations/{integration}/runs"
    assert again.status_code == 409
    assert all(each["replayed_at"] for each in shown)
    assert is_due


SEARCHES: list[tuple[dict[str, str], list[str]]] = [
    ({}, ["1", "2", "3", "4", "5", "6", "7"]),
    ({"status": "written"}, ["1", "2", "7"]),
    ({"status": "parked"}, ["5"]),
    ({"status": "rejected", "reason": "invalid_phone"}, ["4"]),
    ({"source_id": "nobody"}, ["nobody"]),  # Not there, and told why.
    ({"source_id": "nobody", "status": "rejected"}, []),
    ({"source_id": "\x00"}, ["\ufffd"]),
]


async def test_contacts_are_found_by_status_and_reason(
    api: httpx.AsyncClient, sessions: SessionMaker, integration: str
) -> None:
    """Proves AC9."""
    await insert_contacts(sessions, integration)

    for parameters, found in SEARCHES:
        assert await search(api, integration, parameters) == found, parameters


async def search(api: httpx.AsyncClient, integration: str, parameters: dict[str, str]) -> list[str]:
    """Return the source ids of all pages of a search."""
    shown: list[str] = []
    token = None
    while True:
        asked = {**parameters, "page_size": "2", **({"page_token": token} if token else {})}
        answer = await api.get(f"/v1/integrations/{integration}/contacts", params=asked)
        page = answer.json()
        shown += [each["source_id"] for each in page["items"]]
        token = page["next_page_token"]
        if token is None:
            return shown


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        (None, "de"),
        ("", "de"),
        ("en", "en"),
        ("fr, en-GB;q=0.8, de;q=0.9", "de"),
        ("fr", "de"),
        ("en;q=0", "de"),
        ("en;q=much", "de"),
        ("en;level=1", "en"),
    ],
)
def test_the_language_is_the_callers_else_the_workspaces(accept: str | None, language: str) -> None:
    assert choose_language(accept, "de") == language
