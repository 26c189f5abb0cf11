"""How ActiveCampaign refuses: four shapes of body, and a fifth for its importer.

`{"errors": [{"title", "detail", "code", "error", "source"}]}` for values, the same with `status`
for whole calls, `{"message": …}` for what is not there or not allowed, `{"errors": "text"}` for
bulk options, `{"success": 0, "message", "failureReasons"}` for imports. The functions that refuse
raise `RefusedError` with the answer.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from sandbox.exchange import Answer, RefusedError

_TITLES = {
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    422: "Unprocessable Entity",
    429: "Too Many Requests",
    503: "Service Unavailable",
}
LIMIT_HEADERS = {"Retry-After": "30", "RateLimit-Limit": "5", "RateLimit-Remaining": "0"}


def message(status: int, text: str, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, {"message": text}, headers or {})


def usual(status: int) -> Answer:
    """Return what is answered with a status when nothing more is known."""
    return message(status, _TITLES.get(status, "Internal Server Error"))


def throttled() -> Answer:
    """Return the 429 of the five calls a second; there is no header that says when it ends."""
    return message(429, _TITLES[429], LIMIT_HEADERS)


def refuse(answer: Answer) -> NoReturn:
    raise RefusedError(answer)


def absent(kind: str, number: object) -> NoReturn:
    """Refuse what is not there, by the name that the record had in the product's first years."""
    refuse(message(404, f"No Result found for {kind} with id {number}"))


def whole(status: int, detail: str) -> NoReturn:
    """Refuse a call as a whole."""
    error = {"status": status, "title": _TITLES[status], "detail": detail}
    refuse(Answer(status, {"errors": [error]}))


def invalid(
    title: str, *, pointer: str = "", code: str = "", error: str = "", detail: str = ""
) -> NoReturn:
    """Refuse a value (422)."""
    found: dict[str, Any] = {"title": title, "detail": detail, "code": code, "error": error}
    if pointer:
        found["source"] = {"pointer": f"/data/attributes/{pointer}"}
    refuse(Answer(422, {"errors": [found]}))


def not_imported(text: str, reasons: Sequence[object]) -> NoReturn:
    """Refuse an import: nothing of it was queued. Its rate limit is answered so as well."""
    body = {"success": 0, "message": text, "failureReasons": list(reasons)}
    refuse(Answer(400, body))
