"""/v1/quota/ledger: what the quota was used for, to the last task, as pages and as a file."""

import csv
import io
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from libs.common import ids
from libs.common.database import SessionMaker
from libs.common.ids import Prefix
from services.config_api import ledger_csv, pages
from tests.services.config_api.served import Served, codes
from tests.services.config_api.used import Customer, customer_of

Json = dict[str, Any]
LEDGER = "/v1/quota/ledger"
FILE = "/v1/quota/ledger.csv"


@pytest.fixture
async def customer(served: Served, sessions: SessionMaker) -> AsyncIterator[Customer]:
    """Return a workspace with two integrations, each of which has had a run."""
    async with customer_of(served, sessions) as customer:
        async with sessions.begin() as session:
            for integration in customer.integrations:
                integration_id = ids.parse(Prefix.INTEGRATION, integration)
                await session.execute(
                    text(
                        "insert into sync.runs (run_id, integration_id, workspace_id, run_no, mode,"
                        " mapping_version, fencing) values (:run, :integration, :workspace, 1,"
                        " 'full', 1, 1)"
                    ),
                    {
                        "run": ids.run_id(integration_id, 1),
                        "integration": integration_id,
                        "workspace": customer.workspace,
                    },
                )
        yield customer


async def contacts(customer: Customer, **wanted: str) -> list[str]:
    answer = await customer.api.get(LEDGER, params=wanted)
    assert answer.status_code == 200, answer.text
    return [line["contact"] for line in answer.json()["items"]]


def run_of(integration: str) -> str:
    return ids.show(Prefix.RUN, ids.run_id(ids.parse(Prefix.INTEGRATION, integration), 1))


async def test_a_line_ties_a_task_to_its_contact_and_run(customer: Customer) -> None:
    """Proves Q6: each task is told of, with what it was for."""
    one = customer.integrations[0]
    await customer.use(one, "101", operation="move")

    (line,) = (await customer.api.get(LEDGER)).json()["items"]

    quota = await customer.quota()
    assert line.pop("at").startswith(quota["by_day"][0]["day"])
    assert line == {
        "contact": "101",
        "integration_id": one,
        "integration": "one",
        "run_id": run_of(one),
        "operation": "move",
        "period": quota["period"],
    }


async def test_pages_show_every_task_once_newest_first(customer: Customer) -> None:
    """Also where many were written in the same moment, and while others are being written."""
    one = customer.integrations[0]
    await customer.use(one, *(f"c{number:02}" for number in range(25)))
    await customer.backdate("c24", days=1)
    async with customer.sessions.begin() as session:
        await session.execute(
            text("update ledger.postings set posted_at = '2026-01-01Z' where source_id < 'c10'")
        )
    seen: list[str] = []
    path: str | None = f"{LEDGER}?page_size=4"

    while path:
        page = await customer.api.get(path)
        seen += [line["contact"] for line in page.json()["items"]]
        path = page.links.get("next", {}).get("url")
        await customer.use(one, "late")

    assert sorted(seen) == sorted(f"c{number:02}" for number in range(25))
    assert seen[14] == "c24"
    assert sorted(seen[15:]) == [f"c{number:02}" for number in range(10)]


async def test_the_ledger_is_filtered(customer: Customer) -> None:
    one, two = customer.integrations
    await customer.use(one, "a", "b")
    await customer.use(one, "b", run_no=2)
    await customer.use(two, "c", operation="leave")
    await customer.backdate("a", days=2)
    (first, *_) = (await customer.api.get(LEDGER, params={"contact": "c"})).json()["items"]

    assert await contacts(customer) == ["c", "b", "b", "a"]
    assert await contacts(customer, integration_id=one) == ["b", "b", "a"]
    assert await contacts(customer, run_id=run_of(one)) == ["b", "a"]
    assert await contacts(customer, contact="b") == ["b", "b"]
    assert await contacts(customer, contact="nobody") == []
    assert await contacts(customer, operation="leave") == ["c"]
    assert await contacts(customer, **{"from": first["at"]}) == ["c"]
    assert await contacts(customer, until=first["at"]) == ["b", "b", "a"]
    assert await contacts(customer, integration_id=one, contact="b", run_id=run_of(one)) == ["b"]


async def test_another_month_is_read_by_its_name(customer: Customer) -> None:
    """What was used of a month is charged to it, whenever it was written."""
    one = customer.integrations[0]
    await customer.use(one, "now")
    async with customer.sessions.begin() as session:
        await session.execute(
            text(
                "create table ledger.postings_2025_12 partition of ledger.postings"
                " for values from ('2025-12-01') to ('2026-01-01')"
            )
        )
        await session.execute(
            text(
                "insert into ledger.periods (workspace_id, period, quota_limit, revision, posted)"
                " values (:w, '2025-12-01', 100, 1, 1)"
            ),
            {"w": customer.workspace},
        )
        await session.execute(
            text(
                "insert into ledger.postings select workspace_id, '2025-12-01', effect_key,"
                " hold_id, integration_id, 'then', run_id, operation, '2026-01-01T00:00:01Z'"
                " from ledger.postings"
            )
        )

    assert await contacts(customer) == ["now"]
    assert await contacts(customer, period="2025-12") == ["then"]


