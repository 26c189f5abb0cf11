"""Publishes what a transaction decided, after it was committed: the relay of an outbox table.

A service that changes its tables and has to tell about it writes the event into its schema's
outbox in the same transaction. Promises: a row is deleted only after its record was acknowledged,
so each is published at least once; rows of one topic and key are published in the order of their
ids, also with several relays; no transaction spans a publication (R6): rows are claimed, published,
deleted, and a claim of a relay that died lapses.

A body that is no event can never be published: it goes to its topic's dead letters, with the
reason, and is counted. Transactions that take a row's id early and commit it late come after
those that overtook them: who needs an order takes the row lock of what it is about first.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from libs.common import logs, metrics
from libs.common.backoff import Backoff
from libs.common.deadletters import REASON
from libs.common.errors import MalformedEventError, UnavailableError
from libs.common.events import Topic, decode
from libs.common.failpoints import Reached, nothing
from libs.common.postgres import (
    FAILURES,
    Transaction,
    Transactions,
    fetch_alone,
    is_transient,
    transact,
)
from libs.common.publisher import SEND_S, Publisher

ROWS_MAX = 200
POLL_S = 0.5
CLAIM_S = 2 * SEND_S  # As the settings' `outbox_claim_s`.
RETRY_FIRST_S = 0.5
RETRY_MOST_S = 15.0

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Row:
    """One event that waits to be published."""

    id: int
    topic: str
    key: str
    body: bytes
    claimed_until: datetime


class OutboxRelay:
    """Moves one table's rows to their topics; any number of relays may share a table.

    `table` is the qualified name (`ledger.outbox`) of a table with the columns id bigint, topic
    text, key text, body bytea, claimed_until timestamptz and created_at timestamptz.
    """

    def __init__(
        self,
        transactions: Transactions,
        table: str,
        publisher: Publisher,
        *,
        poll_s: float = POLL_S,
        claim_s: float = CLAIM_S,
        reached: Reached = nothing,
    ) -> None:
        assert table.replace(".", "").replace("_", "").isalnum(), "a qualified table name"
        self._transactions = transactions
        self._table = table
        self._publisher = publisher
        self._poll_s = poll_s
        self._claim_s = claim_s
        self._reached = reached
        self._woken = asyncio.Event()
        self._backoff = Backoff(first_s=RETRY_FIRST_S, most_s=RETRY_MOST_S)

    def wake(self) -> None:
        """Look at the table now instead of within `poll_s`: something was just committed."""
        self._woken.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Publish what there is and what comes, until stopped; outages are waited for."""
        while not stop.is_set():
            try:
                published = await self.publish_waiting()
            except (UnavailableError, *FAILURES) as error:
                if not isinstance(error, UnavailableError) and not is_transient(error):
                    raise
                log.warning("outbox_delayed", table=self._table, exc_info=error)
                await _wait(stop, self._backoff.next_s())
                continue
            self._backoff.reset()
            if published < ROWS_MAX:
                await self._pause(stop)

    async def publish_waiting(self) -> int:
        """Publish and delete one batch of rows; return how many.

        Raises UnavailableError if the broker did not acknowledge all of them: those it did are
        deleted, except behind one of their own key that it did not.
        """
        # An idle table costs one statement, and no lock: this is asked all the time.
        oldest = await fetch_alone(self._transactions, self._sql(_OLDEST))
        self._measure(oldest[0]["age_s"] if oldest else None)
        if not oldest:
            return 0
        rows = await transact(self._transactions, self._claim)
        if not rows:
            return 0
        self._reached("outbox_claimed")
        done, error = await self._publish(rows)
        self._reached("outbox_published")
        missing = [row for row in rows if row.id not in done]
        await self._settle(sorted(done), missing)
        metrics.OUTBOX_PUBLISHED.labels(self._table).inc(len(done))
        if error is not None:
            raise error
        return len(rows)

    async def _claim(self, session: Transaction) -> list[Row]:
        # One claim at a time, or two relays could split a key's rows between them while neither
        # sees the other's claim. The lock ends with this short transaction.
        await session.connection.execute(
            "select pg_advisory_xact_lock(hashtextextended($1, 0))", f"outbox {self._table}"
        )
        claimed = await session.connection.fetch(self._sql(_CLAIM), ROWS_MAX, self._claim_s)
        rows = [Row(*row) for row in claimed]
        return sorted(rows, key=lambda row: row.id)

    async def _publish(self, rows: Sequence[Row]) -> tuple[set[int], BaseException | None]:
        """Send all rows in order; return which may be deleted, and the first error."""
        sends = [self._send(row) for row in rows]
        outcomes = await asyncio.gather(*sends, return_exceptions=True)
        done: set[int] = set()
        stuck: set[tuple[str, str]] = set()
        first: BaseException | None = None
        for row, outcome in zip(rows, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                first = first or outcome
                stuck.add((row.topic, row.key))
            elif (row.topic, row.key) not in stuck:
                # Behind one that failed it stays, to be published again after it.
                done.add(row.id)
        return done, first

    def _send(self, row: Row) -> asyncio.Task[None]:
        topic = Topic(row.topic)
        try:
            event = decode(topic, row.body)
        except MalformedEventError as error:
            log.exception("outbox_row_buried", table=self._table, offset=row.id)
            metrics.OUTBOX_BURIED.labels(self._table).inc()
            return self._publisher.send(
                self._publisher.names.dead(topic),
                row.key.encode(),
                row.body,
                [(REASON, error.reason.encode())],
            )
        return self._publisher.publish(topic, row.key, event)

    async def _settle(self, done: Sequence[int], missing: Sequence[Row]) -> None:
        if not missing:  # As mostly: one statement, without a transaction around it.
            left = await fetch_alone(self._transactions, self._sql(_DELETE_ALL), done)
            self._measure(left[0]["age_s"] if left else None)
            return

        async def work(session: Transaction) -> None:
            if done:
                await session.connection.execute(self._sql(_DELETE), done)
            ids, until = [row.id for row in missing], missing[0].claimed_until
            await session.connection.execute(self._sql(_RELEASE), ids, until)
            self._measure(await session.connection.fetchval(self._sql(_OLDEST)))

        await transact(self._transactions, work)

    def _sql(self, template: str) -> str:
        return template.format(table=self._table)

    def _measure(self, age_s: float | None) -> None:
        """Measure how old the oldest row is, if there is one."""
        metrics.OUTBOX_OLDEST.labels(self._table).set(age_s or 0.0)

    async def _pause(self, stop: asyncio.Event) -> None:
        waits = {asyncio.create_task(event.wait()) for event in (stop, self._woken)}
        try:
            await asyncio.wait(waits, timeout=self._poll_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._woken.clear()
            for wait in waits:
                wait.cancel()


# A row whose key has an earlier row under another relay's claim waits for that one.
_CLAIM = """
update {table} as claimed
set claimed_until = statement_timestamp() + make_interval(secs => $2)
where claimed.id in (
  select waiting.id
  from {table} as waiting
  where (waiting.claimed_until is null or waiting.claimed_until < clock_timestamp())
    and not exists (
      select from {table} as earlier
      where earlier.topic = waiting.topic and earlier.key = waiting.key
        and earlier.id < waiting.id and earlier.claimed_until >= clock_timestamp()
    )
  order by waiting.id
  limit $1
  for update of waiting skip locked
)
returning claimed.id, claimed.topic, claimed.key, claimed.body, claimed.claimed_until
"""

_DELETE = "delete from {table} where id = any($1)"

# What it deletes it still sees, so the oldest of the others is looked for.
_DELETE_ALL = """
with done as (delete from {table} where id = any($1))
select extract(epoch from clock_timestamp() - created_at)::float8 as age_s
from {table} where id <> all($1) order by id limit 1
"""

# Not what another relay has claimed since, because this one took too long.
_RELEASE = """
update {table} set claimed_until = null
where id = any($1) and claimed_until = $2
"""

_OLDEST = """
select extract(epoch from clock_timestamp() - created_at)::float8 as age_s
from {table} order by id limit 1
"""


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
