"""OAuth: the page where a person grants access, tokens, and who is behind one.

The web server flow with PKCE, the refresh flow with or without rotation, and the JWT bearer flow.
Login host and instance are one address here; `instance_url` of a token answer is what the caller
must go by (the setting of the same name makes it another).
"""

import binascii
from base64 import b64decode
from html import escape
from typing import Any
from urllib.parse import unquote, urlencode

from sandbox.exchange import Answer, Request, Routes
from sandbox.salesforce import jwt
from sandbox.salesforce.errors import oauth
from sandbox.salesforce.org import Org
from sandbox.salesforce.state import State
from sandbox.salesforce.tokens import (
    ALL_SCOPES,
    CLIENT_ID,
    CLIENT_SECRET,
    KNOWN_SCOPES,
    Code,
    Session,
    signature,
)

PREFIX = "/services/oauth2"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
# What an assertion may be for; the sandbox's own address is one more.
AUDIENCES = {"https://login.salesforce.com", "https://test.salesforce.com"}
PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Allow Access? (Salesforce sandbox)</title></head>
<body>
<h1>Allow Access?</h1>
<p>This is a sandbox: nothing leaves this machine. contactsync is asking to:</p>
<ul>{scopes}</ul>
<form method="post" action="{action}">
{hidden}
<label>Org <select name="account">{accounts}</select></label>
<button type="submit" name="decision" value="approve">Allow</button>
<button type="submit" name="decision" value="deny">Deny</button>
</form>
</body>
</html>
"""
PROBLEM_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Login error</title></head>
<body><h1>We can't authorize you</h1><p>{reason}</p></body></html>
"""
CARRIED = (
    *("client_id", "redirect_uri", "response_type", "scope", "state", "prompt", "login_hint"),
    *("code_challenge", "code_challenge_method", "display"),
)


def register(routes: Routes[Org], state: State) -> None:
    """Add the login page, the token endpoint and what tells of tokens."""
    _register_pages(routes, state)
    _register_identity(routes, state)

    @routes.add("POST", f"{PREFIX}/token", open=True)
    def token(account: Org, request: Request) -> Answer:
        form = {name: values[0] for name, values in request.query.items()} | request.form()
        return Answer(200, _granted(state, request, form))

    @routes.add("POST", f"{PREFIX}/revoke", open=True)
    @routes.add("GET", f"{PREFIX}/revoke", open=True)
    def revoke(account: Org, request: Request) -> Answer:
        """Revoke a token: of a refresh token its sessions too, of a session that alone."""
        shown = request.form().get("token") or request.parameter("token")
        grant = state.tokens.grant_of(shown)
        if grant is not None:
            state.tokens.end(grant)
        elif state.tokens.sessions.pop(shown, None) is None:
            raise oauth(400, "invalid_token", "invalid token")
        return Answer(200, b"", media_type="text/plain")

    @routes.add("POST", f"{PREFIX}/introspect", open=True)
    def introspect(account: Org, request: Request) -> Answer:
        form = request.form()
        _check_client(request, form, status=401)
        return Answer(200, _introspected(state, form.get("token", "")))


def _register_pages(routes: Routes[Org], state: State) -> None:
    @routes.add("GET", f"{PREFIX}/authorize", open=True)
    def ask(account: Org, request: Request) -> Answer:
        asked = {name: request.parameter(name) for name in CARRIED if request.parameter(name)}
        return _problem(state.default, asked) or _html(200, _page(state, asked))

    @routes.add("POST", f"{PREFIX}/authorize", open=True)
    def decide(account: Org, request: Request) -> Answer:
        form = request.form()
        chosen = state.accounts.get(form.get("account", state.default.id))
        if chosen is None:
            return _html(400, PROBLEM_PAGE.format(reason="there is no such org"))
        problem = _problem(chosen, form)
        if problem is not None:
            return problem
        if form.get("decision") != "approve":
            denied = "end-user denied authorization"
            return _back(form, {"error": "access_denied", "error_description": denied})
        code = Code(
            chosen.id,
            form["redirect_uri"],
            _scopes(form),
            state.clock.now_s() + chosen.settings.code_ttl_s,
            form.get("code_challenge", ""),
        )
        return _back(form, {"code": state.tokens.code(code)})


