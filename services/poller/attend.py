"""Look after the integrations that are due: claim them, keep their leases, read them side by side.

Promises: never more than the bound at once; the longest due come first, in turn between
workspaces, and a long run delays nobody but itself; leases are renewed together every quarter of
their time, and a run whose lease is gone is cancelled; whatever the source answers moves the
schedule, never stops the process. A bug ends the process: its leases lapse, and others go on.
"""

import asyncio
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from libs.common import logs
from libs.common.backoff import SYSTEM_UNIFORM, Uniform
from libs.common.clock import Clock
from libs.common.errors import ConfigurationError, LeaseLostError, TransientError
from libs.common.events import IntegrationKind
from libs.common.failpoints import Reached, nothing
from libs.common.postgres import Transaction, Transactions, transact, transact_alone
from libs.connectors.contract import Source
from services.poller import setbacks, store
from services.poller.plan import Assignment, run_id
from services.poller.poll import RUNS, Publish, Run, RunStoppedError, Stop
from services.poller.run_store import DatabaseRunStore, event_of
from services.poller.setbacks import Setback
from services.poller.store import LEASE_S, Lease

CLAIM_MAX = 50  # PROTOCOL.md 4.1
# A page under way, or a wait for a call's slot, may end; then the lease is given back.
ENDING_S = 15.0
CANCEL_S = 5.0  # What is cancelled ends at once; if not, nobody waits for it.

# A look takes milliseconds; a database that is away is waited for half a minute (`transact`).
STALLED_S = 120.0

log = logs.get(__name__)


class OpenSource(Protocol):
    """Opens the source that an integration reads."""

    async def __call__(self, assignment: Assignment, /) -> Source:
        """Return it without a call to it; raise NeedsReauthError without credentials."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of one poller."""

    in_flight_max: int = CLAIM_MAX
    claim_every_s: float = 1.0
    lease_s: float = LEASE_S  # Renewed every quarter of it.
    ending_s: float = ENDING_S
    # CC4: of one run of changes the newest so many; None: what the provider's facts say, 0: all.
    bulk_fetch_cap: int | None = None


