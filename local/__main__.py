"""Run contactsync on this machine: `python -m local demo` and `python -m local up`.

`demo` does the main job once and ends with 0 only if everything is as it should be; `demo-all` does
it for every pair of a source and a destination. `up` runs everything until SIGINT or SIGTERM. None
needs anything but Python packages.
"""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from local import demo, every_pair, up
from local.errors import StackError
from local.files import FileSource
from local.outcome import Outcome, Wishes
from local.parties import DESTINATIONS, EVERYONE, SOURCES
from local.stack import ROOT, Options, running, services_for
from local.terminal import Terminal

CONTACTS_MAX = 1_000_000  # What a sandbox may keep in the memory of a machine, and a quota be.
HOME = ROOT / ".local"

FAILED, INTERRUPTED = 1, 130  # 128 + SIGINT, as shells have it.


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments and do as they say; return the exit status."""
    wanted = _parser().parse_args(arguments)
    try:
        return asyncio.run(_until_told(_work(wanted)))
    except StackError as error:
        print(error, file=sys.stderr)
        return FAILED
    except asyncio.CancelledError:
        return INTERRUPTED


def _work(wanted: argparse.Namespace) -> Coroutine[Any, Any, int]:
    if wanted.command == "up":
        return _up(up.checked(wanted.state))
    return _demo(wanted) if wanted.command == "demo" else _demo_all(wanted)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    once = commands.add_parser("demo", help="the main job once, then everything ends")
    usual = Wishes()
    once.add_argument("--contacts", type=_count, default=usual.contacts, metavar="N")
    once.add_argument("--source", choices=tuple(SOURCES), default=usual.source)
    once.add_argument("--destination", choices=tuple(DESTINATIONS), default=usual.destination)
    once.add_argument("--quota", type=_count, default=usual.quota, metavar="N")
    once.add_argument("--limits", choices=("on", "off"), default="on", help="of the sandbox")
    once.add_argument("--seed", type=_number, default=usual.seed, metavar="S")
    once.add_argument("--file", type=Path, metavar="F", help="a CSV file, with --source csv")
    once.add_argument("--json", action="store_true", help="the last line is the outcome as JSON")
    every = commands.add_parser("demo-all", help="the main job once for every pair of providers")
    every.add_argument("--contacts", type=_count, default=every_pair.CONTACTS, metavar="N")
    every.add_argument("--seed", type=_number, default=usual.seed, metavar="S")
    every.add_argument("--json", action="store_true", help="the last line is all outcomes as JSON")
    for_long = commands.add_parser("up", help="everything, until SIGINT or SIGTERM")
    for_long.add_argument("--state", type=Path, default=HOME / "state.json", metavar="FILE")
    return parser


def _number(text: str) -> int:
    if not text.isdecimal():
        message = f"{text!r} is not a whole number, 0 or more"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def _count(text: str) -> int:
    number = _number(text)
    if not 1 <= number <= CONTACTS_MAX:
        message = f"{number} is not between 1 and {CONTACTS_MAX}"
        raise argparse.ArgumentTypeError(message)
    return number


async def _until_told(work: Coroutine[Any, Any, int]) -> int:
    """Do the work; SIGINT and SIGTERM cancel it, and it ends what it started."""
    task = asyncio.ensure_future(work)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


async def _demo(wanted: argparse.Namespace) -> int:
    contacts = wanted.contacts
    if wanted.file is not None:
        contacts = _rows_of(wanted.source, wanted.file)
    wishes = Wishes(
        contacts=contacts,
        source=wanted.source,
        destination=wanted.destination,
        quota=wanted.quota,
        limits=wanted.limits == "on",
        seed=wanted.seed,
        file=wanted.file,
    )
    # With --json standard output is for machines.
    with Terminal(sys.stderr if wanted.json else sys.stdout) as terminal:
        outcome = await _pair(HOME / "demo", wishes, terminal.say, terminal.progress)
        terminal.show(outcome, HOME / "demo" / "logs")
    if wanted.json:
        print(json.dumps(outcome.report()))
    return 0 if outcome.ok else FAILED


async def _demo_all(wanted: argparse.Namespace) -> int:
    async def run_pair(wishes: Wishes) -> Outcome:
        folder = HOME / "demo-all" / f"{wishes.source}-{wishes.destination}"
        return await _pair(folder, wishes, _nobody, _nobody)

    with Terminal(sys.stderr if wanted.json else sys.stdout) as terminal:
        rows = await every_pair.run_all(
            every_pair.pairs(),
            run_pair,
            terminal.say,
            contacts=wanted.contacts,
            seed=wanted.seed,
        )
        terminal.show_pairs(rows, HOME / "demo-all")
    if wanted.json:
        print(json.dumps([row.report() for row in rows]))
    return 0 if rows and all(row.ok for row in rows) else FAILED


def _nobody(*_words: object) -> None:
    """Say nothing: what each pair does on its way would drown what became of it."""


async def _pair(
    folder: Path, wishes: Wishes, say: Callable[[str], None], progress: demo.Progress
) -> Outcome:
    """Run the demo of one pair in a stack of its own."""
    options = _options(folder, (wishes.source, wishes.destination), seed=wishes.seed)
    async with running(options, say) as stack:
        return await demo.run(stack, wishes, progress)


def _rows_of(source: str, path: Path) -> int:
    """Return how many rows a file has; raise `StackError` if it is for no source of files."""
    if not SOURCES[source].is_file:
        what = f"--file is not for the source {source}"
        raise StackError(what, "say --source csv")
    return len(FileSource.of(SOURCES[source], path).rows)


def _options(
    folder: Path, providers: Sequence[str], *, seed: int = 1, state: Path | None = None
) -> Options:
    """Return a stack with the sandboxes and pollers of these providers."""
    services = services_for(providers)
    return Options(folder, seed=seed, state=state, providers=providers, services=services)


async def _up(state: Path) -> int:
    is_up = False
    try:
        with Terminal(sys.stdout) as terminal:
            options = _options(HOME / "up", EVERYONE, state=state)
            async with running(options, terminal.say) as stack:
                is_up = True
                await up.stay(stack, state, terminal.say)
    except asyncio.CancelledError:
        if not is_up:
            raise
    return 0  # To be told to end is how it ends.


if __name__ == "__main__":
    sys.exit(main())
