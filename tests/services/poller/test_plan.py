from dataclasses import replace
from uuid import UUID

import msgspec
import pytest

from libs.common.events import Operation, RunMode
from libs.connectors.contract import ContactList
from services.poller.plan import (
    AHEAD_MS,
    MEMBERS_EVERY_MS,
    OVERLAP_MS,
    Account,
    Assignment,
    Roll,
    Sweeping,
    begin,
    cursor_of,
    is_complete,
    must_read_members,
    next_roll,
    resumable,
    satisfies_wish,
    sweep_of,
)

NOW_MS = 1_700_000_000_000
LIST = ContactList("8", "A list", 5, NOW_MS - 1)
ROLL = Roll(settled_run_no=3, read_at_ms=NOW_MS - 1, size=5, changed_at_ms=NOW_MS - 1)
ASSIGNMENT = Assignment(
    integration=UUID(int=1),
    workspace=UUID(int=2),
    fencing=7,
    provider="hubspot",
    source=Account(UUID(int=3), "1", "UTC", None),
    object="contacts",
    list_id="8",
    properties=["email"],
    mapping_version=2,
    wanted_mode=RunMode.CHANGES,
    wanted_mapping_version=2,
    last_run_no=3,
    failures=0,
    interval_s=1_800.0,
    now_ms=NOW_MS,
    read_from_ms=NOW_MS - 1_000,
    roll=ROLL,
)
UNDER_WAY = Sweeping(
    run_no=3,
    mode=RunMode.CHANGES,
    mapping_version=2,
    since_ms=1,
    until_ms=2,
    cursor="17",
    pages=4,
)


def test_changes_are_read_from_the_last_end_less_the_overlap() -> None:
    sweeping = begin(ASSIGNMENT)

    assert (sweeping.mode, sweeping.run_no) == (RunMode.CHANGES, 4)
    assert (sweeping.since_ms, sweeping.until_ms) == (NOW_MS - 1_000 - OVERLAP_MS, NOW_MS)


@pytest.mark.parametrize(
    "assignment",
    [
        replace(ASSIGNMENT, wanted_mode=RunMode.FULL),
        replace(ASSIGNMENT, read_from_ms=None),
        replace(ASSIGNMENT, read_from_ms=NOW_MS + 1),
    ],
)
def test_everything_is_read_if_it_is_wanted_or_nothing_was(assignment: Assignment) -> None:
    sweeping = begin(assignment)

    assert (sweeping.mode, sweeping.since_ms) == (RunMode.FULL, None)


def test_a_run_under_way_is_gone_on_with() -> None:
    assignment = replace(ASSIGNMENT, sweeping=UNDER_WAY)

    assert resumable(assignment, resumable_paging=True) == UNDER_WAY
    assert cursor_of(UNDER_WAY) == "17"
    assert sweep_of(assignment, UNDER_WAY).until_ms == 2 + AHEAD_MS


@pytest.mark.parametrize(
    ("assignment", "paging"),
    [
        (ASSIGNMENT, True),
        (replace(ASSIGNMENT, sweeping=UNDER_WAY), False),
        (replace(ASSIGNMENT, sweeping=UNDER_WAY, mapping_version=3), True),
        (replace(ASSIGNMENT, sweeping=UNDER_WAY, wanted_mode=RunMode.FULL), True),
    ],
)
def test_what_cannot_be_gone_on_with_is_begun_anew(assignment: Assignment, paging: bool) -> None:
    assert resumable(assignment, resumable_paging=paging) is None


def test_a_stored_run_is_read_back_as_it_was() -> None:
    assert msgspec.json.decode(msgspec.json.encode(UNDER_WAY), type=Sweeping) == UNDER_WAY


@pytest.mark.parametrize(
    ("assignment", "found", "must"),
    [
        (ASSIGNMENT, LIST, False),
        (ASSIGNMENT, None, False),
        (ASSIGNMENT, replace(LIST, size=6), True),
        (ASSIGNMENT, replace(LIST, changed_at_ms=NOW_MS), True),
        (ASSIGNMENT, replace(LIST, size=None, changed_at_ms=None), True),
        (replace(ASSIGNMENT, roll=None), LIST, True),
        (replace(ASSIGNMENT, roll=Roll(settled_run_no=3)), LIST, True),
        (replace(ASSIGNMENT, has_confirmed=True), None, True),
        (replace(ASSIGNMENT, last_run_no=4), LIST, True),
        (replace(ASSIGNMENT, now_ms=NOW_MS + MEMBERS_EVERY_MS), LIST, True),
    ],
)
def test_members_are_paged_if_anything_moved_and_once_a_day(
    assignment: Assignment, found: ContactList | None, must: bool
) -> None:
    assert must_read_members(assignment, found) is must


@pytest.mark.parametrize(("told_ms", "must"), [(None, False), (NOW_MS - 2, False), (NOW_MS, True)])
def test_members_are_paged_if_somebody_was_told_of_as_gone_since(
    told_ms: int | None, must: bool
) -> None:
    """Proves SF9: by the first run that begins after it, and not again by the next."""
    told = replace(ASSIGNMENT, members_wanted_ms=told_ms, now_ms=NOW_MS + 1)
    assert must_read_members(told, None) is must

    roll = next_roll(told, begin(told), None, was_read=True)
    later = replace(told, roll=roll, last_run_no=4, now_ms=NOW_MS + 9)
    assert must_read_members(later, None) is False
    # Told while they were read: who was passed by may be the one.
    assert must_read_members(replace(later, members_wanted_ms=NOW_MS + 2), None) is True


def test_the_look_that_was_taken_is_remembered_with_its_start() -> None:
    sweeping = begin(ASSIGNMENT)

    assert next_roll(ASSIGNMENT, sweeping, LIST, was_read=True) == Roll(
        settled_run_no=4, read_at_ms=NOW_MS, size=5, changed_at_ms=NOW_MS - 1
    )
    assert next_roll(ASSIGNMENT, sweeping, replace(LIST, size=9), was_read=False) == (
        msgspec.structs.replace(ROLL, settled_run_no=4)
    )
    assert next_roll(replace(ASSIGNMENT, roll=None), sweeping, None, was_read=True).size is None


@pytest.mark.parametrize(
    ("met", "before", "after", "complete"),
    [
        (5, 5, 5, True),
        (5, None, None, True),
        (4, 5, 5, False),
        (4, 5, 4, True),
        (5, 5, 6, True),
        (4, 5, None, False),
        (6, 5, 5, True),
    ],
)
def test_fewer_than_the_provider_counts_are_too_few(
    met: int, before: int | None, after: int | None, complete: bool
) -> None:
    assert is_complete(met, before, after) is complete


def test_only_a_full_run_of_the_wanted_mapping_fulfils_the_wish() -> None:
    full = begin(replace(ASSIGNMENT, wanted_mode=RunMode.FULL))

    assert satisfies_wish(ASSIGNMENT, full)
    assert not satisfies_wish(ASSIGNMENT, begin(ASSIGNMENT))
    assert not satisfies_wish(replace(ASSIGNMENT, wanted_mapping_version=3), full)


def test_who_is_gone_is_a_leaver_of_a_list_and_else_deleted() -> None:
    assert ASSIGNMENT.leaving is Operation.LEAVE
    assert replace(ASSIGNMENT, list_id=None).leaving is Operation.DELETE
