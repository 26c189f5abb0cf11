"""What is sent to write records, and what its answers mean: pure functions, no call.

One call takes up to 200 records and answers for each, in their order. A code says why a record was
refused; texts are looked at only where one code has two meanings.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from libs.common.reasons import Reject
from libs.connectors.contract import Missing, NotTried, Outcome, Refused, Write, Written

# The first three characters of an id say what it is the id of.
_SOBJECTS: Mapping[str, str] = {"003": "Contact", "00Q": "Lead"}
LEAD, CONTACT = "Lead", "Contact"
LAST_NAME, FIRST_NAME = "LastName", "FirstName"
LEAD_FIRST_NAME_MAX = 40  # SF8, in characters.

# The record is in the bin, was merged away, or never was.
_GONE = frozenset({"ENTITY_IS_DELETED", "INVALID_CROSS_REFERENCE_KEY", "NOT_FOUND", "MALFORMED_ID"})
_ACCESS = "INSUFFICIENT_ACCESS"
# Somebody else is writing it, or one that belongs to it: the very same call may pass in a moment.
_LOCKED = "UNABLE_TO_LOCK_ROW"
# A field that is not there any more, or that the person may not edit any more.
FIELD_GONE = frozenset({"INVALID_FIELD", "INVALID_FIELD_FOR_INSERT_UPDATE"})
_REASONS: Mapping[str, Reject] = {
    "STRING_TOO_LONG": Reject.VALUE_TOO_LONG,
    "INVALID_EMAIL_ADDRESS": Reject.INVALID_EMAIL,
}


class Error(msgspec.Struct, frozen=True, rename="camel"):
    """Why a record was refused."""

    status_code: str = ""
    message: str = ""
    fields: Sequence[str] = ()


class Result(msgspec.Struct, frozen=True):
    """What became of one record."""

    success: bool
    id: str | None = None
    errors: Sequence[Error] = ()


RESULTS = msgspec.json.Decoder(list[Result])
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_VALUES = msgspec.json.Decoder(dict[str, Any])


def sobject_of(record_id: str) -> str | None:
    """Return what a record is; None if nothing that we write."""
    return _SOBJECTS.get(record_id[:3])


def fields_of(write: Write) -> dict[str, Any]:
    """Return what a write sets, by field; null empties one."""
    return _VALUES.decode(write.attributes or b"{}")


def refused_unsent(write: Write) -> Refused | None:
    """Return why a write is not sent at all; None for one that may be."""
    sobject = sobject_of(write.record or "")
    if sobject is None:
        return Refused(Reject.NOT_A_TASK_TARGET)
    values = fields_of(write)
    if LAST_NAME in values and not str(values[LAST_NAME] or "").strip():
        return Refused(Reject.LAST_NAME_REQUIRED)  # SF4: also where Salesforce would take blanks.
    first_name = values.get(FIRST_NAME)
    is_long = isinstance(first_name, str) and len(first_name) > LEAD_FIRST_NAME_MAX
    if sobject == LEAD and is_long:
        return Refused(Reject.VALUE_TOO_LONG)  # SF8: whatever the organisation has made of it.
    return None


def update_body(writes: Sequence[Write]) -> bytes:
    """Return the body that updates these records; each field stays the bytes that it came as."""
    records = [
        {
            "attributes": {"type": sobject_of(write.record or "")},
            "id": write.record,
            **_FIELDS.decode(write.attributes or b"{}"),
        }
        for write in writes
    ]
    return msgspec.json.encode({"allOrNone": False, "records": records})


def outcome_of(result: Result, *, deletes: bool) -> Outcome:
    """Return what a result means for its contact; NotTried: the same call may pass in a moment."""
    if result.success:
        return Written()
    error = result.errors[0] if result.errors else Error()
    if error.status_code in _GONE:
        return Written() if deletes else Missing()  # Who is gone is deleted already.
    if error.status_code == _LOCKED or error.status_code in FIELD_GONE:
        return NotTried()
    return Refused(_reason_of(error))


def _reason_of(error: Error) -> Reject:
    code = error.status_code
    if code == "DELETE_FAILED" and "case" in error.message.lower():
        return Reject.CASE_ATTACHED
    if code.startswith(_ACCESS) or code == "DELETE_FAILED":
        return Reject.NOT_A_TASK_TARGET
    if code == "REQUIRED_FIELD_MISSING" and LAST_NAME in error.fields:
        return Reject.LAST_NAME_REQUIRED
    return _REASONS.get(code, Reject.VALUE_NOT_ACCEPTED)


def is_field_gone(result: Result) -> bool:
    """Return whether a record was refused for a field, which every record would be."""
    return any(error.status_code in FIELD_GONE for error in result.errors)


def refused_body(message: str) -> Refused:
    """Return why Salesforce could not even read the values of the one record that was sent.

    It names the type that it wanted a value to be: "Cannot deserialize instance of date from …".
    """
    words = message.lower()
    is_date = "instance of date" in words or "instance of datetime" in words
    return Refused(Reject.DATE_FORMAT if is_date else Reject.VALUE_NOT_ACCEPTED)
