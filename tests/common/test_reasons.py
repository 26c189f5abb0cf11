"""The one table of reasons is complete."""

from itertools import chain

from libs.common.reasons import REASONS, Filter, Kind, Park, Reject, describe


def test_every_code_has_words_in_both_languages_and_someone_who_acts() -> None:
    codes = {str(code) for code in chain(Reject, Park, Filter)}

    assert set(REASONS) == codes
    for reason in REASONS.values():
        for words in (reason.en, reason.de):
            assert words.what.endswith(".")
            assert words.remedy.endswith(".")


def test_a_code_says_what_it_does_to_a_contact() -> None:
    assert describe(Reject.INVALID_EMAIL).kind is Kind.REJECT
    assert describe(Park.QUOTA).kind is Kind.PARK
    assert describe(Filter.CRITERIA).kind is Kind.FILTER
