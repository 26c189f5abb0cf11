from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libs.common.moments import is_date, moment_of


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-01-17", datetime(2024, 1, 17, tzinfo=UTC)),
        ("2024-01-17T19:55:04.281Z", datetime(2024, 1, 17, 19, 55, 4, 281_000, tzinfo=UTC)),
        ("2024-01-17T23:30:00-02:00", datetime(2024, 1, 18, 1, 30, tzinfo=UTC)),
        ("2024-01-17 08:00", datetime(2024, 1, 17, 8, tzinfo=UTC)),
        ("1705521304281", datetime(2024, 1, 17, 19, 55, 4, 281_000, tzinfo=UTC)),
        ("-86400000000", datetime(1967, 4, 7, tzinfo=UTC)),
    ],
)
def test_a_moment_is_read_in_utc(text: str, moment: datetime) -> None:
    assert moment_of(text) == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "17.01.2024",
        "2024-02-30",
        "2024-W03",
        "20240117",
        "12345",
        "tomorrow",
        "2024-01-17Tx",
        "99999999999999999",
        "0001-01-01T00:00:00+14:00",
        "٢٠٢٤-01-17",
    ],
)
def test_what_is_no_moment_is_none(text: str) -> None:
    assert moment_of(text) is None


@given(st.text())
def test_no_text_raises(text: str) -> None:
    moment = moment_of(text)

    assert moment is None or moment.tzinfo is UTC


@given(st.text())
@example("2024-01-17")
@example("2024-02-30")
@example("2024-W03-1")
@example("٢٠٢٤-01-17")
def test_what_is_called_a_date_is_read_as_that_date(text: str) -> None:
    moment = moment_of(text)

    assert is_date(text) == (moment is not None and moment.date().isoformat() == text)
