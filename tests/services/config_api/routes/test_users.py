"""/v1/users: who gets a workspace's mails; and the operator's way to the same."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from libs.common import ids
from libs.common.database import SessionMaker
from libs.common.ids import Prefix
from libs.common.mails import READERS_KINDS
from services.config_api.routes import users
from services.config_api.routes.users import Mails, MailsWanted
from services.config_api.store import users as store
from tests.services.config_api.served import Served, codes, edit, pointers

ALL_ON = dict.fromkeys(READERS_KINDS, True)


@pytest.fixture
async def operator(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client with the operator's key."""
    async with served.caller(served.operator_key) as client:
        yield client


async def make(api: httpx.AsyncClient, email: str = "ada@example.com", **members: Any) -> str:
    """Make a user; return its address in the API."""
    made = await api.post("/v1/users", json={"email": email, **members})
    assert made.status_code == 201, made.text
    return str(made.headers["location"])


async def muted(sessions: SessionMaker, path: str) -> list[str]:
    """Return what the notifier goes by."""
    async with sessions.begin() as session:
        found = await session.scalar(
            text("select muted from config.users where user_id = :user"),
            {"user": ids.parse(Prefix.USER, path.rpartition("/")[2])},
        )
    return list(found or ())


def test_there_is_a_switch_for_each_kind_and_no_other() -> None:
    assert list(MailsWanted.model_fields) == list(Mails.model_fields) == list(READERS_KINDS)


async def test_a_user_gets_every_kind_until_it_is_switched_off(
    api: httpx.AsyncClient, sessions: SessionMaker
) -> None:
    """Proves Q2 and Q3: a setting per user and kind, on by default."""
    path = await make(api, "Ada@EXAMPLE.com", language="de")
    fresh = await api.get(path)

    quieter = await edit(api, "PATCH", path, {"mails": {"quota_80": False}})
    other = await edit(api, "PATCH", path, {"mails": {"integration_error": False}})
    off = await muted(sessions, path)
    back = await edit(api, "PATCH", path, {"mails": {"quota_80": True}, "language": "en"})

    assert fresh.json()["mails"] == ALL_ON
    assert (fresh.json()["email"], fresh.json()["language"]) == ("Ada@example.com", "de")
    assert quieter["mails"] == ALL_ON | {"quota_80": False}
    assert other["mails"] == ALL_ON | {"quota_80": False, "integration_error": False}
    assert off == ["integration_error", "quota_80"]
    assert back["mails"] == ALL_ON | {"integration_error": False}
    assert back["language"] == "en"


async def test_users_are_listed_in_pages(api: httpx.AsyncClient) -> None:
    for name in ("a", "b", "c"):
        await make(api, f"{name}@example.com")

    first = await api.get("/v1/users?page_size=2")
    second = await api.get("/v1/users", params={"page_token": first.json()["next_page_token"]})

    shown = [each["email"] for page in (first, second) for each in page.json()["items"]]
    assert shown == ["a@example.com", "b@example.com", "c@example.com"]
    assert 'rel="next"' in first.headers["link"]


async def test_one_address_is_one_user(api: httpx.AsyncClient) -> None:
    """Proves X1: else one person would get every mail twice."""
    await make(api)
    other = await make(api, "bob@example.com")

    again = await api.post("/v1/users", json={"email": "ADA@example.com"})
    changed = await api.patch(other, json={"email": "aDa@example.com"}, headers={"if-match": "*"})
    own = await api.patch(other, json={"email": "BOB@example.com"}, headers={"if-match": "*"})

    for answer in (again, changed):
        assert (answer.status_code, codes(answer)) == (422, ["duplicate_recipient"])
        assert pointers(answer) == ["/email"]
    assert own.json()["email"] == "BOB@example.com"


