"""/contacts/folders and /contacts/lists: folders, lists, and who is in a list."""

from typing import Any

import msgspec

from sandbox.brevo import errors, reading, values
from sandbox.brevo.account import BrevoAccount
from sandbox.brevo.contacts import Contact
from sandbox.brevo.lists import ContactList, Folder
from sandbox.exchange import Answer, Request, Routes

PAGE, PAGE_MAX = 10, 50
MEMBERS_MAX = 150  # developers.brevo.com, addContactToList: per call, of any kind.
FOLDER, LISTS = "/v3/contacts/folders/{folder_id}", "/v3/contacts/lists"


class FolderBody(msgspec.Struct):
    name: str | None = None


class ListBody(msgspec.Struct, rename="camel"):
    name: str | None = None
    folder_id: int | None = None


class Members(msgspec.Struct, rename="camel"):
    """Whom to add or remove: one kind of key only."""

    emails: list[str] | None = None
    ids: list[int] | None = None
    ext_ids: list[str] | None = None
    all: bool | None = None


def register(routes: Routes[BrevoAccount]) -> None:
    routes.add("GET", "/v3/contacts/folders")(_folders)
    routes.add("POST", "/v3/contacts/folders")(_create_folder)
    routes.add("GET", FOLDER)(_folder)
    routes.add("PUT", FOLDER)(_rename_folder)
    routes.add("DELETE", FOLDER)(_delete_folder)
    routes.add("GET", f"{FOLDER}/lists")(_lists_in_folder)
    routes.add("GET", LISTS)(_lists)
    routes.add("POST", LISTS)(_create_list)
    routes.add("GET", f"{LISTS}/{{list_id}}")(_list)
    routes.add("PUT", f"{LISTS}/{{list_id}}")(_change_list)
    routes.add("DELETE", f"{LISTS}/{{list_id}}")(_delete_list)
    routes.add("POST", f"{LISTS}/{{list_id}}/contacts/add", claim=_claim_members)(_add_members)
    routes.add("POST", f"{LISTS}/{{list_id}}/contacts/remove", claim=_claim_members)(
        _remove_members
    )


def _page(request: Request, key: str, rows: list[dict[str, Any]]) -> Answer:
    limit, offset = reading.page(request, default=PAGE, most=PAGE_MAX)
    ordered = rows[::-1] if reading.descending(request) else rows
    return Answer(200, {key: ordered[offset : offset + limit], "count": len(rows)})


def _shown_folder(account: BrevoAccount, folder: Folder) -> dict[str, Any]:
    members = [account.contacts.count(each.id) for each in account.lists.in_folder(folder.id)]
    return {"id": folder.id, "name": folder.name, **_totals(sum(members))}


def _shown_list(account: BrevoAccount, each: ContactList) -> dict[str, Any]:
    return {"id": each.id, "name": each.name, **_totals(account.contacts.count(each.id))}


def _totals(members: int) -> dict[str, int]:
    return {"totalBlacklisted": 0, "totalSubscribers": 0, "uniqueSubscribers": members}


def _folders(account: BrevoAccount, request: Request) -> Answer:
    shown = [_shown_folder(account, folder) for folder in account.lists.folders]
    return _page(request, "folders", shown)


def _create_folder(account: BrevoAccount, request: Request) -> Answer:
    name = reading.body(request, FolderBody).name or errors.missing("name is missing")
    return Answer(201, {"id": account.lists.create_folder(name).id})


def _folder(account: BrevoAccount, request: Request) -> Answer:
    folder = account.lists.folder(reading.number(request, "folder_id"))
    return Answer(200, _shown_folder(account, folder))


def _rename_folder(account: BrevoAccount, request: Request) -> Answer:
    folder = account.lists.folder(reading.number(request, "folder_id"))
    folder.name = reading.body(request, FolderBody).name or errors.missing("name is missing")
    return Answer(204)


def _delete_folder(account: BrevoAccount, request: Request) -> Answer:
    for gone in account.lists.delete_folder(reading.number(request, "folder_id")):
        account.contacts.forget_list(gone.id)
    return Answer(204)


def _lists_in_folder(account: BrevoAccount, request: Request) -> Answer:
    lists = account.lists.in_folder(reading.number(request, "folder_id"))
    return _page(request, "lists", [_shown_list(account, each) for each in lists])


