"""Custom fields: listed and made."""

from sandbox.constant_contact.custom_fields import FIELDS_MAX, LABEL_CHARACTERS_MAX, TYPES
from sandbox.constant_contact.errors import conflict, invalid
from sandbox.constant_contact.parameters import asked, object_of, slice_of
from sandbox.constant_contact.state import Customer
from sandbox.exchange import Answer, Request, Routes

PAGE_MAX = 100
READS = {"scope": "contact_data", "privileges": ("contacts:read",)}
WRITES = {"scope": "contact_data", "privileges": ("contacts:write",)}


def register(routes: Routes[Customer]) -> None:
    """Add the endpoints about custom fields."""
    routes.add("GET", "/v3/contact_custom_fields", **READS)(_find)
    routes.add("POST", "/v3/contact_custom_fields", **WRITES)(_create)


def _find(account: Customer, request: Request) -> Answer:
    wanted = asked(account, request, ("limit",))
    fields = list(account.custom_fields.by_id.values())
    part = slice_of(account, "/v3/contact_custom_fields", wanted, fields, PAGE_MAX)
    return Answer(200, {"custom_fields": [each.described() for each in part.items], **part.links})


def _create(account: Customer, request: Request) -> Answer:
    body = object_of(request)
    label, kind = body.get("label"), body.get("type")
    if not isinstance(label, str) or not 1 <= len(label) <= LABEL_CHARACTERS_MAX:
        message = "label does not have a valid value"
        raise invalid(message)
    if kind not in TYPES:
        message = "type does not have a valid value"
        raise invalid(message)
    if account.custom_fields.by_label(label):
        message = f"a custom field labelled {label} already exists"
        raise conflict(message)
    if len(account.custom_fields.by_id) >= FIELDS_MAX:
        message = f"an account has at most {FIELDS_MAX} custom fields"
        raise invalid(message)
    choices = [str(each.get("choice_label", "")) for each in body.get("choices", [])]
    version = 2 if kind == "date" else None
    made = account.custom_fields.add(
        label, kind, account.now_s, version=version, choices=choices, metadata=body.get("metadata")
    )
    return Answer(201, made.described())
