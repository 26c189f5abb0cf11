"""The whole wizard through the REST API, as a front end walks it, with every wrong turn.

The API runs as its own role on a real database; both providers are the sandbox over HTTP. What the
poller and activity would write about a run is written here, so that this walk needs no broker:
`tests/integration` has the one with all services.
"""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from libs.common import ids
from libs.common.database import SessionMaker
from libs.common.ids import Prefix
from tests.services.config_api.served import (
    BREVO_KEY,
    Served,
    config_api,
    connect_hubspot,
    edit,
    grant,
)

Json = dict[str, Any]


@pytest.fixture
async def served(role_url: Callable[[str], str], sessions: SessionMaker) -> AsyncIterator[Served]:
    """Return the API on this test's database."""
    async with config_api(role_url("api"), sessions) as running:
        yield running


def problem(answer: httpx.Response, status: int, code: str, *pointers: str) -> Json:
    """Check that a wrong turn was refused with a problem document that says where."""
    body: Json = answer.json()
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    assert (answer.status_code, body["status"], body["code"]) == (status, status, code), body
    assert {"type", "title", "detail", "trace_id"} <= set(body)
    if pointers:
        assert [error["pointer"] for error in body["errors"]] == list(pointers)
    return body


async def test_the_wizard_from_the_first_step_to_the_quota(
    served: Served, sessions: SessionMaker
) -> None:
    """Proves W1 to W8, S6, S7, Q1, AC9, X1 and X3."""
    filled = await served.control(
        "hubspot", "POST", "contacts:fill", {"count": 50, "seed": 1, "list": "Newsletter"}
    )
    workspace = await become_a_customer(served)
    async with served.caller(workspace["api_key"]["secret"]) as api:
        path = await begin_a_draft(api)
        source = await connect_the_source(api)
        destination = await connect_the_destination(api)
        await choose_the_source(api, path, source, str(filled["list_id"]))
        await choose_the_destination(api, path, destination)
        await map_the_fields(api, path, source, destination)
        await activate(api, path)
        await watch_the_run(api, path, sessions)
        await ask_about_contacts(api, path, sessions)
        await look_at_the_quota(served, api, workspace["id"])
        await work_from_the_list(api, path)


async def become_a_customer(served: Served) -> Json:
    """Let the operator make a workspace; nobody else can."""
    async with served.caller() as nobody:
        problem(await nobody.post("/v1/workspaces", json={"name": "n"}), 401, "unauthenticated")
    workspace = await served.make_workspace(
        recipients=[{"email": "crm@example.com", "language": "de"}], quota_limit=1000
    )
    async with served.caller(workspace["api_key"]["secret"]) as customer:
        problem(await customer.get("/v1/workspaces"), 403, "insufficient_scope")
    return workspace


async def begin_a_draft(api: httpx.AsyncClient) -> str:
    """W1: pick a provider from the catalogue, give the integration a name."""
    catalogue = {each["id"]: each for each in (await api.get("/v1/providers")).json()["items"]}
    assert catalogue["hubspot"]["is_source"]
    assert catalogue["brevo"]["is_destination"]
    problem(await api.post("/v1/integrations", json={}), 422, "invalid", "/name")
    key = {"idempotency-key": "walk-1"}
    made = await api.post("/v1/integrations", json={"name": "HubSpot → Brevo"}, headers=key)
    again = await api.post("/v1/integrations", json={"name": "HubSpot → Brevo"}, headers=key)
    assert made.status_code == 201
    assert again.json() == made.json()
    path = f"/v1/integrations/{made.json()['id']}"
    checklist = (await api.get(f"{path}/checklist")).json()
    assert not checklist["ready"]
    assert [step["step"] for step in checklist["steps"] if step["state"] == "missing"] == [
        "source",
        "opt_in",
        "destination",
        "mapping",
    ]
    return path


