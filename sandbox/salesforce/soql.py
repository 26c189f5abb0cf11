"""SOQL, the part that clients read contacts with, from text to what it says.

SELECT of fields (of parents too), aggregates and FIELDS(); FROM one object; WHERE with
comparisons, LIKE, IN, NOT IN, INCLUDES, EXCLUDES, semi-joins, AND, OR and NOT; GROUP BY; ORDER BY;
LIMIT; OFFSET. A query that is not of this form is refused as MALFORMED_QUERY, with the place at
which it ends to make sense. What names no field is found out later (`sandbox.salesforce.search`).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn, TypeVar

from sandbox.exchange import RefusedError
from sandbox.salesforce.errors import refused

T = TypeVar("T")

CHARACTERS_MAX = 100_000
OFFSET_MAX = 2_000
AGGREGATES = frozenset({"COUNT", "COUNT_DISTINCT", "MIN", "MAX", "SUM", "AVG"})
COMPARISONS = frozenset({"=", "!=", "<", "<=", ">", ">="})
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<moment>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d))
    | (?P<date>\d{4}-\d\d-\d\d)(?![\dT])
    | (?P<number>[+-]?\d+(?:\.\d+)?)(?![\w-])
    | (?P<string>'(?:[^'\\]|\\.)*')
    | (?P<word>[A-Za-z_][\w.]*(?::\d+)?)
    | (?P<sign><=|>=|!=|<>|[=<>(),])
    )""",
    re.VERBOSE | re.DOTALL,
)
# \% and \_ stay as they are for LIKE, where they mean the characters themselves.
_ESCAPES = {"%": r"\%", "_": r"\_", "n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}
_CLAUSES = frozenset(
    {"WHERE", "GROUP", "ORDER", "LIMIT", "OFFSET", "WITH", "FOR", "USING", "HAVING"}
)


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str
    at: int

    @property
    def word(self) -> str:
        """The token as keywords are compared; empty for what cannot be one."""
        return self.text.upper() if self.kind == "word" else ""


@dataclass(frozen=True, slots=True)
class Literal:
    """A value as it is written: `kind` is string, number, moment, date, boolean, null or range."""

    kind: str
    text: str
    at: int


@dataclass(frozen=True, slots=True)
class Path:
    """A field, or a field of a parent: `Account.Name`."""

    text: str
    at: int


@dataclass(frozen=True, slots=True)
class Comparison:
    path: Path
    sign: str  # One of COMPARISONS, or LIKE.
    value: Literal


@dataclass(frozen=True, slots=True)
class Among:
    """IN and NOT IN a list."""

    path: Path
    values: Sequence[Literal]
    is_negated: bool


@dataclass(frozen=True, slots=True)
class Joined:
    """IN and NOT IN what another query finds."""

    path: Path
    query: "Query"
    is_negated: bool


@dataclass(frozen=True, slots=True)
class Includes:
    """INCLUDES and EXCLUDES, of multi-select picklists."""

    path: Path
    values: Sequence[Literal]
    is_negated: bool


@dataclass(frozen=True, slots=True)
class Every:
    parts: Sequence["Condition"]


@dataclass(frozen=True, slots=True)
class Either:
    parts: Sequence["Condition"]


@dataclass(frozen=True, slots=True)
class Not:
    part: "Condition"


Condition = Comparison | Among | Joined | Includes | Every | Either | Not


@dataclass(frozen=True, slots=True)
class Aggregate:
    function: str
    path: Path | None
    alias: str | None
    at: int


@dataclass(frozen=True, slots=True)
class AllFields:
    """FIELDS(ALL), FIELDS(STANDARD) or FIELDS(CUSTOM)."""

    which: str
    at: int


@dataclass(frozen=True, slots=True)
class Order:
    path: Path
    is_descending: bool
    nulls_last: bool


@dataclass(frozen=True, slots=True)
class Query:
    select: Sequence[Path | Aggregate | AllFields]
    object: str
    object_at: int
    text: str
    alias: str | None = None
    where: Condition | None = None
    group: Sequence[Path] = ()
    order: Sequence[Order] = field(default=())
    limit: int | None = None
    offset: int = 0

    @property
    def is_count(self) -> bool:
        """Tell whether it is SELECT COUNT(), whose answer is a number and no record."""
        only = self.select[0]
        return isinstance(only, Aggregate) and only.path is None

    @property
    def is_aggregate(self) -> bool:
        return bool(self.group) or any(isinstance(each, Aggregate) for each in self.select)


def parse(text: str) -> Query:
    """Return what a query says; raise MALFORMED_QUERY where it says nothing."""
    if len(text) > CHARACTERS_MAX:
        raise refused(400, "QUERY_TOO_COMPLICATED", "SOQL statements cannot be longer")
    reader = _Reader(text)
    query = reader.query()
    reader.expect_end()
    return query


def malformed(text: str, at: int, message: str, code: str = "MALFORMED_QUERY") -> RefusedError:
    """Return the refusal of a query, with a look at where it goes wrong."""
    start = max(0, at - 20)
    shown = text[start : at + 20].replace("\n", " ")
    row = text.count("\n", 0, at) + 1
    column = at - (text.rfind("\n", 0, at) + 1) + 1
    pointer = " " * (at - start) + "^"
    place = f"\n{shown}\n{pointer}\nERROR at Row:{row}:Column:{column}\n"
    return refused(400, code, place + message)


class _Reader:
    """Reads the tokens of one query from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_tokens(text))
        self._next = 0

    def query(self) -> Query:
        self._expect("SELECT")
        select = [self._selected()]
        while self._take(","):
            select.append(self._selected())
        self._expect("FROM")
        target = self._name()
        alias = self._alias()
        if self._take("USING"):
            self._expect("SCOPE")
            self._name()
        where = self._condition() if self._take("WHERE") else None
        query = Query(select, target.text, target.at, self._text, alias, where)
        return self._ending(query)

    def expect_end(self) -> None:
        if self._now.kind != "end":
            self._unexpected()

    def _ending(self, query: Query) -> Query:
        group: list[Path] = []
        order: list[Order] = []
        limit, offset = None, 0
        if self._take("GROUP"):
            self._expect("BY")
            group = self._several(self._path)
        if self._take("ORDER"):
            self._expect("BY")
            order = self._several(self._order)
        if self._take("LIMIT"):
            limit = self._whole_number()
        if self._take("OFFSET"):
            offset = self._whole_number()
        if offset > OFFSET_MAX:
            message = f"Maximum SOQL offset allowed is {OFFSET_MAX}"
            raise refused(400, "NUMBER_OUTSIDE_VALID_RANGE", message)
        before = (query.select, query.object, query.object_at, query.text, query.alias, query.where)
        return Query(*before, group, order, limit, offset)

    @property
    def _now(self) -> Token:
        return self._tokens[self._next]

    def _advance(self) -> Token:
        token = self._now
        self._next += token.kind != "end"
        return token

    def _is(self, wanted: str) -> bool:
        return self._now.word == wanted or (self._now.kind == "sign" and self._now.text == wanted)

    def _take(self, wanted: str) -> bool:
        """Go past a keyword or sign if it is the next one."""
        if not self._is(wanted):
            return False
        self._advance()
        return True

    def _expect(self, wanted: str) -> None:
        if not self._take(wanted):
            self._unexpected()

    def _unexpected(self, token: Token | None = None) -> NoReturn:
        token = token or self._now
        shown = f"'{token.text}'" if token.text else "'<EOF>'"
        raise malformed(self._text, token.at, f"unexpected token: {shown}")

    def _name(self) -> Token:
        if self._now.kind != "word":
            self._unexpected()
        return self._advance()

    def _alias(self) -> str | None:
        if self._now.kind == "word" and self._now.word not in _CLAUSES:
            return self._advance().text
        return None

    def _path(self) -> Path:
        token = self._name()
        if token.word in {"FROM", "WHERE", "AND", "OR"}:
            self._unexpected(token)
        return Path(token.text, token.at)

    def _selected(self) -> Path | Aggregate | AllFields:
        path = self._path()
        function = path.text.upper()
        if not self._is("("):
            return path
        if function == "FIELDS":
            self._advance()
            which = self._name().word
            self._expect(")")
            return AllFields(which, path.at)
        if function not in AGGREGATES:
            self._unexpected()
        self._advance()
        inner = None if self._is(")") and function == "COUNT" else self._path()
        self._expect(")")
        is_alias = self._now.kind == "word" and self._now.word != "FROM"
        alias = self._advance().text if is_alias else None
        return Aggregate(function, inner, alias, path.at)

    def _several(self, read: Callable[[], T]) -> list[T]:
        found = [read()]
        while self._take(","):
            found.append(read())
        return found

    def _order(self) -> Order:
        path = self._path()
        is_descending = not self._take("ASC") and self._take("DESC")
        nulls_last = False
        if self._take("NULLS"):
            nulls_last = not self._take("FIRST")
            if nulls_last:
                self._expect("LAST")
        return Order(path, is_descending, nulls_last)

    def _whole_number(self) -> int:
        token = self._now
        if token.kind != "number" or not token.text.isdigit():
            self._unexpected()
        return int(self._advance().text)

    def _condition(self) -> Condition:
        """Read conditions of one level: joined by AND or by OR, not by both without brackets."""
        parts = [self._single()]
        joint = self._now.word
        if joint not in {"AND", "OR"}:
            return parts[0]
        while self._now.word in {"AND", "OR"}:
            if self._now.word != joint:
                self._unexpected()
            self._advance()
            parts.append(self._single())
        return Every(parts) if joint == "AND" else Either(parts)

    def _single(self) -> Condition:
        if self._take("NOT"):
            return Not(self._single())
        if self._take("("):
            inner = self._condition()
            self._expect(")")
            return inner
        return self._about_a_field(self._path())

    def _about_a_field(self, path: Path) -> Condition:
        sign = self._advance()
        if sign.kind == "sign" and (text := sign.text.replace("<>", "!=")) in COMPARISONS:
            return Comparison(path, text, self._literal())
        if sign.word == "LIKE":
            return Comparison(path, "LIKE", self._literal())
        is_negated = sign.word in {"NOT", "EXCLUDES"}
        if sign.word == "NOT":
            sign = self._advance()
        if sign.word == "IN":
            return self._in(path, is_negated=is_negated)
        if sign.word in {"INCLUDES", "EXCLUDES"}:
            return Includes(path, self._literals(), is_negated)
        return self._unexpected(sign)

    def _in(self, path: Path, *, is_negated: bool) -> Condition:
        if self._now.text == "(" and self._tokens[self._next + 1].word == "SELECT":
            self._advance()
            query = self.query()
            self._expect(")")
            return Joined(path, query, is_negated)
        return Among(path, self._literals(), is_negated)

    def _literals(self) -> list[Literal]:
        self._expect("(")
        values = self._several(self._literal)
        self._expect(")")
        return values

    def _literal(self) -> Literal:
        token = self._advance()
        match token.kind:
            case "string":
                return Literal("string", _unescaped(token.text[1:-1]), token.at)
            case "number" | "moment" | "date":
                return Literal(token.kind, token.text, token.at)
            case "word" if token.word in {"TRUE", "FALSE"}:
                return Literal("boolean", token.word, token.at)
            case "word" if token.word == "NULL":
                return Literal("null", "", token.at)
            case "word" if "." not in token.text and token.word not in _CLAUSES:
                return Literal("range", token.word, token.at)
            case _:
                return self._unexpected(token)


def _tokens(text: str) -> "list[Token]":
    found, at = [], 0
    end = len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            place = at + len(text[at:]) - len(text[at:].lstrip())
            message = f"unexpected token: '{text[place]}'"
            if text[place] == "'":
                message = "unexpected end of string: a quote is missing"
            raise malformed(text, place, message)
        kind = str(match.lastgroup)
        found.append(Token(kind, match[kind], match.start(kind)))
        at = match.end()
    return [*found, Token("end", "", len(text))]


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), text, flags=re.DOTALL)
