"""What each of Google's refusals means."""

from typing import Any

import msgspec
import pytest

from libs.common.errors import (
    MisconfiguredError,
    NeedsReauthError,
    PositionLostError,
    RateLimitedError,
    RequestRefusedError,
    SyncError,
    UnavailableError,
)
from libs.connectors.google_contacts.refusals import judge
from libs.connectors.http import Answer

EXPIRED = "Sync token is expired. Clear local cache and retry call without the sync token."
DAILY = "Quota exceeded for quota metric 'X' and limit 'X per day' of service 'people'."


def judged(
    status: int,
    *,
    reason: str | None = None,
    state: str = "",
    message: str = "",
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
) -> SyncError:
    error: dict[str, Any] = {"code": status, "status": state, "message": message}
    if reason is not None:
        error["details"] = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}]
    told = msgspec.json.encode({"error": error}) if body is None else body
    return judge(Answer("people.googleapis.com", status, headers or {}, told, False), "reads")


@pytest.mark.parametrize("status", [400, 410])
@pytest.mark.parametrize("words", [{"reason": "EXPIRED_SYNC_TOKEN"}, {"message": EXPIRED}])
def test_an_expired_sync_token_is_known_by_its_reason_or_text(
    status: int, words: dict[str, Any]
) -> None:
    assert isinstance(judged(status, **words), PositionLostError)


def test_another_invalid_argument_is_a_refusal() -> None:
    error = judged(400, state="INVALID_ARGUMENT", message="Request contains an invalid argument.")

    assert isinstance(error, RequestRefusedError)
    assert error.code == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (429, {"reason": "RATE_LIMIT_EXCEEDED"}),
        (429, {}),
        (403, {"reason": "RATE_LIMIT_EXCEEDED"}),
        (403, {"state": "RESOURCE_EXHAUSTED"}),
    ],
)
def test_a_quota_is_waited_out_for_its_window(status: int, words: dict[str, Any]) -> None:
    """Proves S10: no header says when; its window is a minute."""
    error = judged(status, **words)

    assert isinstance(error, RateLimitedError)
    assert (error.bucket, error.retry_after_s) == ("reads", 60.0)


def test_a_quota_of_the_day_ends_at_midnight_pacific_time() -> None:
    """Proves S10."""
    headers = {"date": "Sun, 01 Nov 2026 06:00:00 GMT"}  # 23:00 in Los Angeles, summer time.

    error = judged(429, message=DAILY, headers=headers)

    assert isinstance(error, RateLimitedError)
    assert error.retry_after_s == 3_600.0


def test_a_time_to_wait_is_taken_as_it_is_told() -> None:
    error = judged(429, headers={"retry-after": "7"})

    assert isinstance(error, RateLimitedError)
    assert error.retry_after_s == 7.0


@pytest.mark.parametrize(
    ("reason", "what"),
    [
        ("ACCESS_TOKEN_SCOPE_INSUFFICIENT", "scope_missing"),
        ("SERVICE_DISABLED", "api_disabled"),
        (None, "scope_missing"),
    ],
)
def test_a_right_that_is_missing_is_named(reason: str | None, what: str) -> None:
    error = judged(403, reason=reason, state="PERMISSION_DENIED")

    assert isinstance(error, MisconfiguredError)
    assert error.what == what


def test_only_its_own_words_disconnect_an_account() -> None:
    own = judged(401, state="UNAUTHENTICATED", reason="ACCESS_TOKEN_EXPIRED")
    foreign = judged(401, body=b'{"message": "who are you"}')
    no_json = judged(401, body=b"<html>")

    assert isinstance(own, NeedsReauthError)
    assert own.reason == "ACCESS_TOKEN_EXPIRED"
    assert isinstance(foreign, UnavailableError)
    assert isinstance(no_json, UnavailableError)
