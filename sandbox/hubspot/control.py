"""HubSpot's own part of the control interface: contacts, lists, tokens, and the whole state back.

What is put in here is not checked as the API checks it: a test may make contacts that no API would
take.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from sandbox import wishes
from sandbox.control import drawn, parsed
from sandbox.exchange import Answer, Request, Routes
from sandbox.hubspot.bodies import number
from sandbox.hubspot.contacts import COMPUTED, Contact, EmailTakenError
from sandbox.hubspot.errors import iso
from sandbox.hubspot.lists import ContactList, Processing, described
from sandbox.hubspot.oauth_api import issued
from sandbox.hubspot.state import Portal, State
from sandbox.hubspot.tokens import ALL_SCOPES
from sandbox.people import Person
from sandbox.provider import ControlError
from sandbox.wishes import Filled, Wish, crowd, marked

EDITED = ("firstname", "lastname", "company", "city")

T = TypeVar("T")


class Fill(wishes.Fill, frozen=True):
    same_timestamp: bool = False


class Selection(Wish, frozen=True):
    """Some contacts: these, or so many, or such a share of those that are valid."""

    ids: Sequence[int | str] | None = None
    count: int | None = None
    share: float | None = None
    seed: int = 1


class Change(Selection, frozen=True):
    properties: Sequence[str] = EDITED
    kind: str = "fields"  # Or "email".
    same_timestamp: bool = False


class Merge(Wish, frozen=True):
    primary: int | str
    other: int | str


class WishedContact(Wish, frozen=True):
    properties: Mapping[str, str | int | float | bool | None]
    id: int | str | None = None


class Upsert(Wish, frozen=True):
    contacts: Sequence[WishedContact]
    list: str | None = None
    same_timestamp: bool = False


class Members(Wish, frozen=True):
    ids: Sequence[int | str]


class NewList(wishes.NewList, frozen=True):
    processing_type: Processing = Processing.MANUAL
    object_type_id: str = "0-1"


class FieldName(Wish, frozen=True):
    name: str


class NewTokens(Wish, frozen=True):
    scopes: Sequence[str] = ALL_SCOPES


def register(routes: Routes[Portal], state: State) -> None:
    """Add HubSpot's control calls."""
    for method, path, handler in (
        ("POST", "contacts:fill", _fill),
        ("POST", "contacts:change", _change),
        ("POST", "contacts:delete", _delete),
        ("POST", "contacts:merge", _merge),
        ("POST", "contacts:upsert", _upsert),
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
    def tokens(portal: Portal, request: Request) -> Answer:
        """Grant the application access, as if a person had been through the page."""
        scopes = parsed(request, NewTokens).scopes
        return Answer(200, issued(state, state.tokens.grant(portal.id, tuple(scopes))))

    @routes.add("POST", "/_sandbox/app:uninstall")
    def uninstall(portal: Portal, request: Request) -> Answer:
        """Take the application out of the portal, as its owner would."""
        state.tokens.uninstall(portal.id)
        return Answer(204)


def _delete_field(portal: Portal, request: Request) -> Answer:
    """Archive a property, as the portal's own people would; HubSpot's own ones stay."""
    portal.properties.archive(parsed(request, FieldName).name, portal.clock.now_ms())
    return Answer(204)


def _fill(portal: Portal, request: Request) -> Answer:
    wish = parsed(request, Fill)
    found = crowd(wish, portal.seed, portal.contacts.by_email)
    stamp = _Stamps(portal, same=wish.same_timestamp)
    filled, numbers = Filled(), []
    for person in found:
        contact = portal.create(_as_properties(person), next(stamp))
        filled.add(str(contact.id), person)
        numbers.append(contact.id)
        if person.invalid:
            portal.invalid_ids.add(contact.id)
    which = _list_made(portal, wish.list)
    if which:
        which.join(numbers, next(stamp))
    return Answer(200, filled.told(str(which.id) if which else None))


def _change(portal: Portal, request: Request) -> Answer:
    wish = parsed(request, Change)
    if wish.kind not in {"fields", "email"}:
        message = 'kind must be "fields" or "email"'
        raise ControlError(message)
    unknown = [name for name in wish.properties if not portal.properties.live(name)]
    if unknown:
        message = f"there are no properties {', '.join(unknown)}"
        raise ControlError(message)
    stamp = _Stamps(portal, same=wish.same_timestamp)
    ids = _chosen(portal, wish)
    portal.edits += 1
    for contact in map(portal.contacts.by_id, ids):
        assert contact is not None
        portal.update(contact, _edit(portal, contact, wish), next(stamp))
    return Answer(200, {"ids": [str(each) for each in ids]})


def _edit(portal: Portal, contact: Contact, wish: Change) -> dict[str, str]:
    """Return changes that no other edit has made to this contact."""
    if wish.kind == "email":
        return {"email": f"moved{portal.edits}.{contact.id}@example.org"}
    return {name: marked(contact.properties.get(name), portal.edits) for name in wish.properties}


def _delete(portal: Portal, request: Request) -> Answer:
    ids = _chosen(portal, parsed(request, Selection))
    for contact in map(portal.contacts.by_id, ids):
        assert contact is not None
        portal.archive(contact, portal.clock.now_ms())
    return Answer(200, {"ids": [str(each) for each in ids]})


def _merge(portal: Portal, request: Request) -> Answer:
    wish = parsed(request, Merge)
    primary, other = _live(portal, wish.primary), _live(portal, wish.other)
    if primary.id == other.id:
        message = "primary and other must be two contacts"
        raise ControlError(message)
    survivor = portal.merge(primary, other, portal.clock.now_ms())
    return Answer(200, {"id": str(survivor.id)})


def _upsert(portal: Portal, request: Request) -> Answer:
    wish = parsed(request, Upsert)
    stamp = _Stamps(portal, same=wish.same_timestamp)
    ids = [_upserted(portal, each, next(stamp)).id for each in wish.contacts]
    which = _list_made(portal, wish.list)
    if which:
        which.join(ids, next(stamp))
    told = [str(each) for each in ids]
    return Answer(200, {"ids": told, "list_id": str(which.id) if which else None})


def _upserted(portal: Portal, wish: WishedContact, at_ms: int) -> Contact:
    """Change the contact with this id or else this address; make it if it is not there."""
    unknown = [name for name in wish.properties if not portal.properties.live(name)]
    if unknown or set(wish.properties) & set(COMPUTED):
        computed = sorted(set(wish.properties) & set(COMPUTED))
        message = f"these properties are not there or are computed: {[*unknown, *computed]}"
        raise ControlError(message)
    values = {name: _text(value) for name, value in wish.properties.items()}
    contact_id = None if wish.id is None else _number(wish.id)
    if contact_id is not None:
        contact = portal.contacts.by_id(contact_id)
    else:
        contact = portal.contacts.by_email(values.get("email", ""))
    if contact is not None and contact.archived_ms is not None:
        message = f"contact {contact.id} is archived"
        raise ControlError(message)
    try:
        if contact is not None:
            return portal.update(contact, values, at_ms)
        values = {name: value for name, value in values.items() if value}
        return portal.create(values, at_ms, contact_id=contact_id)
    except EmailTakenError as taken:
        message = f"contact {taken.contact_id} has the address already"
        raise ControlError(message) from taken


def _create_list(portal: Portal, request: Request) -> Answer:
    wish = parsed(request, NewList)
    if portal.lists.by_name(wish.name, wish.object_type_id):
        message = f"there is a list {wish.name} already"
        raise ControlError(message)
    created = portal.lists.create(
        wish.name,
        portal.clock.now_ms(),
        processing=wish.processing_type,
        object_type_id=wish.object_type_id,
    )
    return Answer(201, {"list_id": str(created.id)})


def _join(portal: Portal, request: Request) -> Answer:
    which = _named_list(portal, request)
    contacts = [_live(portal, each) for each in parsed(request, Members).ids]
    joined = which.join([each.id for each in contacts], portal.clock.now_ms())
    return Answer(200, {"ids": [str(each) for each in joined]})


def _leave(portal: Portal, request: Request) -> Answer:
    which = _named_list(portal, request)
    ids = [_number(each) for each in parsed(request, Members).ids]
    left = which.leave(ids, portal.clock.now_ms())
    return Answer(200, {"ids": [str(each) for each in left]})


def _delete_list(portal: Portal, request: Request) -> Answer:
    _named_list(portal, request).deleted_ms = portal.clock.now_ms()
    return Answer(204)


def _restore_list(portal: Portal, request: Request) -> Answer:
    _named_list(portal, request).deleted_ms = None
    return Answer(204)


def _state(portal: Portal, request: Request) -> Answer:
    store = portal.contacts
    live, _ = store.page(0, len(store))
    archived, _ = store.page(0, 10**9, archived=True)
    lists = [
        {**described(each), "members": [str(contact_id) for contact_id in each.members_by_id()]}
        for each in portal.lists.by_id.values()
    ]
    return Answer(
        200,
        {
            "account": portal.id,
            "contacts": [_described(each) for each in (*live, *archived)],
            "lists": lists,
            "properties": list(portal.properties.by_name.values()),
            "blocked_emails": sorted(portal.blocked_emails),
            "invalid_ids": sorted(map(str, portal.invalid_ids)),
        },
    )


def _described(contact: Contact) -> dict[str, Any]:
    computed = {name: contact.value(name) for name in COMPUTED}
    values = {name: value for name, value in computed.items() if value is not None}
    return {
        "id": str(contact.id),
        "properties": {**contact.properties, **values},
        "created_at": iso(contact.created_ms),
        "updated_at": iso(contact.updated_ms),
        "archived": contact.archived_ms is not None,
    }


def _as_properties(person: Person) -> dict[str, str]:
    values = {
        "email": person.email,
        "firstname": person.first_name,
        "lastname": person.last_name,
        "phone": person.phone,
        "company": person.company,
        "city": person.city,
        "country": person.country,
        "birthday": person.birthday,
        "lifecyclestage": "lead",
    }
    return {name: value for name, value in values.items() if value}


class _Stamps:
    """Times for a run of writes: each its own reading of the clock, or all the first one."""

    def __init__(self, portal: Portal, *, same: bool) -> None:
        self._clock = portal.clock
        self._fixed = portal.clock.now_ms() if same else None

    def __next__(self) -> int:
        return self._clock.now_ms() if self._fixed is None else self._fixed


def _chosen(portal: Portal, wish: Selection) -> list[int]:
    """Return the ids that a selection means, in order of id."""
    if wish.ids is not None:
        return [_live(portal, each).id for each in wish.ids]
    valid = [each for each in portal.contacts.live_ids if each not in portal.invalid_ids]
    return drawn(valid, wish.count, wish.share, wish.seed)


def _live(portal: Portal, wanted: int | str) -> Contact:
    contact = portal.contacts.by_id(_number(wanted))
    if contact is None or contact.archived_ms is not None:
        message = f"there is no contact {wanted}"
        raise ControlError(message)
    return contact


def _number(wanted: int | str) -> int:
    contact_id = number(str(wanted))
    if contact_id is None:
        message = f"{wanted} is not an id: ids are numbers"
        raise ControlError(message)
    return contact_id


def _named_list(portal: Portal, request: Request) -> ContactList:
    """Return the list that the path names by id or by name, a deleted one too."""
    name = request.arguments["list"]
    list_id = number(name)
    which = portal.lists.by_name(name) if list_id is None else portal.lists.by_id.get(list_id)
    if which is None:
        message = f"there is no list {name}"
        raise ControlError(message)
    return which


def _list_made(portal: Portal, name: str | None) -> ContactList | None:
    if name is None:
        return None
    return portal.lists.by_name(name) or portal.lists.create(name, portal.clock.now_ms())


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case _:
            return str(value)
