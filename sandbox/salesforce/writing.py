"""What the API does to one record: checked first, then done, or refused with a `Problem`.

The same for a single record, a member of a collection and an upsert. Nothing is changed before all
of a record's checks have passed.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.exchange import Request
from sandbox.salesforce.derived import cases_of
from sandbox.salesforce.errors import Problem
from sandbox.salesforce.fields import Field
from sandbox.salesforce.ids import as_18
from sandbox.salesforce.org import Org
from sandbox.salesforce.query_api import attributes
from sandbox.salesforce.records import Row, Table
from sandbox.salesforce.tables import DELETED
from sandbox.salesforce.values import ValueProblemError, kept

Body = Mapping[str, Any]
CROSS_REFERENCE = Problem("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id")
NO_RIGHT = Problem("INSUFFICIENT_ACCESS_OR_READONLY", "insufficient access rights on object id")
CONVERTED = Problem("CANNOT_UPDATE_CONVERTED_LEAD", "cannot reference converted lead")
DUPLICATE_RULE = "Use one of these records?"
SAVES_ANYWAY = "allowsave=true"


class RecordProblemError(Exception):
    """A record is not written; `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Call:
    """A call that writes: whose it is, and what it says about every record of it."""

    org: Org
    request: Request
    notes: list[tuple[Row, Body, bool]] = dataclasses.field(
        default_factory=list
    )  # What it has written.

    def tell(self) -> None:
        """Tell the oracle what was written: it holds now."""
        for row, values, created in self.notes:
            self.org.writes.add(
                self.request.endpoint,
                identity=row.get("Email"),
                attributes=values,
                contact_id=row["Id"],
                created=created,
            )

    @property
    def saves_duplicates(self) -> bool:
        header = self.request.headers.get("sforce-duplicate-rule-header", "")
        return SAVES_ANYWAY in header.replace(" ", "").lower()


def create(call: Call, table: Table, body: Body) -> Row:
    """Make a record."""
    org = call.org
    _check_right(org, table)
    values = _values(org, table, body, is_new=True)
    missing = [
        each.name
        for each in table.fields.values()
        if each.is_required and values.get(each.name) is None
    ]
    if missing:
        message = f"Required fields are missing: [{', '.join(missing)}]"
        raise RecordProblemError(Problem("REQUIRED_FIELD_MISSING", message, missing))
    _check_member(org, table, values)
    _check_whole(call, table, values, None)
    row = org.create(table.name, values, org.by_api)
    call.notes.append((row, values, True))
    return row


def update(call: Call, table: Table, record_id: str, body: Body) -> Row:
    """Change a record: what is not named stays, and null takes a value away."""
    org = call.org
    _check_right(org, table)
    row = live(org, table, record_id)
    _check_lock(table, row)
    if row.get("IsConverted"):
        raise RecordProblemError(CONVERTED)
    values = _values(org, table, body, is_new=False)
    emptied = [
        name
        for name, value in values.items()
        if value is None and not table.fields[name.lower()].nillable
    ]
    if emptied:
        message = f"Required fields are missing: [{', '.join(emptied)}]"
        raise RecordProblemError(Problem("REQUIRED_FIELD_MISSING", message, emptied))
    _check_whole(call, table, values, row)
    changed = org.update(table.name, row, values, org.by_api)
    call.notes.append((changed, values, False))
    return changed


def delete(call: Call, table: Table, record_id: str) -> None:
    """Put a record into the bin; a contact on whom a case hangs stays."""
    org = call.org
    _check_right(org, table)
    if table.name in org.settings.undeletable_objects:
        raise RecordProblemError(NO_RIGHT)
    row = live(org, table, record_id)
    _check_lock(table, row)
    cases = cases_of(org, row["Id"]) if table.name == "Contact" else []
    if cases:
        raise RecordProblemError(_has_cases(row, cases))
    org.delete(table.name, row, org.by_api)
    call.notes.append((row, {"IsDeleted": True}, False))


def live(org: Org, table: Table, record_id: str) -> Row:
    """Return a record that is there; raise what a write says of one that is not."""
    whole = as_18(record_id)
    if whole is None:
        raise RecordProblemError(Problem("MALFORMED_ID", f"malformed id {record_id}"))
    row = table.rows.get(whole)
    if row is None or not org.sees(table, row):
        raise RecordProblemError(CROSS_REFERENCE)
    if row.get("IsDeleted"):
        raise RecordProblemError(DELETED)
    return row


def _check_right(org: Org, table: Table) -> None:
    if not table.kind.is_writable or table.name in org.settings.read_only_objects:
        raise RecordProblemError(NO_RIGHT)


def _check_lock(table: Table, row: Row) -> None:
    """Refuse a record that somebody else's transaction holds."""
    turns = table.locks.get(row["Id"], 0)
    if turns:
        table.locks[row["Id"]] = turns - 1
    if turns or table.is_locked(row["Id"]):
        message = f"unable to obtain exclusive access to this record or 1 records: {row['Id']}"
        raise RecordProblemError(Problem("UNABLE_TO_LOCK_ROW", message))


def _values(org: Org, table: Table, body: Body, *, is_new: bool) -> dict[str, Any]:
    """Return the fields that a body writes, with what is kept of each value.

    Raises `BodyError` for the whole body, `RecordProblemError` for the record.
    """
    named = {name: value for name, value in body.items() if name.lower() != "attributes"}
    fields = {name: _field(org, table, name) for name in named}
    verb = "createable" if is_new else "updateable"
    locked = [each.name for each in fields.values() if not getattr(each, verb)]
    if locked:
        message = (
            f"Unable to create/update fields: {', '.join(locked)}. Please check the security "
            "settings of this field and verify that it is read/write for your profile or "
            "permission set."
        )
        raise RecordProblemError(Problem("INVALID_FIELD_FOR_INSERT_UPDATE", message, locked))
    values: dict[str, Any] = {}
    for name, field in fields.items():
        try:
            value = kept(field, named[name])
        except ValueProblemError as error:
            raise RecordProblemError(error.problem) from error
        values[field.name] = False if value is None and field.type == "boolean" else value
        _check_reference(org, field, value)
    return values


def _field(org: Org, table: Table, name: str) -> Field:
    field = table.fields.get(name.lower())
    if field is None or (table.name, field.name) in org.hidden_fields:
        message = f"No such column '{name}' on sobject of type {table.name}"
        raise RecordProblemError(Problem("INVALID_FIELD", message))
    return field


def _check_reference(org: Org, field: Field, value: Any) -> None:
    if field.type != "reference" or value is None:
        return
    row = org.tables[field.refers_to[0].lower()].rows.get(value)
    if row is None or row.get("IsDeleted"):
        problem = Problem(CROSS_REFERENCE.code, CROSS_REFERENCE.message, [field.name])
        raise RecordProblemError(problem)


def _check_member(org: Org, table: Table, values: Body) -> None:
    """Refuse a member of nobody or of two, and one who is a member already."""
    if table.name != "CampaignMember":
        return
    lead, contact = values.get("LeadId"), values.get("ContactId")
    if (lead is None) == (contact is None):
        fields = ["LeadId", "ContactId"]
        message = f"Required fields are missing: [{', '.join(fields)}]"
        raise RecordProblemError(Problem("REQUIRED_FIELD_MISSING", message, fields))
    reference, person = ("LeadId", lead) if lead else ("ContactId", contact)
    there = {each.get(reference) for each in org.members("CampaignId", values["CampaignId"])}
    if person in there:
        raise RecordProblemError(Problem("DUPLICATE_VALUE", "Already a campaign member."))


def _check_whole(call: Call, table: Table, values: Body, before: Row | None) -> None:
    """Check what depends on other records, or on a rule of the org's own."""
    own_id = before["Id"] if before else None
    for each in table.fields.values():
        if each.unique and (value := values.get(each.name)) is not None:
            other = having(table, each, value)
            if other is not None and other["Id"] != own_id:
                start = f"duplicate value found: {each.name} duplicates value on record with id"
                raise RecordProblemError(Problem("DUPLICATE_VALUE", f"{start}: {other['Id']}"))
    after = {**(before or {}), **values}
    for object_name, name, value, message in call.org.validations:
        if object_name == table.name and str(after.get(name)) == value:
            code = "FIELD_CUSTOM_VALIDATION_EXCEPTION"
            raise RecordProblemError(Problem(code, message, [name]))
    if table.name in {"Contact", "Lead"} and "Email" in values:
        _check_duplicates(call, table, values["Email"], own_id)


def having(table: Table, field: Field, value: Any) -> Row | None:
    """Return a record with a value, whatever its case; None if there is none."""
    return next(iter(all_having(table, field, value)), None)


def all_having(table: Table, field: Field, value: Any) -> list[Row]:
    return [row for row in table.having(field.name, value) if not row.get("IsDeleted")]


def _check_duplicates(call: Call, table: Table, email: str | None, own_id: str | None) -> None:
    """Hold a write to the org's duplicate rule: here, that no two have one address."""
    rule = call.org.settings.duplicate_rule
    if rule == "off" or email is None or (rule == "warn" and call.saves_duplicates):
        return
    others = [
        each for each in all_having(table, table.fields["email"], email) if each["Id"] != own_id
    ]
    if others:
        version = call.request.arguments.get("version", "")
        told = _duplicate_result(table, others, version, may_save=rule == "warn")
        raise RecordProblemError(
            Problem("DUPLICATES_DETECTED", DUPLICATE_RULE, (), {"duplicateResult": told})
        )


def _duplicate_result(
    table: Table, others: Sequence[Row], version: str, *, may_save: bool
) -> dict[str, Any]:
    matches = [
        {
            "additionalInformation": [],
            "fieldDiffs": [],
            "matchConfidence": 100.0,
            "record": {
                "attributes": attributes(table.name, each["Id"], version),
                "Id": each["Id"],
            },
        }
        for each in others
    ]
    match = {
        "entityType": table.name,
        "errors": [],
        "matchEngine": "FuzzyMatchEngine",
        "matchRecords": matches,
        "rule": f"Standard_{table.name}_Match_Rule_v1_1",
        "size": len(matches),
        "success": True,
    }
    return {
        "allowSave": may_save,
        "duplicateRule": f"Standard_{table.name}_Duplicate_Rule",
        "duplicateRuleEntityType": table.name,
        "errorMessage": DUPLICATE_RULE,
        "matchResults": [match],
    }


def _has_cases(row: Row, cases: Sequence[Row]) -> Problem:
    name = " ".join(each for each in (row.get("Salutation"), row.get("Name")) if each)
    numbers = ", ".join(each["CaseNumber"] for each in cases)
    message = (
        f"Your attempt to delete {name} could not be completed because it is associated with the "
        f"following cases.: {numbers}\n"
    )
    return Problem("DELETE_FAILED", message)
