"""Holds what the ledger says against what it stands on, and tells of drift; it repairs nothing.

Promises: a look locks nothing and reads one snapshot. Writers change counters, postings, holds,
units and links in one transaction, so a difference between these is proven by one look. What was
told of travels over Kafka: that difference must stand in two looks, and what may be in flight is
left out (`ledger.look_at_runs`). Workspaces take turns, and after each the accountant rests for
some times as long as the look took. A drift is told once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common import ids, logs, metrics
from libs.common.clock import Clock
from libs.common.database import SessionMaker
from libs.common.errors import LeaseLostError
from libs.common.ids import Prefix
from libs.common.postgres import transact
from libs.common.reconciliation import MEANINGS, REMEDIES, Check, drift_of
from services.quota import store
from services.quota.lease import Term, pause
from services.quota.store import Aged, Compared, Month

AGED_AFTER = timedelta(hours=1)  # As the writer's orphans (PROTOCOL.md 5).
MONTHS_A_ROUND = 500
RESTS = 4  # Times as long as the look took: a fifth of one connection's time, whatever there is.
ASK_AGAIN_S = 30.0

LOOK_SECONDS = metrics.histogram("ledger_reconcile_duration_seconds", "How long a look took.")
LOOKS = metrics.counter("ledger_reconciliations_total", "Looks, by what they found.", ["found"])

log = logs.get(__name__)


# How many looks in a row must find the same before it is told.
LOOKS_WANTED: Mapping[Check, int] = {**dict.fromkeys(Check, 1), Check.SETTLED: 2}


@dataclass(frozen=True, slots=True)
class Drift:
    """A difference: `amount` is by how much what is kept exceeds what was found."""

    check: Check
    amount: int


@dataclass(frozen=True, slots=True)
class Report:
    """What one look at a workspace's month found."""

    month: Month
    compared: Sequence[Compared]
    aged: Aged

    @property
    def drifts(self) -> list[Drift]:
        """Return what differs; where differences cancel each other out, how many there are."""
        return [
            Drift(Check(each.check), drift_of(each.kept, each.found, each.odd))
            for each in self.compared
            if each.odd
        ]

    def document(self) -> dict[str, Any]:
        """Return it for machines: as it is kept, and shown by the API."""
        since = self.aged.since
        return {
            "checks": [
                {
                    "check": each.check,
                    "kept": each.kept,
                    "found": each.found,
                    "odd": each.odd,
                    "examples": list(each.examples),
                }
                for each in self.compared
            ],
            "aged_units": self.aged.units,
            "aged_since": since.isoformat() if since is not None else None,
        }

    def words(self) -> str:
        """Return it for people."""
        workspace = ids.show(Prefix.WORKSPACE, self.month.workspace)
        amounts = {drift.check: drift.amount for drift in self.drifts}
        verdict = f"drift in {', '.join(sorted(amounts))}" if amounts else "no drift"
        lines = [f"{workspace}, {self.month.period:%Y-%m}: {verdict}"]
        for each in self.compared:
            check = Check(each.check)
            differs = f"; drift {amounts[check]:+,}" if check in amounts else ""
            lines.append(f"  {check}: {each.kept:,} kept, {each.found:,} found{differs}")
            if check in amounts:
                lines += [f"    held against each other: {MEANINGS[check]}"]
                lines += [f"    for example: {', '.join(each.examples)}"] if each.examples else []
                lines += [f"    {REMEDIES[check]}"]
        if self.aged.since is not None:
            lines.append(
                f"  open for over an hour: {self.aged.units:,} units, the oldest since "
                f"{self.aged.since:%Y-%m-%d %H:%M} UTC (no drift; the writer settles them)"
            )
        return "\n".join(lines)


async def look(sessions: SessionMaker, month: Month) -> Report:
    """Look at a workspace's month once; store and tell nothing."""

    async def work(session: AsyncSession) -> Report:
        compared = await store.look(session, month)
        return Report(month, compared, await store.aged_units(session, month, after=AGED_AFTER))

    return await transact(sessions, work)


async def reconcile(sessions: SessionMaker, term: Term, month: Month) -> Report:
    """Look at a workspace's month, keep what was found and tell of a drift that is new.

    Raises LeaseLostError if the term ended meanwhile: then another looks.
    """
    report = await look(sessions, month)
    look_id = ids.new()
    drifts = [
        {"check": drift.check, "drift": drift.amount, "looks": LOOKS_WANTED[drift.check]}
        for drift in report.drifts
    ]

    async def work(session: AsyncSession) -> int:
        return await store.keep_reconciliation(
            session,
            token=term.token,
            look_id=look_id,
            month=month,
            report=report.document(),
            drifts=drifts,
        )

    told = await transact(sessions, work)
    LOOKS.labels("drift" if drifts else "nothing").inc()
    for drift in report.drifts:
        log.error(
            "ledger_drift_found",
            workspace=str(month.workspace),
            period=str(month.period),
            check=drift.check,
            count=drift.amount,
            told=told,
        )
    return report


class Reconciliation:
    """Looks at every workspace's months in turn."""

    def __init__(
        self, sessions: SessionMaker, clock: Clock, *, every_s: float, rests: float = RESTS
    ) -> None:
        self._sessions = sessions
        self._clock = clock
        self._every = timedelta(seconds=every_s)
        self._rests = rests
        # What took too long, and from when on it is tried again: the others come first.
        self._not_before: dict[Month, float] = {}

    async def run(self, term: Term) -> None:
        """Look at what is due until the term is over."""
        while not term.over.is_set():
            for month in await self._due():
                if term.over.is_set():
                    return
                await pause(term.over, self._rests * await self._look(term, month))
            await pause(term.over, min(ASK_AGAIN_S, self._every.total_seconds()))

    async def _due(self) -> list[Month]:
        async def work(session: AsyncSession) -> list[Month]:
            return await store.due_months(session, every=self._every, limit=MONTHS_A_ROUND)

        now = self._clock.monotonic()
        self._not_before = {month: at for month, at in self._not_before.items() if at > now}
        return [
            month for month in await transact(self._sessions, work) if month not in self._not_before
        ]

    async def _look(self, term: Term, month: Month) -> float:
        """Look at a month; return how many seconds it took."""
        began = self._clock.monotonic()
        try:
            await reconcile(self._sessions, term, month)
        except LeaseLostError:
            term.over.set()
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != store.TOOK_TOO_LONG:
                raise
            log.warning("reconciliation_took_too_long", workspace=str(month.workspace))
            LOOKS.labels("too_long").inc()
            self._not_before[month] = began + self._every.total_seconds()
        took_s = self._clock.monotonic() - began
        LOOK_SECONDS.observe(took_s)
        return took_s
