"""Google's own part of the control interface: contacts, groups, and the whole state back.

What is put in here is not checked as the API checks it. `properties` of a contact are those of the
provider's resource (`names`, `emailAddresses`, …), with `email` for its one address; a list is a
contact group, by id or name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sandbox.control import parsed
from sandbox.exchange import Answer, Request, Routes
from sandbox.google_contacts.bodies import completed, described
from sandbox.google_contacts.contacts import FIELDS, Contact, Parts
from sandbox.google_contacts.groups import Group, Groups
from sandbox.google_contacts.groups import described as described_group
from sandbox.google_contacts.groups_api import delete_group, join, leave
from sandbox.google_contacts.oauth_api import issued
from sandbox.google_contacts.state import Customer, State
from sandbox.google_contacts.tokens import ALL_SCOPES, Grant
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

SHOWN = tuple(each for each in FIELDS if each != "metadata")


class Change(Selection, frozen=True):
    kind: str = "fields"  # Or "email".


class NewTokens(Wish, frozen=True):
    scopes: Sequence[str] = ALL_SCOPES


def register(routes: Routes[Customer], state: State) -> None:
    """Add Google's control calls."""
    for method, path, handler in (
        ("POST", "contacts:fill", _fill),
        ("POST", "contacts:change", _change),
        ("POST", "contacts:delete", _delete),
        ("POST", "contacts:upsert", _upsert),
        ("POST", "contacts:rename", _rename),
        ("POST", "lists", _create_group),
        ("POST", "lists/{list}:join", _join),
        ("POST", "lists/{list}:leave", _leave),
        ("POST", "lists/{list}:delete", _delete_group),
        ("POST", "sync-tokens:expire", _expire),
        ("GET", "state", _state),
    ):
        routes.add(method, f"/_sandbox/{path}")(handler)

    @routes.add("POST", "/_sandbox/tokens")
    def tokens(account: Customer, request: Request) -> Answer:
        """Grant the application access, as if a person had been through the page."""
        now_s = state.clock.now_s()
        grant = Grant(account.id, tuple(parsed(request, NewTokens).scopes), now_s, now_s)
        return Answer(200, issued(state, grant, state.tokens.grant(grant)))

    @routes.add("POST", "/_sandbox/app:uninstall")
    def uninstall(account: Customer, request: Request) -> Answer:
        """Take access back from the application, as the account's owner would."""
        state.tokens.revoke(account.id)
        return Answer(204)


def _fill(account: Customer, request: Request) -> Answer:
    wish = parsed(request, Fill)
    taken = {each.email for each in account.contacts.live}
    found = crowd(wish, account.seed, taken.__contains__)
    group = _group_made(account, wish.list)
    groups = ("myContacts", *((group.id,) if group else ()))
    filled = Filled()
    for person in found:
        made = Contact(account.contacts.new_id(), 0, 0, _parts_of(person), groups)
        contact = account.contacts.put(made, account.now_us)
        filled.add(contact.id, person)
        if person.invalid:
            account.invalid_ids.add(contact.id)
    return Answer(200, filled.told(group.id if group else None))


def _parts_of(person: Person) -> Parts:
    year, month, day = map(int, person.birthday.split("-"))
    parts: dict[str, list[Mapping[str, Any]]] = {
        "names": [{"givenName": person.first_name, "familyName": person.last_name}],
        "birthdays": [{"date": {"year": year, "month": month, "day": day}}],
        "addresses": [{"type": "home", "city": person.city, "countryCode": person.country}],
    }
    if person.email is not None:
        parts["emailAddresses"] = [{"value": person.email, "type": "work"}]
    if person.phone:
        parts["phoneNumbers"] = [{"value": person.phone, "type": "mobile"}]
    if person.company:
        parts["organizations"] = [{"name": person.company, "current": True}]
    return _completed(parts)


def _completed(parts: Mapping[str, Sequence[Mapping[str, Any]]]) -> Parts:
    return {name: [completed(name, each) for each in values] for name, values in parts.items()}


def _change(account: Customer, request: Request) -> Answer:
    wish = parsed(request, Change)
    if wish.kind not in {"fields", "email"}:
        message = 'kind must be "fields" or "email"'
        raise ControlError(message)
    found = _chosen(account, wish)
    account.edits += 1
    edit = _moved if wish.kind == "email" else _edited
    for contact in found:
        account.contacts.put(edit(contact, account.edits), account.now_us)
    return Answer(200, {"ids": [each.id for each in found]})


def _moved(contact: Contact, number: int) -> Contact:
    local, _, domain = (contact.email or f"nobody@{contact.id}.example.com").partition("@")
    value = f"moved{number}.{local}@{domain}"
    return replace(contact, parts={**contact.parts, "emailAddresses": [{"value": value}]})


