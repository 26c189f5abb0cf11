"""HubSpot's error bodies.

One shape for the CRM (guide "Handle errors"): status, message, correlationId, category, and now
and then errors, context and links. OAuth answers RFC 6749's error and error_description beside
HubSpot's older status and message.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import uuid4

import msgspec

from sandbox.exchange import Answer, RefusedError

SCOPES_PAGE = "https://developers.hubspot.com/scopes"


# A page of contacts writes each moment four times, and those made together share it.
@lru_cache(maxsize=4096)
def iso(at_ms: int) -> str:
    """Return a moment as HubSpot writes it: UTC with milliseconds."""
    moment = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return moment.removesuffix("+00:00") + "Z"


def body(message: str, **rest: object) -> dict[str, Any]:
    """Return an error's body; what is None in `rest` is left out."""
    more = {name: value for name, value in rest.items() if value is not None}
    return {"status": "error", "message": message, "correlationId": str(uuid4()), **more}


def refused(status: int, message: str, **rest: object) -> RefusedError:
    return RefusedError(Answer(status, body(message, **rest)))


def invalid(message: str, **rest: object) -> RefusedError:
    """Return a 400 of the category VALIDATION_ERROR."""
    return refused(400, message, category="VALIDATION_ERROR", **rest)


def not_found() -> RefusedError:
    """Return what an unknown numeric id gets: a 404 without a category."""
    return refused(404, "resource not found")


def not_numeric(text: str) -> RefusedError:
    return refused(
        404,
        "Object not found.  objectId are usually numeric.",
        context={"id": [text]},
        category="OBJECT_NOT_FOUND",
    )


def email_taken(existing_id: int) -> RefusedError:
    message = f"Contact already exists. Existing ID: {existing_id}"
    return refused(409, message, category="CONFLICT")


def invalid_values(problems: Sequence[Mapping[str, Any]]) -> RefusedError:
    """Return a 400 that lists in its message, as JSON, each property that was refused."""
    listed = msgspec.json.encode([{"isValid": False, **problem} for problem in problems]).decode()
    errors = [
        {
            "message": problem["message"],
            "code": problem["error"],
            "context": {"propertyName": [problem["name"]]},
        }
        for problem in problems
    ]
    return invalid(f"Property values were not valid: {listed}", errors=errors)


def no_credentials() -> RefusedError:
    return refused(
        401,
        "Authentication credentials not found. This API supports OAuth 2.0 authentication and you"
        " can find more details at https://developers.hubspot.com/docs/methods/auth/oauth-overview",
        category="INVALID_AUTHENTICATION",
    )


def expired(now_ms: int, expired_ms: int) -> RefusedError:
    seconds = (now_ms - expired_ms) // 1000
    return refused(
        401,
        f"The OAuth token used to make this call expired {seconds} second(s) ago.",
        category="EXPIRED_AUTHENTICATION",
        context={"expire time": [iso(expired_ms)]},
    )


def missing_scopes(scopes: Sequence[str]) -> RefusedError:
    return refused(
        403,
        "This app hasn't been granted all required scopes to make this call."
        f" Read more about required scopes here: {SCOPES_PAGE}.",
        errors=[
            {
                "message": "One or more of the following scopes are required.",
                "context": {"requiredGranularScopes": list(scopes)},
            }
        ],
        links={"scopes": SCOPES_PAGE},
        category="MISSING_SCOPES",
    )


def oauth(status: str, message: str, *, error: str = "invalid_grant") -> RefusedError:
    """Return an error of the OAuth endpoints: always a 400."""
    return RefusedError(
        Answer(
            400,
            {"error": error, "error_description": message, "status": status, "message": message},
        )
    )


RATE_LIMITS = {
    "ten_secondly": ("You have reached your ten_secondly_rolling limit.", "TEN_SECONDLY_ROLLING"),
    "private_ten_secondly": (
        "You have reached your ten_secondly_rolling limit.",
        "TEN_SECONDLY_ROLLING",
    ),
    "daily": ("You have reached your daily limit.", "DAILY"),
    "search": ("You have reached your secondly limit.", None),
}


def rate_limited(bucket: str, portal_id: str) -> Answer:
    """Return the 429 of a bucket. None of them carries Retry-After, and search names no policy."""
    message, policy = RATE_LIMITS[bucket]
    rest: dict[str, object] = {"errorType": "RATE_LIMIT", "policyName": policy}
    if policy == "TEN_SECONDLY_ROLLING":
        kind = "private_app" if bucket.startswith("private") else "public_app"
        rest["groupName"] = f"publicapi:{kind}-api-calls-ten-secondly:1:{portal_id}"
    if policy == "DAILY":
        rest["requestId"] = str(uuid4())
    return Answer(429, body(message, **rest))
