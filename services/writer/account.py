"""One destination account while this process owns it: its lease, its turns, what is under way.

Promises: everything that touches a destination happens in a turn, and turns of one destination
never overlap (`Accounts.turn`); the open units in memory are those of `delivery.intents`, read
when the lease is taken and changed only after the transaction that changed the rows. A lease that
is lost takes all of it along: the next turn begins with what the database says.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from msgspec.structs import replace

from libs.common import logs
from libs.common.errors import LeaseLostError, UnavailableError
from libs.common.postgres import Transaction, Transactions, transact
from libs.connectors.contract import Destination, Write
from services.writer import store
from services.writer.lease import Lease, Leases
from services.writer.rows import Held, Importing, Rows
from services.writer.values import (
    ContactId,
    Place,
    Task,
    Unit,
    claims_of,
    row_of,
    shared,
)

log = logs.get(__name__)

ASK_AGAIN_S = 0.5  # Somebody else's turn at a destination is short; a dead owner's lease is not.


Serves = Callable[[UUID], bool]


def _all(_connection: UUID) -> bool:
    return True


class OpenDestination(Protocol):
    """Makes what speaks to an account, with its credentials and its share of the rates."""

    async def __call__(self, connection: store.Connection, lease: Lease) -> Destination:
        """Return the destination; raise NeedsReauthError if there are no usable credentials."""


@dataclass(slots=True)
class Intent:
    """Units of one hold, until each is posted or released; for an import also how it stands.

    Single effects are its `tasks`; an import has `rows` instead, which end all at once: `away`, by
    address, are those not yet seen to stand at the destination. An import in `sending` whose token
    is not the lease's was perhaps sent. `checked` counts how often its rows were read back without
    finding more than the `seen` ones of before, `put_off` how often that was left for later.
    """

    intent: UUID
    hold: UUID
    state: str
    tasks: dict[ContactId, Task] = field(default_factory=dict)
    rows: Rows = field(default_factory=Rows)
    process_id: str | None = None
    created_at: datetime | None = None
    sent_at: datetime | None = None
    fencing: int = 0
    checked: int = 0
    seen: int = 0
    away: dict[str, Write] = field(default_factory=dict)
    check_at: float = 0.0
    put_off: int = 0
    has_ended: bool = False

    @property
    def is_import(self) -> bool:
        """Return whether it is an import, in any of its states."""
        return self.state != "open"


@dataclass(slots=True)
class Account:
    """What the owner of a destination knows of it.

    `suspects` are contacts that a former owner was calling for: a call that was held up somewhere
    may still land on them. What was written for them since is kept in `rewritable`, so that it can
    be written again.
    """

    connection: UUID
    workspace: UUID
    lease: Lease
    intents: dict[UUID, Intent] = field(default_factory=dict)
    units: dict[ContactId, Unit] = field(default_factory=dict)
    importing: Importing = field(default_factory=Importing)
    claims: dict[Place, str] = field(default_factory=dict)  # Of units.
    destination: Destination | None = None
    opened_for: store.Connection | None = None
    attempts: int = 0
    suspects: set[ContactId] = field(default_factory=set)
    rewritable: dict[ContactId, Task] = field(default_factory=dict)
    ask_at: float = 0.0  # When the provider may next be asked how imports stand.
    singly_until: float = 0.0  # Until when no import is looked for among those that wait.

    @property
    def held(self) -> Held:
        """Return which addresses units and rows of imports take."""
        return Held(self.claims, self.importing)

    def next_attempt(self) -> str:
        """Return what tells this batch of effects from an earlier try of the same ones."""
        self.attempts += 1
        return f"{self.connection}:{self.lease.fencing}:{self.attempts}"

    def load(self, stored: Iterable[store.StoredIntent]) -> None:
        """Take in what was under way when the lease was taken: all of it is doubtful.

        Rows whose import was not begun were not sent as such: they are single effects now.
        """
        for row in stored:
            tasks, rows = list(row.tasks), list(row.rows)
            if row.state == "open":
                tasks, rows = [*tasks, *(each.task for each in rows)], []
            else:  # Of a writer that stored rows as single effects.
                tasks, rows = [], [*rows, *map(row_of, tasks)]
            intent = Intent(
                row.intent,
                row.hold,
                row.state,
                {task.contact: task for task in map(_shared, tasks)},
                Rows.of(rows),
                row.process_id,
                row.created_at,
                row.sent_at,
                row.fencing,
            )
            self.add(intent, is_doubtful=True)
            self.suspects.update(intent.tasks)

    def add(self, intent: Intent, *, is_doubtful: bool = False) -> None:
        """Put an intent and its units among those that are open."""
        self.intents[intent.intent] = intent
        for contact, task in intent.tasks.items():
            self.units[contact] = Unit(task, intent.intent, intent.hold, is_doubtful=is_doubtful)
            self.claims.update(claims_of(task))
        self.importing.begin(intent.rows)
        intent.away = dict(zip(intent.rows.addresses, intent.rows.writes, strict=True))

    def begin_import(self, intent: UUID, sent_at: datetime | None) -> None:
        """Let an intent's rows be those of an import that is about to be sent."""
        found = self.intents[intent]
        found.state = "sending"
        found.sent_at = sent_at
        found.fencing = self.lease.fencing

    def end_import(self, intent: Intent) -> None:
        """Forget an import, whose rows were all posted or released."""
        self.importing.end(intent.rows)
        del self.intents[intent.intent]

    def end(self, contacts: Iterable[ContactId]) -> None:
        """Forget units that were posted or released, and intents that have none left."""
        for contact in contacts:
            unit = self.units.pop(contact, None)
            if unit is None:
                continue
            for claim in claims_of(unit.task):
                self._unclaim(*claim)
            intent = self.intents[unit.intent]
            del intent.tasks[contact]
            if not intent.tasks:
                del self.intents[unit.intent]

    def _unclaim(self, place: Place, holder: str) -> None:
        if self.claims.get(place) == holder:
            del self.claims[place]

    def doubt(self, contacts: Iterable[ContactId]) -> None:
        """Remember that the calls for these may have happened: their units are from before now."""
        for contact in contacts:
            if contact in self.units:
                self.units[contact] = replace(self.units[contact], is_doubtful=True)

    def remember(self, tasks: Iterable[Task]) -> None:
        """Keep what was written for suspects."""
        for task in tasks:
            if task.contact in self.suspects:
                self.rewritable[task.contact] = task

    def left_of(self, ended: set[ContactId]) -> dict[UUID, list[Task]]:
        """Return what remains of each intent that loses some of these contacts."""
        touched = {self.units[contact].intent for contact in ended if contact in self.units}
        return {
            intent: [
                task for contact, task in self.intents[intent].tasks.items() if contact not in ended
            ]
            for intent in touched
        }

    def awaited(self) -> list[dict[str, Write]]:
        """Return the rows of each import that were not seen at the destination yet."""
        return [intent.away for intent in self.intents.values() if intent.away]

    def imports(self) -> list[Intent]:
        """Return the imports that are not known to have ended."""
        return [intent for intent in self.intents.values() if intent.is_import]


