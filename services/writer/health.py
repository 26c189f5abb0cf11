"""How a destination and its integrations are, as far as writing shows it.

A failing destination is blocked for everybody: 10 s, doubling to 15 min with jitter, or the time
that the provider asked for, at most a day (PROTOCOL.md 7). Refused credentials are counted by the
connection; after three checks it needs a person. A misconfigured integration is put into error.
Whoever must hear of it is told through the outbox, in the same transaction.
"""

from typing import Protocol
from uuid import UUID

from libs.common import ids
from libs.common.backoff import ASKED_MAX_S, SYSTEM_UNIFORM, Uniform
from libs.common.clock import Clock
from libs.common.events import IntegrationChanged, IntegrationKind, Topic
from libs.common.postgres import Transaction, Transactions, transact
from libs.common.reasons import Park
from services.writer import store
from services.writer.account import Account
from services.writer.calls import Stop
from services.writer.conclude import Changes, NotSent, Result
from services.writer.look_up import Known
from services.writer.values import ContactId, IntegrationState

BLOCK_FIRST_S = 10.0
BLOCK_MOST_S = 900.0
DOUBLINGS_MAX = 7  # 10 s doubled seven times is past 15 min.
NEEDS_REAUTH = "needs_reauth"


class TurnLike(Protocol):
    """What is read of a turn here."""

    account: Account
    known: Known
    stop: Stop | None
    has_answered: bool
    misconfigured: dict[UUID, str]
    changes: Changes


def block_s(attempts: int, asked_s: float | None, uniform: Uniform) -> float:
    """Return how long to leave a destination alone after `attempts` failures in a row."""
    most = min(BLOCK_MOST_S, BLOCK_FIRST_S * 2.0 ** min(attempts, DOUBLINGS_MAX))
    if asked_s is not None:
        # What the provider asks for, and a little, so that not everybody returns at once.
        return min(max(asked_s, 0.0), ASKED_MAX_S) + uniform(0.0, min(1.0, most))
    return uniform(most / 2, most)


class Blocks:
    """Stores and tells what a turn found out about the health of its destination."""

    def __init__(
        self, sessions: Transactions, clock: Clock, *, uniform: Uniform = SYSTEM_UNIFORM
    ) -> None:
        self._sessions = sessions
        self._clock = clock
        self._uniform = uniform

    async def rename(
        self, turn: TurnLike, results: dict[ContactId, Result]
    ) -> dict[ContactId, Result]:
        """Count refused credentials; contacts wait as the connection's state then says."""
        stop = turn.stop
        if stop is None or stop.reason != Park.NEEDS_REAUTH:
            return results
        state = await self.count_failure(turn.account, stop.code)
        reason = Park.NEEDS_REAUTH if state == NEEDS_REAUTH else Park.DESTINATION_DOWN
        turn.stop = Stop(reason, stop.seconds, stop.code)
        return {
            contact: NotSent(reason) if isinstance(result, NotSent) else result
            for contact, result in results.items()
        }

    async def count_failure(self, account: Account, code: str) -> str:
        """Count refused credentials; return the connection's state after it."""

        async def work(session: Transaction) -> str:
            before = await store.connection_of(session, account.connection)
            state = await store.count_check(
                session, connection=account.connection, has_failed=True, reason=code
            )
            if state == NEEDS_REAUTH and before is not None and before.state != state:
                for integration, _ in await store.integrations_of(session, account.connection):
                    event = self._changed(
                        IntegrationKind.NEEDS_REAUTH, account, integration, NEEDS_REAUTH
                    )
                    await store.tell(
                        session, Topic.INTEGRATIONS_CHANGED, [(str(integration), event)]
                    )
            return state

        return await transact(self._sessions, work)

    async def store(self, session: Transaction, turn: TurnLike) -> None:
        """Store a block or its end, good credentials, and integrations that cannot go on."""
        account, known = turn.account, turn.known
        if turn.stop is not None and turn.stop.reason != Park.NEEDS_REAUTH:
            await store.block(
                session,
                connection=account.connection,
                reason=turn.stop.reason,
                seconds=block_s(known.attempts, turn.stop.seconds, self._uniform),
            )
        elif turn.has_answered:
            if known.block is not None:
                await store.unblock(session, connection=account.connection)
            if known.connection is not None and known.connection.failed_checks:
                await store.count_check(
                    session, connection=account.connection, has_failed=False, reason=""
                )
        for integration in self._recovered(turn):
            if await store.report_integration(session, integration=integration, reason=None):
                event = self._changed(IntegrationKind.RECOVERED, account, integration, "")
                await store.tell(session, Topic.INTEGRATIONS_CHANGED, [(str(integration), event)])
        for integration, code in turn.misconfigured.items():
            await self.misconfigured(session, account, integration, code)

    async def misconfigured(
        self, session: Transaction, account: Account, integration: UUID, code: str
    ) -> None:
        """Put an integration into error, and tell of it once."""
        if await store.report_integration(session, integration=integration, reason=code):
            event = self._changed(IntegrationKind.ERROR, account, integration, code)
            await store.tell(session, Topic.INTEGRATIONS_CHANGED, [(str(integration), event)])

    async def fields_made(self, session: Transaction, account: Account, integration: UUID) -> None:
        """End the error of an integration whose fields could not be made before."""
        if await store.recover_fields(session, integration=integration):
            event = self._changed(IntegrationKind.RECOVERED, account, integration, "")
            await store.tell(session, Topic.INTEGRATIONS_CHANGED, [(str(integration), event)])

    def _recovered(self, turn: TurnLike) -> set[UUID]:
        """Return integrations in error that a probe has just written for."""
        written = {each.integration for own in turn.changes.posts.values() for each in own}
        return {
            each
            for each in written
            if turn.known.view.integrations[each].state is IntegrationState.ERROR
        }

    def _changed(
        self, kind: IntegrationKind, account: Account, integration: UUID, reason: str
    ) -> IntegrationChanged:
        at = self._clock.now().isoformat(timespec="seconds").replace("+00:00", "Z")
        return IntegrationChanged(
            id=ids.computed("health", kind, integration, reason, at),
            kind=kind,
            workspace=account.workspace,
            integration=integration,
            connection=account.connection,
            reason=reason,
            at=at,
        )
