"""The one table of reasons is complete."""

from itertools import chain

from libs.common.reasons import (
    REASONS,
    Absent,
    Filter,
    Kind,
    Park,
    Reject,
    Trouble,
    describe,
)


def test_every_code_has_words_in_both_languages_and_someone_who_acts() -> None:
    """Proves AC9: there is no reason, of a contact or an integration, that nobody can read."""
    codes = {str(code) for code in chain(Reject, Park, Filter, Absent, Trouble)}

    assert set(REASONS) == codes
    for reason in REASONS.values():
        for words in (reason.en, reason.de):
            assert words.what.endswith(".")
            assert words.remedy.endswith(".")


def test_a_code_says_what_it_does_to_a_contact() -> None:
    assert describe(Reject.INVALID_EMAIL).kind is Kind.REJECT
    assert describe(Park.QUOTA).kind is Kind.PARK
    assert describe(Filter.CRITERIA).kind is Kind.FILTER


def test_a_trouble_says_whose_it_is() -> None:
    """Proves AC9: one cause at either side, told apart by its code and in its words."""
    source, destination = describe(Trouble.SOURCE_LIST_MISSING), describe(Trouble.LIST_MISSING)

    assert source.en.what == "The list is gone at the source."
    assert destination.de.what == "Die Liste gibt es beim Ziel nicht mehr."
    assert "{" not in "".join(each.en.what + each.de.what for each in REASONS.values())