async def connect_the_source(api: httpx.AsyncClient) -> str:
    """W2: by the provider's own login; one that is refused connects nothing."""
    made = await api.post("/v1/connections", json={"provider": "hubspot", "name": "Ours"})
    connection = made.json()["id"]
    problem(await api.get(f"/v1/connections/{connection}/lists"), 424, "connection_pending")
    asked = (await api.post(f"/v1/connections/{connection}:authorize")).json()
    refused = await api.get(await grant(asked["authorize_url"], "deny"))
    problem(refused, 400, "login_failed")
    asked = (await api.post(f"/v1/connections/{connection}:authorize")).json()
    callback = await grant(asked["authorize_url"])
    assert (await api.get(callback)).status_code == 200
    problem(await api.get(callback), 400, "login_failed")
    shown = (await api.get(f"/v1/connections/{connection}")).json()
    assert shown["state"] == "connected"
    return str(connection)


async def connect_the_destination(api: httpx.AsyncClient) -> str:
    """W2: by an API key, tried at once."""
    wrong = {"provider": "brevo", "name": "Ours", "api_key": "xkeysib-wrong"}
    problem(await api.post("/v1/connections", json=wrong), 422, "credential_refused", "/api_key")
    made = await api.post("/v1/connections", json={**wrong, "api_key": BREVO_KEY})
    assert made.json()["state"] == "connected"
    return str(made.json()["id"])


async def choose_the_source(api: httpx.AsyncClient, path: str, source: str, list_id: str) -> None:
    """W3 and W4: the list to sync, and the opt-in."""
    lists = (await api.get(f"/v1/connections/{source}/lists?object=contacts")).json()["items"]
    assert (list_id, "Newsletter") in {(each["id"], each["name"]) for each in lists}
    wanted = {"source": {"connection_id": source, "object": "contacts", "list_id": list_id}}
    problem(await api.patch(path, json=wanted), 428, "precondition_required")
    problem(await api.patch(path, json=wanted, headers={"if-match": '"9"'}), 412, "stale")
    lost = {"source": {**wanted["source"], "list_id": "404404"}}
    answer = await api.patch(path, json=lost, headers={"if-match": '"1"'})
    problem(answer, 422, "invalid", "/source/list_id")
    changed = await edit(api, "PATCH", path, wanted)
    assert changed["source"]["list_name"] == "Newsletter"
    ticked = await edit(api, "PATCH", path, {"opt_in": {"accepted": True}})
    assert ticked["opt_in"]["by"]
    assert ticked["opt_in"]["at"]


async def choose_the_destination(api: httpx.AsyncClient, path: str, destination: str) -> None:
    """W6: a list that is created in place."""
    made = await api.post(f"/v1/connections/{destination}/lists", json={"name": "From HubSpot"})
    assert made.status_code == 201
    wanted = {"connection_id": destination, "list_id": made.json()["id"]}
    changed = await edit(api, "PATCH", path, {"destination": wanted, "default_country": "DE"})
    assert changed["destination"]["list_name"] == "From HubSpot"
    problem(await api.delete(f"/v1/connections/{destination}"), 409, "connection_in_use")


async def map_the_fields(api: httpx.AsyncClient, path: str, source: str, destination: str) -> None:
    """W5, S6, S7: only what can be mapped is offered; e-mail or SMS must be mapped."""
    fields = f"/v1/connections/{source}/fields?object=contacts&page_size=200"
    offered = {each["name"] for each in (await api.get(fields)).json()["items"]}
    whole = (await api.get(f"{fields}&all=true")).json()["items"]
    hidden = next(each["name"] for each in whole if each["not_mappable_reason"] == "read_only")
    assert {"email", "firstname", "phone"} <= offered
    assert hidden not in offered
    made = await api.post(
        f"/v1/connections/{destination}/fields", json={"name": "COMPANY", "type": "text"}
    )
    assert made.status_code == 201
    tag = {"if-match": (await api.get(path)).headers["etag"]}
    nameless = {"fields": [{"source": hidden, "destination": "COMPANY"}]}
    answer = await api.put(f"{path}/mapping", json=nameless, headers=tag)
    problem(answer, 422, "invalid", "/fields/0/source", "/fields")
    fields_wanted = [
        {"source": "email", "destination": "EMAIL"},
        {"source": "firstname", "destination": "FIRSTNAME"},
        {"source": "phone", "destination": "SMS"},
        {"source": "company", "destination": "COMPANY"},
    ]
    saved = await api.put(f"{path}/mapping", json={"fields": fields_wanted}, headers=tag)
    assert saved.json()["version"] == 1
    assert saved.json()["cost"] == {"full_run": True, "tasks_at_most": 50}


