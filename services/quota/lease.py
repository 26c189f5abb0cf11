"""One accountant at a time; others stand by, ready to go on within seconds.

Promises: a process works as the accountant only while the database says so, in a term with a
number; it stops by its own monotonic clock before the lease can have run out. One that was killed,
stopped or cut off is replaced when its lease has run out, one that ends in order at once. What one
does that wakes up after its term changes nothing: what it finds is stored with its term's number,
and everything else may be done twice. Who stands by is ready: it has nothing to serve but this.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from libs.common import logs, metrics
from libs.common.clock import Clock
from libs.common.postgres import FAILURES, Transaction, Transactions, is_transient, transact_alone
from services.quota import store

MARGIN_S = 1.0  # We stop this much before the lease ends: clocks drift.
LEAVE_S = 5.0  # What a term was doing may end by itself within this.
READY_S = 30.0  # Since the database answered: longer than its crash-restart takes.

ACTIVE = metrics.gauge("accountant_active_state", "1: this process is the accountant.")
TERMS = metrics.counter("accountant_terms_total", "Times this process became the accountant.")

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Term:
    """The time for which this process is the accountant; `over` is set when it ends."""

    token: int
    over: asyncio.Event


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the database said, and from when on this process asked."""

    token: int | None
    asked_at: float


Work = Callable[[Term], Coroutine[object, object, None]]


class Accountant:
    """Takes turns with the others at being the accountant."""

    def __init__(
        self,
        transactions: Transactions,
        clock: Clock,
        owner: UUID,
        *,
        lease_s: float = 6.0,
        ask_every_s: float = 1.0,
    ) -> None:
        self._transactions = transactions
        self._clock = clock
        self._owner = owner
        self._lease_s = lease_s
        self._ask_every_s = ask_every_s
        self._ends_at = 0.0
        self._heard_at = -READY_S
        # One question at a time: to a server that does not answer they would only pile up.
        self._asking: asyncio.Task[_Answer] | None = None

    def is_ready(self) -> bool:
        """Return whether the database answered lately, whoever is the accountant."""
        return self._clock.monotonic() - self._heard_at < READY_S

    async def run(self, stop: asyncio.Event, work: Work) -> None:
        """Do `work` in every term of this process until told to stop; outages are waited for."""
        try:
            while not stop.is_set():
                token = await self._ask()
                if token is None:
                    await pause(stop, self._ask_every_s)
                else:
                    await self._serve(Term(token, asyncio.Event()), stop, work)
        finally:
            if self._asking is not None:
                self._asking.cancel()

    async def _serve(self, term: Term, stop: asyncio.Event, work: Work) -> None:
        log.info("accountant_begun", term=term.token)
        ACTIVE.set(1)
        TERMS.inc()
        working = asyncio.create_task(work(term))
        try:
            while not (stop.is_set() or working.done()):
                await pause(stop, self._ask_every_s)
                token = await self._ask()
                if token not in {None, term.token} or self._clock.monotonic() >= self._ends_at:
                    break
        finally:
            term.over.set()
            ACTIVE.set(0)
            await _leave(working)
            log.info("accountant_ended", term=term.token)
        if stop.is_set():
            await self._let_go()

    async def _ask(self) -> int | None:
        """Become or stay the accountant; None if another is, or nobody answers in time."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._claim())
        done, _ = await asyncio.wait({self._asking}, timeout=2 * self._ask_every_s)
        if not done:
            return None
        asking, self._asking = self._asking, None
        try:
            answer = asking.result()
        except FAILURES as error:
            if not is_transient(error):
                raise
            log.warning("accountant_not_asked", reason=type(error).__name__)
            return None
        self._heard_at = self._clock.monotonic()
        ends_at = answer.asked_at + self._lease_s - MARGIN_S
        if answer.token is None or ends_at <= self._heard_at:
            return None
        self._ends_at = ends_at
        return answer.token

    async def _claim(self) -> _Answer:
        asked_at = self._clock.monotonic()
        ttl = timedelta(seconds=self._lease_s)

        async def claim(session: Transaction) -> int | None:
            return await store.claim_accounts(session, owner=self._owner, ttl=ttl)

        return _Answer(await transact_alone(self._transactions, claim, attempts_max=1), asked_at)

    async def _let_go(self) -> None:
        async def let_go(session: Transaction) -> None:
            await store.let_accounts_go(session, owner=self._owner)

        try:
            async with asyncio.timeout(LEAVE_S):
                await transact_alone(self._transactions, let_go, attempts_max=1)
        except FAILURES as error:  # Among them TimeoutError.
            log.warning(
                "accounts_not_let_go", reason=type(error).__name__
            )  # Then the lease runs out.


async def _leave(working: asyncio.Task[None]) -> None:
    """Let what a term was doing end; raise what it failed with."""
    await asyncio.wait({working}, timeout=LEAVE_S)
    if not working.done():
        working.cancel()
        await asyncio.wait({working}, timeout=LEAVE_S)
    if working.done() and not working.cancelled():
        working.result()


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait so long, or until told to stop."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
