"""PostgreSQL as far as the services' stores use it: tables of rows, and transactions.

Promises: a transaction is all or nothing, and no two overlap, which is stricter than PostgreSQL's
locks and the same as what the services ask of them. Rows are immutable, so what a transaction
changed is undone by putting the tables back. Time is one clock, the database's.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Protocol, Self, cast
from uuid import UUID

import msgspec

from libs.common.clock import Clock
from libs.common.events import Event, RunMode, Settled, Topic
from libs.common.postgres import Transaction, Transactions
from libs.connectors.automatic import WantedField
from services.mapper.store import StoredMapping
from services.poller.plan import Roll, Sweeping
from services.writer.store import StoredIntent
from services.writer.values import ContactId, IntegrationState, Link, Wanted

change = msgspec.structs.replace


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all rows."""


class Connection(Row, frozen=True, kw_only=True):
    """A row of `config.connections`."""

    connection: UUID
    workspace: UUID
    provider: str
    state: str = "connected"
    failed_checks: int = 0


class Integration(Row, frozen=True, kw_only=True):
    """A row of `config.integrations`."""

    integration: UUID
    workspace: UUID
    source: UUID
    destination: UUID
    source_list_id: str | None
    list_id: str
    state: IntegrationState = IntegrationState.ACTIVE
    error_reason: str | None = None
    mapping_version: int = 1
    deletion_policy: str = "keep"
    email_change_policy: str = "single"
    kind: str = "mapped"


class Period(Row, frozen=True, kw_only=True):
    """A row of `ledger.periods`."""

    limit: int
    posted: int = 0
    held: int = 0


class Hold(Row, frozen=True, kw_only=True):
    """A row of `ledger.holds`."""

    workspace: UUID
    period: int
    amount: int
    posted: int = 0
    released: int = 0

    @property
    def open(self) -> int:
        return self.amount - self.posted - self.released


class Charge(Row, frozen=True, kw_only=True):
    """A row of `ledger.postings`."""

    hold: UUID
    integration: UUID
    source_id: str
    run: UUID
    operation: str


class DestinationRow(Row, frozen=True, kw_only=True):
    """A row of `delivery.destinations`."""

    workspace: UUID
    lease_owner: UUID | None = None
    lease_until: datetime | None = None
    fencing: int = 0
    last_step: UUID | None = None
    block_reason: str | None = None
    blocked_until: datetime | None = None
    block_attempts: int = 0


class ParkedRow(Row, frozen=True, kw_only=True):
    """A row of `delivery.parked`; `item` is the state that its contact is wanted in."""

    workspace: UUID
    connection: UUID
    item: Wanted
    reason: str
    approved: str | None
    attempts: int
    first_at: datetime
    last_at: datetime
    tried_at: datetime | None = None


class IntentRow(Row, frozen=True, kw_only=True):
    """A row of `delivery.intents`."""

    connection: UUID
    workspace: UUID
    stored: StoredIntent


class Outcome(Row, frozen=True, kw_only=True):
    """A row of `delivery.outcomes`."""

    stage: str
    settled: Settled
    stored_at: datetime


class FieldRow(Row, frozen=True, kw_only=True):
    """A row of `delivery.wanted_fields`."""

    workspace: UUID
    connection: UUID
    wanted: WantedField
    refused: str | None = None
    tried_at: datetime | None = None


class Schedule(Row, frozen=True, kw_only=True):
    """A row of `sync.schedules`."""

    workspace: UUID
    provider: str
    next_due_at: datetime
    interval_minutes: int = 30
    is_active: bool = True
    resume_at: datetime | None = None
    run_no: int = 0
    wanted_mode: RunMode = RunMode.FULL
    wanted_mapping_version: int = 1
    wanted_run_no: int = 0
    lease_owner: UUID | None = None
    lease_until: datetime | None = None
    fencing: int = 0
    failures: int = 0


class Position(Row, frozen=True, kw_only=True):
    """A row of `sync.positions`."""

    from_ms: int | None = None
    sweep: Sweeping | None = None
    roll: Roll | None = None


class RunRow(Row, frozen=True, kw_only=True):
    """A row of `sync.runs`."""

    integration: UUID
    workspace: UUID
    run_no: int
    mode: RunMode
    mapping_version: int
    fencing: int
    state: str = "reading"
    pages: int = 0
    parts: int = 0
    read: int = 0
    left_out: int = 0
    total_before: int | None = None
    total_after: int | None = None
    is_complete: bool = False
    withheld: int = 0
    confirmed_at: datetime | None = None
    email_decision: bytes | None = None
    error_code: str | None = None


class SettledRun(Row, frozen=True, kw_only=True):
    """A row of `activity.runs`."""

    run_no: int
    state: str = "settling"
    verdict: str | None = None
    parts: int | None = None
    read: int = 0
    read_is_complete: bool = False
    fencing: int = 0
    total_before: int | None = None
    total_after: int | None = None
    parts_settled: int = 0
    settled: int = 0
    importing: int = 0


