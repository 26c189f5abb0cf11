"""Reading what callers send: bodies, pages, times and identifiers, checked as Brevo checks them."""

import re
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import unquote

import msgspec

from sandbox.brevo import errors, values
from sandbox.brevo.account import BrevoAccount
from sandbox.brevo.attributes import PHONES
from sandbox.brevo.contacts import Contact
from sandbox.exchange import Request, RequestBodyError

T = TypeVar("T")

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:?\d\d)?")
# The kinds of identifier that a path may carry, by the word for them.
IDENTIFIER_TYPES = {
    "email_id": "EMAIL",
    "phone_id": "SMS",
    "ext_id": "EXT_ID",
    "whatsapp_id": "WHATSAPP",
    "landline_number_id": "LANDLINE_NUMBER",
}
NO_CONTACT = "Contact does not exist"


def body(request: Request, kind: type[T]) -> T:
    """Return the body as a struct; raises `RefusedError` if there is none or a field is wrong."""
    if not request.body:
        errors.missing("No inputs in the body")
    try:
        return msgspec.json.decode(request.body, type=kind)
    except msgspec.ValidationError as error:
        errors.invalid(str(error))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestBodyError(str(error)) from error


def page(request: Request, *, default: int, most: int) -> tuple[int, int]:
    """Return limit and offset of a page."""
    limit = whole(request, "limit", default)
    offset = whole(request, "offset", 0)
    if limit > most:
        errors.out_of_range("Limit exceeds max value")
    if limit < 1 or offset < 0:
        errors.out_of_range("Limit or offset is below its least value")
    return limit, offset


def descending(request: Request) -> bool:
    order = request.parameter("sort", "desc")
    if order not in {"asc", "desc"}:
        errors.invalid("Sort should be either asc or desc")
    return order == "desc"


def whole(request: Request, name: str, default: int) -> int:
    text = request.parameter(name)
    if not text:
        return default
    if not text.lstrip("-").isdecimal():
        errors.invalid(f"{name} should be an integer")
    return int(text)


def wholes(request: Request, name: str) -> list[int]:
    """Return every value of a parameter, repeated or with commas."""
    pieces = [piece for text in request.query.get(name, []) for piece in text.split(",") if piece]
    if not all(piece.strip().isdecimal() for piece in pieces):
        errors.invalid(f"{name} should be integers")
    return [int(piece) for piece in pieces]


def number(request: Request, name: str) -> int:
    """Return an id out of the path."""
    text = request.arguments[name]
    if not text.isdecimal():
        errors.invalid(f"Invalid {name}")
    return int(text)


def moment_us(request: Request, name: str) -> int | None:
    """Return a moment in microseconds since 1970; None if the parameter is not there."""
    text = request.parameter(name)
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text) if _MOMENT.fullmatch(text) else None
    except ValueError:
        moment = None
    if moment is None:
        errors.invalid(f"Invalid date-time in {name}: use YYYY-MM-DDTHH:mm:ss.SSSZ")
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond


def contact(account: BrevoAccount, request: Request) -> Contact:
    """Return the contact that a path names; raises `RefusedError` with 404 if there is none.

    Without `identifierType` an e-mail or an id is meant and, on GET alone, a phone.
    """
    identifier = _identifier(account, request)
    kind = request.parameter("identifierType")
    if kind and kind not in IDENTIFIER_TYPES and kind != "contact_id":
        errors.invalid("Invalid identifierType")
    found = (
        _by_kind(account, kind, identifier)
        if kind
        else _by_looks(account, identifier, with_phone=request.method == "GET")
    )
    if found is None:
        errors.unknown(NO_CONTACT)
    return found


def _identifier(account: BrevoAccount, request: Request) -> str:
    if account.settings.plus_is_blank:
        segment = request.path.removeprefix("/v3/contacts/").split("/")[0]
        return unquote(segment.replace("+", " "))
    return request.arguments["identifier"]


def _by_kind(account: BrevoAccount, word: str, identifier: str) -> Contact | None:
    if word == "contact_id":
        if not identifier.isdecimal():
            errors.invalid("Invalid contact id")
        return account.contacts.get(int(identifier))
    kind = IDENTIFIER_TYPES[word]
    kept: str | None = identifier
    if kind == "EMAIL":
        kept = values.email(identifier)
    elif kind in PHONES:
        kept = values.phone(identifier)
    if kept is None:
        errors.invalid("Invalid phone number" if kind in PHONES else "email is not valid")
    return account.contacts.owner(kind, kept)


def _by_looks(account: BrevoAccount, identifier: str, *, with_phone: bool) -> Contact | None:
    if "@" in identifier:
        return _by_kind(account, "email_id", identifier)
    found = account.contacts.get(int(identifier)) if identifier.isdecimal() else None
    digits = values.phone(identifier)
    if found is None and with_phone and digits is not None:
        return account.contacts.owner("SMS", digits)
    if found is None and not identifier.isdecimal() and digits is None:
        errors.invalid("Invalid identifier: pass identifierType for any but email and id")
    return found
