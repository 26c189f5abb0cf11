"""/v1/reconciliations: the operator reads what the accountant found."""

import json
from typing import Any
from uuid import UUID

import httpx
from sqlalchemy import text

from libs.common import ids
from libs.common.ids import Prefix
from libs.common.reconciliation import REMEDIES, Check
from tests.services.config_api.served import Served, codes

LOOKS = "/v1/reconciliations"


async def keep(served: Served, workspace: UUID, *, kept: int, found: int) -> str:
    """Keep a look at a workspace's month; return its id as it is shown."""
    look = ids.new()
    check = {"check": "posted", "kept": kept, "found": found, "examples": []}
    check["odd"] = int(kept != found)
    report: dict[str, Any] = {"checks": [check], "aged_units": 2}
    report["aged_since"] = "2026-11-26T05:00:00+00:00"
    async with served.owner.begin() as session:
        await session.execute(
            text(
                "insert into ledger.reconciliations"
                " (reconciliation_id, workspace_id, period, has_drift, report)"
                " values (:id, :workspace, '2026-11-01', :drift, cast(:report as jsonb))"
            ),
            {
                "id": look,
                "workspace": workspace,
                "drift": kept != found,
                "report": json.dumps(report),
            },
        )
    return ids.show(Prefix.RECONCILIATION, look)


async def items(operator: httpx.AsyncClient, **asked: str) -> list[dict[str, Any]]:
    answer = await operator.get(LOOKS, params=asked)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


async def test_drift_is_shown_with_its_workspace_amount_and_remedy(served: Served) -> None:
    """Proves X1: what differs, by how much, and what to do."""
    one, other = ids.new(), ids.new()
    clean = await keep(served, one, kept=7, found=7)
    drifted = await keep(served, other, kept=1005, found=1000)

    async with served.caller(served.operator_key) as operator:
        everything = await items(operator)
        with_drift = await items(operator, drift="true")
        without = await items(operator, drift="false")
        of_one = await items(operator, workspace_id=ids.show(Prefix.WORKSPACE, one))

    assert [each["id"] for each in everything] == [drifted, clean]
    assert [each["id"] for each in with_drift] == [drifted]
    assert [each["id"] for each in without] == [each["id"] for each in of_one] == [clean]
    [shown] = with_drift
    assert (shown["workspace_id"], shown["period"]) == (
        ids.show(Prefix.WORKSPACE, other),
        "2026-11",
    )
    [check] = shown["checks"]
    assert (check["kept"], check["found"], check["drift"]) == (1005, 1000, 5)
    assert check["remedy"] == REMEDIES[Check.POSTED]
    assert (shown["aged_units"], shown["aged_since"]) == (2, "2026-11-26T05:00:00Z")
    assert without[0]["checks"][0]["remedy"] is None


async def test_looks_are_shown_in_pages(served: Served) -> None:
    looks = [await keep(served, ids.new(), kept=1, found=1) for _ in range(3)]

    async with served.caller(served.operator_key) as operator:
        first = (await operator.get(LOOKS, params={"page_size": 2})).json()
        second = await items(operator, page_token=first["next_page_token"])

    assert [each["id"] for each in [*first["items"], *second]] == looks[::-1]


async def test_an_id_that_is_none_is_refused(served: Served) -> None:
    """Proves X1."""
    async with served.caller(served.operator_key) as operator:
        answer = await operator.get(LOOKS, params={"workspace_id": "con_1"})

    assert (answer.status_code, codes(answer)) == (422, ["invalid_id"])
