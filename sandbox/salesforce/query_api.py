"""Queries: found, counted, grouped, shown page by page."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sandbox.exchange import Answer, Request, Routes
from sandbox.salesforce import soql
from sandbox.salesforce.errors import refused
from sandbox.salesforce.org import Org
from sandbox.salesforce.records import Row
from sandbox.salesforce.results import Result
from sandbox.salesforce.search import Column, Searcher
from sandbox.salesforce.state import State

DATA = "/services/data/{version}"
BATCH_LEAST, BATCH_MOST = 200, 2_000
Reduce = Callable[[Sequence[Any]], Any]


def register(routes: Routes[Org], state: State) -> None:
    """Add query and queryAll, and the way to a result's further pages."""

    @routes.add("GET", f"{DATA}/query")
    def query(account: Org, request: Request) -> Answer:
        return Answer(200, asked(state, account, request, with_deleted=False))

    @routes.add("GET", f"{DATA}/queryAll")
    def query_all(account: Org, request: Request) -> Answer:
        return Answer(200, asked(state, account, request, with_deleted=True))

    @routes.add("GET", f"{DATA}/query/{{locator}}", f"{DATA}/queryAll/{{locator}}")
    def more(account: Org, request: Request) -> Answer:
        locator, _, offset = request.arguments["locator"].rpartition("-")
        result = state.results.find(locator, account.id, state.clock.now_s())
        if result is None or not offset.isdigit():
            raise refused(400, "INVALID_QUERY_LOCATOR", "invalid query locator")
        return Answer(200, _page(result, locator, int(offset), request.arguments["version"]))


def asked(state: State, org: Org, request: Request, *, with_deleted: bool) -> dict[str, Any]:
    """Return the first page of the query that a call carries."""
    text = request.parameter("q")
    if not text:
        raise refused(400, "MALFORMED_QUERY", "A query string has to be specified")
    query, version = soql.parse(text), request.arguments["version"]
    searcher = Searcher(org, query)
    if query.is_count:
        found = searcher.rows(with_deleted=with_deleted)
        return {"totalSize": len(found), "done": True, "records": []}
    if query.is_aggregate:
        records = _aggregated(searcher, searcher.rows(with_deleted=with_deleted))
        return {"totalSize": len(records), "done": True, "records": records}
    shown = shown_as(searcher, version)
    rows = searcher.rows(with_deleted=with_deleted)
    result = Result(org.id, rows, shown, _page_rows(org, request), state.clock.now_s())
    locator = state.results.keep(result) if len(rows) > result.page_rows else ""
    return _page(result, locator, 0, version)


def _page(result: Result, locator: str, offset: int, version: str) -> dict[str, Any]:
    after = offset + result.page_rows
    page: dict[str, Any] = {
        "totalSize": len(result.rows),
        "done": after >= len(result.rows),
        "records": [result.shown(row) for row in result.rows[offset:after]],
    }
    if not page["done"]:
        page["nextRecordsUrl"] = f"/services/data/{version}/query/{locator}-{after}"
    return page


def _page_rows(org: Org, request: Request) -> int:
    """Return how many rows a page has: as the caller wishes, between 200 and 2,000.

    A setting makes pages smaller than that, as rows that are large do.
    """
    wish = BATCH_MOST
    for option in request.headers.get("sforce-query-options", "").split(","):
        name, _, value = option.partition("=")
        if name.strip().lower() == "batchsize" and value.strip().isdigit():
            wish = int(value)
    return min(max(BATCH_LEAST, min(wish, BATCH_MOST)), org.settings.page_rows_max)


def attributes(name: str, record_id: str, version: str) -> dict[str, str]:
    """Return what every record in JSON begins with."""
    return {"type": name, "url": f"/services/data/{version}/sobjects/{name}/{record_id}"}


def shown_as(searcher: Searcher, version: str) -> Callable[[Row], dict[str, Any]]:
    """Return what makes of a record what a query's page has of it."""
    columns = searcher.columns()
    if not columns:
        raise refused(400, "MALFORMED_QUERY", "a query must select a field")
    plain = [(each.names[0], each.read) for each in columns if len(each.names) == 1]
    of_parents = [each for each in columns if len(each.names) > 1]
    name = searcher.table.name

    def shown(row: Row) -> dict[str, Any]:
        record: dict[str, Any] = {"attributes": attributes(name, row["Id"], version)}
        for field, read in plain:
            record[field] = read(row)
        for column in of_parents:
            _nest(searcher, record, column, row, version)
        return record

    return shown


def _nest(
    searcher: Searcher, record: dict[str, Any], column: Column, row: Row, version: str
) -> None:
    """Put a parent's field where JSON has it: in an object of its own, or nothing if none is."""
    table, at = searcher.table, row
    for step in column.names[:-1]:
        relationship = table.relationships[step.lower()]
        table = searcher.org.tables[relationship.refers_to[0].lower()]
        above = table.rows.get(at.get(relationship.name) or "")
        if above is None:
            record.setdefault(step, None)
            return
        inner = {"attributes": attributes(table.name, above["Id"], version)}
        record, at = record.setdefault(step, inner), above
    record[column.names[-1]] = column.read(row)


def _aggregated(searcher: Searcher, rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return a record for each group; without GROUP BY all records are one group."""
    query = searcher.query
    by = [searcher.column(path) for path in query.group]
    groups: dict[tuple[Any, ...], list[Row]] = {} if by else {(): []}
    for row in rows:
        groups.setdefault(tuple(column.read(row) for column in by), []).append(row)
    makers = _makers(searcher, by)
    return [
        {
            "attributes": {"type": "AggregateResult"},
            **{name: make(key, members) for name, make in makers.items()},
        }
        for key, members in groups.items()
    ]


Make = Callable[[tuple[Any, ...], Sequence[Row]], Any]


def _makers(searcher: Searcher, by: Sequence[Column]) -> Mapping[str, Make]:
    """Return, by the name that it is shown under, what makes each value of a group."""
    made: dict[str, Make] = {}
    unnamed = 0
    for each in searcher.query.select:
        if isinstance(each, soql.Aggregate):
            name = each.alias or f"expr{unnamed}"
            unnamed += each.alias is None
            made[name] = _aggregate(searcher, each)
        elif isinstance(each, soql.Path):
            column = searcher.column(each)
            if column.names not in [one.names for one in by]:
                message = f"Field must be grouped or aggregated: {each.text}"
                raise soql.malformed(searcher.query.text, each.at, message)
            made[column.names[-1]] = _key(by, column)
    return made


def _key(by: Sequence[Column], column: Column) -> Make:
    index = [one.names for one in by].index(column.names)
    return lambda key, members: key[index]


def _aggregate(searcher: Searcher, wanted: soql.Aggregate) -> Make:
    if wanted.path is None:
        return lambda key, members: len(members)
    read, reduce = searcher.column(wanted.path).read, _REDUCED[wanted.function]

    def make(key: tuple[Any, ...], members: Sequence[Row]) -> Any:
        return reduce([value for row in members if (value := read(row)) is not None])

    return make


_REDUCED: Mapping[str, Reduce] = {
    "COUNT": len,
    "COUNT_DISTINCT": lambda values: len(set(values)),
    "MIN": lambda values: min(values, default=None),
    "MAX": lambda values: max(values, default=None),
    "SUM": lambda values: sum(values) if values else None,
    "AVG": lambda values: sum(values) / len(values) if values else None,
}
