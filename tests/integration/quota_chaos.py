"""The quota is used up while everything that has to do with it dies, and is raised once meanwhile.

What strikes is drawn from a seed, and so is when: not by the clock but by how many tasks are
posted, so that it is spread over the whole quota, and half of it comes just before a limit. Nobody
edits anything: each contact costs one task at most, and whoever waits in the end waits for the
quota alone. Who judges is `tests.integration.quota_judge`.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import asyncpg

from tests.integration import oracle, quota_judge
from tests.integration.chaos import (
    LOOK_S,
    Ordeal,
    Outcome,
    Storm,
    bugs_in,
    first_ready,
    gathering,
    insist,
    killed_at_a_step,
    service_of,
)

TIGHT = 0.1  # The last tenth before a limit is where holds are partial and thresholds near.
RAISED_AFTER_S = (0.0, 3.0)  # From the limit that is reached to the one that is raised.
PAUSE_S = (0.1, 0.6)  # Between two strikes, or all of a jump's would meet the same processes.
STRIKE_WITHIN_S = 90.0  # Without any progress until then something has stopped for good.
WRITERS, WRITERS_FULL = 3, 8

# Less than an import takes from each: they go one by one, and strikes meet all of them.
SMALL = Ordeal(
    contacts=340,
    ways=4,
    counts={"writer": WRITERS},
    victims=(*(f"writer-{n}" for n in range(1, WRITERS + 1)), "quota", "notifier"),
    kills_each=1,
    crashes=("postgres",),
    terminated=8,
    quota_first=150,
    quota_step=100,
    quiet_within_s=120.0,
)
FULL = Ordeal(
    contacts=30_000,
    ways=16,
    counts={"writer": WRITERS_FULL, "quota": 2, "poller-hubspot": 2, "mapper": 2},
    victims=(
        *(f"writer-{n}" for n in range(1, WRITERS_FULL + 1)),
        *("quota-1", "quota-2", "notifier"),
    ),
    kills_each=6,
    crashes=("postgres", "postgres"),
    terminated=150,
    partitions=48,  # As many as in production: a writer each has some of the 16 destinations.
    quota_first=12_000,
    quota_step=8_000,
    quiet_within_s=600.0,
    tier="extended",
)

_BACKENDS = "select pid from pg_stat_activity where usename like 'contactsync%' order by pid"


async def undergo(ordeal: Ordeal, folder: Path, seed: int, *, sabotage: str = "") -> Outcome:
    """Let the quota be used up twice under strikes, wait until nothing else is left, and judge.

    `sabotage` is a statement that the database runs first: a fault that must be found.
    """
    async with gathering(ordeal, folder, seed) as storm:
        if sabotage:
            async with oracle.database(storm.stack) as connection:
                await connection.execute(sabotage)
        await _rage(storm)
        for name in (*ordeal.victims, *ordeal.crashes):
            await storm.stack.supervisor.wait_ready(name)
        left = await oracle.wait_until_stopped(storm.stack, within_s=ordeal.quiet_within_s)
        problems = quota_judge.problems(await quota_judge.look(storm.scene))
        problems += await oracle.dead_letters(storm.stack)
    print(f"{dict(storm.kills)} of {storm.watched.samples} samples")  # noqa: T201  # with a failure
    bugs = await asyncio.to_thread(bugs_in, folder / "stack" / "logs")
    return Outcome(left, problems, storm.kills, storm.watched, storm.deaths, bugs)


async def _rage(storm: Storm) -> None:
    async with asyncio.TaskGroup() as group:
        raising = group.create_task(_raise(storm))
        for at, strike in _strikes(storm):
            await _reach(storm, at)
            await strike()
            await asyncio.sleep(storm.draw.uniform(*PAUSE_S))
        await raising


async def _raise(storm: Storm) -> None:
    """Raise the limit once, soon after the first one was reached."""
    draw = random.Random(storm.draw.randrange(2**31))
    await _reach(storm, storm.ordeal.quota_first)
    await asyncio.sleep(draw.uniform(*RAISED_AFTER_S))
    limit = storm.ordeal.quota_first + storm.ordeal.quota_step
    await insist(partial(storm.scene.allow, limit))


async def _reach(storm: Storm, posted: int) -> None:
    """Return once so many tasks are posted; say what is under way if they never are."""
    try:
        async with asyncio.timeout(STRIKE_WITHIN_S):
            while storm.watched.posted < posted:  # noqa: ASYNC110  # the database is polled
                await asyncio.sleep(LOOK_S / 4)
    except TimeoutError:
        async with oracle.database(storm.stack) as connection:
            under_way = await oracle.under_way(connection)
        message = f"{storm.watched.posted} tasks are posted, never {posted}: {under_way}"
        raise AssertionError(message) from None


def _strikes(storm: Storm) -> list[tuple[int, Callable[[], Awaitable[None]]]]:
    """Draw what strikes once so many tasks are posted, in that order."""
    ordeal, draw = storm.ordeal, storm.draw
    strikes: list[Callable[[], Awaitable[None]]] = [
        partial(_kill, storm, name) for name in ordeal.victims for _ in range(ordeal.kills_each)
    ]
    strikes += [partial(_crash, storm, server) for server in ordeal.crashes]
    strikes += [partial(_terminate, storm)] * ordeal.terminated
    draw.shuffle(strikes)
    places = sorted(_place(ordeal, draw) for _ in strikes)
    return list(zip(places, strikes, strict=True))


def _place(ordeal: Ordeal, draw: random.Random) -> int:
    limit = draw.choice((ordeal.quota_first, ordeal.quota_first + ordeal.quota_step))
    return draw.randint(int(limit * (1 - TIGHT)) if draw.random() < 0.5 else 1, limit)


async def _kill(storm: Storm, name: str) -> None:
    await first_ready(storm.stack, [name])
    if not await killed_at_a_step(storm, name, storm.draw):
        storm.stack.supervisor.kill(name)
        storm.kills[service_of(name)] += 1


async def _crash(storm: Storm, server: str) -> None:
    storm.stack.supervisor.kill(server)
    storm.kills[server] += 1
    await storm.stack.supervisor.wait_ready(server)


async def _terminate(storm: Storm) -> None:
    """Let the database end one of the services' backends, whatever it is about."""

    async def strike() -> None:
        async with oracle.database(storm.stack) as connection:
            pids = [row["pid"] for row in await connection.fetch(_BACKENDS)]
            await connection.fetchval("select pg_terminate_backend($1)", storm.draw.choice(pids))

    try:
        await strike()
    except (asyncpg.PostgresError, OSError, IndexError):
        return  # The database itself was just killed.
    storm.kills["backend"] += 1
