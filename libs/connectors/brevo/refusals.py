"""What Brevo's refusals mean: by status first, then by code and metadata, by text last.

Texts change; where one is looked at it only chooses between reasons for the same contact.
"""

from collections.abc import Mapping

from libs.common.errors import (
    MisconfiguredError,
    NeedsReauthError,
    RateLimitedError,
    SyncError,
    UnavailableError,
)
from libs.common.reasons import Reject
from libs.connectors.brevo.payload import Fault, fault_of
from libs.connectors.http import Answer, refusal

_TOO_EARLY_S = 5.0  # 425 names no time: another operation on the account must end first.
_RESET_UNKNOWN_S = 60.0
_RESET_MAX_S = 3600.0  # The longest window there is.
_REASONS: Mapping[str, str] = {
    "phone number": Reject.INVALID_PHONE,
    "email is not valid": Reject.INVALID_EMAIL,
    "invalid email": Reject.INVALID_EMAIL,
    "invalid date": Reject.DATE_FORMAT,
    "date format": Reject.DATE_FORMAT,
    "too long": Reject.VALUE_TOO_LONG,
}
_DUPLICATE_TEXTS = ("already associated", "already exist")


def judge(answer: Answer, bucket: str) -> SyncError:
    """Return what a refusal means for the whole account; a contact's own are judged before."""
    fault = fault_of(answer.body)
    match answer.status:
        case 401 | 402 | 403:
            return _unusable(answer, fault)
        case 425:
            return UnavailableError(answer.host, "HTTP 425", _TOO_EARLY_S)
        case 429:
            return RateLimitedError(bucket, _reset_s(answer))
    return refusal(answer, bucket, fault.code)


def _unusable(answer: Answer, fault: Fault) -> SyncError:
    """Return why an account takes no calls: its key, our address, its plan, its rights."""
    if answer.status == 402:
        return MisconfiguredError(answer.host, "contact_limit")
    if answer.status == 403:
        validating = fault.code == "account_under_validation"
        return MisconfiguredError(answer.host, "api_disabled" if validating else "scope_missing")
    if "ip address" in fault.message.lower():
        return MisconfiguredError(answer.host, "ip_not_allowed")
    return NeedsReauthError(answer.host, fault.code or "unauthorized")


def duplicates(fault: Fault) -> frozenset[str] | None:
    """Return the identifiers that belong to another contact, in upper case; None: no such fault.

    Since 2026-05 an update's answer has the code `invalid_parameter` with the same metadata; an
    older one has no metadata, and then it was the address.
    """
    if fault.metadata and fault.metadata.duplicate_identifiers:
        return frozenset(name.upper() for name in fault.metadata.duplicate_identifiers)
    if fault.code == "duplicate_parameter":
        return frozenset({"EMAIL"})
    if any(text in fault.message.lower() for text in _DUPLICATE_TEXTS):
        return frozenset({"EMAIL"})
    return None


def reject_reason(fault: Fault) -> str | None:
    """Return why a contact is refused, where the words tell; None where they do not."""
    text = fault.message.lower()
    return next((reason for words, reason in _REASONS.items() if words in text), None)


def _reset_s(answer: Answer) -> float:
    """Return Brevo's own header: seconds until the window has room again, not a time of day."""
    try:
        seconds = float(answer.headers["x-sib-ratelimit-reset"])
    except (KeyError, ValueError):
        return _RESET_UNKNOWN_S
    return min(max(seconds, 1.0), _RESET_MAX_S)
