"""/v1/notices and /v1/failed-notices: what was mailed, and what could not be."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from libs.common import ids
from libs.common.database import SessionMaker
from libs.common.ids import Prefix
from tests.services.config_api.served import Served, codes


@pytest.fixture
async def operator(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client with the operator's key."""
    async with served.caller(served.operator_key) as client:
        yield client


async def add(sessions: SessionMaker, workspace: str, **members: Any) -> str:
    """Store a notice as the notifier leaves it; return its id."""
    notice = {
        "notice_id": ids.new(),
        "workspace_id": ids.parse(Prefix.WORKSPACE, workspace),
        "kind": "quota_100",
        "language": "de",
        "recipient": "ada@example.com",
        "payload": "{}",
        "state": "sent",
        "attempts": 1,
    } | members
    for name in notice:
        if name.endswith("_at"):
            notice[name] = datetime.fromisoformat(str(notice[name]))
    names = ", ".join(notice)
    values = ", ".join(f":{name}" for name in notice).replace(":payload", "cast(:payload as jsonb)")
    async with sessions.begin() as session:
        await session.execute(
            text(f"insert into notices.notices ({names}) values ({values})"), notice
        )
    made = notice["notice_id"]
    assert isinstance(made, UUID)
    return ids.show(Prefix.NOTICE, made)


async def test_a_mail_that_was_refused_is_shown_with_the_servers_words(
    served: Served, sessions: SessionMaker
) -> None:
    """Proves Q3: a 5xx shows, with what to do."""
    customer = await served.make_workspace(language="de")
    notice = await add(
        sessions,
        customer["id"],
        state="failed",
        reason="smtp_550",
        answer="5.1.1 No such user here",
    )
    async with served.caller(customer["api_key"]["secret"]) as api:
        german = (await api.get("/v1/notices")).json()["items"]
        english = (await api.get("/v1/notices", headers={"accept-language": "en"})).json()["items"]

    (shown,) = german
    assert (shown["id"], shown["recipient"], shown["kind"]) == (
        notice,
        "ada@example.com",
        "quota_100",
    )
    assert (shown["state"], shown["attempts"], shown["reason"]) == ("failed", 1, "smtp_550")
    assert shown["answer"] == "5.1.1 No such user here"
    assert shown["words"].startswith("Der Mailserver nimmt sie nicht an")
    assert english[0]["words"].startswith("The mail server refuses it")
    assert (shown["next_attempt_at"], shown["sent_at"]) == (None, None)


async def test_a_mail_that_waits_says_until_when(served: Served, sessions: SessionMaker) -> None:
    customer = await served.make_workspace()
    await add(sessions, customer["id"], state="pending", next_at="2026-11-24 12:00+00")

    async with served.caller(customer["api_key"]["secret"]) as api:
        (shown,) = (await api.get("/v1/notices?state=pending")).json()["items"]

    assert shown["next_attempt_at"] == "2026-11-24T12:00:00Z"
    assert (shown["reason"], shown["words"]) == (None, None)


async def test_notices_are_filtered_and_come_newest_first_in_pages(
    served: Served, sessions: SessionMaker
) -> None:
    """Several of one moment are none twice and none never."""
    customer = await served.make_workspace()
    at = "2026-11-24 12:00:00.123456+00"
    for day in range(3):
        await add(sessions, customer["id"], created_at=f"2026-11-2{day} 12:00+00")
    for number in range(4):
        await add(
            sessions,
            customer["id"],
            created_at=at,
            kind="quota_80",
            recipient=f"{number}@example.com",
        )
    async with served.caller(customer["api_key"]["secret"]) as api:
        every = (await api.get("/v1/notices")).json()["items"]
        paged: list[dict[str, Any]] = []
        token: dict[str, str] = {}
        while True:
            page = (await api.get("/v1/notices", params={"page_size": 3, **token})).json()
            paged += page["items"]
            if page["next_page_token"] is None:
                break
            token = {"page_token": page["next_page_token"]}
        of_kind = (await api.get("/v1/notices?kind=quota_80")).json()["items"]
        of_one = (await api.get("/v1/notices?recipient=2@EXAMPLE.com")).json()["items"]
        none = (await api.get("/v1/notices?state=failed")).json()["items"]

    assert len(every) == 7
    assert paged == every
    assert [each["created_at"] for each in every] == sorted(
        (each["created_at"] for each in every), reverse=True
    )
    assert len(of_kind) == 4
    assert [each["recipient"] for each in of_one] == ["2@example.com"]
    assert none == []


REFUSED = (
    "state=lost",
    "kind=birthday",
    "recipient=%00",
    "page_token=bm9uZQ",
    "page_token=IjIwMjYtMTEtMjQi",  # A date without an id.
    "page_token=IjAwMDEtMDEtMDFUMDA6MDA6MDArMTQ6MDAgMDAi",  # Before the year 1.
    "page_size=0",
)


async def test_a_filter_that_means_nothing_is_refused(api: httpx.AsyncClient) -> None:
    """Proves X1."""
    for query in REFUSED:
        answer = await api.get(f"/v1/notices?{query}")

        assert answer.status_code == 422, query
        assert codes(answer)


async def test_a_workspace_sees_its_own_and_not_what_the_operator_is_told(
    served: Served, sessions: SessionMaker
) -> None:
    """Proves X3."""
    customer, other = await served.make_workspace(), await served.make_workspace()
    await add(sessions, other["id"], state="failed")
    await add(sessions, customer["id"], state="failed", audience="operator", kind="drift")

    async with served.caller(customer["api_key"]["secret"]) as api:
        assert (await api.get("/v1/notices")).json()["items"] == []
        assert (await api.get("/v1/failed-notices")).status_code == 403
    async with sessions.begin() as session:
        await session.execute(text("set local role contactsync_api"))
        await session.execute(
            text("select set_config('app.workspace', :workspace, true)"),
            {"workspace": str(ids.parse(Prefix.WORKSPACE, customer["id"]))},
        )
        assert await session.scalar(text("select count(*) from notices.notices")) == 0


async def test_the_operator_sees_what_failed_in_every_workspace(
    served: Served, sessions: SessionMaker, operator: httpx.AsyncClient
) -> None:
    """Proves Q3: nobody else can mend the mail server, or tells a customer of a dead address."""
    one, two = await served.make_workspace(), await served.make_workspace()
    await add(sessions, one["id"])
    await add(sessions, one["id"], state="failed", created_at="2026-11-24 12:00+00")
    await add(
        sessions,
        two["id"],
        state="failed",
        kind="drift",
        audience="operator",
        created_at="2026-11-24 13:00+00",
    )

    every = (await operator.get("/v1/failed-notices")).json()["items"]
    of_one = await operator.get("/v1/failed-notices", params={"workspace_id": one["id"]})
    of_kind = (await operator.get("/v1/failed-notices?kind=drift")).json()["items"]
    first = (await operator.get("/v1/failed-notices?page_size=1")).json()
    second = (
        await operator.get("/v1/failed-notices", params={"page_token": first["next_page_token"]})
    ).json()
    wrong = await operator.get("/v1/failed-notices?workspace_id=ws_1")

    assert [each["workspace_id"] for each in every] == [two["id"], one["id"]]
    assert [each["workspace_id"] for each in of_one.json()["items"]] == [one["id"]]
    assert [each["workspace_id"] for each in of_kind] == [two["id"]]
    assert [*first["items"], *second["items"]] == every
    assert (wrong.status_code, codes(wrong)) == (422, ["invalid_id"])
