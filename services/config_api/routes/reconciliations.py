"""/v1/reconciliations: what the accountant found when it held the ledger against its parts.

The accountant looks at every workspace's month about once an hour and repairs nothing: a drift is
the operator's to judge. `drift` is by how much what is kept exceeds what was found.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import ConfigDict, Field

from libs.common import ids
from libs.common.ids import Prefix
from libs.common.reconciliation import MEANINGS, REMEDIES, Check, drift_of
from services.config_api import pages
from services.config_api.models import Shown, parameter_id
from services.config_api.pages import PageSize, PageToken
from services.config_api.routing import Session, TransactionalRoute, demands
from services.config_api.scopes import Scope
from services.config_api.store import reconciliations as store

router = APIRouter(tags=["reconciliations"], route_class=TransactionalRoute)


class Comparison(Shown):
    """One thing held against another."""

    check: Check
    meaning: str = Field(description="What was held against what, in this order.")
    kept: int
    found: int
    drift: int = Field(description="By how much `kept` exceeds `found`; 0: none.")
    examples: Sequence[str] = Field(description="Some of the holds or runs that differ.")
    remedy: str | None = Field(description="What to do about it; null without drift.")


class Reconciliation(Shown):
    """One look at a workspace's month."""

    id: str
    workspace_id: str
    period: str = Field(description="The UTC month, as YYYY-MM.")
    looked_at: datetime
    has_drift: bool
    checks: Sequence[Comparison]
    aged_units: int = Field(
        description="Units reserved for over an hour. No drift: the writer settles them."
    )
    aged_since: datetime | None = Field(description="Since when the oldest of them is reserved.")

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "rec_" + "0" * 32,
                    "workspace_id": "ws_" + "0" * 32,
                    "period": "2026-11",
                    "looked_at": "2026-11-26T06:00:00Z",
                    "has_drift": True,
                    "checks": [
                        {
                            "check": "posted",
                            "meaning": MEANINGS[Check.POSTED],
                            "kept": 1005,
                            "found": 1000,
                            "drift": 5,
                            "examples": [],
                            "remedy": REMEDIES[Check.POSTED],
                        }
                    ],
                    "aged_units": 0,
                    "aged_since": None,
                }
            ]
        }
    )


class Reconciliations(Shown):
    """A page of looks."""

    items: Sequence[Reconciliation]
    next_page_token: pages.NextPageToken


@router.get("/v1/reconciliations", dependencies=[demands(Scope.OPERATOR_READ)])
async def list_reconciliations(
    session: Session,
    request: Request,
    response: Response,
    workspace_id: Annotated[
        str | None, Query(max_length=100, description="Of this customer only.")
    ] = None,
    drift: Annotated[
        bool | None, Query(description="true: those with drift only; false: those without.")
    ] = None,
    page_size: PageSize = pages.SIZE_DEFAULT,
    page_token: PageToken = None,
) -> Reconciliations:
    """List what reconciliation found, newest first."""
    rows = await store.find_page(
        session,
        before=pages.decode_id(page_token),
        workspace=parameter_id(Prefix.WORKSPACE, workspace_id, "workspace_id"),
        has_drift=drift,
        size=page_size + 1,
    )
    page = pages.cut(rows, page_size, lambda row: row.reconciliation_id.hex)
    pages.link(request, response, page.next_token)
    return Reconciliations(
        items=[_shown(row) for row in page.rows], next_page_token=page.next_token
    )


def _shown(row: store.Reconciliation) -> Reconciliation:
    return Reconciliation(
        id=ids.show(Prefix.RECONCILIATION, row.reconciliation_id),
        workspace_id=ids.show(Prefix.WORKSPACE, row.workspace_id),
        period=f"{row.period:%Y-%m}",
        looked_at=row.looked_at,
        has_drift=row.has_drift,
        checks=[_comparison(each) for each in row.report["checks"]],
        aged_units=row.report["aged_units"],
        aged_since=row.report["aged_since"],
    )


def _comparison(found: Mapping[str, Any]) -> Comparison:
    check = Check(found["check"])
    drift = drift_of(found["kept"], found["found"], found["odd"])
    return Comparison(
        check=check,
        meaning=MEANINGS[check],
        kept=found["kept"],
        found=found["found"],
        drift=drift,
        examples=found["examples"],
        remedy=REMEDIES[check] if drift else None,
    )
