"""Whether a draft is complete."""

from dataclasses import replace
from uuid import UUID

import pytest

from libs.connectors.contract import Facts, SourceObject
from services.config_api.checklist import (
    Draft,
    Step,
    StepState,
    goes_both_ways,
    is_ready,
    review,
)
from services.config_api.errors import Flaw
from services.config_api.store.connections import Connection
from services.config_api.store.integrations import Integration, MappingVersion
from tests.services.config_api.test_progress import ACTIVE, NOW

FROM, TO = UUID(int=10), UUID(int=11)
CRM = Facts(
    provider="crm",
    label="CRM",
    is_source=True,
    is_destination=False,
    base_url="https://crm.example",
    hosts=("crm.example",),
    limits={"": ()},
    objects=(
        SourceObject("contacts", "Contacts", needs_list=True),
        SourceObject("leads", "Leads", needs_list=False),
    ),
)
EMPTY = replace(ACTIVE, state="draft", activated_at=None)
FULL = replace(
    EMPTY,
    source_connection_id=FROM,
    source_object="contacts",
    source_list_id="1",
    destination_connection_id=TO,
    destination_list_id="2",
    opt_in_at=NOW,
    opt_in_by="somebody",
    mapping_version=1,
)
MAPPING = MappingVersion(1, [{"source": "email", "destination": "EMAIL"}], None, NOW, "somebody")


def connection(connection_id: UUID, state: str = "connected") -> Connection:
    return Connection(
        connection_id=connection_id,
        workspace_id=UUID(int=3),
        provider="crm",
        name="one",
        state=state,
        reason=None,
        account_id="1",
        account_name="one",
        time_zone="UTC",
        tier=None,
        created_at=NOW,
        updated_at=NOW,
    )


def draft(integration: Integration, mapping: MappingVersion | None = MAPPING) -> Draft:
    return Draft(
        integration=integration,
        mapping=mapping,
        connections={FROM: connection(FROM), TO: connection(TO)},
        catalogue={"crm": CRM},
    )


def test_a_complete_draft_is_ready() -> None:
    """Proves W7."""
    results = review(draft(FULL))

    assert is_ready(results)
    assert [result.step for result in results] == list(Step)


def test_an_empty_draft_says_what_every_step_needs() -> None:
    """Proves W1."""
    results = review(draft(EMPTY, None))

    assert not is_ready(results)
    assert {result.step: result.state for result in results} == {
        Step.NAME: StepState.DONE,
        Step.SOURCE: StepState.MISSING,
        Step.OPT_IN: StepState.MISSING,
        Step.DESTINATION: StepState.MISSING,
        Step.MAPPING: StepState.MISSING,
    }
    assert {flaw.rule for result in results for flaw in result.flaws} == {"W2", "W4", "W5"}


@pytest.mark.parametrize(
    ("integration", "step", "code"),
    [
        (replace(FULL, name=" "), Step.NAME, "name_missing"),
        (replace(FULL, source_object=None), Step.SOURCE, "source_object_missing"),
        (replace(FULL, source_list_id=None), Step.SOURCE, "source_list_missing"),
        (replace(FULL, opt_in_at=None), Step.OPT_IN, "opt_in_missing"),
        (replace(FULL, destination_list_id=None), Step.DESTINATION, "destination_list_missing"),
    ],
)
def test_a_step_that_was_left_out_is_missing(
    integration: Integration, step: Step, code: str
) -> None:
    """Proves W3, W4 and W6."""
    (open_,) = [result for result in review(draft(integration)) if result.flaws]

    assert (open_.step, open_.state) == (step, StepState.MISSING)
    assert [flaw.code for flaw in open_.flaws] == [code]


def test_an_object_without_lists_needs_none() -> None:
    """Proves W3."""
    leads = replace(FULL, source_object="leads", source_list_id=None)

    assert is_ready(review(draft(leads)))


@pytest.mark.parametrize("state", ["pending", "needs_reauth"])
def test_a_connection_that_does_not_work_is_invalid(state: str) -> None:
    """Proves W2."""
    broken = replace(draft(FULL), connections={FROM: connection(FROM, state), TO: connection(TO)})

    source = review(broken)[1]

    assert source.state is StepState.INVALID
    assert source.flaws[0].code == f"connection_{state}"


def test_a_connection_that_was_removed_is_invalid() -> None:
    gone = replace(draft(FULL), connections={FROM: connection(FROM)})

    results = review(gone)

    assert results[3].flaws[0].code == "connection_removed"


def test_what_the_providers_say_counts_as_well() -> None:
    found = {Step.SOURCE: [Flaw("unknown_list", "gone", pointer="/source/list_id")]}

    results = review(draft(FULL), found)

    assert results[1].state is StepState.INVALID


def test_who_goes_both_ways_is_told_by_what_providers_can() -> None:
    """Proves SF3 and X1: by their labels, whoever they are."""
    catalogue = {
        "crm": CRM,
        "desk": replace(CRM, provider="desk", label="Desk", takes_edits=True),
        "mail": replace(CRM, provider="mail", label="Mail", tells_edits=True),
    }
    wanted = replace(draft(replace(FULL, is_two_way=True)), catalogue=catalogue)

    [flaw] = goes_both_ways(wanted)

    assert flaw.detail == ("CRM and CRM are synced one way only: both ways are for Desk with Mail.")
