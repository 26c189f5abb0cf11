"""/contacts/import and /processes: accept an import, carry it out later, tell how far it is."""

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx
import msgspec

from sandbox.brevo import errors, imports, reading
from sandbox.brevo.account import BrevoAccount
from sandbox.brevo.imports import IMPORT_BYTES_MAX, Options, Process, Row
from sandbox.exchange import Answer, Request, Routes

PAGE, PAGE_MAX = 10, 50
LOOK_S = 0.05  # How soon an import notices that the sandbox's clock was moved.
ROWS_AT_ONCE = 500  # Between two calls of others: some 10 ms.
NOTIFY_TIMEOUT_S = 5.0


class NewList(msgspec.Struct, rename="camel"):
    list_name: str | None = None
    folder_id: int | None = None


class ImportBody(msgspec.Struct, rename="camel"):
    json_body: list[Row] | None = None
    file_body: str | None = None
    file_url: str | None = None
    list_ids: list[int] | None = None
    new_list: NewList | None = None
    update_existing_contacts: bool | None = None
    empty_contacts_attributes: bool | None = None
    email_blacklist: bool | None = None
    sms_blacklist: bool | None = None
    disable_notification: bool | None = None
    notify_url: str | None = None


def register(routes: Routes[BrevoAccount]) -> None:
    routes.add("POST", "/v3/contacts/import", claim=_claim_import)(_import)
    routes.add("GET", "/v3/processes")(_processes)
    routes.add("GET", "/v3/processes/{process_id}")(_process)
    # Where Brevo's reports really lie is a store of files that asks for no key.
    routes.add("GET", "/files/{account}/imports/{process_id}/{report}.csv", open=True)(_report)


def _import(account: BrevoAccount, request: Request) -> Answer:
    wanted = reading.body(request, ImportBody)
    given = [wanted.json_body, wanted.file_body, wanted.file_url]
    if not any(given):
        errors.missing("fileUrl, fileBody or jsonBody is missing")
    if sum(each is not None for each in given) > 1:
        errors.invalid("Pass only one of fileUrl, fileBody or jsonBody")
    if wanted.file_url is None and len(request.body) > IMPORT_BYTES_MAX:
        errors.out_of_range("The body exceeds the maximum size of 10MB")
    options = Options(
        list_ids=_list_ids(account, wanted),
        update_existing=wanted.update_existing_contacts is not False,
        empty_erases=bool(wanted.empty_contacts_attributes),
        email_blacklist=bool(wanted.email_blacklist),
        sms_blacklist=bool(wanted.sms_blacklist),
        from_text=wanted.json_body is None,
    )
    process = account.open_process(
        "IMPORTUSER", delay_s=account.settings.import_delay_s, notify_url=wanted.notify_url
    )
    account.run(_carry_out(account, process, wanted, options))
    return Answer(202, {"processId": process.id})


def _claim_import(account: BrevoAccount, request: Request) -> Answer:
    """Accept an import, and report it as completed without a row of it applied: a lie."""
    process = account.open_process("IMPORTUSER", delay_s=0)
    process.status = "completed"
    return Answer(202, {"processId": process.id})


def _list_ids(account: BrevoAccount, wanted: ImportBody) -> Sequence[int]:
    if wanted.new_list is not None and wanted.new_list.list_name:
        folder_id = wanted.new_list.folder_id or errors.missing("folderId is missing")
        created = account.lists.create(wanted.new_list.list_name, folder_id, account.now_us())
        return [created.id, *(wanted.list_ids or ())]
    if not wanted.list_ids:
        errors.missing("listIds or newList is missing")
    if any(list_id not in account.lists for list_id in wanted.list_ids):
        errors.invalid("List ID does not exist")
    return wanted.list_ids


async def _carry_out(
    account: BrevoAccount, process: Process, wanted: ImportBody, options: Options
) -> None:
    # A clock that a test may move gives no event when it is.
    while (left_s := process.due_s - account.clock.now_s()) > 0:  # noqa: ASYNC110 - see above
        await asyncio.sleep(min(left_s, LOOK_S))
    process.status = "processing"
    outcome = account.settings.import_outcome
    try:
        rows = await _rows(wanted)
    except (ValueError, httpx.HTTPError):
        rows, outcome = [], "failed"
    done = len(rows) if outcome == "completed" else len(rows) // 2
    for start in range(0, done, ROWS_AT_ONCE):
        some = rows[start : min(start + ROWS_AT_ONCE, done)]
        share = account.settings.import_silent_failures
        imports.apply(account, process, some, options, silent_share=share)
        await asyncio.sleep(0)
    process.status = outcome
    await _notify(process)


async def _rows(wanted: ImportBody) -> Sequence[Row]:
    """Return the rows of whatever was sent; raises ValueError if they cannot be read."""
    if wanted.json_body is not None:
        return wanted.json_body
    if wanted.file_body is not None:
        return imports.rows_of_csv(wanted.file_body)
    assert wanted.file_url is not None, "one of the three was given"
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = (await client.get(wanted.file_url)).raise_for_status()
    if wanted.file_url.endswith(".json"):
        return msgspec.json.decode(answer.content, type=list[Row])
    return imports.rows_of_csv(answer.text)


async def _notify(process: Process) -> None:
    """Tell the caller that it is over. What Brevo posts is not documented: ids and counts here."""
    if process.notify_url is None:
        return
    told = {
        "processId": process.id,
        "name": process.name,
        "status": process.status,
        "created": process.created,
        "updated": process.updated,
        "rejected": sum(map(len, process.rejected.values())),
    }
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=NOTIFY_TIMEOUT_S) as client:
            answer = await client.post(process.notify_url, json=told)
        process.notified = f"HTTP {answer.status_code}"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        process.notified = type(error).__name__


def _processes(account: BrevoAccount, request: Request) -> Answer:
    limit, offset = reading.page(request, default=PAGE, most=PAGE_MAX)
    processes = list(account.processes.values())
    ordered = processes[::-1] if reading.descending(request) else processes
    rows = [_shown(account, request, each) for each in ordered[offset : offset + limit]]
    return Answer(200, {"processes": rows, "count": len(processes)})


def _process(account: BrevoAccount, request: Request) -> Answer:
    return Answer(200, _shown(account, request, _find(account, request)))


def _find(account: BrevoAccount, request: Request) -> Process:
    text = request.arguments["process_id"]
    process = account.processes.get(int(text)) if text.isdecimal() else None
    if process is None:
        errors.refuse(404, "invalid_parameter", "processId is invalid")
    return process


def _shown(account: BrevoAccount, request: Request, process: Process) -> dict[str, Any]:
    status = process.status_at(account.clock.now_s())
    body: dict[str, Any] = {"id": process.id, "name": process.name, "status": status}
    if process.name == "IMPORTUSER" and status == "completed":
        files = f"{request.base_url}/files/{account.id}/imports/{process.id}"
        urls = {
            report: f"{files}/{report}.csv" if report in process.rejected else None
            for report in imports.REPORTS
        }
        body["info"] = {"import": urls}
    return body


def _report(account: BrevoAccount, request: Request) -> Answer:
    process = _find(account, request)
    report = request.arguments["report"]
    if report not in process.rejected:
        errors.unknown("There is no such file")
    return Answer(200, process.report_csv(report).encode(), media_type="text/csv; charset=utf-8")
