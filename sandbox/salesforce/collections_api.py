"""Collections: up to 200 records in one call, each with an outcome of its own, in their order.

A call that is not well formed is refused as a whole (400); else the answer is 200 whatever becomes
of the records. With `allOrNone` one failure takes back all the others.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from sandbox.exchange import Answer, Request, Routes
from sandbox.salesforce import writing
from sandbox.salesforce.errors import JSON, Problem, refused
from sandbox.salesforce.ids import as_18
from sandbox.salesforce.org import Org
from sandbox.salesforce.query_api import DATA, attributes
from sandbox.salesforce.records import Table
from sandbox.salesforce.rows_api import external_id, object_of
from sandbox.salesforce.search import table_reader
from sandbox.salesforce.tables import found_table
from sandbox.salesforce.values import BodyError
from sandbox.salesforce.writing import Call, RecordProblemError

RECORDS_MAX = 200
READ_MAX = 2_000
CHUNKS_MAX = 10  # Runs of one object; each is processed by itself.
COLLECTION = f"{DATA}/composite/sobjects"
ROLLED_BACK = Problem(
    "ALL_OR_NONE_OPERATION_ROLLED_BACK",
    "Record rolled back because not all records were valid and the request was using AllOrNone "
    "header",
)
Outcome = dict[str, Any]
Write = Callable[[], Outcome]


def register(routes: Routes[Org]) -> None:
    """Add the endpoints about many records at once."""
    routes.add("POST", COLLECTION, claim=_claimed)(_create)
    routes.add("PATCH", COLLECTION, claim=_claimed)(_update)
    routes.add("DELETE", COLLECTION, claim=_claimed)(_delete)
    routes.add("PATCH", f"{COLLECTION}/{{object}}/{{field}}", claim=_claimed)(_upsert)
    routes.add("GET", f"{COLLECTION}/{{object}}")(_read)
    routes.add("POST", f"{COLLECTION}/{{object}}")(_read)


def _claimed(account: Org, request: Request) -> Answer:
    """Claim that every record of a call was written: what a `lie` fault answers."""
    if request.method == "DELETE":
        ids = request.parameter("ids").split(",")
    else:
        ids = [str(each.get("id", "003000000000000AAA")) for each in request.json["records"]]
    return Answer(200, [{"id": each, "success": True, "errors": []} for each in ids])


def _create(account: Org, request: Request) -> Answer:
    call = Call(account, request)

    def write(table: Table, record: Mapping[str, Any]) -> Outcome:
        if any(name.lower() == "id" for name in record):
            message = "cannot specify Id in an insert call"
            raise RecordProblemError(Problem("INVALID_FIELD_FOR_INSERT_UPDATE", message, ["Id"]))
        return _saved(writing.create(call, table, record)["Id"])

    return _each(call, write)


def _update(account: Org, request: Request) -> Answer:
    call = Call(account, request)

    def write(table: Table, record: Mapping[str, Any]) -> Outcome:
        ids = [str(value) for name, value in record.items() if name.lower() == "id"]
        if not ids:
            message = "Id not specified in an update call"
            raise RecordProblemError(Problem("MISSING_ARGUMENT", message))
        rest = {name: value for name, value in record.items() if name.lower() != "id"}
        return _saved(writing.update(call, table, ids[0], rest)["Id"])

    return _each(call, write)


def _upsert(account: Org, request: Request) -> Answer:
    table, call = found_table(account, request), Call(account, request)
    field = external_id(table, request.arguments["field"])

    def write(own: Table, record: Mapping[str, Any]) -> Outcome:
        named = {
            name: value for name, value in record.items() if name.lower() == field.name.lower()
        }
        if own is not table or not any(named.values()):
            message = f"{field.name} not specified"
            raise RecordProblemError(Problem("MISSING_ARGUMENT", message, [field.name]))
        found = writing.all_having(table, field, next(iter(named.values())))
        if len(found) > 1:
            message = f"{field.name}: more than one record found for external id field"
            raise RecordProblemError(Problem("DUPLICATE_EXTERNAL_ID", message))
        if not found:
            return {**_saved(writing.create(call, table, record)["Id"]), "created": True}
        rest = {name: value for name, value in record.items() if name not in named}
        changed = writing.update(call, table, found[0]["Id"], rest)
        return {**_saved(changed["Id"]), "created": False}

    return _each(call, write)


def _delete(account: Org, request: Request) -> Answer:
    ids = [each for each in request.parameter("ids").split(",") if each]
    if not ids:
        raise refused(400, "MISSING_ARGUMENT", "ids must be specified")
    _check_number(len(ids), RECORDS_MAX)
    call = Call(account, request)

    def write(record_id: str) -> Write:
        return lambda: _deleted(call, record_id)

    outcomes = _carried_out(
        call, [write(each) for each in ids], all_or_none=request.flag("allOrNone")
    )
    return Answer(200, outcomes, media_type=JSON)


def _deleted(call: Call, record_id: str) -> Outcome:
    whole = as_18(record_id)
    table = next((each for each in call.org.tables.values() if each.prefix == record_id[:3]), None)
    if whole is None or table is None:
        raise RecordProblemError(Problem("MALFORMED_ID", f"malformed id {record_id}"))
    writing.delete(call, table, whole)
    return _saved(whole)


def _each(call: Call, write: Callable[[Table, Mapping[str, Any]], Outcome]) -> Answer:
    """Do the same to each record of a body; return the outcomes in its order."""
    org = call.org
    body = object_of(call.request)
    records = body.get("records")
    if not isinstance(records, list) or not all(isinstance(each, dict) for each in records):
        raise refused(400, "JSON_PARSER_ERROR", "records must be an array of objects")
    _check_number(len(records), RECORDS_MAX)
    tables = [_table_of(org, each) for each in records]
    chunks = sum(one is not other for one, other in pairwise(tables)) + 1
    if chunks > CHUNKS_MAX:
        message = f"Cannot process more than {CHUNKS_MAX} chunks of objects in one call"
        raise refused(400, "INVALID_INPUT", message)
    writes = [_bound(write, table, record) for table, record in zip(tables, records, strict=True)]
    all_or_none = body.get("allOrNone") is True
    return Answer(200, _carried_out(call, writes, all_or_none=all_or_none), media_type=JSON)


def _bound(
    write: Callable[[Table, Mapping[str, Any]], Outcome], table: Table, record: Mapping[str, Any]
) -> Write:
    return lambda: write(table, record)


def _carried_out(call: Call, writes: Sequence[Write], *, all_or_none: bool) -> list[Outcome]:
    """Carry writes out in order; a body that makes no sense takes all of them back."""
    org = call.org
    before = org.copy()
    try:
        outcomes = [_outcome(write) for write in writes]
    except BodyError as error:
        org.restore(before)
        raise refused(400, "JSON_PARSER_ERROR", str(error)) from error
    if all_or_none and not all(each["success"] for each in outcomes):
        org.restore(before)
        rolled_back = {"success": False, "errors": [ROLLED_BACK.in_collection()]}
        return [rolled_back if each["success"] else each for each in outcomes]
    call.tell()
    return outcomes


def _outcome(write: Write) -> Outcome:
    try:
        return write()
    except RecordProblemError as error:
        return {"success": False, "errors": [error.problem.in_collection()]}


def _saved(record_id: str) -> Outcome:
    return {"id": record_id, "success": True, "errors": []}


def _check_number(number: int, most: int) -> None:
    if number > most:
        message = f"record limit reached. cannot submit more than {most} records into this call"
        raise refused(400, "EXCEEDED_ID_LIMIT", message)


def _table_of(org: Org, record: Mapping[str, Any]) -> Table:
    """Return the object that a record says it is of; raise the 400 of one that does not."""
    told = record.get("attributes")
    name = told.get("type") if isinstance(told, dict) else None
    table = org.tables.get(name.lower()) if isinstance(name, str) else None
    if table is None or table.name in org.settings.hidden_objects:
        message = f"sObject type '{name}' is not supported." if name else "type not specified"
        raise refused(400, "INVALID_TYPE" if name else "MISSING_ARGUMENT", message)
    return table


def _read(account: Org, request: Request) -> Answer:
    """Return records by their ids, in their order; null for one that is not there."""
    table = found_table(account, request)
    if request.method == "GET":
        ids = request.parameter("ids").split(",")
        names = request.parameter("fields").split(",")
    else:
        body = object_of(request)
        ids, names = ([str(one) for one in body.get(each) or ()] for each in ("ids", "fields"))
    _check_number(len(ids), READ_MAX)
    readers = table_reader(account, table)
    unknown = [each for each in names if each.strip().lower() not in readers]
    if unknown:
        message = f"No such column '{unknown[0]}' on sobject of type {table.name}"
        raise refused(400, "INVALID_FIELD", message)
    columns = [readers[each.strip().lower()] for each in names]
    version = request.arguments["version"]
    told: list[dict[str, Any] | None] = []
    for each in ids:
        row = table.rows.get(as_18(each) or "")
        if row is None or row.get("IsDeleted") or not account.sees(table, row):
            told.append(None)
            continue
        values = {field.name: read(row) for field, read in columns}
        told.append({"attributes": attributes(table.name, row["Id"], version), **values})
    return Answer(200, told, media_type=JSON)
