from itertools import product

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.events import CHANGED_BYTES_MAX, CHANGES_MAX, Change, Operation
from services.poller.parts import (
    CHANGES_SAFE,
    CONTACT_BYTES_MAX,
    ID_CHARACTERS_MAX,
    _split,
    changes_max,
    is_storable,
    split,
    storable,
    storable_ids,
    weigh,
)


def change(id_: str, size: int = 0, merged_from: list[str] | None = None) -> Change:
    properties = msgspec.Raw(msgspec.json.encode({"x": "y" * size}))
    return Change(
        id=id_,
        op=Operation.UPSERT,
        version_ms=1,
        merged_from=merged_from or [],
        properties=properties,
    )


MOST = pytest.mark.parametrize("most", [CHANGES_SAFE, CHANGES_MAX])


@MOST
@given(sizes=st.lists(st.integers(0, 60_000), max_size=300))
def test_every_change_is_in_one_part_in_order_and_parts_are_bounded(
    sizes: list[int], most: int
) -> None:
    changes = [change(str(number), size) for number, size in enumerate(sizes)]

    parts = split(changes, most)

    assert [change.id for part in parts for change in part] == [change.id for change in changes]
    assert all(0 < len(part) <= most for part in parts)
    assert all(sum(map(weigh, part)) <= CHANGED_BYTES_MAX for part in parts)
    assert all(len(msgspec.json.encode(part)) <= CHANGED_BYTES_MAX for part in parts)


@given(st.integers(0, 900), st.lists(st.integers(0, 3_000), min_size=1, max_size=20))
def test_parts_are_the_same_whether_each_change_was_weighed_or_not(
    count: int, sizes: list[int]
) -> None:
    """Proves S1: a page that is read again is counted by the parts it had before."""
    changes = [change(str(number), sizes[number % len(sizes)]) for number in range(count)]

    assert split(changes) == list(_split(changes))


def test_no_part_is_made_of_nothing() -> None:
    assert split([]) == []


@MOST
def test_ordinary_pages_are_one_part(most: int) -> None:
    assert len(split([change(str(number), 400) for number in range(most)], most)) == 1
    assert len(split([change(str(number)) for number in range(most + 1)], most)) == 2


def test_a_page_of_larger_contacts_is_cut_as_if_none_were_small() -> None:
    small = [change(str(number), 400) for number in range(CHANGES_MAX)]
    large = [change(str(number), 600) for number in range(CHANGES_MAX)]
    survivor = [*small[:-1], change("old", 400, ["1"])]

    assert list(map(len, split([*small, *small], CHANGES_MAX))) == [CHANGES_MAX] * 2
    assert list(map(len, split([*small, *large], CHANGES_MAX))) == [CHANGES_SAFE] * 5
    assert list(map(len, split(survivor, CHANGES_MAX))) == [200, 200, 100]


def test_more_travel_together_only_if_they_fit_once_mapped() -> None:
    ordinary = [(f"field_{number}", f"ATTRIBUTE_{number}") for number in range(12)]

    assert changes_max(ordinary) == changes_max([]) == CHANGES_MAX
    assert changes_max([*ordinary, ("field_1", "AGAIN")]) == CHANGES_SAFE
    assert changes_max([("field", "A" * 600)]) == CHANGES_SAFE
    assert changes_max([("field", "Ä" * 300)]) == CHANGES_SAFE
    assert changes_max([(str(number), "") for number in range(40)]) == CHANGES_SAFE


@pytest.mark.parametrize("size", [500, 515, 530, 1_200, 1_280, 1_300, 2_400])
def test_parts_are_bounded_where_one_is_nearly_full(size: int) -> None:
    """Ids may be long, and a contact may have taken in many others."""
    ids = [str(number).rjust(ID_CHARACTERS_MAX, "0") for number in range(CHANGES_MAX)]
    merged = [[f"{id_}{each}" for each in range(20)] for id_ in ids]
    plain = [change(id_, size) for id_ in ids]
    survivors = [change(id_, size, old) for id_, old in zip(ids, merged, strict=True)]

    for changes, most in product((plain, survivors), (CHANGES_SAFE, CHANGES_MAX)):
        parts = split(changes, most)
        assert [each for part in parts for each in part] == changes
        assert all(len(msgspec.json.encode(part)) <= CHANGED_BYTES_MAX for part in parts)


def test_a_contact_too_large_to_travel_goes_without_its_properties() -> None:
    [[small, large]] = split([change("1", 10), change("2", CONTACT_BYTES_MAX)])

    assert bytes(small.properties) != b"null"
    assert (large.id, bytes(large.properties)) == ("2", b"null")


@pytest.mark.parametrize("source_id", ["", "a\0", "a\x1fb", "\n", "x" * 256])
def test_an_id_that_cannot_be_kept_is_left_out(source_id: str) -> None:
    assert not is_storable(source_id)
    assert storable([change(source_id), change("1")]) == [change("1")]


@given(st.lists(st.text(max_size=4) | st.integers().map(str), max_size=5))
def test_ids_are_judged_together_as_they_are_alone(source_ids: list[str]) -> None:
    source_ids += ["7" * ID_CHARACTERS_MAX]
    kept = [each for each in source_ids if is_storable(each)]

    assert list(storable_ids(source_ids)) == kept
    assert [each.id for each in storable([change(each) for each in source_ids])] == kept
    assert list(storable_ids(["1", "2" * (ID_CHARACTERS_MAX + 1)])) == ["1"]
    assert list(storable_ids(["1", ""])) == ["1"]
