"""What the quota ledger stands: `python -m benchmarks.ledger`, or `make bench-ledger`.

Eight writers (two processes of four connections) hold units and post them, through the functions
that the writer uses (`libs.common.ledger`), as there: held by one statement, which is committed as
it is answered, and posted in a transaction. That is a pair. The database is a PostgreSQL of its own
whose commits wait for the disk. Beside it, in the same run, the ledger as one would write it first,
with `SELECT … FOR UPDATE` and the same two phases: what ours is worth is the ratio of the two. At
the end of each case the counters are held against the postings: a wrong ledger has no speed.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median
from uuid import UUID, uuid4

import asyncpg

import migrations
from libs.common import ledger
from libs.common.ledger import Posting
from libs.common.postgres import Transaction, Transactions, create_pool, transact, transact_alone
from local import postgres
from local.stack import as_role

PROCESSES, CONNECTIONS = 2, 4
SECONDS = 5.0
BEGIN_WITHIN_S = 60.0  # Until every process stands ready.
LIMIT = 10**12  # Never reached, but where it is to be.
INTEGRATION, RUN = UUID(int=1), UUID(int=2)
BAR = 2.0  # Times a plain ledger, at batch 1 on one workspace.

Pair = Callable[[Transactions, UUID, int], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured: whose pairs, on how many workspaces, of how many postings."""

    name: str
    workspaces: int
    batch: int
    limit: int = LIMIT


@dataclass(frozen=True, slots=True)
class Figures:
    """What a case came to; `postings` is what all writers were told was posted."""

    case: Case
    seconds: float
    pairs: int
    postings: int
    p50_ms: float
    p99_ms: float

    @property
    def postings_per_s(self) -> float:
        """Return the postings a second, all writers together."""
        return self.postings / self.seconds

    @property
    def pairs_per_s(self) -> float:
        """Return the pairs a second, all writers together."""
        return self.pairs / self.seconds


OURS, PLAIN, FULL = "ours", "plain", "ours, used up"
BESIDE, BASE = Case(OURS, 1, 1), Case(PLAIN, 1, 1)
ROUNDS = 3
CASES = (
    *(BESIDE, BASE) * ROUNDS,
    *(Case(OURS, 1, batch) for batch in (100, 500)),
    *(Case(OURS, 1000, batch) for batch in (1, 100, 500)),
    Case(FULL, 1, 100, limit=0),
)


async def our_pair(sessions: Transactions, workspace: UUID, batch: int) -> int:
    """Hold and post as the writer does; return how many were posted."""
    hold_id = uuid4()

    async def hold(session: Transaction) -> int:
        return await ledger.hold(session, workspace=workspace, hold_id=hold_id, wanted=batch)

    granted = await transact_alone(sessions, hold)
    postings = [
        Posting(os.urandom(16), INTEGRATION, f"contact-{number}", RUN, "upsert")
        for number in range(granted)
    ]

    async def post(session: Transaction) -> int:
        return await ledger.post(session, hold_id=hold_id, postings=postings)

    return await transact(sessions, post) if postings else 0


async def plain_pair(sessions: Transactions, workspace: UUID, batch: int) -> int:
    """Hold and post as one would write it first: lock the month, look, then change."""
    assert batch == 1
    hold_id = uuid4()

    async def hold(session: Transaction) -> int:
        connection = session.connection
        month = await connection.fetchrow(_PLAIN_LOCK, workspace)
        if month["posted"] + month["held"] >= month["quota_limit"]:
            return 0
        await connection.execute(_PLAIN_HOLD, hold_id, workspace)
        await connection.execute(_PLAIN_HELD, workspace)
        return 1

    async def post(session: Transaction) -> int:
        connection = session.connection
        await connection.fetchrow(_PLAIN_LOCK, workspace)
        new = await connection.fetchval(
            _PLAIN_POST, workspace, os.urandom(16), hold_id, INTEGRATION, RUN
        )
        await connection.execute(_PLAIN_DONE, hold_id)
        await connection.execute(_PLAIN_POSTED, workspace)
        return int(new or 0)

    return await transact(sessions, post) if await transact(sessions, hold) else 0


