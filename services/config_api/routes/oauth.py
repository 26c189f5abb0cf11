"""/v1/oauth/callback: where providers send the browser after a login.

No API key here: the state, drawn by us and used once, is what proves whose login it is. A failure
is shown as what the caller can read: the front end's `return_url` gets `error=<code>`, a browser a
small page, anybody else a problem document.
"""

from html import escape
from typing import Annotated
from urllib.parse import parse_qsl, urlencode, urlsplit

from fastapi import APIRouter, Query, Request, Response, status
from fastapi.responses import HTMLResponse, RedirectResponse

from libs.common import ids
from libs.common.ids import Prefix
from services.config_api import connect, errors
from services.config_api.errors import ApiError, LoginFailedError
from services.config_api.routing import PartsOf
from services.config_api.store.connections import LoginState

router = APIRouter(tags=["connections"])

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="referrer" content="no-referrer">
<title>{title}</title><body><h1>{title}</h1><p>{words}</p></body></html>
"""


@router.get(
    "/v1/oauth/callback",
    response_class=HTMLResponse,
    responses={status.HTTP_303_SEE_OTHER: {"description": "Back to `return_url`."}},
)
async def finish_login(
    request: Request,
    parts: PartsOf,
    state: Annotated[str, Query(max_length=200)] = "",
    code: Annotated[str, Query(max_length=2000)] = "",
    error: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """End a login that `:authorize` started; for browsers coming back from a provider."""
    login: LoginState | None = None
    try:
        login = await connect.take_login(parts, state)
        if error or not code:
            raise LoginFailedError(detail="The provider reports that the login was not granted.")
        connection = await connect.finish_login(parts, login, code)
    except ApiError as failure:
        return _failed(request, login, failure)
    if login.return_url is not None:
        shown = ids.show(Prefix.CONNECTION, connection.connection_id)
        return _back(login.return_url, {"connection_id": shown, "result": "connected"})
    words = f"The account {connection.account_name} is connected. You can close this page."
    return HTMLResponse(_PAGE.format(title="Connected", words=escape(words)))


def _failed(request: Request, login: LoginState | None, failure: ApiError) -> Response:
    if login is not None and login.return_url is not None:
        shown = ids.show(Prefix.CONNECTION, login.connection_id)
        return _back(login.return_url, {"connection_id": shown, "error": failure.code})
    if "text/html" not in request.headers.get("accept", ""):
        return errors.answer(failure)
    page = _PAGE.format(
        title=escape(failure.title), words=escape(f"{failure.detail} {failure.remedy}")
    )
    return HTMLResponse(page, status_code=failure.status)


def _back(return_url: str, result: dict[str, str]) -> Response:
    url = urlsplit(return_url)
    query = urlencode([*parse_qsl(url.query), *result.items()])
    return RedirectResponse(
        url._replace(query=query).geturl(), status_code=status.HTTP_303_SEE_OTHER
    )
