"""Random kills, cut links and crashed servers while contacts flow, are edited and the quota ends.

One ordeal, in two sizes: `SMALL` in every `make test`, `FULL` by `make chaos`. A seed draws what is
done and when; two runs of real processes are never quite alike, so a seed that failed is run again
several times. Who judges is `tests.integration.oracle`: nothing lost, nothing stale, nothing
charged twice, never over the quota at any observed moment, never beyond a provider's limits.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import httpx

from local import stack, verify
from local.errors import StackError
from local.stack import Options, Stack
from tests.faults.proxy import Fault, Links, links
from tests.faults.steps import arm, steps
from tests.integration import oracle
from tests.integration.oracle import Watched
from tests.integration.scene import QUICK, QUICK_BY_SERVICE, Deaths, Scene, set_up

T = TypeVar("T")

PAUSES_S = (0.2, 2.0)  # Between kills at least; and between edits.
IDLE_S = 5.0  # A kill does not wait longer for something to be written since the last one.
READY_WITHIN_S, LOOK_S = 60.0, 0.2
ANSWER_WITHIN_S = 90.0  # The API may be dead, or without its database, for a while.
STEP_S = 2.5  # How long a step is armed: the rarer ones are seldom passed.
STEP_SHARE = 0.4  # So many of the kills strike at a named step instead of at a random moment.

# The quota is used up again and again while processes die: that is where holds are tight.
QUOTA_LAST = 1_000_000

# A provider that takes its time: more of a killed process's calls are under way. The same time for
# every call, or they would arrive closer together than they were sent.
SLOW = [{"kind": "latency", "seconds": 0.15}]

OURS = ("kafka", "postgres", "smtp")
PROVIDERS = ("hubspot", "brevo")
FAULT_S = (0.5, 4.0)
CALM_S = (1.0, 6.0)  # Between two faults of links.


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordeal:
    """What happens; the rest is drawn."""

    contacts: int
    ways: int = 3
    counts: Mapping[str, int] = field(
        default_factory=lambda: {"poller-hubspot": 2, "mapper": 2, "writer": 3}
    )
    victims: Sequence[str]
    kills_each: int
    quota_first: int
    quota_step: int
    has_bad_links: bool = False
    crashes: Sequence[str] = ()  # Servers that are killed, as often as they are named.
    terminated: int = 0  # Services' backends that the database ends.
    partitions: int = stack.PARTITIONS
    quiet_within_s: float = 150.0
    tier: str = "general"  # Of the destinations; what is parked drains as fast as it allows.


SMALL = Ordeal(
    contacts=5000,
    victims=(
        *("poller-hubspot-1", "poller-hubspot-2", "mapper-1", "mapper-2"),
        *("writer-1", "writer-2", "writer-3", "activity"),
    ),
    kills_each=3,
    quota_first=700,
    quota_step=900,
)
FULL = Ordeal(
    contacts=20_000,
    victims=(*SMALL.victims, "config-api", "quota", "notifier"),
    kills_each=6,
    quota_first=3_000,
    quota_step=3_500,
    has_bad_links=True,
    crashes=("postgres", "kafka"),
    quiet_within_s=600.0,
    tier="extended",
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an ordeal ended."""

    left: list[str]  # What never ended.
    problems: list[str]
    kills: Counter[str]
    watched: Watched
    deaths: Deaths
    bugs: list[str]  # What processes said that ended by themselves, outages left aside.


@dataclass(slots=True)
class Storm:
    """What is under way while an ordeal lasts."""

    ordeal: Ordeal
    scene: Scene
    links: Links
    failpoints: Path
    watched: Watched
    deaths: Deaths
    draw: random.Random
    movers: list[str]  # Contacts whose address will change.
    kills: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)

    @property
    def stack(self) -> Stack:
        return self.scene.stack


async def undergo(ordeal: Ordeal, folder: Path, seed: int) -> Outcome:
    """Set everything up, let it happen, mend it, wait until it is quiet, and judge."""
    async with gathering(ordeal, folder, seed) as storm:
        await _rage(storm)
        await _calm(storm)
        left = await oracle.wait_until_quiet(storm.scene, within_s=ordeal.quiet_within_s)
        problems = await oracle.problems(storm.scene)
    bugs = await asyncio.to_thread(bugs_in, folder / "stack" / "logs")
    return Outcome(left, problems, storm.kills, storm.watched, storm.deaths, bugs)


