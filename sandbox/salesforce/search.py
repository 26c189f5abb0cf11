"""What a query finds: its conditions, made into functions of a record, and its order.

Texts are compared without regard to case, as Salesforce does. A value is compared in the form that
records have it in; a literal of another type than its field is refused, as it is there. Records
that may match are taken from the index of SystemModstamp if the conditions bound it, so that
reading on after a stamp costs what is read.
"""

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from sandbox.exchange import RefusedError
from sandbox.salesforce import soql
from sandbox.salesforce.derived import Reader, parent, reader
from sandbox.salesforce.errors import not_readable
from sandbox.salesforce.fields import IDS, NUMBERS, TEXTS, Field
from sandbox.salesforce.ids import as_18
from sandbox.salesforce.moments import read_s, written
from sandbox.salesforce.org import Org
from sandbox.salesforce.records import Row, Table

Test = Callable[[Row], bool]
PARENTS_MAX = 5
FEW = 2_000  # A page: to sort as many costs no more than to read it.
STAMP = "systemmodstamp"
_SIGNS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
# Which kind of literal a field of a type is compared with.
_WRITTEN_AS = {
    **dict.fromkeys(TEXTS, "string"),
    **dict.fromkeys(NUMBERS, "number"),
    "boolean": "boolean",
    "date": "date",
    "datetime": "moment",
}
_DAYS = {"YESTERDAY": (-1, 0), "TODAY": (0, 1), "TOMORROW": (1, 2)}
_RANGE = re.compile(r"(LAST|NEXT)_N_DAYS:(\d+)")


@dataclass(frozen=True, slots=True)
class Column:
    """A field that a query names: how it is read, and under which names it is shown."""

    field: Field
    read: Reader
    names: tuple[str, ...]  # The relationships on the way to it, and its own name.


@dataclass(frozen=True, slots=True)
class Span:
    """The days that TODAY and its like mean: from `first`, before `after`."""

    first: str
    after: str


