"""What a person sees: lines, a progress bar, and the outcome as a table.

On a terminal the bar moves in place; anywhere else (a log, a pipe) there are plain lines only.
"""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from local.every_pair import Row
from local.outcome import Outcome

PLAIN_STEPS = 4  # Lines of progress in each phase where no bar can be shown.
PLAIN_WIDTH = 200  # A log has no width to wrap at.


class Terminal:
    """Where the demo and `up` speak to a person."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(
            file=stream,
            highlight=False,
            soft_wrap=True,
            width=None if stream.isatty() else PLAIN_WIDTH,
        )
        self._bars = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._steps: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def say(self, line: str) -> None:
        """Print a line."""
        self._console.print(line, markup=False)

    def progress(self, phase: str, so_far: int, of: int) -> None:
        """Show how far a phase is."""
        if self._console.is_terminal:
            if phase not in self._tasks:
                self._tasks[phase] = self._bars.add_task(phase, total=of)
            self._bars.update(self._tasks[phase], completed=so_far)
            return
        step = PLAIN_STEPS * so_far // of
        if step > self._steps.get(phase, -1):
            self._steps[phase] = step
            self.say(f"{phase}: {so_far} of {of}")

    def show(self, outcome: Outcome, logs: Path) -> None:
        """Print what happened and where to look, and last of all whether all is well."""
        self._bars.stop()
        if outcome.phases:
            self._console.print(_phases(outcome))
        quota = outcome.quota
        left = quota["limit"] - quota["used"] - quota["held"]
        report = outcome.report()
        rate = report["contacts_per_second"]
        self.say(f"first run: {outcome.seconds:.1f} s, {rate:.0f} contacts a second")
        self.say(f"quota: {quota['used']} tasks charged of {quota['limit']}, {left} left")
        for mail in outcome.mails:
            self.say(f"mail: {mail['kind']} to {mail['to']} ({mail['language']})")
        self.say(f"calls beyond a provider's limits: {outcome.violations}")
        self.say(f"logs: {logs}; to look around in the same system: python -m local up")
        for problem in outcome.problems:
            self.say(f"wrong: {problem}")
        if outcome.ok:
            self.say("The destination holds exactly what it should.")
        else:
            self.say(f"{len(outcome.problems)} things are not as they should be.")

    def show_pairs(self, rows: Sequence[Row], folder: Path) -> None:
        """Print what became of each pair, and last of all whether all are right."""
        self._bars.stop()
        self._console.print(_pairs(rows))
        self.say(f"logs: in {folder}, a folder for each pair")
        wrong = sum(not row.ok for row in rows)
        self.say(f"{wrong} of {len(rows)} pairs are wrong." if wrong else "All pairs are right.")


def _pairs(rows: Sequence[Row]) -> Table:
    table = Table(title="Every pair")
    for name in ("source", "destination"):
        table.add_column(name)
    for name in ("read", "created", "updated", "rejected", "charged", "seconds"):
        table.add_column(name, justify="right")
    table.add_column("as it should be")
    for row in rows:
        phases = row.outcome.phases if row.outcome else []
        first = phases[0] if phases else None
        table.add_row(
            row.source,
            row.destination,
            str(first.read if first else 0),
            str(sum(phase.created for phase in phases)),
            str(sum(phase.updated for phase in phases)),
            str(sum(first.rejected.values()) if first else 0),
            str(sum(phase.tasks_charged for phase in phases)),
            f"{row.seconds:.0f}",
            "yes" if row.ok else f"no: {len(row.problems)} wrong",
        )
    return table


def _phases(outcome: Outcome) -> Table:
    """Return a table of the phases: a column for each, so that it fits a narrow terminal."""
    table = Table(title="What happened")
    table.add_column("contacts")
    for phase in outcome.phases:
        table.add_column(phase.name, justify="right")
    for name in ("read", "created", "updated", "unchanged", "superseded"):
        table.add_row(name, *(str(getattr(phase, name)) for phase in outcome.phases))
    for kind in ("rejected", "parked"):
        counts = [getattr(phase, kind) for phase in outcome.phases]
        for reason in sorted({reason for each in counts for reason in each}):
            table.add_row(f"{kind}: {reason}", *(str(each.get(reason, 0)) for each in counts))
    table.add_section()
    table.add_row("tasks charged", *(str(phase.tasks_charged) for phase in outcome.phases))
    table.add_row("destination calls", *(str(phase.destination_calls) for phase in outcome.phases))
    return table
