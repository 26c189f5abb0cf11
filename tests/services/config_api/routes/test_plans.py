"""A workspace that loses its plan: what it does not have any more stops, at once and for good."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text

from libs.common import ids
from libs.common.clock import SystemClock
from libs.common.database import create_engine, session_maker
from libs.common.events import IntegrationChanged, IntegrationKind, Operation, Topic, decode
from libs.common.ids import Prefix
from libs.common.postgres import Transactions, create_pool
from libs.common.settings import Environment
from libs.connectors.account import StaticToken
from libs.connectors.contract import OpenGate, Source
from libs.connectors.http import HttpClient
from libs.connectors.salesforce.source import SalesforceSource
from sandbox.salesforce.tokens import STANDING_TOKEN
from services.config_api import configure
from services.notifier.decide import mail_for
from services.poller.attend import Attendant, Bounds
from services.poller.plan import Assignment
from tests.services.config_api.routes.test_two_way import FIELDS, rows, salesforce_draft
from tests.services.config_api.served import (
    Draft,
    Served,
    codes,
    edit,
    make_draft,
)
from tests.services.poller.fakes import Journal

STATES = (
    "select state, error_reason, way_back_of is not null as is_back, s.is_active"
    " from config.integrations left join sync.schedules s using (integration_id) order by is_back"
)
ACTIVE = {"state": "active", "error_reason": None, "is_active": True}
STOPPED = {"state": "paused", "error_reason": "plan_needed", "is_active": False}


@pytest.fixture
async def pollers(role_url: Callable[[str], str]) -> AsyncIterator[Transactions]:
    """Return the database as the poller sees it."""
    pool = create_pool(role_url("poller"), size_max=5, application_name="test")
    yield Transactions(pool)
    await pool.close()


@pytest.fixture
async def http(served: Served) -> AsyncIterator[HttpClient]:
    """Return what connectors call the sandboxes by."""
    client = HttpClient(environment=Environment.TEST, loopback_urls=served.providers)
    yield client
    await client.aclose()


async def give_plan(served: Served, plan: str) -> None:
    """Give every workspace a plan, as the operator does."""
    async with served.caller(served.operator_key) as operator:
        for workspace in (await operator.get("/v1/workspaces")).json()["items"]:
            path = f"/v1/workspaces/{workspace['id']}"
            given = await operator.patch(path, json={"plan": plan}, headers={"if-match": "*"})
            assert given.status_code == 200, given.text


async def activate(api: httpx.AsyncClient, draft: Draft) -> None:
    await edit(api, "POST", f"{draft.path}:activate", {}, resource=draft.path)


async def told(served: Served) -> list[IntegrationChanged]:
    """Return what waits to be told to people."""
    found = await rows(served, "select body from sync.outbox order by id")
    events = [decode(Topic.INTEGRATIONS_CHANGED, bytes(row["body"])) for row in found]
    return [event for event in events if isinstance(event, IntegrationChanged)]


async def test_without_the_plan_an_integration_stops_with_its_way_back(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves SF1, W8, X1: in the change of the plan; it says why, in mail, list and audit log."""
    draft = await salesforce_draft(served, api)
    await edit(api, "PATCH", draft.path, {"two_way": True})
    await activate(api, draft)
    before = (await api.get(draft.path)).headers["etag"]

    await give_plan(served, "standard")
    await give_plan(served, "standard")

    leading, back = await rows(served, STATES)
    assert leading == {**STOPPED, "is_back": False}
    assert back == {**STOPPED, "is_back": True}
    read = await api.get(draft.path)
    assert read.headers["etag"] != before
    shown = read.json()
    assert (shown["state"], shown["status"]) == ("paused", "error")
    assert shown["status_reason"] == "plan_needed"
    assert "Ask the operator for the plan" in shown["status_remedy"]
    asked = await api.get(f"{draft.path}/contacts", params={"source_id": "nobody"})
    assert [each["reason"] for each in asked.json()["items"]] == ["plan_needed"]
    [event] = await told(served)
    assert (event.kind, event.reason) == (IntegrationKind.ERROR, "plan_needed")
    assert ids.show(Prefix.INTEGRATION, event.integration) == draft.id
    assert mail_for(event) is not None
    audited = (await api.get("/v1/audit-events", params={"subject": draft.id})).json()["items"]
    assert [each["action"] for each in audited].count("integration.stopped") == 1