class Searcher:
    """Looks through one object of an org, as the app's user sees it."""

    def __init__(self, org: Org, query: soql.Query) -> None:
        self.org = org
        self.query = query
        self.table = visible_table(org, query.object)

    def rows(self, *, with_deleted: bool) -> list[Row]:
        """Return the records that a query finds, in its order, without aggregates."""
        query = self.query
        test = self._test(query.where) if query.where is not None else None
        ids = self._few(query.where)
        found: Iterable[Row] = (
            row
            for row in (self._candidates() if ids is None else self._named(ids))
            if (with_deleted or not row.get("IsDeleted", False))
            and (test is None or test(row))
            and self.org.sees(self.table, row)
        )
        if ids is not None or not self._is_by_stamp():
            found = self._sorted(list(found))
        end = None if query.limit is None else query.offset + query.limit
        return list(islice(found, query.offset, end))

    def column(self, path: soql.Path) -> Column:
        """Return the field that a path names; raise INVALID_FIELD if there is none."""
        *relationships, last = self._steps(path)
        if len(relationships) > PARENTS_MAX:
            raise self._wrong(path, f"at most {PARENTS_MAX} relationships lead to a field")
        table, names = self.table, []
        ways: list[Callable[[Row], Row | None]] = []
        for step in relationships:
            relationship = table.relationships.get(step.lower())
            if relationship is None or self._hides(table, relationship):
                raise self._no_relationship(path, step)
            table, found = parent(self.org, table, relationship)
            names.append(str(relationship.relationship))
            ways.append(found)
        field = table.fields.get(last.lower())
        if field is None or self._hides(table, field):
            raise self._no_column(path, last, table)
        return Column(field, _over(ways, reader(self.org, table, field)), (*names, field.name))

    def columns(self) -> list[Column]:
        """Return the fields that are selected, each once."""
        found: dict[tuple[str, ...], Column] = {}
        for each in self.query.select:
            if isinstance(each, soql.AllFields):
                for column in self._all_fields(each):
                    found.setdefault(column.names, column)
            elif isinstance(each, soql.Path):
                column = self.column(each)
                found.setdefault(column.names, column)
        return list(found.values())

    def _steps(self, path: soql.Path) -> list[str]:
        """Return a path's parts, without the object's own name or alias in front."""
        steps = path.text.split(".")
        own = {self.table.name.lower(), (self.query.alias or "").lower()}
        return steps[1:] if len(steps) > 1 and steps[0].lower() in own else steps

    def _hides(self, table: Table, field: Field) -> bool:
        return (table.name, field.name) in self.org.hidden_fields

    def _all_fields(self, wanted: soql.AllFields) -> list[Column]:
        if wanted.which not in {"ALL", "STANDARD", "CUSTOM"}:
            raise self._wrong(wanted, "FIELDS takes ALL, STANDARD or CUSTOM", "MALFORMED_QUERY")
        limit = self.query.limit
        if wanted.which != "STANDARD" and (limit is None or limit > 200):
            message = "The SOQL FIELDS function must have a LIMIT of at most 200"
            raise self._wrong(wanted, message, "MALFORMED_QUERY")
        return [
            Column(each, reader(self.org, self.table, each), (each.name,))
            for each in self.table.fields.values()
            if not self._hides(self.table, each)
            and (wanted.which == "ALL" or each.custom == (wanted.which == "CUSTOM"))
        ]

    def _no_column(self, path: soql.Path, name: str, table: Table) -> RefusedError:
        message = (
            f"No such column '{name}' on entity '{table.name}'. If you are attempting to use a "
            "custom field, be sure to append the '__c' after the custom field name. Please "
            "reference your WSDL or the describe call for the appropriate names."
        )
        return self._wrong(path, message)

    def _no_relationship(self, path: soql.Path, step: str) -> RefusedError:
        message = (
            f"Didn't understand relationship '{step}' in field path. If you are attempting to use "
            "a custom relationship, be sure to append the '__r' after the custom relationship "
            "name. Please reference your WSDL or the describe call for the appropriate names."
        )
        return self._wrong(path, message)

    def _wrong(
        self, where: soql.Path | soql.AllFields | soql.Literal, message: str, code: str = ""
    ) -> RefusedError:
        return soql.malformed(self.query.text, where.at, message, code or "INVALID_FIELD")

    def _candidates(self) -> Iterable[Row]:
        """Return the records among which are all that match; by their stamp if that is bounded."""
        first, last = self._bounds(self.query.where)
        if self._is_by_stamp() or first is not None or last is not None:
            return self.table.between(first, last)
        return self.table.rows.values()

    def _named(self, ids: set[str]) -> Iterable[Row]:
        return [self.table.rows[each] for each in ids if each in self.table.rows]

    def _is_by_stamp(self) -> bool:
        """Tell whether the order wanted is that of the index: SystemModstamp, then Id."""
        wanted = [(each.path.text.lower(), each.is_descending) for each in self.query.order]
        return wanted == [(STAMP, False), ("id", False)]

    def _few(self, condition: soql.Condition | None) -> set[str] | None:
        """Return the only ids that can match, if a look at each costs less than the index does."""
        ids = self._ids(condition)
        return ids if ids is not None and (len(ids) <= FEW or not self._is_by_stamp()) else None

    def _ids(self, condition: soql.Condition | None) -> set[str] | None:
        """Return the only ids that can match; None if any can."""
        match condition:
            case soql.Comparison(soql.Path(text=name), "=", value) if name.lower() == "id":
                return {as_18(value.text) or ""}
            case soql.Among(soql.Path(text=name), values, False) if name.lower() == "id":
                return {as_18(each.text) or "" for each in values}
            case soql.Comparison(soql.Path(text=name), "=", value) if self._refers(name):
                found = self.table.having(self.table.fields[name.lower()].name, as_18(value.text))
                return {row["Id"] for row in found}
            case soql.Every(parts):
                return next((ids for part in parts if (ids := self._ids(part)) is not None), None)
            case _:
                return None

    def _refers(self, name: str) -> bool:
        field = self.table.fields.get(name.lower())
        return field is not None and field.type == "reference"

    def _bounds(self, condition: soql.Condition | None) -> tuple[str | None, str | None]:
        """Return between which stamps all that match lie; None is no bound."""
        match condition:
            case soql.Comparison(soql.Path(text=name), sign, value) if name.lower() == STAMP:
                return _bounded(sign, value)
            case soql.Every(parts):
                bounds = [self._bounds(part) for part in parts]
                firsts = [first for first, _ in bounds if first is not None]
                lasts = [last for _, last in bounds if last is not None]
                return max(firsts, default=None), min(lasts, default=None)
            case soql.Either(parts):
                bounds = [self._bounds(part) for part in parts]
                firsts = [first for first, _ in bounds if first is not None]
                lasts = [last for _, last in bounds if last is not None]
                # One part without a bound lets everything in.
                first = min(firsts) if len(firsts) == len(parts) else None
                return first, max(lasts) if len(lasts) == len(parts) else None
            case _:
                return None, None

    def _sorted(self, rows: list[Row]) -> list[Row]:
        """Return records in the wanted order; without one, in that of their ids."""
        rows.sort(key=lambda row: str(row["Id"]))
        for order in reversed(self.query.order):
            column = self.column(order.path)
            if not column.field.sortable:
                name = column.field.name
                message = f"field '{name}' can not be sorted in a query call"
                raise self._wrong(order.path, message)
            key = _order_key(column, nulls_last=order.nulls_last != order.is_descending)
            rows.sort(key=key, reverse=order.is_descending)
        return rows

    def _test(self, condition: soql.Condition) -> Test:
        """Return what tells whether a record matches."""
        match condition:
            case soql.Every(parts):
                tests = [self._test(part) for part in parts]
                return lambda row: all(test(row) for test in tests)
            case soql.Either(parts):
                tests = [self._test(part) for part in parts]
                return lambda row: any(test(row) for test in tests)
            case soql.Not(part):
                return _negated(self._test(part))
            case soql.Comparison(path, "LIKE", value):
                return self._like(self._filtered(path), value)
            case soql.Comparison(path, sign, value):
                return self._compared(self._filtered(path), sign, value)
            case _:
                test = self._one_of(condition)
                return _negated(test) if condition.is_negated else test

    def _one_of(self, condition: soql.Among | soql.Joined | soql.Includes) -> Test:
        """Return what tells whether a record has one of some values."""
        match condition:
            case soql.Among(path, literals, _):
                column = self._filtered(path)
                values = {self._value(column.field, each) for each in literals}
                read = _comparable(column)
                return lambda row: read(row) in values
            case soql.Joined(path, query, _):
                return self._joined(path, query)
            case soql.Includes(path, literals, _):
                return self._includes(path, literals)

    def _filtered(self, path: soql.Path) -> Column:
        column = self.column(path)
        if not column.field.filterable:
            message = f"field '{column.field.name}' can not be filtered in a query call"
            raise self._wrong(path, message)
        return column

    def _compared(self, column: Column, sign: str, literal: soql.Literal) -> Test:
        value, read = self._value(column.field, literal), _comparable(column)
        if isinstance(value, Span):
            return _within(read, sign, value)
        if sign in {"=", "!="}:  # Of null as of any value: what is empty is not equal to one.
            is_it = _SIGNS[sign]
            return lambda row: is_it(read(row), value)
        if value is None:
            return lambda row: False
        holds = _SIGNS[sign]
        return lambda row: (own := read(row)) is not None and holds(own, value)

    def _like(self, column: Column, literal: soql.Literal) -> Test:
        if column.field.type not in TEXTS or literal.kind != "string":
            message = f"invalid operator on {column.field.type} field"
            raise self._wrong(literal, message, "INVALID_QUERY_FILTER_OPERATOR")
        pattern = re.compile(_pattern(literal.text.lower()), re.DOTALL)
        read = _comparable(column)
        return lambda row: pattern.fullmatch(read(row) or "") is not None

    def _joined(self, path: soql.Path, query: soql.Query) -> Test:
        column = self._filtered(path)
        inner = Searcher(self.org, query)
        if column.field.type not in IDS or len(query.select) != 1:
            message = "semi join sub-selects take one field, and an id or reference to compare"
            raise self._wrong(path, message, "MALFORMED_QUERY")
        (selected,) = inner.columns()
        found = {selected.read(row) for row in inner.rows(with_deleted=False)} - {None}
        return lambda row: column.read(row) in found

    def _includes(self, path: soql.Path, literals: Sequence[soql.Literal]) -> Test:
        column = self._filtered(path)
        if column.field.type != "multipicklist":
            message = f"includes and excludes are no operators of a {column.field.type}"
            raise self._wrong(path, message, "INVALID_QUERY_FILTER_OPERATOR")
        wanted = [set(each.text.lower().split(";")) for each in literals]

        def has_one(row: Row) -> bool:
            chosen = set((column.read(row) or "").lower().split(";"))
            return any(each <= chosen for each in wanted)

        return has_one

    def _value(self, field: Field, literal: soql.Literal) -> Any:
        """Return a literal as records have the field's values; raise if it is of another type."""
        if literal.kind == "null":
            return None
        if field.type in IDS and literal.kind == "string":
            return self._id(literal)
        if field.type in {"date", "datetime"} and literal.kind == "range":
            return self._span(field.type, literal)
        if literal.kind != _WRITTEN_AS.get(field.type):
            raise self._wrong_type(field, literal)
        return _READ[literal.kind](literal.text)

    def _id(self, literal: soql.Literal) -> str:
        whole = as_18(literal.text)
        if whole is None:
            message = f"invalid ID field: {literal.text}"
            raise self._wrong(literal, message, "INVALID_QUERY_FILTER_OPERATOR")
        return whole

    def _wrong_type(self, field: Field, literal: soql.Literal) -> RefusedError:
        quoted = " and should not be enclosed in quotes" if literal.kind == "string" else ""
        said = "dateTime" if field.type == "datetime" else field.type
        start = f"value of filter criterion for field '{field.name}' must be of type"
        return self._wrong(literal, f"{start} {said}{quoted}")

    def _span(self, kind: str, literal: soql.Literal) -> Span:
        """Return the days that a word means, in UTC: the user's time zone is not imitated."""
        today = self.org.clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
        named = _RANGE.fullmatch(literal.text)
        days = _DAYS.get(literal.text)
        if named is not None:
            number = int(named[2])
            days = (-number, 1) if named[1] == "LAST" else (1, number + 1)
        if days is None:
            message = f"unexpected token: '{literal.text}'"
            raise soql.malformed(self.query.text, literal.at, message)
        first, after = (today + timedelta(days=each) for each in days)
        return _span(kind, first, after)


