"""The properties endpoints: definitions of contact properties, and their groups.

Source: guide "Properties" and HubSpot's OpenAPI of properties. There is no paging.
"""

from typing import Any

from sandbox.exchange import Answer, RefusedError, Request, Routes
from sandbox.hubspot import errors, versions
from sandbox.hubspot.bodies import inputs_of, object_of
from sandbox.hubspot.properties import Property
from sandbox.hubspot.state import Portal, contacts_only

READ = (
    "crm.schemas.contacts.read",
    "crm.objects.contacts.read",
    "crm.objects.contacts.write",
)
WRITE = ("crm.schemas.contacts.write",)


def register(routes: Routes[Portal]) -> None:
    """Add the properties endpoints of every generation."""
    for method, rest, handler in (
        ("GET", "", _all),
        ("GET", "/groups", _groups),
        ("GET", "/groups/{group}", _group),
        ("GET", "/{name}", _get),
        ("POST", "/batch/read", _batch_read),
    ):
        routes.add(method, *versions.properties(rest), any_scope=READ)(contacts_only(handler))
    for method, rest, handler in (
        ("POST", "", _create),
        ("PATCH", "/{name}", _change),
        ("DELETE", "/{name}", _archive),
        ("POST", "/groups", _create_group),
        ("PATCH", "/groups/{group}", _change_group),
        ("DELETE", "/groups/{group}", _archive_group),
        ("POST", "/batch/create", _batch_create),
        ("POST", "/batch/archive", _batch_archive),
    ):
        routes.add(method, *versions.properties(rest), scopes=WRITE)(contacts_only(handler))


def _all(portal: Portal, request: Request) -> Answer:
    archived = request.flag("archived")
    sensitivity = request.parameter("dataSensitivity") or "non_sensitive"
    results = [
        each
        for each in portal.properties.by_name.values()
        if each.archived is archived and each.data_sensitivity == sensitivity
    ]
    return Answer(200, {"results": results})


def _get(portal: Portal, request: Request) -> Answer:
    return Answer(200, _wanted(portal, request.arguments["name"], request))


def _wanted(portal: Portal, name: str, request: Request) -> Property:
    definition = portal.properties.by_name.get(name)
    if definition is None or definition.archived is not request.flag("archived"):
        raise errors.not_found()
    return definition


def _create(portal: Portal, request: Request) -> Answer:
    return Answer(201, portal.properties.create(object_of(request), portal.clock.now_ms()))


def _change(portal: Portal, request: Request) -> Answer:
    name, wish = request.arguments["name"], object_of(request)
    return Answer(200, portal.properties.change(name, wish, portal.clock.now_ms()))


def _archive(portal: Portal, request: Request) -> Answer:
    portal.properties.archive(request.arguments["name"], portal.clock.now_ms())
    return Answer(204)


def _batch_read(portal: Portal, request: Request) -> Answer:
    wish = object_of(request)
    names = [str(each.get("name")) for each in inputs_of(request)]
    archived = bool(wish.get("archived"))
    known = portal.properties.by_name
    there = [each for each in names if each in known and known[each].archived is archived]
    missing = [each for each in names if each not in there]
    problem = {
        "status": "error",
        "category": "OBJECT_NOT_FOUND",
        "message": "Could not get some properties, they may be deleted or not exist.",
        "context": {"name": missing},
    }
    return _batch(portal, request, [known[each] for each in there], [problem] if missing else [])


def _batch_create(portal: Portal, request: Request) -> Answer:
    results: list[Property] = []
    problems: list[dict[str, Any]] = []
    for each in inputs_of(request):
        try:
            results.append(portal.properties.create(each, portal.clock.now_ms()))
        except RefusedError as refused:
            told = refused.answer.body
            assert isinstance(told, dict)
            more = {"status": "error", "context": {"name": [str(each.get("name"))]}}
            problems.append({"category": "VALIDATION_ERROR", **told, **more})
    return _batch(portal, request, results, problems, status=201)


def _batch_archive(portal: Portal, request: Request) -> Answer:
    for each in inputs_of(request):
        if portal.properties.live(str(each.get("name"))):
            portal.properties.archive(str(each["name"]), portal.clock.now_ms())
    return Answer(204)


def _batch(
    portal: Portal,
    request: Request,
    results: list[Property],
    problems: list[dict[str, Any]],
    *,
    status: int = 200,
) -> Answer:
    now = errors.iso(portal.clock.now_ms())
    body: dict[str, Any] = {"status": "COMPLETE", "results": results}
    body |= {"startedAt": now, "completedAt": now}
    if problems:
        body |= {"numErrors": len(problems), "errors": problems}
        status = 200 if "/2026-09/" in request.path else 207
    return Answer(status, body)


def _groups(portal: Portal, request: Request) -> Answer:
    groups = portal.properties.groups
    return Answer(200, {"results": [_described(portal, name) for name in groups]})


def _group(portal: Portal, request: Request) -> Answer:
    return Answer(200, _described(portal, _known_group(portal, request)))


def _create_group(portal: Portal, request: Request) -> Answer:
    wish = object_of(request)
    name, label = wish.get("name"), wish.get("label")
    if not (isinstance(name, str) and isinstance(label, str)):
        message = "Invalid input JSON: some of required attributes are not set [name, label]"
        raise errors.invalid(message)
    if name in portal.properties.groups:
        message = f"A property group named '{name}' already exists."
        raise errors.refused(409, message, category="OBJECT_ALREADY_EXISTS")
    portal.properties.groups[name] = label
    return Answer(201, _described(portal, name))


def _change_group(portal: Portal, request: Request) -> Answer:
    name = _known_group(portal, request)
    label = object_of(request).get("label")
    if isinstance(label, str):
        portal.properties.groups[name] = label
    return Answer(200, _described(portal, name))


def _archive_group(portal: Portal, request: Request) -> Answer:
    name = _known_group(portal, request)
    live = [each for each in portal.properties.by_name.values() if not each.archived]
    if any(each.group_name == name for each in live):
        message = f"Property group {name} still has properties"
        raise errors.invalid(message)
    del portal.properties.groups[name]
    return Answer(204)


def _known_group(portal: Portal, request: Request) -> str:
    name = request.arguments["group"]
    if name not in portal.properties.groups:
        raise errors.not_found()
    return name


def _described(portal: Portal, name: str) -> dict[str, Any]:
    label = portal.properties.groups[name]
    return {"name": name, "label": label, "displayOrder": -1, "archived": False}
