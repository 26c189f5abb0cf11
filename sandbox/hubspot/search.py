"""Search over contacts, with its limits and its lag.

The index is a copy of the contacts that may run behind: a contact written now is found as it is
only `index_delay_s` later, and until then as it was (guide "Search the CRM": "it may take a few
moments"). Ranges of the time of change are found by bisection in a log of changes, and what a
query found is kept until the index changes, so that paging through it costs nothing more.
"""

import re
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from sandbox.exchange import Request
from sandbox.hubspot.bodies import number, parsed
from sandbox.hubspot.contacts import Contact
from sandbox.hubspot.errors import invalid
from sandbox.hubspot.properties import Properties, Property, moment_ms

RESULTS_MAX = 10_000
PAGE_DEFAULT, PAGE_MAX = 10, 200
BODY_CHARS_MAX = 3_000
GROUPS_MAX, GROUP_FILTERS_MAX, FILTERS_MAX = 5, 6, 18
QUERIES_KEPT = 16
LOG_SLACK = 1_000  # The log may hold twice the contacts and so many more before it is tidied.
QUERIED = (
    "firstname",
    "lastname",
    "email",
    "phone",
    "hs_additional_emails",
    "fax",
    "mobilephone",
    "company",
)

Predicate = Callable[[Contact], bool]
Value = str | float


class Filter(msgspec.Struct, rename="camel", frozen=True):
    property_name: str
    operator: str
    value: str | int | float | bool | None = None
    high_value: str | int | float | None = None
    values: list[str | int | float] | None = None


class FilterGroup(msgspec.Struct, frozen=True):
    filters: list[Filter] = []


class Sort(msgspec.Struct, rename="camel", frozen=True):
    property_name: str
    direction: str = "ASCENDING"


class Query(msgspec.Struct, rename="camel", frozen=True):
    """The body of a search, as sent."""

    filter_groups: list[FilterGroup] | None = None
    filters: list[Filter] | None = None
    sorts: list[str | Sort] | None = None
    query: str | None = None
    properties: list[str] | None = None
    limit: int | None = None
    after: str | int | None = None


class Index:
    """What search sees of the contacts."""

    def __init__(self) -> None:
        self._entries: dict[int, Contact] = {}
        self._log: list[tuple[int, int]] = []  # (time of change, id), sorted; may hold stale ones.
        self._waiting: deque[tuple[int, int, Contact | None]] = deque()
        self._found: dict[bytes, list[int]] = {}

    def put(self, contact_id: int, contact: Contact | None, *, visible_ms: int) -> None:
        """Show a contact (None: no longer) from a moment on."""
        self._waiting.append((visible_ms, contact_id, contact))

    def catch_up(self, now_ms: int) -> None:
        """Show what is due by now."""
        if self._waiting and self._waiting[0][0] <= now_ms:
            self._found.clear()
        while self._waiting and self._waiting[0][0] <= now_ms:
            _, contact_id, contact = self._waiting.popleft()
            self._show(contact_id, contact)

    def find(self, query: Query, properties: Properties) -> tuple[list[Contact], int, int | None]:
        """Return a page, how many there are in all, and the offset of the next page.

        Raises a `RefusedError` with HubSpot's reason if the query is over one of the limits.
        """
        groups = _groups(query)
        sort = _sort(query)
        limit, offset = _slice(query)
        above, groups = _keyset(groups, sort)
        ids = self._result(groups, sort, query.query, properties)
        start = bisect_right(ids, above) if above is not None else 0
        total = len(ids) - start
        page = [self._entries[i] for i in ids[start + offset : start + offset + limit]]
        return page, total, offset + limit if offset + limit < total else None

    def _show(self, contact_id: int, contact: Contact | None) -> None:
        if contact is None:
            self._entries.pop(contact_id, None)
            return
        self._entries[contact_id] = contact
        entry = (contact.updated_ms, contact_id)
        if not self._log or entry >= self._log[-1]:
            self._log.append(entry)
        else:
            insort(self._log, entry)
        if len(self._log) > 2 * len(self._entries) + LOG_SLACK:
            self._log = sorted((kept.updated_ms, kept.id) for kept in self._entries.values())

    def _result(
        self, groups: Sequence[FilterGroup], sort: Sort, text: str | None, properties: Properties
    ) -> list[int]:
        """Return the ids that a query finds, in order; what was found before is kept."""
        key = msgspec.json.encode((groups, sort, text))
        if key not in self._found:
            if len(self._found) >= QUERIES_KEPT:
                del self._found[next(iter(self._found))]
            self._found[key] = self._evaluate(groups, sort, text, properties)
        return self._found[key]

    def _evaluate(
        self, groups: Sequence[FilterGroup], sort: Sort, text: str | None, properties: Properties
    ) -> list[int]:
        found: dict[int, Contact] = {}
        for group in groups or [FilterGroup()]:
            tests = [
                _test(each, _definition(each.property_name, properties)) for each in group.filters
            ]
            for contact in self._candidates(group):
                if contact.id not in found and all(test(contact) for test in tests):
                    found[contact.id] = contact
        chosen = [each for each in found.values() if not text or _mentions(each, text)]
        return _sorted(chosen, sort, properties)

    def _candidates(self, group: FilterGroup) -> Iterable[Contact]:
        """Return contacts among which all of a group's are: as few as is cheap to tell."""
        low, high = None, None
        for each in group.filters:
            if each.property_name == "hs_object_id" and each.operator in {"EQ", "IN"}:
                wanted = each.values if each.operator == "IN" else [each.value]
                ids = {number(str(value)) for value in wanted or []}
                found = (self._entries.get(i) for i in ids if i is not None)
                return [contact for contact in found if contact]
            if each.property_name == "lastmodifieddate":
                low, high = _narrowed(each, low, high)
        if low is None and high is None:
            return self._entries.values()
        start = 0 if low is None else bisect_left(self._log, (low, 0))
        end = len(self._log) if high is None else bisect_left(self._log, (high + 1, 0))
        entries = ((at, self._entries.get(i)) for at, i in self._log[start:end])
        return [each for at, each in entries if each and each.updated_ms == at]


