"""The contacts endpoints: reading, writing, batches, search, merging, deleting.

Sources: guides "Contacts", "Search the CRM" and "Handle errors", and HubSpot's OpenAPI of
contacts.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sandbox.exchange import Answer, RefusedError, Request, Routes
from sandbox.hubspot import errors, search, versions
from sandbox.hubspot.bodies import ID_DIGITS_MAX, bounded, inputs_of, number, object_of
from sandbox.hubspot.contacts import Contact, EmailTakenError
from sandbox.hubspot.errors import iso
from sandbox.hubspot.properties import LIFECYCLE_STAGES, ValueProblemError, accepted
from sandbox.hubspot.state import Portal, contacts_only

DEFAULT_PROPERTIES = (
    "createdate",
    "email",
    "firstname",
    "hs_object_id",
    "lastmodifieddate",
    "lastname",
)
PAGE_DEFAULT, PAGE_MAX, PAGE_WITH_HISTORY_MAX = 10, 100, 50
BATCH_MAX = 100
AFTER_MAX = 10**ID_DIGITS_MAX
MERGES_MAX = 250
READ = ("crm.objects.contacts.read",)
WRITE = ("crm.objects.contacts.write",)


def register(routes: Routes[Portal]) -> None:
    """Add the contacts endpoints of every generation."""
    for method, rest, handler, tags in (
        ("GET", "", _page, {"scopes": READ}),
        ("POST", "", _create, {"scopes": WRITE}),
        ("GET", "/{id}", _get, {"scopes": READ}),
        ("PATCH", "/{id}", _patch, {"scopes": WRITE}),
        ("DELETE", "/{id}", _delete, {"scopes": WRITE}),
        ("POST", "/search", _search, {"scopes": READ, "search": True}),
        ("POST", "/merge", _merge, {"scopes": WRITE}),
        ("POST", "/gdpr-delete", _gdpr_delete, {"scopes": WRITE}),
        ("POST", "/batch/read", _batch_read, {"scopes": READ}),
        ("POST", "/batch/create", _batch_create, {"scopes": WRITE}),
        ("POST", "/batch/update", _batch_update, {"scopes": WRITE}),
        ("POST", "/batch/upsert", _batch_upsert, {"scopes": WRITE}),
        ("POST", "/batch/archive", _batch_archive, {"scopes": WRITE}),
    ):
        routes.add(method, *versions.objects(rest), **tags)(contacts_only(handler))


def _page(portal: Portal, request: Request) -> Answer:
    with_history = _names(request, "propertiesWithHistory")
    limit_max = PAGE_WITH_HISTORY_MAX if with_history else PAGE_MAX
    wanted = request.parameter("limit") or str(PAGE_DEFAULT)
    limit = bounded(wanted, "limit", low=1, high=limit_max)
    after = bounded(request.parameter("after") or "0", "after", low=0, high=AFTER_MAX)
    contacts, following = portal.contacts.page(after, limit, archived=request.flag("archived"))
    properties = _names(request, "properties")
    results = [shown(portal, each, properties, with_history) for each in contacts]
    body: dict[str, Any] = {"results": results}
    if following is not None:
        link = f"{request.base_url}{request.path}?limit={limit}&after={following}"
        body["paging"] = {"next": {"after": str(following), "link": link}}
    return Answer(200, body)


def _get(portal: Portal, request: Request) -> Answer:
    contact = _wanted(portal, request)
    archived = request.flag("archived")
    if contact is None or (contact.archived_ms is not None) is not archived:
        raise errors.not_found()
    names = _names(request, "properties")
    history = _names(request, "propertiesWithHistory")
    return Answer(200, shown(portal, contact, names, history))


def _create(portal: Portal, request: Request) -> Answer:
    wish = object_of(request)
    contact = _created(portal, request, _properties_of(wish))
    headers = {"Location": f"{request.base_url}{request.path.rstrip('/')}/{contact.id}"}
    return Answer(201, whole(portal, contact), headers)


def _patch(portal: Portal, request: Request) -> Answer:
    contact = _wanted(portal, request)
    if contact is None or contact.archived_ms is not None:
        raise errors.not_found()
    return Answer(200, whole(portal, _updated(portal, request, contact, object_of(request))))


def _delete(portal: Portal, request: Request) -> Answer:
    contact = _wanted(portal, request)
    # An id that is not there is answered 204 too.
    if contact is not None and contact.archived_ms is None:
        portal.archive(contact, portal.clock.now_ms())
        _remember(portal, request, contact, {"archived": True})
    return Answer(204)


def _search(portal: Portal, request: Request) -> Answer:
    query = search.parsed_query(request)
    portal.index.catch_up(portal.clock.now_ms())
    page, total, following = portal.index.find(query, portal.properties)
    results = [shown(portal, each, query.properties or ()) for each in page]
    body: dict[str, Any] = {"total": total, "results": results}
    if following is not None:
        body["paging"] = {"next": {"after": str(following)}}
    return Answer(200, body)


def _merge(portal: Portal, request: Request) -> Answer:
    wish = object_of(request)
    primary = _live(portal, str(wish.get("primaryObjectId", "")))
    other = _live(portal, str(wish.get("objectIdToMerge", "")))
    if primary.id == other.id:
        message = "A contact cannot be merged with itself"
        raise errors.invalid(message)
    if len(primary.merged) + len(other.merged) >= MERGES_MAX:
        message = f"Cannot have more than {MERGES_MAX} identities on a profile"
        raise errors.invalid(message)
    survivor = portal.merge(primary, other, portal.clock.now_ms())
    _remember(portal, request, survivor, {"merged": f"{primary.id};{other.id}"})
    return Answer(200, whole(portal, survivor))


def _gdpr_delete(portal: Portal, request: Request) -> Answer:
    wish = object_of(request)
    identifier = str(wish.get("objectId", ""))
    contact = _find(portal, identifier, str(wish.get("idProperty") or "hs_object_id"))
    if contact is not None:
        portal.purge(contact, portal.clock.now_ms())
        _remember(portal, request, contact, {"purged": True})
    elif wish.get("idProperty") == "email":
        portal.blocked_emails.add(identifier.lower())
    return Answer(204)


def _batch_read(portal: Portal, request: Request) -> Answer:
    inputs = _inputs(request)
    body = object_of(request)
    id_property = str(body.get("idProperty") or "hs_object_id")
    archived = request.flag("archived")
    names = _listed(body, "properties")
    history = _listed(body, "propertiesWithHistory")
    results, missing = {}, []
    for each in inputs:
        identifier = str(each.get("id", ""))
        contact = _find(portal, identifier, id_property)
        if contact is None or (contact.archived_ms is not None) is not archived:
            missing.append(identifier)
        else:
            results[contact.id] = shown(portal, contact, names, history)
    return _batch(portal, request, list(results.values()), _not_there(missing))


def _batch_create(portal: Portal, request: Request) -> Answer:
    """Create all or none; or each for itself, if every input carries a trace id of its own."""
    inputs = _inputs(request)
    traces = [str(each.get("objectWriteTraceId") or "") for each in inputs]
    wishes = [_properties_of(each) for each in inputs]
    if all(traces) and len(set(traces)) == len(traces):
        return _created_each(portal, request, list(zip(traces, wishes, strict=True)))
    checked = [_checked_new(portal, wish) for wish in wishes]
    addresses = [wish["email"] for wish in checked if "email" in wish]
    for address in addresses:
        taken = portal.contacts.by_email(address)
        if taken is not None:
            raise errors.email_taken(taken.id)
    if len(set(addresses)) < len(addresses):
        message = "Duplicate email addresses found in batch input"
        raise errors.invalid(message)
    results = [whole(portal, _created(portal, request, wish)) for wish in wishes]
    return _batch(portal, request, results, [], status=201)


def _created_each(
    portal: Portal, request: Request, wishes: Sequence[tuple[str, Mapping[str, Any]]]
) -> Answer:
    results, problems = [], []
    for trace, wish in wishes:
        try:
            contact = _created(portal, request, wish)
        except RefusedError as refused:
            problems.append(_problem(refused, {"objectWriteTraceId": [trace]}))
        else:
            results.append({**whole(portal, contact), "objectWriteTraceId": trace})
    return _batch(portal, request, results, problems, status=201)


def _batch_update(portal: Portal, request: Request) -> Answer:
    found, missing = [], []
    for each in _inputs(request):
        identifier = str(each.get("id", ""))
        contact = _find(portal, identifier, str(each.get("idProperty") or "hs_object_id"))
        # Unlike the single update, this one does not know the ids of merged-away records.
        away = contact is not None and number(identifier) not in {None, contact.id}
        if contact is None or contact.archived_ms is not None or away:
            missing.append(identifier)
        else:
            _checked_change(portal, contact, _properties_of(each))
            found.append((contact.id, each))
    results = []
    for contact_id, each in found:
        contact = portal.contacts.by_id(contact_id)
        assert contact is not None
        results.append(whole(portal, _updated(portal, request, contact, each)))
    return _batch(portal, request, results, _not_there(missing))


def _batch_upsert(portal: Portal, request: Request) -> Answer:
    results = []
    for each in _inputs(request):
        id_property = str(each.get("idProperty") or "hs_object_id")
        identifier = str(each.get("id", ""))
        contact = _find(portal, identifier, id_property)
        if contact is not None and contact.archived_ms is None:
            contact = _updated(portal, request, contact, each)
            results.append({**whole(portal, contact), "new": False})
        elif id_property == "hs_object_id":
            raise errors.not_found()
        else:
            wish = {id_property: identifier, **_properties_of(each)}
            contact = _created(portal, request, wish)
            results.append({**whole(portal, contact), "new": True})
    return _batch(portal, request, results, [])


def _batch_archive(portal: Portal, request: Request) -> Answer:
    for each in _inputs(request):
        contact = _find(portal, str(each.get("id", "")), "hs_object_id")
        if contact is not None and contact.archived_ms is None:
            portal.archive(contact, portal.clock.now_ms())
            _remember(portal, request, contact, {"archived": True})
    return Answer(204)


def shown(
    portal: Portal, contact: Contact, names: Sequence[str] = (), history: Sequence[str] = ()
) -> dict[str, Any]:
    """Return a contact with these properties, or the default ones.

    A name that is not defined is left out; a property without a value is null.
    """
    live = portal.properties.live
    asked = sorted({*(names or DEFAULT_PROPERTIES), *ALWAYS})
    return {
        "id": str(contact.id),
        "properties": {name: contact.value(name) for name in asked if live(name)},
        **_stamps(contact),
        **_history(contact, history),
    }


ALWAYS = ("createdate", "hs_object_id", "lastmodifieddate")


def whole(portal: Portal, contact: Contact) -> dict[str, Any]:
    """Return a contact as a write answers it: with every property that has a value."""
    names = {*contact.properties, *DEFAULT_PROPERTIES, "hs_email_domain", "hs_merged_object_ids"}
    told = shown(portal, contact, list(names))
    told["properties"] = {
        name: value for name, value in told["properties"].items() if value is not None
    }
    return told


def _stamps(contact: Contact) -> dict[str, Any]:
    stamps: dict[str, Any] = {
        "createdAt": iso(contact.created_ms),
        "updatedAt": iso(contact.updated_ms),
        "archived": contact.archived_ms is not None,
    }
    if contact.archived_ms is not None:
        stamps["archivedAt"] = iso(contact.archived_ms)
    return stamps


def _history(contact: Contact, names: Sequence[str]) -> dict[str, Any]:
    if not names:
        return {}
    told = {}
    for name in names:
        value = contact.value(name)
        first = ((contact.created_ms, value),) if value else ()
        past = contact.history.get(name, first)
        told[name] = [
            {"value": value, "timestamp": iso(at_ms), "sourceType": "API"}
            for at_ms, value in reversed(past)
        ]
    return {"propertiesWithHistory": told}


def _batch(
    portal: Portal,
    request: Request,
    results: Sequence[Mapping[str, Any]],
    problems: Sequence[Mapping[str, Any]],
    *,
    status: int = 200,
) -> Answer:
    """Return a batch's answer: 207 if some failed, though 2026-09 declares 200 for that as well."""
    now = iso(portal.clock.now_ms())
    body: dict[str, Any] = {
        "status": "COMPLETE",
        "results": results,
        "startedAt": now,
        "completedAt": now,
    }
    if problems:
        body |= {"numErrors": len(problems), "errors": problems}
        status = 200 if "/2026-09/" in request.path else 207
    return Answer(status, body)


