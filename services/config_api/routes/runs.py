"""/v1/runs and an integration's runs and contacts: what became of everything that was read (W8).

What is shown is what activity has projected; a run is `complete` only when every part that its
read named was told of and the sum fits (PROTOCOL 8).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Request, Response, status
from pydantic import ConfigDict, Field

from libs.common import ids, reasons
from libs.common.ids import Prefix
from services.config_api import asking, pages, progress
from services.config_api.asking import Asking
from services.config_api.errors import ConflictError
from services.config_api.models import Asked, IntegrationId, RunId, Shown, found
from services.config_api.pages import PageSize, PageToken
from services.config_api.progress import RunState
from services.config_api.routing import CallerOf, Session, TransactionalRoute, demands
from services.config_api.scopes import Scope
from services.config_api.store import audit, integrations, workspaces
from services.config_api.store import runs as store

router = APIRouter(tags=["runs"], route_class=TransactionalRoute)

# A poller looks for due integrations every few seconds.
RUN_RETRY_AFTER_S = 5


class Counts(Shown):
    """What became of the contacts that were read; each is counted once."""

    read: int
    created: int
    updated: int
    removed: int
    unchanged: int
    superseded: int
    filtered: int
    rejected: int
    parked: int
    importing: int


class Proof(Shown):
    """Why a run may be believed: parts told of against parts expected, and the source's own total.

    `verdict`: complete, source_changed (its total moved while it was read) or incomplete.
    """

    complete: bool
    parts_expected: int | None = Field(description="null until everything is read.")
    parts_settled: int
    source_total_before: int | None
    source_total_after: int | None
    left_out: int
    verdict: str | None


class Run(Shown):
    """One poll of an integration."""

    id: str
    integration_id: str
    run_no: int
    mode: Literal["full", "changes"]
    state: RunState
    progress: Annotated[float, Field(ge=0, le=1)]
    mapping_version: int
    counts: Counts
    rejected_by_reason: Mapping[str, int]
    parked_by_reason: Mapping[str, int]
    tasks: int = Field(description="Contacts written: what it cost of the quota.")
    settled_later: Mapping[str, int] = Field(
        description="What became of its parked contacts since, outside of `counts`."
    )
    withheld: int = Field(description="Deletions that wait for `:confirm-deletions`.")
    proof: Proof
    error: str | None
    started_at: datetime
    read_at: datetime | None
    ended_at: datetime | None

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "run_0f5d5c2a9d6b5b0c8f1e2d3c4b5a6978",
                    "integration_id": "int_0199d0c1a2b37c4d8e5f60718293a4b5",
                    "run_no": 1,
                    "mode": "full",
                    "state": "complete",
                    "progress": 1.0,
                    "mapping_version": 1,
                    "counts": {
                        "read": 1000,
                        "created": 985,
                        "updated": 0,
                        "removed": 0,
                        "unchanged": 0,
                        "superseded": 0,
                        "filtered": 0,
                        "rejected": 15,
                        "parked": 0,
                        "importing": 0,
                    },
                    "rejected_by_reason": {"invalid_email": 8, "invalid_phone": 7},
                    "parked_by_reason": {},
                    "tasks": 985,
                    "settled_later": {},
                    "withheld": 0,
                    "proof": {
                        "complete": True,
                        "parts_expected": 10,
                        "parts_settled": 10,
                        "source_total_before": 1000,
                        "source_total_after": 1000,
                        "left_out": 0,
                        "verdict": "complete",
                    },
                    "error": None,
                    "started_at": "2026-11-24T09:00:00Z",
                    "read_at": "2026-11-24T09:00:20Z",
                    "ended_at": "2026-11-24T09:00:41Z",
                }
            ]
        }
    )


class Runs(Shown):
    """A page of runs, newest first."""

    items: Sequence[Run]
    next_page_token: pages.NextPageToken


class RunWanted(Asked):
    """A run to ask for; `full` reads everything again."""

    mode: Literal["full", "changes"] = "changes"


class RunRequested(Shown):
    """A run is due; it will be the one after `after_run_no`."""

    state: Literal["requested"] = "requested"
    after_run_no: int


class ContactStatus(StrEnum):
    """What the last outcome of a contact was; the last two are told of single contacts only."""

    CREATED = "created"
    UPDATED = "updated"
    REMOVED = "removed"
    REJECTED = "rejected"
    PARKED = "parked"
    FILTERED = "filtered"
    ABSENT = "absent"


class Contact(Shown):
    """A contact's last outcome, with why and what to do about it."""

    source_id: str | None = Field(description="null: nobody was found by the address asked for.")
    status: ContactStatus
    reason: str | None = Field(description="A stable code.")
    words: str | None = Field(description="What is the matter, in the caller's language.")
    remedy: str | None = Field(description="What to do about it.")
    who: reasons.Who | None = Field(description="Who must act.")
    run_no: int | None = Field(description="null: no run has read it.")
    at: datetime | None

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "source_id": "101",
                    "status": "rejected",
                    "reason": "invalid_email",
                    "words": "The e-mail address is not valid.",
                    "remedy": "Correct the address at the source.",
                    "who": "source",
                    "run_no": 1,
                    "at": "2026-11-24T09:00:41Z",
                }
            ]
        }
    )


