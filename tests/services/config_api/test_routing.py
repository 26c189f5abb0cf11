"""Who gets in: keys, scopes, limits and other workspaces' ids."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute, APIRouter
from sqlalchemy import text

from libs.common import database, ids
from libs.common.database import SessionMaker
from libs.common.ids import Prefix
from services.config_api.app import ROUTERS, create_app
from services.config_api.keys import FAILURES_MAX
from services.config_api.routing import TransactionalRoute, scope_of
from services.config_api.scopes import OPERATOR_SCOPES, WORKSPACE_SCOPES, Scope
from tests.services.config_api.clocks import MovedClock
from tests.services.config_api.served import Served, config_api, make_draft

# Who may be let in without a key, and why.
PUBLIC = {
    "/v1/oauth/callback",  # a browser coming back; the state proves whose login it is
    "/v1/problems",  # documentation
    "/v1/problems/{code}",
    # a provider's event: a token of its own proves who sends
    "/v1/provider-events/{provider}/{connection_id}",
}

# Where the operator's routes begin; all others are a workspace's.
OPERATORS = (
    "/v1/workspaces",
    "/v1/quota-requests",
    "/v1/failed-notices",
    "/v1/reconciliations",
)


def all_routes() -> Iterator[APIRoute]:
    for router in ROUTERS:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            yield route


def test_every_route_demands_a_scope() -> None:
    """Proves X3: access is denied by default (OWASP API5)."""
    open_routes = {route.path for route in all_routes() if not route.dependencies}

    assert open_routes == PUBLIC
    for route in all_routes():
        if route.path not in PUBLIC:
            assert isinstance(route, TransactionalRoute)
            assert scope_of(route) in Scope


def test_only_the_operators_routes_take_the_operators_scopes() -> None:
    for route in all_routes():
        if route.path not in PUBLIC:
            is_operators = route.path.startswith(OPERATORS)
            assert scope_of(route).is_operators is is_operators, route.path


def test_a_route_without_a_scope_does_not_even_start() -> None:
    router = APIRouter(route_class=TransactionalRoute)

    with pytest.raises(TypeError, match="demands 0 scopes"):

        @router.get("/v1/open")
        async def anybody() -> None: ...


def calls_of(path: str, members: dict[str, Any]) -> str:
    """Return a route's path with ids filled in."""
    return re.sub(r"\{(\w+)\}", lambda match: members[match[1]], path)


def some_ids() -> dict[str, str]:
    return {
        "workspace_id": ids.show(Prefix.WORKSPACE, ids.new()),
        "key_id": ids.show(Prefix.API_KEY, ids.new()),
        "connection_id": ids.show(Prefix.CONNECTION, ids.new()),
        "integration_id": ids.show(Prefix.INTEGRATION, ids.new()),
        "run_id": ids.show(Prefix.RUN, ids.new()),
        "request_id": ids.show(Prefix.QUOTA_REQUEST, ids.new()),
        "user_id": ids.show(Prefix.USER, ids.new()),
        "import_id": ids.show(Prefix.IMPORT, ids.new()),
    }


BODIES: dict[str, Any] = {
    "/v1/workspaces": {"name": "n"},
    "/v1/workspaces/{workspace_id}/quota": {"limit": 1},
    "/v1/connections": {"provider": "hubspot", "name": "n"},
    "/v1/connections/{connection_id}": {"name": "n"},
    "/v1/connections/{connection_id}/lists": {"name": "n"},
    "/v1/connections/{connection_id}/fields": {"name": "n", "type": "text"},
    "/v1/users": {"email": "a@example.com"},
    "/v1/workspaces/{workspace_id}/users": {"email": "a@example.com"},
    "/v1/quota/requests": {"limit": 200_000, "reason": "n"},
    "/v1/quota-requests/{request_id}:decline": {"words": "n"},
    "/v1/api-keys": {"name": "n"},
    "/v1/integrations": {"name": "n"},
    "/v1/integrations/{integration_id}": {"name": "n"},
    "/v1/integrations/{integration_id}/mapping": {"fields": []},
    "/v1/integrations/{integration_id}/mapping:check": {"fields": []},
}


# What is asked for in the address, and where the body is a file.
QUERIES = {"/v1/imports/{import_id}/suggested-mapping": "?connection_id={connection_id}"}
UPLOADS = {"/v1/imports": "?connection_id={connection_id}"}