def parsed_query(request: Request) -> Query:
    """Return a search's body; raises a `RefusedError` if it is too long or not a search."""
    if len(request.body.decode("utf-8", "replace")) > BODY_CHARS_MAX:
        message = f"The request body is over the limit of {BODY_CHARS_MAX} characters"
        raise invalid(message)
    return parsed(request, Query)


def _groups(query: Query) -> list[FilterGroup]:
    groups = list(query.filter_groups or [])
    if query.filters:
        groups.append(FilterGroup(query.filters))
    counts = [len(group.filters) for group in groups]
    for kind, count, allowed in (
        ("filterGroups", len(groups), GROUPS_MAX),
        ("filters in a group", max(counts, default=0), GROUP_FILTERS_MAX),
        ("filters", sum(counts), FILTERS_MAX),
    ):
        if count > allowed:
            message = (
                f"Invalid input JSON: too many {kind} (count: {count}, max allowed: {allowed})"
            )
            raise invalid(message)
    return groups


def _sort(query: Query) -> Sort:
    sorts = query.sorts or []
    if len(sorts) > 1:
        message = f"Invalid input JSON: too many sorts (count: {len(sorts)}, max allowed: 1)"
        raise invalid(message)
    match sorts:
        case [str(name)]:
            descending = name.startswith("-")
            return Sort(name.lstrip("-"), "DESCENDING" if descending else "ASCENDING")
        case [Sort() as sort]:
            return sort
        case _:
            return Sort("hs_object_id")  # Ids are given in order of creation.


def _slice(query: Query) -> tuple[int, int]:
    limit = PAGE_DEFAULT if query.limit is None else query.limit
    after = number(str(query.after or 0))
    if not 0 <= limit <= PAGE_MAX:
        message = f"Invalid limit {limit}: it must be between 0 and {PAGE_MAX}"
        raise invalid(message)
    if after is None:
        message = f"Invalid after {query.after}: it must be a number"
        raise invalid(message)
    if after + limit > RESULTS_MAX:
        message = f"The paging offset is over the limit of {RESULTS_MAX} results of a search"
        raise invalid(message)
    return limit, after


def _keyset(groups: list[FilterGroup], sort: Sort) -> tuple[int | None, list[FilterGroup]]:
    """Take `hs_object_id > n` out of a query in order of id: then pages share one result."""
    if len(groups) != 1 or sort != Sort("hs_object_id"):
        return None, groups
    above: list[int] = []
    rest = []
    for each in groups[0].filters:
        if each.property_name == "hs_object_id" and each.operator in {"GT", "GTE"}:
            bound = number(str(each.value))
            if bound is None:
                return None, groups
            above.append(bound - (each.operator == "GTE"))
        else:
            rest.append(each)
    return (max(above), [FilterGroup(rest)]) if above else (None, groups)


def _narrowed(each: Filter, low: int | None, high: int | None) -> tuple[int | None, int | None]:
    """Return the range of times of change that this filter leaves of a range, ends included."""
    at = _moment(each.value) if each.value is not None else None
    match each.operator:
        case "GTE" | "GT" | "EQ" | "BETWEEN" if at is not None:
            low = at if low is None else max(low, at)
    match each.operator:
        case "LTE" | "LT" | "EQ" if at is not None:
            high = at if high is None else min(high, at)
        case "BETWEEN" if each.high_value is not None:
            end = _moment(each.high_value)
            high = end if high is None else min(high, end)
    return low, high


def _moment(value: object) -> int:
    try:
        return moment_ms(str(value))
    except ValueError as error:
        message = f"{value} was not a valid datetime"
        raise invalid(message) from error


