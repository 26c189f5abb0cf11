"""What a run keeps, in PostgreSQL: each call is one transaction under the integration's lease.

The statements are in `services.poller.store`; here is only which of them belong together. Every
transaction may be run again as a whole (RELIABILITY R10): all of it is computed from the arguments.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TypeVar
from uuid import UUID

from libs.common import ids
from libs.common.events import IntegrationChanged, IntegrationKind
from libs.common.postgres import Transaction, Transactions, look, transact
from libs.connectors.automatic import WantedField
from services.poller import store
from services.poller.plan import Assignment, Sweeping, run_id
from services.poller.poll import Ending, Stop
from services.poller.store import Lease, RunEnd, Withheld

T = TypeVar("T")


class DatabaseRunStore:
    """`services.poller.poll.RunStore` over PostgreSQL."""

    def __init__(self, sessions: Transactions) -> None:
        self._sessions = sessions

    async def begin(self, assignment: Assignment, sweeping: Sweeping) -> Sweeping:
        """Store a new run, the unfinished ones before it abandoned; return it completed."""
        return await store.begin_run(self._sessions, assignment, sweeping)

    async def resume(self, assignment: Assignment, sweeping: Sweeping) -> bool:
        """Give a run under way our token; False if it has ended, and a new one must begin."""

        async def work(session: Transaction) -> bool:
            run = run_id(assignment, sweeping)
            return await store.resume_run(session, run=run, fencing=assignment.fencing)

        return await self._leased(assignment, work)

    async def advance(
        self,
        assignment: Assignment,
        sweeping: Sweeping,
        *,
        present: Sequence[str],
        merged: Sequence[str],
    ) -> Stop | None:
        """Store how far all is acknowledged, and who is on the pages that come next."""
        progress = await store.advance(
            self._sessions,
            _lease(assignment),
            run=run_id(assignment, sweeping),
            sweeping=sweeping,
            present=present,
            merged=merged,
        )
        if not progress.is_reading:
            return Stop.CANCELLED
        if not progress.is_active:
            return Stop.INACTIVE
        return None if progress.is_open else Stop.QUOTA

    async def known(self, assignment: Assignment, source_ids: Sequence[str]) -> set[str]:
        """Return which of these are members."""
        return await store.known_members(
            self._sessions, integration=assignment.integration, ids=source_ids
        )

    async def members(self, assignment: Assignment) -> set[str]:
        """Return all members."""
        return await store.all_members(self._sessions, integration=assignment.integration)

    async def newcomers(self, assignment: Assignment) -> set[str]:
        """Return the members whose page may never have been published."""
        settled = assignment.roll.settled_run_no if assignment.roll else 0
        return await store.newcomers(
            self._sessions, integration=assignment.integration, settled_run_no=settled
        )

    async def unmet(self, assignment: Assignment, sweeping: Sweeping) -> set[str]:
        """Return the members that this full run did not meet."""
        return await store.unmet(
            self._sessions, integration=assignment.integration, run_no=sweeping.run_no
        )

    async def withheld(self, assignment: Assignment) -> Withheld:
        """Return the deletions that wait for a person's word, and those that have it."""

        async def work(session: Transaction) -> Withheld:
            return await store.withheld(session, integration=assignment.integration)

        return await look(self._sessions, work)

    async def expect_back(
        self, assignment: Assignment, sweeping: Sweeping, ids: Collection[str]
    ) -> None:
        """Have those who are told of as gone read again by the next run, should they be back."""

        async def work(session: Transaction) -> None:
            await store.expect_back(
                session, integration=assignment.integration, run_no=sweeping.run_no, ids=ids
            )

        await self._leased(assignment, work)

    async def want_fields(self, assignment: Assignment, fields: Sequence[WantedField]) -> None:
        """Have fields made at the destination, and mapped."""

        async def work(session: Transaction) -> None:
            await store.want_fields(session, integration=assignment.integration, fields=fields)

        await self._leased(assignment, work)

    async def leave_out(
        self,
        assignment: Assignment,
        sweeping: Sweeping,
        *,
        versions: Mapping[str, int],
        read: Collection[str],
    ) -> None:
        """Store who was left out of a run, and who of those before is read by it."""

        async def work(session: Transaction) -> None:
            integration = assignment.integration
            await store.forget_left_out(session, integration=integration, ids=read)
            run = run_id(assignment, sweeping)
            await store.leave_out(session, integration=integration, run=run, versions=versions)

        await self._leased(assignment, work)

    async def replays(self, assignment: Assignment, limit: int) -> list[str]:
        """Return who was left out and is wanted by a person now."""

        async def work(session: Transaction) -> list[str]:
            return await store.replays(session, integration=assignment.integration, limit=limit)

        return await look(self._sessions, work)

    async def forget_left_out(self, assignment: Assignment, ids: Collection[str]) -> None:
        """Forget that contacts were left out: they were published since."""

        async def work(session: Transaction) -> None:
            await store.forget_left_out(session, integration=assignment.integration, ids=ids)

        await self._leased(assignment, work)

    async def check_lease(self, assignment: Assignment) -> None:
        """Raise LeaseLostError if the integration is not ours any more."""
        await store.check_lease(self._sessions, _lease(assignment))

    async def end(self, assignment: Assignment, ending: Ending) -> None:
        """Store the end of a run and give the lease back."""
        end = RunEnd(
            sweeping=ending.sweeping,
            roll=ending.roll,
            total_after=ending.total_after,
            complete=ending.complete,
            satisfies_wish=ending.satisfies_wish,
        )
        if ending.leavers is None and not _was_troubled(assignment):
            await store.end_run(self._sessions, assignment, end)
            return

        async def work(session: Transaction) -> None:
            await _end_members(session, assignment, ending)
            await store.end_run_within(session, assignment, end)
            await _end_trouble(session, assignment, ending)

        await self._leased(assignment, work)

    async def _leased(
        self, assignment: Assignment, work: Callable[[Transaction], Awaitable[T]]
    ) -> T:
        async def leased(session: Transaction) -> T:
            await store.hold_lease(session, _lease(assignment))
            return await work(session)

        return await transact(self._sessions, leased)


