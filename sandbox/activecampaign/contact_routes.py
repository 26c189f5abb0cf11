"""/contacts, /contact/sync, /contactLists: contacts, one by one and in pages, and their lists."""

import math
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, NoReturn

from sandbox.activecampaign import errors, reading, values
from sandbox.activecampaign.account import ActiveCampaignAccount
from sandbox.activecampaign.contacts import Change, Contact
from sandbox.exchange import Answer, Request, Routes

Account = ActiveCampaignAccount
CONTACT = "/api/3/contacts/{contact_id}"
NOBODY = 999_999_999  # Beyond what an account of the sandbox ever counts to.
# What a page of contacts may bring along, by the name of the parameter's value.
INCLUDABLE = ("contactLists", "fieldValues", "contactTags")


def register(routes: Routes[Account]) -> None:
    routes.add("GET", "/api/3/contacts")(_list)
    routes.add("POST", "/api/3/contacts", claim=_claim)(_create)
    routes.add("POST", "/api/3/contact/sync", claim=_claim)(_sync)
    routes.add("GET", CONTACT)(_read)
    routes.add("PUT", CONTACT, claim=_claim)(_update)
    routes.add("DELETE", CONTACT)(_delete)
    routes.add("GET", f"{CONTACT}/contactLists")(_lists_of)
    routes.add("GET", f"{CONTACT}/fieldValues")(_values_of)
    routes.add("GET", f"{CONTACT}/contactTags")(_tags_of)
    routes.add("POST", "/api/3/contactLists", claim=_claim)(_set_status)


def shown(account: Account, contact: Contact) -> dict[str, Any]:
    """Return a contact as it is shown: custom values and lists stand beside it."""
    base = f"https://{account.host}/api/3/contacts/{contact.id}"
    return {
        "cdate": values.shown(contact.created_s),
        "email": contact.email,
        "phone": contact.phone,
        "firstName": contact.first_name,
        "lastName": contact.last_name,
        "orgid": "0",
        "orgname": "",
        "deleted": "0",
        "anonymized": "0",
        "bounced_hard": str(int(contact.is_bounced)),
        "bounced_soft": "0",
        "bounced_date": "0000-00-00",
        "udate": values.shown(contact.updated_s),
        "created_utc_timestamp": values.utc(contact.created_s),
        "updated_utc_timestamp": values.utc(contact.updated_s),
        "links": {name: f"{base}/{name}" for name in INCLUDABLE},
        "id": str(contact.id),
    }


def memberships_of(contact: Contact) -> list[dict[str, Any]]:
    return [
        {
            "contact": str(contact.id),
            "list": str(each.list_id),
            "form": None,
            "seriesid": "0",
            "sdate": values.shown(each.subscribed_s),
            "udate": values.shown(each.unsubscribed_s),
            "status": str(each.status),
            "unsubreason": "",
            "sourceid": str(each.source_id),
            "campaign": None,
            "message": None,
            "links": {},
            "id": str(each.id),
        }
        for each in contact.memberships.values()
    ]


def values_of(contact: Contact) -> list[dict[str, Any]]:
    return [
        {
            "contact": str(contact.id),
            "field": str(each.field_id),
            "value": each.text,
            "cdate": values.shown(each.created_s),
            "udate": values.shown(each.updated_s),
            "created_by": None,
            "updated_by": None,
            "links": {},
            "id": str(each.id),
            "owner": str(contact.id),
        }
        for each in contact.values.values()
    ]


def tags_of(contact: Contact) -> list[dict[str, Any]]:
    return [
        {"contact": str(contact.id), "tag": str(tag), "id": str(link), "links": {}}
        for tag, link in contact.tags.items()
    ]


_BESIDE: dict[str, Callable[[Contact], list[dict[str, Any]]]] = {
    "contactLists": memberships_of,
    "fieldValues": values_of,
    "contactTags": tags_of,
}


def _list(account: Account, request: Request) -> Answer:
    limit, offset = reading.page(request)
    found = _ordered(request, list(_filtered(account, request)))
    some = list(islice(found, offset, offset + limit))
    body: dict[str, Any] = {
        "scoreValues": [],
        "contacts": [shown(account, contact) for contact in some],
        "meta": {"total": str(len(found)), "page_input": {"limit": limit, "offset": offset}},
    }
    if account.settings.honours_include:
        for name in request.parameter("include").split(","):
            if name in _BESIDE:
                body[name] = [row for contact in some for row in _BESIDE[name](contact)]
    return Answer(200, body)


def _filtered(account: Account, request: Request) -> Iterable[Contact]:
    """Return who fits all filters; `status` is that of the list, where one is named."""
    list_id = reading.whole(request.parameter("listid"))
    status = request.parameter("status", "-1")
    everyone: Iterable[Contact] = account.contacts
    email = request.parameter("email").lower()
    if email:
        owner = account.contacts.owner(email)
        everyone = [] if owner is None else [owner]
    elif list_id is not None:
        everyone = account.contacts.on_list(list_id)
    tests = _tests(request)
    return (
        contact
        for contact in everyone
        if _has_status(contact, list_id, status) and all(test(contact) for test in tests)
    )


