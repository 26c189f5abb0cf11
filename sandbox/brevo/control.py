"""/_sandbox/ for Brevo: fill, change, delete, block, and read the whole state back.

These calls do what the account's own people would do in Brevo's pages: they are not limited, not
counted and not remembered as writes, and they may store what the interface would refuse.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from sandbox.brevo import contact_routes, values
from sandbox.brevo.account import BrevoAccount
from sandbox.brevo.attributes import IDENTIFIERS, PHONES
from sandbox.brevo.contacts import Change, Contact
from sandbox.control import parsed
from sandbox.exchange import Answer, Request, Routes
from sandbox.people import Person, people
from sandbox.provider import ControlError
from sandbox.wishes import (
    NumberedChange,
    NumberedFill,
    NumberedMembers,
    NumberedSelection,
    Unsubscription,
    chosen,
    list_id_of,
)


class Edit(NumberedChange, frozen=True):
    properties: Sequence[str] | None = None  # None: the first and the last name.


class Wanted(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """A contact as a test wants it: `attributes` (or `properties`) with EMAIL and all others."""

    id: int | None = None
    attributes: dict[str, Any] | None = None
    properties: dict[str, Any] | None = None
    email: str | None = None
    email_blacklisted: bool | None = None


class Upsert(msgspec.Struct, forbid_unknown_fields=True):
    contacts: list[Wanted]
    list: str | None = None


def register(routes: Routes[BrevoAccount]) -> None:
    routes.add("POST", "/_sandbox/contacts:fill")(_fill)
    routes.add("POST", "/_sandbox/contacts:change")(_change)
    routes.add("POST", "/_sandbox/contacts:delete")(_delete)
    routes.add("POST", "/_sandbox/contacts:upsert")(_upsert)
    routes.add("POST", "/_sandbox/contacts:block")(_block)
    routes.add("POST", "/_sandbox/lists/{name}:join")(_join)
    routes.add("POST", "/_sandbox/lists/{name}:leave")(_leave)
    routes.add("GET", "/_sandbox/state")(_state)


def _fill(account: BrevoAccount, request: Request) -> Answer:
    wanted = parsed(request, NumberedFill)
    list_ids = _list_ids(account, wanted.list)
    ids: list[int] = []
    invalid_ids: dict[str, list[int]] = {}
    for number, person in enumerate(
        people(wanted.count, seed=wanted.seed, invalid_share=wanted.invalid_share)
    ):
        contact = _add_person(account, person, list_ids, f"person-{wanted.seed}-{number}")
        ids.append(contact.id)
        if person.invalid is not None:
            invalid_ids.setdefault(person.invalid.value, []).append(contact.id)
    return Answer(
        200,
        {
            "count": len(ids),
            "list_id": list_ids[0] if list_ids else None,
            "ids": ids,
            "invalid_ids": invalid_ids,
        },
    )


def _add_person(
    account: BrevoAccount, person: Person, list_ids: Sequence[int], ext_id: str
) -> Contact:
    """Add a person, or change the one with that address: a fill can be repeated."""
    identifiers = {"EMAIL": person.email} if person.email else {"EXT_ID": ext_id}
    phone = values.phone(person.phone or "") or (person.phone if person.invalid else None)
    if phone and account.contacts.owner("SMS", phone) is None:
        identifiers["SMS"] = phone
    first, last = _name_attributes(account)
    attributes = {first: person.first_name, last: person.last_name}
    change = Change(identifiers, attributes, list_ids)
    kind, value = next(iter(identifiers.items()))
    existing = account.contacts.owner(kind, value)
    if existing is None:
        return account.contacts.create(change)
    account.contacts.apply(existing, change)
    return existing


def _name_attributes(account: BrevoAccount) -> list[str]:
    """Return the account's names of first and last name: they depend on its language."""
    return [attribute.name for attribute in account.attributes][:2]


def _list_ids(account: BrevoAccount, name: str | None) -> list[int]:
    """Return the id of the list with a name, which is made if it is not there; none for None."""
    if name is None:
        return []
    found = account.lists.named(name)
    if found is None:
        folder = next(iter(account.lists.folders), None) or account.lists.create_folder(name)
        found = account.lists.create(name, folder.id, account.now_us())
    return [found.id]


def _change(account: BrevoAccount, request: Request) -> Answer:
    wanted = parsed(request, Edit)
    names = wanted.properties or _name_attributes(account)
    for name in names:
        attribute = account.attributes.get(name)
        if attribute is None or attribute.type != "text" or name in IDENTIFIERS:
            message = f"{name} is no plain text attribute of this account"
            raise ControlError(message)
    valid = [each for each in account.contacts if each.email and values.email(each.email)]
    found = chosen(wanted, valid, lambda each: _get(account, each))
    for contact in found:
        mark = f"{wanted.seed}-{contact.id}"
        if wanted.kind == "email":
            change = Change({"EMAIL": f"changed.{mark}@example.com"})
        else:
            change = Change(attributes=dict.fromkeys(names, f"Changed {mark}"))
        _apply(account, contact, change)
    return Answer(200, {"ids": [contact.id for contact in found]})


def _apply(account: BrevoAccount, contact: Contact, change: Change) -> None:
    clashes = account.contacts.clashes(change.identifiers, contact)
    if clashes:
        message = f"contact {contact.id}: {', '.join(clashes)} belongs to another contact"
        raise ControlError(message)
    account.contacts.apply(contact, change)


