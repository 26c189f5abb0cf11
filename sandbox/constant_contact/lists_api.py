"""Contact lists: found, read, made, renamed, deleted."""

from typing import Any

from sandbox.constant_contact.activities import Done
from sandbox.constant_contact.errors import conflict, invalid, not_found
from sandbox.constant_contact.lists import LISTS_MAX, ContactList, described
from sandbox.constant_contact.memberships import leave
from sandbox.constant_contact.parameters import asked, is_true, object_of, slice_of, words
from sandbox.constant_contact.queue import accepted
from sandbox.constant_contact.state import Customer
from sandbox.exchange import Answer, Request, Routes

PAGE_MAX = 1_000  # The text says 500, the machine-readable contract 1,000.
NAME_CHARACTERS_MAX = 255
PARAMETERS = (
    *("limit", "include_count", "include_membership_count", "name", "status"),
    *("channel_type", "include_sms_membership_count"),
)
READS = {"scope": "contact_data", "privileges": ("contacts:lists:read",)}
WRITES = {"scope": "contact_data", "privileges": ("contacts:lists:write",)}


def register(routes: Routes[Customer]) -> None:
    """Add the endpoints about lists."""
    routes.add("GET", "/v3/contact_lists", **READS)(_find)
    routes.add("GET", "/v3/contact_lists/{list_id}", **READS)(_read)
    routes.add("POST", "/v3/contact_lists", **WRITES)(_create)
    routes.add("PUT", "/v3/contact_lists/{list_id}", **WRITES)(_rename)
    routes.add("DELETE", "/v3/contact_lists/{list_id}", **WRITES)(_delete)


def _find(account: Customer, request: Request) -> Answer:
    wanted = asked(account, request, PARAMETERS)
    statuses = words(wanted.get("status", "active"), "status", ("all", "active", "deleted"))
    name = wanted.get("name", "").lower()
    lists = [
        each
        for each in account.lists.by_id.values()
        if (
            "all" in statuses or ("deleted" if each.deleted_s is not None else "active") in statuses
        )
        and (not name or each.name.lower() == name)
    ]
    part = slice_of(account, "/v3/contact_lists", wanted, lists, PAGE_MAX)
    body: dict[str, Any] = {
        "lists": [described(each, _size(account, each, wanted)) for each in part.items]
    }
    if is_true(wanted.get("include_count", "")):
        body["lists_count"] = len(lists)
    return Answer(200, {**body, **part.links})


def _size(account: Customer, which: ContactList, wanted: dict[str, str]) -> int | None:
    asked_for = wanted.get("include_membership_count", "")
    kinds = words(asked_for, "include_membership_count", ("all", "active"))
    return account.size_of(which.id, active_only="all" not in kinds) if kinds else None


def _read(account: Customer, request: Request) -> Answer:
    which = _found(account, request)
    wanted = {name: values[0] for name, values in request.query.items()}
    return Answer(200, described(which, _size(account, which, wanted)))


def _create(account: Customer, request: Request) -> Answer:
    name, body = _named(account, request, None)
    if len(account.lists.live) >= LISTS_MAX:
        message = f"an account has at most {LISTS_MAX} lists"
        raise invalid(message)
    made = account.lists.create(name, account.now_s)
    made.description, made.favorite = str(body.get("description", "")), bool(body.get("favorite"))
    return Answer(201, described(made, None))


def _rename(account: Customer, request: Request) -> Answer:
    which = _found(account, request)
    which.name, body = _named(account, request, which)
    which.description = str(body.get("description", ""))
    which.favorite = bool(body.get("favorite"))
    which.updated_s = account.now_s
    return Answer(200, described(which, None))


def _delete(account: Customer, request: Request) -> Answer:
    """Delete by an activity, whose address is told; members leave with it."""
    which = _found(account, request)

    def work() -> Done:
        which.deleted_s = account.now_s
        members = [each.id for each in account.contacts.live if which.id in each.lists]
        leave(account, members, [which.id])
        return Done(1)

    activity = accepted(account, "list_delete", 1, work)
    href = activity["_links"]["self"]["href"]
    return Answer(202, activity, {"Location": f"{request.base_url}{href}"})


def _found(account: Customer, request: Request) -> ContactList:
    which = account.lists.by_id.get(request.arguments["list_id"])
    if which is None or which.deleted_s is not None:
        message = "list_id was not found"
        raise not_found(message)
    return which


def _named(
    account: Customer, request: Request, own: ContactList | None
) -> tuple[str, dict[str, Any]]:
    """Return the name that a body gives, and the body; raises the 400 or 409 of a bad one."""
    body = object_of(request)
    name = body.get("name")
    if not isinstance(name, str) or not 1 <= len(name) <= NAME_CHARACTERS_MAX:
        message = "name is missing" if not name else "name is too long"
        raise invalid(message)
    other = account.lists.by_name(name)
    if other is not None and other is not own:
        message = f"a list named {name} already exists"
        raise conflict(message)
    return name, body
