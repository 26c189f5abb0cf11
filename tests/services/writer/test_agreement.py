"""Which side of a pair gives way, and what is the same on both: pure."""

from typing import Any

import pytest

from libs.connectors.contract import FieldType
from services.writer.agreement import (
    Seen,
    Side,
    Term,
    Terms,
    Verdict,
    agreed,
    content_of,
    decide,
    found_same,
    is_kept_form,
    yielded,
)

OLD, ONE, TWO, THREE = (bytes([number]) * 16 for number in range(4))
AGREED = agreed(Side.SOURCE, OLD, OLD)
TERMS = Terms(
    1,
    [
        Term("FirstName", FieldType.TEXT, "FIRSTNAME", FieldType.TEXT),
        Term("Birthdate", FieldType.DATE, "BIRTHDAY", FieldType.DATE),
        Term("Score__c", FieldType.NUMBER, "SCORE", FieldType.NUMBER),
        Term("MobilePhone", FieldType.PHONE, "SMS", FieldType.PHONE),
        Term("MailingPostalCode", FieldType.TEXT, "ZIP", FieldType.TEXT),
    ],
    "DE",
)


@pytest.mark.parametrize("here", list(Side))
def test_the_same_on_both_sides_is_agreed_on_whatever_was_seen(here: Side) -> None:
    """Proves SF10."""
    for seen in (Seen(), AGREED, yielded(AGREED, here, ONE)):
        assert decide(seen, here, ONE, 5_000, ONE, 1_000) is Verdict.AGREE


@pytest.mark.parametrize("here", list(Side))
@pytest.mark.parametrize("there_ms", [0, 99_000])
def test_what_was_written_here_is_no_edit(here: Side, there_ms: int) -> None:
    """Proves SF10: an echo, however late and often it is read, and whatever the clocks say."""
    assert decide(AGREED, here, OLD, 50_000, ONE, there_ms) is Verdict.ECHO


@pytest.mark.parametrize("here", list(Side))
def test_what_may_be_under_way_here_is_no_edit(here: Side) -> None:
    """Proves SF10: a write whose answer was lost is read back as ours, not as a person's."""
    pending = {f"pending_{here}": ONE}
    seen = Seen(source=OLD, remote=OLD, **pending)

    assert decide(seen, here, ONE, 50_000, TWO, 10_000) is Verdict.ECHO
    assert decide(seen, here.other, TWO, 10_000, ONE, 50_000) is Verdict.WRITE


@pytest.mark.parametrize("here", list(Side))
def test_an_edit_goes_where_nobody_edited(here: Side) -> None:
    """Proves SF3: whatever the clocks say, which other touches move as well."""
    assert decide(AGREED, here, ONE, 1_000, OLD, 99_000) is Verdict.WRITE


@pytest.mark.parametrize(
    ("source_ms", "remote_ms", "stands"),
    [
        (2_000, 1_999, Side.SOURCE),
        (1_000, 2_000, Side.REMOTE),
        (1_000, 1_000, Side.SOURCE),
        (1_000, 1_999, Side.SOURCE),  # The same second: a tie.
    ],
)
def test_of_two_edits_the_newer_stands_and_on_a_tie_the_sources(
    source_ms: int, remote_ms: int, stands: Side
) -> None:
    """Proves SF3: both flows come to the same end, whichever is first."""
    source = decide(AGREED, Side.SOURCE, ONE, source_ms, TWO, remote_ms)
    remote = decide(AGREED, Side.REMOTE, TWO, remote_ms, ONE, source_ms)

    wins, loses = (source, remote) if stands is Side.SOURCE else (remote, source)
    assert (wins, loses) == (Verdict.WRITE, Verdict.YIELD)


@pytest.mark.parametrize("here", list(Side))
def test_who_gave_way_is_overwritten_even_by_what_was_there_before(here: Side) -> None:
    """The winner takes its edit back before its flow has read it: it is still what stands."""
    seen = yielded(AGREED, here, ONE)

    assert decide(seen, here.other, OLD, 1_000, ONE, 99_000) is Verdict.WRITE
    assert decide(seen, here, ONE, 99_000, OLD, 1_000) is Verdict.ECHO


