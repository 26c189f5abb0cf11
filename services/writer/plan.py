"""How the effects of one turn go out: singly, as an import, or later. Pure.

Singles of one turn are few, because a turn must end before the other lanes of its partition notice
it. What is too much for now is parked as `backlog`, without units, and drained into imports or
singles later. A live batch that is too large for singles and too small for an import waits there
too: most often it is the beginning of many (docs/decisions/0102).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from services.writer.values import ContactId, ImportRow, Task

SINGLES_MAX = 100  # About 12 s at Brevo's slowest tier.
GATHER_FROM = 50  # Rows of a live batch that are worth waiting for more (PROTOCOL.md 6).
IMPORTS_MAX = 4  # Open at one destination at a time.
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
    rows: Sequence[ImportRow]
    later: Sequence[ContactId]


def way(rows: int, *, rows_min: int, open_imports: int, is_late: bool) -> Way:
    """Return how `rows` effects go that an import could take."""
    if rows >= rows_min and open_imports < IMPORTS_MAX:
        return Way.IMPORT
    if rows < GATHER_FROM or is_late:
        return Way.SINGLY
    return Way.GATHER


def rows_that_fit(rows: Sequence[ImportRow], rows_max: int, bytes_max: int) -> list[ImportRow]:
    """Return the first rows that fit one import, all of one list.

    An address is in it once: two integrations may share a list, and what stands there can be
    compared with one of them only.
    """
    if _surely_fit(rows, rows_max, bytes_max):
        return list(rows)
    fitting: list[ImportRow] = []
    addresses: set[str] = set()
    list_id = rows[0].write.list_id if rows else ""
    weight = 0
    for row in rows:
        write, address = row.write, row.place.address
        if write.list_id != list_id or address in addresses:
            continue
        addresses.add(address)
        weight += len(write.attributes) + ROW_BYTES
        if len(fitting) == rows_max or (fitting and weight > bytes_max):
            break
        fitting.append(row)
    return fitting


def _surely_fit(rows: Sequence[ImportRow], rows_max: int, bytes_max: int) -> bool:
    """Return whether all fit together, asked of all at once: of a live batch they mostly do."""
    writes = [row.write for row in rows]
    return (
        len(rows) <= rows_max
        and len({write.list_id for write in writes}) <= 1
        and len({row.place.address for row in rows}) == len(rows)
        and sum([len(write.attributes) for write in writes]) + ROW_BYTES * len(rows) <= bytes_max
    )


def plan(
    tasks: Sequence[Task],
    *,
    rows: Sequence[ImportRow] = (),
    gathered: Collection[ContactId] = (),
    singles_max: int = SINGLES_MAX,
) -> Plan:
    """Split effects into the rows of an import, those that wait for one, and singles."""
    elsewhere = {row.contact for row in rows}.union(gathered) if tasks else ()
    others = [task for task in tasks if task.contact not in elsewhere]
    later = [task.contact for task in others[singles_max:]]
    return Plan(others[:singles_max], rows, [*later, *gathered])
