"""What Google's refusals mean: by the reason of their `ErrorInfo`, then by status."""

from libs.common.errors import (
    MisconfiguredError,
    NeedsReauthError,
    PositionLostError,
    RateLimitedError,
    SyncError,
    UnavailableError,
)
from libs.connectors.google_contacts.facts import MINUTE_S
from libs.connectors.google_contacts.payload import Fault, fault_of
from libs.connectors.http import Answer, refusal, retry_after_s, until_midnight_s

# Quotas by the day begin at midnight Pacific time, wherever the account is.
_DAY_ZONE = "America/Los_Angeles"
_DAY_UNKNOWN_S = 3600.0
_EXPIRED = "EXPIRED_SYNC_TOKEN"
_OVER = frozenset({"RATE_LIMIT_EXCEEDED", "QUOTA_EXCEEDED", "RESOURCE_EXHAUSTED"})


def judge(answer: Answer, bucket: str) -> SyncError:
    """Return what a refusal means.

    An expired sync token is a 400 in every answer that was captured, and a 410 in an older guide:
    it is known by its reason, else by its text. A quota may be a 403 as well. No header says when
    a limit ends: its window is a minute.
    """
    fault = fault_of(answer.body)
    reason = fault.reason
    if reason == _EXPIRED or (answer.status in (400, 410) and "sync token is" in fault.text):
        return PositionLostError(answer.host, _EXPIRED)
    if answer.status == 429 or (answer.status == 403 and {reason, fault.status} & _OVER):
        return RateLimitedError(bucket, _wait_s(answer, fault))
    match answer.status:
        case 401 if fault.status == "UNAUTHENTICATED":
            return NeedsReauthError(answer.host, reason or fault.status)
        case 401:
            return UnavailableError(answer.host, "HTTP 401 without a reason")
        case 403 if reason == "SERVICE_DISABLED":
            return MisconfiguredError(answer.host, "api_disabled")
    return refusal(answer, bucket, reason or fault.status)


def _wait_s(answer: Answer, fault: Fault) -> float:
    told = retry_after_s(answer)
    if told is not None:
        return told
    if "per day" in fault.text:
        return until_midnight_s(answer, _DAY_ZONE) or _DAY_UNKNOWN_S
    return MINUTE_S