class Attendant:
    """One poller process's work on one provider's integrations."""

    def __init__(
        self,
        provider: str,
        *,
        owner: UUID,
        sessions: Transactions,
        open_source: OpenSource,
        publish: Publish,
        clock: Clock,
        bounds: Bounds | None = None,
        uniform: Uniform = SYSTEM_UNIFORM,
        reached: Reached = nothing,
    ) -> None:
        self._provider = provider
        self._owner = owner
        self._sessions = sessions
        self._open_source = open_source
        self._publish = publish
        self._clock = clock
        self._bounds = bounds or Bounds()
        self._uniform = uniform
        self._reached = reached
        self._store = DatabaseRunStore(sessions)
        self._running: dict[Lease, asyncio.Task[None]] = {}
        self._is_stopping = False
        self._has_ended = False
        self._looked_at: float | None = None

    def is_alive(self) -> bool:
        """Return whether it looked for due integrations lately, or has not begun."""
        looked_at = self._looked_at
        return looked_at is None or self._clock.monotonic() - looked_at < STALLED_S

    def is_ready(self) -> bool:
        """Return whether the database has answered, and no end was asked for."""
        return self._looked_at is not None and not self._is_stopping

    async def run(self, stop: asyncio.Event) -> None:
        """Read what is due until stopped, then give back every lease."""
        renewing = asyncio.create_task(self._renew_until_ended())
        try:
            while not stop.is_set():
                started = await self.claim()
                self._raise_bugs()
                if not started:
                    await self._wait(stop, renewing)
        finally:
            self._is_stopping = True
            await self._end_runs()
            self._has_ended = True
            renewing.cancel()
            await asyncio.wait({renewing}, timeout=CANCEL_S)

    async def claim(self) -> int:
        """Start a run for each integration that is due and finds room; return how many."""
        room = self._bounds.in_flight_max - len(self._running)
        if room <= 0:
            self._looked_at = self._clock.monotonic()
            return 0
        claimed = await store.claim_due(
            self._sessions,
            provider=self._provider,
            owner=self._owner,
            limit=min(room, CLAIM_MAX),
            lease_s=self._bounds.lease_s,
        )
        self._looked_at = self._clock.monotonic()
        for assignment in claimed:
            lease = Lease(assignment.integration, assignment.fencing)
            self._running[lease] = asyncio.create_task(self.attend(assignment))
        return len(claimed)

    async def attend(self, assignment: Assignment) -> None:
        """Do one run and let the schedule know what became of it."""
        source: Source
        run: Run | None = None
        try:
            source = await self._open_source(assignment)
            run = Run(
                assignment,
                source,
                self._store,
                self._publish,
                self._clock,
                newest_max=self._newest_max(source),
                is_stopping=lambda: self._is_stopping,
                reached=self._reached,
            )
            await run.poll()
        except RunStoppedError as stopped:
            await self._stopped(assignment, stopped.reason)
        except LeaseLostError:
            self._log(assignment, "run_lost")
        except (TransientError, ConfigurationError) as error:
            await self._set_back(assignment, run, error)

    def _newest_max(self, source: Source) -> int | None:
        cap = self._bounds.bulk_fetch_cap
        return source.facts.bulk_fetch_cap if cap is None else cap or None

    async def _stopped(self, assignment: Assignment, reason: Stop) -> None:
        """Give the lease back: whoever may go on finds the integration due at once."""

        async def work(session: Transaction) -> None:
            # Somebody else's run by now must keep its position.
            await store.hold_lease(session, _lease(assignment))
            if reason is Stop.CANCELLED:
                await store.forget_sweep(session, integration=assignment.integration)
            await store.put_off(session, lease=_lease(assignment), delay_s=0, counts=False)

        try:
            await transact(self._sessions, work)
        except LeaseLostError:
            self._log(assignment, "run_lost")
        else:
            self._log(assignment, "run_stopped", reason=reason.value)

    async def _set_back(
        self, assignment: Assignment, run: Run | None, error: TransientError | ConfigurationError
    ) -> None:
        setback = setbacks.judge(
            error,
            failures=assignment.failures,
            interval_s=assignment.interval_s,
            share=self._uniform(0.0, 1.0),
        )
        log.warning(
            "run_set_back",
            integration=str(assignment.integration),
            code=setback.code,
            retry_after_s=setback.retry_after_s,
            exc_info=error,
        )

        async def work(session: Transaction) -> None:
            # Somebody else's integration by now: nothing that was found may be said of it.
            await store.hold_lease(session, _lease(assignment))
            await _note(session, assignment, run, setback)

        try:
            await transact(self._sessions, work)
        except LeaseLostError:
            self._log(assignment, "run_lost")

    async def _renew_until_ended(self) -> None:
        # Not for ever: a cancellation that meets the end of a wait for a connection gets lost.
        while not self._has_ended:
            await asyncio.sleep(self._bounds.lease_s / 4)
            await self.renew()

    async def renew(self) -> None:
        """Prolong the leases of all that runs; cancel what is somebody else's by now."""
        leases = list(self._running)
        if not leases:
            return

        async def work(session: Transaction) -> set[UUID]:
            return await store.renew(
                session, owner=self._owner, leases=leases, lease_s=self._bounds.lease_s
            )

        ours = await transact_alone(self._sessions, work)
        for lease in leases:
            if lease.integration not in ours and lease in self._running:
                self._running[lease].cancel()

    def _raise_bugs(self) -> None:
        """Forget the runs that have ended; one that ended by a bug ends the process."""
        for lease, task in list(self._running.items()):
            if task.done():
                del self._running[lease]
                if not task.cancelled():
                    task.result()

    async def _wait(self, stop: asyncio.Event, renewing: asyncio.Task[None]) -> None:
        """Wait for a signal, the next look, or room: whichever comes first."""
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait(
                {stopping, renewing, *self._running.values()},
                timeout=self._bounds.claim_every_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            stopping.cancel()
        if renewing.done():
            renewing.result()

    async def _end_runs(self) -> None:
        """Let runs stop at their next page, within a bound, and give every lease back."""
        tasks = set(self._running.values())
        if tasks:
            await asyncio.wait(tasks, timeout=self._bounds.ending_s)
        held = [lease for lease, task in self._running.items() if not task.done()]
        for lease in held:
            self._running[lease].cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CANCEL_S)

        async def work(session: Transaction) -> None:
            for lease in held:
                await store.put_off(session, lease=lease, delay_s=0, counts=False)

        await transact(self._sessions, work)
        self._raise_bugs()

    def _log(self, assignment: Assignment, event: str, **words: str) -> None:
        RUNS.labels(self._provider, assignment.wanted_mode.value, event).inc()
        log.info(event, integration=str(assignment.integration), **words)


def _lease(assignment: Assignment) -> Lease:
    return Lease(assignment.integration, assignment.fencing)


async def _note(
    session: Transaction, assignment: Assignment, run: Run | None, setback: Setback
) -> None:
    """Store what went wrong, tell who must hear of it, and come again later."""
    id_ = run_id(assignment, run.sweeping) if run else None
    await store.note_trouble(
        session,
        integration=assignment.integration,
        run=id_,
        code=setback.code,
        ends_run=setback.ends_run,
    )
    if setback.forgets_position:
        await store.forget_position(session, integration=assignment.integration)
    if setback.failed_check is not None:
        await _count_failed_check(session, assignment, setback.failed_check, id_)
    if setback.report is not None and await store.report_integration(
        session, integration=assignment.integration, reason=setback.report
    ):
        event = await event_of(
            session, assignment, IntegrationKind.ERROR, reason=setback.report, run=id_
        )
        await store.tell(session, event)
    await store.put_off(
        session,
        lease=_lease(assignment),
        delay_s=setback.retry_after_s,
        counts=setback.counts,
    )


async def _count_failed_check(
    session: Transaction, assignment: Assignment, reason: str, run: UUID | None
) -> None:
    """Count refused credentials; the third time in a row says so to the connection's people."""
    connection = assignment.source.connection
    state = await store.count_check(session, connection=connection, failed=True, reason=reason)
    if state == setbacks.NEEDS_REAUTH:
        event = await event_of(
            session, assignment, IntegrationKind.NEEDS_REAUTH, reason=reason, run=run
        )
        await store.tell(session, event)
