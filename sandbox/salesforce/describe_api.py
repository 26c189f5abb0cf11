"""Versions, objects and their fields, limits: what an org is like, for the app's user."""

from email.utils import parsedate_to_datetime
from typing import Any

from sandbox.exchange import Answer, Request, Routes
from sandbox.salesforce.errors import JSON, refused
from sandbox.salesforce.org import Org
from sandbox.salesforce.query_api import DATA
from sandbox.salesforce.records import Table
from sandbox.salesforce.state import NEWEST, OLDEST
from sandbox.salesforce.tables import found_table

_SEASONS = ("Winter", "Spring", "Summer")
_BULK_QUERY_JOBS = 10_000
_BULK_STORAGE_MB = 1_000_000


def register(routes: Routes[Org]) -> None:
    """Add what describes an org."""
    routes.add("GET", "/services/data", open=True)(_versions)
    routes.add("GET", f"{DATA}")(_resources)
    routes.add("GET", f"{DATA}/sobjects")(_objects)
    routes.add("GET", f"{DATA}/sobjects/{{object}}")(_object)
    routes.add("GET", f"{DATA}/sobjects/{{object}}/describe")(_describe)
    routes.add("GET", f"{DATA}/limits")(_limits)


def _versions(account: Org, request: Request) -> Answer:
    """Return the versions, oldest first; a release has one in each season."""
    told = [
        {
            "label": f"{_SEASONS[(number + 1) % 3]} '{(number + 13) // 3:02d}",
            "url": f"/services/data/v{number}.0",
            "version": f"{number}.0",
        }
        for number in range(OLDEST, NEWEST + 1)
    ]
    return Answer(200, told, media_type=JSON)


def _resources(account: Org, request: Request) -> Answer:
    base = f"/services/data/{request.arguments['version']}"
    names = ("sobjects", "query", "queryAll", "limits", "composite", "jobs")
    return Answer(200, {name: f"{base}/{name}" for name in names})


def _objects(account: Org, request: Request) -> Answer:
    hidden = account.settings.hidden_objects
    version = request.arguments["version"]
    told = [
        _header(account, table, version)
        for table in account.tables.values()
        if table.name not in hidden
    ]
    return Answer(200, {"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": told})


def _object(account: Org, request: Request) -> Answer:
    table = found_table(account, request)
    header = _header(account, table, request.arguments["version"])
    return Answer(200, {"objectDescribe": header, "recentItems": []})


def _describe(account: Org, request: Request) -> Answer:
    """Return an object's fields, those that the user may see; nothing if it is as it was."""
    table = found_table(account, request)
    since = request.headers.get("if-modified-since")
    if since and not _is_newer(table, since):
        return Answer(304)
    fields = [
        each.described()
        for each in table.fields.values()
        if (table.name, each.name) not in account.hidden_fields
    ]
    header = _header(account, table, request.arguments["version"])
    more = {"fields": fields, "recordTypeInfos": [], "childRelationships": []}
    return Answer(200, {**header, **more})


def _is_newer(table: Table, since: str) -> bool:
    try:
        return table.schema_changed_s > parsedate_to_datetime(since).timestamp()
    except ValueError:
        return True


def _header(org: Org, table: Table, version: str) -> dict[str, Any]:
    kind = table.kind
    is_writable = kind.is_writable and kind.name not in org.settings.read_only_objects
    base = f"/services/data/{version}/sobjects/{kind.name}"
    return {
        "activateable": False,
        "createable": is_writable,
        "custom": False,
        "customSetting": False,
        "deletable": is_writable and kind.name not in org.settings.undeletable_objects,
        "deprecatedAndHidden": False,
        "feedEnabled": kind.is_writable,
        "keyPrefix": table.prefix,
        "label": kind.label,
        "labelPlural": kind.plural,
        "layoutable": True,
        "mergeable": kind.is_mergeable and is_writable,
        "mruEnabled": True,
        "name": kind.name,
        "queryable": True,
        "replicateable": kind.has_bin,
        "retrieveable": True,
        "searchable": True,
        "triggerable": True,
        "undeletable": kind.has_bin and is_writable,
        "updateable": is_writable,
        "urls": {
            "sobject": base,
            "describe": f"{base}/describe",
            "rowTemplate": f"{base}/{{ID}}",
        },
    }


def _limits(account: Org, request: Request) -> Answer:
    """Return how much of each allocation is left; a right of its own is needed to see it."""
    if not account.settings.views_setup:
        message = "insufficient access rights on cross-reference id"
        raise refused(403, "INSUFFICIENT_ACCESS", message)
    (day,) = account.limits.read("daily")
    jobs = account.jobs_of_the_day()
    return Answer(
        200,
        {
            "DailyApiRequests": {"Max": day.limit, "Remaining": day.remaining},
            "DailyBulkApiBatches": {"Max": 15_000, "Remaining": 15_000},
            "DailyBulkV2QueryJobs": {"Max": _BULK_QUERY_JOBS, "Remaining": _BULK_QUERY_JOBS - jobs},
            "DailyBulkV2QueryFileStorageMB": {
                "Max": _BULK_STORAGE_MB,
                "Remaining": _BULK_STORAGE_MB,
            },
        },
    )
