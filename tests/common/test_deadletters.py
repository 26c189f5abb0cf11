"""When the breaker of dead letters opens."""

from libs.common.deadletters import Breaker


def fed(*records: bool) -> Breaker:
    breaker = Breaker()
    for is_good in records:
        breaker.record(is_good=is_good)
    return breaker


def test_four_bad_ones_in_a_row_are_bad_luck() -> None:
    assert not fed(*[False] * 4).is_open


def test_five_bad_ones_in_a_row_are_a_bad_reader() -> None:
    assert fed(*[False] * 5).is_open


def test_a_good_one_between_starts_the_row_anew() -> None:
    assert not fed(*[False] * 4, True, *[False] * 4).is_open


def test_a_fifth_of_the_last_fifty_may_be_bad_and_no_more() -> None:
    fifth = [False, True, True, True, True] * 10

    assert not fed(*fifth).is_open
    assert fed(*[False, True, True, True] * 10, False).is_open


def test_what_is_long_ago_counts_no_more() -> None:
    tenth = [False, True] * 5

    assert not fed(*tenth, *[True] * 50, *tenth).is_open


def test_once_open_it_stays_open() -> None:
    assert fed(*[False] * 5, *[True] * 100).is_open
