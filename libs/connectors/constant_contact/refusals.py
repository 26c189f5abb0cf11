"""What Constant Contact's refusals mean (its pages of response codes and of rate limits)."""

from libs.common.errors import (
    NeedsReauthError,
    RateLimitedError,
    SyncError,
    UnavailableError,
)
from libs.connectors.constant_contact.payload import fault_of
from libs.connectors.http import Answer, refusal, until_midnight_s

_SECOND_S = 1.0  # "More than 4 per second": it clears with the second.
_DAY_UNKNOWN_S = 3600.0  # Where an answer has no date of its own.


def judge(answer: Answer, bucket: str) -> SyncError:
    """Return what a refusal means.

    The two limits differ by nothing but their key, and no header says when they end.
    """
    key = fault_of(answer.body).error_key
    match answer.status, key:
        case 401, "unauthorized":
            return NeedsReauthError(answer.host, key)
        case 401, _:
            return UnavailableError(answer.host, "HTTP 401 without a reason")
        case 429, "quota_exceeded":
            # "Reset at 00:00:00 UTC", wherever the account is.
            return RateLimitedError(bucket, until_midnight_s(answer, "UTC") or _DAY_UNKNOWN_S)
        case 429, "throttled":
            return RateLimitedError(bucket, _SECOND_S)
    return refusal(answer, bucket, key)
