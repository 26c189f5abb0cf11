"""What ActiveCampaign's refusals mean: by status first, then by code, by text last.

403 may be the key, a right that its user has not, or the plan: `destination` asks whose key it is
before it says which.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from libs.common.errors import RateLimitedError, SyncError
from libs.common.reasons import Reject
from libs.connectors.http import Answer, plain_code, refusal, retry_after_s

RATE_LIMITED_S = 30.0  # What Retry-After is documented as.
IMPORT_LIMITED_S = 60.0  # "Retry this request in a minute": no header says it.
FORBIDDEN = (401, 403)
_IMPORT_LIMITED = "rate limit exceeded"


@dataclass(frozen=True, slots=True)
class Fault:
    """What a refusal's body says: it has four shapes, and the importer a fifth."""

    code: str = ""
    title: str = ""
    message: str = ""
    reasons: Sequence[Any] = ()

    @property
    def is_duplicate(self) -> bool:
        """Return whether an address or a title belongs to another record."""
        return self.code == "duplicate"

    @property
    def is_limit(self) -> bool:
        """Return whether the importer was asked too often: it answers 400."""
        return _IMPORT_LIMITED in self.message.lower()

    @property
    def refused_rows(self) -> Mapping[int, str]:
        """Return why rows of an import were refused, by their place, from 0 on."""
        return {
            int(each["contact"]) - 1: _reason_of(str(each.get("failureReason", "")))
            for each in self.reasons
            if isinstance(each, dict) and str(each.get("contact", "")).isdecimal()
        }


class _Body(msgspec.Struct, frozen=True, rename="camel"):
    errors: Any = None
    message: Any = None
    failure_reasons: Any = None


_BODY = msgspec.json.Decoder(_Body)


def fault_of(body: bytes) -> Fault:
    """Return what an error's body says; an empty fault if it says nothing that we know."""
    try:
        found = _BODY.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Fault()
    errors = found.errors if isinstance(found.errors, list) else []
    first = next((each for each in errors if isinstance(each, dict)), {})
    reasons = found.failure_reasons
    return Fault(
        code=plain_code(str(first.get("code") or "")),
        title=str(first.get("title") or ""),
        message=str(found.message or ""),
        reasons=reasons if isinstance(reasons, list) else (),
    )


def judge(answer: Answer, bucket: str) -> SyncError:
    """Return what a refusal means for the whole account; a contact's own are judged before."""
    if answer.status == 429:
        return RateLimitedError(bucket, retry_after_s(answer) or RATE_LIMITED_S)
    fault = fault_of(answer.body)
    if answer.status == 400 and fault.is_limit:
        return RateLimitedError(bucket, IMPORT_LIMITED_S)
    return refusal(answer, bucket, fault.code)


def _reason_of(text: str) -> str:
    return Reject.INVALID_EMAIL if "mail" in text.lower() else Reject.VALUE_NOT_ACCEPTED