@asynccontextmanager
async def gathering(ordeal: Ordeal, folder: Path, seed: int) -> AsyncIterator[Storm]:
    """Set everything up and start every integration, with slow providers and nobody dying yet."""
    failpoints = folder / "failpoints"
    failpoints.mkdir(parents=True)
    deaths = Deaths()
    async with AsyncExitStack() as exits:
        made = await exits.enter_async_context(links())
        options = Options(
            folder / "stack",
            seed=seed,
            durable=False,
            partitions=ordeal.partitions,
            counts=ordeal.counts,
            link=made.before if ordeal.has_bad_links else stack.direct,
            environment={**QUICK, "ENVIRONMENT": "test", "FAILPOINTS": str(failpoints)},
            environments=QUICK_BY_SERVICE,
        )
        running = await exits.enter_async_context(stack.running(options, deaths.hear))
        scene = await exits.enter_async_context(
            set_up(
                running,
                ways=ordeal.ways,
                contacts=ordeal.contacts,
                quota=ordeal.quota_first,
                seed=seed,
                tier=ordeal.tier,
            )
        )
        watched = await exits.enter_async_context(oracle.watching_the_ledger(running))
        draw = random.Random(seed)
        # What takes this process a second (and the sandbox) is done while no provider is called:
        # calls would pile up before the sandbox, and arrive together.
        movers = await _movers(scene, draw)
        steps()
        await slow_down(scene)
        await scene.activate()
        yield Storm(ordeal, scene, made, failpoints, watched, deaths, draw, movers)


def bugs_in(logs: Path) -> list[str]:
    """Return the last words of processes that ended for another reason than an outage.

    A process that finds no broker at its start ends, and is started again.
    """
    return [
        line
        for log in sorted(logs.glob("*.log"))
        for line in log.read_text().splitlines()
        if '"process_failed"' in line and "UnavailableError" not in line
    ]


async def slow_down(scene: Scene) -> None:
    for account in (scene.source, *(way.destination for way in scene.ways)):
        await account.plan_faults(SLOW)


async def _calm(storm: Storm) -> None:
    """End what disturbs: latencies, cut links, a quota that is too small, dying processes."""
    storm.links.heal()
    for account in (storm.scene.source, *(way.destination for way in storm.scene.ways)):
        await account.plan_faults([])
    for name in (*storm.ordeal.victims, *storm.ordeal.crashes):
        await storm.stack.supervisor.wait_ready(name)
    await insist(partial(storm.scene.allow, QUOTA_LAST))
    used = (await insist(storm.scene.quota))["used"]
    edits = storm.scene.edits.total()
    print(  # noqa: T201  # pytest shows it with a failure
        f"{storm.kills.total()} kills, {storm.faults.total()} faults of links, {used} tasks, "
        f"{edits} edits"
    )


async def _rage(storm: Storm) -> None:
    """Kill and disturb in random order, with edits going on, until every victim has had it."""
    killing = asyncio.create_task(_kill(storm, random.Random(storm.draw.randrange(2**31))))
    beside = [asyncio.create_task(_strain(storm, random.Random(storm.draw.randrange(2**31))))]
    try:
        await _work(storm, killing)
    finally:
        for task in (killing, *beside):
            task.cancel()
        await asyncio.wait({killing, *beside})
    for task in (killing, *beside):
        if not task.cancelled():
            task.result()


async def _work(storm: Storm, until: "asyncio.Task[None]") -> None:
    """Edit, move and ask for runs, and let the quota be raised when it is used up."""
    scene, draw = storm.scene, storm.draw
    while not until.done():
        await scene.edit(draw.choice((1, 5, 20, 60, 120)), draw)
        if storm.movers and draw.random() < 0.2:
            await scene.move(storm.movers.pop())
        await insist(scene.ask_for_runs)
        quota = await insist(scene.quota)
        if quota["used"] >= quota["limit"]:
            limit = quota["limit"] + storm.ordeal.quota_step
            await insist(partial(scene.allow, limit))
        await asyncio.sleep(draw.uniform(*PAUSES_S))