def _not_there(missing: Sequence[str]) -> list[dict[str, Any]]:
    if not missing:
        return []
    return [
        {
            "status": "error",
            "category": "OBJECT_NOT_FOUND",
            "message": "Could not get some CONTACT objects, they may be deleted or not exist."
            " Check that ids are valid.",
            "context": {"ids": list(missing)},
        }
    ]


def _problem(refused: RefusedError, context: Mapping[str, Any]) -> dict[str, Any]:
    told = refused.answer.body
    assert isinstance(told, dict)
    return {
        "status": "error",
        "category": told.get("category", "VALIDATION_ERROR"),
        "message": told["message"],
        "errors": told.get("errors", []),
        "links": {},
        "context": {**context},
    }


def _created(portal: Portal, request: Request, wish: Mapping[str, Any]) -> Contact:
    properties = _checked_new(portal, wish)
    try:
        contact = portal.create(properties, portal.clock.now_ms())
    except EmailTakenError as taken:
        raise errors.email_taken(taken.contact_id) from taken
    _remember(portal, request, contact, properties, created=True)
    return contact


def _updated(
    portal: Portal, request: Request, contact: Contact, wish: Mapping[str, Any]
) -> Contact:
    changes = _checked_change(portal, contact, _properties_of(wish))
    try:
        changed = portal.update(contact, changes, portal.clock.now_ms())
    except EmailTakenError as taken:
        raise errors.email_taken(taken.contact_id) from taken
    _remember(portal, request, changed, changes)
    return changed


