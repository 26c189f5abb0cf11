"""Constant Contact's own part of the control interface: contacts, lists, and the whole state back.

What is put in here is not checked as the API checks it: a test may make contacts that no API would
take. `properties` of a contact are those of the provider's resource, with `email` for its address.
"""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sandbox.constant_contact.bodies import INCLUDES, described, with_parts
from sandbox.constant_contact.contacts import (
    CORE,
    UNSUBSCRIBED,
    Address,
    Contact,
    EmailTakenError,
)
from sandbox.constant_contact.lists import ContactList
from sandbox.constant_contact.lists import described as described_list
from sandbox.constant_contact.memberships import join, leave
from sandbox.constant_contact.oauth_api import issued
from sandbox.constant_contact.state import Customer, State
from sandbox.constant_contact.tokens import ALL_SCOPES, CLIENT_ID, OFFLINE, Grant
from sandbox.control import parsed
from sandbox.exchange import Answer, Request, Routes
from sandbox.people import Person
from sandbox.provider import ControlError
from sandbox.wishes import (
    Fill,
    Filled,
    Members,
    NewList,
    Selection,
    Upsert,
    Wish,
    WishedContact,
    chosen,
    crowd,
    marked,
)

EDITED = ("first_name", "last_name", "company_name", "city")
PARTS = ("phone_numbers", "street_addresses", "custom_fields")


class Change(Selection, frozen=True):
    properties: Sequence[str] = EDITED
    kind: str = "fields"  # Or "email".


class Block(Wish, frozen=True):
    emails: Sequence[str]


class FieldLabel(Wish, frozen=True):
    label: str


class NewTokens(Wish, frozen=True):
    scopes: Sequence[str] = ALL_SCOPES
    client_id: str = CLIENT_ID


class NewApplication(Wish, frozen=True):
    client_id: str
    client_secret: str


def register(routes: Routes[Customer], state: State) -> None:
    """Add Constant Contact's control calls."""
    for method, path, handler in (
        ("POST", "contacts:fill", _fill),
        ("POST", "contacts:change", _change),
        ("POST", "contacts:delete", _delete),
        ("POST", "contacts:upsert", _upsert),
        ("POST", "contacts:block", _block),
        ("POST", "lists", _create_list),
        ("POST", "lists/{list}:join", _join),
        ("POST", "lists/{list}:leave", _leave),
        ("POST", "lists/{list}:delete", _delete_list),
        ("POST", "lists/{list}:restore", _restore_list),
        ("POST", "fields:delete", _delete_field),
        ("GET", "state", _state),
    ):
        routes.add(method, f"/_sandbox/{path}")(handler)

    @routes.add("POST", "/_sandbox/tokens")
    def tokens(account: Customer, request: Request) -> Answer:
        """Grant the application access, as if a person had been through the page."""
        wish = parsed(request, NewTokens)
        if wish.client_id not in state.applications:
            message = f"there is no application {wish.client_id!r}"
            raise ControlError(message)
        scopes, now_s = tuple(wish.scopes), state.clock.now_s()
        grant = Grant(secrets.token_hex(8), account.id, scopes, now_s, wish.client_id)
        refresh = state.tokens.renew(grant) if OFFLINE in scopes else None
        return Answer(200, issued(state, grant, refresh))

    @routes.add("POST", "/_sandbox/applications")
    def applications(account: Customer, request: Request) -> Answer:
        """Register an application, as a customer would at the developer portal."""
        wish = parsed(request, NewApplication)
        if wish.client_id in state.applications:
            message = f"there is an application {wish.client_id!r} already"
            raise ControlError(message)
        state.add_application(wish.client_id, wish.client_secret)
        return Answer(201, {"client_id": wish.client_id})

    @routes.add("POST", "/_sandbox/app:uninstall")
    def uninstall(account: Customer, request: Request) -> Answer:
        """Take access back from the application, as the account's owner would."""
        state.tokens.revoke(account.id)
        return Answer(204)


