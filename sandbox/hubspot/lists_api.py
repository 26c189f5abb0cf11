"""The lists endpoints: finding lists, reading and changing who is on them.

Source: guide "Lists" and HubSpot's OpenAPI of lists. The body of a 404 is not documented.
"""

from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from sandbox.exchange import Answer, Request, Routes
from sandbox.hubspot import errors, versions
from sandbox.hubspot.bodies import bounded, inputs_of, number, object_of, parsed
from sandbox.hubspot.errors import iso
from sandbox.hubspot.lists import (
    CONTACTS,
    ContactList,
    Processing,
    Slice,
    described,
    found,
    slice_of,
)
from sandbox.hubspot.state import Portal

READ = ("crm.lists.read",)
WRITE = ("crm.lists.read", "crm.lists.write")
CREATE = ("crm.lists.write",)
COUNT_DEFAULT, COUNT_MAX, OFFSET_MAX = 20, 500, 10_000
MEMBERS_DEFAULT, MEMBERS_MAX = 100, 250
BULK_MEMBERS_MAX = 100_000


def register(routes: Routes[Portal]) -> None:
    """Add the lists endpoints of every generation."""
    one = "/{list_id}"
    members = f"{one}/memberships"
    for method, rest, handler, scopes in (
        ("POST", "/search", _search, READ),
        ("GET", "", _several, READ),
        ("POST", "", _create, CREATE),
        ("GET", one, _get, READ),
        ("DELETE", one, _delete, WRITE),
        ("GET", "/object-type-id/{object_type_id}/name/{name}", _by_name, READ),
        ("PUT", f"{one}/restore", _restore, WRITE),
        ("PUT", f"{one}/update-list-name", _rename, WRITE),
        ("PUT", f"{one}/update-list-filters", _change_filters, WRITE),
        ("GET", members, _members, READ),
        ("GET", f"{members}/join-order", _members_by_joining, READ),
        ("DELETE", members, _remove_all, WRITE),
        ("PUT", f"{members}/add", _add, WRITE),
        ("PUT", f"{members}/remove", _remove, WRITE),
        ("PUT", f"{members}/add-and-remove", _add_and_remove, WRITE),
        ("PUT", f"{members}/add-from/{{source_id}}", _add_from, WRITE),
        ("GET", "/records/{object_type_id}/{record_id}/memberships", _lists_of, READ),
        ("POST", "/records/memberships/batch/read", _lists_of_several, READ),
    ):
        routes.add(method, *versions.lists(rest), scopes=scopes)(handler)


class _Search(msgspec.Struct, rename="camel", frozen=True):
    query: str | None = None
    count: int | None = None
    offset: int | None = None
    list_ids: list[str | int] | None = None
    processing_types: list[str] | None = None
    object_type_id: str | None = None
    additional_properties: list[str] | None = None  # The five that there are come unasked.
    sort: str | None = None


def _search(portal: Portal, request: Request) -> Answer:
    wish = parsed(request, _Search)
    count = COUNT_DEFAULT if wish.count is None else wish.count
    offset = wish.offset or 0
    if not 1 <= count <= COUNT_MAX:
        message = f"count must be between 1 and {COUNT_MAX}"
        raise errors.invalid(message)
    if not 0 <= offset <= OFFSET_MAX - count:
        message = f"offset and count may not go beyond {OFFSET_MAX}"
        raise errors.invalid(message)
    hits = _sorted([each for each in portal.lists.live if _fits(each, wish)], wish.sort)
    page = hits[offset : offset + count]
    return Answer(
        200,
        {
            "offset": offset + len(page),
            "hasMore": offset + count < len(hits),
            "lists": [found(each) for each in page],
            "total": len(hits),
        },
    )


def _fits(which: ContactList, wish: _Search) -> bool:
    return (
        (wish.query or "").lower() in which.name.lower()
        and which.object_type_id == (wish.object_type_id or which.object_type_id)
        and which.processing in (wish.processing_types or list(Processing))
        and str(which.id) in map(str, wish.list_ids or [which.id])
    )


def _sorted(lists: list[ContactList], sort: str | None) -> list[ContactList]:
    name = (sort or "HS_LIST_ID").lstrip("-").upper()
    keys = {
        "HS_LIST_ID": lambda each: each.id,
        "HS_UPDATED_AT": lambda each: (each.updated_ms, each.id),
        "HS_CREATED_AT": lambda each: (each.created_ms, each.id),
        "HS_LIST_NAME": lambda each: (each.name.lower(), each.id),
        "HS_LIST_SIZE": lambda each: (len(each.members), each.id),
    }
    if name not in keys:
        message = f"sort {sort} is not known"
        raise errors.invalid(message)
    return sorted(lists, key=keys[name], reverse=bool(sort and sort.startswith("-")))


def _several(portal: Portal, request: Request) -> Answer:
    wanted = [text for value in request.query.get("listIds", []) for text in value.split(",")]
    lists = [each for each in portal.lists.live if str(each.id) in wanted]
    filters = request.flag("includeFilters")
    return Answer(200, {"lists": [described(each, filters=filters) for each in lists]})


