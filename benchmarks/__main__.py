"""Measure what contactsync costs: `python -m benchmarks [scenario …]`.

Each scenario gets a stack of its own: Kafka, PostgreSQL, the sandbox without limits, and every
service as its own process. CPU seconds are user and system, of the whole phase.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence

from benchmarks.bench import Bench
from benchmarks.measured import Measured, shown
from benchmarks.peers.table import compared
from benchmarks.profiles import summary
from benchmarks.scenarios import SCENARIOS
from benchmarks.sources import beside
from benchmarks.world import World
from local.errors import StackError
from local.parties import BREVO
from local.stack import ROOT, Options, running, services_for

HOME = ROOT / ".local" / "bench"
# The shared rate budget is for real limits: the sandbox has none here.
ENVIRONMENT = {"RATE_LIMITS": "false"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments and measure; return the exit status."""
    wanted = _parser().parse_args(arguments)
    try:
        found = asyncio.run(_measure(wanted))
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    print(shown(found))
    print(compared(found), beside(found))
    if wanted.json:
        print(json.dumps([each.report() for each in found]))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="scenario", help=", ".join(SCENARIOS))
    parser.add_argument("--contacts", type=int, metavar="N", help="instead of the scenario's own")
    parser.add_argument("--json", action="store_true", help="the last line is all of it as JSON")
    parser.add_argument(
        "--profile", default="", metavar="PROCESSES", help="e.g. writer,mapper; needs py-spy"
    )
    return parser


async def _measure(wanted: argparse.Namespace) -> list[Measured]:
    found: list[Measured] = []
    unknown = set(wanted.scenarios) - set(SCENARIOS)
    if unknown:
        what = f"there is no scenario {', '.join(sorted(unknown))}"
        raise StackError(what, f"choose among {', '.join(SCENARIOS)}")
    for name in wanted.scenarios or SCENARIOS:
        found += await _run(name, wanted)
    for stacks in sorted((HOME / "profiles").rglob("*.txt")) if wanted.profile else []:
        print(f"\n{stacks.parent.name} ", summary(stacks))
    return found


async def _run(name: str, wanted: argparse.Namespace) -> list[Measured]:
    """Run one scenario, on a stack of its own for each of its settings."""
    scenario = SCENARIOS[name]
    profile = tuple(filter(None, wanted.profile.split(",")))
    found: list[Measured] = []
    for setting in scenario.settings:
        providers = (setting.source, BREVO.provider)
        options = Options(
            HOME / name,
            providers=providers,
            services=services_for(providers),
            environment=ENVIRONMENT,
            counts=setting.counts,
            environments=setting.environments,
        )
        async with running(options, _say) as stack, World.over(stack, setting.source) as world:
            contacts = wanted.contacts or scenario.contacts
            bench = Bench(world, contacts, HOME / "profiles", profile)
            await scenario.run(bench)
            found += bench.found
    return found


def _say(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
