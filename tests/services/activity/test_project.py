"""Counting what was settled, as functions of values (PROTOCOL 8)."""

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common import ids
from libs.common.events import Settled
from services.activity.project import Ended, RunSums, deltas, ending, statuses

RUN = UUID(int=3)


def settled(page: int = 1, stage: str = "direct", run_no: int = 1, **kinds: object) -> Settled:
    return Settled(
        id=ids.computed(page, stage),
        workspace=UUID(int=1),
        integration=UUID(int=2),
        run=RUN,
        run_no=run_no,
        page=page,
        part=0,
        stage=stage,
        **kinds,  # type: ignore[arg-type]  # a test's own shorthand
    )


def test_an_imports_stage_resolves_what_its_direct_stage_announced() -> None:
    direct = settled(created=["1"], importing=3)
    resolved = settled(stage="import:x", created=["2", "3"], parked=[("4", "destination_down")])

    delta = deltas([direct, resolved])[RUN]

    assert delta.parts == 1
    assert delta.importing == 0
    assert delta.counts["created"] == 3
    assert delta.parked == {"destination_down": 1}


def test_a_drain_is_told_apart_from_its_runs_sum() -> None:
    delta = deltas([settled(stage="drain:x", updated=["1", "2"])])[RUN]

    assert delta.parts == 0
    assert not delta.counts
    assert delta.later == {"updated": 2}


READ = RunSums(
    parts=2,
    parts_settled=2,
    read=10,
    settled=10,
    importing=0,
    read_is_complete=True,
    total_before=10,
    total_after=10,
)


@pytest.mark.parametrize(
    ("run", "ended"),
    [
        (READ, Ended("complete", "complete")),
        (replace(READ, total_after=11), Ended("complete", "source_changed")),
        (replace(READ, read_is_complete=False), Ended("incomplete", "incomplete")),
        (replace(READ, settled=9), Ended("incomplete", "incomplete")),
        (replace(READ, parts=None), None),
        (replace(READ, parts_settled=1), None),
        (replace(READ, importing=1), None),
        (replace(READ, parts=0, parts_settled=0, read=0, settled=0), Ended("complete", "complete")),
    ],
)
def test_a_run_ends_when_all_of_it_is_there_and_the_sum_fits(
    run: RunSums, ended: Ended | None
) -> None:
    if run.parts == 0:
        run = replace(run, total_before=None, total_after=None)

    assert ending(run) == ended


def test_the_last_word_about_a_contact_is_the_newest_runs() -> None:
    parts = [
        settled(run_no=2, parked=[("1", "quota")], warned=[]),
        settled(run_no=1, created=["1"]),
        settled(run_no=2, page=2, updated=["2"], warned=[("2", "phone_left_out")]),
        settled(run_no=2, page=3, rejected=[("3", "invalid_email")]),
    ]

    found = {status.source_id: (status.status, status.reason) for status in statuses(parts)}

    assert found == {
        "1": ("parked", "quota"),
        "2": ("updated", "phone_left_out"),
        "3": ("rejected", "invalid_email"),
    }


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 9), st.integers(0, 9))))
def test_sums_do_not_depend_on_how_parts_are_grouped(
    pages: list[tuple[int, int, int]],
) -> None:
    parts = [
        settled(page, created=[str(n) for n in range(created)], unchanged=unchanged)
        for page, created, unchanged in pages
    ]

    whole = deltas(parts)
    single = [deltas([part])[RUN] for part in parts]

    for name in ("created", "unchanged"):
        assert sum(delta.counts[name] for delta in single) == (
            whole[RUN].counts[name] if whole else 0
        )
