"""How runs and integrations stand."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from services.config_api import progress
from services.config_api.progress import RunState, Status
from services.config_api.store.integrations import Integration, Standing
from services.config_api.store.runs import Counts, RunRow

NOW = datetime(2026, 11, 24, tzinfo=UTC)
READ = RunRow(
    run_id=UUID(int=1),
    integration_id=UUID(int=2),
    run_no=1,
    mode="full",
    mapping_version=1,
    state="read",
    started_at=NOW,
    read_at=NOW,
    parts=2,
    read=10,
    left_out=0,
    expected=10,
    total_before=10,
    total_after=10,
    is_complete=True,
    withheld=0,
    is_confirmable=False,
    error_code=None,
    settled_state=None,
    parts_settled=0,
    verdict=None,
    ended_at=None,
    counts=Counts(),
    settled_later={},
    rejected_by_reason={},
    parked_by_reason={},
)
ACTIVE = Integration(
    integration_id=UUID(int=2),
    workspace_id=UUID(int=3),
    name="one",
    state="active",
    source_connection_id=None,
    source_object=None,
    source_list_id=None,
    source_list_name=None,
    destination_connection_id=None,
    destination_list_id=None,
    destination_list_name=None,
    opt_in_at=None,
    opt_in_by=None,
    interval_minutes=30,
    deletion_policy="keep",
    email_change_policy="single",
    default_country=None,
    mapping_version=0,
    error_reason=None,
    version=1,
    created_at=NOW,
    updated_at=NOW,
    activated_at=NOW,
    archived_at=None,
)
WELL = Standing(is_open=True, blocked_reason=None, connection_states=["connected"], failures=0)


@pytest.mark.parametrize(
    ("run", "state"),
    [
        (replace(READ, state="reading"), RunState.READING),
        (READ, RunState.SETTLING),
        (replace(READ, settled_state="settling"), RunState.SETTLING),
        (replace(READ, settled_state="complete"), RunState.COMPLETE),
        (replace(READ, settled_state="incomplete"), RunState.INCOMPLETE),
        (replace(READ, settled_state="complete", is_confirmable=True), RunState.NEEDS_CONFIRMATION),
        (replace(READ, state="failed"), RunState.INCOMPLETE),
        (replace(READ, state="abandoned"), RunState.INCOMPLETE),
        (replace(READ, state="cancelled"), RunState.CANCELLED),
    ],
)
def test_a_run_goes_from_reading_to_its_end(run: RunRow, state: RunState) -> None:
    assert progress.run_state(run) is state


@pytest.mark.parametrize(
    ("run", "share"),
    [
        (replace(READ, state="reading", read=0, expected=None), 0.0),
        (replace(READ, state="reading", read=4, counts=Counts(created=2)), 0.2),
        (replace(READ, counts=Counts(created=5)), 0.5),
        (replace(READ, counts=Counts(created=9, parked=1)), 0.99),
        (replace(READ, read=0), 1.0),
        (replace(READ, settled_state="complete"), 1.0),
    ],
)
def test_progress_is_one_only_at_the_end(run: RunRow, share: float) -> None:
    assert progress.run_progress(run) == share


def test_tasks_are_what_was_written_then_and_later() -> None:
    """Proves Q6."""
    run = replace(
        READ,
        counts=Counts(created=1, updated=2, removed=3, unchanged=4, rejected=5, parked=6),
        settled_later={"created": 2, "rejected": 9},
    )

    assert progress.tasks(run) == 8


@pytest.mark.parametrize(
    ("standing", "status", "reason"),
    [
        (WELL, Status.ACTIVE, None),
        (
            replace(WELL, is_open=False, blocked_reason="rate_limited"),
            Status.STOPPED_QUOTA,
            "quota",
        ),
        (replace(WELL, connection_states=["needs_reauth"]), Status.DEGRADED, "needs_reauth"),
        (replace(WELL, blocked_reason="rate_limited"), Status.DEGRADED, "rate_limited"),
        (replace(WELL, failures=1), Status.DEGRADED, "source_down"),
        (replace(WELL, waits_for_calls=True), Status.DEGRADED, "source_rate_limited"),
        (None, Status.ACTIVE, None),
    ],
)
def test_what_keeps_an_active_integration_from_going_is_shown(
    standing: Standing | None, status: Status, reason: str | None
) -> None:
    """Proves Q3 and W8."""
    assert progress.status(ACTIVE, standing) == (status, reason)


def test_a_stored_state_is_shown_with_its_reason() -> None:
    broken = replace(ACTIVE, state="error", error_reason="list_missing")

    assert progress.status(broken, replace(WELL, is_open=False)) == (Status.ERROR, "list_missing")
