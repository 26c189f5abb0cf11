"""The mailbox's window: a page for people, JSON for tests, and the control of faults.

Mail is written by strangers as far as this page knows: every value is escaped, and an HTML part
is shown in a frame that runs no script and loads nothing.
"""

import json
from collections.abc import Iterable
from html import escape
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sandbox.mailbox.messages import Mail
from sandbox.mailbox.smtp import Mailbox

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
td, th { border-bottom: 1px solid #ccc; padding: .4rem; text-align: left; vertical-align: top }
pre { background: #f4f4f4; padding: 1rem; white-space: pre-wrap }
iframe { border: 1px solid #ccc; height: 30rem; width: 100% }
"""
# No script, no remote picture: a mail's HTML can do nothing but be looked at.
_FRAME_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox"


def create_app(mailbox: Mailbox) -> Starlette:
    """Build the HTTP side of one mailbox."""
    app = Starlette(
        routes=[
            Route("/", _list_page),
            Route("/messages/{mail_id:int}", _mail_page),
            Route("/messages/{mail_id:int}/html", _html_part),
            Route("/messages/{mail_id:int}/source", _source),
            Route("/api/messages", _list_messages, methods=["GET"]),
            Route("/api/messages", _delete_messages, methods=["DELETE"]),
            Route("/api/messages/{mail_id:int}", _read_message),
            Route("/_sandbox/faults", _set_faults, methods=["PUT"]),
            Route("/_sandbox/faults", _clear_faults, methods=["DELETE"]),
        ]
    )
    app.state.mailbox = mailbox
    return app


def _mailbox(request: Request) -> Mailbox:
    mailbox: Mailbox = request.app.state.mailbox
    return mailbox


def _find(request: Request) -> Mail | None:
    return _mailbox(request).mails.find(request.path_params["mail_id"])


async def _list_messages(request: Request) -> Response:
    query = request.query_params
    after = query.get("after", "0")
    if not after.isdecimal():
        return _refuse(f"after is {after!r}: it must be the id of a message")
    selected = _mailbox(request).mails.select(
        after=int(after), to=query.get("to", ""), message_id=query.get("message_id", "")
    )
    return JSONResponse([mail.as_json() for mail in selected])


async def _delete_messages(request: Request) -> Response:
    return JSONResponse({"deleted": _mailbox(request).mails.clear()})


async def _read_message(request: Request) -> Response:
    mail = _find(request)
    return _missing() if mail is None else JSONResponse(mail.as_json())


async def _set_faults(request: Request) -> Response:
    try:
        wanted = json.loads(await request.body())
        _mailbox(request).faults.script(**_fault(wanted))
    except ValueError as error:
        return _refuse(str(error))
    return JSONResponse(wanted)


def _fault(wanted: Any) -> dict[str, Any]:
    if not isinstance(wanted, dict) or not isinstance(wanted.get("answer"), str):
        message = 'the body must be {"answer": "451" | "550" | "cut_after_data", "times": 1}'
        raise ValueError(message)  # noqa: TRY004 - the caller answers 400 to one kind of error
    times = wanted.get("times", 1)
    if not isinstance(times, int) or isinstance(times, bool):
        message = f"times is {times!r}: it must be a whole number"
        raise ValueError(message)  # noqa: TRY004 - as above
    return {"answer": wanted["answer"], "times": times}


async def _clear_faults(request: Request) -> Response:
    _mailbox(request).faults.clear()
    return JSONResponse({})


def _refuse(reason: str) -> Response:
    return JSONResponse({"error": reason}, status_code=400)


def _missing() -> Response:
    return JSONResponse({"error": "no such message: it was deleted or never came"}, 404)


async def _list_page(request: Request) -> Response:
    mails = list(_mailbox(request).mails)
    rows = "".join(_row(mail) for mail in reversed(mails))
    head = "<tr><th>Received</th><th>From</th><th>To</th><th>Subject</th></tr>"
    return _page(f"Mailbox ({len(mails)})", f"<table>{head}{rows}</table>")


def _row(mail: Mail) -> str:
    link = f'<a href="/messages/{mail.id}">{escape(mail.subject or "(no subject)")}</a>'
    cells = (f"{mail.received_at:%Y-%m-%d %H:%M:%S}", escape(mail.sender), _names(mail.recipients))
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in (*cells, link)) + "</tr>"


def _names(addresses: Iterable[str]) -> str:
    return escape(", ".join(addresses))


async def _mail_page(request: Request) -> Response:
    mail = _find(request)
    if mail is None:
        return _missing()
    headers = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>"
        for name, value in mail.headers.items()
    )
    parts = [f"<table>{headers}</table>", f"<pre>{escape(mail.text)}</pre>"]
    if mail.html:
        parts.append(f'<iframe sandbox src="/messages/{mail.id}/html"></iframe>')
    parts.append(f'<p><a href="/messages/{mail.id}/source">Source</a> · <a href="/">All</a></p>')
    return _page(mail.subject, "".join(parts))


async def _html_part(request: Request) -> Response:
    mail = _find(request)
    if mail is None:
        return _missing()
    return HTMLResponse(mail.html, headers={"content-security-policy": _FRAME_POLICY})


async def _source(request: Request) -> Response:
    mail = _find(request)
    return _missing() if mail is None else PlainTextResponse(mail.source)


def _page(title: str, body: str) -> HTMLResponse:
    return HTMLResponse(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style><h1>{escape(title)}</h1>{body}</html>"
    )
