"""Why a contact is or is not at the destination, asked by its id or its address (AC9).

What activity knows is the answer where it knows something; else links say what became of it, and
where there is not even one, the integration says why it may not have been read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.reasons import Absent, Filter, Park, Trouble
from services.config_api.progress import RunState, run_state
from services.config_api.store import runs as store
from services.config_api.store.integrations import Integration
from services.config_api.store.runs import ContactRow, Trace

# What a link without any outcome says of its newest version.
_TOLD = {
    "filtered": ("filtered", Filter.CRITERIA),
    "delete": ("absent", Absent.REMOVED),
    "leave": ("absent", Absent.REMOVED),
    "upsert": ("updated", None),
}


@dataclass(frozen=True, slots=True)
class Asking:
    """Whom a caller asks about; None and None: about nobody in particular."""

    source_id: str | None = None
    email: str | None = None


async def find_ids(
    session: AsyncSession, integration: Integration, asked: Asking
) -> Sequence[str] | None:
    """Return the source ids that are asked about, perhaps none; None: all contacts are."""
    if asked.email is None:
        return None if asked.source_id is None else [asked.source_id]
    found = await store.find_ids_by_address(
        session, integration.integration_id, asked.email.strip().lower()
    )
    return [each for each in found if asked.source_id in (None, each)]


async def complete(
    session: AsyncSession,
    integration: Integration,
    source_ids: Sequence[str],
    rows: Sequence[ContactRow],
) -> list[ContactRow]:
    """Return an answer for everybody who was asked about, and one where nobody was found."""
    answered = {row.source_id for row in rows}
    open_ = [each for each in source_ids if each not in answered]
    traces = {
        trace.source_id: trace
        for trace in await store.find_traces(session, integration.integration_id, open_)
    }
    more = [_of_trace(trace) for trace in traces.values()]
    unread: list[str | None] = [each for each in open_ if each not in traces]
    if unread or not source_ids:
        why = await _why_unread(session, integration)
        # Nobody has that address: then the answer is nobody's.
        more += [ContactRow(each, "absent", why, None, None) for each in unread or [None]]
    return sorted([*rows, *more], key=lambda row: row.source_id or "")


def _of_trace(trace: Trace) -> ContactRow:
    if trace.operation is None:
        return ContactRow(trace.source_id, "absent", Absent.LEFT_OUT, None, None)
    # A rejected version was told of with its reason; without that, only the word is left.
    status, reason = _TOLD.get(trace.operation, ("rejected", None))
    return ContactRow(trace.source_id, status, reason, trace.run_no, trace.at)


async def _why_unread(session: AsyncSession, integration: Integration) -> str:
    """Return why a contact that nobody has heard of may not have been read."""
    if integration.error_reason == Trouble.PLAN_NEEDED:
        return Trouble.PLAN_NEEDED
    if integration.state == "paused":
        return Park.PAUSED
    if integration.state == "error" and integration.error_reason is not None:
        return integration.error_reason
    last: UUID = integration.integration_id
    run = (await store.find_last(session, [last])).get(last)
    if run is None or integration.state == "draft":
        return Absent.NOT_SYNCED_YET
    is_first = run.mode == "full" and run_state(run) is RunState.READING
    return Absent.NOT_SYNCED_YET if is_first else Absent.NOT_READ
