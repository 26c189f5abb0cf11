from typing import Any

import httpx
import msgspec
import pytest

from libs.common.errors import (
    MisconfiguredError,
    NeedsReauthError,
    RateLimitedError,
    RequestRefusedError,
    SyncError,
    UnavailableError,
)
from libs.connectors.http import Answer
from libs.connectors.hubspot.refusals import judge

DAILY = {"policyName": "DAILY"}


def judged(
    status: int, body: dict[str, Any], headers: dict[str, str] | None = None, zone: str = "UTC"
) -> SyncError:
    answer = Answer("host", status, httpx.Headers(headers), msgspec.json.encode(body), writes=False)
    return judge(answer, "api", zone)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, {"category": "VALIDATION_ERROR"}, RequestRefusedError),
        (401, {"category": "EXPIRED_AUTHENTICATION"}, NeedsReauthError),
        (401, {"category": "INVALID_AUTHENTICATION"}, NeedsReauthError),
        (401, {}, UnavailableError),
        (403, {"category": "MISSING_SCOPES"}, MisconfiguredError),
        (403, {"category": "BANNED"}, MisconfiguredError),
        (404, {}, MisconfiguredError),
        (414, {}, RequestRefusedError),
        (423, {}, UnavailableError),
        (429, {}, RateLimitedError),
        (477, {}, RateLimitedError),
    ],
)
def test_a_refusal_means_what_hubspot_says(
    status: int, body: dict[str, Any], error: type[SyncError]
) -> None:
    assert type(judged(status, body)) is error


@pytest.mark.parametrize(
    ("status", "body", "headers", "seconds"),
    [
        (429, {"policyName": "TEN_SECONDLY_ROLLING"}, {}, 10.0),
        (429, {"message": "You have reached your ten_secondly_rolling limit."}, {}, 10.0),
        (429, {"message": "You have reached your secondly limit."}, {}, 1.0),
        (429, {"policyName": "TEN_SECONDLY_ROLLING"}, {"retry-after": "3"}, 3.0),
        (429, DAILY, {}, 3600.0),
        (429, DAILY, {"date": "Wed, 15 Jul 2026 23:59:00 GMT"}, 60.0),
        (477, {}, {"retry-after": "7200"}, 7200.0),
        (477, {}, {}, 3600.0),
        (423, {}, {}, 2.0),
    ],
)
def test_the_time_to_wait_follows_the_policy(
    status: int, body: dict[str, Any], headers: dict[str, str], seconds: float
) -> None:
    error = judged(status, body, headers)

    assert isinstance(error, RateLimitedError | UnavailableError)
    assert error.retry_after_s == seconds


@pytest.mark.parametrize(
    ("zone", "hours"), [("US/Eastern", 2.0), ("Asia/Tokyo", 13.0), ("Nowhere/Nowhere", 1.0)]
)
def test_a_day_ends_at_midnight_of_the_account(zone: str, hours: float) -> None:
    """Proves HS1."""
    error = judged(429, DAILY, {"date": "Wed, 15 Jul 2026 02:00:00 GMT"}, zone)

    assert isinstance(error, RateLimitedError)
    assert error.retry_after_s == hours * 3600


def test_a_day_that_is_an_hour_longer_ends_an_hour_later() -> None:
    error = judged(429, DAILY, {"date": "Sun, 01 Nov 2026 04:00:00 GMT"}, "US/Eastern")

    assert isinstance(error, RateLimitedError)
    assert error.retry_after_s == 25 * 3600.0
