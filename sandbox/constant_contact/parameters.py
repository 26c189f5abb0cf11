"""What a request asks for, read as Constant Contact reads it: parameters, cursors, bodies."""

from base64 import b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, urlencode

from sandbox.constant_contact.errors import invalid
from sandbox.constant_contact.state import Customer
from sandbox.exchange import Request

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Slice:
    """A page of a listing, and the links that lead on."""

    items: Sequence[Any]
    links: dict[str, Any]  # What the body has of `_links`: empty, or not there at all.


def asked(account: Customer, request: Request, known: Sequence[str]) -> dict[str, str]:
    """Return the parameters of a listing, those that its cursor carries among them.

    A cursor is base64 of the first call's whole query and of where to go on. A parameter that does
    not exist is passed over in silence, unless the account is strict.
    """
    own = {name: values[0] for name, values in request.query.items()}
    cursor = own.pop("cursor", None)
    carried = {} if cursor is None else _carried(cursor)
    unknown = sorted(set(own) - set(known))
    if unknown and account.settings.strict_parameters:
        message = f"{', '.join(unknown)} does not exist"
        raise invalid(message)
    return {**carried, **own}


def _carried(cursor: str) -> dict[str, str]:
    try:
        text = b64decode(cursor, altchars=b"-_", validate=True).decode()
    except (ValueError, UnicodeDecodeError):
        message = "cursor is invalid"
        raise invalid(message) from None
    return dict(parse_qsl(text, keep_blank_values=True))


def slice_of(
    account: Customer, path: str, wanted: Mapping[str, str], ids: Sequence[T], limit_max: int
) -> Slice:
    """Return the page that a call asks for, by its position in the ids of this moment."""
    limit = bounded(wanted.get("limit", "50"), "limit", limit_max)
    first = bounded(wanted.get("next", "1"), "cursor", 10**9)
    items = ids[first - 1 : first - 1 + limit]
    if first - 1 + limit < len(ids):
        carried = {**wanted, "limit": str(limit), "next": str(first + limit)}
        cursor = urlsafe_b64encode(urlencode(carried).encode()).decode()
        return Slice(items, {"_links": {"next": {"href": f"{path}?cursor={quote(cursor)}"}}})
    return Slice(items, {"_links": {}} if account.settings.last_page_has_links else {})


def bounded(text: str, name: str, high: int) -> int:
    """Return a number from 1 to `high`; raises the 400 of anything else."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= high):
        message = f"{name} does not have a valid value"
        raise invalid(message)
    return int(text)


def words(text: str, name: str, known: Sequence[str]) -> list[str]:
    """Return a comma list whose words are all known; raises the 400 that names the parameter."""
    found = [each.strip() for each in text.split(",") if each.strip()]
    if set(found) - set(known):
        message = f"{name} does not have a valid value"
        raise invalid(message)
    return found


def is_true(text: str) -> bool:
    """Return whether a boolean parameter is set; the official client sends `True`."""
    return text.lower() == "true"


def object_of(request: Request) -> dict[str, Any]:
    """Return the body, which must be an object."""
    if not isinstance(request.json, dict):
        message = "the body must be an object"
        raise invalid(message)
    return request.json