def _delete(account: BrevoAccount, request: Request) -> Answer:
    wanted = parsed(request, NumberedSelection)
    found = chosen(wanted, list(account.contacts), lambda each: _get(account, each))
    for contact in found:
        account.contacts.delete(contact)
    return Answer(200, {"ids": [contact.id for contact in found]})


def _get(account: BrevoAccount, contact_id: int) -> Contact:
    contact = account.contacts.get(contact_id)
    if contact is None:
        message = f"there is no contact {contact_id}"
        raise ControlError(message)
    return contact


def _upsert(account: BrevoAccount, request: Request) -> Answer:
    wanted = parsed(request, Upsert)
    list_ids = _list_ids(account, wanted.list)
    ids = [_set(account, each, list_ids) for each in wanted.contacts]
    return Answer(200, {"ids": ids, "list_id": list_ids[0] if list_ids else None})


def _set(account: BrevoAccount, wanted: Wanted, list_ids: Sequence[int]) -> int:
    given = {**(wanted.properties or {}), **(wanted.attributes or {})}
    if wanted.email is not None:
        given["EMAIL"] = wanted.email
    unknown = [name for name in given if name != "EMAIL" and account.attributes.get(name) is None]
    if unknown:
        message = f"this account has no attribute {', '.join(unknown)}"
        raise ControlError(message)
    identifiers = {name: _kept(name, given.pop(name)) for name in IDENTIFIERS if name in given}
    change = Change(identifiers, given, list_ids, email_blacklisted=wanted.email_blacklisted)
    contact = _found(account, wanted.id, identifiers)
    if contact is not None:
        _apply(account, contact, change)
        return contact.id
    clashes = account.contacts.clashes(identifiers, None)
    if clashes or not any(identifiers.values()):
        message = (
            f"a new contact needs an identifier of its own, not {', '.join(clashes) or 'none'}"
        )
        raise ControlError(message)
    return account.contacts.create(change).id


def _kept(kind: str, value: Any) -> str:
    """Return an identifier as Brevo would keep it, or as it is if Brevo would not take it."""
    text = str(value)
    normal = values.email(text) if kind == "EMAIL" else None
    return normal or (values.phone(text) if kind in PHONES else None) or text


def _found(
    account: BrevoAccount, contact_id: int | None, identifiers: dict[str, str]
) -> Contact | None:
    if contact_id is not None:
        return _get(account, contact_id)
    for kind in ("EMAIL", "EXT_ID", "SMS"):
        if identifiers.get(kind):
            return account.contacts.owner(kind, identifiers[kind])
    return None


def _block(account: BrevoAccount, request: Request) -> Answer:
    """Unsubscribe people, as they would by the link in a mail."""
    wanted = parsed(request, Unsubscription)
    list_id = None if wanted.list is None else list_id_of(account.lists, str(wanted.list))
    found = [(email, account.contacts.owner("EMAIL", email.lower())) for email in wanted.emails]
    absent = [email for email, contact in found if contact is None]
    if absent:
        message = f"there is no contact {', '.join(absent)}"
        raise ControlError(message)
    for _, contact in found:
        assert contact is not None, "the absent were refused"
        if list_id is None:
            account.contacts.block(contact)
        else:
            account.contacts.unsubscribe(contact, list_id)
    return Answer(200, {"blocked": len(found)})


def _join(account: BrevoAccount, request: Request) -> Answer:
    return _move(account, request, account.contacts.join)


def _leave(account: BrevoAccount, request: Request) -> Answer:
    return _move(account, request, account.contacts.leave)


def _move(account: BrevoAccount, request: Request, step: Callable[[Contact, int], bool]) -> Answer:
    list_id = list_id_of(account.lists, request.arguments["name"])
    contacts = [_get(account, contact_id) for contact_id in parsed(request, NumberedMembers).ids]
    moved = [contact.id for contact in contacts if step(contact, list_id)]
    return Answer(200, {"ids": moved})


def _state(account: BrevoAccount, request: Request) -> Answer:
    return Answer(
        200,
        {
            "account": {"id": account.id, "name": account.name, "tier": account.tier},
            "contacts": list(_contacts(account)),
            "folders": [{"id": each.id, "name": each.name} for each in account.lists.folders],
            "lists": [
                {
                    "id": each.id,
                    "name": each.name,
                    "folder_id": each.folder_id,
                    "members": [contact.id for contact in account.contacts.members(each.id)],
                }
                for each in account.lists
            ],
            "attributes": account.attributes.as_json(),
            "blocklist": [each.identity for each in account.contacts if each.email_blacklisted],
            "resubscribed": account.contacts.resubscribed,
            "rejoined": account.contacts.rejoined,
            "imports": [_import(account, each.id) for each in account.processes.values()],
            "webhooks": [msgspec.to_builtins(each) for each in account.webhooks],
        },
    )


def _contacts(account: BrevoAccount) -> Iterable[dict[str, Any]]:
    for contact in account.contacts:
        shown = contact_routes.shown(account, contact)
        yield {**shown, "version": contact.version}


def _import(account: BrevoAccount, process_id: int) -> dict[str, Any]:
    process = account.processes[process_id]
    return {
        "id": process.id,
        "name": process.name,
        "status": process.status_at(account.clock.now_s()),
        "rows": process.rows,
        "created": process.created,
        "updated": process.updated,
        "left_out": process.left_out,
        "rejected": {report: len(rows) for report, rows in process.rejected.items()},
        "notify_url": process.notify_url,
        "notified": process.notified,
    }
