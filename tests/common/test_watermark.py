"""A watermark never passes what is unfinished, and never goes back."""

from hypothesis import given
from hypothesis import strategies as st

from libs.common.watermark import Tracker


def test_nothing_is_committed_before_the_first_record() -> None:
    tracker = Tracker(epoch=1)

    assert tracker.watermark is None
    assert tracker.committable is None
    assert tracker.lag == 0


def test_the_lowest_unfinished_offset_holds_the_watermark() -> None:
    tracker = Tracker(epoch=1)
    for offset in (5, 6, 9):
        tracker.start(offset)

    tracker.finish(6)
    tracker.finish(9)

    assert tracker.watermark == 5
    assert tracker.lag == 5
    assert tracker.open_count == 1


def test_gaps_between_offsets_are_passed() -> None:
    tracker = Tracker(epoch=1)
    for offset in (5, 9):
        tracker.start(offset)
        tracker.finish(offset)

    assert tracker.committable == 10


def test_a_repetition_within_one_epoch_is_not_begun_again() -> None:
    tracker = Tracker(epoch=1)
    tracker.start(5)
    tracker.finish(5)

    assert not tracker.start(5)
    assert tracker.watermark == 6


def test_finishing_what_was_never_begun_changes_nothing() -> None:
    tracker = Tracker(epoch=1)
    tracker.start(5)

    tracker.finish(4)

    assert tracker.watermark == 5


def test_what_is_committed_already_is_not_committed_again() -> None:
    tracker = Tracker(epoch=1)
    tracker.start(5)
    tracker.committed = 5

    assert tracker.committable is None


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Return offsets with gaps, and an order in which some of them finish, some twice."""
    offsets = sorted(draw(st.sets(st.integers(0, 60), min_size=1, max_size=20)))
    finishes = draw(st.lists(st.sampled_from(offsets), max_size=40))
    return offsets, finishes


@given(histories())
def test_the_watermark_is_the_lowest_unfinished_in_every_history(
    history: tuple[list[int], list[int]],
) -> None:
    """Proves I7: a committed offset never lies above the lowest unfinished one."""
    offsets, finishes = history
    tracker = Tracker(epoch=1)
    for offset in offsets:
        tracker.start(offset)
    unfinished = set(offsets)
    before = tracker.watermark or 0

    for offset in finishes:
        tracker.finish(offset)
        unfinished.discard(offset)
        expected = min(unfinished) if unfinished else offsets[-1] + 1
        assert tracker.watermark == expected
        assert expected >= before
        before = expected