class Contacts(Shown):
    """A page of contacts, by source id."""

    items: Sequence[Contact]
    next_page_token: pages.NextPageToken


class LeftOutContact(Shown):
    """A contact whose change was not fetched."""

    source_id: str
    changed_at: datetime = Field(description="By the source's clock: the change that was met.")
    replayed_at: datetime | None = Field(description="When it was asked for; null: it was not.")


class LeftOut(Shown):
    """A page of contacts that a run left out, by source id."""

    items: Sequence[LeftOutContact]
    next_page_token: pages.NextPageToken


class Replayed(Shown):
    """So many contacts are read from the next run on."""

    contacts: int


@router.get("/v1/integrations/{integration_id}/runs", dependencies=[demands(Scope.RUNS_READ)])
async def list_runs(
    integration_id: IntegrationId,
    session: Session,
    request: Request,
    response: Response,
    page_size: PageSize = pages.SIZE_DEFAULT,
    page_token: PageToken = None,
) -> Runs:
    """List an integration's runs."""
    found(await integrations.find(session, integration_id), "integration")
    rows = await store.find_page(
        session, integration_id, before=pages.decode_number(page_token), size=page_size + 1
    )
    page = pages.cut(rows, page_size, lambda row: row.run_no)
    pages.link(request, response, page.next_token)
    return Runs(items=[shown_run(row) for row in page.rows], next_page_token=page.next_token)


@router.post(
    "/v1/integrations/{integration_id}/runs",
    status_code=status.HTTP_202_ACCEPTED,
    dependencies=[demands(Scope.RUNS_WRITE)],
)
async def request_run(
    integration_id: IntegrationId,
    session: Session,
    caller: CallerOf,
    response: Response,
    wanted: RunWanted = RunWanted(),  # noqa: B008  # frozen: nothing of it can change  # frozen: nothing of it can change
) -> RunRequested:
    """Ask for a run now instead of at the next interval; look for it at Location."""
    integration = found(await integrations.find(session, integration_id), "integration")
    after = await store.find_last_number(session, integration_id)
    if integration.state != "active" or not await store.request(
        session, integration_id, full=wanted.mode == "full"
    ):
        raise ConflictError(detail="Only an active integration runs.", state=integration.state)
    shown = ids.show(Prefix.INTEGRATION, integration_id)
    await audit.record(
        session,
        workspace=caller.workspace,
        actor=caller.actor,
        action="run.requested",
        subject=shown,
        details={"mode": wanted.mode},
    )
    response.headers["Location"] = f"/v1/integrations/{shown}/runs"
    response.headers["Retry-After"] = str(RUN_RETRY_AFTER_S)
    return RunRequested(after_run_no=after)


@router.get("/v1/runs/{run_id}", dependencies=[demands(Scope.RUNS_READ)])
async def read_run(run_id: RunId, session: Session) -> Run:
    """Read one run; poll it for its progress."""
    return shown_run(found(await store.find(session, run_id), "run"))