def _lease(assignment: Assignment) -> Lease:
    return Lease(assignment.integration, assignment.fencing)


def _was_troubled(assignment: Assignment) -> bool:
    """Return whether something was wrong; only who holds the lease counts failures."""
    return assignment.failures > 0 or assignment.reported_reason is not None


async def _end_members(session: Transaction, assignment: Assignment, ending: Ending) -> None:
    if ending.leavers is None:
        return
    run = run_id(assignment, ending.sweeping)
    await store.remove_members(
        session, integration=assignment.integration, ids=ending.leavers.published
    )
    await store.replace_withheld(
        session,
        integration=assignment.integration,
        run=run,
        ids=ending.leavers.withheld,
        asks_anew=ending.leavers.asks_anew,
        ends_confirmed=ending.complete,
    )
    if ending.leavers.asks_anew:
        question = IntegrationKind.NEEDS_CONFIRMATION
        await store.tell(
            session, await event_of(session, assignment, question, reason=question.value, run=run)
        )


async def _end_trouble(session: Transaction, assignment: Assignment, ending: Ending) -> None:
    """Tell that what was wrong is over: the run came to its end."""
    if assignment.failures:
        await store.count_check(
            session, connection=assignment.source.connection, failed=False, reason=None
        )
    if assignment.reported_reason is None:
        return
    if await store.report_integration(session, integration=assignment.integration, reason=None):
        event = await event_of(
            session,
            assignment,
            IntegrationKind.RECOVERED,
            reason=assignment.reported_reason,
            run=run_id(assignment, ending.sweeping),
        )
        await store.tell(session, event)


async def event_of(
    session: Transaction,
    assignment: Assignment,
    kind: IntegrationKind,
    *,
    reason: str,
    run: UUID | None,
) -> IntegrationChanged:
    """Return what people are told; its id is computed from its cause: a claim and what it found."""
    return IntegrationChanged(
        id=ids.computed(kind, assignment.integration, assignment.fencing, reason),
        kind=kind,
        workspace=assignment.workspace,
        integration=assignment.integration,
        connection=assignment.source.connection,
        run=run,
        reason=reason,
        at=await store.database_now(session),
    )
