import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.events import CHANGED_BYTES_MAX, CHANGES_MAX, Change, Operation
from services.poller.parts import CONTACT_BYTES_MAX, is_storable, split, storable, weigh


def change(id_: str, size: int = 0) -> Change:
    properties = msgspec.Raw(msgspec.json.encode({"x": "y" * size}))
    return Change(id=id_, op=Operation.UPSERT, version_ms=1, properties=properties)


@given(st.lists(st.integers(0, 60_000), max_size=300))
def test_every_change_is_in_one_part_in_order_and_parts_are_bounded(sizes: list[int]) -> None:
    changes = [change(str(number), size) for number, size in enumerate(sizes)]

    parts = split(changes)

    assert [change.id for part in parts for change in part] == [change.id for change in changes]
    assert all(0 < len(part) <= CHANGES_MAX for part in parts)
    assert all(sum(map(weigh, part)) <= CHANGED_BYTES_MAX for part in parts)
    assert all(len(msgspec.json.encode(part)) <= CHANGED_BYTES_MAX for part in parts)


def test_no_part_is_made_of_nothing() -> None:
    assert split([]) == []


def test_ordinary_pages_are_one_part() -> None:
    assert len(split([change(str(number), 400) for number in range(CHANGES_MAX)])) == 1
    assert len(split([change(str(number)) for number in range(CHANGES_MAX + 1)])) == 2


def test_a_contact_too_large_to_travel_goes_without_its_properties() -> None:
    [[small, large]] = split([change("1", 10), change("2", CONTACT_BYTES_MAX)])

    assert bytes(small.properties) != b"null"
    assert (large.id, bytes(large.properties)) == ("2", b"null")


@pytest.mark.parametrize("source_id", ["", "a\0", "a\x1fb", "\n", "x" * 256])
def test_an_id_that_cannot_be_kept_is_left_out(source_id: str) -> None:
    assert not is_storable(source_id)
    assert storable([change(source_id), change("1")]) == [change("1")]
