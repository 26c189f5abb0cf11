"""/contacts: create, read, change, delete and find contacts, one by one and in batches."""

import re
from collections.abc import Sequence
from itertools import islice
from typing import Any, NoReturn

import msgspec

from sandbox.brevo import errors, reading, values
from sandbox.brevo.account import BrevoAccount
from sandbox.brevo.contacts import Change, Contact, matches
from sandbox.exchange import Answer, Request, Routes

IDS_MAX = 20
CONTACTS_PAGE, CONTACTS_PAGE_MAX = 50, 1000
LIST_PAGE_MAX = 500
NOBODY = 999_999_999  # Beyond what an account of the sandbox ever counts to.
_FILTER = re.compile(r"equals\(\s*([A-Z0-9_-]+)\s*,\s*\"?(.*?)\"?\s*\)")
_STATISTICS = (
    "messagesSent", "opened", "clicked", "hardBounces", "softBounces", "complaints", "delivered",
)  # fmt: skip


class ContactBody(msgspec.Struct, rename="camel"):
    """What a write may say of a contact; absent and null both mean "leave it"."""

    email: str | None = None
    id: int | None = None
    sms: str | int | None = None
    ext_id: str | None = msgspec.field(default=None, name="ext_id")
    attributes: dict[str, Any] | None = None
    email_blacklisted: bool | None = None
    sms_blacklisted: bool | None = None
    list_ids: list[int] | None = None
    unlink_list_ids: list[int] | None = None
    smtp_blacklist_sender: list[str] | None = None
    update_enabled: bool | None = None
    force_merge: bool | None = None
    get_id: bool | None = None


class Batch(msgspec.Struct):
    contacts: list[ContactBody] | None = None


def register(routes: Routes[BrevoAccount]) -> None:
    routes.add("GET", "/v3/contacts")(_list)
    routes.add("POST", "/v3/contacts", claim=_claim_create)(_create)
    routes.add("POST", "/v3/contacts/batch")(_update_batch)
    routes.add("GET", "/v3/contacts/segments")(_segments)
    routes.add("GET", "/v3/contacts/{identifier}")(_read)
    routes.add("PUT", "/v3/contacts/{identifier}")(_update)
    routes.add("DELETE", "/v3/contacts/{identifier}")(_delete)
    routes.add("GET", "/v3/contacts/{identifier}/campaignStats")(_statistics)
    routes.add("GET", "/v3/contacts/lists/{list_id}/contacts")(_list_members)


def shown(account: BrevoAccount, contact: Contact) -> dict[str, Any]:
    """Return a contact as GET shows it; a contact without an address has no `email`."""
    body = {
        "id": contact.id,
        "emailBlacklisted": contact.email_blacklisted,
        "smsBlacklisted": contact.sms_blacklisted,
        "whatsappBlacklisted": False,
        "createdAt": account.shown_time(contact.created_us),
        "modifiedAt": account.shown_time(contact.modified_us, precise=True),
        "listIds": contact.list_ids,
        "listUnsubscribed": contact.lists_left or None,
        "subscriptions": {},
        "attributes": contact.shown_attributes(),
    }
    return body if contact.email is None else {"email": contact.email, **body}


def _read(account: BrevoAccount, request: Request) -> Answer:
    contact = reading.contact(account, request)
    return Answer(200, {**shown(account, contact), "statistics": _no_statistics()})


def _statistics(account: BrevoAccount, request: Request) -> Answer:
    reading.contact(account, request)
    return Answer(200, _no_statistics())


def _no_statistics() -> dict[str, Any]:
    """Return the statistics of a contact that no campaign was sent to: none is sent here."""
    unsubscriptions: dict[str, Any] = {"userUnsubscription": [], "adminUnsubscription": []}
    lists: dict[str, Any] = {name: [] for name in _STATISTICS}
    return {**lists, "unsubscriptions": unsubscriptions, "transacAttributes": []}


def _segments(account: BrevoAccount, request: Request) -> Answer:
    reading.page(request, default=10, most=50)
    return Answer(200, {"segments": [], "count": 0})


def _list(account: BrevoAccount, request: Request) -> Answer:
    limit, offset = reading.page(request, default=CONTACTS_PAGE, most=CONTACTS_PAGE_MAX)
    ids = reading.wholes(request, "ids")
    list_ids = reading.wholes(request, "listIds")
    if len(ids) > IDS_MAX:
        errors.out_of_range(f"At most {IDS_MAX} ids can be passed")
    if list_ids and request.parameter("segmentId"):
        errors.invalid("Either listIds or segmentId can be passed")
    if request.parameter("segmentId"):
        errors.invalid("Segment not found")
    chosen: Sequence[Contact] | None = None
    if ids:
        found = (account.contacts.get(each) for each in sorted(set(ids)))
        chosen = [contact for contact in found if contact is not None]
    elif list_ids:
        members = {each.id: each for key in list_ids for each in account.contacts.members(key)}
        chosen = [members[key] for key in sorted(members)]
    return _page(account, request, chosen, limit=limit, offset=offset)