async def every_call(
    client: httpx.AsyncClient, routes: list[APIRoute], members: dict[str, str]
) -> dict[str, int]:
    answers = {}
    for route in routes:
        for method in route.methods or ():
            if method == "POST" and route.path in UPLOADS:
                address = calls_of(route.path + UPLOADS[route.path], members)
                answer = await client.post(
                    address, content=b"", headers={"content-type": "text/csv"}
                )
            else:
                body = None if method in ("GET", "DELETE") else BODIES.get(route.path, {})
                address = calls_of(route.path + QUERIES.get(route.path, ""), members)
                answer = await client.request(method, address, json=body, headers={"if-match": "*"})
            answers[f"{method} {route.path}"] = answer.status_code
    return answers


async def test_without_a_key_every_route_answers_401(served: Served) -> None:
    """Proves X3 (OWASP API2)."""
    guarded = [route for route in all_routes() if route.path not in PUBLIC][: FAILURES_MAX * 2]

    async with served.caller() as anybody:
        answers = await every_call(anybody, guarded, some_ids())

    assert set(answers.values()) == {401}


async def test_a_key_without_the_scope_gets_nowhere(served: Served, api: httpx.AsyncClient) -> None:
    """Proves X3 (OWASP API5)."""
    made = await api.post("/v1/api-keys", json={"name": "n", "scopes": ["quota:read"]})
    guarded = [
        route
        for route in all_routes()
        if route.path not in PUBLIC and scope_of(route) is not Scope.QUOTA_READ
    ]

    async with served.caller(made.json()["secret"]) as reader:
        answers = await every_call(reader, guarded, some_ids())
        allowed = await reader.get("/v1/quota")
        refused = await reader.get("/v1/integrations")

    assert set(answers.values()) == {403}
    assert allowed.status_code == 200
    assert refused.json()["required_scope"] == "integrations:read"


async def test_the_operator_is_no_workspace_and_a_workspace_no_operator(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves X3."""
    async with served.caller(served.operator_key) as operator:
        as_operator = await operator.get("/v1/integrations")
    as_workspace = await api.get("/v1/workspaces")

    assert as_operator.status_code == 403
    assert as_workspace.status_code == 403


async def test_another_workspaces_ids_are_not_found(
    served: Served, api: httpx.AsyncClient, sessions: SessionMaker
) -> None:
    """Proves X3: every route with an id, asked for another workspace's (OWASP API1)."""
    theirs = await make_draft(served, api)
    asked = await api.post("/v1/quota/requests", json={"limit": 200_000, "reason": "n"})
    reader = await api.post("/v1/users", json={"email": "a@example.com"})
    files = await api.post("/v1/connections", json={"provider": "csv", "name": "n"})
    sent = await api.post(
        f"/v1/imports?connection_id={files.json()['id']}",
        content=b"Email\na@example.com\n",
        headers={"content-type": "text/csv"},
    )
    run, key = await _run_and_key_of(sessions, theirs.id)
    members = {
        **some_ids(),
        "connection_id": theirs.source,
        "integration_id": theirs.id,
        "run_id": run,
        "key_id": key,
        "request_id": asked.json()["id"],
        "user_id": reader.json()["id"],
        "import_id": sent.json()["id"],
    }
    with_id = [
        route
        for route in all_routes()
        if "_id}" in route.path and not route.path.startswith(OPERATORS)
        if route.path not in PUBLIC
    ]
    other = await served.make_workspace(name="Other")

    async with served.caller(other["api_key"]["secret"]) as stranger:
        answers = await every_call(stranger, with_id, members)
        lists = [
            (await stranger.get(path)).json()["items"]
            for path in ("/v1/integrations", "/v1/connections")
        ]

    assert set(answers.values()) == {404}, answers
    assert lists == [[], []]
    assert (await api.get(theirs.path)).json()["state"] == "draft"


async def _run_and_key_of(sessions: SessionMaker, integration: str) -> tuple[str, str]:
    integration_id = ids.parse(Prefix.INTEGRATION, integration)
    run = ids.run_id(integration_id, 1)
    async with sessions.begin() as session:
        await session.execute(
            text(
                "insert into sync.runs (run_id, integration_id, workspace_id, run_no, mode,"
                " mapping_version, fencing) select :run, integration_id, workspace_id, 1, 'full',"
                " 1, 1 from config.integrations where integration_id = :integration"
            ),
            {"run": run, "integration": integration_id},
        )
        key = await session.scalar(
            text(
                "select k.key_id from config.api_keys k join config.integrations i using"
                " (workspace_id) where i.integration_id = :integration"
            ),
            {"integration": integration_id},
        )
    return ids.show(Prefix.RUN, run), ids.show(Prefix.API_KEY, key)


async def test_a_transaction_without_a_workspace_sees_nothing(
    served: Served, api: httpx.AsyncClient, role_url: Callable[[str], str]
) -> None:
    """Proves X3: even a statement that forgot whose it is finds no rows."""
    await api.post("/v1/integrations", json={"name": "one"})
    engine = database.create_engine(role_url("api"), pool_size_max=1, application_name="t")
    async with database.session_maker(engine).begin() as session:
        count = await session.scalar(text("select count(*) from config.integrations"))
    await engine.dispose()

    assert count == 0


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer nonsense", "Basic YTpi", "Bearer csk_x_y"]
)
async def test_what_is_no_key_is_refused(served: Served, authorization: str) -> None:
    async with served.caller() as anybody:
        answer = await anybody.get("/v1/quota", headers={"authorization": authorization})

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["code"] == "unauthenticated"


