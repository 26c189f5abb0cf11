"""What Salesforce's refusals mean (its pages of status codes and error responses, its clients).

A code says what, a text sometimes which: texts are looked at only where one code has two meanings.
"""

from libs.common.errors import (
    MisconfiguredError,
    NeedsReauthError,
    RateLimitedError,
    SyncError,
    UnavailableError,
)
from libs.connectors.http import Answer, plain_code, refusal, retry_after_s
from libs.connectors.salesforce.facts import LONG_CALLS_S, USED_UP_S
from libs.connectors.salesforce.payload import Fault, fault_of

_SESSION = frozenset({"INVALID_SESSION_ID", "INVALID_AUTH_HEADER"})
# A new session would be refused like this one (jsforce leaves these out of its refresh).
_NO_SESSION_HELPS = ("not valid for use with the rest api", "not attached to agent")
_EDGE = frozenset({406, 420})  # Salesforce's own edge in trouble (airbyte repeats both).
_LATER = frozenset({"QUERY_TIMEOUT", "UNABLE_TO_LOCK_ROW", "SERVER_UNAVAILABLE"})
# What a person has to mend, by status and code. A field that is not there was deleted, or the
# person may not see it any more; the same of an object.
_TO_MEND = {
    (403, "API_DISABLED_FOR_ORG"): "api_disabled",
    (403, "API_CURRENTLY_DISABLED"): "api_disabled",
    (400, "INVALID_FIELD"): "field_missing",
    (400, "INVALID_TYPE"): "scope_missing",
}


def judge(answer: Answer, bucket: str) -> SyncError:
    """Return what a refusal means."""
    fault = fault_of(answer.body)
    what = _TO_MEND.get((answer.status, fault.error_code))
    if what is not None:
        return MisconfiguredError(answer.host, what)
    match answer.status:
        case 401:
            return _unauthenticated(answer, fault)
        case 403 if fault.error_code == "REQUEST_LIMIT_EXCEEDED":
            return RateLimitedError(bucket, retry_after_s(answer) or _wait_s(fault))
        case 400 if fault.error_code in _LATER:
            return UnavailableError(answer.host, plain_code(fault.error_code))
        case status if status in _EDGE:
            return UnavailableError(answer.host, f"HTTP {status}", retry_after_s(answer))
    return refusal(answer, bucket, fault.error_code)


def _unauthenticated(answer: Answer, fault: Fault) -> SyncError:
    if fault.error_code not in _SESSION:
        return UnavailableError(answer.host, "HTTP 401 without a reason")
    if any(words in fault.message.lower() for words in _NO_SESSION_HELPS):
        return MisconfiguredError(answer.host, "scope_missing")
    return NeedsReauthError(answer.host, fault.error_code)


def _wait_s(fault: Fault) -> float:
    """Return how long to wait: too many long calls at once end soon, the day's share later."""
    return LONG_CALLS_S if fault.message.startswith("Concurrent") else USED_UP_S
