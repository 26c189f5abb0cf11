"""How the effects of one turn go out: singly, as an import, or later. Pure.

Singles of one turn are few, because a turn must end before the lease has to be renewed too often
and before the other lanes of the partition notice. What is too much for now is parked as `backlog`,
unit-less, and drained into imports as they come free (PROTOCOL.md 6, 7).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from services.writer.values import Task

SINGLES_MAX = 100  # About 12 s at Brevo's slowest tier.
IMPORTS_MAX = 4  # Open at one destination at a time.
IMPORT_BYTES_MAX = 6_000_000  # Brevo asks for less than 8 MB a body; rows have names beside values.
ROW_BYTES = 128  # What a row weighs beside its attributes.


@dataclass(frozen=True, slots=True)
class Plan:
    """Where each fresh effect goes; effects whose unit was taken along are always single."""

    singles: Sequence[Task]
    rows: Sequence[Task]
    later: Sequence[Task]


def rows_that_fit(tasks: Sequence[Task], rows_max: int) -> list[Task]:
    """Return the first effects that fit one import, all of one list."""
    fitting: list[Task] = []
    weight = 0
    for task in tasks:
        weight += len(bytes(task.attributes)) + ROW_BYTES
        if task.list_id != tasks[0].list_id:
            continue
        if len(fitting) == rows_max or weight > IMPORT_BYTES_MAX:
            break
        fitting.append(task)
    return fitting


def plan(
    tasks: Sequence[Task], rows: Sequence[Task], *, rows_min: int, singles_max: int = SINGLES_MAX
) -> Plan:
    """Split effects, `rows` of which an import could take.

    Too few rows for an import are singles like the rest.
    """
    if len(rows) < rows_min:
        return Plan(tasks[:singles_max], [], tasks[singles_max:])
    chosen = {task.contact for task in rows}
    others = [task for task in tasks if task.contact not in chosen]
    return Plan(others[:singles_max], rows, others[singles_max:])
