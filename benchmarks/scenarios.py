"""The scenarios: each makes its own stack's world do one job, and says what it cost."""

import time
from collections.abc import Mapping

from benchmarks.bench import Bench, Scenario, Setting
from benchmarks.idle import idle
from benchmarks.peers.scenario import peers
from benchmarks.slow import slow
from benchmarks.sources import sources
from benchmarks.writers import writers
from local.parties import SOURCES

CHANGED_SHARE = 0.01
REST_S = 20.0
LATENCY_SOURCE_S, LATENCY_DESTINATION_S = 0.1, 0.2

_READ_S = """
select extract(epoch from max(read_at) - min(started_at))::float8,
  extract(epoch from clock_timestamp() - max(read_at))::float8
from sync.runs
"""


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

    The bound: a source's pages come one after the other, so nobody who asks for one thing at a time
    can be faster than the pages times the latency; the last page's way to the destination is one
    write more. It begins when the API has answered that the integration is active: what that asks
    the providers is no part of the run. `read_s` is from the run's beginning to the end of its
    pages, `tail_s` from there until all is written and told.
    """
    world, contacts = bench.world, bench.contacts
    await world.fill(contacts)
    await world.integrate("Newsletter from HubSpot")
    await world.source.delay(LATENCY_SOURCE_S)
    await world.destination.delay(LATENCY_DESTINATION_S)
    activation_s = 0.0

    async def begin() -> None:
        nonlocal activation_s
        asked_at_s = time.monotonic()
        await world.activate()
        activation_s = time.monotonic() - asked_at_s

    found = await bench.phase("latency", "full", contacts, begin)
    read_s, tail_s = await world.database.fetchrow(_READ_S)
    # A list's page of 200 members is one call for the ids and two at a time for the contacts.
    bound_s = contacts / 200 * 2 * LATENCY_SOURCE_S + LATENCY_DESTINATION_S
    bench.note(
        share_of_bound=bound_s / (found.seconds - activation_s),
        bound_s=bound_s,
        activation_s=activation_s,
        read_s=read_s,
        tail_s=tail_s,
    )


async def rest(bench: Bench) -> None:
    """Measure what the processes cost with nothing to do, after a first small job."""
    world = bench.world
    await world.fill(bench.contacts)
    await world.integrate("Newsletter from HubSpot")
    await bench.phase("rest", "full", bench.contacts, world.activate)
    await world.rested("rest", REST_S, bench.found)


SCENARIOS: Mapping[str, Scenario] = {
    "job": Scenario(100_000, job),
    "latency": Scenario(10_000, latency),
    "rest": Scenario(100, rest),
    "idle": Scenario(20, idle),
    "writers": Scenario(
        20_000, writers, tuple(Setting(counts={"writer": count}) for count in (1, 2, 3))
    ),
    # Destinations' limits are what this one is about: the writer keeps them.
    "slow": Scenario(200, slow, (Setting(environments={"writer": {"RATE_LIMITS": "true"}}),)),
    "peers": Scenario(100_000, peers),
    "sources": Scenario(20_000, sources, tuple(Setting(source=each) for each in SOURCES)),
}
