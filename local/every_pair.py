"""The demo over every pair of a source and a destination, one after the other.

Each pair has a stack of its own in a folder of its own: its logs stay there, and what one leaves
behind cannot help the next. A pair that cannot be started counts as one that is wrong; the others
are still run.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from local.api import Json
from local.errors import StackError
from local.outcome import Outcome, Wishes
from local.parties import DESTINATIONS, SOURCES, DestinationParty, SourceParty

CONTACTS = 200  # Of each pair: enough for an import and for every kind of rejection.

RunPair = Callable[[Wishes], Awaitable[Outcome]]


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one pair; `seconds` with its start and end."""

    source: str
    destination: str
    seconds: float
    problems: Sequence[str]
    outcome: Outcome | None = None  # None: it could not be run.

    @property
    def ok(self) -> bool:
        """Return whether all is as it should be."""
        return not self.problems

    def report(self) -> Json:
        """Return it as JSON."""
        told = {} if self.outcome is None else self.outcome.report()
        return {
            **told,
            "ok": self.ok,
            "source": self.source,
            "destination": self.destination,
            "seconds_in_all": round(self.seconds, 1),
            "problems": list(self.problems),
        }


def pairs(
    sources: Mapping[str, SourceParty] = SOURCES,
    destinations: Mapping[str, DestinationParty] = DESTINATIONS,
) -> list[tuple[str, str]]:
    """Return every pair; a provider that is both is not synced with itself."""
    return [(source, other) for source in sources for other in destinations if source != other]


async def run_all(
    wanted: Sequence[tuple[str, str]],
    run_pair: RunPair,
    say: Callable[[str], None],
    *,
    contacts: int = CONTACTS,
    seed: int = 1,
) -> list[Row]:
    """Run pairs one after the other; return a row for each, in order."""
    rows = []
    for number, (source, destination) in enumerate(wanted, 1):
        say(f"{number} of {len(wanted)}: {source} to {destination}")
        wishes = Wishes(contacts=contacts, source=source, destination=destination, seed=seed)
        rows.append(await _row(wishes, run_pair))
        for problem in rows[-1].problems:
            say(f"wrong: {problem}")
    return rows


async def _row(wishes: Wishes, run_pair: RunPair) -> Row:
    started_s = time.monotonic()
    outcome: Outcome | None = None
    try:
        outcome = await run_pair(wishes)
        problems = list(outcome.problems)
    except StackError as error:
        problems = [f"it could not be run: {error.what}"]
    seconds = time.monotonic() - started_s
    return Row(wishes.source, wishes.destination, seconds, problems, outcome)