def _shared(task: Task) -> Task:
    return replace(task, integration=shared(task.integration), run=shared(task.run))


class Accounts:
    """The destinations that this process owns at the moment."""

    def __init__(self, sessions: Transactions, leases: Leases, *, serves: Serves = _all) -> None:
        """Own what `serves` names; another destination is let go of when its turn ends."""
        self._sessions = sessions
        self._leases = leases
        self.serves = serves
        self._owned: dict[UUID, Account] = {}
        self._locks: dict[UUID, asyncio.Lock] = {}

    @asynccontextmanager
    async def turn(
        self, connection: UUID, workspace: UUID, *, patience_s: float
    ) -> AsyncIterator[Account]:
        """Wait for one's turn and for the lease; raise UnavailableError if it does not come.

        Whoever finds the lease lost during the turn gets LeaseLostError: nothing more of it may
        be done, and the next turn starts from the database.
        """
        async with self._locks.setdefault(connection, asyncio.Lock()):
            account = await self._own(connection, workspace, patience_s)
            try:
                yield account
            except BaseException:
                # What is in memory may be behind the database: the next turn reads it again.
                await self._forget(account)
                raise
            # Its records come to another process now, which waits for the lease.
            if not self.serves(connection):
                await self._forget(account)

    def owns(self, connection: UUID) -> bool:
        """Return whether this process holds the destination's lease now."""
        return connection in self._owned

    def known(self) -> list[Account]:
        """Return the accounts owned now."""
        return list(self._owned.values())

    async def release(self, connections: Sequence[UUID] | None = None) -> None:
        """Let go of these destinations (of all without an argument), each after its turn."""
        gone = connections if connections is not None else list(self._owned)
        # Side by side: a long turn at one must not keep the others.
        await asyncio.gather(*(self._release(connection) for connection in gone))

    async def release_strangers(self) -> None:
        """Let go of the destinations that are another process's from now on."""
        await self.release([each for each in self._owned if not self.serves(each)])

    async def release_idle_strangers(self) -> None:
        """Let go of what nobody did let go of when it became another process's.

        The time for that is bounded, and a database that was away may have used it up: the lease
        would be renewed for ever, and the other process wait for it. Who is in a turn lets go at
        its end.
        """
        for connection in list(self._owned):
            lock = self._locks.get(connection)
            if not self.serves(connection) and not (lock is not None and lock.locked()):
                await self._release(connection)

    async def _release(self, connection: UUID) -> None:
        async with self._locks.setdefault(connection, asyncio.Lock()):
            account = self._owned.get(connection)
            if account is not None:
                await self._forget(account)

    async def _own(self, connection: UUID, workspace: UUID, patience_s: float) -> Account:
        account = self._owned.get(connection)
        if account is not None and not account.lease.is_lost:
            try:
                account.lease.check()
            except LeaseLostError:
                await self._forget(account)
            else:
                return account
        lease = await self._acquire(connection, workspace, patience_s)

        async def under_way(session: Transaction) -> list[store.StoredIntent]:
            await lease.keep(session)
            await store.take_rechecks(session, connection=connection)
            return await store.open_intents(session, connection)

        account = Account(connection, workspace, lease)
        try:
            account.load(await transact(self._sessions, under_way))
        except BaseException:
            self._leases.drop(lease)  # Nobody here would know of it, and it were renewed for ever.
            raise
        self._owned[connection] = account
        log.info("destination_owned", connection=str(connection), fencing=lease.fencing)
        return account

    async def _acquire(self, connection: UUID, workspace: UUID, patience_s: float) -> Lease:
        waited_s = 0.0
        while (lease := await self._leases.acquire(connection, workspace)) is None:
            if waited_s >= patience_s:
                raise UnavailableError(store.lease_name(connection), "another writer owns it")
            await asyncio.sleep(ASK_AGAIN_S)
            waited_s += ASK_AGAIN_S
        return lease

    async def _forget(self, account: Account) -> None:
        self._owned.pop(account.connection, None)
        await self._leases.release(account.lease)