async def activate(api: httpx.AsyncClient, path: str) -> None:
    """W7: all steps are done, the integration becomes active, and runs can be asked for."""
    problem(await api.post(f"{path}/runs"), 409, "state_conflict")
    checklist = (await api.get(f"{path}/checklist")).json()
    assert checklist["ready"], checklist
    problem(await api.post(f"{path}:activate"), 428, "precondition_required")
    active = await edit(api, "POST", f"{path}:activate", {}, resource=path)
    assert (active["state"], active["status"]) == ("active", "active")
    asked = await api.post(f"{path}/runs")
    assert asked.status_code == 202
    assert asked.headers["location"] == f"{path}/runs"


async def watch_the_run(api: httpx.AsyncClient, path: str, sessions: SessionMaker) -> None:
    """W8: from reading over settling to complete, as the services write it."""
    integration = ids.parse(Prefix.INTEGRATION, path.rpartition("/")[2])
    run = ids.run_id(integration, 1)
    seen = []
    for statement in (READING, READ, SETTLED):
        async with sessions.begin() as session:
            await session.execute(
                text(statement),
                {
                    "run": run,
                    "integration": integration,
                    "later": json.dumps({}),
                    "rejected": json.dumps({"invalid_email": 2}),
                },
            )
        (shown,) = (await api.get(f"{path}/runs")).json()["items"]
        seen.append((shown["state"], shown["progress"]))
    assert seen == [("reading", 0.0), ("settling", 0.0), ("complete", 1.0)]
    one = (await api.get(f"/v1/runs/{ids.show(Prefix.RUN, run)}")).json()
    assert one["counts"]["created"] == 48
    assert one["tasks"] == 48
    assert one["rejected_by_reason"] == {"invalid_email": 2}
    assert one["proof"]["verdict"] == "complete"
    answer = await api.post(f"/v1/runs/{one['id']}:confirm-deletions")
    problem(answer, 409, "state_conflict")


READING = (
    "insert into sync.runs (run_id, integration_id, workspace_id, run_no, mode, mapping_version,"
    " fencing, expected, total_before) select cast(:run as uuid), integration_id, workspace_id, 1,"
    " 'full', 1, 1, 50, 50 from config.integrations where integration_id = :integration"
)
READ = (
    "update sync.runs set state = 'read', parts = 1, read = 50, total_after = 50,"
    " is_complete = true, read_at = now() where run_id = cast(:run as uuid)"
)
SETTLED = (
    "insert into activity.runs (run_id, integration_id, workspace_id, run_no, state, parts_settled,"
    " created, rejected, settled_later, rejected_by_reason, verdict, ended_at)"
    " select cast(:run as uuid), integration_id, workspace_id, 1, 'complete', 1, 48, 2,"
    " cast(:later as jsonb), cast(:rejected as jsonb), 'complete', now()"
    " from config.integrations where integration_id = :integration"
)


