"""How Brevo refuses: one shape, a stable code and a sentence.

`{"code": …, "message": …}`, and `metadata` on errors about contacts. Codes are those of the
contract (developers.brevo.com, error model); sentences are those seen from the real service where
they are known, and are not to be relied on: Brevo changes them. The functions that refuse raise
`RefusedError` with the answer.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from sandbox.exchange import Answer, RefusedError

_CODES = {
    400: ("invalid_parameter", "Invalid parameters passed"),
    401: ("unauthorized", "Key not found"),
    402: ("not_enough_credits", "Not enough credits"),
    403: ("permission_denied", "Permission denied"),
    404: ("document_not_found", "Document not found"),
    405: ("method_not_allowed", "Method not allowed"),
    406: ("not_acceptable", "Not acceptable"),
    422: ("unprocessable_entity", "Unprocessable entity"),
    425: ("account_in_process", "Account is in process, try again later"),
    429: ("too_many_requests", "Too many requests"),
}


def answer(
    status: int, code: str, message: str, metadata: Mapping[str, Any] | None = None
) -> Answer:
    body: dict[str, Any] = {"code": code, "message": message}
    if metadata is not None:
        body["metadata"] = metadata
    return Answer(status, body)


def usual(status: int) -> Answer:
    """Return what Brevo answers with a status when nothing more is known."""
    code, message = _CODES.get(status, ("internal_server_error", "Internal server error"))
    return answer(status, code, message)


def refuse(
    status: int, code: str, message: str, metadata: Mapping[str, Any] | None = None
) -> NoReturn:
    raise RefusedError(answer(status, code, message, metadata))


def invalid(message: str) -> NoReturn:
    refuse(400, "invalid_parameter", message)


def missing(message: str) -> NoReturn:
    refuse(400, "missing_parameter", message)


def out_of_range(message: str) -> NoReturn:
    refuse(400, "out_of_range", message)


def unknown(message: str) -> NoReturn:
    refuse(404, "document_not_found", message)


def duplicate(
    kinds: Sequence[str], *, updating: bool, code: str = "duplicate_parameter"
) -> NoReturn:
    """Refuse identifiers that belong to another contact.

    `email` is in lower case and the others in upper case, in the text and in the metadata.
    """
    names = ["email" if kind == "EMAIL" else kind for kind in kinds]
    verb = "update" if updating else "create"
    verb_form = "is" if len(names) == 1 else "are"
    message = (
        f"Unable to {verb} contact, {', '.join(names)} {verb_form} already associated with "
        "another Contact"
    )
    refuse(400, code, message, {"duplicate_identifiers": names})