def _register_identity(routes: Routes[Org], state: State) -> None:
    def identity(account: Org, request: Request) -> Answer:
        session = state.live_session(request)
        if session is None:
            # Plain text, and 403 where the rest of the API would say 401.
            return Answer(403, b"Bad_OAuth_Token", media_type="text/html;charset=UTF-8")
        org = state.accounts[session.account]
        if request.path.startswith("/id/") and request.arguments["org"] != org.id:
            return Answer(403, b"Wrong_Org", media_type="text/html;charset=UTF-8")
        return Answer(200, _described(org, request))

    routes.add("GET", f"{PREFIX}/userinfo", open=True)(identity)
    routes.add("POST", f"{PREFIX}/userinfo", open=True)(identity)
    routes.add("GET", "/id/{org}/{user}", open=True)(identity)


def _described(org: Org, request: Request) -> dict[str, Any]:
    """Return whose token it is, as userinfo and the identity URL tell it."""
    user, base = org.user, _instance(org, request)
    told = {
        "sub": _identity(org, request),
        "user_id": user["Id"],
        "organization_id": org.id,
        "preferred_username": user["Username"],
        "nickname": "owner",
        "name": user["Name"],
        "email": user["Email"],
        "email_verified": True,
        "given_name": "Lola",
        "family_name": user["LastName"],
        "zoneinfo": "America/Los_Angeles",
        "active": org.settings.user_active,
        "user_type": "STANDARD",
        "language": "en_US",
        "locale": "en_US",
        "utcOffset": -28_800_000,
        "updated_at": "2026-01-01T00:00:00Z",
        "urls": {
            "rest": f"{base}/services/data/v{{version}}/",
            "sobjects": f"{base}/services/data/v{{version}}/sobjects/",
            "query": f"{base}/services/data/v{{version}}/query/",
        },
    }
    if request.path.startswith("/id/"):
        told |= {"id": told["sub"], "username": user["Username"], "display_name": user["Name"]}
    return told


def _problem(org: Org, asked: dict[str, str]) -> Answer | None:
    """Return what a request for access meets that is wrong; None if nothing is.

    What cannot be told to the app, as it may not be who it says, is told to the person.
    """
    reason = None
    if asked.get("client_id") != CLIENT_ID:
        reason = "error=invalid_client_id&error_description=client identifier invalid"
    elif not asked.get("redirect_uri", "").startswith(("http://", "https://")):
        reason = "error=redirect_uri_mismatch&error_description=must match configuration"
    elif not org.settings.app_installed:
        reason = "OAUTH_APPROVAL_ERROR_GENERIC"
    if reason is not None:
        return _html(400, PROBLEM_PAGE.format(reason=escape(reason)))
    told = _refusal(org, asked)
    return _back(asked, told) if told else None


def _refusal(org: Org, asked: dict[str, str]) -> dict[str, str] | None:
    """Return what the app is told by its own address; None if nothing is wrong."""
    if asked.get("response_type") != "code":
        return _error("unsupported_response_type", "response type not supported")
    if set(_scopes(asked)) - KNOWN_SCOPES:
        return _error("invalid_scope", "the requested scope is not allowed")
    if org.settings.requires_pkce and not asked.get("code_challenge"):
        return _error("invalid_request", "missing required code challenge")
    if asked.get("code_challenge") and asked.get("code_challenge_method", "S256") != "S256":
        return _error("invalid_request", "invalid code challenge method")
    return None


def _error(code: str, description: str) -> dict[str, str]:
    return {"error": code, "error_description": description}