def _list_members(account: BrevoAccount, request: Request) -> Answer:
    limit, offset = reading.page(request, default=CONTACTS_PAGE, most=LIST_PAGE_MAX)
    wanted = account.lists.get(reading.number(request, "list_id"))
    members = account.contacts.members(wanted.id)
    return _page(account, request, members, limit=limit, offset=offset)


def _page(
    account: BrevoAccount,
    request: Request,
    chosen: Sequence[Contact] | None,
    *,
    limit: int,
    offset: int,
) -> Answer:
    """Answer a page of contacts in order of creation; None chosen are all."""
    backwards = reading.descending(request)
    chosen = _filtered(account, request, chosen)
    count = len(account.contacts) if chosen is None else len(chosen)
    everything = account.contacts if chosen is None else chosen
    ordered = reversed(everything) if backwards else iter(everything)
    rows = [shown(account, contact) for contact in islice(ordered, offset, offset + limit)]
    return Answer(200, {"contacts": rows, "count": count})


def _filtered(
    account: BrevoAccount, request: Request, chosen: Sequence[Contact] | None
) -> Sequence[Contact] | None:
    """Keep those that were modified or created at a moment or after it, and fit the filter."""
    modified = reading.moment_us(request, "modifiedSince")
    created = reading.moment_us(request, "createdSince")
    wanted = _filter(request)
    if modified is None and created is None and wanted is None:
        return chosen
    return [
        contact
        for contact in (account.contacts if chosen is None else chosen)
        if (modified is None or contact.modified_us >= modified)
        and (created is None or contact.created_us >= created)
        and (wanted is None or matches(contact, *wanted))
    ]


def _filter(request: Request) -> tuple[str, str] | None:
    text = request.parameter("filter")
    if not text:
        return None
    match = _FILTER.fullmatch(text)
    if match is None:
        errors.invalid('Invalid filter: use equals(NAME,"value")')
    return match[1], match[2]


def _create(account: BrevoAccount, request: Request) -> Answer:
    _check_too_early(account)
    wanted = reading.body(request, ContactBody)
    change = _change(account, wanted)
    new_email = change.identifiers.pop("EMAIL", "")
    email = _email(wanted.email) if wanted.email else new_email
    if email:
        change.identifiers["EMAIL"] = email
    existing = _existing(account, change)
    if existing is not None and wanted.update_enabled:
        if new_email:
            change.identifiers["EMAIL"] = new_email
        existing = _write(account, request, existing, change, wanted)
        return Answer(200, {"id": existing.id}) if wanted.get_id else Answer(204)
    return _add(account, request, change, wanted)


def _claim_create(account: BrevoAccount, request: Request) -> Answer:
    """Answer as if the contact were written, with an id that no contact has: a lie."""
    wanted = reading.body(request, ContactBody)
    known = wanted.email and account.contacts.owner("EMAIL", wanted.email.lower())
    return Answer(204) if known else Answer(201, {"id": NOBODY})


def _existing(account: BrevoAccount, change: Change) -> Contact | None:
    """Return the contact that a POST is about: by address if it has one, else by ext_id, SMS."""
    for kind in ("EMAIL", "EXT_ID", "SMS"):
        if change.identifiers.get(kind):
            return account.contacts.owner(kind, change.identifiers[kind])
    return errors.missing("Please provide Email or SMS attribute value to create user")


def _add(account: BrevoAccount, request: Request, change: Change, wanted: ContactBody) -> Answer:
    clashes = account.contacts.clashes(change.identifiers, None)
    if clashes and not wanted.force_merge:
        errors.duplicate(list(clashes), updating=bool(wanted.update_enabled))
    if clashes:
        survivor = account.contacts.merge({each.id: each for each in clashes.values()}.values())
        account.contacts.apply(survivor, change)
        _remember(account, request, survivor, wanted, created=False)
        return Answer(200, {"id": survivor.id}) if wanted.get_id else Answer(204)
    if not account.has_room:
        errors.refuse(402, "not_enough_credits", "The contact limit of your plan is reached")
    created = account.contacts.create(change)
    _remember(account, request, created, wanted, created=True)
    return Answer(201, {"id": created.id})