async def insist(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask the API until it answers: it may be dead, or without its database."""
    async with asyncio.timeout(ANSWER_WITHIN_S):
        while True:
            try:
                return await ask()
            except (httpx.TransportError, StackError):
                await asyncio.sleep(LOOK_S)


async def _movers(scene: Scene, draw: random.Random) -> list[str]:
    """Choose one contact of each list whose address will change: more would be a bulk change."""
    movers = []
    state = await scene.source.state()
    for way in scene.ways:
        wanted = verify.wanted_of(state, way.source_list)
        there = way.before.contacts
        new = [key for key, each in wanted.contacts.items() if each["EMAIL"] not in there]
        movers.append(draw.choice(new))
    return movers


async def _kill(storm: Storm, draw: random.Random) -> None:
    """Kill with SIGKILL, each victim as often as the others, and only what is ready."""
    deck = list(storm.ordeal.victims) * storm.ordeal.kills_each
    draw.shuffle(deck)
    crashes = _crash_at(storm.ordeal, len(deck), draw)
    while deck:
        if (server := crashes.get(len(deck))) is not None:
            storm.stack.supervisor.kill(server)
            storm.kills[server] += 1
            await storm.stack.supervisor.wait_ready(server)
        name = await first_ready(storm.stack, deck)
        deck.remove(name)
        if not await killed_at_a_step(storm, name, draw):
            storm.stack.supervisor.kill(name)
            storm.kills[service_of(name)] += 1
        await _some_work(storm.watched, draw)


def _crash_at(ordeal: Ordeal, kills: int, draw: random.Random) -> dict[int, str]:
    """Draw before which kill each server crashes: in the midst, not at the ends."""
    midst = range(kills // 4, 3 * kills // 4)
    return dict(zip(draw.sample(midst, len(ordeal.crashes)), ordeal.crashes, strict=True))


async def killed_at_a_step(storm: Storm, name: str, draw: random.Random) -> bool:
    """Arm a step of a victim's service for a while; return whether somebody died there."""
    own = sorted(step for step in steps() if step.startswith(f"{service_of(name)}."))
    if not own or draw.random() > STEP_SHARE:
        return False
    armed = arm(storm.failpoints, draw.choice(own), f"kill@{draw.randint(1, 4)}")
    with suppress(TimeoutError):
        async with asyncio.timeout(STEP_S):
            while armed.exists():  # noqa: ASYNC110  # a file tells nobody that it is gone
                await asyncio.sleep(LOOK_S / 4)
    try:
        armed.unlink()
    except FileNotFoundError:
        storm.kills[service_of(name)] += 1
        return True
    return False


def service_of(name: str) -> str:
    """Return the service of a process by its name."""
    return name.rstrip("-0123456789").removesuffix("-hubspot").replace("config-api", "config_api")


async def _some_work(watched: Watched, draw: random.Random) -> None:
    """Return after a pause in which something was written, if the dead let the others write."""
    before, now = watched.posted, asyncio.get_running_loop().time
    first, last = now() + draw.uniform(*PAUSES_S), now() + IDLE_S
    while now() < first or (watched.posted == before and now() < last):  # noqa: ASYNC110  # the database is polled
        await asyncio.sleep(LOOK_S)


async def first_ready(running: Stack, names: Sequence[str]) -> str:
    """Return the first of these processes that is ready, as soon as one is."""
    deadline = asyncio.get_running_loop().time() + READY_WITHIN_S
    while asyncio.get_running_loop().time() < deadline:
        for name in dict.fromkeys(names):
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await running.supervisor.wait_ready(name)
                    return name
    message = f"none of {sorted(set(names))} was ready within {READY_WITHIN_S:g} s"
    raise AssertionError(message)


async def _strain(storm: Storm, draw: random.Random) -> None:
    """Let one link after the other go wrong for a while, if there are any."""
    while storm.ordeal.has_bad_links:
        await asyncio.sleep(draw.uniform(*CALM_S))
        name = draw.choice((*OURS, *PROVIDERS))
        async with _suffering(storm, name, draw):
            await asyncio.sleep(draw.uniform(*FAULT_S))


@asynccontextmanager
async def _suffering(storm: Storm, name: str, draw: random.Random) -> AsyncIterator[None]:
    link = storm.links[name]
    # Nothing that delays calls to a provider: those of two moments would arrive in one, which no
    # caller can know and every limit would count.
    kinds = ["reset", "refuses", "withholds"]
    if name in OURS:
        kinds += ["slow", "black_hole", "tears"]
    kind = draw.choice(kinds)
    storm.faults[f"{name} {kind}"] += 1
    match kind:
        case "reset":
            link.reset()
        case "refuses":
            link.suffer(Fault(refuses=True))
            link.reset()
        case "withholds":
            link.suffer(Fault(withholds_answers=True))
        case "slow":
            link.suffer(Fault(latency_s=0.1, jitter_s=0.2))
        case "black_hole":
            link.suffer(Fault(is_black_hole=True))
        case _:
            link.suffer(Fault(tears_after=draw.randrange(100, 100_000)))
    try:
        yield
    finally:
        if kind == "withholds":
            link.reset()  # The answers are lost for good.
        link.heal()
