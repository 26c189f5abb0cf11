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
from libs.connectors.constant_contact.refusals import judge
from libs.connectors.http import Answer

DAY = {"error_key": "quota_exceeded"}


def judged(status: int, body: object, headers: dict[str, str] | None = None) -> SyncError:
    answer = Answer("host", status, httpx.Headers(headers), msgspec.json.encode(body), writes=False)
    return judge(answer, "api")


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, [{"error_key": "contacts.api.validation.error"}], RequestRefusedError),
        (401, {"error_key": "unauthorized"}, NeedsReauthError),
        (401, {"message": "who knows"}, UnavailableError),
        (403, {"error_key": "access_denied"}, MisconfiguredError),
        (403, {"message": "Forbidden"}, MisconfiguredError),
        (404, [{"error_key": "contacts.api.not_found"}], MisconfiguredError),
        (429, {"error_key": "throttled"}, RateLimitedError),
        (429, {}, RateLimitedError),
    ],
)
def test_a_refusal_means_what_constant_contact_says(
    status: int, body: object, error: type[SyncError]
) -> None:
    assert type(judged(status, body)) is error


@pytest.mark.parametrize(
    ("body", "headers", "seconds"),
    [
        ({"error_key": "throttled"}, {}, 1.0),
        (DAY, {"date": "Wed, 15 Jul 2026 23:00:00 GMT"}, 3600.0),
        (DAY, {"date": "Wed, 15 Jul 2026 23:59:59 GMT"}, 1.0),
        (DAY, {}, 3600.0),
        (DAY, {"date": "yesterday"}, 3600.0),
    ],
)
def test_a_limit_says_until_when(
    body: dict[str, str], headers: dict[str, str], seconds: float
) -> None:
    """Proves CC5: the day ends at 00:00 UTC by the provider's own clock."""
    error = judged(429, body, headers)

    assert isinstance(error, RateLimitedError)
    assert error.retry_after_s == seconds
