"""A lane's records: written in turns, told, and only then finished (PROTOCOL.md 5).

Promises: an offset is done when every contact of the record is written, parked, imported or
settled otherwise, and that is published and acknowledged. A record that comes again is told the
same way again. A `run_read` is passed on after everything before it and after its decision about
changed addresses; copies of a record in one batch are one record.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol
from uuid import UUID

from libs.common import logs
from libs.common.consumer import Batch
from libs.common.errors import LeaseLostError, UnavailableError
from libs.common.events import DIRECT, Event, Mapped, RunRead, Settled, Topic
from libs.common.failpoints import Reached, nothing
from libs.common.postgres import Transaction, Transactions, look, transact
from services.writer import store
from services.writer.account import Account, Accounts
from services.writer.conclude import settled_id
from services.writer.email_changes import apply_run_read
from services.writer.plan import SINGLES_MAX
from services.writer.records import part_of
from services.writer.values import PartId
from services.writer.write import Turn, Writing

log = logs.get(__name__)

# Longer than a lease and the wait for a dead owner's calls: then the batch is tried anew.
LEASE_PATIENCE_S = 60.0
BATCHES_WAITING_MAX = 2  # With more behind it, a slow account must not stop its partition.


class Publish(Protocol):
    """What publishes outcomes."""

    async def __call__(self, topic: Topic, events: Iterable[tuple[str, Event]], /) -> None:
        """Return when all events are acknowledged."""


Wake = Callable[[], None]


class Live:
    """The consumer's handler."""

    def __init__(
        self,
        sessions: Transactions,
        accounts: Accounts,
        writing: Writing,
        publish: Publish,
        *,
        wake: Wake = lambda: None,
        reached: Reached = nothing,
    ) -> None:
        self._sessions = sessions
        self._accounts = accounts
        self._writing = writing
        self._publish = publish
        self._wake = wake
        self._reached = reached

    async def __call__(self, batch: Batch) -> None:
        """Settle a lane's batch; a lost lease is met by trying the batch again."""
        events = [record.event for record in batch.records]
        singles_max = 0 if batch.waiting > BATCHES_WAITING_MAX else SINGLES_MAX
        try:
            await self.handle(UUID(batch.key), events, singles_max=singles_max)
        except LeaseLostError as error:
            raise UnavailableError(error.what, "the lease was lost") from error

    async def on_revoked(self, partitions: frozenset[tuple[Topic, int]]) -> None:
        """Let go of the destinations whose records another process gets from now on."""
        await self._accounts.release_strangers()

    async def handle(
        self, connection: UUID, events: Sequence[Event], *, singles_max: int = SINGLES_MAX
    ) -> None:
        """Settle events of one destination in their order."""
        for mapped, run_reads in segments(events):
            workspace = (mapped or run_reads)[0].workspace
            async with self._accounts.turn(
                connection, workspace, patience_s=LEASE_PATIENCE_S
            ) as account:
                told = await self._write(account, mapped, singles_max)
                for event in run_reads:
                    await self._decide(account, event)
            self._reached("untold")
            tellings: list[Event] = [*told, *run_reads]
            await self._publish(
                Topic.CONTACTS_SETTLED,
                [(str(_integration(event)), event) for event in tellings],
            )
            self._reached("told")
            self._wake()

    async def _write(
        self, account: Account, mapped: Sequence[Mapped], singles_max: int
    ) -> list[Settled]:
        if not mapped:
            return []

        direct = {record.id: settled_id(part_of(record), DIRECT) for record in mapped}

        async def stored(session: Transaction) -> tuple[dict[UUID, Settled], set[UUID]]:
            return await store.told(session, records=direct.keys(), settled=direct.values())

        told, parts = await look(self._sessions, stored)
        fresh = [record for record in mapped if record.id not in told]
        for is_again in (False, True):
            records = [each for each in fresh if (direct[each.id] in parts) is is_again]
            if not records:
                continue
            turn = Turn(
                account,
                mapped=records,
                records={part_of(record): record.id for record in records},
                is_again=is_again,
                singles_max=singles_max,
            )
            settled = await self._writing.take(turn)
            told |= dict(zip(turn.records.values(), settled, strict=True))
        return [told[record.id] for record in mapped]

    async def _decide(self, account: Account, event: RunRead) -> None:
        async def work(session: Transaction) -> bool:
            return await apply_run_read(session, account, event)

        if not await transact(self._sessions, work):
            log.info("run_read_ignored", run=str(event.run))


def _integration(event: Event) -> UUID:
    assert isinstance(event, Settled | RunRead)
    return event.integration


def segments(events: Sequence[Event]) -> Iterator[tuple[list[Mapped], list[RunRead]]]:
    """Cut a batch so that every `run_read` comes after what was before it, and nothing else.

    Copies of a record are left out; two records of one part (a page that was read again) are not
    in one segment, because outcomes are counted by part.
    """
    mapped: list[Mapped] = []
    run_reads: list[RunRead] = []
    seen: set[UUID] = set()
    parts: set[PartId] = set()
    for event in events:
        if event.id in seen:
            continue
        seen.add(event.id)
        if isinstance(event, RunRead):
            run_reads.append(event)
            continue
        assert isinstance(event, Mapped)
        if run_reads or part_of(event) in parts:
            yield mapped, run_reads
            mapped, run_reads, parts = [], [], set()
        mapped.append(event)
        parts.add(part_of(event))
    if mapped or run_reads:
        yield mapped, run_reads
