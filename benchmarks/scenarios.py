"""The scenarios: each makes its own stack's world do one job, and says what it cost."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measured import Measured
from benchmarks.profiles import profiled
from benchmarks.world import World

CHANGED_SHARE = 0.01
REST_S = 20.0
LATENCY_SOURCE_S, LATENCY_DESTINATION_S = 0.1, 0.2


@dataclass(slots=True)
class Bench:
    """What a scenario works with."""

    world: World
    contacts: int
    folder: Path
    profile: tuple[str, ...] = ()
    found: list[Measured] = field(default_factory=list)

    async def phase(
        self, scenario: str, name: str, contacts: int, begin: Callable[[], Awaitable[None]]
    ) -> Measured:
        """Do and measure one phase."""
        pids = self.world.stack.supervisor.pids()
        with profiled(pids, self.profile, self.folder / f"{scenario}-{name}"):
            async with self.world.measured(scenario, name, contacts, self.found):
                await begin()
        return self.found[-1]


async def job(bench: Bench) -> None:
    """Import everything, read it all again unchanged, then one in a hundred edited."""
    world, contacts = bench.world, bench.contacts
    await world.fill(contacts)
    await world.integrate("Newsletter from HubSpot")
    await bench.phase("job", "full", contacts, world.activate)
    await bench.phase("job", "unchanged", contacts, lambda: world.ask_for_runs("full"))
    edited = max(1, round(CHANGED_SHARE * contacts))
    await world.source.change(edited, seed=2)
    await bench.phase("job", "changed", edited, lambda: world.ask_for_runs("changes"))


async def latency(bench: Bench) -> None:
    """Import from a source and to a destination that take their time for every answer.

    The bound: a source's pages come one after the other, so nobody can be faster than the pages
    times the latency; the last page's way to the destination is one write more.
    """
    world, contacts = bench.world, bench.contacts
    await world.fill(contacts)
    await world.integrate("Newsletter from HubSpot")
    await world.source.delay(LATENCY_SOURCE_S)
    await world.destination.delay(LATENCY_DESTINATION_S)
    found = await bench.phase("latency", "full", contacts, world.activate)
    # A list's page of 200 members is one call for the ids and two at a time for the contacts.
    bound_s = contacts / 200 * 2 * LATENCY_SOURCE_S + LATENCY_DESTINATION_S
    bench.found[-1] = _noted(found, share_of_bound=bound_s / found.seconds)


async def rest(bench: Bench) -> None:
    """Measure what the processes cost with nothing to do, after a first small job."""
    world = bench.world
    await world.fill(bench.contacts)
    await world.integrate("Newsletter from HubSpot")
    await bench.phase("rest", "full", bench.contacts, world.activate)
    await world.rested("rest", REST_S, bench.found)


def _noted(found: Measured, **notes: float) -> Measured:
    changed = {name: getattr(found, name) for name in Measured.__dataclass_fields__}
    return Measured(**{**changed, "notes": {**found.notes, **notes}})


SCENARIOS: dict[str, tuple[int, Callable[[Bench], Awaitable[None]]]] = {
    "job": (100_000, job),
    "latency": (10_000, latency),
    "rest": (100, rest),
}
