"""Lanes keep order, bound their batches and lose nothing."""

from hypothesis import given
from hypothesis import strategies as st

from libs.common.lanes import Lane, Load


def lane(*weights: int, records_max: int = 3, weight_max: int = 10) -> Lane[int]:
    """Return a lane whose items are their own weights."""
    made: Lane[int] = Lane(records_max=records_max, weight_max=weight_max, weight=lambda item: item)
    for weight in weights:
        made.put(weight)
    return made


def test_a_batch_is_bounded_by_its_count() -> None:
    waiting = lane(1, 1, 1, 1)

    assert waiting.take() == [1, 1, 1]
    assert waiting.take() == [1]
    assert waiting.take() == []


def test_a_batch_is_bounded_by_its_weight() -> None:
    assert lane(6, 4, 1).take() == [6, 4]


def test_an_item_that_is_too_heavy_is_a_batch_by_itself() -> None:
    waiting = lane(2, 11, 2)

    assert [waiting.take() for _ in range(3)] == [[2], [11], [2]]


def test_a_lane_is_full_when_waiting_longer_gains_nothing() -> None:
    assert not lane(1, 1).is_full
    assert lane(1, 1, 1).is_full
    assert lane(10).is_full


def test_what_is_cleared_is_returned() -> None:
    waiting = lane(1, 2)

    assert waiting.clear() == [1, 2]
    assert len(waiting) == 0
    assert waiting.waiting == 0
    assert not waiting.is_full


@given(st.lists(st.integers(1, 15), max_size=40), st.integers(1, 5), st.integers(1, 20))
def test_batches_are_bounded_ordered_and_complete(
    weights: list[int], records_max: int, weight_max: int
) -> None:
    queue = lane(*weights, records_max=records_max, weight_max=weight_max)
    expected = queue.waiting

    batches = []
    while batch := queue.take():
        batches.append(batch)

    assert [item for batch in batches for item in batch] == weights
    assert len(batches) == expected
    assert queue.queued_weight == 0
    assert all(len(batch) <= records_max for batch in batches)
    assert all(sum(batch) <= weight_max or len(batch) == 1 for batch in batches)


@given(st.lists(st.one_of(st.integers(1, 15), st.none()), max_size=60))
def test_taking_while_items_come_keeps_their_order(steps: list[int | None]) -> None:
    queue = lane()
    put, taken = [], []

    for step in steps:
        if step is None:
            taken += queue.take()
        else:
            queue.put(step)
            put.append(step)

    assert taken + queue.clear() == put


def test_a_load_is_counted_in_all_and_by_place() -> None:
    load = Load()
    load.add("here", 10, 100)
    load.add("here", 5, 50)
    load.add("there", 1, 7)

    load.remove("here", 10, 100)

    assert (load.records, load.bytes) == (2, 6)
    assert load.of("here") == (1, 5, 50)
    assert load.of("there") == (1, 1, 7)
    assert load.of("nowhere") == (0, 0, 0)