@dataclass
class Tables:
    """Everything that is stored."""

    connections: dict[UUID, Connection] = field(default_factory=dict)
    integrations: dict[UUID, Integration] = field(default_factory=dict)
    mappings: dict[tuple[UUID, int], StoredMapping] = field(default_factory=dict)
    limits: dict[UUID, int] = field(default_factory=dict)
    periods: dict[tuple[UUID, int], Period] = field(default_factory=dict)
    holds: dict[UUID, Hold] = field(default_factory=dict)
    postings: dict[tuple[UUID, int, bytes], Charge] = field(default_factory=dict)
    absorbed: dict[tuple[UUID, bytes], None] = field(default_factory=dict)
    destinations: dict[UUID, DestinationRow] = field(default_factory=dict)
    links: dict[ContactId, Link] = field(default_factory=dict)
    parked: dict[ContactId, ParkedRow] = field(default_factory=dict)
    intents: dict[UUID, IntentRow] = field(default_factory=dict)
    outcomes: dict[tuple[UUID, str], Outcome] = field(default_factory=dict)
    shares: dict[tuple[str, int, ContactId], None] = field(default_factory=dict)
    wanted_fields: dict[tuple[UUID, str], FieldRow] = field(default_factory=dict)
    left_out: dict[tuple[UUID, str], tuple[UUID, datetime | None]] = field(default_factory=dict)
    rechecks: dict[tuple[UUID, ContactId], None] = field(default_factory=dict)
    outbox: dict[int, tuple[Topic, str, Event]] = field(default_factory=dict)
    schedules: dict[UUID, Schedule] = field(default_factory=dict)
    positions: dict[tuple[UUID, str], Position] = field(default_factory=dict)
    members: dict[tuple[UUID, str], int] = field(default_factory=dict)
    runs: dict[UUID, RunRow] = field(default_factory=dict)
    withheld: dict[tuple[UUID, str], UUID] = field(default_factory=dict)
    settled_parts: dict[tuple[UUID, int, int, str], None] = field(default_factory=dict)
    settled_runs: dict[UUID, SettledRun] = field(default_factory=dict)

    def copy(self) -> dict[str, dict[Any, Any]]:
        return {name: table.copy() for name, table in vars(self).items()}

    def restore(self, copied: dict[str, dict[Any, Any]]) -> None:
        vars(self).update(copied)


class Caller(Protocol):
    """Who uses a database: a process that may die between any two of its steps."""

    async def step(self, what: str) -> None:
        """Let time pass; raise if the process dies here."""

    def loses_connection(self) -> bool:
        """Return whether the connection breaks now."""


def nothing(_tables: Tables) -> None:
    return


class Database:
    """The tables and their clock; `watch` is called after every transaction that was committed."""

    def __init__(self, clock: Clock, *, watch: Callable[[Tables], None] = nothing) -> None:
        self.tables = Tables()
        self.months = 0  # How many months the ledger's clock was put forward.
        self.watch = watch
        self._clock = clock
        self._sequence = 0
        self._is_busy = False

    def now(self) -> datetime:
        return self._clock.now()

    def now_ms(self) -> int:
        return int(self.now().timestamp() * 1000)

    def next_id(self) -> int:
        self._sequence += 1
        return self._sequence

    def transactions(self, caller: Caller) -> Transactions:
        """Return what opens transactions for a process."""
        return cast("Transactions", _Transactions(self, caller))

    def enter(self) -> None:
        assert not self._is_busy, "a transaction waits for something beside the database"
        self._is_busy = True

    def leave(self) -> None:
        self._is_busy = False


class _Transactions:
    def __init__(self, database: Database, caller: Caller) -> None:
        self._database = database
        self._caller = caller

    def begin(self) -> "_Transaction":
        return _Transaction(self._database, self._caller)

    def alone(self) -> "_Transaction":
        return self.begin()


class _Transaction:
    """One transaction; its caller may die before it, and after it without hearing of it."""

    def __init__(self, database: Database, caller: Caller) -> None:
        self.database = database
        self.caller = caller
        self._copied: dict[str, dict[Any, Any]] = {}

    async def __aenter__(self) -> Self:
        await self.caller.step("transaction")
        if self.caller.loses_connection():
            raise ConnectionResetError
        self.database.enter()
        self._copied = self.database.tables.copy()
        return self

    def begin(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()  # A look and what follows from it happen at once here.

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        self.database.leave()
        if error is not None:
            self.database.tables.restore(self._copied)
            return
        self.database.watch(self.database.tables)
        await self.caller.step("committed")
        if self.caller.loses_connection():
            raise ConnectionResetError


def database_of(session: Transaction) -> Database:
    """Return the database that a session belongs to."""
    return cast("_Transaction", session).database


def tables_of(session: Transaction) -> Tables:
    """Return the tables that a session sees."""
    return cast("_Transaction", session).database.tables


def later(at: datetime, seconds: float) -> datetime:
    """Return a time some seconds later."""
    return at + timedelta(seconds=seconds)
