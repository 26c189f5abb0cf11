import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import (
    ConfigurationError,
    MisconfiguredError,
    NeedsReauthError,
    RateLimitedError,
    RequestRefusedError,
    TransientError,
    UnavailableError,
    UnknownOutcomeError,
)
from services.poller.setbacks import Setback, judge

DAY_S = 86_400.0


def judged(
    error: TransientError | ConfigurationError, failures: int = 0, share: float = 0.0
) -> Setback:
    return judge(error, failures=failures, interval_s=1_800.0, share=share)


def test_a_limit_is_no_failure_and_says_when() -> None:
    setback = judged(RateLimitedError("api", 42.0))

    assert setback == Setback("rate_limited", 42.0, counts=False)


def test_an_absurd_wait_is_a_day_at_most() -> None:
    """Fault 40."""
    assert judged(RateLimitedError("api", 1e9)).retry_after_s == DAY_S
    assert judged(UnavailableError("host", "HTTP 503", 1e9)).retry_after_s == DAY_S


@pytest.mark.parametrize(
    "error", [UnavailableError("host", "HTTP 503"), UnknownOutcomeError("host", "cut")]
)
def test_an_outage_doubles_to_15_minutes(error: TransientError) -> None:
    waits = [judged(error, failures, share=1.0).retry_after_s for failures in (0, 1, 2, 20, 5_000)]

    assert waits == [10.0, 20.0, 40.0, 900.0, 900.0]
    assert judged(error).code == "source_down"


def test_refused_credentials_count_and_are_tried_again_soon() -> None:
    setback = judged(NeedsReauthError("host", "invalid_grant"))

    assert (setback.failed_check, setback.report) == ("invalid_grant", None)
    assert setback.retry_after_s <= 10.0
    assert not setback.ends_run


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MisconfiguredError("host", "list_missing"), "list_missing"),
        (RequestRefusedError("host", 400, "X"), "request_refused"),
        (ConfigurationError(), "configuration"),
    ],
)
def test_what_a_person_must_mend_is_reported_as_the_sources(
    error: ConfigurationError, code: str
) -> None:
    setback = judged(error)

    assert (setback.code, setback.report) == (code, f"source_{code}")
    assert setback.ends_run
    assert setback.retry_after_s == 1_800.0
    assert judged(error, failures=50).retry_after_s == 6 * 3_600.0


@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(300, DAY_S))
def test_every_wait_is_bounded(failures: int, share: float, interval_s: float) -> None:
    for error in (
        RateLimitedError("api", 1e12),
        UnavailableError("host", "x"),
        MisconfiguredError("host", "x"),
        NeedsReauthError("host", "x"),
    ):
        setback = judge(error, failures=failures, interval_s=interval_s, share=share)

        assert 0 < setback.retry_after_s <= DAY_S + 1
