"""What is sent to Salesforce to write records, and what its answers mean: no call."""

from typing import Any

import msgspec
import pytest

from libs.common.events import Identity, Operation
from libs.common.reasons import Reject
from libs.connectors.contract import Missing, NotTried, Outcome, Refused, Write, Written
from libs.connectors.salesforce import writing

CONTACT, LEAD = "003xx000004TmiQAAS", "00Qxx000004TmiQAAS"


def write_of(record: str | None = CONTACT, **values: Any) -> Write:
    return Write(Operation.UPSERT, Identity(), msgspec.json.encode(values), "", record=record)


def refused(code: str, message: str = "", *fields: str) -> writing.Result:
    return writing.Result(False, None, [writing.Error(code, message, fields)])


@pytest.mark.parametrize("name", [None, "", "  "])
def test_an_empty_last_name_is_not_sent(name: str | None) -> None:
    """Proves SF4."""
    assert writing.refused_unsent(write_of(LastName=name)) == Refused(Reject.LAST_NAME_REQUIRED)
    assert writing.refused_unsent(write_of(FirstName="Ada")) is None


def test_a_leads_first_name_has_forty_characters_at_most() -> None:
    """Proves SF8: of a lead, in characters, not bytes."""
    long = "Ä" * 41

    assert writing.refused_unsent(write_of(LEAD, FirstName=long)) == Refused(Reject.VALUE_TOO_LONG)
    assert writing.refused_unsent(write_of(LEAD, FirstName=long[1:])) is None
    assert writing.refused_unsent(write_of(CONTACT, FirstName=long)) is None


@pytest.mark.parametrize("record", [None, "", "001xx000004TmiQAAS"])
def test_only_a_contact_or_a_lead_is_written(record: str | None) -> None:
    """Proves S2: without the id of a record that is there, nothing is sent."""
    refusal = writing.refused_unsent(write_of(record, FirstName="Ada"))

    assert refusal == Refused(Reject.NOT_A_TASK_TARGET)


def test_a_body_names_each_record_and_empties_by_null() -> None:
    writes = [write_of(FirstName="Ada", Title=None), write_of(LEAD, Company="Analytical")]

    body = msgspec.json.decode(writing.update_body(writes))

    assert body == {
        "allOrNone": False,
        "records": [
            {"attributes": {"type": "Contact"}, "id": CONTACT, "FirstName": "Ada", "Title": None},
            {"attributes": {"type": "Lead"}, "id": LEAD, "Company": "Analytical"},
        ],
    }


_CASE = (
    "Your attempt to delete Mr. Josh Davis could not be completed because it is associated with"
    " the following cases.: 00001005\n"
)


@pytest.mark.parametrize(
    ("result", "deletes", "outcome"),
    [
        (writing.Result(True, CONTACT), False, Written()),
        (refused("ENTITY_IS_DELETED"), False, Missing()),
        (refused("ENTITY_IS_DELETED"), True, Written()),
        (refused("INVALID_CROSS_REFERENCE_KEY"), False, Missing()),
        (refused("UNABLE_TO_LOCK_ROW"), False, NotTried()),
        (refused("STRING_TOO_LONG", "", "Title"), False, Refused(Reject.VALUE_TOO_LONG)),
        (
            refused("REQUIRED_FIELD_MISSING", "", "LastName"),
            False,
            Refused(Reject.LAST_NAME_REQUIRED),
        ),
        (
            refused("REQUIRED_FIELD_MISSING", "", "Company"),
            False,
            Refused(Reject.VALUE_NOT_ACCEPTED),
        ),
        (refused("INVALID_EMAIL_ADDRESS"), False, Refused(Reject.INVALID_EMAIL)),
        (
            refused("FIELD_CUSTOM_VALIDATION_EXCEPTION"),
            False,
            Refused(Reject.VALUE_NOT_ACCEPTED),
        ),
        (
            refused("INSUFFICIENT_ACCESS_OR_READONLY"),
            False,
            Refused(Reject.NOT_A_TASK_TARGET),
        ),
        (refused("DELETE_FAILED", _CASE), True, Refused(Reject.CASE_ATTACHED)),
        (refused("DELETE_FAILED", "a portal user"), True, Refused(Reject.NOT_A_TASK_TARGET)),
        (writing.Result(False), False, Refused(Reject.VALUE_NOT_ACCEPTED)),
    ],
)
def test_each_refusal_is_its_contacts_own(
    result: writing.Result, outcome: Outcome, *, deletes: bool
) -> None:
    """Proves SF3, SF4, SF9: what Salesforce says of one record is said of one contact."""
    assert writing.outcome_of(result, deletes=deletes) == outcome


def test_a_date_that_it_cannot_read_is_told_as_one() -> None:
    """Proves SF3."""
    of_date = "Cannot deserialize instance of date from VALUE_STRING value 01/02/2026"

    assert writing.refused_body(of_date) == Refused(Reject.DATE_FORMAT)
    assert writing.refused_body("instance of double") == Refused(Reject.VALUE_NOT_ACCEPTED)