async def test_with_the_plan_back_a_person_starts_it_again(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves SF1, W8: nothing goes on by itself, and what is edited meanwhile starts nothing."""
    draft = await salesforce_draft(served, api)
    await edit(api, "PATCH", draft.path, {"two_way": True})
    await activate(api, draft)
    await give_plan(served, "standard")

    refused = await api.post(f"{draft.path}:resume", json={})
    await edit(api, "PATCH", draft.path, {"interval_minutes": 60})
    await edit(api, "PUT", f"{draft.path}/mapping", {"fields": FIELDS[:2]}, resource=draft.path)
    stopped = await rows(served, STATES)
    await give_plan(served, "enterprise")
    waits = (await api.get(draft.path)).json()
    resumed = await edit(api, "POST", f"{draft.path}:resume", {}, resource=draft.path)

    assert (refused.status_code, codes(refused)) == (422, ["plan_needed"])
    assert [(each["state"], each["is_active"]) for each in stopped] == [("paused", False)] * 2
    assert (waits["status"], waits["status_reason"]) == ("error", "plan_needed")
    assert (resumed["status"], resumed["status_reason"]) == ("active", None)
    again = await rows(served, STATES)
    assert again == [{**ACTIVE, "is_back": False}, {**ACTIVE, "is_back": True}]


@pytest.mark.parametrize("worker", ["poller", "writer"])
@pytest.mark.parametrize("reason", ["source_list_missing", "list_missing"])
async def test_no_worker_starts_again_what_was_in_error(
    served: Served,
    api: httpx.AsyncClient,
    role_url: Callable[[str], str],
    worker: str,
    reason: str,
) -> None:
    """Proves SF1: workers try what is in error by themselves, and end it."""
    draft = await salesforce_draft(served, api)
    await activate(api, draft)
    async with served.owner.begin() as session:
        await session.execute(
            text("update config.integrations set state = 'error', error_reason = :reason"),
            {"reason": reason},
        )
    await give_plan(served, "standard")

    engine = create_engine(role_url(worker), pool_size_max=1, application_name="test")
    integration = ids.parse(Prefix.INTEGRATION, draft.id)
    async with session_maker(engine).begin() as session:
        for said in (None, "source_down"):
            await session.execute(
                text("select config.report_integration(:id, :reason)"),
                {"id": integration, "reason": said},
            )
    await engine.dispose()

    assert await rows(served, STATES) == [{**STOPPED, "is_back": False}]


async def test_other_providers_workspaces_and_pauses_are_left_alone(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves SF1, X3: only what goes from or to a provider that the plan does not have."""
    theirs = await served.make_workspace(plan="enterprise")
    async with served.caller(theirs["api_key"]["secret"]) as other:
        others = await salesforce_draft(served, other)
        await activate(other, others)
        paused = await salesforce_draft(served, api)
        await activate(api, paused)
        await edit(api, "POST", f"{paused.path}:pause", {}, resource=paused.path)
        hubspot = await make_draft(served, api)
        await activate(api, hubspot)
        async with served.caller(served.operator_key) as operator:
            mine = [
                each["id"]
                for each in (await operator.get("/v1/workspaces")).json()["items"]
                if each["id"] != theirs["id"]
            ]
            for workspace in mine:
                await operator.patch(
                    f"/v1/workspaces/{workspace}",
                    json={"plan": "standard"},
                    headers={"if-match": "*"},
                )

        states = [
            ((await each.get(draft.path)).json()["status"])
            for each, draft in ((other, others), (api, paused), (api, hubspot))
        ]

    assert states == ["active", "paused", "active"]
    assert await told(served) == []


async def test_an_activation_under_way_does_not_pass_the_plan_by(
    served: Served, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proves SF1: the plan may go while the providers are asked."""
    draft = await salesforce_draft(served, api)
    find = configure._find_live_flaws

    async def find_and_lose(*arguments: Any) -> Any:
        found = await find(*arguments)
        await give_plan(served, "standard")
        return found

    monkeypatch.setattr(configure, "_find_live_flaws", find_and_lose)
    tag = (await api.get(draft.path)).headers["etag"]
    refused = await api.post(f"{draft.path}:activate", json={}, headers={"if-match": tag})

    assert (refused.status_code, codes(refused)) == (422, ["plan_needed"])
    assert (await api.get(draft.path)).json()["state"] == "draft"


class LosingSource(SalesforceSource):
    """A source whose workspace loses its plan while the twelfth page is read."""

    lose: Callable[[], Awaitable[None]]
    pages = 0

    async def read_page(self, *arguments: Any, **named: Any) -> Any:
        page = await super().read_page(*arguments, **named)
        self.pages += 1
        if self.pages == 12:  # The first ten are published by then, whatever the pace.
            await self.lose()
        return page


async def test_nothing_is_read_without_the_plan(
    served: Served, api: httpx.AsyncClient, pollers: Transactions, http: HttpClient
) -> None:
    """Proves SF1, X1: a run stops between two pages; with the plan back it reads the rest."""
    await served.control("salesforce", "PUT", "settings", {"page_rows_max": 200})
    wanted = {"count": 3_000, "invalid_share": 0}
    filled = await served.control("salesforce", "POST", "contacts:fill", wanted)
    draft = await salesforce_draft(served, api)
    await activate(api, draft)
    url = served.providers["salesforce"]
    source = LosingSource(http, OpenGate(), StaticToken(STANDING_TOKEN), url)
    source.lose = lambda: give_plan(served, "standard")
    journal = Journal()
    attendant = reading(pollers, source, journal)

    assert await claimed(attendant) == 1
    assert 0 < len(journal.ids(Operation.UPSERT)) < len(filled["ids"])
    await served.control("salesforce", "POST", "calls:reset")
    async with served.owner.begin() as session:
        await session.execute(text("update sync.schedules set next_due_at = now()"))
    assert await claimed(attendant) == 0
    calls = await served.control("salesforce", "GET", "calls")
    assert calls["total"] == 0

    await give_plan(served, "enterprise")
    assert await claimed(attendant) == 0
    await edit(api, "POST", f"{draft.path}:resume", {}, resource=draft.path)
    assert await claimed(attendant) == 1
    assert set(journal.ids(Operation.UPSERT)) == set(filled["ids"])
    assert [end.complete for end in journal.ends] == [True]


def reading(pollers: Transactions, source: Source, journal: Journal) -> Attendant:
    """Return a poller process of Salesforce's integrations."""

    async def open_source(_assignment: Assignment) -> Source:
        return source

    return Attendant(
        "salesforce",
        owner=uuid4(),
        sessions=pollers,
        open_source=open_source,
        publish=journal.publish,
        clock=SystemClock(),
        bounds=Bounds(claim_every_s=0.02),
    )


async def claimed(attendant: Attendant) -> int:
    """Let a poller look once and read what is due; return how many were."""
    count = await attendant.claim()
    await asyncio.gather(*attendant._running.values())
    attendant._raise_bugs()
    return count
