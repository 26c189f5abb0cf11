"""/v1/workspaces and /v1/quota: the operator's customers and their limits."""

from datetime import UTC, date, datetime

import httpx
import pytest
from sqlalchemy import text

from libs.common import ids
from libs.common.database import SessionMaker
from libs.common.ids import Prefix
from services.config_api.routes.quota import next_month
from tests.services.config_api.served import Served, pointers


async def test_a_customer_has_recipients_a_limit_and_a_first_key(
    served: Served, operator: httpx.AsyncClient
) -> None:
    """Proves Q1: the limit is the workspace's own."""
    made = await operator.post(
        "/v1/workspaces",
        json={
            "name": "Example GmbH",
            "plan": "enterprise",
            "language": "de",
            "recipients": [{"email": "Ada@EXAMPLE.com", "language": "en"}],
            "quota_limit": 500,
        },
    )
    body = made.json()
    shown = (await operator.get(made.headers["location"])).json()
    async with served.caller(body["api_key"]["secret"]) as api:
        quota = (await api.get("/v1/quota")).json()

    assert made.status_code == 201
    assert body.pop("api_key")["id"].startswith("key_")
    assert shown == body
    assert shown["recipients"] == [{"email": "Ada@example.com", "language": "en"}]
    assert (shown["plan"], shown["language"]) == ("enterprise", "de")
    assert quota["limit"] == 500


async def test_a_recipient_has_an_address(operator: httpx.AsyncClient) -> None:
    answer = await operator.post(
        "/v1/workspaces", json={"name": "n", "recipients": [{"email": "nobody"}]}
    )

    assert (answer.status_code, pointers(answer)) == (422, ["/recipients/0/email"])
    assert (await operator.get("/v1/workspaces")).json()["items"] == []


async def test_nobody_is_a_recipient_twice(operator: httpx.AsyncClient) -> None:
    """Proves X1: the second wish would have been dropped without a word."""
    recipients = [{"email": "a@example.com"}, {"email": "A@example.com", "language": "de"}]

    answer = await operator.post("/v1/workspaces", json={"name": "n", "recipients": recipients})

    assert (answer.status_code, pointers(answer)) == (422, ["/recipients/1/email"])


async def test_customers_are_listed(operator: httpx.AsyncClient) -> None:
    for name in ("a", "b", "c"):
        await operator.post("/v1/workspaces", json={"name": name})

    first = (await operator.get("/v1/workspaces?page_size=2")).json()
    second = (
        await operator.get("/v1/workspaces", params={"page_token": first["next_page_token"]})
    ).json()

    assert [each["name"] for each in first["items"] + second["items"]] == ["a", "b", "c"]


async def test_an_unknown_customer_is_not_found(operator: httpx.AsyncClient) -> None:
    path = f"/v1/workspaces/{ids.show(Prefix.WORKSPACE, ids.new())}"

    assert (await operator.get(path)).status_code == 404
    assert (await operator.put(f"{path}/quota", json={"limit": 1})).status_code == 404
    assert (await operator.get("/v1/workspaces/ws_1")).status_code == 404


async def test_without_a_limit_of_its_own_a_workspace_has_100_000(
    operator: httpx.AsyncClient,
) -> None:
    """Proves Q1."""
    made = (await operator.post("/v1/workspaces", json={"name": "n"})).json()

    assert made["quota"]["limit"] == 100_000


