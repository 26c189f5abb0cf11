"""Who may touch a destination: one owner at a time, for a time, with a token (RELIABILITY R11).

Promises: the database's clock decides whose a lease is; this process trusts its own monotonic
clock only to stop early. `Lease.check` is called before every call to the destination, and the
token is held in every transaction that writes. Who takes over a lease that lapsed must not touch
contacts whose call may still be on its way: `touchable_at` says from when it may.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from libs.common import logs, metrics
from libs.common.clock import Clock
from libs.common.errors import LeaseLostError
from libs.common.postgres import FAILURES, Transaction, Transactions, transact
from libs.connectors.contract import Gate
from services.writer import store

# A call started before the lease ran out may arrive this much later: connect and read time-outs
# of 5 and 20 s, and 5 s for the way (PROTOCOL.md 5, 11).
LATE_CALL_S = 30.0
MARGIN_S = 2.0  # We stop this much before the lease ends: clocks drift, and a call must begin.

log = logs.get(__name__)

LEASES_LOST = metrics.counter("leases_lost_total", "Destination leases found lost.", ["where"])


@dataclass(slots=True)
class Lease:
    """A destination's lease as this process holds it; times are its own monotonic clock's."""

    connection: UUID
    fencing: int
    ends_at: float
    touchable_at: float
    clock: Clock
    is_lost: bool = False

    def check(self) -> None:
        """Raise LeaseLostError unless the lease is surely still ours."""
        if self.is_lost or self.clock.monotonic() >= self.ends_at - MARGIN_S:
            self.is_lost = True
            LEASES_LOST.labels("call").inc()
            raise LeaseLostError(store.lease_name(self.connection))

    async def keep(self, session: Transaction) -> None:
        """Hold the lease in a transaction; raise LeaseLostError if somebody else has it."""
        with self.counted():
            await store.keep_lease(session, connection=self.connection, fencing=self.fencing)

    async def begin(self, session: Transaction, step: UUID) -> bool:
        """Hold the lease for a step that must be stored once; False if it is stored already."""
        with self.counted():
            return await store.begin_step(
                session, connection=self.connection, fencing=self.fencing, step=step
            )

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Remember, and count, that a statement found the lease lost."""
        try:
            yield
        except LeaseLostError:
            self.is_lost = True
            LEASES_LOST.labels("transaction").inc()
            raise

    async def until_touchable(self) -> None:
        """Wait until no call of a former owner can still be on its way."""
        wait_s = self.touchable_at - self.clock.monotonic()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        self.check()


class LeasedGate:
    """A gate that also asks the lease, before and after waiting for a slot."""

    def __init__(self, gate: Gate, lease: Lease) -> None:
        self._gate = gate
        self._lease = lease

    async def enter(self, bucket: str) -> None:
        """Wait for a slot; raise LeaseLostError if the lease ran out before or meanwhile."""
        self._lease.check()
        await self._gate.enter(bucket)
        self._lease.check()

    async def limited(self, bucket: str, retry_after_s: float) -> None:
        """Pass on that the provider refused."""
        await self._gate.limited(bucket, retry_after_s)


class Leases:
    """Takes, renews and releases the leases of this process, which is one owner."""

    def __init__(
        self,
        sessions: Transactions,
        clock: Clock,
        owner: UUID,
        *,
        ttl_s: float = 45.0,
        renew_s: float = 15.0,
        late_call_s: float = LATE_CALL_S,
    ) -> None:
        self._sessions = sessions
        self._clock = clock
        self._owner = owner
        self._ttl = timedelta(seconds=ttl_s)
        self._renew_s = renew_s
        self._late_call_s = late_call_s
        self._held: dict[UUID, Lease] = {}

    async def acquire(self, connection: UUID, workspace: UUID) -> Lease | None:
        """Take a destination's lease; None while another process has it."""
        lapsed: list[float] = []

        async def take(session: Transaction) -> store.Granted | None:
            found = await store.acquire_lease(
                session,
                connection=connection,
                workspace=workspace,
                owner=self._owner,
                ttl=self._ttl,
            )
            # A repeated transaction finds itself as the owner: what the first one saw counts.
            if found is not None and found.lapsed_s is not None:
                lapsed.append(found.lapsed_s)
            return found

        asked_at = self._clock.monotonic()
        granted = await transact(self._sessions, take)
        if granted is None:
            return None
        late_s = self._late_call_s - lapsed[0] if lapsed else 0.0
        lease = Lease(
            connection=connection,
            fencing=granted.fencing,
            ends_at=asked_at + self._ttl.total_seconds(),
            touchable_at=self._clock.monotonic() + max(0.0, late_s),
            clock=self._clock,
        )
        self._held[connection] = lease
        return lease

    def drop(self, lease: Lease) -> None:
        """Renew a lease no longer: it lapses by itself."""
        if self._held.get(lease.connection) is lease:
            del self._held[lease.connection]
        lease.is_lost = True

    async def release(self, lease: Lease) -> None:
        """Let go of a lease; harmless if it was lost."""
        self.drop(lease)

        async def let_go(session: Transaction) -> None:
            await store.release_lease(
                session,
                connection=lease.connection,
                owner=self._owner,
                fencing=lease.fencing,
            )

        await transact(self._sessions, let_go)

    async def renew(self) -> None:
        """Prolong every lease that is held, once."""
        held = [lease for lease in self._held.values() if not lease.is_lost]
        if not held:
            return
        asked_at = self._clock.monotonic()

        async def prolong(session: Transaction) -> set[UUID]:
            return await store.renew_leases(
                session,
                owner=self._owner,
                tokens=[(lease.connection, lease.fencing) for lease in held],
                ttl=self._ttl,
            )

        ours = await transact(self._sessions, prolong)
        for lease in held:
            if lease.connection in ours:
                lease.ends_at = asked_at + self._ttl.total_seconds()
            else:
                lease.is_lost = True
                LEASES_LOST.labels("renewal").inc()

    async def run(self, stop: asyncio.Event) -> None:
        """Renew until stopped."""
        while not stop.is_set():
            try:
                await self.renew()
            except FAILURES as error:
                # The leases lapse by themselves, and every call asks them first: it is enough to
                # try again. A database that stays away ends the process elsewhere.
                log.warning("leases_not_renewed", exc_info=error)
            try:
                async with asyncio.timeout(self._renew_s):
                    await stop.wait()
            except TimeoutError:
                continue