def _get(portal: Portal, request: Request) -> Answer:
    """Answer a list, a deleted one too: that it is deleted shows in `deletedAt` alone."""
    which = _list(portal, request.arguments["list_id"], deleted=True)
    return Answer(200, {"list": described(which, filters=request.flag("includeFilters"))})


def _by_name(portal: Portal, request: Request) -> Answer:
    which = portal.lists.by_name(request.arguments["name"], request.arguments["object_type_id"])
    if which is None:
        raise _no_list(request.arguments["name"])
    return Answer(200, {"list": described(which, filters=request.flag("includeFilters"))})


class _NewList(msgspec.Struct, rename="camel", frozen=True):
    name: str
    object_type_id: str
    processing_type: Processing
    filter_branch: dict[str, Any] | None = None


def _create(portal: Portal, request: Request) -> Answer:
    wish = parsed(request, _NewList)
    _refuse_taken(portal, wish.name, wish.object_type_id)
    created = portal.lists.create(
        wish.name,
        portal.clock.now_ms(),
        processing=wish.processing_type,
        object_type_id=wish.object_type_id,
        filter_branch=wish.filter_branch,
    )
    return Answer(200, {"list": described(created)})


def _delete(portal: Portal, request: Request) -> Answer:
    which = _list(portal, request.arguments["list_id"])
    which.deleted_ms = portal.clock.now_ms()
    return Answer(204)


def _restore(portal: Portal, request: Request) -> Answer:
    _list(portal, request.arguments["list_id"], deleted=True).deleted_ms = None
    return Answer(204)


def _rename(portal: Portal, request: Request) -> Answer:
    which = _list(portal, request.arguments["list_id"])
    name = request.parameter("listName") or which.name
    if name.lower() != which.name.lower():
        _refuse_taken(portal, name, which.object_type_id)
    which.name, which.updated_ms = name, portal.clock.now_ms()
    which.version += 1
    return Answer(200, {"updatedList": described(which)})


def _change_filters(portal: Portal, request: Request) -> Answer:
    """Keep another filter; who is on the list changes by the control interface alone."""
    which = _list(portal, request.arguments["list_id"])
    if which.processing is not Processing.DYNAMIC:
        message = f"List {which.id} is {which.processing}: it has no filters"
        raise errors.invalid(message, subCategory="ListError.INVALID_PROCESSING_TYPE")
    which.filter_branch = object_of(request).get("filterBranch")
    which.updated_ms = portal.clock.now_ms()
    which.version += 1
    return Answer(200, {"updatedList": described(which, filters=True)})


def _members(portal: Portal, request: Request) -> Answer:
    which = _of_contacts(_list(portal, request.arguments["list_id"]))
    return _page(request, which, which.members_by_id(), _id_key)


def _members_by_joining(portal: Portal, request: Request) -> Answer:
    which = _of_contacts(_list(portal, request.arguments["list_id"]))
    return _page(request, which, which.members_by_joining(), _joining_key)


def _page(request: Request, which: ContactList, order: Sequence[Any], key: Any) -> Answer:
    wanted = request.parameter("limit") or str(MEMBERS_DEFAULT)
    limit = bounded(wanted, "limit", low=1, high=MEMBERS_MAX)
    after, before = (
        key(request.parameter(name)) if request.parameter(name) else None
        for name in ("after", "before")
    )
    part = slice_of(order, limit, after=after, before=before)
    ids = [each[1] if isinstance(each, tuple) else each for each in part.keys]
    results = [
        {"recordId": str(each), "membershipTimestamp": iso(which.members[each].last_added_ms)}
        for each in ids
    ]
    body: dict[str, Any] = {"total": len(order), "results": results}
    if paging := _paging(request, part):
        body["paging"] = paging
    return Answer(200, body)


def _paging(request: Request, part: Slice) -> dict[str, Any]:
    paging = {}
    for name, word, key in (("next", "after", part.next), ("prev", "before", part.previous)):
        if key is not None:
            text = ":".join(map(str, key)) if isinstance(key, tuple) else str(key)
            cursor = quote(b64encode(text.encode()).decode(), safe="")
            link = f"{request.base_url}{request.path}?{word}={cursor}"
            paging[name] = {word: cursor, "link": link}
    return paging


def _decoded(cursor: str) -> str:
    """Return what a cursor says; a client may send it back once more encoded than it came."""
    try:
        return b64decode(unquote(cursor), validate=True).decode()
    except ValueError as error:
        message = "Invalid paging cursor"
        raise errors.invalid(message) from error


def _id_key(cursor: str) -> int:
    contact_id = number(_decoded(cursor))
    if contact_id is None:
        message = "Invalid paging cursor"
        raise errors.invalid(message)
    return contact_id


def _joining_key(cursor: str) -> tuple[int, int]:
    at, _, member = _decoded(cursor).partition(":")
    at_ms, contact_id = number(at), number(member)
    if at_ms is None or contact_id is None:
        message = "Invalid paging cursor"
        raise errors.invalid(message)
    return at_ms, contact_id


