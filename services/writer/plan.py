"""How the effects of one turn go out: singly, as an import, or later. Pure.

Singles of one turn are few, because a turn must end before the other lanes of its partition notice
it. What is too much for now is parked as `backlog`, without units, and drained into imports or
singles later. A live batch that is too large for singles and too small for an import waits there
too: most often it is the beginning of many (docs/decisions/0102).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from services.writer.values import Task

SINGLES_MAX = 100  # About 12 s at Brevo's slowest tier.
GATHER_FROM = 50  # Rows of a live batch that are worth waiting for more (PROTOCOL.md 6).
IMPORTS_MAX = 4  # Open at one destination at a time.
IMPORT_BYTES_MAX = 6_000_000  # Brevo asks for less than 8 MB a body; rows have names beside values.
ROW_BYTES = 128  # What a row weighs beside its attributes.


class Way(StrEnum):
    """What happens to the effects that an import could take."""

    SINGLY = "singly"
    IMPORT = "import"
    GATHER = "gather"


@dataclass(frozen=True, slots=True)
class Plan:
    """Where each fresh effect goes; effects whose unit was taken along are always single."""

    singles: Sequence[Task]
    rows: Sequence[Task]
    later: Sequence[Task]


def way(rows: int, *, rows_min: int, open_imports: int, is_late: bool) -> Way:
    """Return how `rows` effects go that an import could take."""
    if rows >= rows_min and open_imports < IMPORTS_MAX:
        return Way.IMPORT
    if rows < GATHER_FROM or is_late:
        return Way.SINGLY
    return Way.GATHER


def rows_that_fit(tasks: Sequence[Task], rows_max: int) -> list[Task]:
    """Return the first effects that fit one import, all of one list."""
    fitting: list[Task] = []
    weight = 0
    for task in tasks:
        if task.list_id != tasks[0].list_id:
            continue
        weight += len(bytes(task.attributes)) + ROW_BYTES
        if len(fitting) == rows_max or (fitting and weight > IMPORT_BYTES_MAX):
            break
        fitting.append(task)
    return fitting


def plan(
    tasks: Sequence[Task],
    *,
    rows: Sequence[Task] = (),
    gathered: Sequence[Task] = (),
    singles_max: int = SINGLES_MAX,
) -> Plan:
    """Split effects into the rows of an import, those that wait for one, and singles."""
    elsewhere = {id(task) for task in (*rows, *gathered)}  # The same objects, all of them.
    others = [task for task in tasks if id(task) not in elsewhere]
    return Plan(others[:singles_max], rows, [*others[singles_max:], *gathered])