async def test_what_is_not_there_is_not_asked_for(customer: Customer, served: Served) -> None:
    """Proves X1: what is wrong with the question, and what to do."""
    wrong = [
        ({"period": "2019-01"}, "unknown_period"),
        ({"period": "2019-13"}, "string_pattern_mismatch"),
        ({"period": "last"}, "string_pattern_mismatch"),
        ({"integration_id": "int_1"}, "invalid_id"),
        ({"run_id": "run_1"}, "invalid_id"),
        ({"operation": "delete"}, "literal_error"),
        ({"from": "yesterday"}, "datetime_from_date_parsing"),
        ({"from": "2026-11-02T00:00:00Z", "until": "2026-11-02T00:00:00Z"}, "empty_interval"),
        ({"until": "2020-11-02T00:00:00Z"}, "before_period"),
        ({"contact": "a\x00"}, "invalid_text"),
        ({"page_token": "x"}, "invalid_page_token"),
        ({"page_token": pages.encode("2026-11-01T00:00:00 ab")}, "invalid_page_token"),
        ({"page_token": pages.encode("0001-01-01T00:00:00+23:59 ab")}, "invalid_page_token"),
        ({"page_token": pages.encode("2026-11-01T00:00:00Z no key")}, "invalid_page_token"),
        ({"color": "blue"}, "unknown_parameter"),
    ]
    for path in (LEDGER, FILE):
        for question, code in wrong:
            if path == FILE and "page_token" in question:
                continue
            answer = await customer.api.get(path, params=question)
            assert answer.status_code == 422, question
            assert answer.headers["content-type"] == "application/problem+json"
            assert codes(answer) == [code], (question, answer.text)
    async with customer.sessions.begin() as session:
        await session.execute(
            text(
                "insert into ledger.periods (workspace_id, period, quota_limit, revision, posted)"
                " values (:w, '2020-01-01', 100, 1, 1)"
            ),
            {"w": customer.workspace},
        )
    forgotten = await customer.api.get(LEDGER, params={"period": "2020-01"})
    assert codes(forgotten) == ["period_forgotten"]
    unknown = (await customer.api.get(LEDGER, params={"period": "2019-01"})).json()["detail"]
    assert "/v1/quota/periods" in unknown


async def test_another_workspaces_tasks_are_not_found(
    customer: Customer, served: Served, sessions: SessionMaker
) -> None:
    """Proves X3."""
    one = customer.integrations[0]
    await customer.use(one, "a")

    async with customer_of(served, sessions, name="Other") as other:
        for path in (LEDGER, FILE):
            by_integration = await other.api.get(path, params={"integration_id": one})
            by_run = await other.api.get(path, params={"run_id": run_of(one)})
            assert (by_integration.status_code, by_run.status_code) == (404, 404)
        theirs = await contacts(other)
        file = await other.api.get(FILE)

    assert theirs == []
    assert len(file.text.splitlines()) == 1


def rows_of(answer: httpx.Response) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


async def test_a_file_holds_every_task(customer: Customer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the last chunk is full."""
    monkeypatch.setattr(ledger_csv, "CHUNK_LINES", 3)
    one, two = customer.integrations
    await customer.use(one, *"abcde")
    await customer.use(two, *"fghi")

    answer = await customer.api.get(FILE)

    lines = (await customer.api.get(LEDGER)).json()["items"]
    assert answer.headers["content-type"].startswith("text/csv")
    assert (
        f'filename="quota-ledger-{lines[0]["period"]}.csv"' in answer.headers["content-disposition"]
    )
    assert rows_of(answer) == lines
    assert sorted(line["contact"] for line in lines) == list("abcdefghi")


async def test_a_file_is_filtered_like_a_page(customer: Customer) -> None:
    one, two = customer.integrations
    await customer.use(one, "a")
    await customer.use(two, "b")

    answer = await customer.api.get(FILE, params={"integration_id": two})

    assert [row["contact"] for row in rows_of(answer)] == ["b"]


async def test_a_spreadsheet_finds_no_formula(customer: Customer) -> None:
    one = customer.integrations[0]
    tag = (await customer.api.get(f"/v1/integrations/{one}")).headers["etag"]
    renamed = await customer.api.patch(
        f"/v1/integrations/{one}", json={"name": "@SUM(1)"}, headers={"if-match": tag}
    )
    await customer.use(one, '=HYPERLINK("x")')

    (row,) = rows_of(await customer.api.get(FILE))

    assert renamed.status_code == 200
    assert (row["contact"], row["integration"]) == ('\'=HYPERLINK("x")', "'@SUM(1)")
