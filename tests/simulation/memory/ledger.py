"""`libs.common.ledger` in memory: the rules of `migrations/sql/03_ledger.sql`, less its outbox."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from itertools import islice
from uuid import UUID

from libs.common.ledger import Posting
from libs.common.postgres import Transaction
from tests.simulation.memory.database import Charge, Hold, Period, change, database_of, tables_of

DEFAULT_LIMIT = 100_000


class LedgerError(Exception):
    """What the database raises: units that are not there."""

    def __init__(self) -> None:
        super().__init__("there are not as many open units")


async def hold(session: Transaction, *, workspace: UUID, hold_id: UUID, wanted: int) -> int:
    tables, month = tables_of(session), database_of(session).months
    if wanted <= 0:
        raise LedgerError
    if hold_id in tables.holds:
        return tables.holds[hold_id].open
    period = tables.periods.get((workspace, month))
    if period is None:
        period = Period(limit=tables.limits.get(workspace, DEFAULT_LIMIT))
    granted = max(0, min(wanted, period.limit - period.posted - period.held))
    tables.periods[workspace, month] = change(period, held=period.held + granted)
    if granted:
        tables.holds[hold_id] = Hold(workspace=workspace, period=month, amount=granted)
    return granted


async def post(session: Transaction, *, hold_id: UUID, postings: Sequence[Posting]) -> int:
    tables = tables_of(session)
    found = tables.holds.get(hold_id)
    if found is None:
        raise LedgerError
    new = absorbed = 0
    for posting in postings:
        key = (found.workspace, found.period, posting.effect_key)
        charged = tables.postings.get(key)
        if charged is None:
            tables.postings[key] = Charge(
                hold=hold_id,
                integration=posting.integration,
                source_id=posting.source_id,
                run=posting.run,
                operation=posting.operation,
            )
            new += 1
        elif charged.hold != hold_id and (hold_id, posting.effect_key) not in tables.absorbed:
            tables.absorbed[hold_id, posting.effect_key] = None
            absorbed += 1
    _take(session, hold_id, posted=new, released=absorbed)
    return new


async def post_columns(
    session: Transaction,
    *,
    hold_id: UUID,
    effect_keys: Iterable[bytes],
    source_ids: Iterable[str],
    in_common: Sequence[tuple[UUID, UUID, str, int]],
) -> int:
    of_each = zip(effect_keys, source_ids, strict=True)
    postings = [
        Posting(key, integration, source_id, run, operation)
        for integration, run, operation, count in in_common
        for key, source_id in islice(of_each, count)
    ]
    return await post(session, hold_id=hold_id, postings=postings)


async def release(session: Transaction, *, hold_id: UUID, units: int) -> None:
    if units:
        _take(session, hold_id, posted=0, released=units)


def _take(session: Transaction, hold_id: UUID, *, posted: int, released: int) -> None:
    tables = tables_of(session)
    found = tables.holds.get(hold_id)
    if found is None or found.open < posted + released or min(posted, released) < 0:
        raise LedgerError
    tables.holds[hold_id] = change(
        found, posted=found.posted + posted, released=found.released + released
    )
    key = (found.workspace, found.period)
    period = tables.periods[key]
    tables.periods[key] = change(
        period, posted=period.posted + posted, held=period.held - posted - released
    )


async def is_open(session: Transaction, *, workspace: UUID) -> bool:
    tables, month = tables_of(session), database_of(session).months
    period = tables.periods.get((workspace, month))
    if period is None:
        return tables.limits.get(workspace, DEFAULT_LIMIT) > 0
    return period.posted + period.held < period.limit


async def use_per_day(session: Transaction, *, workspace: UUID) -> Mapping[date, int]:
    # A history is some minutes long: all of it was written today.
    used = sum(1 for owner, _, _ in tables_of(session).postings if owner == workspace)
    return {database_of(session).now().date(): used} if used else {}


async def set_limit(session: Transaction, *, workspace: UUID, limit: int) -> None:
    """Do what the operator's `ledger.set_limit` does."""
    tables, month = tables_of(session), database_of(session).months
    tables.limits[workspace] = limit
    period = tables.periods.get((workspace, month), Period(limit=limit))
    tables.periods[workspace, month] = change(period, limit=limit)
