"""What HubSpot's refusals mean (its error handling guide and usage guidelines)."""

from libs.common.errors import (
    MisconfiguredError,
    NeedsReauthError,
    RateLimitedError,
    SyncError,
    UnavailableError,
)
from libs.connectors.http import Answer, refusal, retry_after_s, until_midnight_s
from libs.connectors.hubspot.payload import Fault, fault_of

# HubSpot sends no Retry-After with 429: its own client waits this long for each policy.
_TEN_SECONDS_S = 10.0
_SECOND_S = 1.0
_LOCKED_S = 2.0  # "423: wait at least 2 seconds."
_DAY_UNKNOWN_S = 3600.0
_UNAUTHENTICATED = frozenset({"EXPIRED_AUTHENTICATION", "INVALID_AUTHENTICATION"})


def judge(answer: Answer, bucket: str, time_zone: str) -> SyncError:
    """Return what a refusal means. `time_zone` is the account's: its day ends at midnight there."""
    fault = fault_of(answer.body)
    match answer.status:
        case 401:
            return _unauthenticated(answer, fault)
        case 403 if fault.category == "BANNED":
            return MisconfiguredError(answer.host, "api_disabled")
        case 423:
            wait_s = retry_after_s(answer) or _LOCKED_S
            return UnavailableError(answer.host, "HTTP 423", wait_s)
        case 429:
            return RateLimitedError(bucket, _wait_s(answer, fault, time_zone))
        case 477:
            # The account moves to another data centre: seconds, up to a day.
            return RateLimitedError(bucket, retry_after_s(answer) or _DAY_UNKNOWN_S)
    return refusal(answer, bucket, fault.category or fault.sub_category)


def _unauthenticated(answer: Answer, fault: Fault) -> SyncError:
    if fault.category in _UNAUTHENTICATED:
        return NeedsReauthError(answer.host, fault.category)
    # Cloudflare answers 401 with code 530 when it cannot reach HubSpot (airbyte).
    return UnavailableError(answer.host, "HTTP 401 without a reason")


def _wait_s(answer: Answer, fault: Fault, time_zone: str) -> float:
    told = retry_after_s(answer)
    if told is not None:
        return told
    policy = fault.policy_name or fault.message.upper()
    if "DAILY" in policy:
        return until_midnight_s(answer, time_zone) or _DAY_UNKNOWN_S
    return _TEN_SECONDS_S if "TEN_SECONDLY" in policy else _SECOND_S