def _definition(name: str, properties: Properties) -> Property:
    definition = properties.live(name)
    if definition is None:
        message = f"There was a problem with the request: property {name} does not exist"
        raise invalid(message)
    return definition


def _comparable(definition: Property) -> Callable[[object], Value]:
    """Return how values of a property are compared: as numbers, moments or text."""
    match definition.type:
        case "number":
            return _as_number
        case "date" | "datetime":
            return lambda value: float(_moment(value))
        case "enumeration":
            return str
        case _:
            return lambda value: str(value).lower()


def _as_number(value: object) -> float:
    try:
        return float(str(value))
    except ValueError as error:
        message = f"{value} was not a valid number"
        raise invalid(message) from error


def _reader(definition: Property) -> Callable[[Contact], Value | None]:
    """Return what reads a property of a contact as it is compared; None if it has no value."""
    name = definition.name
    if name == "lastmodifieddate":
        return lambda contact: float(contact.updated_ms)
    if name == "createdate":
        return lambda contact: float(contact.created_ms)
    if name == "hs_object_id":
        return lambda contact: float(contact.id)
    comparable = _comparable(definition)

    def read(contact: Contact) -> Value | None:
        value = contact.value(name)
        return None if value is None else comparable(value)

    return read


def _test(each: Filter, definition: Property) -> Predicate:
    read = _reader(definition)
    comparable = _comparable(definition)
    match each.operator:
        case "HAS_PROPERTY":
            return lambda contact: read(contact) is not None
        case "NOT_HAS_PROPERTY":
            return lambda contact: read(contact) is None
        case "IN" | "NOT_IN" if each.values is not None:
            return _membership(read, each, definition)
        case "BETWEEN" if each.value is not None and each.high_value is not None:
            low, high = comparable(each.value), comparable(each.high_value)
            return lambda contact: _within(read(contact), low, high)
        case "CONTAINS_TOKEN" | "NOT_CONTAINS_TOKEN" if each.value is not None:
            return _token(read, str(each.value), wanted=each.operator == "CONTAINS_TOKEN")
        case operator if operator in _COMPARISONS and each.value is not None:
            return _comparison(read, _COMPARISONS[operator], comparable(each.value))
        case _:
            message = f"Invalid input JSON: operator {each.operator} is unknown or lacks its value"
            raise invalid(message)


def _membership(
    read: Callable[[Contact], Value | None], each: Filter, definition: Property
) -> Predicate:
    """Return the test of IN: text must be asked for in lower case, as it is not lowered here."""
    as_kept = definition.type in {"string", "bool"}
    comparable = str if as_kept else _comparable(definition)
    values = {comparable(value) for value in each.values or []}
    wanted = each.operator == "IN"
    return lambda contact: (read(contact) in values) is wanted


def _within(value: Value | None, low: Value, high: Value) -> bool:
    return value is not None and _le(low, value) and _le(value, high)


def _le(a: Value, b: Value) -> bool:
    return a <= b if isinstance(a, float) and isinstance(b, float) else str(a) <= str(b)


def _lt(a: Value, b: Value) -> bool:
    return _le(a, b) and a != b


_COMPARISONS: Mapping[str, Callable[[Value, Value], bool]] = {
    "EQ": lambda a, b: a == b,
    "NEQ": lambda a, b: a != b,
    "LT": _lt,
    "LTE": _le,
    "GT": lambda a, b: _lt(b, a),
    "GTE": lambda a, b: _le(b, a),
}


def _comparison(
    read: Callable[[Contact], Value | None], holds: Callable[[Value, Value], bool], value: Value
) -> Predicate:
    def test(contact: Contact) -> bool:
        mine = read(contact)
        return mine is not None and holds(mine, value)

    return test


def _token(read: Callable[[Contact], Value | None], value: str, *, wanted: bool) -> Predicate:
    """Return the test for a word in the text; a * stands for any part of a word."""
    words = [re.escape(word).replace(r"\*", r"\w*") for word in value.lower().split()]
    pattern = re.compile(r"(?<!\w)" + r"\W+".join(words) + r"(?!\w)")
    return lambda contact: bool(pattern.search(str(read(contact) or ""))) is wanted


def _mentions(contact: Contact, text: str) -> bool:
    return any(text.lower() in (contact.value(name) or "").lower() for name in QUERIED)


def _sorted(contacts: list[Contact], sort: Sort, properties: Properties) -> list[int]:
    """Return ids in order: those without a value last, and equal ones by id."""
    read = _reader(_definition(sort.property_name, properties))
    contacts = sorted(contacts, key=lambda contact: contact.id)
    having = [(value, each.id) for each in contacts if (value := read(each)) is not None]
    without = [each.id for each in contacts if read(each) is None]
    having.sort(key=lambda pair: pair[0], reverse=sort.direction == "DESCENDING")
    return [contact_id for _, contact_id in having] + without
