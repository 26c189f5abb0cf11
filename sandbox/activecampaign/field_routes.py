"""/fields, their options and relations, /fieldValues: custom fields and what is held in them."""

from typing import Any

from sandbox.activecampaign import contact_routes, errors, reading, values
from sandbox.activecampaign.account import ActiveCampaignAccount
from sandbox.activecampaign.contacts import Change
from sandbox.activecampaign.fields import CustomField, Option
from sandbox.exchange import Answer, Request, Routes

Account = ActiveCampaignAccount
FIELD, VALUE = "/api/3/fields/{field_id}", "/api/3/fieldValues/{value_id}"
FIELDS_PAGE = 100


def register(routes: Routes[Account]) -> None:
    routes.add("GET", "/api/3/fields")(_list)
    routes.add("POST", "/api/3/fields")(_create)
    routes.add("GET", FIELD)(_read)
    routes.add("PUT", FIELD)(_update)
    routes.add("DELETE", FIELD)(_delete)
    routes.add("GET", f"{FIELD}/options")(_options)
    routes.add("POST", "/api/3/fieldOption/bulk")(_add_options)
    routes.add("POST", "/api/3/fieldRels")(_relate)
    routes.add("GET", "/api/3/fieldValues")(_values)
    routes.add("POST", "/api/3/fieldValues")(_put_value)
    routes.add("GET", VALUE)(_read_value)


def shown(each: CustomField) -> dict[str, Any]:
    return {
        "title": each.title,
        "descript": each.description,
        "type": each.type,
        "isrequired": "0",
        "perstag": each.tag,
        "defval": None,
        "visible": str(int(each.is_visible)),
        "ordernum": str(each.order),
        "cdate": values.shown(each.created_s),
        "udate": values.shown(each.created_s),
        "options": [str(option.id) for option in each.options],
        "relations": [str(relation) for relation in each.relations],
        "links": {},
        "id": str(each.id),
    }


def _shown_option(each: CustomField, option: Option) -> dict[str, Any]:
    return {
        "field": str(each.id),
        "orderid": str(option.order),
        "value": option.value,
        "label": option.label,
        "isdefault": "0",
        "links": {},
        "id": str(option.id),
    }


def _list(account: Account, request: Request) -> Answer:
    tag = request.parameter("filters[perstag]").upper()
    chosen = [each for each in account.fields if not tag or each.tag == tag]
    limit, offset = reading.page(request, default=FIELDS_PAGE)
    some = chosen[offset : offset + limit]
    body = {
        "fieldOptions": [_shown_option(each, option) for each in some for option in each.options],
        "fieldRels": [
            {"field": str(each.id), "relid": str(list_id), "id": str(relation), "links": {}}
            for each in some
            for relation, list_id in each.relations.items()
        ],
        "fields": [shown(each) for each in some],
        "meta": {"total": str(len(chosen))},
    }
    return Answer(200, body)


def _create(account: Account, request: Request) -> Answer:
    made = account.fields.create(reading.inside(request, "field"), account.now_s)
    return Answer(201, {"field": shown(made)})


def _read(account: Account, request: Request) -> Answer:
    return Answer(200, {"field": shown(account.fields.get(reading.number(request, "field_id")))})


def _update(account: Account, request: Request) -> Answer:
    wanted = reading.inside(request, "field")
    changed = account.fields.get(reading.number(request, "field_id"))
    if title := str(wanted.get("title") or ""):
        account.fields.rename(changed, title)
    if tag := values.tag(str(wanted.get("perstag") or "")):
        changed.tag = tag
    return Answer(200, {"field": shown(changed)})


def _delete(account: Account, request: Request) -> Answer:
    gone = account.fields.remove(reading.number(request, "field_id"))
    account.contacts.forget_field(gone.id)
    return Answer(200, {})


def _options(account: Account, request: Request) -> Answer:
    each = account.fields.get(reading.number(request, "field_id"))
    return Answer(200, {"fieldOptions": [_shown_option(each, one) for one in each.options]})


def _add_options(account: Account, request: Request) -> Answer:
    given = request.json.get("fieldOptions") if isinstance(request.json, dict) else None
    if not isinstance(given, list):
        text = "Bulk operation failed. Request must contain an array of fieldOption objects."
        errors.refuse(Answer(422, {"errors": text}))
    rows = []
    for place, wanted in enumerate(given, start=1):
        each = account.fields.get(reading.whole(wanted.get("field")) or 0)
        value = str(wanted.get("value") or "")
        label = str(wanted.get("label") or value)
        option = account.fields.add_option(
            each, value, label, reading.whole(wanted.get("orderid")) or place
        )
        rows.append(_shown_option(each, option))
    return Answer(201, {"fieldOptions": rows})


def _relate(account: Account, request: Request) -> Answer:
    wanted = reading.inside(request, "fieldRel")
    each = account.fields.get(reading.whole(wanted.get("field")) or 0)
    list_id = reading.whole(wanted.get("relid")) or 0
    if list_id:
        account.lists.get(list_id)
    relation = account.fields.relate(each, list_id)
    row = {"relid": list_id, "field": each.id, "links": [], "id": str(relation)}
    return Answer(201, {"fieldRel": {**row, "cdate": values.shown(account.now_s)}})


def _values(account: Account, request: Request) -> Answer:
    rows = [row for contact in account.contacts for row in contact_routes.values_of(contact)]
    return reading.paged(request, "fieldValues", rows)


def _put_value(account: Account, request: Request) -> Answer:
    """Set one value of a contact, for the first time or again."""
    wanted = reading.inside(request, "fieldValue")
    contact = contact_routes.found(account, reading.whole(wanted.get("contact")) or 0)
    field_id = reading.whole(wanted.get("field"))
    if field_id is None or field_id not in account.fields:
        errors.invalid("Field id not valid", pointer="field")
    change = Change(values={field_id: str(wanted.get("value") or "")})
    account.contacts.apply(contact, change, account.loudly)
    account.writes.add(
        request.endpoint,
        identity=contact.email,
        attributes=wanted,
        contact_id=contact.id,
        created=False,
    )
    [row] = [row for row in contact_routes.values_of(contact) if row["field"] == str(field_id)]
    return Answer(200, {"contacts": [contact_routes.shown(account, contact)], "fieldValue": row})


def _read_value(account: Account, request: Request) -> Answer:
    number = request.arguments["value_id"]
    for contact in account.contacts:
        for row in contact_routes.values_of(contact):
            if row["id"] == number:
                return Answer(200, {"fieldValue": row})
    return errors.absent("FieldValue", number)