async def ask_about_contacts(api: httpx.AsyncClient, path: str, sessions: SessionMaker) -> None:
    """AC9: why a contact is not there, in the reader's language, and what to do."""
    integration = ids.parse(Prefix.INTEGRATION, path.rpartition("/")[2])
    async with sessions.begin() as session:
        await session.execute(
            text(
                "insert into activity.contacts (integration_id, source_id, workspace_id, status,"
                " reason, run_no) select integration_id, v.id, workspace_id, v.status, v.reason, 1"
                " from config.integrations, (values ('101', 'created', null),"
                " ('102', 'rejected', 'invalid_email'), ('103', 'rejected', 'invalid_email'))"
                " as v (id, status, reason) where integration_id = :integration"
            ),
            {"integration": integration},
        )
    rejected = f"{path}/contacts?status=rejected&page_size=1"
    first = await api.get(rejected)
    second = await api.get(first.headers["link"].partition(">")[0].lstrip("<"))
    german = await api.get(rejected, headers={"accept-language": "de"})
    (contact,) = first.json()["items"]
    assert (contact["source_id"], contact["reason"]) == ("102", "invalid_email")
    assert contact["words"] != german.json()["items"][0]["words"]
    assert contact["remedy"]
    assert [each["source_id"] for each in second.json()["items"]] == ["103"]
    assert second.json()["next_page_token"] is None
    problem(await api.get(f"{path}/contacts?status=lost"), 422, "invalid")


async def look_at_the_quota(served: Served, api: httpx.AsyncClient, workspace: str) -> None:
    """Q1, Q3 and Q5: the limit, stopped when it is used up, going on when it is raised."""
    assert (await api.get("/v1/quota")).json()["left"] == 1000
    async with served.caller(served.operator_key) as operator:
        quota = f"/v1/workspaces/{workspace}/quota"
        problem(await api.put(quota, json={"limit": 10**6}), 403, "insufficient_scope")
        stopped = (await operator.put(quota, json={"limit": 0})).json()
        shown = (await api.get("/v1/integrations")).json()["items"][0]["status"]
        going = (await operator.put(quota, json={"limit": 2000})).json()
    assert (stopped["state"], shown) == ("stopped", "stopped_quota")
    assert (going["state"], going["left"]) == ("open", 2000)


async def work_from_the_list(api: httpx.AsyncClient, path: str) -> None:
    """W8: the list shows status, last run and counts; pause, resume, edit, delete work from it."""
    (listed,) = (await api.get("/v1/integrations")).json()["items"]
    assert listed["status"] == "active"
    assert listed["last_run"]["counts"]["created"] == 48
    assert (await api.post(f"{path}:pause")).json()["state"] == "paused"
    problem(await api.post(f"{path}:pause"), 409, "state_conflict")
    resumed = await api.post(f"{path}:resume")
    assert resumed.is_success, resumed.text
    assert (await edit(api, "PATCH", path, {"interval_minutes": 5}))["interval_minutes"] == 5
    assert (await api.delete(path)).status_code == 204
    assert (await api.get("/v1/integrations")).json()["items"] == []
    actions = [event["action"] for event in (await api.get("/v1/audit-events")).json()["items"]]
    assert actions[0] == "integration.deleted"


async def test_an_account_that_is_connected_already_serves_a_second_integration(
    served: Served,
) -> None:
    """Proves W2: connect by an existing connection."""
    workspace = await served.make_workspace()
    async with served.caller(workspace["api_key"]["secret"]) as api:
        connection = await connect_hubspot(api)
        filled = await served.control(
            "hubspot", "POST", "contacts:fill", {"count": 1, "seed": 1, "list": "Newsletter"}
        )
        chosen = {
            "source": {
                "connection_id": connection,
                "object": "contacts",
                "list_id": str(filled["list_id"]),
            }
        }
        states = []
        for name in ("one", "two"):
            made = (await api.post("/v1/integrations", json={"name": name})).json()
            await edit(api, "PATCH", f"/v1/integrations/{made['id']}", chosen)
            checklist = (await api.get(f"/v1/integrations/{made['id']}/checklist")).json()
            states.append(checklist["steps"][1])

    assert [step["state"] for step in states] == ["done", "done"]
