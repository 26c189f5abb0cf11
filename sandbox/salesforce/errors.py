"""Salesforce's error bodies: an array of `errorCode` and `message`, and OAuth's own object.

In a single record's refusal the key is `errorCode`, among the outcomes of a collection it is
`statusCode`. Texts without a source are listed in docs/sandbox.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sandbox.exchange import Answer, RefusedError

JSON = "application/json;charset=UTF-8"
NOT_FOUND = "The requested resource does not exist"
OVER_THE_DAY = "TotalRequests Limit exceeded."
TOO_MANY_LONG_CALLS = "ConcurrentPerOrgLongTxn Limit exceeded."


@dataclass(frozen=True, slots=True)
class Problem:
    """Why one record was not written."""

    code: str
    message: str
    fields: Sequence[str] = ()
    more: dict[str, Any] = field(default_factory=dict)

    def in_array(self) -> dict[str, Any]:
        return {
            "message": self.message,
            "errorCode": self.code,
            "fields": list(self.fields),
            **self.more,
        }

    def in_collection(self) -> dict[str, Any]:
        return {
            "statusCode": self.code,
            "message": self.message,
            "fields": list(self.fields),
            **self.more,
        }


def answer(status: int, code: str, message: str) -> Answer:
    """Return an answer whose body is an array of one error."""
    return Answer(status, [{"message": message, "errorCode": code}], media_type=JSON)


def refused(status: int, code: str, message: str) -> RefusedError:
    return RefusedError(answer(status, code, message))


def not_found() -> RefusedError:
    return refused(404, "NOT_FOUND", NOT_FOUND)


def not_readable(object_name: str) -> RefusedError:
    """Refuse an object that is not there, or that the user may not see: both sound alike."""
    message = (
        f"sObject type '{object_name}' is not supported. If you are attempting to use a custom "
        "object, be sure to append the '__c' after the entity name. Please reference your WSDL or "
        "the describe call for the appropriate names."
    )
    return refused(400, "INVALID_TYPE", message)


def no_session() -> RefusedError:
    """Refuse a session that is over or was never there."""
    told = answer(401, "INVALID_SESSION_ID", "Session expired or invalid")
    return RefusedError(Answer(401, told.body, {"WWW-Authenticate": "Token"}, JSON))


def bad_header() -> RefusedError:
    told = answer(401, "INVALID_AUTH_HEADER", "INVALID_HEADER_TYPE")
    return RefusedError(Answer(401, told.body, {"WWW-Authenticate": "Token"}, JSON))


def over(message: str) -> Answer:
    """Return the 403 of a limit; nothing says when to come back."""
    return answer(403, "REQUEST_LIMIT_EXCEEDED", message)


def oauth(status: int, error: str, description: str) -> RefusedError:
    """Return a refusal of the token endpoint."""
    body = {"error": error, "error_description": description}
    return RefusedError(Answer(status, body, media_type=JSON))