def _has_status(contact: Contact, list_id: int | None, status: str) -> bool:
    if list_id is not None and list_id not in contact.memberships:
        return False
    wanted = reading.whole(status)
    if wanted is None:
        return True
    if list_id is not None:
        return contact.status(list_id) == wanted
    return any(each.status == wanted for each in contact.memberships.values())


def _tests(request: Request) -> list[Callable[[Contact], bool]]:
    tests: list[Callable[[Contact], bool]] = []
    ids = {reading.whole(each) for each in request.query.get("ids[]", ())}
    if ids:
        tests.append(lambda contact: contact.id in ids)
    if (greater := reading.whole(request.parameter("id_greater"))) is not None:
        tests.append(lambda contact: contact.id > greater)
    if (less := reading.whole(request.parameter("id_less"))) is not None:
        tests.append(lambda contact: contact.id < less)
    if like := request.parameter("email_like").lower():
        tests.append(lambda contact: like in contact.email)
    if search := request.parameter("search").lower():
        tests.append(lambda contact: search in _searchable(contact))
    if phone := request.parameter("phone"):
        tests.append(lambda contact: contact.phone.startswith(phone))
    if (tag := reading.whole(request.parameter("tagid"))) is not None:
        tests.append(lambda contact: tag in contact.tags)
    return tests + _moment_tests(request)


def _searchable(contact: Contact) -> str:
    shown_names = (contact.email, contact.first_name, contact.last_name, contact.phone)
    return " ".join(shown_names).lower()


def _moment_tests(request: Request) -> list[Callable[[Contact], bool]]:
    tests: list[Callable[[Contact], bool]] = []
    for name, attribute in (("created", "created_s"), ("updated", "updated_s")):
        after = values.moment_s(request.parameter(f"filters[{name}_after]"))
        before = values.moment_s(request.parameter(f"filters[{name}_before]"))
        if after is not None:
            tests.append(_is_within(attribute, after, math.inf))
        if before is not None:
            tests.append(_is_within(attribute, -math.inf, before))
    return tests


def _is_within(attribute: str, after_s: float, before_s: float) -> Callable[[Contact], bool]:
    return lambda contact: after_s < getattr(contact, attribute) < before_s


_ORDERS: dict[str, Callable[[Contact], Any]] = {
    "id": lambda contact: contact.id,
    "cdate": lambda contact: contact.created_s,
    "email": lambda contact: contact.email,
    "first_name": lambda contact: contact.first_name,
    "last_name": lambda contact: contact.last_name,
}


def _ordered(request: Request, found: list[Contact]) -> list[Contact]:
    for name, key in _ORDERS.items():
        if order := request.parameter(f"orders[{name}]").lower():
            return sorted(found, key=key, reverse=order == "desc")
    return found


def _create(account: Account, request: Request) -> Answer:
    wanted = reading.inside(request, "contact")
    email = _email(wanted.get("email"))
    if account.contacts.owner(email) is not None:
        _refuse_duplicate()
    return _answer(account, _added(account, request, email, wanted), wanted, 201)


def _sync(account: Account, request: Request) -> Answer:
    """Create or update by address: 201 or 200; an unknown field is ignored without a word."""
    wanted = reading.inside(request, "contact")
    if not wanted.get("email"):
        errors.whole(400, "Contact email must be provided for sync")
    email = _email(wanted["email"])
    contact = account.contacts.owner(email)
    if contact is None:
        return _answer(account, _added(account, request, email, wanted), wanted, 201)
    _change(account, request, contact, wanted)
    return _answer(account, contact, wanted, 200)


def _added(account: Account, request: Request, email: str, wanted: dict[str, Any]) -> Contact:
    if not (account.has_room or account.settings.adds_over_limit):
        errors.refuse(errors.message(403, "You have reached your contact limit"))
    contact = account.contacts.create(email, change_of(account, wanted), account.loudly)
    _remember(account, request, contact, wanted, created=True)
    return contact


def _update(account: Account, request: Request) -> Answer:
    wanted = reading.inside(request, "contact")
    contact = found(account, reading.number(request, "contact_id"))
    _change(account, request, contact, wanted)
    return _answer(account, contact, wanted, 200)


def _change(account: Account, request: Request, contact: Contact, wanted: dict[str, Any]) -> None:
    change = change_of(account, wanted)
    if wanted.get("email"):
        change.email = _email(wanted["email"])
        if account.contacts.owner(change.email) not in (None, contact):
            _refuse_duplicate()
    account.contacts.apply(contact, change, account.loudly)
    _remember(account, request, contact, wanted, created=False)


