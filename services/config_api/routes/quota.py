"""/v1/quota: how much of the month's tasks is left, what of it was used, and what comes next.

`stopped` is computed from the ledger at the moment of asking, as the writer computes it: it can
never disagree with what is written (Q1, Q3, Q5). Use is counted from the ledger's lines, so it adds
up to what `/v1/quota/ledger` lists.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Request, Response
from pydantic import ConfigDict, Field

from libs.common import forecast, ids, ledger
from libs.common.database import transaction_of
from libs.common.ids import Prefix
from services.config_api import pages
from services.config_api.models import Shown, found
from services.config_api.outlook import WORDS, Outlook, outlook
from services.config_api.pages import PageSize, PageToken
from services.config_api.routes.quota_requests import QuotaRequest, shown_request
from services.config_api.routes.runs import choose_language
from services.config_api.routing import CallerOf, Session, TransactionalRoute, demands
from services.config_api.scopes import Scope
from services.config_api.store import quota as store
from services.config_api.store import quota_requests, workspaces

router = APIRouter(tags=["quota"], route_class=TransactionalRoute)


class QuotaState(StrEnum):
    """Whether contacts are written now."""

    OPEN = "open"
    STOPPED = "stopped"


_EXAMPLE: dict[str, Any] = {
    "period": "2026-11",
    "limit": 100000,
    "standing_limit": None,
    "used": 84210,
    "held": 10,
    "left": 15780,
    "used_percent": 84.21,
    "state": "open",
    "resumes_at": None,
}


class Quota(Shown):
    """A workspace's quota in the present month."""

    period: str = Field(description="The UTC month, as YYYY-MM.")
    limit: int = Field(description="Tasks a month, shared by all integrations.")
    standing_limit: int | None = Field(
        description="The limit of the months to come, where this month has one of its own."
    )
    used: int = Field(description="Contacts written this month.")
    held: int = Field(description="Reserved for writes that are under way.")
    left: int = Field(description="What can still be reserved.")
    used_percent: float
    state: QuotaState
    resumes_at: datetime | None = Field(
        description="When stopped: the next month, if the limit is not raised before; null if the "
        "limit of the months to come is 0."
    )

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})


class Forecast(Shown):
    """What the use of the last days leads to.

    The method: the tasks of today and of the 7 whole days before it, divided by the time since the
    first of these days that had any, at least one day. At that steady rate, what is left lasts
    until `exhausted_at`; null: until the month ends, or it is used up already.
    """

    tasks_a_day: float
    exhausted_at: datetime | None


class Next(Shown):
    """What happens if nobody does anything: a stable code, and words in the caller's language."""

    code: Outlook
    words: str


class IntegrationUse(Shown):
    """What one integration has used of the month."""

    integration_id: str
    name: str | None = Field(description="null: it is not there any more.")
    used: int


class DayUse(Shown):
    """Tasks that were written on one UTC day."""

    day: date
    used: int


class QuotaReport(Quota):
    """A workspace's quota in the present month, with what it was used for and what comes next.

    Both lists add up to `used`. A task counts on the day it was written, which for the last ones
    of a month may be the first of the next.
    """

    forecast: Forecast
    next: Next
    by_integration: Sequence[IntegrationUse] = Field(description="Who used most comes first.")
    by_day: Sequence[DayUse] = Field(description="Days without any are left out.")
    open_request: QuotaRequest | None = Field(
        description="The request for a higher limit that waits for a decision."
    )

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **_EXAMPLE,
                    "forecast": {"tasks_a_day": 7890.5, "exhausted_at": "2026-11-26T09:00:00Z"},
                    "next": {"code": "will_stop", "words": WORDS[Outlook.WILL_STOP]["en"]},
                    "by_integration": [
                        {
                            "integration_id": "int_0199d0c1a2b37c4d8e5f60718293a4b5",
                            "name": "HubSpot → Brevo",
                            "used": 84210,
                        }
                    ],
                    "by_day": [
                        {"day": "2026-11-23", "used": 80000},
                        {"day": "2026-11-24", "used": 4210},
                    ],
                    "open_request": None,
                }
            ]
        }
    )


class Period(Shown):
    """What became of one month. `limit` is the last one that was in force in it."""

    period: str = Field(description="The UTC month, as YYYY-MM.")
    limit: int
    used: int
    held: int
    used_percent: float
    reached_80_at: datetime | None = Field(description="When 80 % were used for the first time.")
    reached_100_at: datetime | None = Field(description="When it was used up for the first time.")

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "period": "2026-10",
                    "limit": 100000,
                    "used": 91204,
                    "held": 0,
                    "used_percent": 91.2,
                    "reached_80_at": "2026-10-27T06:12:00Z",
                    "reached_100_at": None,
                }
            ]
        }
    )