async def test_a_key_with_a_wrong_secret_is_refused_and_too_many_are_not_looked_at(
    served: Served, api: httpx.AsyncClient
) -> None:
    """Proves X3: brute force is throttled (OWASP API2)."""
    right = api.headers["authorization"]
    wrong = right[:-1] + ("a" if right[-1] != "a" else "b")

    async with served.caller() as attacker:
        answers = [
            (await attacker.get("/v1/quota", headers={"authorization": wrong})).status_code
            for _ in range(FAILURES_MAX + 1)
        ]

    assert answers == [401] * FAILURES_MAX + [429]


async def test_an_expired_key_is_refused(
    role_url: Callable[[str], str], sessions: SessionMaker
) -> None:
    clock = MovedClock()
    async with config_api(role_url("api"), sessions, clock=clock) as served:
        workspace = await served.make_workspace()
        async with served.caller(workspace["api_key"]["secret"]) as api:
            made = await api.post(
                "/v1/api-keys", json={"name": "short", "expires_at": "2026-11-24T12:00:10Z"}
            )
        async with served.caller(made.json()["secret"]) as short:
            before = await short.get("/v1/quota")
            clock.move(10)
            after = await short.get("/v1/quota")

    assert (before.status_code, after.status_code) == (200, 401)


async def test_a_workspace_that_calls_too_often_waits(
    role_url: Callable[[str], str], sessions: SessionMaker
) -> None:
    clock = MovedClock()
    async with config_api(role_url("api"), sessions, clock=clock, calls=2) as served:
        workspace = await served.make_workspace()
        async with served.caller(workspace["api_key"]["secret"]) as api:
            answers = [await api.get("/v1/quota") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["ratelimit"] == '"workspace";r=1;t=30'
    assert answers[2].headers["ratelimit-policy"] == '"workspace";q=2;w=60'
    assert answers[2].headers["retry-after"] == "30"


async def test_a_database_that_is_away_is_said_to_be_away(served: Served) -> None:
    nowhere = database.create_engine(
        "postgresql://contactsync_api@127.0.0.1:1/x", pool_size_max=1, application_name="t"
    )
    parts = _with_sessions(served, database.session_maker(nowhere))
    transport = httpx.ASGITransport(create_app(parts))
    key = {"authorization": f"Bearer {served.operator_key}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://api.example") as client:
        client_state = await client.get("/v1/workspaces", headers=key)
    await nowhere.dispose()

    assert client_state.status_code == 503
    assert client_state.json()["code"] == "database_unavailable"
    assert client_state.headers["retry-after"] == "5"


def _with_sessions(served: Served, sessions: SessionMaker) -> Any:
    return replace(served.parts, sessions=sessions)


def test_scopes_of_both_kinds_make_up_all_scopes() -> None:
    assert {*WORKSPACE_SCOPES, *OPERATOR_SCOPES} == set(Scope)
