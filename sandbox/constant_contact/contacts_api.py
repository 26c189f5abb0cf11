"""Contacts: listed in pages, read, made, replaced, deleted, signed up."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from sandbox.constant_contact.bodies import (
    INCLUDES,
    described,
    found,
    with_parts,
    written_over,
)
from sandbox.constant_contact.contacts import CORE, Address, Contact, EmailTakenError
from sandbox.constant_contact.errors import conflict, invalid
from sandbox.constant_contact.moments import read_s
from sandbox.constant_contact.parameters import asked, is_true, object_of, slice_of, words
from sandbox.constant_contact.state import Customer
from sandbox.exchange import Answer, Request, Routes

PAGE_MAX = 500
LISTS_MAX = 25  # In one filter.
STATUSES = (
    *("all", "active", "deleted", "not_set", "pending_confirmation", "temp_hold"),
    "unsubscribed",
)
MOMENTS = ("updated_after", "updated_before", "created_after", "created_before")
PARAMETERS = (
    *("status", "email", "lists", "segment_id", "tags", "include", "include_count", "limit"),
    *("optout_after", "optout_before", "sms_status", *MOMENTS),
)
SOURCES = ("Account", "Contact")
READS = {"scope": "contact_data", "privileges": ("contacts:read",)}
WRITES = {"scope": "contact_data", "privileges": ("contacts:write",)}


def register(routes: Routes[Customer]) -> None:
    """Add the endpoints about contacts."""
    routes.add("GET", "/v3/contacts", **READS)(_find)
    routes.add("GET", "/v3/contacts/counts", **READS)(_count)
    routes.add("GET", "/v3/contacts/{contact_id}", **READS)(_read)
    routes.add("POST", "/v3/contacts", **WRITES)(_create)
    routes.add("POST", "/v3/contacts/sign_up_form", **WRITES)(_sign_up)
    routes.add("PUT", "/v3/contacts/{contact_id}", **WRITES)(_replace)
    routes.add("DELETE", "/v3/contacts/{contact_id}", **WRITES)(_delete)


def _find(account: Customer, request: Request) -> Answer:
    wanted = asked(account, request, PARAMETERS)
    includes = words(wanted.get("include", ""), "include", INCLUDES)
    filters = {name: each for name, each in wanted.items() if name not in _NO_FILTERS}
    by_update = account.settings.order == "updated"
    ids = account.contacts.listing(
        (tuple(sorted(filters.items())), by_update, account.settings.bounds_are_inclusive),
        _matching(account, wanted),
        by_update=by_update,
    )
    part = slice_of(account, "/v3/contacts", wanted, ids, PAGE_MAX)
    body: dict[str, Any] = {
        "contacts": [described(account.contacts.by_id[each], includes) for each in part.items]
    }
    if is_true(wanted.get("include_count", "")):
        body["contacts_count"] = len(ids)
    return Answer(200, {**body, **part.links})


_NO_FILTERS = frozenset({"include", "include_count", "limit", "next", "cursor"})


def _matching(account: Customer, wanted: Mapping[str, str]) -> Callable[[Contact], bool]:
    """Return what says whether a contact is in a listing."""
    statuses = set(words(wanted.get("status", ""), "status", STATUSES))
    lists = [each for each in wanted.get("lists", "").split(",") if each]
    if len(lists) > LISTS_MAX:
        message = f"lists has more than {LISTS_MAX} items"
        raise invalid(message)
    email = wanted.get("email", "").lower()
    bounds = {name: read_s(wanted[name], name) for name in MOMENTS if name in wanted}
    margin_s = 0 if account.settings.bounds_are_inclusive else 1

    def matches(contact: Contact) -> bool:
        status = contact.status
        if status not in statuses and "all" not in statuses and (statuses or status == "deleted"):
            return False
        if lists and not set(lists) & set(contact.lists):
            return False
        if email and (contact.email is None or contact.email.address.lower() != email):
            return False
        return all(_is_within(contact, name, at_s, margin_s) for name, at_s in bounds.items())

    return matches


def _is_within(contact: Contact, name: str, at_s: float, margin_s: int) -> bool:
    moment_s = contact.updated_s if name.startswith("updated") else contact.created_s
    if name.endswith("_after"):
        return moment_s >= at_s + margin_s
    return moment_s <= at_s - margin_s


def _count(account: Customer, request: Request) -> Answer:
    live = account.contacts.live
    told = {"total": len(live)}
    for name in ("explicit", "implicit", "pending_confirmation", "unsubscribed"):
        found_with = sum(each.email is not None and each.email.permission == name for each in live)
        told[name.removesuffix("_confirmation")] = found_with
    return Answer(200, told)


def _read(account: Customer, request: Request) -> Answer:
    includes = words(request.parameter("include"), "include", INCLUDES)
    return Answer(200, described(found(account, request.arguments["contact_id"]), includes))


def _create(account: Customer, request: Request) -> Answer:
    body = object_of(request)
    _check_source(body, "create_source")
    now_s = account.now_s
    fresh = Contact(account.contacts.new_id(), now_s, now_s)
    contact = _put(account, request, written_over(account, fresh, body), created=True)
    return Answer(201, described(contact, INCLUDES))


def _replace(account: Customer, request: Request) -> Answer:
    body = object_of(request)
    _check_source(body, "update_source")
    before = found(account, request.arguments["contact_id"])
    contact = _put(account, request, written_over(account, before, body), created=False)
    return Answer(200, described(contact, INCLUDES))


def _delete(account: Customer, request: Request) -> Answer:
    contact = found(account, request.arguments["contact_id"])
    touches = account.settings.deletion_updates
    deleted = account.contacts.delete(contact, account.now_s, touches=touches)
    tell(account, request.endpoint, deleted, created=False)
    return Answer(204)


def _sign_up(account: Customer, request: Request) -> Answer:
    """Make or change by address: only what is there is changed, lists are added."""
    body = object_of(request)
    address, lists = body.get("email_address"), body.get("list_memberships")
    if not isinstance(address, str) or "@" not in address:
        message = "email_address is invalid"
        raise invalid(message)
    if not isinstance(lists, list) or not lists:
        message = "list_memberships is missing"
        raise invalid(message)
    before = account.contacts.by_email(address)
    contact = _signed_up(account, before, address, body)
    _put(account, request, contact, created=before is None)
    action = "created" if before is None else "updated"
    told = {"contact_id": contact.id, "action": action}
    return Answer(201 if before is None else 200, told)


def _signed_up(
    account: Customer, before: Contact | None, address: str, body: Mapping[str, Any]
) -> Contact:
    now_s = account.now_s
    contact = before or Contact(
        account.contacts.new_id(), now_s, now_s, Address(address, created_s=now_s)
    )
    core = {name: body[name] for name in CORE if body.get(name)}
    fields = {each["custom_field_id"]: dict(each) for each in body.get("custom_fields", [])}
    added = {"list_memberships": [*contact.lists, *body["list_memberships"]]}
    contact = replace(
        contact,
        core={**contact.core, **core},
        custom_fields={**contact.custom_fields, **fields},
        updated_s=now_s,
        deleted_s=None,
    )
    return with_parts(account, contact, added)


def _check_source(body: Mapping[str, Any], name: str) -> None:
    if body.get(name) not in SOURCES:
        missing = f"{name} is missing, " if name not in body else ""
        message = f"{missing}{name} does not have a valid value"
        raise invalid(message)


def _put(account: Customer, request: Request, contact: Contact, *, created: bool) -> Contact:
    try:
        stored = account.contacts.put(contact)
    except EmailTakenError as taken:
        message = f"Validation failed: Email already exists for contact {taken.contact_id}"
        raise conflict(message) from taken
    tell(account, request.endpoint, stored, created=created)
    return stored


def tell(account: Customer, endpoint: str, contact: Contact, *, created: bool) -> None:
    """Remember a write through the API."""
    account.writes.add(
        endpoint,
        identity=contact.email.address if contact.email else None,
        attributes=contact.core,
        contact_id=contact.id,
        created=created,
    )