def _checked_new(portal: Portal, wish: Mapping[str, Any]) -> dict[str, str]:
    properties = {name: value for name, value in _checked(portal, wish, None).items() if value}
    if not {"email", "firstname", "lastname"} & set(properties):
        message = "One of email, firstname or lastname is needed to create a contact"
        raise errors.invalid(message)
    if properties.get("email") in portal.blocked_emails:
        message = "This email address was deleted for privacy and cannot be used"
        raise errors.invalid(message)
    return {"lifecyclestage": "lead", **properties}


def _checked_change(portal: Portal, contact: Contact, wish: Mapping[str, Any]) -> dict[str, str]:
    changes = _checked(portal, wish, contact)
    stage, before = changes.get("lifecyclestage"), contact.properties.get("lifecyclestage")
    order = LIFECYCLE_STAGES.index
    if stage and before and order(stage) < order(before):
        del changes["lifecyclestage"]  # It moves forward only, and nothing is said about it.
    return changes


def _checked(portal: Portal, wish: Mapping[str, Any], contact: Contact | None) -> dict[str, str]:
    """Return values as they are kept; refuse the whole if one is not acceptable."""
    values, problems = {}, []
    for name, value in wish.items():
        definition = portal.properties.live(name)
        if definition is None:
            text, code = f'Property "{name}" does not exist', "PROPERTY_DOESNT_EXIST"
        elif not definition.writable:
            text, code = f'"{name}" is a read only property', "READ_ONLY_VALUE"
        else:
            try:
                before = contact.properties.get(name) if contact else None
                values[name] = accepted(definition, value, before)
            except ValueProblemError as problem:
                text, code = str(problem), problem.code
            else:
                continue
        problems.append({"message": text, "error": code, "name": name})
    if problems:
        raise errors.invalid_values(problems)
    _refuse_taken_values(portal, values, contact)
    return values


