"""A whole stack that many faults are tried on, one after the other, with a judge.

Every link of the services goes through a proxy, every step can be armed, and consumers, leases and
claims are given up within seconds instead of a minute. Rates are not paced: what is tried here is
the order of effects, limits are kept by `tests/integration`. A trial begins and ends with nothing
on its way, so what is wrong belongs to it.
"""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from local import stack
from local.stack import SERVICES, Options, Stack
from tests.faults.proxy import Links, links
from tests.faults.steps import arm
from tests.integration import oracle
from tests.integration.scene import Deaths, Scene, Way, set_up

CONTACTS = 240
COUNTS = {"writer": 2}
WRITERS = ("writer-1", "writer-2")
QUOTA = 100_000
WITHIN_S = 120.0  # Many times what a quiet machine takes.
LOOK_S = 0.05

# Beside what `tests.integration.scene` makes quick: many deaths, each of which is waited for.
QUICK = {
    "KAFKA_SESSION_S": "4",
    "KAFKA_HEARTBEAT_S": "0.5",
    "KAFKA_REBALANCE_S": "8",
    "OUTBOX_CLAIM_S": "10",
}
QUICK_BY_SERVICE = {
    "poller-hubspot": {"LEASE_S": "4", "RATE_LIMITS": "false"},
    "writer": {
        "LEASE_S": "6",
        "LEASE_RENEW_S": "1",
        "LATE_CALL_S": "1",
        "DRAIN_EVERY_S": "0.5",
        "RATE_LIMITS": "false",
    },
    "notifier": {"CLAIM_S": "10"},
}


@dataclass(slots=True)
class Trial:
    """The stack, and what is done to it."""

    scene: Scene
    links: Links
    failpoints: Path
    deaths: Deaths
    draw: random.Random = field(default_factory=lambda: random.Random(1))

    @property
    def stack(self) -> Stack:
        """Return what runs."""
        return self.scene.stack

    @property
    def way(self) -> Way:
        """Return the only integration."""
        return self.scene.ways[0]

    async def edit_only(self, count: int) -> None:
        """Edit so many contacts; the API may be away."""
        await self.scene.edit(count, self.draw)

    async def edit(self, count: int) -> None:
        """Edit so many contacts and let them be read."""
        await self.edit_only(count)
        await self.scene.ask_for_runs()

    async def invite(self, count: int) -> None:
        """Put so many new contacts on the list and let them be read."""
        crowd = self.draw.randrange(10**9)
        emails = [f"new-{crowd}-{number}@example.com" for number in range(count)]
        await self.scene.source.invite(emails, name=self.way.source_list)
        await self.scene.ask_for_runs()

    def arm(self, step: str, wish: str = "kill") -> Callable[[], Awaitable[None]]:
        """Let a step strike once; return what waits until it has."""
        armed = arm(self.failpoints, step, wish)

        async def struck() -> None:
            await eventually(lambda: not armed.exists(), f"nobody came to {step}")

        return struck

    def services(self) -> list[str]:
        """Return the names of our processes."""
        return [
            name for each in SERVICES for name in stack.names(each.name, COUNTS.get(each.name, 1))
        ]

    async def replace(self, name: str) -> float:
        """Tell a process to end, and wait for the next one; return how long its end took."""
        supervisor = self.stack.supervisor
        pid, now = supervisor.pids()[name], asyncio.get_running_loop().time
        began, deaths = now(), self.deaths.counts[name]
        os.kill(pid, signal.SIGTERM)
        await eventually(lambda: self.deaths.counts[name] > deaths, f"{name} did not end")
        took_s = now() - began
        await supervisor.wait_ready(name, other_than=pid)
        return took_s

    def wake(self, names: Iterable[str]) -> None:
        """Let processes go on that have been stopped; those that are dead need no help."""
        pids = self.stack.supervisor.pids()
        for name in names:
            if name in pids:
                os.kill(pids[name], signal.SIGCONT)

    def logs(self, names: Iterable[str]) -> str:
        """Return what processes have logged."""
        folder = self.stack.supervisor.folder / "logs"
        return "".join((folder / f"{name}.log").read_text() for name in names)

    async def mend(self) -> None:
        """End every fault, and let every process go on."""
        self.links.heal()
        await self.scene.source.plan_faults([])
        for armed in self.failpoints.glob("*.*"):
            armed.unlink()
        self.wake(WRITERS)

    async def tasks(self) -> int:
        """Return how many tasks were charged."""
        async with oracle.database(self.stack) as connection:
            return int(await connection.fetchval("select count(*) from ledger.postings"))

    async def judge(self) -> list[str]:
        """Return what is wrong once nothing is on its way, or what still is; empty if all is well.

        What a fault left behind is ended first.
        """
        self.links.heal()
        left = await oracle.wait_until_quiet(self.scene, within_s=WITHIN_S)
        armed = [f"{path.name} was never passed" for path in self.failpoints.glob("*.*")]
        return [*left, *armed, *await oracle.problems(self.scene)]


@asynccontextmanager
async def trial(folder: Path) -> AsyncIterator[Trial]:
    """Start a stack, do a first full import, and hold it until the block ends."""
    failpoints = folder / "failpoints"
    failpoints.mkdir()
    deaths = Deaths()
    async with links() as made:
        options = Options(
            folder / "stack",
            durable=False,
            link=made.before,
            counts=COUNTS,
            environment={**QUICK, "ENVIRONMENT": "test", "FAILPOINTS": str(failpoints)},
            environments=QUICK_BY_SERVICE,
        )
        async with (
            stack.running(options, deaths.hear) as running,
            set_up(running, ways=1, contacts=CONTACTS, quota=QUOTA, seed=1) as scene,
        ):
            await scene.source.lift_limits()
            await scene.ways[0].destination.lift_limits()
            await scene.activate()
            begun = Trial(scene, made, failpoints, deaths)
            assert not await begun.judge(), "the first import went wrong before anything was tried"
            yield begun


async def eventually(
    condition: Callable[[], bool], otherwise: str, *, within_s: float = WITHIN_S
) -> None:
    """Return once a condition holds; fail with words if it does not in time."""
    try:
        async with asyncio.timeout(within_s):
            while not condition():  # noqa: ASYNC110  # no event tells
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        raise AssertionError(otherwise) from None
