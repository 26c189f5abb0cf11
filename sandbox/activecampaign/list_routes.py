"""/lists and /listGroups: the lists of an account, and who among its users sees them."""

from typing import Any

from sandbox.activecampaign import errors, reading, values
from sandbox.activecampaign.account import ActiveCampaignAccount
from sandbox.activecampaign.lists import ContactList
from sandbox.exchange import Answer, RefusedError, Request, Routes

Account = ActiveCampaignAccount
LIST = "/api/3/lists/{list_id}"


def register(routes: Routes[Account]) -> None:
    routes.add("GET", "/api/3/lists")(_lists)
    routes.add("POST", "/api/3/lists")(_create)
    routes.add("GET", LIST)(_read)
    routes.add("DELETE", LIST)(_delete)
    routes.add("POST", "/api/3/listGroups")(_show_to_group)


def _shown(each: ContactList) -> dict[str, Any]:
    return {
        "stringid": each.string_id,
        "userid": "1",
        "name": each.name,
        "cdate": values.shown(each.created_s),
        "udate": None,
        "sender_url": each.sender_url,
        "sender_reminder": each.sender_reminder,
        "send_last_broadcast": str(int(each.sends_last_broadcast)),
        "channel": "email",
        "links": {},
        "id": str(each.id),
    }


def _lists(account: Account, request: Request) -> Answer:
    _refuse_without_right(account, "view")
    name = request.parameter("filters[name]").lower()
    found = [_shown(each) for each in account.lists if name in each.name.lower()]
    return reading.paged(request, "lists", found)


def _create(account: Account, request: Request) -> Answer:
    _refuse_without_right(account, "create")
    made = account.lists.create(reading.inside(request, "list"), account.now_s)
    return Answer(200, {"list": _shown(made)})  # 200 by the reference, not 201.


def _read(account: Account, request: Request) -> Answer:
    return Answer(200, {"list": _shown(account.lists.get(reading.number(request, "list_id")))})


def _delete(account: Account, request: Request) -> Answer:
    list_id = reading.number(request, "list_id")
    account.lists.delete(list_id)
    account.contacts.forget_list(list_id)
    return Answer(200, {})


def _show_to_group(account: Account, request: Request) -> Answer:
    wanted = reading.inside(request, "listGroup")
    shown = account.lists.get(reading.whole(wanted.get("listid")) or 0)
    shown.groups += 1
    row: dict[str, Any] = {
        "list": shown.id,
        "group": wanted.get("groupid"),
        "links": {},
        "id": str(shown.groups),
    }
    return Answer(201, {"listGroup": row})


def _refuse_without_right(account: Account, verb: str) -> None:
    """Refuse as the reference declares it: JSON under the name of plain text."""
    if account.settings.may_manage_lists:
        return
    try:
        errors.whole(403, f"You do not have permission to {verb} lists.")
    except RefusedError as refused:
        answer = refused.answer
        raise RefusedError(Answer(answer.status, answer.body, media_type="text/plain")) from None
