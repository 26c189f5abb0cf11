"""The queries that a source asks, as texts: pure functions.

Every page is a query of its own that begins after the last record of the page before, so none is
paged by Salesforce: positions outlive any cursor, and rows that move pass nobody over. What comes
from outside is a name or an id by its form, or it is quoted.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import quote_plus

from libs.connectors.contract import Sweep
from libs.connectors.salesforce.facts import IDS_MAX, PAGE_MAX, Kind
from libs.connectors.salesforce.payload import milliseconds

ID, STAMP, MASTER = "Id", "SystemModstamp", "MasterRecordId"
# Of the 16,384 bytes that address and headers may have together; a token has some hundred.
ADDRESS_BYTES_MAX = 15_000

_ID = re.compile(r"[A-Za-z0-9]{15}(?:[A-Za-z0-9]{3})?")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,79}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND_MS = 1_000


def is_id(text: str) -> bool:
    """Return whether a text has the form of an id: Salesforce refuses a query with any other."""
    return _ID.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """Return whether a text has the form of a field's name."""
    return _NAME.fullmatch(text) is not None


def quoted(text: str) -> str:
    """Return a text as a literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def moment(at_ms: int) -> str:
    """Return milliseconds since 1970 as a literal: UTC, the second it is in."""
    return (_EPOCH + timedelta(seconds=at_ms // _SECOND_MS)).strftime("%Y-%m-%dT%H:%M:%SZ")


def fields_of(properties: Sequence[str]) -> list[str]:
    """Return what to select for these properties: id and time as well, nothing twice."""
    return list(dict.fromkeys([ID, STAMP, *properties]))


def select(
    fields: Iterable[str],
    sobject: str,
    conditions: Iterable[str | None] = (),
    *,
    by: Sequence[str] = (ID,),
    limit: int = PAGE_MAX,
) -> str:
    """Return a query; conditions of None do not count."""
    return (
        f"{_asked(', '.join(fields), sobject, conditions)} ORDER BY {', '.join(by)} LIMIT {limit}"
    )


def count(sobject: str, conditions: Iterable[str | None]) -> str:
    """Return a query for a number."""
    return _asked("COUNT()", sobject, conditions)


def _asked(what: str, sobject: str, conditions: Iterable[str | None]) -> str:
    where = " AND ".join(each for each in conditions if each)
    found = f"SELECT {what} FROM {sobject}"  # noqa: S608 - names are ours, or have a name's form
    return f"{found} WHERE {where}" if where else found


def members_of(kind: Kind, list_id: str | None) -> str | None:
    """Return the condition of being in a campaign; None without one."""
    if list_id is None:
        return None
    members = _asked(kind.member, "CampaignMember", [f"CampaignId = {quoted(list_id)}"])
    return f"{ID} IN ({members})"


def window_of(sweep: Sweep) -> str | None:
    """Return the condition of a window, whole seconds around it; None where all is read."""
    if sweep.since_ms is None:
        return None
    until_ms = sweep.until_ms + _SECOND_MS - 1
    return f"{STAMP} >= {moment(sweep.since_ms)} AND {STAMP} <= {moment(until_ms)}"


def one_of(field: str, ids: Collection[str]) -> str:
    """Return the condition of being one of these."""
    return f"{field} IN ({', '.join(map(quoted, ids))})"


def after_id(after: str | None) -> str | None:
    """Return the condition of standing after a record in the order of ids."""
    return None if after is None else f"{ID} > {quoted(after)}"


def after_stamp(after: str | None) -> str | None:
    """Return the condition of standing after a position in the order of times and ids."""
    if after is None:
        return None
    at, _, last = after.partition(" ")
    return f"({STAMP} > {at} OR ({STAMP} = {at} AND {ID} > {quoted(last)}))"


def stamp_position(record_id: str, stamp: str) -> str:
    """Return the position behind a record in the order of times and ids."""
    return f"{moment(milliseconds(stamp))} {record_id}"


def batches(ids: Sequence[str], fields: Sequence[str]) -> list[Sequence[str]]:
    """Return ids in parts that fit into a query's address beside these fields."""
    taken = len(quote_plus(", ".join(fields)))
    each = len(quote_plus(quoted("0" * 18) + ", "))
    size = max(1, min(IDS_MAX, (ADDRESS_BYTES_MAX - taken) // each))
    return [ids[start : start + size] for start in range(0, len(ids), size)]
