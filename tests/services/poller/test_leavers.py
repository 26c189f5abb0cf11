import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.poller.leavers import Leavers, decide, is_suspicious

NOBODY: frozenset[str] = frozenset()


def some(count: int, start: int = 0) -> frozenset[str]:
    return frozenset(str(number) for number in range(start, start + count))


@pytest.mark.parametrize(
    ("gone", "members", "suspicious"),
    [(20, 20, False), (21, 21, True), (21, 210, False), (22, 210, True), (100, 10_000, False)],
)
def test_more_than_a_tenth_and_more_than_20_are_suspicious(
    gone: int, members: int, suspicious: bool
) -> None:
    assert is_suspicious(gone, members) is suspicious


def test_a_few_are_published() -> None:
    decided = decide(some(3), members_before=10, is_complete=True)

    assert decided == Leavers(some(3), NOBODY, asks_anew=False)


def test_many_wait() -> None:
    """Proves S4: so many at once are more likely a mistake."""
    decided = decide(some(30), members_before=100, is_complete=True)

    assert decided == Leavers(NOBODY, some(30), asks_anew=True)


def test_an_incomplete_read_publishes_nobody_not_even_who_is_confirmed() -> None:
    """Proves S4: a source that answers half has deleted nobody."""
    decided = decide(some(3), members_before=100, is_complete=False, confirmed=some(1))

    assert decided == Leavers(NOBODY, some(2, start=1), asks_anew=True)


def test_an_incomplete_read_that_misses_nobody_asks_nothing() -> None:
    assert not decide([], members_before=100, is_complete=False).asks_anew


def test_confirmed_are_published_however_many_they_are() -> None:
    decided = decide(some(90), members_before=100, is_complete=True, confirmed=some(90))

    assert decided == Leavers(some(90), NOBODY, asks_anew=False)


def test_a_few_more_do_not_ask_again_and_many_more_do() -> None:
    few = decide(some(33), members_before=100, is_complete=True, standing=some(30))
    many = decide(some(60), members_before=100, is_complete=True, standing=some(30))

    assert few == Leavers(some(3, start=30), some(30), asks_anew=False)
    assert many == Leavers(NOBODY, some(60), asks_anew=True)


def test_who_came_back_waits_no_more() -> None:
    decided = decide(some(10), members_before=100, is_complete=True, standing=some(30))

    assert decided == Leavers(NOBODY, some(10), asks_anew=False)


ids = st.frozensets(st.integers(0, 60).map(str))


@given(ids, ids, ids, st.integers(0, 1_000), st.booleans())
def test_who_is_gone_is_published_or_waits_and_nobody_else(
    gone: frozenset[str],
    confirmed: frozenset[str],
    standing: frozenset[str],
    members: int,
    is_complete: bool,
) -> None:
    decided = decide(
        gone,
        members_before=members,
        is_complete=is_complete,
        confirmed=confirmed,
        standing=standing,
    )

    assert not decided.published & decided.withheld
    assert decided.published | decided.withheld | (confirmed & gone) == gone
    assert is_complete or not decided.published
    assert not is_suspicious(len(decided.published - confirmed), members)
