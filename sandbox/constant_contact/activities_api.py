"""Bulk activities: an import of contacts, deletions, list memberships; and how they went.

Reading them takes the right to write contacts, as their documentation says.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sandbox.constant_contact.activities import Done
from sandbox.constant_contact.contacts import UNSUBSCRIBED, Address, Contact
from sandbox.constant_contact.contacts_api import tell
from sandbox.constant_contact.errors import invalid, not_found
from sandbox.constant_contact.memberships import join, leave
from sandbox.constant_contact.parameters import asked, object_of, slice_of
from sandbox.constant_contact.queue import accepted
from sandbox.constant_contact.state import Customer
from sandbox.exchange import Answer, Request, Routes

IMPORT_ROWS_MAX = 40_000
IMPORT_BYTES_MAX = 4_000_000
IMPORT_EMAIL_CHARACTERS_MAX = 50  # 80 elsewhere.
CONTACT_IDS_MAX = 500
LIST_IDS_MAX = 50
PAGE_MAX = 500
CORE_COLUMNS = ("first_name", "last_name", "job_title", "company_name")
WRITES = {"scope": "contact_data", "privileges": ("contacts:write",)}


def register(routes: Routes[Customer]) -> None:
    """Add the endpoints about activities."""
    routes.add("GET", "/v3/activities", **WRITES)(_find)
    routes.add("GET", "/v3/activities/{activity_id}", **WRITES)(_read)
    for path, handler in (
        ("contacts_json_import", _import),
        ("contact_delete", _delete),
        ("add_list_memberships", _join),
        ("remove_list_memberships", _leave),
    ):
        routes.add("POST", f"/v3/activities/{path}", **WRITES)(handler)


def _find(account: Customer, request: Request) -> Answer:
    wanted = asked(account, request, ("limit", "state"))
    state = wanted.get("state")
    recent = account.activities.recent(account.clock.now_s())
    kept = [each for each in recent if state in (None, each.state)]
    part = slice_of(account, "/v3/activities", wanted, kept, PAGE_MAX)
    return Answer(200, {"activities": [each.described() for each in part.items], **part.links})


def _read(account: Customer, request: Request) -> Answer:
    activity = account.activities.by_id.get(request.arguments["activity_id"])
    if activity is None:
        message = "activity_id was not found"
        raise not_found(message)
    return Answer(200, activity.described())


def _import(account: Customer, request: Request) -> Answer:
    body = object_of(request)
    rows, list_ids = body.get("import_data"), body.get("list_ids", [])
    if not isinstance(rows, list) or not all(isinstance(each, dict) for each in rows) or not rows:
        message = "import_data is missing"
        raise invalid(message)
    if len(rows) > IMPORT_ROWS_MAX or len(request.body) > IMPORT_BYTES_MAX:
        message = f"import_data has more than {IMPORT_ROWS_MAX} contacts or 4 MB"
        raise invalid(message)
    _check_lists(account, list_ids)
    endpoint = request.endpoint
    work = lambda: _imported(account, endpoint, rows, list_ids)  # noqa: E731  # one line is clearer
    return _told(accepted(account, "contacts_json_import", len(rows), work))


def _imported(
    account: Customer, endpoint: str, rows: Sequence[Mapping[str, Any]], list_ids: Sequence[str]
) -> Done:
    """Carry an import out: who unsubscribed is counted, and stays off the lists."""
    errors: list[str] = []
    kept_off = 0
    for row in rows:
        email = row.get("email")
        if not isinstance(email, str) or "@" not in email or not _fits(email):
            errors.append("email is invalid")
            continue
        before = account.contacts.by_email(email)
        is_out = before is not None and before.status == UNSUBSCRIBED
        kept_off += is_out
        contact = account.contacts.put(
            _row_applied(account, before, row, () if is_out else list_ids)
        )
        tell(account, endpoint, contact, created=before is None)
    counts = {"cannot_add_to_list_count": kept_off, "person_count": len(rows) - len(errors)}
    return Done(len(rows) - len(errors), errors, counts)


def _fits(email: str) -> bool:
    return len(email) <= IMPORT_EMAIL_CHARACTERS_MAX


def _row_applied(
    account: Customer, before: Contact | None, row: Mapping[str, Any], list_ids: Sequence[str]
) -> Contact:
    now_s = account.now_s
    contact = before or Contact(
        account.contacts.new_id(), now_s, now_s, Address(row["email"], created_s=now_s)
    )
    core = {name: row[name] for name in CORE_COLUMNS if row.get(name)}
    fields = {
        each.id: {"custom_field_id": each.id, "value": str(row[f"cf:{each.name}"])}
        for each in account.custom_fields.by_id.values()
        if row.get(f"cf:{each.name}")
    }
    phones = tuple(
        {"phone_number": row[f"{kind}_phone"], "kind": kind}
        for kind in ("home", "work", "mobile")
        if row.get(f"{kind}_phone")
    )
    return replace(
        contact,
        core={**contact.core, **core},
        custom_fields={**contact.custom_fields, **fields},
        phone_numbers=phones or contact.phone_numbers,
        lists=tuple(dict.fromkeys([*contact.lists, *list_ids])),
        updated_s=now_s,
        deleted_s=None,
    )


def _delete(account: Customer, request: Request) -> Answer:
    body = object_of(request)
    ids = _chosen(account, body, needs="contact_ids")
    endpoint, touches = request.endpoint, account.settings.deletion_updates

    def work() -> Done:
        for each in ids:
            contact = account.contacts.by_id[each]
            deleted = account.contacts.delete(contact, account.now_s, touches=touches)
            tell(account, endpoint, deleted, created=False)
        return Done(len(ids))

    return _told(accepted(account, "contact_delete", len(ids), work))


def _join(account: Customer, request: Request) -> Answer:
    return _moved(account, request, "add_list_memberships", join)


def _leave(account: Customer, request: Request) -> Answer:
    return _moved(account, request, "remove_list_memberships", leave)


def _moved(
    account: Customer,
    request: Request,
    kind: str,
    move: Callable[[Customer, Sequence[str], Sequence[str]], list[str]],
) -> Answer:
    body = object_of(request)
    list_ids = body.get("list_ids", [])
    _check_lists(account, list_ids)
    source = body.get("source")
    ids = _chosen(account, source if isinstance(source, dict) else {}, needs="source")

    def work() -> Done:
        return Done(len(move(account, ids, list_ids)))

    return _told(accepted(account, kind, len(ids), work))


def _chosen(account: Customer, source: Mapping[str, Any], *, needs: str) -> list[str]:
    """Return which contacts are meant; who is not there is passed over."""
    live = account.contacts.live
    if source.get("all_active_contacts"):
        return [each.id for each in live if each.status == "active"]
    ids, list_ids = source.get("contact_ids"), source.get("list_ids")
    if isinstance(ids, list) and 1 <= len(ids) <= CONTACT_IDS_MAX:
        return [each for each in account.contacts.by_id if each in ids]
    if isinstance(list_ids, list) and 1 <= len(list_ids) <= LIST_IDS_MAX:
        return [each.id for each in live if any(one in list_ids for one in each.lists)]
    message = f"{needs} is missing, or has too many items"
    raise invalid(message)


def _check_lists(account: Customer, list_ids: object) -> None:
    live = {each.id for each in account.lists.live}
    if (
        not isinstance(list_ids, list)
        or len(list_ids) > LIST_IDS_MAX
        or not all(isinstance(each, str) and each in live for each in list_ids)
    ):
        message = "list_ids does not have a valid value"
        raise invalid(message)


def _told(activity: dict[str, Any]) -> Answer:
    return Answer(201, activity)