def _lists(account: BrevoAccount, request: Request) -> Answer:
    shown = [{**_shown_list(account, each), "folderId": each.folder_id} for each in account.lists]
    return _page(request, "lists", shown)


def _create_list(account: BrevoAccount, request: Request) -> Answer:
    wanted = reading.body(request, ListBody)
    name = wanted.name or errors.missing("name is missing")
    folder_id = wanted.folder_id or errors.missing("folderId is missing")
    return Answer(201, {"id": account.lists.create(name, folder_id, account.now_us()).id})


def _list(account: BrevoAccount, request: Request) -> Answer:
    each = account.lists.get(reading.number(request, "list_id"))
    more = {
        "folderId": each.folder_id,
        "createdAt": account.shown_time(each.created_us),
        "dynamicList": False,
        "campaignStats": [],
    }
    return Answer(200, {**_shown_list(account, each), **more})


def _change_list(account: BrevoAccount, request: Request) -> Answer:
    """Rename a list or move it, one of both at a time."""
    each = account.lists.get(reading.number(request, "list_id"))
    wanted = reading.body(request, ListBody)
    if wanted.name and wanted.folder_id:
        errors.invalid("Either name or folderId can be updated at a time")
    if wanted.folder_id:
        account.lists.move(each, wanted.folder_id)
    else:
        each.name = wanted.name or errors.missing("name or folderId is missing")
    return Answer(204)


def _delete_list(account: BrevoAccount, request: Request) -> Answer:
    gone = account.lists.delete(reading.number(request, "list_id"))
    account.contacts.forget_list(gone.id)
    return Answer(204)


def _add_members(account: BrevoAccount, request: Request) -> Answer:
    each = account.lists.get(reading.number(request, "list_id"))
    wanted = reading.body(request, Members)
    done: list[str | int] = []
    failed: list[str | int] = []
    for key, contact in _members(account, wanted):
        joined = contact is not None and account.contacts.join(contact, each.id)
        (done if joined else failed).append(key)
    if not done:
        errors.invalid("Contact already in list and/or does not exist")
    return Answer(201, {"contacts": {"success": done, "failure": failed}})


def _claim_members(account: BrevoAccount, request: Request) -> Answer:
    """Answer as if every contact had joined or left: a lie."""
    wanted = reading.body(request, Members)
    keys = wanted.emails or wanted.ids or wanted.ext_ids or []
    return Answer(201, {"contacts": {"success": keys, "failure": []}})


def _remove_members(account: BrevoAccount, request: Request) -> Answer:
    each = account.lists.get(reading.number(request, "list_id"))
    wanted = reading.body(request, Members)
    if wanted.all:
        return _remove_all(account, each)
    done: list[str | int] = []
    failed: list[str | int] = []
    for key, contact in _members(account, wanted):
        left = contact is not None and account.contacts.leave(contact, each.id)
        (done if left else failed).append(key)
    if not done:
        errors.invalid("Contact already removed from list and/or does not exist")
    return Answer(201, {"contacts": {"success": done, "failure": failed}})


def _remove_all(account: BrevoAccount, each: ContactList) -> Answer:
    """Empty a list at once: a process is named because callers are told one, and it is over."""
    members = account.contacts.members(each.id)
    for contact in members:
        account.contacts.leave(contact, each.id)
    process = account.open_process("TRANS-CALC", delay_s=0)
    process.status = "completed"
    return Answer(201, {"contacts": {"total": len(members), "processId": process.id}})


def _members(account: BrevoAccount, wanted: Members) -> list[tuple[str | int, Contact | None]]:
    """Return each key that was given with its contact, or with None if there is none."""
    given = [keys for keys in (wanted.emails, wanted.ids, wanted.ext_ids) if keys]
    if not given:
        errors.missing("Pass emails, ids or extIds")
    if len(given) > 1:
        errors.invalid("Pass only one of emails, ids or extIds")
    if len(given[0]) > MEMBERS_MAX:
        errors.out_of_range(f"At most {MEMBERS_MAX} contacts can be passed")
    contacts = account.contacts
    if wanted.ids:
        return [(key, contacts.get(key)) for key in wanted.ids]
    if wanted.ext_ids:
        return [(key, contacts.owner("EXT_ID", key)) for key in wanted.ext_ids]
    return [(key, contacts.owner("EMAIL", values.email(key) or "")) for key in wanted.emails or ()]
