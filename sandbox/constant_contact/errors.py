"""Constant Contact's error bodies.

What is wrong with a request is told in an array of `error_key` and `error_message`; what the
gateway says (401, 403, 429) is one such object. Sources: the response codes and rate limits pages
of the API guide. The text of a full activity queue is ours.
"""

from sandbox.exchange import Answer, RefusedError

UNAUTHORIZED = {"error_key": "unauthorized", "error_message": "Unauthorized"}
FORBIDDEN = {
    "error_key": "access_denied",
    "error_message": "Request forbidden due to insufficient user privileges.",
}
THROTTLED = {"error_key": "throttled", "error_message": "Too Many Requests"}
QUOTA_EXCEEDED = {"error_key": "quota_exceeded", "error_message": "Limit Exceeded"}


def listed(status: int, key: str, message: str) -> Answer:
    """Return an answer whose body is an array of one error."""
    return Answer(status, [{"error_key": key, "error_message": message}])


def invalid(message: str) -> RefusedError:
    return RefusedError(listed(400, "contacts.api.validation.error", message))


def not_found(message: str) -> RefusedError:
    return RefusedError(listed(404, "contacts.api.not_found", message))


def conflict(message: str) -> RefusedError:
    return RefusedError(listed(409, "contacts.api.conflict", message))


def unauthorized() -> RefusedError:
    return RefusedError(Answer(401, UNAUTHORIZED))


def forbidden() -> RefusedError:
    return RefusedError(Answer(403, FORBIDDEN))


def over(bucket: str) -> Answer:
    """Return the 429 of a bucket; neither carries a header that says when to come back."""
    return Answer(429, QUOTA_EXCEEDED if bucket == "daily" else THROTTLED)


def oauth(status: int, error: str, description: str) -> RefusedError:
    """Return an error of the token endpoint (RFC 6749 5.2; the texts are not documented)."""
    return RefusedError(Answer(status, {"error": error, "error_description": description}))
