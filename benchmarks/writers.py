"""How much more several writers do than one: first imports to twenty destinations at once."""

from benchmarks import fleet
from benchmarks.bench import Bench

DESTINATIONS = 20


async def writers(bench: Bench) -> None:
    """Import to every destination at once, with as many writers as this stack has."""
    world = bench.world
    count = sum(name.startswith("writer") for name in world.stack.supervisor.pids())
    each = max(1, bench.contacts // DESTINATIONS)
    await world.fill(each)
    tenants = await fleet.settle(world, DESTINATIONS)
    found = await bench.phase(
        "writers", f"{count} of them", each * DESTINATIONS, lambda: fleet.activate(tenants)
    )
    bench.note(
        writers_cpu_s=sum(
            cpu_s for name, cpu_s in found.cpu_s.items() if name.startswith("writer")
        ),
    )
