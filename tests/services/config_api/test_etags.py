"""If-Match."""

import pytest

from services.config_api import etags
from services.config_api.errors import PreconditionRequiredError, StaleError


@pytest.mark.parametrize("if_match", ['"3"', '"1", "3"', "*"])
def test_the_present_version_may_be_changed(if_match: str) -> None:
    etags.check(if_match, 3)


@pytest.mark.parametrize("if_match", ['"2"', "3", 'W/"3"'])
def test_any_other_version_is_stale(if_match: str) -> None:
    with pytest.raises(StaleError):
        etags.check(if_match, 3)


def test_a_change_without_if_match_is_not_made() -> None:
    with pytest.raises(PreconditionRequiredError):
        etags._demand(None)
