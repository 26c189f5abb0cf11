"""Pages by opaque cursor: `page_size`, `page_token`, `next_page_token`, and `Link: rel=next`.

The cursor holds the key of the last row shown (keyset paging), so rows that come or go meanwhile
neither repeat nor hide another. It is no secret and grants nothing: whose rows are shown is decided
by the credential.
"""

import binascii
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Generic, TypeVar
from uuid import UUID

from fastapi import Query, Request, Response
from pydantic import Field

from services.config_api.errors import InvalidError, refuse_parameter
from services.config_api.models import is_storable

SIZE_DEFAULT = 50
SIZE_MAX = 200
_TOKEN_LENGTH_MAX = 2000

PageSize = Annotated[
    int, Query(ge=1, le=SIZE_MAX, description="How many items a page holds at most.")
]
PageToken = Annotated[
    str | None,
    Query(max_length=_TOKEN_LENGTH_MAX, description="`next_page_token` of the page before."),
]
NextPageToken = Annotated[
    str | None, Field(description="Send it as `page_token` for the next page; null: the last one.")
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some rows, and the cursor of the next page."""

    rows: Sequence[T]
    next_token: str | None


def cut(rows: Sequence[T], size: int, key: Callable[[T], str | int]) -> Page[T]:
    """Return a page of `rows`, of which one more than `size` was read if there is more."""
    if len(rows) <= size:
        return Page(rows, None)
    shown = rows[:size]
    return Page(shown, encode(key(shown[-1])))


def slice_of(rows: Sequence[T], size: int, token: str | None) -> Page[T]:
    """Return a page of what a provider answered as a whole; the cursor is a position in it."""
    start = max(decode_number(token) or 0, 0)
    end = start + size
    return Page(rows[start:end], encode(end) if end < len(rows) else None)


def encode(key: str | int) -> str:
    """Return the cursor behind a row's key."""
    return urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def decode_text(token: str | None) -> str | None:
    """Return the text that a cursor holds; raise InvalidError if it is not ours."""
    key = _decode(token)
    if key is not None and (not isinstance(key, str) or not is_storable(key)):
        raise refused()
    return key


def decode_number(token: str | None) -> int | None:
    """Return the number that a cursor holds; raise InvalidError if it is not ours."""
    key = _decode(token)
    if key is not None and (not isinstance(key, int) or abs(key) >= 2**31):
        raise refused()
    return key


def decode_id(token: str | None) -> UUID | None:
    """Return the id that a cursor holds; raise InvalidError if it is not ours."""
    key = decode_text(token)
    try:
        return None if key is None else UUID(hex=key)
    except ValueError:
        raise refused() from None


def decode_date(token: str | None) -> date | None:
    """Return the date that a cursor holds; raise InvalidError if it is not ours."""
    key = decode_text(token)
    try:
        return None if key is None else date.fromisoformat(key)
    except ValueError:
        raise refused() from None


def moment_key(moment: datetime, row_id: UUID) -> str:
    """Return the key of a row that is ordered by a moment, and then by its id."""
    return f"{moment.isoformat()} {row_id.hex}"


def decode_moment(token: str | None) -> tuple[datetime, UUID] | None:
    """Return moment and id of a cursor (`moment_key`); raise InvalidError if it is not ours."""
    key = decode_text(token)
    if key is None:
        return None
    try:
        text, _, row_id = key.partition(" ")
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise refused()
        return moment.astimezone(UTC), UUID(hex=row_id)
    except (ValueError, OverflowError):
        raise refused() from None


def _decode(token: str | None) -> object:
    if token is None:
        return None
    try:
        key: object = json.loads(urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        raise refused() from None
    if key is None:
        raise refused()
    return key


def refused() -> InvalidError:
    """Return the refusal of a page token that is not ours."""
    return refuse_parameter(
        parameter="page_token",
        code="invalid_page_token",
        detail="page_token is not one that this API gave out.",
    )


def link(request: Request, response: Response, next_token: str | None) -> None:
    """Say in a header, too, where the next page is (RFC 8288)."""
    if next_token is not None:
        url = request.url.include_query_params(page_token=next_token)
        response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
