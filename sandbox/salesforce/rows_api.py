"""Single records: read, made, changed, upserted, deleted; and which were lately."""

from collections.abc import Mapping
from typing import Any

from sandbox.exchange import Answer, RefusedError, Request, Routes
from sandbox.salesforce import errors, writing
from sandbox.salesforce.errors import JSON, Problem, not_found, refused
from sandbox.salesforce.fields import Field
from sandbox.salesforce.moments import read_s, written
from sandbox.salesforce.org import BIN_S, DAY_S, Org
from sandbox.salesforce.query_api import DATA, attributes
from sandbox.salesforce.records import Row, Table
from sandbox.salesforce.search import table_reader
from sandbox.salesforce.tables import found_row, found_table
from sandbox.salesforce.values import BodyError
from sandbox.salesforce.writing import Call, RecordProblemError

OBJECT = f"{DATA}/sobjects/{{object}}"
UPDATED_MAX_S = 30 * DAY_S
_STATUS = {
    "ENTITY_IS_DELETED": 404,
    "INVALID_CROSS_REFERENCE_KEY": 404,
    "INSUFFICIENT_ACCESS_OR_READONLY": 403,
}


def register(routes: Routes[Org]) -> None:
    """Add the endpoints about one record, and those that tell which have changed."""
    routes.add("POST", OBJECT, claim=_claimed)(_create)
    routes.add("GET", f"{OBJECT}/{{id}}")(_read)
    routes.add("PATCH", f"{OBJECT}/{{id}}")(_update)
    routes.add("DELETE", f"{OBJECT}/{{id}}")(_delete)
    routes.add("GET", f"{OBJECT}/{{field}}/{{value}}")(_read_by)
    routes.add("PATCH", f"{OBJECT}/{{field}}/{{value}}", claim=_claimed)(_upsert)
    routes.add("DELETE", f"{OBJECT}/{{field}}/{{value}}")(_delete_by)
    routes.add("GET", f"{OBJECT}/updated")(_updated)
    routes.add("GET", f"{OBJECT}/deleted")(_deleted)


def _claimed(account: Org, request: Request) -> Answer:
    """Claim that a record was made: what a `lie` fault answers."""
    return Answer(201, {"id": "003000000000000AAA", "success": True, "errors": []})


def _create(account: Org, request: Request) -> Answer:
    table = found_table(account, request)
    with _Written(account, request) as call:
        row = writing.create(call, table, object_of(request))
    location = f"{request.path.rstrip('/')}/{row['Id']}"
    return Answer(201, _saved(row), {"Location": location}, JSON)


def _update(account: Org, request: Request) -> Answer:
    table = found_table(account, request)
    body = object_of(request)
    if any(name.lower() == "id" for name in body):
        message = "The Id field should not be specified in the sobject data."
        raise refused(400, "INVALID_FIELD", message)
    with _Written(account, request) as call:
        writing.update(call, table, request.arguments["id"], body)
    return Answer(204)


def _delete(account: Org, request: Request) -> Answer:
    table = found_table(account, request)
    with _Written(account, request) as call:
        writing.delete(call, table, request.arguments["id"])
    return Answer(204)


def _read(account: Org, request: Request) -> Answer:
    table = found_table(account, request)
    return _shown(account, table, found_row(account, table, request.arguments["id"]), request)


def _read_by(account: Org, request: Request) -> Answer:
    table = found_table(account, request)
    rows = _by_external_id(account, table, request)
    if not rows:
        raise not_found()
    return _shown(account, table, rows[0], request)


def _delete_by(account: Org, request: Request) -> Answer:
    table = found_table(account, request)
    rows = _by_external_id(account, table, request)
    if not rows:
        raise not_found()
    with _Written(account, request) as call:
        writing.delete(call, table, rows[0]["Id"])
    return Answer(204)


def _upsert(account: Org, request: Request) -> Answer:
    """Change the record with this value in a field that identifies it; make it if none has it."""
    table, body = found_table(account, request), object_of(request)
    rows = _by_external_id(account, table, request)
    field = external_id(table, request.arguments["field"])
    with _Written(account, request) as call:
        if rows:
            row = writing.update(call, table, rows[0]["Id"], body)
        else:
            body = {**body, field.name: request.arguments["value"]}
            row = writing.create(call, table, body)
    return Answer(200 if rows else 201, {**_saved(row), "created": not rows}, media_type=JSON)


def external_id(table: Table, name: str) -> Field:
    """Return a field that records may be found by; raise the 404 of one that is none."""
    field = table.fields.get(name.lower())
    if field is None or not (field.external_id or field.type == "id"):
        message = f"Provided external ID field does not exist or is not accessible: {name}"
        raise refused(404, "NOT_FOUND", message)
    return field


