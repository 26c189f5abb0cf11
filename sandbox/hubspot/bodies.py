"""What a request says, read as HubSpot reads it: bodies, inputs of a batch, ids."""

from typing import Any, TypeVar

import msgspec

from sandbox.exchange import Request
from sandbox.hubspot.errors import invalid

T = TypeVar("T")

ID_DIGITS_MAX = 18  # What a signed number of 64 bits holds for certain.


def parsed(request: Request, kind: type[T]) -> T:
    """Return the body as a struct; raises a `RefusedError` that says where it does not fit."""
    try:
        return msgspec.convert(request.json, kind)
    except msgspec.ValidationError as error:
        message = f"Invalid input JSON: {error}"
        raise invalid(message) from error


def object_of(request: Request) -> dict[str, Any]:
    """Return the body, which must be an object."""
    if not isinstance(request.json, dict):
        message = "Invalid input JSON: an object is expected"
        raise invalid(message)
    return request.json


def inputs_of(request: Request) -> list[dict[str, Any]]:
    """Return the inputs of a batch, which must be objects."""
    inputs = object_of(request).get("inputs")
    if not isinstance(inputs, list) or not all(isinstance(each, dict) for each in inputs):
        message = "Invalid input JSON: some of required attributes are not set [inputs]"
        raise invalid(message)
    return inputs


def number(text: str) -> int | None:
    """Return an id or another count; None if the text is no such number."""
    is_number = text.isascii() and text.isdigit() and len(text) <= ID_DIGITS_MAX
    return int(text) if is_number else None


def bounded(text: str, name: str, *, low: int, high: int) -> int:
    """Return a number of a query that lies between bounds, these included."""
    found = number(text)
    if found is None or not low <= found <= high:
        message = f"Invalid {name} {text}: it must be a number between {low} and {high}"
        raise invalid(message)
    return found
