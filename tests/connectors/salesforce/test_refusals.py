"""What Salesforce's refusals mean to us, row by row."""

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
from libs.connectors.salesforce.refusals import judge

OTHER_SESSION = "This session is not valid for use with the REST API"


def judged(status: int, code: str, message: str = "", **headers: str) -> SyncError:
    body = msgspec.json.encode([{"message": message, "errorCode": code}])
    answer = Answer("host", status, httpx.Headers(headers), body, writes=False)
    return judge(answer, "api")


@pytest.mark.parametrize(
    ("status", "code", "message", "error"),
    [
        (401, "INVALID_SESSION_ID", "Session expired or invalid", NeedsReauthError),
        (401, "INVALID_AUTH_HEADER", "INVALID_HEADER_TYPE", NeedsReauthError),
        (401, "INVALID_SESSION_ID", OTHER_SESSION, MisconfiguredError),
        (401, "INVALID_SESSION_ID", "Connected app is not attached to Agent", MisconfiguredError),
        (401, "", "who knows", UnavailableError),
        (403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", RateLimitedError),
        (403, "INSUFFICIENT_ACCESS", "", MisconfiguredError),
        (400, "QUERY_TIMEOUT", "Your query request was running for too long.", UnavailableError),
        (400, "UNABLE_TO_LOCK_ROW", "", UnavailableError),
        (400, "MALFORMED_QUERY", "unexpected token", RequestRefusedError),
        (404, "NOT_FOUND", "The requested resource does not exist", MisconfiguredError),
        (406, "", "", UnavailableError),
        (420, "", "", UnavailableError),
        (429, "", "", RateLimitedError),
    ],
)
def test_a_refusal_means_what_salesforce_says(
    status: int, code: str, message: str, error: type[SyncError]
) -> None:
    assert type(judged(status, code, message)) is error


@pytest.mark.parametrize(
    ("status", "code", "what"),
    [
        (403, "API_DISABLED_FOR_ORG", "api_disabled"),
        (403, "API_CURRENTLY_DISABLED", "api_disabled"),
        (403, "OAUTH_APP_BLOCKED", "scope_missing"),
        (400, "INVALID_FIELD", "field_missing"),
        (400, "INVALID_TYPE", "scope_missing"),
    ],
)
def test_what_a_person_has_to_mend_has_a_name(status: int, code: str, what: str) -> None:
    """Proves SF2: an organisation without its API is told apart from a missing right."""
    error = judged(status, code)

    assert isinstance(error, MisconfiguredError)
    assert error.what == what


@pytest.mark.parametrize(
    ("message", "headers", "seconds"),
    [
        ("TotalRequests Limit exceeded.", {}, 900.0),
        ("ConcurrentPerOrgLongTxn Limit exceeded.", {}, 20.0),
        ("ConcurrentRequests (Concurrent API Requests) Limit exceeded.", {}, 20.0),
        ("TotalRequests Limit exceeded.", {"retry-after": "7"}, 7.0),
    ],
)
def test_a_limit_says_for_how_long(message: str, headers: dict[str, str], seconds: float) -> None:
    """Proves S10: long calls end soon, the last 24 hours' share comes back little by little."""
    error = judged(403, "REQUEST_LIMIT_EXCEEDED", message, **headers)

    assert isinstance(error, RateLimitedError)
    assert error.retry_after_s == seconds
