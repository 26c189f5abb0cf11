"""/tags and /contactTags: labels of contacts, which automations may watch."""

from typing import Any

from sandbox.activecampaign import errors, reading, values
from sandbox.activecampaign.account import ActiveCampaignAccount
from sandbox.activecampaign.fields import Tag
from sandbox.exchange import Answer, Request, Routes

Account = ActiveCampaignAccount
TAG = "/api/3/tags/{tag_id}"


def register(routes: Routes[Account]) -> None:
    routes.add("GET", "/api/3/tags")(_list)
    routes.add("POST", "/api/3/tags")(_create)
    routes.add("GET", TAG)(_read)
    routes.add("PUT", TAG)(_update)
    routes.add("DELETE", TAG)(_delete)
    routes.add("POST", "/api/3/contactTags")(_put)
    routes.add("DELETE", "/api/3/contactTags/{link_id}")(_take_off)


def _shown(each: Tag) -> dict[str, Any]:
    return {
        "tagType": "contact",
        "tag": each.name,
        "description": each.description,
        "cdate": values.shown(each.created_s),
        "links": {},
        "id": str(each.id),
    }


def _list(account: Account, request: Request) -> Answer:
    """Answer the tags whose name contains `search`."""
    text = request.parameter("search").lower()
    found = [_shown(each) for each in account.tags if text in each.name.lower()]
    return reading.paged(request, "tags", found)


def _create(account: Account, request: Request) -> Answer:
    wanted = reading.inside(request, "tag")
    name = str(wanted.get("tag") or "")
    if not name:
        errors.invalid("The tag is required.", pointer="tag", code="field_missing")
    made = account.tags.named(name, account.now_s, str(wanted.get("description") or ""))
    return Answer(201, {"tag": _shown(made)})


def _read(account: Account, request: Request) -> Answer:
    return Answer(200, {"tag": _shown(account.tags.get(reading.number(request, "tag_id")))})


def _update(account: Account, request: Request) -> Answer:
    wanted = reading.inside(request, "tag")
    each = account.tags.get(reading.number(request, "tag_id"))
    each.name = str(wanted.get("tag") or each.name)
    each.description = str(wanted.get("description") or each.description)
    return Answer(200, {"tag": _shown(each)})


def _delete(account: Account, request: Request) -> Answer:
    tag_id = reading.number(request, "tag_id")
    account.tags.remove(tag_id)
    account.contacts.forget_tag(tag_id)
    return Answer(200, {})


def _put(account: Account, request: Request) -> Answer:
    wanted = reading.inside(request, "contactTag")
    for name in ("contact", "tag"):
        if not wanted.get(name):
            pointer = {"pointer": f"/data/attributes/{name}"}
            error = {"status": 422, "title": "Missing attribute", "source": pointer}
            errors.refuse(Answer(422, {"errors": [error]}))
    contact = account.contacts.get(reading.whole(wanted["contact"]) or 0)
    if contact is None:
        errors.whole(404, "Contact not found")
    each = account.tags.get(reading.whole(wanted["tag"]) or 0)
    link = account.contacts.tag(contact, each.id, account.loudly)
    row = {"contact": str(contact.id), "tag": str(each.id), "id": str(link), "links": {}}
    return Answer(201, {"contactTag": {"cdate": values.shown(account.now_s), **row}})


def _take_off(account: Account, request: Request) -> Answer:
    number = reading.number(request, "link_id")
    if not account.contacts.untag(number):
        errors.absent("SubscriberTag", number)
    return Answer(200, {})
