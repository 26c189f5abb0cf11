"""How the effects of one turn go out: singly, as an import, or later. Pure.

Singles of one turn are few, because a turn must end before the other lanes of its partition notice
it. What is too much for now is parked as `backlog`, without units, and drained into imports or
singles later. A live batch that is too large for singles and too small for an import waits there
too: most often it is the beginning of many (docs/decisions/0102).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from services.writer.rows import Rows
from services.writer.values import ContactId, Task

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
    rows: Rows
    later: Sequence[ContactId]


def way(rows: int, *, rows_min: int, open_imports: int, is_late: bool) -> Way:
    """Return how `rows` effects go that an import could take."""
    if rows >= rows_min and open_imports < IMPORTS_MAX:
        return Way.IMPORT
    if rows < GATHER_FROM or is_late:
        return Way.SINGLY
    return Way.GATHER


def rows_that_fit(rows: Rows, rows_max: int, bytes_max: int) -> Rows:
    """Return the first rows that fit one import, all of one list.

    An address is in it once: two integrations may share a list, and what stands there can be
    compared with one of them only.
    """
    if _surely_fit(rows, rows_max, bytes_max):
        return rows
    fit = [False] * len(rows)
    addresses: set[str] = set()
    list_id = rows.writes[0].list_id
    weight = 0
    for place, (write, address) in enumerate(zip(rows.writes, rows.addresses, strict=True)):
        if write.list_id != list_id or address in addresses:
            continue
        weight += len(write.attributes) + ROW_BYTES
        if len(addresses) == rows_max or (addresses and weight > bytes_max):
            break
        addresses.add(address)
        fit[place] = True
    return rows.compressed(fit)


def _surely_fit(rows: Rows, rows_max: int, bytes_max: int) -> bool:
    """Return whether all fit together, asked of all at once: of a live batch they mostly do."""
    writes = rows.writes
    return (
        len(rows) <= rows_max
        and len({write.list_id for write in writes}) <= 1
        and len(set(rows.addresses)) == len(rows)
        and sum([len(write.attributes) for write in writes]) + ROW_BYTES * len(rows) <= bytes_max
    )


def plan(
    tasks: Sequence[Task],
    *,
    rows: Rows | None = None,
    gathered: Collection[ContactId] = (),
    singles_max: int = SINGLES_MAX,
) -> Plan:
    """Split effects into the rows of an import, those that wait for one, and singles."""
    rows = rows if rows is not None else Rows()
    elsewhere = {*rows.contacts(), *gathered} if tasks else ()
    others = [task for task in tasks if task.contact not in elsewhere]
    later = [task.contact for task in others[singles_max:]]
    return Plan(others[:singles_max], rows, [*later, *gathered])