def table_reader(org: Org, table: Table) -> dict[str, tuple[Field, Reader]]:
    """Return, by name in lower case, the fields that the user may see and what reads them."""
    return {
        name: (field, reader(org, table, field))
        for name, field in table.fields.items()
        if (table.name, field.name) not in org.hidden_fields
    }


def visible_table(org: Org, name: str) -> Table:
    """Return an object's table; raise INVALID_TYPE if there is none that the user may see."""
    table = org.tables.get(name.lower())
    if table is None or table.name in org.settings.hidden_objects:
        raise not_readable(name)
    return table


def _over(ways: Sequence[Callable[[Row], Row | None]], read: Reader) -> Reader:
    """Return what reads a field of the record at the end of some relationships."""
    if not ways:
        return read

    def through(row: Row) -> Any:
        at: Row | None = row
        for way in ways:
            at = None if at is None else way(at)
        return None if at is None else read(at)

    return through


def _comparable(column: Column) -> Reader:
    """Return what reads a field as it is compared: texts in lower case."""
    read = column.read
    if column.field.type not in TEXTS:
        return read
    return lambda row: None if (value := read(row)) is None else value.lower()


def _order_key(column: Column, *, nulls_last: bool) -> Callable[[Row], tuple[bool, Any]]:
    read = _comparable(column)

    def key(row: Row) -> tuple[bool, Any]:
        value = read(row)
        return (value is None) == nulls_last, "" if value is None else value

    return key