async def test_who_adds_an_address_while_another_does_is_told_so(
    api: httpx.AsyncClient, sessions: SessionMaker
) -> None:
    """Proves X1: it is said, and no error of ours."""
    async with sessions.begin() as first:
        (workspace,) = await first.scalars(text("select workspace_id from config.workspaces"))
        await store.lock(first, workspace)
        await store.add(
            first,
            user=ids.new(),
            workspace=workspace,
            email="ada@example.com",
            language="en",
            muted=[],
        )
        second = asyncio.create_task(api.post("/v1/users", json={"email": "Ada@example.com"}))
        async with asyncio.timeout(60):
            while not second.done() and not await somebody_waits(sessions):  # noqa: ASYNC110  # a lock tells nobody
                await asyncio.sleep(0.01)

    assert codes(await second) == ["duplicate_recipient"]


async def somebody_waits(sessions: SessionMaker) -> bool:
    async with sessions.begin() as session:
        waits = await session.scalar(text("select exists (select from pg_locks where not granted)"))
    return bool(waits)


WRONG: tuple[tuple[dict[str, object], str], ...] = (
    ({"email": "nobody"}, "/email"),
    ({"email": "a@example.com\r\nBcc: b@example.com"}, "/email"),
    ({"email": None}, "/email"),
    ({"email": "a@example.com", "language": "fr"}, "/language"),
    ({"email": "a@example.com", "mails": {"quota_80": "no"}}, "/mails/quota_80"),
    ({"email": "a@example.com", "mails": {"quota_80": None}}, "/mails/quota_80"),
    ({"email": "a@example.com", "mails": {"drift": True}}, "/mails/drift"),
    ({"email": "a@example.com", "name": "Ada"}, "/name"),
)


async def test_what_is_wrong_with_a_user_is_said(api: httpx.AsyncClient) -> None:
    """Proves X1."""
    path = await make(api)

    for body, pointer in WRONG:
        made = await api.post("/v1/users", json=body)
        changed = await api.patch(path, json=body, headers={"if-match": "*"})

        assert (made.status_code, pointers(made)) == (422, [pointer])
        assert (changed.status_code, pointers(changed)) == (422, [pointer])
    assert len((await api.get("/v1/users")).json()["items"]) == 1
    assert (await api.get(path)).json()["email"] == "ada@example.com"


async def test_nobody_overwrites_a_change_that_he_has_not_seen(api: httpx.AsyncClient) -> None:
    """Proves X1."""
    path = await make(api)
    tag = (await api.get(path)).headers["etag"]
    await edit(api, "PATCH", path, {"language": "de"})

    unseen = await api.patch(path, json={"language": "en"}, headers={"if-match": tag})
    blind = await api.patch(path, json={"language": "en"})
    gone = await api.delete(path, headers={"if-match": tag})
    same = await api.patch(path, json={"language": "de"}, headers={"if-match": "*"})

    assert [unseen.status_code, blind.status_code, gone.status_code] == [412, 428, 412]
    assert same.headers["etag"] == (await api.get(path)).headers["etag"]
    assert (await api.get(path)).json()["language"] == "de"


async def test_a_post_that_is_sent_twice_makes_one_user(api: httpx.AsyncClient) -> None:
    """Proves X1."""
    headers = {"idempotency-key": "one"}
    once, twice = [
        await api.post("/v1/users", json={"email": "ada@example.com"}, headers=headers)
        for _ in range(2)
    ]

    assert (once.status_code, twice.status_code) == (201, 201)
    assert once.json() == twice.json()
    assert twice.headers["idempotency-replayed"] == "true"


async def test_who_is_deleted_is_gone_and_what_was_mailed_stays(
    api: httpx.AsyncClient, sessions: SessionMaker
) -> None:
    path = await make(api)
    async with sessions.begin() as session:
        await session.execute(
            text(
                "insert into notices.notices (notice_id, user_id, workspace_id, kind, language, "
                "recipient, payload, state) select gen_random_uuid(), user_id, workspace_id, "
                "'quota_80', 'en', email, '{}', 'sent' from config.users"
            )
        )

    deleted = await api.delete(path)

    assert deleted.status_code == 204
    assert (await api.get(path)).status_code == 404
    assert (await api.delete(path)).status_code == 404
    (notice,) = (await api.get("/v1/notices")).json()["items"]
    assert (notice["recipient"], notice["state"]) == ("ada@example.com", "sent")


