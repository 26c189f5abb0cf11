"""Lets parked contacts go once their cause is gone, and brings imports to their end.

State is looked at every few seconds; events only shorten that (PROTOCOL.md 7). Promises: a drain
takes a turn at its destination like a live batch does, so the two never cross; oldest first, in
turn by integration; after a block one contact is tried before the others, each time another one;
a destination that is another process's is left to it, free or not: who gets its records would wait
for the lease. Destinations drain side by side, a few at a time and in turn between workspaces, so
that nobody waits for another's backlog. Who waits for the quota alone costs nothing while it is
used up but one question a second, so that the first contact leaves within 5 s of a grant.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from libs.common import ids, logs, metrics
from libs.common.clock import Clock
from libs.common.errors import LeaseLostError, SyncError, UnavailableError
from libs.common.postgres import Transaction, Transactions, look, transact
from libs.common.reasons import Park
from services.writer import store
from services.writer.account import Account, Accounts
from services.writer.conclude import Changes
from services.writer.fields import FIELDS_AGAIN, Fields
from services.writer.imports import AGAIN_S, Imports
from services.writer.outcome import tell_late
from services.writer.plan import IMPORTS_MAX
from services.writer.rota import Rota
from services.writer.values import ContactId, Unit, Wanted
from services.writer.write import Turn, Writing

GATHER_ROWS_MAX = 2_000  # A backlog of this many is worth an import, whoever else is coming.
GATHER_REST_S = 2.0  # A backlog that nobody has joined for this long is complete.
GATHER_MOST_S = 10.0  # Nobody waits longer for more: the same ones may come again and again.
ROWS_MAX = 4_000  # Of one turn: 4 KB of memory each, and no process may take 100 MB (ADR 0160).
# Singles of one turn: some 5 s at Brevo's slowest tier. Nobody waits longer for a place.
DRAINED_SINGLY_MAX = 40
# So long only so many are looked at after a turn that looked at all and found no import in them:
# thousands of updates would be looked at again for every few that are sent.
SINGLY_FOR_S = 15.0
PROBES_MAX = 20  # Contacts of one turn that are looked at to find one that can be sent.
SIDE_BY_SIDE = 8  # Destinations drained at a time; each holds a database connection at times.
STOPPED_EVERY_S = 1.0  # How often it is asked whether a stopped workspace may go on.
ORPHAN_AFTER = timedelta(hours=1)
MOMENT_S = 0.05  # What is due at once waits at least this long: it was looked at just now.
GATHER_S = 0.5  # After a wake-up: what arrives together is drained together.
FORGET_EVERY_S = 60.0  # How often outcomes of records that are gone are removed.

log = logs.get(__name__)

PARKED = metrics.gauge("parked_contacts", "Contacts that wait, by reason.", ["reason"])
DRAINED = metrics.counter("contacts_drained_total", "Parked contacts taken into a turn.")
ORPHANS = metrics.counter("orphan_units_total", "Units open for an hour that nobody came for.")


@dataclass(frozen=True, slots=True)
class Standing:
    """What a drain begins with."""

    is_connected: bool
    block: store.Block | None
    is_open: bool
    marked: list[ContactId]
    wishes: list[store.FieldWish]

    @property
    def is_shut(self) -> bool:
        """Return whether nothing may be sent now, not even a probe."""
        return not self.is_connected or (self.block is not None and self.block.wait_s > 0)

    @property
    def is_blocked_no_longer(self) -> bool:
        """Return whether a block's time is over: one contact must show that it is gone."""
        return not self.is_shut and self.block is not None


