"""The ledger's benchmark measures what it says, and no speed of a wrong ledger."""

import asyncio
from uuid import uuid4

import pytest

from benchmarks.ledger import (
    BASE,
    CASES,
    FULL,
    OURS,
    PLAIN,
    ROUNDS,
    Case,
    Figures,
    _check,
    measure,
    ratio,
    shown,
)


def figures(name: str, pairs: int, *, workspaces: int = 1, batch: int = 1) -> Figures:
    return Figures(Case(name, workspaces, batch), 2.0, pairs, pairs * batch, 1.5, 12.5)


def test_the_ratio_is_of_one_workspace_at_batch_1_and_the_median_of_the_rounds() -> None:
    rounds = ((300, 100), (100, 100), (900, 100))
    found = [
        *(each for ours, plain in rounds for each in (figures(OURS, ours), figures(PLAIN, plain))),
        figures(OURS, 9000, workspaces=1000),
        figures(OURS, 200, batch=500),
    ]

    assert ratio(found) == 3
    assert shown(found).splitlines()[-1] == "| ours | 1 | 500 | 50,000 | 100 | 1.5 / 12.5 |"


def test_every_case_that_is_wanted_is_measured() -> None:
    ours = {(case.workspaces, case.batch) for case in CASES if case.name == OURS}

    assert ours == {(workspaces, batch) for workspaces in (1, 1000) for batch in (1, 100, 500)}
    assert [case.limit for case in CASES if case.name == FULL] == [0]
    assert [case for case in CASES if case.name == PLAIN] == [BASE] * ROUNDS


@pytest.mark.parametrize(
    ("case", "is_posted"),
    [(Case(OURS, 2, 3), True), (Case(FULL, 1, 3, limit=0), False), (Case(PLAIN, 1, 1), True)],
    ids=[OURS, FULL, PLAIN],
)
def test_a_case_is_measured_and_its_counters_held_against_its_postings(
    database_url: str, case: Case, *, is_posted: bool
) -> None:
    found = measure(database_url, case, seconds=0.3, processes=1, connections=2)

    assert found.pairs > 0
    assert found.postings == (found.pairs * case.batch if is_posted else 0)
    assert 0 < found.p50_ms <= found.p99_ms


def test_a_wrong_ledger_has_no_figures(database_url: str) -> None:
    with pytest.raises(AssertionError, match="is not 5"):
        asyncio.run(_check(database_url, Case(OURS, 1, 1), [uuid4()], 5))