def _update(account: BrevoAccount, request: Request) -> Answer:
    _check_too_early(account)
    wanted = reading.body(request, ContactBody)
    contact = reading.contact(account, request)
    _write(account, request, contact, _change(account, wanted), wanted)
    return Answer(204)


def _write(
    account: BrevoAccount,
    request: Request,
    contact: Contact,
    change: Change,
    wanted: ContactBody,
) -> Contact:
    """Change a contact and return it, or what it was merged into."""
    clashes = account.contacts.clashes(change.identifiers, contact)
    if clashes and not wanted.force_merge:
        code = account.settings.update_clash_code
        errors.duplicate(list(clashes), updating=True, code=code)
    if clashes:
        others = {each.id: each for each in (contact, *clashes.values())}
        contact = account.contacts.merge(others.values())
    account.contacts.apply(contact, change)
    _remember(account, request, contact, wanted, created=False)
    return contact


def _update_batch(account: BrevoAccount, request: Request) -> Answer:
    """Update each row's contact; a row without one, or with another's identifier, does nothing."""
    rows = reading.body(request, Batch).contacts
    if not rows:
        errors.missing("contacts is missing")
    if len(rows) > account.settings.batch_max:
        errors.out_of_range(f"At most {account.settings.batch_max} contacts can be passed")
    # Everything is checked before anything is applied: the answer is one for all rows.
    changes = [(row, _batch_target(account, row), _change(account, row)) for row in rows]
    for row, contact, change in changes:
        if contact is not None and account.contacts.get(contact.id) is contact:
            if account.contacts.clashes(change.identifiers, contact):
                continue
            account.contacts.apply(contact, change)
            _remember(account, request, contact, row, created=False)
    return Answer(204)


def _batch_target(account: BrevoAccount, row: ContactBody) -> Contact | None:
    given = [each for each in (row.email, row.id, row.sms) if each is not None]
    if len(given) != 1:
        errors.invalid("Pass exactly one of email, id or sms for each contact")
    if row.id is not None:
        return account.contacts.get(row.id)
    if row.email is not None:
        return account.contacts.owner("EMAIL", _email(row.email))
    return account.contacts.owner("SMS", values.phone(row.sms) or _no_phone())


def _delete(account: BrevoAccount, request: Request) -> Answer:
    contact = reading.contact(account, request)
    if contact.email == account.owner_email:
        errors.refuse(405, "method_not_allowed", "You cannot delete your own registered email")
    account.contacts.delete(contact)
    _remember(account, request, contact, ContactBody(), created=False)
    return Answer(204)


def _change(account: BrevoAccount, wanted: ContactBody) -> Change:
    """Return what a body wants; raises `RefusedError` for what Brevo refuses about it."""
    taken = account.attributes.take(
        wanted.attributes or {},
        reject_unknown=account.settings.unknown_attribute == "reject",
        invalid_phone=_no_phone,
    )
    if taken.identifiers.get("EMAIL"):
        taken.identifiers["EMAIL"] = _email(taken.identifiers["EMAIL"])
    else:
        taken.identifiers.pop("EMAIL", None)  # An address can be changed, not taken away.
    if wanted.ext_id is not None:
        taken.identifiers["EXT_ID"] = wanted.ext_id
    list_ids, unlink_list_ids = wanted.list_ids or [], wanted.unlink_list_ids or []
    if any(list_id not in account.lists for list_id in (*list_ids, *unlink_list_ids)):
        errors.invalid("List ID does not exist")
    return Change(
        taken.identifiers,
        taken.attributes,
        list_ids,
        unlink_list_ids,
        email_blacklisted=wanted.email_blacklisted,
        sms_blacklisted=wanted.sms_blacklisted,
        forbidden_senders=wanted.smtp_blacklist_sender,
    )


def _email(text: str) -> str:
    return values.email(text) or errors.invalid("email is not valid")


def _no_phone() -> NoReturn:
    errors.invalid("Invalid phone number")


def _check_too_early(account: BrevoAccount) -> None:
    if account.settings.too_early_calls > 0:
        account.settings.too_early_calls -= 1
        message = "Another operation is in progress on your account, try again later"
        errors.refuse(425, "account_in_process", message)


def _remember(
    account: BrevoAccount,
    request: Request,
    contact: Contact,
    wanted: ContactBody,
    *,
    created: bool,
) -> None:
    path = "{identifier}" if request.method != "POST" else request.path.removeprefix("/v3/contacts")
    endpoint = f"{request.method} /v3/contacts/{path.strip('/')}".rstrip("/")
    account.writes.remember(endpoint, contact, wanted.attributes or {}, created=created)