PAIRS: dict[str, Pair] = {OURS: our_pair, FULL: our_pair, PLAIN: plain_pair}

_PLAIN_TABLES = """
create schema plain;
create table plain.periods (workspace_id uuid primary key, quota_limit bigint not null,
  posted bigint not null default 0, held bigint not null default 0);
create table plain.holds (hold_id uuid primary key, workspace_id uuid not null,
  posted integer not null default 0);
create table plain.postings (workspace_id uuid, effect_key bytea, hold_id uuid not null,
  integration_id uuid not null, source_id text not null, run_id uuid not null,
  operation text not null, posted_at timestamptz not null default clock_timestamp(),
  primary key (workspace_id, effect_key));
grant usage on schema plain to contactsync_writer;
grant all on all tables in schema plain to contactsync_writer;
"""
_PLAIN_LOCK = (
    "select posted, held, quota_limit from plain.periods where workspace_id = $1 for update"
)
_PLAIN_HOLD = "insert into plain.holds (hold_id, workspace_id) values ($1, $2)"
_PLAIN_HELD = "update plain.periods set held = held + 1 where workspace_id = $1"
_PLAIN_POST = (
    "insert into plain.postings (workspace_id, effect_key, hold_id, integration_id, source_id,"
    " run_id, operation) values ($1, $2, $3, $4, 'contact-0', $5, 'upsert')"
    " on conflict do nothing returning 1"
)
_PLAIN_DONE = "update plain.holds set posted = 1 where hold_id = $1"
_PLAIN_POSTED = (
    "update plain.periods set posted = posted + 1, held = held - 1 where workspace_id = $1"
)


@dataclass(frozen=True, slots=True)
class Shift:
    """What one process is to do: its writers begin at the same moment as the others'."""

    url: str
    case: Case
    workspaces: Sequence[UUID]
    seconds: float
    connections: int


_together: list[Barrier] = []  # One, in a process of writers.


def _join(barrier: Barrier) -> None:
    _together.append(barrier)


def write(shift: Shift) -> tuple[int, list[float]]:
    """Be one process of writers; return what was posted, and each pair's seconds."""
    return asyncio.run(_write(shift))


async def _write(shift: Shift) -> tuple[int, list[float]]:
    pool = create_pool(shift.url, size_max=shift.connections, application_name="bench")
    sessions = Transactions(pool)
    took_s: list[float] = []
    posted = 0

    async def connect() -> None:
        async with sessions.begin() as session:
            await session.connection.execute("select 1")

    async def writer(number: int, until: float) -> None:
        nonlocal posted
        turn = number * len(shift.workspaces) // shift.connections
        while (began := time.monotonic()) < until:
            workspace = shift.workspaces[turn % len(shift.workspaces)]
            turn += 1
            count = await PAIRS[shift.case.name](sessions, workspace, shift.case.batch)
            posted += count
            took_s.append(time.monotonic() - began)

    try:
        await asyncio.gather(*(connect() for _ in range(shift.connections)))
        await asyncio.to_thread(_together[0].wait, BEGIN_WITHIN_S)
        until = time.monotonic() + shift.seconds
        await asyncio.gather(*(writer(number, until) for number in range(shift.connections)))
    finally:
        await pool.close()
    return posted, took_s