@router.get("/v1/runs/{run_id}/left-out", dependencies=[demands(Scope.CONTACTS_READ)])
async def list_left_out(
    run_id: RunId,
    session: Session,
    request: Request,
    response: Response,
    page_size: PageSize = pages.SIZE_DEFAULT,
    page_token: PageToken = None,
) -> LeftOut:
    """List who was left out of a run because too many had changed at once (CC4).

    Whoever was read since is not among them any more.
    """
    found(await store.find(session, run_id), "run")
    rows = await store.find_left_out(
        session, run_id, after=pages.decode_text(page_token), size=page_size + 1
    )
    page = pages.cut(rows, page_size, lambda row: row.source_id)
    pages.link(request, response, page.next_token)
    return LeftOut(
        items=[
            LeftOutContact(
                source_id=row.source_id, changed_at=row.changed_at, replayed_at=row.wanted_at
            )
            for row in page.rows
        ],
        next_page_token=page.next_token,
    )


@router.post(
    "/v1/runs/{run_id}:replay-left-out",
    status_code=status.HTTP_202_ACCEPTED,
    dependencies=[demands(Scope.RUNS_WRITE)],
)
async def replay_left_out(
    run_id: RunId, session: Session, caller: CallerOf, response: Response
) -> Replayed:
    """Have those read who were left out of a run, from the next run on (CC4)."""
    run = found(await store.find(session, run_id), "run")
    count = await store.replay_left_out(session, run_id)
    if count == 0:
        raise ConflictError(
            detail="This run has left out nobody who was not read since or asked for already."
        )
    await audit.record(
        session,
        workspace=caller.workspace,
        actor=caller.actor,
        action="run.left_out_replayed",
        subject=ids.show(Prefix.RUN, run_id),
        details={"contacts": count},
    )
    shown = ids.show(Prefix.INTEGRATION, run.integration_id)
    response.headers["Location"] = f"/v1/integrations/{shown}/runs"
    response.headers["Retry-After"] = str(RUN_RETRY_AFTER_S)
    return Replayed(contacts=count)


@router.post("/v1/runs/{run_id}:confirm-deletions", dependencies=[demands(Scope.RUNS_WRITE)])
async def confirm_deletions(run_id: RunId, session: Session, caller: CallerOf) -> Run:
    """Let the deletions happen that the run withheld because they were so many."""
    found(await store.find(session, run_id), "run")
    withheld = await store.confirm_deletions(session, run_id)
    if withheld == 0:
        raise ConflictError(
            detail="This run has no deletions that wait for a confirmation (any more)."
        )
    await audit.record(
        session,
        workspace=caller.workspace,
        actor=caller.actor,
        action="run.deletions_confirmed",
        subject=ids.show(Prefix.RUN, run_id),
        details={"withheld": withheld},
    )
    return shown_run(found(await store.find(session, run_id), "run"))


_STATUSES: Mapping[str, Sequence[str]] = {
    "written": ("created", "updated"),
    **{each.value: (each.value,) for each in ContactStatus},
}
ContactFilter = Literal["written", "created", "updated", "removed", "rejected", "parked"]


