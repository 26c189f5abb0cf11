"""ledger.postings: every charged task, newest first within a month."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which tasks of a month are asked for: those that all of this is true of.

    `since` and `until` bound when they were written, `until` not included.
    """

    integration: UUID | None = None
    run: UUID | None = None
    contact: str | None = None
    operation: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page ends: the last task shown."""

    at: datetime
    effect_key: bytes


@dataclass(frozen=True, slots=True)
class Line:
    """One charged task; `integration` is its name, None if it is not there any more."""

    at: datetime
    effect_key: bytes
    contact: str
    integration_id: UUID
    integration: str | None
    run_id: UUID
    operation: str
    period: date

    @property
    def position(self) -> Position:
        """Return where a page that ends with this line ends."""
        return Position(self.at, self.effect_key)


# In the order of the fields of `Line`. A condition that is not asked for is left out, not compared
# with null: the planner must see that a month is read in the order of its index.
_SELECT = (
    "select p.posted_at, p.effect_key, p.source_id, p.integration_id, i.name, p.run_id,"
    " p.operation, p.period from ledger.postings p"
    " left join config.integrations i on i.integration_id = p.integration_id"
    " where p.workspace_id = :workspace and p.period = :period"
)
_CONDITIONS = {
    "integration": " and p.integration_id = :integration",
    "run": " and p.run_id = :run",
    "contact": " and p.source_id = :contact",
    "operation": " and p.operation = :operation",
    "since": " and p.posted_at >= :since",
    "until": " and p.posted_at < :until",
}
# The second comparison alone decides; the first is the one that the index knows.
_AFTER = " and p.posted_at <= :at and (p.posted_at, p.effect_key) < (:at, :key)"
_ORDER = " order by p.posted_at desc, p.effect_key desc limit :size"


async def find_page(
    session: AsyncSession,
    workspace: UUID,
    period: date,
    wanted: Wanted,
    *,
    after: Position | None,
    size: int,
) -> Sequence[Line]:
    """Return a month's charged tasks behind a position, newest first."""
    values = {name: getattr(wanted, name) for name in _CONDITIONS}
    asked = {name: value for name, value in values.items() if value is not None}
    statement = _SELECT + "".join(_CONDITIONS[name] for name in asked)
    if after is not None:
        statement += _AFTER
        asked |= {"at": after.at, "key": after.effect_key}
    found = await session.execute(
        text(statement + _ORDER),
        {"workspace": workspace, "period": period, "size": size, **asked},
    )
    return [Line(*row) for row in found]


async def now(session: AsyncSession) -> datetime:
    """Return the moment by the clock that postings are stamped with."""
    moment = await session.scalar(text("select clock_timestamp()"))
    assert isinstance(moment, datetime)
    return moment
