"""Cursors."""

from contextlib import suppress
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.config_api import pages
from services.config_api.errors import InvalidError


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\x00")))
def test_a_text_comes_back_from_its_cursor(key: str) -> None:
    assert pages.decode_text(pages.encode(key)) == key


def test_ids_and_numbers_come_back_from_their_cursors() -> None:
    key = uuid4()

    assert pages.decode_id(pages.encode(key.hex)) == key
    assert pages.decode_number(pages.encode(7)) == 7
    assert pages.decode_id(None) is None


@pytest.mark.parametrize("token", ["?", "AAAA", "bnVsbA", pages.encode("x" * 10), pages.encode(1)])
def test_a_cursor_that_is_not_ours_is_refused(token: str) -> None:
    with pytest.raises(InvalidError) as refused:
        pages.decode_id(token)

    assert refused.value.flaws[0].parameter == "page_token"


@pytest.mark.parametrize("token", [pages.encode("text"), pages.encode(2**40)])
def test_a_number_that_no_row_has_is_refused(token: str) -> None:
    with pytest.raises(InvalidError):
        pages.decode_number(token)


@pytest.mark.parametrize("text", ["a\x00b", "\ud800"])
def test_what_the_database_could_not_hold_never_reaches_it(text: str) -> None:
    with pytest.raises(InvalidError):
        pages.decode_text(pages.encode(text))


@given(st.binary(max_size=30))
def test_no_token_does_worse_than_be_refused(token: bytes) -> None:
    with suppress(InvalidError):
        pages.decode_text(token.decode("latin-1"))


def test_a_page_is_cut_where_there_is_more() -> None:
    page = pages.cut([1, 2, 3], 2, lambda row: row)

    assert page.rows == [1, 2]
    assert pages.decode_number(page.next_token) == 2
    assert pages.cut([1, 2], 2, lambda row: row).next_token is None


def test_a_whole_answer_is_shown_in_slices() -> None:
    first = pages.slice_of("abc", 2, None)
    second = pages.slice_of("abc", 2, first.next_token)

    assert (first.rows, second.rows, second.next_token) == ("ab", "c", None)
