"""What a scenario works with, and what stack it wants."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.measured import Measured
from benchmarks.profiles import profiled
from benchmarks.world import World


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
        with profiled(pids, self.profile, self.folder / f"{scenario}-{name}".replace(" ", "-")):
            async with self.world.measured(scenario, name, contacts, self.found):
                await begin()
        return self.found[-1]

    def note(self, **notes: float) -> None:
        """Add to the last phase what only its scenario has."""
        last = self.found[-1]
        self.found[-1] = replace(last, notes={**last.notes, **notes})


@dataclass(frozen=True, slots=True)
class Setting:
    """How a scenario's stack differs from the usual one; most as in `local.stack.Options`."""

    counts: Mapping[str, int] = field(default_factory=dict)
    environments: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    source: str = "hubspot"  # Which source there is; the destination is always Brevo.


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario: how many contacts it has by itself, and a stack for each of its settings."""

    contacts: int
    run: Callable[[Bench], Awaitable[None]]
    settings: tuple[Setting, ...] = (Setting(),)
