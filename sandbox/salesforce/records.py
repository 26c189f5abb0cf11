"""The records of one object: found by id, in order of their last change, and not before commit.

A record is a mapping of field names to what JSON shows, and never changes: a write puts another in
its place, so a query's result stays as it was found. A write may become visible later than it
happened (`visible_s`), as that of a long transaction does: its SystemModstamp is then in the past
of everybody who reads it.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.salesforce.fields import Field
from sandbox.salesforce.objects import Kind

Row = Mapping[str, Any]
LAST = "\x7f"  # After every id.


@dataclass(frozen=True, slots=True)
class Held:
    """What a table held at one moment."""

    rows: dict[str, Row]
    bin: set[str]
    by_stamp: list[tuple[str, str]]
    pending: list[tuple[float, Row]]


class Table:
    """The records of an object of one org, deleted ones too, and its fields."""

    def __init__(self, kind: Kind, prefix: str) -> None:
        self.kind = kind
        self.name = kind.name
        self.prefix = prefix
        self.rows: dict[str, Row] = {}
        self.fields: dict[str, Field] = {}  # By name in lower case: case does not matter.
        self.relationships: dict[str, Field] = {}
        self.bin: set[str] = set()  # Deleted, and still to be found by queryAll.
        self.locks: dict[str, int] = {}  # How often the next writes of a record find it locked.
        self.defaults: dict[str, Any] = {}  # What a new record has before anything is said of it.
        self.auto_numbers: list[str] = []
        self.made = 0
        self.schema_changed_s = 0.0
        self._by_stamp: list[tuple[str, str]] = []
        self._pending: list[tuple[float, Row]] = []
        self._indexes: dict[str, dict[str | None, dict[str, None]]] = {}  # Ids by field and value.
        for field in kind.fields:
            self.define(field)

    def define(self, field: Field) -> None:
        """Add a field, or put another in its place."""
        self.fields[field.name.lower()] = field
        if field.relationship:
            self.relationships[field.relationship.lower()] = field
        if field.default is not None:
            self.defaults[field.name] = field.default
        elif field.type == "boolean":
            self.defaults[field.name] = False
        if field.auto_number:
            self.auto_numbers.append(field.name)

    def undefine(self, field: Field) -> None:
        """Take a field away, with its values."""
        del self.fields[field.name.lower()]
        self.defaults.pop(field.name, None)
        self.auto_numbers = [each for each in self.auto_numbers if each != field.name]
        for row in [each for each in self.rows.values() if field.name in each]:
            rest = {name: value for name, value in row.items() if name != field.name}
            self.rows[row["Id"]] = rest
        self._indexes.pop(field.name, None)

    def put(self, row: Row, *, visible_s: float | None = None) -> Row:
        """Store a record as it is now, or for readers who come at `visible_s` or later."""
        if visible_s is not None:
            self._pending.append((visible_s, row))
            return row
        before = self.rows.get(row["Id"])
        if before is not None:
            self._forget(before)
        self.rows[row["Id"]] = row
        for name, index in self._indexes.items():
            index.setdefault(_indexed(row.get(name)), {})[row["Id"]] = None
        (self.bin.add if row.get("IsDeleted") else self.bin.discard)(row["Id"])
        insort(self._by_stamp, _key(row))
        return row

    def settle(self, now_s: float) -> None:
        """Let the transactions end whose time has come."""
        if not self._pending:
            return
        due = [row for visible_s, row in self._pending if visible_s <= now_s]
        self._pending = [each for each in self._pending if each[0] > now_s]
        for row in due:
            self.put(row)

    def is_locked(self, record_id: str) -> bool:
        """Tell whether a transaction that has not ended holds a record."""
        return any(row["Id"] == record_id for _, row in self._pending)

    def copy(self) -> "Held":
        """Return what the table holds now, for `restore`."""
        return Held(dict(self.rows), set(self.bin), list(self._by_stamp), list(self._pending))

    def restore(self, held: "Held") -> None:
        """Take back every write since a copy; numbers that were given stay given."""
        self.rows, self.bin = held.rows, held.bin
        self._by_stamp, self._pending = held.by_stamp, held.pending
        self._indexes.clear()

    def remove(self, record_id: str) -> None:
        """Erase a record for good."""
        self._forget(self.rows.pop(record_id))
        self.bin.discard(record_id)

    def having(self, name: str, value: object) -> list[Row]:
        """Return the records with a value in a field, whatever its case, deleted ones too."""
        if name not in self._indexes:
            self._indexes[name] = {}
            for row in self.rows.values():
                self._indexes[name].setdefault(_indexed(row.get(name)), {})[row["Id"]] = None
        return [self.rows[each] for each in self._indexes[name].get(_indexed(value), ())]

    def _forget(self, row: Row) -> None:
        """Take a record out of the orders and indexes."""
        del self._by_stamp[bisect_left(self._by_stamp, _key(row))]
        for name, index in self._indexes.items():
            del index[_indexed(row.get(name))][row["Id"]]

    def between(self, first: str | None, last: str | None) -> Iterator[Row]:
        """Yield the records whose SystemModstamp lies between, both included, oldest first."""
        start = 0 if first is None else bisect_left(self._by_stamp, (first, ""))
        end = len(self._by_stamp) if last is None else bisect_right(self._by_stamp, (last, LAST))
        for _, record_id in self._by_stamp[start:end]:
            yield self.rows[record_id]


def _indexed(value: object) -> str | None:
    return None if value is None else str(value).lower()


def _key(row: Row) -> tuple[str, str]:
    return row["SystemModstamp"], row["Id"]
