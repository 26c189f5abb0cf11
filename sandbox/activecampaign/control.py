"""/_sandbox/ for ActiveCampaign: fill, change, delete, unsubscribe, and read the state back.

These calls do what the account's own people and its contacts would do: they are not limited, not
counted, not remembered as writes, and set nothing off.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from sandbox.activecampaign import contact_routes, field_routes, values
from sandbox.activecampaign.account import ActiveCampaignAccount, key_of
from sandbox.activecampaign.contacts import ACTIVE, Change, Contact
from sandbox.activecampaign.triggers import Cause
from sandbox.control import parsed
from sandbox.exchange import Answer, Request, Routes
from sandbox.people import people
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

Account = ActiveCampaignAccount
_PLAIN = {"FIRSTNAME": "first_name", "LASTNAME": "last_name", "PHONE": "phone"}


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """A contact as a test wants it: `attributes` by personalisation tag."""

    id: int | None = None
    email: str | None = None
    attributes: dict[str, str] = {}
    is_bounced: bool | None = msgspec.field(default=None, name="bounced")


class Upsert(msgspec.Struct, forbid_unknown_fields=True):
    contacts: list[Wanted]
    list: str | None = None


class Emails(msgspec.Struct, forbid_unknown_fields=True):
    emails: list[str]


def register(routes: Routes[Account]) -> None:
    routes.add("POST", "/_sandbox/contacts:fill")(_fill)
    routes.add("POST", "/_sandbox/contacts:change")(_change)
    routes.add("POST", "/_sandbox/contacts:delete")(_delete)
    routes.add("POST", "/_sandbox/contacts:upsert")(_upsert)
    routes.add("POST", "/_sandbox/contacts:block")(_block)
    routes.add("POST", "/_sandbox/contacts:exclude")(_exclude)
    routes.add("POST", "/_sandbox/lists/{name}:join")(_join)
    routes.add("POST", "/_sandbox/lists/{name}:leave")(_leave)
    routes.add("POST", "/_sandbox/keys")(_add_key)
    routes.add("GET", "/_sandbox/state")(_state)


def _fill(account: Account, request: Request) -> Answer:
    """Add people, or change those that are there; nobody can be kept without an address."""
    account.settle()
    wanted = parsed(request, NumberedFill)
    list_id = _made_list(account, wanted.list)
    ids: list[int] = []
    invalid_ids: dict[str, list[int]] = {}
    for person in people(wanted.count, seed=wanted.seed, invalid_share=wanted.invalid_share):
        if person.email is None:
            continue
        change = Change(
            first_name=person.first_name, last_name=person.last_name, phone=person.phone or ""
        )
        contact = _put(account, person.email.lower(), change, list_id)
        ids.append(contact.id)
        if person.invalid is not None:
            invalid_ids.setdefault(person.invalid.value, []).append(contact.id)
    told = {"count": len(ids), "list_id": list_id, "ids": ids, "invalid_ids": invalid_ids}
    return Answer(200, told)


def _put(account: Account, email: str, change: Change, list_id: int | None) -> Contact:
    contact = account.contacts.owner(email)
    if contact is None:
        contact = account.contacts.create(email, change, Cause.silent())
    else:
        account.contacts.apply(contact, change, Cause.silent())
    if list_id is not None:
        account.contacts.subscribe(contact, list_id, Cause.silent())
    return contact


def _made_list(account: Account, name: str | None) -> int | None:
    """Return the id of the list with a name, which is made if it is not there; None for None."""
    if name is None:
        return None
    return (account.lists.named(name) or account.lists.add(name, account.now_s)).id


def _change(account: Account, request: Request) -> Answer:
    account.settle()
    wanted = parsed(request, NumberedChange)
    valid = [each for each in account.contacts if values.email(each.email)]
    found = chosen(wanted, valid, lambda each: _get(account, each))
    for contact in found:
        mark = f"{wanted.seed}-{contact.id}"
        change = Change(first_name=f"Changed {mark}", last_name=f"Changed {mark}")
        if wanted.kind == "email":
            change = Change(email=f"changed.{mark}@example.com")
        account.contacts.apply(contact, change, Cause.silent())
    return Answer(200, {"ids": [contact.id for contact in found]})


def _delete(account: Account, request: Request) -> Answer:
    account.settle()
    wanted = parsed(request, NumberedSelection)
    found = chosen(wanted, list(account.contacts), lambda each: _get(account, each))
    for contact in found:
        account.contacts.delete(contact)
    return Answer(200, {"ids": [contact.id for contact in found]})


def _get(account: Account, contact_id: int) -> Contact:
    contact = account.contacts.get(contact_id)
    if contact is None:
        message = f"there is no contact {contact_id}"
        raise ControlError(message)
    return contact


def _upsert(account: Account, request: Request) -> Answer:
    account.settle()
    wanted = parsed(request, Upsert)
    list_id = _made_list(account, wanted.list)
    ids = [_set(account, each, list_id).id for each in wanted.contacts]
    return Answer(200, {"ids": ids, "list_id": list_id})


def _set(account: Account, wanted: Wanted, list_id: int | None) -> Contact:
    given = dict(wanted.attributes)
    plain = {ours: given.pop(name) for name, ours in _PLAIN.items() if name in given}
    fields = {name: account.fields.tagged(name) for name in given}
    absent = [name for name, each in fields.items() if each is None]
    if absent:
        message = f"this account has no field {', '.join(absent)}"
        raise ControlError(message)
    chosen = {each.id: given[name] for name, each in fields.items() if each is not None}
    change = Change(values=chosen, **plain)
    if wanted.id is not None:
        contact = _get(account, wanted.id)
        change.email = wanted.email and wanted.email.lower()
        account.contacts.apply(contact, change, Cause.silent())
    elif wanted.email:
        contact = _put(account, wanted.email.lower(), change, list_id)
    else:
        message = "a contact has an id or an email"
        raise ControlError(message)
    if wanted.is_bounced is not None:
        contact.is_bounced = wanted.is_bounced
    return contact


def _block(account: Account, request: Request) -> Answer:
    """Unsubscribe people, as they would by the link in a mail."""
    account.settle()
    wanted = parsed(request, Unsubscription)
    list_ids = [each.id for each in account.lists]
    if wanted.list is not None:
        list_ids = [list_id_of(account.lists, str(wanted.list))]
    for contact in [_named(account, email) for email in wanted.emails]:
        for list_id in list_ids:
            account.contacts.unsubscribe(contact, list_id, Cause.silent())
    return Answer(200, {"blocked": len(wanted.emails)})


def _named(account: Account, email: str) -> Contact:
    contact = account.contacts.owner(email)
    if contact is None:
        message = f"there is no contact {email}"
        raise ControlError(message)
    return contact


def _exclude(account: Account, request: Request) -> Answer:
    """Put addresses on the exclusion list: the importer skips them."""
    account.excluded |= {email.lower() for email in parsed(request, Emails).emails}
    return Answer(200, {"excluded": sorted(account.excluded)})


def _join(account: Account, request: Request) -> Answer:
    list_id = list_id_of(account.lists, request.arguments["name"])
    contacts = [_get(account, contact_id) for contact_id in parsed(request, NumberedMembers).ids]
    for contact in contacts:
        account.contacts.subscribe(contact, list_id, Cause.silent())
    return Answer(200, {"ids": [contact.id for contact in contacts]})


def _leave(account: Account, request: Request) -> Answer:
    list_id = list_id_of(account.lists, request.arguments["name"])
    contacts = [_get(account, contact_id) for contact_id in parsed(request, NumberedMembers).ids]
    for contact in contacts:
        account.contacts.unsubscribe(contact, list_id, Cause.silent())
    return Answer(200, {"ids": [contact.id for contact in contacts]})


def _add_key(account: Account, request: Request) -> Answer:
    """Give the account one more user, with a key of its own."""
    account.keys.append(key_of(account.name, len(account.keys) + 1))
    return Answer(201, {"api_key": account.keys[-1]})


def _state(account: Account, request: Request) -> Answer:
    account.settle()
    return Answer(
        200,
        {
            "account": {"id": account.id, "name": account.name, "host": account.host},
            "contacts": list(_contacts(account)),
            "lists": [
                {
                    "id": each.id,
                    "name": each.name,
                    "members": _members(account, each.id),
                    "sends_last_broadcast": each.sends_last_broadcast,
                }
                for each in account.lists
            ],
            "fields": [field_routes.shown(each) for each in account.fields],
            "tags": [{"id": each.id, "tag": each.name} for each in account.tags],
            "resubscribed": account.contacts.resubscribed,
            "triggered": dict(account.triggers.counts),
            "last_triggered": account.triggers.last,
            "imports": [
                {
                    "id": each.id,
                    "status": each.status_at(account.now_s),
                    "rows": len(each.rows),
                    "success": len(each.success),
                    "failure": each.failure,
                    "left_out": each.left_out,
                }
                for each in account.batches.values()
            ],
        },
    )


def _members(account: Account, list_id: int) -> list[int]:
    everyone = account.contacts.on_list(list_id)
    return [each.id for each in everyone if each.status(list_id) == ACTIVE]


def _contacts(account: Account) -> Iterable[dict[str, Any]]:
    """Show contacts with names that the other providers' states have as well."""
    for contact in account.contacts:
        statuses = {each.list_id: each.status for each in contact.memberships.values()}
        yield {
            "id": contact.id,
            "email": contact.email,
            "attributes": contact_routes.attributes_of(account, contact),
            "tags": [account.tags.get(each).name for each in contact.tags],
            "statuses": {str(list_id): status for list_id, status in statuses.items()},
            "listIds": [list_id for list_id, status in statuses.items() if status == ACTIVE],
            "emailBlacklisted": contact.is_unsubscribed,
            "version": contact.version,
        }
