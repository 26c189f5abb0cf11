"""/v1/quota and its months: what is left, what it went to, what happens next."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from libs.common import ids
from libs.common.database import SessionMaker
from libs.common.ids import Prefix
from services.config_api import pages
from services.config_api.outlook import Outlook, outlook
from tests.services.config_api.served import Served
from tests.services.config_api.used import Customer, customer_of

Json = dict[str, Any]
RESUMES = "-01T00:00:00Z"


@pytest.fixture
async def customer(served: Served, sessions: SessionMaker) -> AsyncIterator[Customer]:
    """Return a workspace with a limit of 1,000 and two integrations."""
    async with customer_of(served, sessions, quota_limit=1000) as customer:
        yield customer


async def test_what_was_used_adds_up(customer: Customer) -> None:
    """Proves Q1: by integration, by day and in all."""
    one, two = customer.integrations
    await customer.use(one, "a", "b", "c")
    await customer.use(two, "d")
    await customer.backdate("c", days=1)

    quota = await customer.quota()

    today = quota["by_day"][-1]["day"]
    yesterday = (date.fromisoformat(today) - timedelta(days=1)).isoformat()
    assert (quota["used"], quota["held"], quota["left"]) == (4, 0, 996)
    assert quota["by_integration"] == [
        {"integration_id": one, "name": "one", "used": 3},
        {"integration_id": two, "name": "two", "used": 1},
    ]
    assert quota["by_day"] == [{"day": yesterday, "used": 1}, {"day": today, "used": 3}]


async def test_what_an_integration_used_stays_when_it_is_gone(customer: Customer) -> None:
    one = customer.integrations[0]
    await customer.use(one, "a")
    await customer.api.delete(f"/v1/integrations/{one}")

    (used,) = (await customer.quota())["by_integration"]

    assert (used["integration_id"], used["used"]) == (one, 1)


async def test_what_is_charged_to_another_month_is_not_this_months(
    customer: Customer, sessions: SessionMaker
) -> None:
    await customer.use(customer.integrations[0], "a")
    async with sessions.begin() as session:
        await session.execute(
            text(
                "insert into ledger.postings"
                " select workspace_id, (period + interval '1 month')::date, effect_key, hold_id,"
                " integration_id, 'b', run_id, operation, posted_at"
                " from ledger.postings"
            )
        )

    quota = await customer.quota()

    assert [each["used"] for each in quota["by_integration"]] == [1]
    assert [each["used"] for each in quota["by_day"]] == [1]
    assert quota["forecast"]["tasks_a_day"] == 2.0


async def test_another_workspaces_use_is_not_ours(
    customer: Customer, served: Served, sessions: SessionMaker
) -> None:
    """Proves X3."""
    async with customer_of(served, sessions) as other:
        await other.use(other.integrations[0], "a")

        quota = await customer.quota()

    assert (quota["used"], quota["by_integration"], quota["by_day"]) == (0, [], [])


async def test_at_the_recent_rate_it_lasts_or_it_does_not(customer: Customer) -> None:
    """Proves Q3: what will happen is said before it happens."""
    one = customer.integrations[0]
    before = await customer.quota()
    await customer.use(one, *(f"c{number}" for number in range(900)))

    after = await customer.quota()
    german = (await customer.api.get("/v1/quota", headers={"accept-language": "de"})).json()

    assert before["forecast"] == {"tasks_a_day": 0.0, "exhausted_at": None}
    assert before["next"]["code"] == "goes_on"
    assert after["forecast"]["tasks_a_day"] == 900.0
    ends = datetime.now(UTC) + timedelta(days=100 / 900)
    if ends.month == datetime.now(UTC).month:
        exhausted = datetime.fromisoformat(after["forecast"]["exhausted_at"])
        assert abs(exhausted - ends) < timedelta(minutes=5)
        assert after["next"]["code"] == german["next"]["code"] == "will_stop"
        assert "used up before the month ends" in after["next"]["words"]
        assert "vor dem Monatsende aufgebraucht" in german["next"]["words"]


async def test_a_quota_that_is_used_up_says_when_it_goes_on(
    customer: Customer, operator: httpx.AsyncClient
) -> None:
    """Proves Q3 and Q5; with a limit of 0 to come nothing goes on by itself."""
    await customer.use(customer.integrations[0], *(f"c{number}" for number in range(1000)))

    stopped = await customer.quota()
    await operator.put(f"/v1/workspaces/{customer.id}/quota", json={"limit": 0})
    for_good = await customer.quota()

    assert (stopped["state"], stopped["left"]) == ("stopped", 0)
    assert stopped["forecast"]["exhausted_at"] is None
    assert stopped["next"]["code"] == "resumes_next_month"
    assert stopped["resumes_at"].endswith(RESUMES)
    assert (for_good["state"], for_good["next"]["code"]) == ("stopped", "stays_stopped")
    assert for_good["resumes_at"] is None


def test_every_outlook_has_its_case() -> None:
    cases = [
        outlook(is_open=is_open, will_be_exhausted=will_be_exhausted, standing_limit=limit)
        for is_open, will_be_exhausted, limit in (
            (True, False, 1),
            (True, True, 1),
            (False, False, 1),
            (False, False, 0),
        )
    ]

    assert cases == list(Outlook)


async def test_months_are_listed_newest_first(customer: Customer, sessions: SessionMaker) -> None:
    """Two months of which one was used up, and the present one."""
    workspace = ids.parse(Prefix.WORKSPACE, customer.id)
    async with sessions.begin() as session:
        await session.execute(
            text(
                "insert into ledger.periods (workspace_id, period, quota_limit, revision, posted)"
                " values (:w, '2025-12-01', 100, 1, 100), (:w, '2025-11-01', 100, 1, 20)"
            ),
            {"w": workspace},
        )
        await session.execute(
            text(
                "insert into ledger.decisions"
                " (workspace_id, period, revision, threshold, used, decided_at)"
                " values (:w, '2025-12-01', 1, 80, 80, '2025-12-10T00:00Z'),"
                " (:w, '2025-12-01', 1, 100, 100, '2025-12-20T00:00Z'),"
                " (:w, '2025-12-01', 2, 80, 100, '2025-12-21T00:00Z')"
            ),
            {"w": workspace},
        )

    first = (await customer.api.get("/v1/quota/periods?page_size=2")).json()
    second = (
        await customer.api.get("/v1/quota/periods", params={"page_token": first["next_page_token"]})
    ).json()
    strange = await customer.api.get(
        "/v1/quota/periods", params={"page_token": pages.encode("no date")}
    )

    months = first["items"] + second["items"]
    assert [month["period"] for month in months[1:]] == ["2025-12", "2025-11"]
    assert months[1] == {
        "period": "2025-12",
        "limit": 100,
        "used": 100,
        "held": 0,
        "used_percent": 100.0,
        "reached_80_at": "2025-12-10T00:00:00Z",
        "reached_100_at": "2025-12-20T00:00:00Z",
    }
    assert (months[2]["used_percent"], months[2]["reached_80_at"]) == (20.0, None)
    assert (strange.status_code, strange.json()["errors"][0]["code"]) == (422, "invalid_page_token")
