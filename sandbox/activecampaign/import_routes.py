"""/import: hand in an import, ask how it stands, see the queue."""

from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

from sandbox.activecampaign import errors, imports, reading
from sandbox.activecampaign.account import ActiveCampaignAccount
from sandbox.activecampaign.imports import Batch, ImportBody
from sandbox.exchange import Answer, Request, Routes

Account = ActiveCampaignAccount
BULK = "/api/3/import/bulk_import"
_LIMITS = {
    "import": "Up to 100 imports may be requested per minute.",
    "import_single": "Up to 20 imports of a single contact may be requested per minute.",
}


def register(routes: Routes[Account]) -> None:
    routes.add("POST", BULK, claim=_claim, is_import=True)(_import)
    routes.add("GET", BULK)(_queue)
    routes.add("GET", "/api/3/import/info")(_status)


def bucket(request: Request) -> str:
    """Return which limit an import is counted by: those of one contact have their own."""
    found = request.json.get("contacts") if isinstance(request.json, dict) else None
    return "import_single" if isinstance(found, list) and len(found) == 1 else "import"


def over_limit(name: str) -> Answer:
    """Return what an import over its limit is answered: 400, not 429."""
    advice = "Please batch contacts into larger requests, or retry this request in a minute."
    reasons = [f"{_LIMITS[name]} {advice}"]
    body = {"success": 0, "message": "Rate limit exceeded.", "failureReasons": reasons}
    return Answer(400, body)


def _import(account: Account, request: Request) -> Answer:
    wanted = reading.body(request, ImportBody)
    imports.check(wanted, len(request.body))
    batch, queued = account.queue(wanted)
    return _queued(batch.id, queued)


def _queued(batch_id: str, count: int) -> Answer:
    message = "Contact import queued"
    body = {"Success": 1, "queued_contacts": count, "batchId": batch_id, "message": message}
    return Answer(200, body)


def _claim(account: Account, request: Request) -> Answer:
    """Queue an import, and report it as completed without a row of it applied: a lie."""
    batch, queued = account.queue(ImportBody())
    account.settle()
    return _queued(batch.id, queued)


def _status(account: Account, request: Request) -> Answer:
    batch_id = request.parameter("batchId")
    if not batch_id:
        body = {"success": 0, "message": "'batchId' is a required field."}
        errors.refuse(Answer(400, body))
    batch = account.batches.get(batch_id)
    status = batch.status_at(account.now_s) if batch else False
    if batch is None or status is False:
        return Answer(200, {"status": False, "success": [], "failure": []})
    return Answer(200, {"status": status, "success": batch.success, "failure": batch.failure})


def _queue(account: Account, request: Request) -> Answer:
    """Answer what waits by day, in numbers alone, and what was completed of late."""
    waiting: dict[str, list[Batch]] = defaultdict(list)
    done: list[dict[str, Any]] = []
    for batch in account.batches.values():
        if batch.is_applied:
            done.append({"batchId": batch.id, "contacts": str(len(batch.rows))})
        else:
            day = datetime.fromtimestamp(batch.created_s, UTC).date().isoformat()
            waiting[day].append(batch)
    outstanding = [
        {
            "forDate": day,
            "batches": str(len(batches)),
            "contacts": str(sum(len(each.rows) for each in batches)),
        }
        for day, batches in waiting.items()
    ]
    return Answer(200, {"outstanding": outstanding, "recentlyCompleted": done[-20:]})