class Periods(Shown):
    """A page of months, newest first."""

    items: Sequence[Period]
    next_page_token: pages.NextPageToken


@router.get("/v1/quota", dependencies=[demands(Scope.QUOTA_READ)])
async def read_quota(
    session: Session,
    caller: CallerOf,
    response: Response,
    accept_language: Annotated[str | None, Header()] = None,
) -> QuotaReport:
    """Read the quota of the present month: what is left, what it went to, what happens next."""
    quota = await store.find(session, caller.workspace)
    per_day = await ledger.use_per_day(await transaction_of(session), workspace=caller.workspace)
    uses = await store.find_use(session, caller.workspace, quota.period)
    waiting = await quota_requests.find_open(session, caller.workspace)
    workspace = found(await workspaces.find(session, caller.workspace), "workspace")
    language = choose_language(accept_language, workspace.language)
    response.headers["Content-Language"] = language
    shown = quota_document(quota)
    expected = _forecast(quota, per_day)
    code = outlook(
        is_open=shown.state is QuotaState.OPEN,
        will_be_exhausted=expected.exhausted_at is not None,
        standing_limit=quota.standing_limit,
    )
    return QuotaReport(
        **dict(shown),
        forecast=expected,
        next=Next(code=code, words=WORDS[code][language]),
        by_integration=_by_integration(uses),
        by_day=_by_day(uses),
        open_request=None if waiting is None else shown_request(waiting),
    )


@router.get("/v1/quota/periods", dependencies=[demands(Scope.QUOTA_READ)])
async def list_periods(
    session: Session,
    caller: CallerOf,
    request: Request,
    response: Response,
    page_size: PageSize = pages.SIZE_DEFAULT,
    page_token: PageToken = None,
) -> Periods:
    """List the months that had any use."""
    rows = await store.find_periods(
        session,
        caller.workspace,
        before=pages.decode_date(page_token),
        size=page_size + 1,
    )
    page = pages.cut(rows, page_size, lambda row: row.period.isoformat())
    pages.link(request, response, page.next_token)
    return Periods(items=[_shown_period(row) for row in page.rows], next_page_token=page.next_token)


def quota_document(quota: store.Quota) -> Quota:
    """Return a month's quota as it is shown."""
    left = max(quota.limit - quota.used - quota.held, 0)
    resumes = None if left or not quota.standing_limit else next_month(quota.period)
    return Quota(
        period=f"{quota.period:%Y-%m}",
        limit=quota.limit,
        standing_limit=quota.standing_limit if quota.standing_limit != quota.limit else None,
        used=quota.used,
        held=quota.held,
        left=left,
        used_percent=_percent(quota.used, quota.limit),
        state=QuotaState.OPEN if left else QuotaState.STOPPED,
        resumes_at=resumes,
    )


def next_month(period: date) -> datetime:
    """Return the moment a period ends: the first of the next month, UTC."""
    return datetime.combine(forecast.next_period(period), time(), UTC)


def _percent(used: int, limit: int) -> float:
    return round(100 * used / limit, 2) if limit else 100.0


def _forecast(quota: store.Quota, per_day: Mapping[date, int]) -> Forecast:
    is_used_up = quota.used + quota.held >= quota.limit
    return Forecast(
        tasks_a_day=round(forecast.tasks_a_day(per_day, quota.now), 1),
        exhausted_at=None
        if is_used_up
        else forecast.exhausted_at(
            limit=quota.limit, used=quota.used, held=quota.held, per_day=per_day, now=quota.now
        ),
    )


def _by_integration(uses: Sequence[store.Use]) -> list[IntegrationUse]:
    names: dict[UUID, str | None] = {use.integration_id: use.name for use in uses}
    used: Counter[UUID] = Counter()
    for use in uses:
        used[use.integration_id] += use.used
    return [
        IntegrationUse(
            integration_id=ids.show(Prefix.INTEGRATION, integration),
            name=names[integration],
            used=count,
        )
        for integration, count in used.most_common()
    ]


def _by_day(uses: Sequence[store.Use]) -> list[DayUse]:
    used: Counter[date] = Counter()
    for use in uses:
        used[use.day] += use.used
    return [DayUse(day=day, used=used[day]) for day in sorted(used)]


def _shown_period(row: store.Period) -> Period:
    return Period(
        period=f"{row.period:%Y-%m}",
        limit=row.limit,
        used=row.used,
        held=row.held,
        used_percent=_percent(row.used, row.limit),
        reached_80_at=row.reached_80_at,
        reached_100_at=row.reached_100_at,
    )