async def test_a_workspace_has_a_bounded_number_of_users(
    api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users, "USERS_MAX", 1)
    await make(api)

    answer = await api.post("/v1/users", json={"email": "bob@example.com"})

    assert answer.status_code == 409
    assert "at most 1 users" in answer.json()["detail"]


async def test_the_operator_does_the_same_for_a_customer(
    served: Served, operator: httpx.AsyncClient
) -> None:
    """Proves Q2: and a customer's own key sees what was done."""
    customer = await served.make_workspace(recipients=[{"email": "ada@example.com"}])
    path = f"/v1/workspaces/{customer['id']}/users"

    made = await operator.post(path, json={"email": "bob@example.com", "language": "de"})
    changed = await edit(
        operator, "PATCH", made.headers["location"], {"mails": {"quota_100": False}}
    )
    listed = (await operator.get(path)).json()["items"]
    async with served.caller(customer["api_key"]["secret"]) as api:
        seen = (await api.get("/v1/users")).json()["items"]
    removed = await operator.delete(made.headers["location"])

    assert changed["mails"]["quota_100"] is False
    assert [each["email"] for each in listed] == ["ada@example.com", "bob@example.com"]
    assert seen == listed
    assert removed.status_code == 204
    recipients = (await operator.get(f"/v1/workspaces/{customer['id']}")).json()["recipients"]
    assert recipients == [{"email": "ada@example.com", "language": "en"}]


async def test_a_user_is_found_in_its_own_workspace_only(
    served: Served, operator: httpx.AsyncClient, api: httpx.AsyncClient
) -> None:
    """Proves X3."""
    other = await served.make_workspace()
    theirs = await operator.post(
        f"/v1/workspaces/{other['id']}/users", json={"email": "ada@example.com"}
    )
    user = theirs.json()["id"]
    mine = await make(api)
    tag = {"if-match": "*"}

    answers = [
        await api.get(f"/v1/users/{user}"),
        await api.patch(f"/v1/users/{user}", json={"language": "de"}, headers=tag),
        await api.delete(f"/v1/users/{user}"),
        await operator.get(f"/v1/workspaces/{other['id']}/users/{mine.rpartition('/')[2]}"),
        await operator.get(f"/v1/workspaces/{ids.show(Prefix.WORKSPACE, ids.new())}/users"),
        await operator.post(
            f"/v1/workspaces/{ids.show(Prefix.WORKSPACE, ids.new())}/users",
            json={"email": "a@example.com"},
        ),
        await api.get("/v1/users/usr_1"),
    ]

    assert [answer.status_code for answer in answers] == [404] * 7
    assert [each["email"] for each in (await api.get("/v1/users")).json()["items"]] == [
        "ada@example.com"
    ]
    assert (await operator.get("/v1/users")).status_code == 403
    assert (await api.get(f"/v1/workspaces/{other['id']}/users")).status_code == 403


async def test_the_audit_log_says_what_changed_and_no_address(api: httpx.AsyncClient) -> None:
    """Proves X4."""
    path = await make(api)
    await edit(api, "PATCH", path, {"email": "bob@example.com", "mails": {"quota_80": False}})
    await api.delete(path)

    listed = await api.get("/v1/audit-events", params={"subject": path.rpartition("/")[2]})

    events = {each["action"]: each["details"] for each in listed.json()["items"]}
    assert events == {
        "user.created": {"language": "en", "mails": {"off": []}},
        "user.changed": {"email": "set", "mails": {"off": ["quota_80"]}},
        "user.deleted": {},
    }
    assert "example.com" not in listed.text


async def test_reading_and_changing_users_are_scopes_of_their_own(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves X3."""
    allowed = {
        "users:read": [200, 403, 403],
        "users:write": [403, 201, 403],
        "notices:read": [403, 403, 200],
    }

    for scope, expected in allowed.items():
        made = await api.post("/v1/api-keys", json={"name": "n", "scopes": [scope]})
        async with served.caller(made.json()["secret"]) as smaller:
            answers = [
                await smaller.get("/v1/users"),
                await smaller.post("/v1/users", json={"email": "ada@example.com"}),
                await smaller.get("/v1/notices"),
            ]

        assert [answer.status_code for answer in answers] == expected