def _delete_field(account: Customer, request: Request) -> Answer:
    """Delete a custom field with everybody's value, as the account's own people would."""
    label = parsed(request, FieldLabel).label
    gone = account.custom_fields.by_label(label)
    if gone is None:
        message = f"there is no custom field labelled {label!r}"
        raise ControlError(message)
    del account.custom_fields.by_id[gone.id]
    for contact in list(account.contacts.by_id.values()):
        left = {id_: each for id_, each in contact.custom_fields.items() if id_ != gone.id}
        account.contacts.put(replace(contact, custom_fields=left))
    return Answer(204)


def _fill(account: Customer, request: Request) -> Answer:
    wish = parsed(request, Fill)
    found = crowd(wish, account.seed, account.contacts.by_email)
    which = _list_made(account, wish.list)
    filled = Filled()
    for person in found:
        contact = account.contacts.put(_as_contact(account, person, which))
        filled.add(contact.id, person)
        if person.invalid:
            account.invalid_ids.add(contact.id)
    return Answer(200, filled.told(which.id if which else None))


def _as_contact(account: Customer, person: Person, which: ContactList | None) -> Contact:
    now_s = account.now_s
    core: dict[str, str | int] = {"first_name": person.first_name, "last_name": person.last_name}
    if person.company:
        core["company_name"] = person.company
    _, month, birth_day = person.birthday.split("-")
    core |= {"birthday_month": int(month), "birthday_day": int(birth_day)}
    contact = Contact(
        account.contacts.new_id(),
        now_s,
        now_s,
        Address(person.email, created_s=now_s) if person.email else None,
        core,
        lists=(which.id,) if which else (),
    )
    parts: dict[str, Any] = {
        "street_addresses": [{"kind": "home", "city": person.city, "country": person.country}]
    }
    if person.phone:
        parts["phone_numbers"] = [{"kind": "mobile", "phone_number": person.phone}]
    return with_parts(account, contact, parts)


def _change(account: Customer, request: Request) -> Answer:
    wish = parsed(request, Change)
    unknown = sorted(set(wish.properties) - {*EDITED, "job_title"})
    if wish.kind not in {"fields", "email"} or unknown:
        message = f'kind must be "fields" or "email"; fields that cannot be changed: {unknown}'
        raise ControlError(message)
    ids = _chosen(account, wish)
    account.edits += 1
    for contact in map(account.contacts.by_id.__getitem__, ids):
        edited = _edited(account, contact, wish)
        account.contacts.put(replace(edited, updated_s=account.now_s))
    return Answer(200, {"ids": ids})


def _edited(account: Customer, contact: Contact, wish: Change) -> Contact:
    """Return a contact with changes that no other edit has made to it."""
    number = account.edits
    if wish.kind == "email":
        return replace(contact, email=Address(f"moved{number}.{contact.id}@example.org"))
    core, addresses = dict(contact.core), contact.street_addresses
    for name in wish.properties:
        if name == "city":
            addresses = tuple(
                {**each, "city": marked(each.get("city"), number)} for each in addresses
            )
        else:
            core[name] = marked(core.get(name), number)
    return replace(contact, core=core, street_addresses=addresses)


def _delete(account: Customer, request: Request) -> Answer:
    ids = _chosen(account, parsed(request, Selection))
    touches = account.settings.deletion_updates
    for contact in map(account.contacts.by_id.__getitem__, ids):
        account.contacts.delete(contact, account.now_s, touches=touches)
    return Answer(200, {"ids": ids})


def _upsert(account: Customer, request: Request) -> Answer:
    wish = parsed(request, Upsert)
    which = _list_made(account, wish.list)
    ids = [_upserted(account, each).id for each in wish.contacts]
    if which:
        join(account, ids, [which.id])
    return Answer(200, {"ids": ids, "list_id": which.id if which else None})


