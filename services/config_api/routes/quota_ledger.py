"""/v1/quota/ledger: every charged task of a month, newest first, as pages and as one file.

Each line is one posting of the ledger, so the lines of a month add up to what `/v1/quota` calls
`used`. A page reads one month, whose index keeps it in this order.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common import ids
from libs.common.ids import Prefix
from services.config_api import csv_export, ledger_csv, pages
from services.config_api.errors import refuse_parameter
from services.config_api.models import Moment, Shown, found, is_storable, parameter_id
from services.config_api.pages import PageSize, PageToken
from services.config_api.routing import (
    CallerOf,
    ProviderRoute,
    Session,
    TransactionalRoute,
    UnitsOfWork,
    demands,
)
from services.config_api.scopes import Scope
from services.config_api.store import integrations, runs
from services.config_api.store import quota as quota_store
from services.config_api.store import quota_ledger as store
from services.config_api.store.quota_ledger import Line, Position, Wanted

# As the writer's tasks are called (services/writer/values.py: Kind).
Operation = Literal["upsert", "old_address", "move", "leave"]
OPERATIONS = (
    "What was done: `upsert` created or updated the contact, `old_address` updated it under its "
    "former address while a new one waits, `move` gave it a new address, `leave` took it off the "
    "list."
)

router = APIRouter(tags=["quota"], route_class=TransactionalRoute)
# A file is read in many short transactions: one for as long as a client takes would hold up the
# database's housekeeping.
export_router = APIRouter(tags=["quota"], route_class=ProviderRoute)


class LedgerLine(Shown):
    """One charged task: which contact of which integration was written, when, by which run."""

    at: datetime
    contact: str = Field(description="The contact's id at the source.")
    integration_id: str
    integration: str | None = Field(description="Its name; null: it is not there any more.")
    run_id: str
    operation: str = Field(description=OPERATIONS)
    period: str = Field(description="The month that it is charged to: that of its reservation.")

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "at": "2026-11-24T09:00:41.108213Z",
                    "contact": "101",
                    "integration_id": "int_0199d0c1a2b37c4d8e5f60718293a4b5",
                    "integration": "HubSpot → Brevo",
                    "run_id": "run_0f5d5c2a9d6b5b0c8f1e2d3c4b5a6978",
                    "operation": "upsert",
                    "period": "2026-11",
                }
            ]
        }
    )


class Ledger(Shown):
    """A page of charged tasks of one month, newest first."""

    period: str
    items: Sequence[LedgerLine]
    next_page_token: pages.NextPageToken


def _month(
    period: Annotated[
        str | None,
        Query(
            pattern=r"^[12][0-9]{3}-(0[1-9]|1[0-2])$",
            description="The month, as YYYY-MM; the present one if left out.",
        ),
    ] = None,
) -> date | None:
    return None if period is None else date.fromisoformat(f"{period}-01")


def _wanted(
    integration_id: Annotated[str | None, Query(max_length=100)] = None,
    run_id: Annotated[str | None, Query(max_length=100)] = None,
    contact: Annotated[
        str | None, Query(max_length=200, description="The contact's id at the source.")
    ] = None,
    operation: Annotated[Operation | None, Query(description=OPERATIONS)] = None,
    since: Annotated[
        Moment | None, Query(alias="from", description="Written at this moment or later.")
    ] = None,
    until: Annotated[Moment | None, Query(description="Written before this moment.")] = None,
) -> Wanted:
    if since is not None and until is not None and since >= until:
        raise refuse_parameter(
            parameter="until", code="empty_interval", detail="`until` must be later than `from`."
        )
    if contact is not None and not is_storable(contact):
        raise refuse_parameter(
            parameter="contact", code="invalid_text", detail="No contact has such an id."
        )
    return Wanted(
        integration=parameter_id(Prefix.INTEGRATION, integration_id, "integration_id"),
        run=parameter_id(Prefix.RUN, run_id, "run_id"),
        contact=contact,
        operation=operation,
        since=since,
        until=until,
    )


Month = Annotated[date | None, Depends(_month)]
WantedLines = Annotated[Wanted, Depends(_wanted)]


@router.get("/v1/quota/ledger", dependencies=[demands(Scope.QUOTA_READ)])
async def list_ledger(
    month: Month,
    wanted: WantedLines,
    session: Session,
    caller: CallerOf,
    request: Request,
    response: Response,
    page_size: PageSize = pages.SIZE_DEFAULT,
    page_token: PageToken = None,
) -> Ledger:
    """List what the quota of a month was used for, to the last task."""
    after = _position(page_token)
    period = await _checked(session, caller.workspace, month, wanted)
    rows = await store.find_page(
        session, caller.workspace, period, wanted, after=after, size=page_size + 1
    )
    page = pages.cut(rows, page_size, lambda row: f"{row.at.isoformat()} {row.effect_key.hex()}")
    pages.link(request, response, page.next_token)
    return Ledger(
        period=f"{period:%Y-%m}",
        items=[_shown(row) for row in page.rows],
        next_page_token=page.next_token,
    )


@export_router.get(
    "/v1/quota/ledger.csv",
    dependencies=[demands(Scope.QUOTA_READ)],
    response_class=StreamingResponse,
    responses={200: {"description": "RFC 4180, UTF-8.", "content": {csv_export.MEDIA_TYPE: {}}}},
)
async def export_ledger(
    month: Month, wanted: WantedLines, units: UnitsOfWork, caller: CallerOf
) -> StreamingResponse:
    """Fetch the same as a CSV file, however long it is. It ends with what was there at its start.

    Text that a spreadsheet would take for a formula has an apostrophe in front.
    """
    workspace = caller.workspace
    period, now = await units.run(lambda session: _begun(session, workspace, month, wanted))
    wanted = replace(wanted, until=min(wanted.until or now, now))

    async def fetch(after: Position | None) -> Sequence[Line]:
        return await units.run(
            lambda session: store.find_page(
                session, workspace, period, wanted, after=after, size=ledger_csv.CHUNK_LINES
            )
        )

    # Fetched before the answer begins: what goes wrong here can still be said with a status.
    first = await fetch(None)
    return StreamingResponse(
        ledger_csv.written(first, fetch),
        media_type=csv_export.MEDIA_TYPE,
        headers={"Content-Disposition": f'attachment; filename="quota-ledger-{period:%Y-%m}.csv"'},
    )


async def _begun(
    session: AsyncSession, workspace: UUID, month: date | None, wanted: Wanted
) -> tuple[date, datetime]:
    period = await _checked(session, workspace, month, wanted)
    return period, await store.now(session)


async def _checked(
    session: AsyncSession, workspace: UUID, month: date | None, wanted: Wanted
) -> date:
    """Return the month that is asked for; raise what is wrong with the question."""
    present = (await quota_store.find(session, workspace)).period
    period = month or present
    if not await quota_store.is_period(session, workspace, period):
        raise refuse_parameter(
            parameter="period",
            code="unknown_period",
            detail=f"Nothing was used in {period:%Y-%m}: GET /v1/quota/periods lists the months.",
        )
    if period < present and not await quota_store.has_lines(session, period):
        raise refuse_parameter(
            parameter="period",
            code="period_forgotten",
            detail=f"The tasks of {period:%Y-%m} are not kept any more, only how many they were.",
        )
    if wanted.until is not None and wanted.until <= datetime.combine(period, time(), UTC):
        raise refuse_parameter(
            parameter="until",
            code="before_period",
            detail=f"Before {period:%Y-%m} nothing was charged to it: name another `period`.",
        )
    if wanted.integration is not None:
        found(await integrations.find(session, wanted.integration), "integration")
    if wanted.run is not None:
        found(await runs.find(session, wanted.run), "run")
    return period


def _position(token: str | None) -> Position | None:
    text = pages.decode_text(token)
    if text is None:
        return None
    at, _, key = text.partition(" ")
    try:
        moment = datetime.fromisoformat(at)
        if moment.tzinfo is None:
            raise pages.refused()
        return Position(moment.astimezone(UTC), bytes.fromhex(key))
    except (ValueError, OverflowError):
        raise pages.refused() from None


def _shown(row: Line) -> LedgerLine:
    return LedgerLine(
        at=row.at,
        contact=row.contact,
        integration_id=ids.show(Prefix.INTEGRATION, row.integration_id),
        integration=row.integration,
        run_id=ids.show(Prefix.RUN, row.run_id),
        operation=row.operation,
        period=f"{row.period:%Y-%m}",
    )