class Drain:
    """The drains of this process."""

    def __init__(
        self,
        sessions: Transactions,
        clock: Clock,
        accounts: Accounts,
        writing: Writing,
        imports: Imports,
        *,
        every_s: float = 5.0,
        gather_rest_s: float = GATHER_REST_S,
    ) -> None:
        self._sessions = sessions
        self._clock = clock
        self._accounts = accounts
        self._writing = writing
        self._imports = imports
        self._fields = Fields(sessions, writing)
        self._every_s = every_s
        self._gather_rest_s = gather_rest_s
        self._woken = asyncio.Event()
        self._running: dict[UUID, asyncio.Task[None]] = {}
        self._rota = Rota(SIDE_BY_SIDE)
        self._stopped: set[UUID] = set()  # Workspaces whose contacts wait for the quota.
        self._is_gathering = False
        self._forget_at = 0.0
        # Which units were counted as orphans: one may stand for days, while its destination is
        # shut, and is looked at every few seconds. A process that starts anew counts it once more.
        self._orphans: dict[UUID, set[tuple[UUID, ContactId]]] = {}

    def wake(self) -> None:
        """Look soon: something was parked, imported or freed."""
        self._woken.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Look at everything that waits until stopped; then let what runs finish its turn."""
        try:
            while not stop.is_set():
                await self._look(stop)
                await self._pause(stop)
        finally:
            if self._running:
                await asyncio.wait(self._running.values())
                self._running.clear()

    async def _pause(self, stop: asyncio.Event) -> None:
        """Wait until it is time to look again, somebody wakes us, or a stopped workspace may go on.

        An import is left to the drain that runs at its account; when that ends, it counts again.
        """
        began = asked_at = self._clock.monotonic()
        stopping = asyncio.create_task(stop.wait())
        woken = asyncio.create_task(self._woken.wait())
        running = [task for task in self._running.values() if not task.done()]
        while True:
            done, _ = await asyncio.wait(
                {stopping, woken, *running},
                timeout=max(MOMENT_S, self._wait_s(began, asked_at)),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if stopping in done or woken in done or self._due_s(began) <= 0:
                break
            if self._wait_s(began, asked_at) <= 0:
                if await self._may_go_on():
                    break
                asked_at = self._clock.monotonic()
            running = [task for task in running if not task.done()]
        stopping.cancel()
        woken.cancel()
        self._woken.clear()
        if woken in done and not stop.is_set():
            await asyncio.sleep(GATHER_S)

    def _wait_s(self, began: float, asked_at: float) -> float:
        """Return how long there is nothing to look at or to ask."""
        due_s = self._due_s(began)
        if not self._stopped:
            return due_s
        return min(due_s, asked_at + STOPPED_EVERY_S - self._clock.monotonic())

    def _due_s(self, began: float) -> float:
        now = self._clock.monotonic()
        checks = [
            intent.check_at - now
            for account in self._accounts.known()
            for intent in account.imports()
            if not self._is_running(account.connection)
        ]
        every_s = min(self._every_s, GATHER_REST_S / 2) if self._is_gathering else self._every_s
        return min([began + every_s - now, *checks])

    async def _may_go_on(self) -> bool:
        """Return whether a workspace that was stopped at the last look is not any more."""
        if not self._stopped:
            return False

        async def work(session: Transaction) -> bool:
            return await store.is_any_open(session, self._stopped)

        return await look(self._sessions, work)

    def _is_running(self, connection: UUID) -> bool:
        task = self._running.get(connection)
        return task is not None and not task.done()

    async def _look(self, stop: asyncio.Event) -> None:
        async def work(session: Transaction) -> list[store.Busy]:
            waiting = await store.count_parked(session)
            PARKED.clear()
            for reason, count in waiting.items():
                PARKED.labels(reason).set(count)
            self._is_gathering = Park.BACKLOG in waiting
            if self._clock.monotonic() >= self._forget_at:
                self._forget_at = self._clock.monotonic() + FORGET_EVERY_S
                await store.forget_outcomes(session)  # In a transaction of its own.
            return await store.busy_destinations(session)

        for connection, task in list(self._running.items()):
            if task.done():
                del self._running[connection]
                task.result()  # A bug ends the process.
        await self._accounts.release_idle_strangers()
        waiting = await look(self._sessions, work)
        ours = [each for each in waiting if self._accounts.serves(each.connection)]
        self._stopped = {each.workspace for each in ours if each.lacks_quota}
        for busy in ours:
            if not busy.is_stopped and busy.connection not in self._running:
                self._running[busy.connection] = asyncio.create_task(self._drain(busy, stop))

    async def _drain(self, busy: store.Busy, stop: asyncio.Event) -> None:
        may_be_more = True
        while may_be_more:
            async with self._rota.turn(busy.workspace):
                if stop.is_set() or not self._accounts.serves(busy.connection):
                    return
                try:
                    may_be_more = await self.drain(busy.connection, busy.workspace)
                except (LeaseLostError, UnavailableError) as error:
                    log.info("drain_left", reason=str(error))
                    return

    async def drain(self, connection: UUID, workspace: UUID) -> bool:
        """Take one turn at a destination; return whether there may be more to do at once.

        Raises UnavailableError while another process owns the destination.
        """
        async with self._accounts.turn(connection, workspace, patience_s=0.0) as account:
            standing = await self._stand(account)
            lacks_fields = False
            if not standing.is_shut:
                await self._write_again(account, standing.marked)
                await self._advance(account)
                await self._adopt_orphans(account)
                lacks_fields = await self._fields.make(account, standing.wishes)
            if standing.is_blocked_no_longer:
                return await self._probe(account, standing)
            return await self._let_go(account, standing) or lacks_fields

    async def _let_go(self, account: Account, standing: Standing) -> bool:
        """Write whose turn it is; return whether there may be more to do at once."""
        items = await self._rows(account, standing)
        if items is None:
            return False
        if not items:
            return not standing.is_shut and await self._try_misconfigured(account)
        return _has_moved(await self._take(account, items))

    async def _take(self, account: Account, items: list[Wanted], *, is_probe: bool = False) -> Turn:
        DRAINED.inc(len(items))
        stage = f"drain:{ids.computed('drain', account.next_attempt())}"
        turn = Turn(account, items, stage=stage, is_probe=is_probe, singles_max=DRAINED_SINGLY_MAX)
        await self._writing.take(turn)
        if len(items) > DRAINED_SINGLY_MAX and turn.import_intent is None:
            account.singly_until = self._clock.monotonic() + SINGLY_FOR_S
        if any(row.reason == Park.QUOTA for row in turn.changes.parks.values()):
            self._stopped.add(account.workspace)  # Perhaps until before the next look.
        return turn

    async def _probe(self, account: Account, standing: Standing) -> bool:
        """Send one contact; return whether the destination took it.

        Some are settled or wait on without a call, and prove nothing: then it is another's turn.
        """
        for _ in range(PROBES_MAX):
            row = await self._row_to_probe(account, standing)
            if row is None:
                return await self._try_misconfigured(account)
            turn = await self._take(account, [row], is_probe=True)
            if turn.called or turn.stop is not None:
                return _has_moved(turn)
        return False

    async def _try_misconfigured(self, account: Account) -> bool:
        row = await self._misconfigured(account)
        return row is not None and _has_moved(await self._take(account, [row], is_probe=True))

    async def _stand(self, account: Account) -> Standing:
        step = ids.computed("outdated", account.next_attempt())

        async def begin(
            session: Transaction, *, has_parked: bool
        ) -> tuple[list[ContactId], list[store.FieldWish]]:
            is_new = await account.lease.begin(session, step)
            marked = await store.take_rechecks(session, connection=account.connection)
            if is_new and has_parked:
                dropped = await store.drop_outdated(
                    session, account.connection, [*account.units, *account.importing]
                )
                await tell_late(session, account, _superseded(dropped), f"drain:{step}")
            return marked, await store.wanted_fields(
                session, account.connection, again=FIELDS_AGAIN
            )

        async def work(session: Transaction) -> Standing:
            found = await store.standing_of(
                session, connection=account.connection, workspace=account.workspace
            )
            marked: list[ContactId] = []
            wishes: list[store.FieldWish] = []
            # Mostly there is nothing to store: an import alone brings a drain here.
            if found.has_parked or found.has_marks or found.has_wishes:
                async with session.begin():
                    marked, wishes = await begin(session, has_parked=found.has_parked)
            return Standing(
                found.connection is not None and found.connection.state == store.CONNECTED,
                found.block,
                found.is_open,
                marked,
                wishes,
            )

        return await look(self._sessions, work)

    async def _rows(self, account: Account, standing: Standing) -> list[Wanted] | None:
        """Return whose turn it is; None if nobody waits: imports alone bring a drain here, too."""

        async def work(session: Transaction) -> list[Wanted] | None:
            if not await store.has_parked(session, account.connection):
                return None
            return await store.drainable(
                session,
                account.connection,
                importing=account.importing,
                holding=account.units,
                is_open=standing.is_open,
                is_blocked=standing.is_shut,
                gathers=await self._gathers(session, account),
                due=await self._due(session, account),
                limit=ROWS_MAX if self._may_import(account) else DRAINED_SINGLY_MAX,
            )

        return await look(self._sessions, work)

    def _may_import(self, account: Account) -> bool:
        is_time = self._clock.monotonic() >= account.singly_until
        return is_time and len(account.imports()) < IMPORTS_MAX

    async def _row_to_probe(self, account: Account, standing: Standing) -> Wanted | None:
        async def work(session: Transaction) -> Wanted | None:
            await account.lease.keep(session)
            return await store.probe_row(
                session,
                account.connection,
                importing=account.importing,
                holding=account.units,
                is_open=standing.is_open,
                gathers=await self._gathers(session, account),
                due=await self._due(session, account),
            )

        return await transact(self._sessions, work)

    async def _due(self, session: Transaction, account: Account) -> list[ContactId]:
        """Return who of those that wait for the next sync may have one of its shares by now."""
        budget = self._writing.budget
        return await store.due_shares(
            session, account.connection, slot=budget.slot, most=budget.most
        )

    async def _gathers(self, session: Transaction, account: Account) -> bool:
        backlog = await store.backlog_of(session, account.connection)
        return (
            backlog.waiting < GATHER_ROWS_MAX
            and backlog.rest_s < self._gather_rest_s
            and backlog.longest_s < GATHER_MOST_S
        )

    async def _misconfigured(self, account: Account) -> Wanted | None:
        async def work(session: Transaction) -> Wanted | None:
            await account.lease.keep(session)
            return await store.misconfigured_row(session, account.connection)

        return await transact(self._sessions, work)

    async def _write_again(self, account: Account, marked: list[ContactId]) -> None:
        destination = await self._writing.destination_of(account) if marked else None
        if destination is not None:
            await self._writing.write_again(account, destination, marked)

    async def _advance(self, account: Account) -> None:
        if not self._imports.due(account):
            return
        destination = await self._writing.destination_of(account)
        if destination is None:
            return
        try:
            await self._imports.advance(account, destination)
        except LeaseLostError:
            raise
        except SyncError as error:
            log.warning("import_not_read", error=type(error).__name__)
            self._imports.postpone(account, AGAIN_S)

    async def _adopt_orphans(self, account: Account) -> None:
        """Settle units that no record and no parked row will come for any more."""
        units = orphans(account, self._clock)
        if not units:
            self._orphans.pop(account.connection, None)
            return

        async def work(session: Transaction) -> set[ContactId]:
            return set(await store.parked(session, [unit.task.contact for unit in units]))

        parked = await look(self._sessions, work)
        alone = [unit for unit in units if unit.task.contact not in parked]
        self._count_orphans(account, alone)
        destination = await self._writing.destination_of(account)
        if not alone or destination is None:
            return
        await account.lease.until_touchable()
        await self._writing.settle_units(account, destination, alone)

    def _count_orphans(self, account: Account, units: list[Unit]) -> None:
        """Count and tell of the units that were none at the last look."""
        known = self._orphans.get(account.connection, set())
        found = {(unit.hold, unit.task.contact) for unit in units}
        self._orphans[account.connection] = found
        if new := len(found - known):
            log.error("orphan_units_found", count=new)
            ORPHANS.inc(new)


def _has_moved(turn: Turn) -> bool:
    """Return whether there may be more to do at once."""
    changes = turn.changes
    return turn.stop is None and bool(changes.drops or changes.posts or changes.links)


def orphans(account: Account, clock: Clock) -> list[Unit]:
    """Return open units, outside imports, that are an hour old."""
    until = clock.now() - ORPHAN_AFTER
    return [
        unit
        for unit in account.units.values()
        if (account.intents[unit.intent].created_at or until) < until
    ]


def _superseded(dropped: list[Wanted]) -> Changes:
    changes = Changes()
    for item in dropped:
        changes.tallies[item.part].superseded += 1
    return changes