def _upserted(account: Customer, wish: WishedContact) -> Contact:
    """Change the contact with this id or else this address; make it if it is not there."""
    unknown = sorted(set(wish.properties) - {*CORE, *PARTS, "email", "sms_channel"})
    if unknown:
        message = f"a contact has no properties {', '.join(unknown)}"
        raise ControlError(message)
    now_s, email = account.now_s, wish.properties.get("email")
    found = account.contacts.by_id.get(wish.id) if wish.id else None
    if found is None and email and wish.id is None:
        found = account.contacts.by_email(email)
    contact = found or Contact(wish.id or account.contacts.new_id(), now_s, now_s)
    named = {name: value for name, value in wish.properties.items() if name in CORE}
    core = {name: value for name, value in {**contact.core, **named}.items() if value is not None}
    contact = replace(contact, core=core, updated_s=now_s, deleted_s=None)
    if "email" in wish.properties:
        contact = replace(contact, email=Address(email, created_s=now_s) if email else None)
    if "sms_channel" in wish.properties:
        contact = replace(contact, sms=wish.properties["sms_channel"])
    parts = {name: wish.properties[name] for name in PARTS if name in wish.properties}
    try:
        return account.contacts.put(with_parts(account, contact, parts))
    except EmailTakenError as taken:
        message = f"contact {taken.contact_id} has the address already"
        raise ControlError(message) from taken


def _block(account: Customer, request: Request) -> Answer:
    """Unsubscribe people, as they would themselves."""
    ids = []
    for email in parsed(request, Block).emails:
        contact = account.contacts.by_email(email)
        if contact is None or contact.email is None:
            message = f"nobody has the address {email}"
            raise ControlError(message)
        out = replace(contact.email, permission=UNSUBSCRIBED, opted_out_s=account.now_s)
        # Who unsubscribes is off every list, and stays in the account.
        account.contacts.put(replace(contact, email=out, lists=(), updated_s=account.now_s))
        ids.append(contact.id)
    return Answer(200, {"ids": ids})


def _create_list(account: Customer, request: Request) -> Answer:
    name = parsed(request, NewList).name
    if account.lists.by_name(name):
        message = f"there is a list {name} already"
        raise ControlError(message)
    return Answer(201, {"list_id": account.lists.create(name, account.now_s).id})


def _join(account: Customer, request: Request) -> Answer:
    which = _named_list(account, request)
    ids = [_live(account, each).id for each in parsed(request, Members).ids]
    return Answer(200, {"ids": join(account, ids, [which.id])})


def _leave(account: Customer, request: Request) -> Answer:
    which = _named_list(account, request)
    ids = [_live(account, each).id for each in parsed(request, Members).ids]
    return Answer(200, {"ids": leave(account, ids, [which.id])})


def _delete_list(account: Customer, request: Request) -> Answer:
    _named_list(account, request).deleted_s = account.now_s
    return Answer(204)


def _restore_list(account: Customer, request: Request) -> Answer:
    _named_list(account, request).deleted_s = None
    return Answer(204)


def _state(account: Customer, request: Request) -> Answer:
    contacts = account.contacts.by_id.values()
    members: dict[str, list[str]] = {each: [] for each in account.lists.by_id}
    for contact in contacts:
        for list_id in contact.lists:
            members[list_id].append(contact.id)
    lists = account.lists.by_id.values()
    return Answer(
        200,
        {
            "account": account.id,
            "contacts": [{**described(each, INCLUDES), "status": each.status} for each in contacts],
            "lists": [
                {**described_list(each, None), "members": members[each.id]} for each in lists
            ],
            "custom_fields": [each.described() for each in account.custom_fields.by_id.values()],
            "activities": [each.described() for each in account.activities.by_id.values()],
            "invalid_ids": sorted(account.invalid_ids),
        },
    )


def _chosen(account: Customer, wish: Selection) -> list[str]:
    """Return the ids that a selection means, in the order they were made."""
    valid = [each for each in account.contacts.live if each.id not in account.invalid_ids]
    return [each.id for each in chosen(wish, valid, lambda each: _live(account, each))]


def _live(account: Customer, contact_id: str) -> Contact:
    contact = account.contacts.by_id.get(contact_id)
    if contact is None or contact.deleted_s is not None:
        message = f"there is no contact {contact_id}"
        raise ControlError(message)
    return contact


def _named_list(account: Customer, request: Request) -> ContactList:
    """Return the list that the path names by id or by name, a deleted one too."""
    name = request.arguments["list"]
    which = account.lists.by_id.get(name) or account.lists.by_name(name)
    if which is None:
        message = f"there is no list {name}"
        raise ControlError(message)
    return which


def _list_made(account: Customer, name: str | None) -> ContactList | None:
    if name is None:
        return None
    return account.lists.by_name(name) or account.lists.create(name, account.now_s)
