"""What control calls of all providers mean alike."""

import msgspec
import pytest

from sandbox.control import drawn
from sandbox.people import Invalid
from sandbox.provider import ControlError
from sandbox.wishes import (
    Fill,
    Filled,
    NumberedSelection,
    Selection,
    chosen,
    crowd,
    list_id_of,
    marked,
)


def nobody(_email: str) -> bool:
    return False


def test_a_fill_is_the_people_of_its_seed_or_of_the_accounts() -> None:
    own = crowd(Fill(count=9, seed=4), 7, nobody)
    other = crowd(Fill(count=9), 7, nobody)

    assert [person.email for person in own] == [
        person.email for person in crowd(Fill(count=9), 4, nobody)
    ]
    assert {person.email for person in own}.isdisjoint(person.email for person in other)


def test_nobody_is_filled_in_twice() -> None:
    [first, *_] = crowd(Fill(count=3), 1, nobody)

    with pytest.raises(ControlError, match="there already"):
        crowd(Fill(count=3), 1, lambda email: email == first.email)


@pytest.mark.parametrize("wish", [Fill(count=-1), Fill(count=1, invalid_share=1.5)])
def test_a_fill_that_makes_no_sense_is_refused(wish: Fill) -> None:
    with pytest.raises(ControlError, match="must not be negative"):
        crowd(wish, 1, nobody)


def test_what_was_filled_in_is_told_with_who_is_unusable() -> None:
    filled = Filled()
    for number, person in enumerate(crowd(Fill(count=6, invalid_share=0.5), 1, nobody)):
        filled.add(str(number), person)

    told = filled.told("9")

    assert (told["count"], told["list_id"], told["ids"]) == (6, "9", list("012345"))
    assert set(told["invalid_ids"]) == set(Invalid)
    assert sum(map(len, told["invalid_ids"].values())) == 3


def test_a_selection_names_each_once_or_draws_in_order() -> None:
    people = list("abcdefgh")

    assert chosen(Selection(ids=["b", "a", "b"]), people, str.upper) == ["B", "A"]
    assert chosen(NumberedSelection(ids=[2]), people, people.__getitem__) == ["c"]
    drawn_twice = [chosen(Selection(count=3, seed=5), people, str) for _ in range(2)]
    assert drawn_twice[0] == drawn_twice[1] == sorted(drawn_twice[0])
    assert len(chosen(Selection(share=0.5), people, str)) == 4


@pytest.mark.parametrize(("count", "share"), [(None, None), (1, 0.5), (3, None), (-1, None)])
def test_a_draw_that_makes_no_sense_is_refused(count: int | None, share: float | None) -> None:
    with pytest.raises(ControlError):
        drawn(["a", "b"], count, share, 1)


class Numbered(msgspec.Struct):
    id: int


class Lists(dict[str, Numbered]):
    def named(self, name: str) -> Numbered | None:
        return self.get(name)

    def __contains__(self, list_id: object) -> bool:
        return any(each.id == list_id for each in self.values())


def test_a_list_is_named_by_name_or_id() -> None:
    lists = Lists(News=Numbered(7))

    assert list_id_of(lists, "News") == list_id_of(lists, "7") == 7
    for name in ("8", "Other"):
        with pytest.raises(ControlError, match=f"no list {name}"):
            list_id_of(lists, name)


def test_an_edit_leaves_a_mark_in_the_place_of_the_last_one() -> None:
    assert marked(marked("Ada", 1), 2) == "Ada #2"
    assert marked(None, 3) == "#3"