def _edited(contact: Contact, number: int) -> Contact:
    """Return a contact with a mark in its names, its company and its city."""
    parts = dict(contact.parts)
    for name, keys in (
        ("names", ("givenName", "familyName")),
        ("organizations", ("name",)),
        ("addresses", ("city",)),
    ):
        first, *others = parts.get(name) or [{}]
        edited = {key: marked(first.get(key), number) for key in keys}
        parts[name] = [{**first, **edited}, *others]
    return replace(contact, parts=parts)


def _delete(account: Customer, request: Request) -> Answer:
    found = _chosen(account, parsed(request, Selection))
    for contact in found:
        account.contacts.delete(contact, account.now_us)
    return Answer(200, {"ids": [each.id for each in found]})


def _upsert(account: Customer, request: Request) -> Answer:
    wish = parsed(request, Upsert)
    group = _group_made(account, wish.list)
    ids = [_upserted(account, each).id for each in wish.contacts]
    if group:
        join(account, group, ids)
    return Answer(200, {"ids": ids, "list_id": group.id if group else None})


def _upserted(account: Customer, wish: WishedContact) -> Contact:
    """Change the contact with this id or else this address; make it if it is not there."""
    given = dict(wish.properties)
    email = given.pop("email", None)
    unknown = sorted(set(given) - set(SHOWN))
    if unknown:
        message = f"a contact has no properties {', '.join(unknown)}"
        raise ControlError(message)
    found = account.contacts.by_id.get(wish.id) if wish.id else None
    if found is None and email and wish.id is None:
        found = account.contacts.by_email(email)
    contact = found or Contact(wish.id or account.contacts.new_id(), 0, 0)
    if email is not None:
        given["emailAddresses"] = [{"value": email}]
    parts = {**contact.parts, **_completed(given)}
    groups = contact.groups or ("myContacts",)
    changed = replace(contact, parts=parts, groups=groups, is_deleted=False)
    return account.contacts.put(changed, account.now_us)


def _rename(account: Customer, request: Request) -> Answer:
    """Give contacts other resource names; return the new ones."""
    found = _chosen(account, parsed(request, Selection))
    renamed = [account.contacts.rename(each, account.now_us).id for each in found]
    return Answer(200, {"ids": renamed, "before": [each.id for each in found]})


def _create_group(account: Customer, request: Request) -> Answer:
    name = parsed(request, NewList).name
    if account.groups.by_name(name):
        message = f"there is a group {name} already"
        raise ControlError(message)
    return Answer(201, {"list_id": account.groups.create(name).id})


def _join(account: Customer, request: Request) -> Answer:
    group, ids = _named(account, request), _live_ids(account, request)
    return Answer(200, {"ids": join(account, group, ids)})


def _leave(account: Customer, request: Request) -> Answer:
    group, ids = _named(account, request), _live_ids(account, request)
    kept = leave(account, group, ids)
    return Answer(200, {"ids": [each for each in ids if each not in kept]})


def _live_ids(account: Customer, request: Request) -> list[str]:
    return [_live(account, each).id for each in parsed(request, Members).ids]


def _delete_group(account: Customer, request: Request) -> Answer:
    delete_group(account, _named(account, request))
    return Answer(204)


def _expire(account: Customer, request: Request) -> Answer:
    """Let every sync token that was given until now be too old."""
    account.sync_tokens_since_s = account.clock.now_s() + 1e-6
    return Answer(204)


def _state(account: Customer, request: Request) -> Answer:
    contacts = account.contacts.by_id.values()
    members = {
        group.id: [each.id for each in account.contacts.live if group.id in each.groups]
        for group in account.groups.live
    }
    return Answer(
        200,
        {
            "account": account.id,
            "contacts": [
                {**described(each, SHOWN), "id": each.id, "deleted": each.is_deleted}
                for each in contacts
            ],
            "lists": [
                {**described_group(each, len(members[each.id])), "members": members[each.id]}
                for each in account.groups.live
            ],
            "invalid_ids": sorted(account.invalid_ids),
        },
    )


def _chosen(account: Customer, wish: Selection) -> list[Contact]:
    """Return the contacts that a selection means, in the order they were made."""
    valid = [each for each in account.contacts.live if each.id not in account.invalid_ids]
    return chosen(wish, valid, lambda each: _live(account, each))


def _live(account: Customer, contact_id: str) -> Contact:
    contact = account.contacts.found(contact_id)
    if contact is None:
        message = f"there is no contact {contact_id}"
        raise ControlError(message)
    return contact


def _named(account: Customer, request: Request) -> Group:
    """Return the group that the path names by id or by name."""
    name = request.arguments["list"]
    group = account.groups.found(name) or account.groups.by_name(name)
    if group is None:
        message = f"there is no group {name}"
        raise ControlError(message)
    return group


def _group_made(account: Customer, name: str | None) -> Group | None:
    groups: Groups = account.groups
    return None if name is None else groups.by_name(name) or groups.create(name)