def change_of(account: Account, wanted: dict[str, Any]) -> Change:
    """Return what a body wants of a contact's values; what it does not name stays."""
    given = wanted.get("fieldValues")
    chosen: dict[int, str] = {}
    for each in given if isinstance(given, list) else ():
        field_id = reading.whole(each.get("field")) if isinstance(each, dict) else None
        if field_id is not None and field_id in account.fields:
            chosen[field_id] = _text(each.get("value"))
    names = (("firstName", "first_name"), ("lastName", "last_name"), ("phone", "phone"))
    plain = {ours: _text(wanted[theirs]) for theirs, ours in names if theirs in wanted}
    return Change(values=chosen, **plain)


def _answer(account: Account, contact: Contact, wanted: dict[str, Any], status: int) -> Answer:
    """Answer a contact that was written, with those of its values that were sent."""
    sent = change_of(account, wanted).values
    rows = [row for row in values_of(contact) if int(row["field"]) in sent]
    return Answer(status, {"fieldValues": rows, "contact": shown(account, contact)})


def _claim(account: Account, request: Request) -> Answer:
    """Answer as if a contact had been written: a lie."""
    contact = Contact(NOBODY, "nobody@example.com", account.now_s, account.now_s)
    return Answer(200, {"fieldValues": [], "contact": shown(account, contact)})


def _read(account: Account, request: Request) -> Answer:
    contact = found(account, reading.number(request, "contact_id"))
    beside = {name: rows(contact) for name, rows in _BESIDE.items()}
    return Answer(200, {**beside, "contact": shown(account, contact)})


def _delete(account: Account, request: Request) -> Answer:
    number = reading.number(request, "contact_id")
    contact = account.contacts.get(number)
    if contact is None:
        errors.refuse(errors.message(404, f"No result found for contact with id {number}"))
    account.contacts.delete(contact)
    _remember(account, request, contact, {}, created=False)
    return Answer(200, {})


def _lists_of(account: Account, request: Request) -> Answer:
    contact = found(account, reading.number(request, "contact_id"))
    return Answer(200, {"contactLists": memberships_of(contact)})


def _values_of(account: Account, request: Request) -> Answer:
    contact = found(account, reading.number(request, "contact_id"))
    return Answer(200, {"fieldValues": values_of(contact)})


def _tags_of(account: Account, request: Request) -> Answer:
    contact = found(account, reading.number(request, "contact_id"))
    return Answer(200, {"contactTags": tags_of(contact)})


def _set_status(account: Account, request: Request) -> Answer:
    """Subscribe (1) or unsubscribe (2). 1 puts back who had left the list, as documented."""
    wanted = reading.inside(request, "contactList")
    contact = account.contacts.get(reading.whole(wanted.get("contact")) or 0)
    list_id = reading.whole(wanted.get("list")) or 0
    if list_id not in account.lists:
        _refuse_related("list")
    if contact is None:
        _refuse_related("contact")
    match reading.whole(wanted.get("status")):
        case 1:
            account.contacts.subscribe(contact, list_id, account.loudly)
        case 2:
            account.contacts.unsubscribe(contact, list_id, account.loudly)
        case _:
            errors.invalid("The value you selected is not a valid choice.", pointer="status")
    _remember(account, request, contact, wanted, created=False)
    [row] = [each for each in memberships_of(contact) if each["list"] == str(list_id)]
    # Numbers, in the answer to this call alone.
    as_numbers = {name: int(row[name]) for name in ("contact", "list", "status")}
    body: dict[str, Any] = {"contacts": [shown(account, contact)]}
    return Answer(200, {**body, "contactList": {**row, **as_numbers}})


def found(account: Account, number: int) -> Contact:
    """Return a contact by its id; refuse one that is not there."""
    return account.contacts.get(number) or errors.absent("Subscriber", number)


def attributes_of(account: Account, contact: Contact) -> dict[str, str]:
    """Return what a contact holds by personalisation tag, for /_sandbox/state."""
    plain = {
        "FIRSTNAME": contact.first_name,
        "LASTNAME": contact.last_name,
        "PHONE": contact.phone,
    }
    custom = {account.fields.get(each.field_id).tag: each.text for each in contact.values.values()}
    return {name: text for name, text in {**plain, **custom}.items() if text}


def _email(given: object) -> str:
    address = values.email(str(given or ""))
    if address is None:
        errors.invalid(
            "Contact Email Address is not valid.",
            pointer="email",
            code="email_invalid",
            error="must_be_valid_email_address",
        )
    return address


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _refuse_duplicate() -> NoReturn:
    errors.invalid("Email address already exists in the system", pointer="email", code="duplicate")


def _refuse_related(kind: str) -> NoReturn:
    title = f"The related {kind} does not exist."
    errors.invalid(title, pointer=kind, code="related_missing", error=f"{kind}_not_exist")


def _remember(
    account: Account,
    request: Request,
    contact: Contact,
    wanted: dict[str, Any],
    *,
    created: bool,
) -> None:
    account.writes.add(
        request.endpoint,
        identity=contact.email,
        attributes=wanted,
        contact_id=contact.id,
        created=created,
    )