def measure(
    owner_url: str,
    case: Case,
    *,
    seconds: float = SECONDS,
    processes: int = PROCESSES,
    connections: int = CONNECTIONS,
) -> Figures:
    """Run a case on workspaces of its own; raise AssertionError if the ledger is wrong after it."""
    workspaces = [uuid4() for _ in range(case.workspaces)]
    asyncio.run(_prepare(owner_url, case, workspaces))
    shares = [
        workspaces[n::processes] if len(workspaces) > 1 else workspaces for n in range(processes)
    ]
    url = as_role(owner_url, "writer")
    shifts = [Shift(url, case, share, seconds, connections) for share in shares]
    spawned = get_context("spawn")
    barrier = spawned.Barrier(processes)
    with ProcessPoolExecutor(processes, spawned, initializer=_join, initargs=(barrier,)) as pool:
        found = list(pool.map(write, shifts))
    posted = sum(count for count, _ in found)
    took_s = sorted(each for _, own in found for each in own)
    asyncio.run(_check(owner_url, case, workspaces, posted))
    return Figures(
        case,
        seconds,
        len(took_s),
        posted,
        1000 * took_s[len(took_s) // 2],
        1000 * took_s[len(took_s) * 99 // 100],
    )


async def _prepare(url: str, case: Case, workspaces: Sequence[UUID]) -> None:
    connection = await asyncpg.connect(url)
    try:
        if case.name == PLAIN:
            await connection.execute("drop schema if exists plain cascade")
            await connection.execute(_PLAIN_TABLES)
            insert = (
                "insert into plain.periods (workspace_id, quota_limit)"
                " select unnest($1::uuid[]), $2"
            )
        else:
            insert = (
                "insert into ledger.periods (workspace_id, period, quota_limit, revision)"
                " select unnest($1::uuid[]), ledger.current_period(), $2, 1"
            )
        await connection.execute(insert, workspaces, case.limit)
        # What earlier cases left to be done is not this one's.
        await connection.execute("vacuum analyze")
        await connection.execute("checkpoint")
    finally:
        await connection.close()


async def _check(url: str, case: Case, workspaces: Sequence[UUID], posted: int) -> None:
    schema = "plain" if case.name == PLAIN else "ledger"
    connection = await asyncpg.connect(url)
    try:
        counted = await connection.fetchrow(
            f"select sum(posted)::bigint, sum(held)::bigint,"  # noqa: S608  # one of two names
            f" (select count(*) from {schema}.postings where workspace_id = any ($1))"
            f" from {schema}.periods where workspace_id = any ($1)",
            workspaces,
        )
    finally:
        await connection.close()
    assert tuple(counted) == (posted, 0, posted), f"{case}: {tuple(counted)} is not {posted}"


def ratio(found: Sequence[Figures]) -> float:
    """Return how many times faster than a plain ledger ours is, at batch 1 on one workspace.

    The two are measured in turn, some times each: a machine has moods. It is the median of the
    rounds' ratios.
    """
    ours, plain = (
        [each.pairs_per_s for each in found if each.case == case] for case in (BESIDE, BASE)
    )
    return median(one / other for one, other in zip(ours, plain, strict=True))


def shown(found: Sequence[Figures]) -> str:
    """Return a table for docs/benchmarks.md."""
    lines = [
        "| ledger | workspaces | batch | postings/s | pairs/s | p50 / p99 ms of a pair |",
        "|---|---|---|---|---|---|",
    ]
    for each in found:
        case = each.case
        lines.append(
            f"| {case.name} | {case.workspaces:,} | {case.batch} | {each.postings_per_s:,.0f} |"
            f" {each.pairs_per_s:,.0f} | {each.p50_ms:.1f} / {each.p99_ms:.1f} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every case; return 1 if ours is less than twice as fast as a plain ledger."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ledger", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each case")
    parser.add_argument("--json", action="store_true", help="the last line is all of it as JSON")
    wanted = parser.parse_args(arguments)
    print(f"{os.cpu_count()} cores, {platform.machine()}, load {os.getloadavg()[0]:.1f} before")
    found = []
    with tempfile.TemporaryDirectory(prefix="contactsync-bench-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL's user has to reach it.
        with postgres.running(Path(folder), durable=True) as server:
            migrations.upgrade(server.url)
            for case in CASES:
                found.append(measure(server.url, case, seconds=wanted.seconds))
                print(shown(found).splitlines()[-1], file=sys.stderr)
    print(shown(found))
    print(f"\nbatch 1 on one workspace: {ratio(found):.1f} times a plain ledger (bar: {BAR:g})")
    if wanted.json:
        print(json.dumps([asdict(each) for each in found]))
    return 0 if ratio(found) >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
