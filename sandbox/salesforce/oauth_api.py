"""OAuth: the page where a person grants access, tokens, and who is behind one.

The web server flow with PKCE, the refresh flow with or without rotation, and the JWT bearer flow.
Login host and instance are one address here; `instance_url` of a token answer is what the caller
must go by (the setting of the same name makes it another).
"""

from typing import Any

from sandbox.exchange import Answer, Request, Routes
from sandbox.login import Words, back, client_of, kept, page, refused
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
WORDS = Words(
    title="Allow Access? (Salesforce sandbox)",
    heading="Allow Access?",
    approve="Allow",
    deny="Deny",
    problem_title="Login error",
    problem="We can't authorize you",
    asks="contactsync is asking to:",
    account="Org",
)
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
        asked = kept(request, CARRIED)
        orgs, action = state.accounts.values(), f"{PREFIX}/authorize"
        return _problem(state.default, asked) or page(WORDS, action, orgs, _scopes(asked), asked)

    @routes.add("POST", f"{PREFIX}/authorize", open=True)
    def decide(account: Org, request: Request) -> Answer:
        form = request.form()
        chosen = state.accounts.get(form.get("account", state.default.id))
        if chosen is None:
            return refused(WORDS, "there is no such org")
        problem = _problem(chosen, form)
        if problem is not None:
            return problem
        if form.get("decision") != "approve":
            denied = "end-user denied authorization"
            return back(form, {"error": "access_denied", "error_description": denied})
        code = Code(
            chosen.id,
            form["redirect_uri"],
            _scopes(form),
            state.clock.now_s() + chosen.settings.code_ttl_s,
            form.get("code_challenge", ""),
        )
        return back(form, {"code": state.tokens.code(code)})


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
        return refused(WORDS, reason)
    told = _refusal(org, asked)
    return back(asked, told) if told else None


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


def _check_client(request: Request, form: dict[str, str], *, status: int = 400) -> None:
    """Refuse a client that does not prove itself by its secret, in the body or a Basic header."""
    client_id, secret = client_of(request, form)
    if client_id != CLIENT_ID:
        raise oauth(status, "invalid_client_id", "client identifier invalid")
    if secret != CLIENT_SECRET:
        raise oauth(status, "invalid_client", "invalid client credentials")


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