def _by_external_id(org: Org, table: Table, request: Request) -> list[Row]:
    """Return the one record, or none, with a value; several are answered 300 with their places."""
    field = external_id(table, request.arguments["field"])
    rows = writing.all_having(table, field, request.arguments["value"])
    if len(rows) > 1:
        version = request.arguments["version"]
        urls = [attributes(table.name, each["Id"], version)["url"] for each in rows]
        raise RefusedError(Answer(300, urls, media_type=JSON))
    return rows


def _shown(org: Org, table: Table, row: Row, request: Request) -> Answer:
    """Return a record with all its fields, or with those that `fields` names."""
    readers = table_reader(org, table)
    wanted = [each.strip().lower() for each in request.parameter("fields").split(",") if each]
    unknown = [each for each in wanted if each not in readers]
    if unknown:
        message = f"No such column '{unknown[0]}' on sobject of type {table.name}"
        raise refused(400, "INVALID_FIELD", message)
    told: dict[str, Any] = {
        "attributes": attributes(table.name, row["Id"], request.arguments["version"])
    }
    for name in wanted or readers:
        field, read = readers[name]
        told[field.name] = read(row)
    return Answer(200, told, media_type=JSON)


def _saved(row: Row) -> dict[str, Any]:
    return {"id": row["Id"], "success": True, "errors": []}


def object_of(request: Request) -> Mapping[str, Any]:
    """Return the JSON object that a call carries; raise the 400 of any other body."""
    if not isinstance(request.json, dict):
        raise refused(400, "JSON_PARSER_ERROR", "the body must be an object")
    return request.json


class _Written:
    """The write of one record: told when it is done, or answered as a single call is refused."""

    def __init__(self, org: Org, request: Request) -> None:
        self._call = Call(org, request)

    def __enter__(self) -> Call:
        return self._call

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RecordProblemError):
            raise RefusedError(refusal(error.problem)) from error
        if isinstance(error, BodyError):
            raise refused(400, "JSON_PARSER_ERROR", str(error)) from error
        if error is None:
            self._call.tell()


def refusal(problem: Problem) -> Answer:
    """Return the answer of a single record that was not written."""
    if problem.code == "INVALID_CROSS_REFERENCE_KEY" and not problem.fields:
        return errors.answer(404, "NOT_FOUND", errors.NOT_FOUND)
    status = 400 if problem.fields else _STATUS.get(problem.code, 400)
    return Answer(status, [problem.in_array()], media_type=JSON)


def _updated(account: Org, request: Request) -> Answer:
    table, (start, end) = found_table(account, request), _window(account, request, UPDATED_MAX_S)
    ids = [
        row["Id"]
        for row in table.between(written(start), written(end))
        if not row.get("IsDeleted") and account.sees(table, row)
    ]
    return Answer(200, {"ids": ids, "latestDateCovered": written(end)}, media_type=JSON)


def _deleted(account: Org, request: Request) -> Answer:
    table, (start, end) = found_table(account, request), _window(account, request, BIN_S)
    rows = [
        {"id": row["Id"], "deletedDate": row["SystemModstamp"]}
        for row in table.between(written(start), written(end))
        if row.get("IsDeleted") and account.sees(table, row)
    ]
    told = {
        "deletedRecords": rows,
        "earliestDateAvailable": written(account.clock.now_s() - BIN_S),
        "latestDateCovered": written(end),
    }
    return Answer(200, told, media_type=JSON)


def _window(org: Org, request: Request, back_s: int) -> tuple[float, float]:
    """Return the minutes between which records are asked for: seconds are ignored.

    It ends where the longest transaction that still runs began: what it changes is not to be seen
    yet, so the next look has to begin there (`latestDateCovered`).
    """
    bounds = [read_s(request.parameter(name).replace(" ", "+")) for name in ("start", "end")]
    start_s, end_s = bounds
    if start_s is None or end_s is None:
        raise refused(400, "INVALID_REPLICATION_DATE", "start and end must be moments")
    start_s, end_s = start_s // 60 * 60, end_s // 60 * 60
    if end_s - start_s <= 60:
        message = "start date must be before end date by more than one minute"
        raise refused(400, "INVALID_REPLICATION_DATE", message)
    if start_s < org.clock.now_s() - back_s:
        message = f"start date can be at most {back_s // DAY_S} days ago"
        raise refused(400, "INVALID_REPLICATION_DATE", message)
    lag_s = org.settings.commit_lag_s
    return start_s, min(end_s, org.clock.now_s() - lag_s)
