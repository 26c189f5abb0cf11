"""OAuth: the page where a person grants access, and the token endpoint.

Two flows, as the API guide has them: the server flow, whose client proves itself by its secret (in
a Basic header, or in the body as some clients send it), and PKCE, whose client has none. The right
to refresh comes with the scope `offline_access` only; without it no error says so.
"""

import binascii
from base64 import b64decode
from html import escape
from typing import Any
from urllib.parse import unquote, urlencode

from sandbox.constant_contact.errors import oauth
from sandbox.constant_contact.state import Customer, State
from sandbox.constant_contact.tokens import (
    ALL_SCOPES,
    CLIENT_ID,
    CLIENT_SECRET,
    CODE_LIFETIME_S,
    OFFLINE,
    Code,
    Grant,
)
from sandbox.exchange import Answer, Request, Routes

PREFIX = "/oauth2/default/v1"
PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Log in to Constant Contact (sandbox)</title></head>
<body>
<h1>Allow contactsync to use your Constant Contact account</h1>
<p>This is a sandbox: nothing leaves this machine. The application asks for:</p>
<ul>{scopes}</ul>
<form method="post" action="{action}">
{hidden}
<label>Account <select name="account">{accounts}</select></label>
<button type="submit" name="decision" value="approve">Allow</button>
<button type="submit" name="decision" value="deny">Do not allow</button>
</form>
</body>
</html>
"""
PROBLEM_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Authorization failed</title></head>
<body><h1>Authorization failed</h1><p>{reason}</p></body></html>
"""
CARRIED = (
    *("client_id", "redirect_uri", "response_type", "scope", "state"),
    *("code_challenge", "code_challenge_method"),
)


def register(routes: Routes[Customer], state: State) -> None:
    """Add the login page and the token endpoint."""
    _register_pages(routes, state)

    @routes.add("POST", f"{PREFIX}/token", open=True)
    def token(account: Customer, request: Request) -> Answer:
        # Their support's examples have the parameters in the address, others have them in the body.
        form = {name: values[0] for name, values in request.query.items()} | request.form()
        is_confidential = _check_client(request, form)
        return Answer(200, _granted(state, form, is_confidential=is_confidential))


def _register_pages(routes: Routes[Customer], state: State) -> None:
    @routes.add("GET", f"{PREFIX}/authorize", open=True)
    def ask(account: Customer, request: Request) -> Answer:
        asked = {name: request.parameter(name) for name in CARRIED if request.parameter(name)}
        problem = _problem(asked)
        if problem:
            return _html(400, PROBLEM_PAGE.format(reason=escape(problem)))
        return _html(200, _page(state, asked))

    @routes.add("POST", f"{PREFIX}/authorize", open=True)
    def decide(account: Customer, request: Request) -> Answer:
        form = request.form()
        problem = _problem(form)
        chosen = state.accounts.get(form.get("account", state.default.id))
        if problem or chosen is None:
            reason = escape(problem or "there is no such account")
            return _html(400, PROBLEM_PAGE.format(reason=reason))
        back = {"state": form["state"]} if form.get("state") else {}
        if form.get("decision") == "approve":
            code = Code(
                chosen.id,
                form["redirect_uri"],
                tuple(dict.fromkeys(form["scope"].split())),
                state.clock.now_s() + CODE_LIFETIME_S,
                form.get("code_challenge", ""),
            )
            back = {"code": state.tokens.code(code), **back}
        else:
            back = {"error": "access_denied", "error_description": "The user denied", **back}
        joint = "&" if "?" in form["redirect_uri"] else "?"
        return Answer(302, headers={"Location": f"{form['redirect_uri']}{joint}{urlencode(back)}"})


def _problem(asked: dict[str, str]) -> str | None:
    """Return what is wrong with a request for access; None if nothing is."""
    if asked.get("client_id") != CLIENT_ID:
        return f"client_id must be {CLIENT_ID}"
    if asked.get("response_type") != "code":
        return "response_type must be code"
    if not asked.get("redirect_uri", "").startswith(("http://", "https://")):
        return "redirect_uri must be a URL that is registered"
    unknown = sorted(set(asked.get("scope", "").split()) - set(ALL_SCOPES))
    if not asked.get("scope") or unknown:
        return f"scope must name scopes that there are; unknown: {', '.join(unknown) or 'none'}"
    if asked.get("code_challenge") and asked.get("code_challenge_method") != "S256":
        return "code_challenge_method must be S256"
    return None


def _page(state: State, asked: dict[str, str]) -> str:
    hidden = "\n".join(
        f'<input type="hidden" name="{name}" value="{escape(value)}">'
        for name, value in asked.items()
    )
    accounts = "".join(
        f'<option value="{each.id}">{escape(each.name)} ({each.id})</option>'
        for each in state.accounts.values()
    )
    scopes = "".join(f"<li>{escape(scope)}</li>" for scope in asked["scope"].split())
    action = f"{PREFIX}/authorize"
    return PAGE.format(action=action, hidden=hidden, accounts=accounts, scopes=scopes)


def _check_client(request: Request, form: dict[str, str]) -> bool:
    """Return whether the client proved itself by its secret; raises the 401 of one that failed.

    A client without a secret is one of the PKCE flow: its code, or its refresh token, is its proof.
    """
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
    if scheme.lower() == "basic":
        client_id, secret = _basic(encoded)
    if client_id != CLIENT_ID or secret not in ("", CLIENT_SECRET):
        raise oauth(401, "invalid_client", "The client credentials are invalid.")
    return bool(secret)


def _basic(encoded: str) -> tuple[str, str]:
    try:
        client_id, _, secret = b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return unquote(client_id), unquote(secret)


def _granted(state: State, form: dict[str, str], *, is_confidential: bool) -> dict[str, Any]:
    """Return the token endpoint's answer, or raise its refusal."""
    now_s = state.clock.now_s()
    match form.get("grant_type"):
        case "authorization_code":
            verifier = form.get("code_verifier", "")
            if not (is_confidential or verifier):
                raise oauth(401, "invalid_client", "A client without a secret needs PKCE.")
            grant = state.tokens.redeem(
                form.get("code", ""),
                redirect_uri=form.get("redirect_uri", ""),
                verifier=verifier,
                now_s=now_s,
            )
            refresh = state.tokens.renew(grant) if OFFLINE in grant.scopes else None
        case "refresh_token":
            account = state.default.settings
            grant, refresh = state.tokens.use(
                form.get("refresh_token", ""),
                rotates=account.refresh_tokens == "rotating",
                now_s=now_s,
            )
        case _:
            raise oauth(400, "unsupported_grant_type", "The grant type is not supported.")
    return issued(state, grant, refresh)


def issued(state: State, grant: Grant, refresh: str | None) -> dict[str, Any]:
    """Issue an access token; return the token endpoint's answer."""
    lifetime_s = state.accounts[grant.account].settings.token_ttl_s
    expires_s = state.clock.now_s() + lifetime_s
    access = state.tokens.issue(grant.account, grant.scopes, expires_s=expires_s)
    told = {
        "token_type": "Bearer",
        "expires_in": lifetime_s,
        "access_token": access.token,
        "scope": " ".join(grant.scopes),
    }
    return told if refresh is None else {**told, "refresh_token": refresh}


def _html(status: int, page: str) -> Answer:
    return Answer(status, page.encode(), media_type="text/html; charset=utf-8")