@pytest.mark.parametrize("here", list(Side))
def test_the_same_edit_on_both_sides_is_still_one_on_the_other(here: Side) -> None:
    """It may be older than the next edit here, or newer: the clocks tell, as of any two."""
    seen = found_same(AGREED, here, ONE)

    assert decide(seen, here, TWO, 10_000, ONE, 50_000) is Verdict.YIELD
    assert decide(seen, here, TWO, 50_000, ONE, 10_000) is Verdict.WRITE
    assert found_same(AGREED, here, OLD) == AGREED


@pytest.mark.parametrize(
    ("kept", "given", "is_form"),
    [
        (2.72, 2.718, True),
        (2.72, 2.725, True),  # Providers differ in how they round a half.
        (3.0, 2.718, True),
        (1e21, 1e21, True),
        (300.0, 300.4, True),
        (300.0, 340.0, False),
        (2.71, 2.718, False),
        (2.718, 2.72, False),
        (None, 2.718, False),
        ("2.72", 2.718, False),
    ],
)
def test_what_a_side_keeps_may_have_fewer_places(
    kept: object, given: object, *, is_form: bool
) -> None:
    """Proves SF10: a write of ours is known by it before it was read back."""
    assert is_kept_form({"A": "x", "N": kept}, {"A": "x", "N": given}) is is_form
    assert not is_kept_form({"A": "y", "N": kept}, {"A": "x", "N": given})


def test_where_nothing_was_agreed_the_source_stands() -> None:
    """Proves S2, SF3: also when the destination's contact is the newer one."""
    assert decide(Seen(), Side.SOURCE, ONE, 1_000, TWO, 99_000) is Verdict.WRITE
    assert decide(Seen(), Side.REMOTE, TWO, 99_000, ONE, 1_000) is Verdict.YIELD
    assert yielded(Seen(), Side.REMOTE, TWO) == Seen()


@pytest.mark.parametrize(
    ("source", "remote"),
    [
        ({"FirstName": " Ada "}, {"FIRSTNAME": "Ada"}),
        ({"FirstName": None}, {}),
        ({"FirstName": ""}, {"FIRSTNAME": None}),
        ({"MobilePhone": "0171 / 234 567 89"}, {"SMS": "+4917123456789"}),
        ({"MobilePhone": "+49 171 23456789"}, {"SMS": "+4917123456789"}),
        ({"Score__c": 12.0}, {"SCORE": "12"}),
        ({"Birthdate": "1815-12-10"}, {"BIRTHDAY": "1815-12-10T00:00:00Z"}),
    ],
)
def test_what_providers_write_otherwise_is_the_same(
    source: dict[str, Any], remote: dict[str, Any]
) -> None:
    """Proves SF10: what is compared is content, not a provider's way to write it."""
    ours, theirs = TERMS.values(Side.SOURCE, source), TERMS.values(Side.REMOTE, remote)

    assert content_of(ours) == content_of(theirs)


@pytest.mark.parametrize(
    ("source", "remote"),
    [
        ({"FirstName": "Ada"}, {"FIRSTNAME": "ada"}),
        ({"FirstName": "Ada"}, {}),
        ({"MailingPostalCode": "01234"}, {"ZIP": "1234"}),
        ({"Score__c": 0}, {}),
    ],
)
def test_what_means_something_else_is_not_the_same(
    source: dict[str, Any], remote: dict[str, Any]
) -> None:
    ours, theirs = TERMS.values(Side.SOURCE, source), TERMS.values(Side.REMOTE, remote)

    assert content_of(ours) != content_of(theirs)


def test_a_phone_that_the_source_emptied_stays_at_the_destination() -> None:
    """Proves SF6: it is neither emptied there nor put back here."""
    ours = TERMS.values(Side.SOURCE, {"FirstName": "Ada"})
    theirs = TERMS.values(Side.REMOTE, {"FIRSTNAME": "Ada", "SMS": "+4917123456789"})

    assert TERMS.lacks_phone(ours)
    assert content_of(TERMS.kept(ours, theirs)) == content_of(theirs)
    edited = TERMS.values(Side.SOURCE, {"FirstName": "Eve"})
    assert content_of(TERMS.kept(edited, theirs)) != content_of(theirs)
