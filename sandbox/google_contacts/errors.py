"""Google's error bodies: `google.rpc.Status` for the API, RFC 6749 for the token endpoint.

Sources: the People API's discovery document (texts of parameters), captured answers for the expired
sync token, the quota and the credentials (docs/sandbox.md says which layout is not certain).
"""

from collections.abc import Mapping
from typing import Any

from sandbox.exchange import Answer, RefusedError

STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
INVALID = "Request contains an invalid argument."
NOT_FOUND = "Requested entity was not found."
EXPIRED = "Sync token is expired. Clear local cache and retry call without the sync token."
BAD_CREDENTIALS = (
    "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or"
    " other valid authentication credential. See"
    " https://developers.google.com/identity/sign-in/web/devconsole-project."
)
METRICS = {
    "critical_reads": "Critical read requests (Contact and Profile Reads)",
    "reads": "Read requests (Contact Group Reads)",
    "critical_writes": "Critical write requests (Contact Creates and Updates)",
    "writes": "Write requests (Contact Deletes and Contact Group Writes)",
    "daily_writes": "Daily Contact Writes (Total)",
    "full_syncs": "Full sync requests",  # The name is ours: only that there is one is told.
    "project": "Critical read requests (Contact and Profile Reads)",
}


def told(
    code: int,
    message: str,
    *,
    status: str | None = None,
    reason: str | None = None,
    domain: str = "googleapis.com",
    metadata: Mapping[str, str] | None = None,
) -> Answer:
    """Return an error as the API words it; an `ErrorInfo` only where it has a reason."""
    body: dict[str, Any] = {
        "code": code,
        "message": message,
        "status": status or STATUS.get(code, "UNKNOWN"),
    }
    if reason is not None:
        info = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": reason,
            "domain": domain,
        }
        body["details"] = [{**info, "metadata": dict(metadata)} if metadata else info]
    return Answer(code, {"error": body})


def invalid(message: str = INVALID) -> RefusedError:
    return RefusedError(told(400, message))


def failed_precondition(message: str) -> RefusedError:
    return RefusedError(told(400, message, status="FAILED_PRECONDITION"))


def not_found() -> RefusedError:
    return RefusedError(told(404, NOT_FOUND))


def conflict(message: str) -> RefusedError:
    return RefusedError(told(409, message))


def expired(code: int, status: str) -> RefusedError:
    """Return the refusal of a sync token that is too old; 410 is what an older guide says."""
    answer = told(
        code,
        EXPIRED,
        status=status,
        reason="EXPIRED_SYNC_TOKEN",
        domain="people.googleapis.com",
    )
    return RefusedError(answer)


def unauthenticated(reason: str) -> RefusedError:
    metadata = {"service": "people.googleapis.com"}
    return RefusedError(told(401, BAD_CREDENTIALS, reason=reason, metadata=metadata))


def scope_insufficient() -> RefusedError:
    message = "Request had insufficient authentication scopes."
    return RefusedError(told(403, message, reason="ACCESS_TOKEN_SCOPE_INSUFFICIENT"))


def service_disabled() -> RefusedError:
    message = "People API has not been used in project 123 before or it is disabled."
    return RefusedError(told(403, message, reason="SERVICE_DISABLED"))


def over(bucket: str, limit: int) -> Answer:
    """Return the 429 of a bucket; there is no header that says when to come back."""
    metric = METRICS[bucket]
    span = "per day" if bucket == "daily_writes" else "per minute"
    user = "" if bucket in {"project", "daily_writes"} else " per user"
    message = (
        f"Quota exceeded for quota metric '{metric}' and limit '{metric} {span}{user}' of service"
        " 'people.googleapis.com' for consumer 'project_number:123'."
    )
    metadata = {
        "quota_limit_value": str(limit),
        "quota_metric": f"people.googleapis.com/{bucket}",
        "service": "people.googleapis.com",
        "consumer": "projects/123",
    }
    return told(429, message, reason="RATE_LIMIT_EXCEEDED", metadata=metadata)


def oauth(status: int, error: str, description: str) -> RefusedError:
    """Return an error of the token endpoint (RFC 6749 5.2)."""
    return RefusedError(Answer(status, {"error": error, "error_description": description}))