async def test_a_raised_limit_is_in_force_at_once(
    served: Served, operator: httpx.AsyncClient, sessions: SessionMaker
) -> None:
    """Proves Q4 and Q5."""
    made = (await operator.post("/v1/workspaces", json={"name": "n", "quota_limit": 10})).json()
    workspace = ids.parse(Prefix.WORKSPACE, made["id"])
    async with sessions.begin() as session:
        await session.execute(
            text("select ledger.hold(:workspace, :hold, 10)"),
            {"workspace": workspace, "hold": ids.new()},
        )
    async with served.caller(made["api_key"]["secret"]) as api:
        stopped = (await api.get("/v1/quota")).json()
        await operator.put(f"/v1/workspaces/{made['id']}/quota", json={"limit": 15})
        going = (await api.get("/v1/quota")).json()

    assert (stopped["state"], stopped["left"], stopped["held"]) == ("stopped", 0, 10)
    assert stopped["resumes_at"].endswith("-01T00:00:00Z")
    assert (going["state"], going["left"], going["resumes_at"]) == ("open", 5, None)


async def test_a_limit_of_nothing_is_used_up(operator: httpx.AsyncClient) -> None:
    made = (await operator.post("/v1/workspaces", json={"name": "n", "quota_limit": 0})).json()

    assert (made["quota"]["state"], made["quota"]["used_percent"]) == ("stopped", 100.0)


@pytest.mark.parametrize(
    ("period", "end"),
    [
        (date(2026, 11, 1), datetime(2026, 12, 1, tzinfo=UTC)),
        (date(2026, 12, 1), datetime(2027, 1, 1, tzinfo=UTC)),
        (date(2027, 2, 1), datetime(2027, 3, 1, tzinfo=UTC)),
    ],
)
def test_a_period_ends_with_its_month(period: date, end: datetime) -> None:
    assert next_month(period) == end


@pytest.mark.parametrize("limit", [-1, 10**12 + 1, "many", "7", True, 1.5])
async def test_a_limit_is_a_number_of_tasks(operator: httpx.AsyncClient, limit: object) -> None:
    made = (await operator.post("/v1/workspaces", json={"name": "n"})).json()

    answer = await operator.put(f"/v1/workspaces/{made['id']}/quota", json={"limit": limit})

    assert (answer.status_code, pointers(answer)) == (422, ["/limit"])


async def test_the_operator_changes_a_customers_plan_name_and_language(
    served: Served, operator: httpx.AsyncClient
) -> None:
    """Proves X1: with If-Match, and it stands in the audit log who did it."""
    made = (await operator.post("/v1/workspaces", json={"name": "n"})).json()
    path = f"/v1/workspaces/{made['id']}"
    tag = (await operator.get(path)).headers["etag"]

    changed = await operator.patch(path, json={"plan": "enterprise"}, headers={"if-match": tag})
    unseen = await operator.patch(path, json={"name": "m"}, headers={"if-match": tag})
    blind = await operator.patch(path, json={"name": "m"})
    named = await operator.patch(
        path, json={"name": "m", "language": "de"}, headers={"if-match": changed.headers["etag"]}
    )
    async with served.caller(made["api_key"]["secret"]) as api:
        events = (await api.get("/v1/audit-events", params={"subject": made["id"]})).json()["items"]

    assert (changed.json()["plan"], changed.json()["name"]) == ("enterprise", "n")
    assert [unseen.status_code, blind.status_code] == [412, 428]
    shown = named.json()
    assert (shown["plan"], shown["name"], shown["language"]) == ("enterprise", "m", "de")
    assert [each["details"] for each in events if each["action"] == "workspace.changed"] == [
        {"name": "m", "language": "de"},
        {"plan": "enterprise"},
    ]


async def test_a_customer_is_not_changed_into_nonsense(operator: httpx.AsyncClient) -> None:
    """Proves X1."""
    made = (await operator.post("/v1/workspaces", json={"name": "n"})).json()
    path = f"/v1/workspaces/{made['id']}"
    wrong: tuple[tuple[str, object], ...] = (
        ("plan", "free"),
        ("plan", None),
        ("name", " "),
        ("quota_limit", 5),
    )

    for name, value in wrong:
        answer = await operator.patch(path, json={name: value}, headers={"if-match": "*"})

        assert (answer.status_code, pointers(answer)) == (422, [f"/{name}"])
    assert (await operator.get(path)).json()["name"] == "n"