def _within(read: Reader, sign: str, span: Span) -> Test:
    """Return what compares a value with days: from the first one's beginning to the last's end."""
    if sign in {"=", "!="}:
        wanted = sign == "="
        return lambda row: (
            ((own := read(row)) is not None and span.first <= own < span.after) == wanted
        )
    bound, holds = {
        "<": (span.first, operator.lt),
        "<=": (span.after, operator.lt),
        ">": (span.after, operator.ge),
        ">=": (span.first, operator.ge),
    }[sign]
    return lambda row: (own := read(row)) is not None and holds(own, bound)


def _negated(test: Test) -> Test:
    return lambda row: not test(row)


def _bounded(sign: str, value: soql.Literal) -> tuple[str | None, str | None]:
    """Return the bounds that one comparison with a stamp sets."""
    at_s = read_s(value.text) if value.kind == "moment" else None
    if at_s is None or sign not in {"=", "<", "<=", ">", ">="}:
        return None, None
    stamp = written(at_s)
    return (None if "<" in sign else stamp), (None if ">" in sign else stamp)


def _pattern(text: str) -> str:
    """Return a LIKE pattern as a regular expression: % is any text, _ any character."""
    parts = re.findall(r"\\[%_]|.", text, re.DOTALL)
    return "".join({"%": ".*", "_": "."}.get(each, re.escape(each[-1])) for each in parts)


def _moment(text: str) -> str:
    """Return a moment as stamps are written; one with a fraction lies between two of them."""
    at_s = read_s(text) or 0.0
    return written(at_s).replace(".000", f".{int(at_s % 1 * 1000):03d}")


def _span(kind: str, first: datetime, after: datetime) -> Span:
    if kind == "date":
        return Span(first.date().isoformat(), after.date().isoformat())
    return Span(written(first.timestamp()), written(after.timestamp()))


# How a literal is written as records have values: texts are compared in lower case.
_READ: Mapping[str, Callable[[str], Any]] = {
    "string": str.lower,
    "number": float,
    "boolean": lambda text: text == "TRUE",
    "date": str,
    "moment": _moment,
}
