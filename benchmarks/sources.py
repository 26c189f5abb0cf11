"""What each source costs beside HubSpot: a first import of everybody, then an unchanged one.

Each has a stack of its own with one poller, one after the other in one run, so that the ratios are
of one machine in one mood. The destination is always an empty Brevo account, the mapping every
word that both sides have. A file is uploaded once more in each phase: that is part of its way.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence

from benchmarks.bench import Bench
from benchmarks.measured import Measured
from benchmarks.world import SOURCE_LIST, World
from local.files import FileSource
from local.parties import BREVO, SOURCES

SCENARIO = "sources"
BESIDE = "hubspot"  # Whom all are compared with.
PHASES = ("full", "unchanged")
# Processes whose cost is another for each source; the rest is in the sum.
SHOWN = ("poller", "config-api", "mapper", "writer", "activity")


async def sources(bench: Bench) -> None:
    """Measure both phases of the source that this stack has."""
    world = bench.world
    fill, full, unchanged = await _file(world) if world.reads_files else _account(world)
    await fill(bench.contacts)
    for phase, begin in zip(PHASES, (full, unchanged), strict=True):
        await bench.phase(SCENARIO, f"{world.reads}: {phase}", bench.contacts, begin)


Begin = Callable[[], Awaitable[None]]
Steps = tuple[Callable[[int], Awaitable[None]], Begin, Begin]


def _account(world: World) -> Steps:
    async def fill(contacts: int) -> None:
        await world.fill(contacts)
        await world.integrate("Newsletter", pair=(SOURCES[world.reads], BREVO), fields=None)

    return fill, world.activate, lambda: world.ask_for_runs("full")


async def _file(world: World) -> Steps:
    assert world.api is not None
    api, file = world.api, FileSource.of(SOURCES[world.reads], None)

    async def fill(contacts: int) -> None:
        await file.fill(contacts, seed=1, name=SOURCE_LIST, invalid_share=0.0)
        pair = (file.party, BREVO)
        await world.integrate("Newsletter", pair=pair, fields=None, upload=file.upload)

    async def full() -> None:
        await file.upload(api)
        await world.activate()

    return fill, full, lambda: file.upload(api)


def beside(found: Iterable[Measured]) -> str:
    """Return a table of CPU seconds per 100,000 contacts, or nothing where no source was measured.

    "times": how much that is beside HubSpot in the same phase of the same run.
    """
    rows = [each for each in found if each.scenario == SCENARIO]
    if not rows:
        return ""
    base = {_parts(each)[1]: _per_100k(each) for each in rows if _parts(each)[0] == BESIDE}
    lines = ["", f"| source: phase | {' | '.join(SHOWN)} | all of ours | times |"]
    lines.append("|---" * (len(SHOWN) + 3) + "|")
    lines += [_row(each, base) for each in rows]
    return "\n".join(lines)


def _row(each: Measured, base: dict[str, float]) -> str:
    cells = [each.phase, *(f"{_of(each, name):.2f}" for name in SHOWN), f"{_per_100k(each):.2f}"]
    hubspot = base.get(_parts(each)[1])
    cells.append(f"{_per_100k(each) / hubspot:.2f}" if hubspot else "")
    return f"| {' | '.join(cells)} |"


def _of(each: Measured, process: str) -> float:
    used = sum(cpu_s for name, cpu_s in each.cpu_s.items() if name.startswith(process))
    return used * 1e5 / each.contacts


def _per_100k(each: Measured) -> float:
    return each.own_cpu_s * 1e5 / each.contacts


def _parts(each: Measured) -> Sequence[str]:
    return each.phase.split(": ")
