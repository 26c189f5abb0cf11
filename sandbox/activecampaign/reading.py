"""Reading what callers send: bodies in their envelope, pages, ids, as leniently as the service.

Numbers come as numbers or as text; what is not understood is mostly ignored.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from sandbox.activecampaign import errors
from sandbox.exchange import Answer, Request, RequestBodyError

PAGE, PAGE_MAX = 20, 100
T = TypeVar("T")


def inside(request: Request, name: str) -> dict[str, Any]:
    """Return what stands in the envelope of a body; refuse a body without it."""
    found = request.json.get(name) if isinstance(request.json, dict) else None
    if not isinstance(found, dict):
        errors.whole(400, f"The request body must have a '{name}' object")
    return found


def body(request: Request, kind: type[T]) -> T:
    """Return a whole body as a struct."""
    try:
        return msgspec.json.decode(request.body, type=kind, strict=False)
    except msgspec.ValidationError as error:
        errors.whole(400, str(error))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestBodyError(str(error)) from error


def page(request: Request, *, default: int = PAGE) -> tuple[int, int]:
    """Return limit and offset; a limit beyond the greatest is taken for the greatest."""
    limit = whole(request.parameter("limit")) or default
    return min(limit, PAGE_MAX), whole(request.parameter("offset")) or 0


def whole(value: object) -> int | None:
    """Return a whole number that is not negative, given as a number or a text."""
    text = str(value).strip()
    return int(text) if text.isascii() and text.isdigit() else None


def number(request: Request, name: str) -> int:
    """Return an id out of the path; what is none is nobody's."""
    return whole(request.arguments[name]) or 0


def paged(
    request: Request, key: str, rows: Sequence[dict[str, Any]], default: int = PAGE
) -> Answer:
    """Answer a page of records by the name of their kind."""
    limit, offset = page(request, default=default)
    shown = rows[offset : offset + limit]
    return Answer(200, {key: shown, "meta": {"total": str(len(rows))}})