@router.get(
    "/v1/integrations/{integration_id}/contacts",
    tags=["contacts"],
    dependencies=[demands(Scope.CONTACTS_READ)],
)
async def list_contacts(
    integration_id: IntegrationId,
    session: Session,
    caller: CallerOf,
    request: Request,
    response: Response,
    status: ContactFilter | None = None,
    reason: Annotated[str | None, Query(max_length=100)] = None,
    source_id: Annotated[str | None, Query(max_length=200)] = None,
    email: Annotated[
        str | None, Query(max_length=320, description="The address at the destination.")
    ] = None,
    page_size: PageSize = pages.SIZE_DEFAULT,
    page_token: PageToken = None,
    accept_language: Annotated[str | None, Header()] = None,
) -> Contacts:
    """List what became of contacts, and why.

    `source_id` or `email` asks about a single one: the answer also says why it is not there, and
    what to do about it (AC9).
    """
    integration = found(await integrations.find(session, integration_id), "integration")
    workspace = found(await workspaces.find(session, caller.workspace), "workspace")
    language = choose_language(accept_language, workspace.language)
    asked = Asking(_without_nul(source_id), _without_nul(email))
    source_ids = await asking.find_ids(session, integration, asked)
    rows = await store.find_contacts(
        session,
        integration_id,
        statuses=_STATUSES[status] if status else None,
        reason=_without_nul(reason),
        source_ids=source_ids,
        after=pages.decode_text(page_token),
        size=page_size + 1 if source_ids is None else len(source_ids),
    )
    if source_ids is not None and not (status or reason or page_token):
        rows = await asking.complete(session, integration, source_ids, rows)
        page_size = len(rows)  # Few, and one answer.
    page = pages.cut(rows, page_size, lambda row: row.source_id or "")
    pages.link(request, response, page.next_token)
    response.headers["Content-Language"] = language
    return Contacts(
        items=[_shown_contact(row, language) for row in page.rows],
        next_page_token=page.next_token,
    )


def _without_nul(text: str | None) -> str | None:
    """PostgreSQL's text holds no NUL, so nothing can be found by one."""
    return None if text is None else text.replace("\x00", "\ufffd")


def choose_language(accept_language: str | None, usual: str) -> str:
    """Return the language of the words: the first of ours that is asked for, else the usual."""
    best, language = 0.0, usual
    for part in (accept_language or "").split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = _weight(parameters)
        if name.partition("-")[0] in ("en", "de") and weight > best:
            best, language = weight, name.partition("-")[0]
    return language


def _weight(parameters: Sequence[str]) -> float:
    """Return the quality value of a language range (RFC 9110, 12.4.2); 0 for what is none."""
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0


def words_of(code: str | None, language: str) -> reasons.Words | None:
    """Return what is said of a code; None for one that this version has no words for."""
    reason = reasons.REASONS.get(code or "")
    if reason is None:
        return None
    return reason.de if language == "de" else reason.en


def _shown_contact(row: store.ContactRow, language: str) -> Contact:
    reason = reasons.REASONS.get(row.reason or "")
    words = words_of(row.reason, language)
    return Contact(
        source_id=row.source_id,
        status=ContactStatus(row.status),
        reason=row.reason,
        words=words and words.what,
        remedy=words and words.remedy,
        who=reason and reason.who,
        run_no=row.run_no,
        at=row.at,
    )


def shown_run(row: store.RunRow) -> Run:
    """Return a run as it is shown."""
    state = progress.run_state(row)
    return Run.model_validate(
        {
            "id": ids.show(Prefix.RUN, row.run_id),
            "integration_id": ids.show(Prefix.INTEGRATION, row.integration_id),
            "run_no": row.run_no,
            "mode": row.mode,
            "state": state,
            "progress": progress.run_progress(row),
            "mapping_version": row.mapping_version,
            "counts": _shown_counts(row),
            "rejected_by_reason": row.rejected_by_reason,
            "parked_by_reason": row.parked_by_reason,
            "tasks": progress.tasks(row),
            "settled_later": row.settled_later,
            "withheld": row.withheld if row.is_confirmable else 0,
            "proof": _proof(row, state),
            "error": row.error_code,
            "started_at": row.started_at,
            "read_at": row.read_at,
            "ended_at": row.ended_at,
        }
    )


def _shown_counts(row: store.RunRow) -> Counts:
    settled = {name: getattr(row.counts, name) for name in store.Counts.__dataclass_fields__}
    return Counts(read=row.read, **settled)


def _proof(row: store.RunRow, state: RunState) -> Proof:
    return Proof(
        complete=state is RunState.COMPLETE,
        parts_expected=row.parts if row.state == "read" else None,
        parts_settled=row.parts_settled,
        source_total_before=row.total_before,
        source_total_after=row.total_after,
        left_out=row.left_out,
        verdict=row.verdict,
    )
