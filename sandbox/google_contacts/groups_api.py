"""Contact groups: listed, read with their members, made, renamed, deleted, joined and left."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import replace
from typing import Any

from sandbox.exchange import Answer, Request, Routes
from sandbox.google_contacts.errors import conflict, expired, invalid, not_found
from sandbox.google_contacts.groups import GAINING, Group, described
from sandbox.google_contacts.people_api import object_of
from sandbox.google_contacts.state import Customer
from sandbox.google_contacts.tokens import CONTACTS, READ_CONTACTS

PAGE_DEFAULT, PAGE_MAX = 30, 1_000
NAMES_MAX = 200
MEMBERS_MAX = 1_000  # Of one change, added and removed together.
READS = {"scopes": (READ_CONTACTS,), "buckets": ("reads",)}
WRITES = {"scopes": (CONTACTS,), "buckets": ("writes",)}


def register(routes: Routes[Customer]) -> None:
    """Add the endpoints about groups."""
    routes.add("GET", "/v1/contactGroups", **READS)(_list)
    routes.add("GET", "/v1/contactGroups:batchGet", **READS)(_read_batch)
    routes.add("GET", "/v1/contactGroups/{group_id}", **READS)(_read)
    routes.add("POST", "/v1/contactGroups", **WRITES)(_create)
    routes.add("PUT", "/v1/contactGroups/{group_id}", **WRITES)(_rename)
    routes.add("DELETE", "/v1/contactGroups/{group_id}", **WRITES)(_delete)
    routes.add("POST", "/v1/contactGroups/{group_id}/members:modify", **WRITES)(_modify)


def _list(account: Customer, request: Request) -> Answer:
    size = request.parameter("pageSize", "0")
    if not (size.isascii() and size.isdigit()) or int(size) > PAGE_MAX:
        raise invalid()
    since = _since(account, request.parameter("syncToken"))
    groups = [
        each
        for each in account.groups.by_id.values()
        if each.revision > since and (since >= 0 or not each.is_deleted)
    ]
    start = _number(request.parameter("pageToken"), "page")
    limit = int(size) or PAGE_DEFAULT
    chosen = groups[start : start + limit]
    body: dict[str, Any] = {"totalItems": len(groups)} if groups else {}
    if chosen:
        body["contactGroups"] = [described(each, account.size_of(each.id)) for each in chosen]
    if start + limit < len(groups):
        body["nextPageToken"] = _written("page", start + limit)
    else:
        body["nextSyncToken"] = _written("sync", account.contacts.revision)
    return Answer(200, body)


def _since(account: Customer, text: str) -> int:
    """Return the change that a sync token ends with; -1 without one."""
    if not text:
        return -1
    if account.sync_tokens_since_s:
        raise expired(account.settings.expired_code, account.settings.expired_status)
    return _number(text, "sync")


def _read(account: Customer, request: Request) -> Answer:
    return Answer(200, _with_members(account, _found(account, request), request))


def _read_batch(account: Customer, request: Request) -> Answer:
    names = request.query.get("resourceNames", [])
    if not 1 <= len(names) <= NAMES_MAX:
        raise invalid()
    return Answer(200, {"responses": [_response(account, each, request) for each in names]})


def _response(account: Customer, name: str, request: Request) -> dict[str, Any]:
    group = account.groups.found(name.removeprefix("contactGroups/"))
    if group is None:
        return {"requestedResourceName": name, "status": {"code": 5}}
    shown = _with_members(account, group, request)
    return {"requestedResourceName": name, "status": {}, "contactGroup": shown}


def _with_members(account: Customer, group: Group, request: Request) -> dict[str, Any]:
    wanted = request.parameter("maxMembers", "0")
    if not (wanted.isascii() and wanted.isdigit()):
        raise invalid()
    members = [f"people/{e.id}" for e in account.contacts.live if group.id in e.groups]
    told = described(group, len(members))
    shown = members[: int(wanted)]
    return {**told, "memberResourceNames": shown} if shown else told


def _create(account: Customer, request: Request) -> Answer:
    name = _named(account, request, None)
    group = account.groups.create(name)
    return Answer(200, described(_touched(account, group), 0))


def _rename(account: Customer, request: Request) -> Answer:
    group = _own(account, request)
    group.name = group.formatted_name = _named(account, request, group)
    return Answer(200, described(_touched(account, group), account.size_of(group.id)))


def _delete(account: Customer, request: Request) -> Answer:
    group = _own(account, request)
    delete_group(account, group, with_contacts=request.flag("deleteContacts"))
    return Answer(200, {})


def delete_group(account: Customer, group: Group, *, with_contacts: bool = False) -> None:
    """Delete a group; its members leave it, or go with it."""
    members = [each for each in account.contacts.live if group.id in each.groups]
    for contact in members:
        if with_contacts:
            account.contacts.delete(contact, account.now_us)
        else:
            left = tuple(each for each in contact.groups if each != group.id)
            changed = replace(contact, groups=left or ("myContacts",))
            account.contacts.put(changed, account.now_us)
    group.is_deleted = True
    _touched(account, group)


def _modify(account: Customer, request: Request) -> Answer:
    """Add and remove members; a contact cannot leave its last group."""
    group, body = _found(account, request), object_of(request)
    adds, removes = body.get("resourceNamesToAdd", []), body.get("resourceNamesToRemove", [])
    if not isinstance(adds, list) or not isinstance(removes, list):
        raise invalid()
    if len(adds) + len(removes) > MEMBERS_MAX or (adds and not may_gain(group)):
        raise invalid()
    names = [str(each) for each in [*adds, *removes]]
    unknown = [each for each in names if account.contacts.found(_id(each)) is None]
    join(account, group, [_id(str(each)) for each in adds])
    kept = leave(account, group, [_id(str(each)) for each in removes])
    told = {
        "notFoundResourceNames": unknown,
        "canNotRemoveLastContactGroupResourceNames": [f"people/{each}" for each in kept],
    }
    return Answer(200, {name: each for name, each in told.items() if each})


def may_gain(group: Group) -> bool:
    """Return whether contacts may be put into a group."""
    return not group.is_system or group.id in GAINING


def join(account: Customer, group: Group, contact_ids: list[str]) -> list[str]:
    """Put contacts into a group; return who was not in it."""
    changed = []
    for contact in map(account.contacts.found, contact_ids):
        if contact is not None and group.id not in contact.groups:
            groups = (*contact.groups, group.id)
            account.contacts.put(replace(contact, groups=groups), account.now_us)
            changed.append(contact.id)
    return changed


def leave(account: Customer, group: Group, contact_ids: list[str]) -> list[str]:
    """Take contacts out of a group; return whose last group it is, who stay."""
    kept = []
    for contact in map(account.contacts.found, contact_ids):
        if contact is None or group.id not in contact.groups:
            continue
        groups = tuple(each for each in contact.groups if each != group.id)
        if groups:
            account.contacts.put(replace(contact, groups=groups), account.now_us)
        else:
            kept.append(contact.id)
    return kept


def _touched(account: Customer, group: Group) -> Group:
    account.contacts.revision += 1
    group.revision = account.contacts.revision
    return group


def _id(name: str) -> str:
    return name.removeprefix("people/")


def _found(account: Customer, request: Request) -> Group:
    group = account.groups.found(request.arguments["group_id"])
    if group is None:
        raise not_found()
    return group


def _own(account: Customer, request: Request) -> Group:
    """Return a group that its owner may change; the system's are refused."""
    group = _found(account, request)
    if group.is_system:
        raise invalid()
    return group


def _named(account: Customer, request: Request, own: Group | None) -> str:
    wish = object_of(request).get("contactGroup")
    name = wish.get("name") if isinstance(wish, dict) else None
    if not isinstance(name, str) or not name.strip():
        raise invalid()
    other = account.groups.by_name(name)
    if other is not None and other is not own:
        message = "Contact group name already exists."
        raise conflict(message)
    return name


def _written(kind: str, number: int) -> str:
    return urlsafe_b64encode(f"{kind}:{number}".encode()).decode()


def _number(text: str, kind: str) -> int:
    if not text:
        return 0
    try:
        found, _, number = urlsafe_b64decode(text.encode()).decode().partition(":")
    except ValueError:
        raise invalid() from None
    if found != kind or not (number.isascii() and number.isdigit()):
        raise invalid()
    return int(number)