def _scopes(asked: dict[str, str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(asked.get("scope", "").split())) or ALL_SCOPES


def _back(asked: dict[str, str], told: dict[str, str]) -> Answer:
    """Send the person's browser back to the app."""
    told = {**told, "state": asked["state"]} if asked.get("state") else told
    joint = "&" if "?" in asked["redirect_uri"] else "?"
    return Answer(302, headers={"Location": f"{asked['redirect_uri']}{joint}{urlencode(told)}"})


def _page(state: State, asked: dict[str, str]) -> str:
    hidden = "\n".join(
        f'<input type="hidden" name="{name}" value="{escape(value)}">'
        for name, value in asked.items()
    )
    accounts = "".join(
        f'<option value="{each.id}">{escape(each.name)} ({each.id})</option>'
        for each in state.accounts.values()
    )
    scopes = "".join(f"<li>{escape(scope)}</li>" for scope in _scopes(asked))
    action = f"{PREFIX}/authorize"
    return PAGE.format(action=action, hidden=hidden, accounts=accounts, scopes=scopes)


def _check_client(request: Request, form: dict[str, str], *, status: int = 400) -> None:
    """Refuse a client that does not prove itself by its secret, in the body or a Basic header."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
    if scheme.lower() == "basic":
        client_id, secret = _basic(encoded)
    if client_id != CLIENT_ID:
        raise oauth(status, "invalid_client_id", "client identifier invalid")
    if secret != CLIENT_SECRET:
        raise oauth(status, "invalid_client", "invalid client credentials")


def _basic(encoded: str) -> tuple[str, str]:
    try:
        client_id, _, secret = b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return unquote(client_id), unquote(secret)


def _granted(state: State, request: Request, form: dict[str, str]) -> dict[str, Any]:
    """Return the token endpoint's answer, or raise its refusal."""
    match form.get("grant_type"):
        case "authorization_code":
            _check_client(request, form)
            return _by_code(state, request, form)
        case "refresh_token":
            _check_client(request, form)
            return _by_refresh(state, request, form)
        case kind if kind == JWT_BEARER:
            return _by_jwt(state, request, form)
        case None | "":
            raise oauth(400, "invalid_request", "missing required parameter: grant_type")
        case _:
            raise oauth(400, "unsupported_grant_type", "grant type not supported")


def _by_code(state: State, request: Request, form: dict[str, str]) -> dict[str, Any]:
    now_s = state.clock.now_s()
    grant = state.tokens.redeem(
        form.get("code", ""),
        redirect_uri=form.get("redirect_uri", ""),
        verifier=form.get("code_verifier", ""),
        now_s=now_s,
    )
    session = _session(state, grant.account, grant.scopes, grant.id)
    return issued(state, request, session, grant.refresh)


def _by_refresh(state: State, request: Request, form: dict[str, str]) -> dict[str, Any]:
    refresh = form.get("refresh_token", "")
    known = state.tokens.grant_of(refresh)
    settings = (state.accounts[known.account] if known else state.default).settings
    rotates = settings.rotates_refresh_tokens
    grant = state.tokens.use(
        refresh, rotates=rotates, idle_s=settings.refresh_idle_s, now_s=state.clock.now_s()
    )
    session = _session(state, grant.account, grant.scopes, grant.id)
    return issued(state, request, session, grant.refresh if rotates else None)


def _by_jwt(state: State, request: Request, form: dict[str, str]) -> dict[str, Any]:
    """Open a session for a user who is named by a signed assertion; there is no refresh token."""
    audiences = AUDIENCES | {request.base_url}
    wanted = jwt.username(
        form.get("assertion", ""), state.tokens.certificates, audiences, state.clock.now_s()
    )
    for org in state.accounts.values():
        if org.user["Username"] == wanted:
            return issued(state, request, _session(state, org.id, ("api", "id"), None), None)
    raise oauth(400, "invalid_grant", "user hasn't approved this consumer")


def _session(state: State, account: str, scopes: tuple[str, ...], grant: str | None) -> Session:
    if not state.accounts[account].settings.user_active:
        raise oauth(400, "invalid_grant", "inactive user")
    return state.tokens.open(account, scopes, state.clock.now_s(), grant=grant)


def issued(state: State, request: Request, session: Session, refresh: str | None) -> dict[str, Any]:
    """Return the token endpoint's answer to a session: no word of when it ends."""
    org = state.accounts[session.account]
    identity, issued_at = _identity(org, request), str(state.clock.now_ms())
    told = {
        "access_token": session.token,
        "signature": signature(identity, issued_at),
        "scope": " ".join(session.scopes),
        "instance_url": _instance(org, request),
        "id": identity,
        "token_type": "Bearer",
        "issued_at": issued_at,
    }
    return told if refresh is None else {**told, "refresh_token": refresh}


def _introspected(state: State, token: str) -> dict[str, Any]:
    """Return what is known of a token: of one that is over, only that it is."""
    session = state.tokens.sessions.get(token)
    if session is None:
        return {"active": False}
    org = state.accounts[session.account]
    expires_s = session.used_s + org.settings.session_ttl_s
    if session.is_over(state.clock.now_s(), org.settings.session_ttl_s):
        return {"active": False}
    return {
        "active": True,
        "scope": " ".join(session.scopes),
        "client_id": CLIENT_ID,
        "username": org.user["Username"],
        "sub": f"{org.id}/{org.user['Id']}",
        "token_type": "access_token",
        "exp": int(expires_s),
        "iat": int(session.started_s),
        "nbf": int(session.started_s),
    }


def _instance(org: Org, request: Request) -> str:
    return org.settings.instance_url or request.base_url


def _identity(org: Org, request: Request) -> str:
    return f"{request.base_url}/id/{org.id}/{org.user['Id']}"


def _html(status: int, page: str) -> Answer:
    return Answer(status, page.encode(), media_type="text/html; charset=utf-8")