def _add(portal: Portal, request: Request) -> Answer:
    return _changed(portal, request, add=_ids(request.json), remove=[])


def _remove(portal: Portal, request: Request) -> Answer:
    return _changed(portal, request, add=[], remove=_ids(request.json))


def _add_and_remove(portal: Portal, request: Request) -> Answer:
    wish = object_of(request)
    return _changed(
        portal,
        request,
        add=_ids(wish.get("recordIdsToAdd", [])),
        remove=_ids(wish.get("recordIdsToRemove", [])),
    )


def _changed(portal: Portal, request: Request, *, add: list[str], remove: list[str]) -> Answer:
    which = _open_list(portal, request)
    now_ms = portal.clock.now_ms()
    there = {
        text: contact.id
        for text in (*add, *remove)
        if (wanted := number(text)) is not None
        and (contact := portal.contacts.by_id(wanted)) is not None
        and contact.archived_ms is None
    }
    added = which.join([there[text] for text in add if text in there], now_ms)
    removed = which.leave([there[text] for text in remove if text in there], now_ms)
    return Answer(
        200,
        {
            "recordsIdsAdded": [str(each) for each in added],
            "recordIdsRemoved": [str(each) for each in removed],
            "recordIdsMissing": [text for text in (*add, *remove) if text not in there],
        },
    )


def _add_from(portal: Portal, request: Request) -> Answer:
    which = _open_list(portal, request)
    source = _of_contacts(_list(portal, request.arguments["source_id"]))
    _refuse_large(source)
    which.join(list(source.members), portal.clock.now_ms())
    return Answer(204)


def _remove_all(portal: Portal, request: Request) -> Answer:
    which = _open_list(portal, request)
    _refuse_large(which)
    which.leave(list(which.members), portal.clock.now_ms())
    return Answer(204)


def _lists_of(portal: Portal, request: Request) -> Answer:
    results = _memberships(portal, request.arguments["record_id"])
    return Answer(200, {"total": len(results), "results": results})


def _lists_of_several(portal: Portal, request: Request) -> Answer:
    now = iso(portal.clock.now_ms())
    results = [
        {
            "objectTypeId": each.get("objectTypeId", CONTACTS),
            "recordId": str(each.get("recordId")),
            "recordListMemberships": _memberships(portal, str(each.get("recordId"))),
        }
        for each in inputs_of(request)
    ]
    return Answer(
        200, {"status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now}
    )


def _memberships(portal: Portal, record_id: str) -> list[dict[str, Any]]:
    wanted = number(record_id)
    if wanted is None:
        raise errors.not_numeric(record_id)
    contact_id = portal.contacts.current_id(wanted)
    return [
        {
            "listId": str(each.id),
            "listVersion": each.version,
            "firstAddedTimestamp": iso(each.members[contact_id].first_added_ms),
            "lastAddedTimestamp": iso(each.members[contact_id].last_added_ms),
            "isPublicList": False,
        }
        for each in portal.lists.of(contact_id)
    ]


def _list(portal: Portal, text: str, *, deleted: bool = False) -> ContactList:
    list_id = number(text)
    which = None if list_id is None else portal.lists.by_id.get(list_id)
    if which is None or (which.deleted_ms is not None and not deleted):
        raise _no_list(text)
    return which


def _open_list(portal: Portal, request: Request) -> ContactList:
    """Return the list whose members the call is about to change."""
    which = _of_contacts(_list(portal, request.arguments["list_id"]))
    if not which.takes_members:
        message = f"List {which.id} is {which.processing}: its members cannot be changed by hand"
        raise errors.invalid(message, subCategory="ListError.INVALID_PROCESSING_TYPE")
    return which


def _of_contacts(which: ContactList) -> ContactList:
    if which.object_type_id != CONTACTS:
        message = f"Object type {which.object_type_id} of list {which.id} is not available"
        raise errors.invalid(message, subCategory="ListError.INVALID_OBJECT_TYPE_FOR_LIST")
    return which


def _no_list(text: str) -> Exception:
    message = f"List does not exist: {text}"
    return errors.refused(
        404, message, category="OBJECT_NOT_FOUND", subCategory="ListError.LIST_NOT_FOUND"
    )


def _refuse_taken(portal: Portal, name: str, object_type_id: str) -> None:
    if portal.lists.by_name(name, object_type_id):
        message = f"A list named {name} already exists"
        raise errors.invalid(message, subCategory="ListError.DUPLICATE_LIST_NAMES")


def _refuse_large(which: ContactList) -> None:
    if len(which.members) >= BULK_MEMBERS_MAX:
        message = f"Lists of {BULK_MEMBERS_MAX} members or more cannot be changed at once"
        raise errors.invalid(message)


def _ids(value: object) -> list[str]:
    if not isinstance(value, list):
        message = "Invalid input JSON: a list of record ids is expected"
        raise errors.invalid(message)
    return [str(each) for each in value]
