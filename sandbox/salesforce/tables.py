"""Which object, and which record, a path names."""

from sandbox.exchange import Request
from sandbox.salesforce.errors import Problem, not_found, refused
from sandbox.salesforce.ids import as_18
from sandbox.salesforce.org import Org
from sandbox.salesforce.records import Row, Table

DELETED = Problem("ENTITY_IS_DELETED", "entity is deleted")


def found_table(org: Org, request: Request) -> Table:
    """Return the object that a path names; raise the 404 of one that the user does not see."""
    table = org.tables.get(request.arguments["object"].lower())
    if table is None or table.name in org.settings.hidden_objects:
        raise not_found()
    return table


def found_row(org: Org, table: Table, record_id: str) -> Row:
    """Return a record by its id in either form; raise the 404 of one that is not there."""
    whole = as_18(record_id)
    if whole is None:
        raise refused(400, "MALFORMED_ID", f"malformed id {record_id}")
    row = table.rows.get(whole)
    if row is None or not org.sees(table, row):
        raise not_found()
    if row.get("IsDeleted"):
        raise refused(404, DELETED.code, DELETED.message)
    return row