def _refuse_taken_values(
    portal: Portal, values: Mapping[str, str], contact: Contact | None
) -> None:
    for name, value in values.items():
        definition = portal.properties.live(name)
        if not value or definition is None or not definition.has_unique_value:
            continue
        owner = portal.contacts.by_unique(name, value)
        if owner is not None and (contact is None or owner.id != contact.id):
            message = f"A CONTACT with {name} '{value}' already exists: {owner.id}"
            raise errors.refused(409, message, category="CONFLICT")


def _remember(
    portal: Portal,
    request: Request,
    contact: Contact,
    attributes: Mapping[str, Any],
    *,
    created: bool = False,
) -> None:
    portal.writes.add(
        request.endpoint,
        identity=contact.email,
        attributes=attributes,
        contact_id=str(contact.id),
        created=created,
    )


def _wanted(portal: Portal, request: Request) -> Contact | None:
    """Return the contact that the path names, by id or by the property that the query names."""
    identifier = request.arguments["id"]
    id_property = request.parameter("idProperty") or "hs_object_id"
    if id_property == "hs_object_id" and number(identifier) is None:
        raise errors.not_numeric(identifier)
    return _find(portal, identifier, id_property)


def _find(portal: Portal, identifier: str, id_property: str) -> Contact | None:
    if id_property == "hs_object_id":
        contact_id = number(identifier)
        return None if contact_id is None else portal.contacts.by_id(contact_id)
    if id_property == "email":
        return portal.contacts.by_email(identifier)
    definition = portal.properties.live(id_property)
    if definition is None or not definition.has_unique_value:
        message = f"idProperty {id_property} is not a property with unique values"
        raise errors.invalid(message)
    return portal.contacts.by_unique(id_property, identifier)


def _live(portal: Portal, identifier: str) -> Contact:
    contact = _find(portal, identifier, "hs_object_id")
    if contact is None or contact.archived_ms is not None:
        raise errors.not_found()
    return contact


def _inputs(request: Request) -> list[dict[str, Any]]:
    inputs = inputs_of(request)
    if len(inputs) > BATCH_MAX:
        message = f"The maximum number of inputs supported in a batch request is {BATCH_MAX}"
        raise errors.invalid(message)
    return inputs


def _properties_of(wish: Mapping[str, Any]) -> dict[str, Any]:
    properties = wish.get("properties")
    if not isinstance(properties, dict):
        message = "Invalid input JSON: some of required attributes are not set [properties]"
        raise errors.invalid(message)
    return properties


def _listed(body: Mapping[str, Any], name: str) -> list[str]:
    """Return the names in a list of a body; the documentation leaves the list out at times."""
    listed = body.get(name) or []
    if not isinstance(listed, list):
        message = f"Invalid input JSON: {name} must be a list"
        raise errors.invalid(message)
    return [str(each) for each in listed]


def _names(request: Request, parameter: str) -> list[str]:
    """Return names given one by one or separated by commas."""
    values = request.query.get(parameter, [])
    return [name.strip() for value in values for name in value.split(",") if name.strip()]
