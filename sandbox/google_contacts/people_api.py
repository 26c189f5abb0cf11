"""People one by one and in batches: read, made, changed, deleted."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sandbox.exchange import Answer, Request, Routes
from sandbox.google_contacts.bodies import WRITABLE, described, groups_of, mask_of, parts_of
from sandbox.google_contacts.contacts import Contact
from sandbox.google_contacts.errors import (
    NOT_FOUND,
    failed_precondition,
    invalid,
    not_found,
)
from sandbox.google_contacts.state import Customer
from sandbox.google_contacts.tokens import CONTACTS, EMAIL, PROFILE, READ_CONTACTS

BATCH_MAX = 200
READS = {"scopes": (READ_CONTACTS,), "buckets": ("critical_reads",)}
WRITES = {"scopes": (CONTACTS,), "buckets": ("critical_writes", "critical_reads", "daily_writes")}


def register(routes: Routes[Customer]) -> None:
    """Add the endpoints about people."""
    own = {"scopes": (READ_CONTACTS, EMAIL, PROFILE), "buckets": ("critical_reads",)}
    routes.add("GET", "/v1/people/me", **own)(_me)
    routes.add("GET", "/v1/people/{person_id}", **READS)(_read)
    routes.add("GET", "/v1/people:batchGet", **READS)(_read_batch)
    routes.add("POST", "/v1/people:createContact", **WRITES)(_create)
    routes.add("PATCH", "/v1/people/{person_id}:updateContact", **WRITES)(_update)
    deletes = {"scopes": (CONTACTS,), "buckets": ("writes",)}
    routes.add("DELETE", "/v1/people/{person_id}:deleteContact", **deletes)(_delete)


def _me(account: Customer, request: Request) -> Answer:
    names = mask_of(request.parameter("personFields"))
    told: dict[str, Any] = {"resourceName": f"people/{account.id}", "etag": "%EgcBAgk3PT4uGgQB"}
    source = {"type": "PROFILE", "id": account.id}
    if "metadata" in names:
        told["metadata"] = {"sources": [source], "objectType": "PERSON"}
    shown = {"metadata": {"primary": True, "source": source}}
    if "names" in names:
        told["names"] = [{**shown, "displayName": account.name}]
    if "emailAddresses" in names:
        told["emailAddresses"] = [{**shown, "value": "owner@example.com"}]
    return Answer(200, told)


def _read(account: Customer, request: Request) -> Answer:
    names = mask_of(request.parameter("personFields"))
    return Answer(200, described(_found(account, request), names))


def _read_batch(account: Customer, request: Request) -> Answer:
    """Return people in the order asked; one that is not there has a status of its own."""
    names = mask_of(request.parameter("personFields"))
    wanted = request.query.get("resourceNames", [])
    if not 1 <= len(wanted) <= BATCH_MAX or not all(e.startswith("people/") for e in wanted):
        raise invalid()
    return Answer(200, {"responses": [_response(account, each, names) for each in wanted]})


def _response(account: Customer, name: str, names: list[str]) -> dict[str, Any]:
    contact = account.contacts.found(name.removeprefix("people/"))
    if contact is None:
        status = {"code": 5, "message": NOT_FOUND}
        return {"httpStatusCode": 404, "requestedResourceName": name, "status": status}
    person = described(contact, names)
    return {"httpStatusCode": 200, "person": person, "requestedResourceName": name, "status": {}}


def _create(account: Customer, request: Request) -> Answer:
    body = object_of(request)
    names = mask_of(request.parameter("personFields", "metadata"))
    given = [name for name in body if name in WRITABLE and name != "memberships"]
    groups = groups_of(account, body) or ("myContacts",)
    made = Contact(account.contacts.new_id(), 0, 0, parts_of(body, given), groups)
    contact = account.contacts.put(made, account.now_us)
    tell(account, request, contact, created=True)
    return Answer(200, described(contact, {*names, *given, "metadata", "memberships"}))


def _update(account: Customer, request: Request) -> Answer:
    """Replace the fields of a mask; refused if the contact changed since it was read."""
    contact = _found(account, request)
    body = object_of(request)
    names = mask_of(request.parameter("updatePersonFields"), "updatePersonFields")
    if set(names) - WRITABLE:
        raise invalid()
    sources = _dict(body.get("metadata")).get("sources")
    if not isinstance(sources, list) or not sources:
        message = "Request must set person.metadata.sources."
        raise invalid(message)
    etags = [body.get("etag"), *(_dict(each).get("etag") for each in sources)]
    if {str(each) for each in etags if each is not None} - {
        contact.etag,
        f"#{contact.etag[3:14]}=",
    }:
        message = (
            "Request person.etag is different than the current person.etag. Clear local cache and"
            " get the latest person."
        )
        raise failed_precondition(message)
    groups = groups_of(account, body) if "memberships" in names else contact.groups
    if not groups:
        message = "A contact must have at least one contact group membership."
        raise invalid(message)
    parts = {**contact.parts, **parts_of(body, [each for each in names if each != "memberships"])}
    changed = account.contacts.put(replace(contact, parts=parts, groups=groups), account.now_us)
    tell(account, request, changed, created=False)
    shown = mask_of(request.parameter("personFields", ",".join(names)))
    return Answer(200, described(changed, {*shown, "metadata"}))


def _delete(account: Customer, request: Request) -> Answer:
    contact = account.contacts.delete(_found(account, request), account.now_us)
    tell(account, request, contact, created=False)
    return Answer(200, {})


def tell(account: Customer, request: Request, contact: Contact, *, created: bool) -> None:
    """Remember a write through the API."""
    account.writes.add(
        request.endpoint,
        identity=contact.email,
        attributes=contact.parts,
        contact_id=contact.id,
        created=created,
    )


def object_of(request: Request) -> dict[str, Any]:
    """Return the body, which must be an object."""
    if not isinstance(request.json, dict):
        raise invalid()
    return request.json


def _dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _found(account: Customer, request: Request) -> Contact:
    contact = account.contacts.found(request.arguments["person_id"])
    if contact is None:
        raise not_found()
    return contact
