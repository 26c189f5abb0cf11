"""The accountant's SQL. Its tables are the ledger's own, written by functions only."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


async def make_partitions(session: AsyncSession, *, months: int) -> int:
    """Make the postings' partitions of this month and the next `months`; return how many."""
    made = await session.scalar(text("select ledger.make_partitions(:months)"), {"months": months})
    return int(made or 0)


async def months_ahead(session: AsyncSession) -> int:
    """Return for how many months after the present one a partition is there."""
    count = await session.scalar(
        text(
            "select count(*) from generate_series(1, 12) n where to_regclass(format("
            "'ledger.postings_%s', to_char(ledger.current_period() + make_interval(months => n), "
            "'YYYY_MM'))) is not null"
        )
    )
    return int(count or 0)
