"""OAuth: the page where a person grants access, the token endpoint, and taking access back.

A refresh token comes for `access_type=offline` only, and only when the person agrees: at the first
time, or with `prompt=consent`. Without it no error says so. Scopes can be unticked one by one.
"""

from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

import msgspec

from sandbox import login
from sandbox.exchange import Answer, Request, Routes
from sandbox.google_contacts.errors import oauth
from sandbox.google_contacts.state import Customer, State
from sandbox.google_contacts.tokens import (
    ALL_SCOPES,
    CLIENT_ID,
    CLIENT_SECRET,
    CODE_LIFETIME_S,
    Code,
    Grant,
)
from sandbox.login import Login, Words

AUTHORIZE = "/o/oauth2/v2/auth"
WORDS = Words(
    title="Sign in - Google Accounts (sandbox)",
    heading="contactsync wants access to your Google Account",
    approve="Continue",
    deny="Cancel",
    problem_title="Error 400",
    problem="Access blocked: Authorization Error",
)
CARRIED = (
    *("client_id", "redirect_uri", "response_type", "scope", "state", "access_type", "prompt"),
    *("code_challenge", "code_challenge_method", "include_granted_scopes"),
)


def register(routes: Routes[Customer], state: State) -> None:
    """Add the login page, the token endpoint, and the one that takes access back."""
    login.register(
        routes,
        state,
        Login(
            paths=[AUTHORIZE],
            words=WORDS,
            carried=CARRIED,
            problem=_problem,
            scopes=lambda asked: asked["scope"].split(),
            approved=lambda chosen, form: {
                "code": state.tokens.code(_code(state, chosen, form)),
                "scope": form["scope"],
            },
            denied={"error": "access_denied"},
        ),
    )

    @routes.add("POST", "/token", open=True)
    def token(account: Customer, request: Request) -> Answer:
        form = request.form()
        if (form.get("client_id"), form.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET):
            raise oauth(401, "invalid_client", "The OAuth client was not found.")
        return Answer(200, _granted(state, form))

    @routes.add("POST", "/revoke", open=True)
    def revoke(account: Customer, request: Request) -> Answer:
        given = request.form().get("token") or request.parameter("token")
        owner = state.tokens.account_of(given)
        if owner is None:
            raise oauth(400, "invalid_token", "Token expired or revoked")
        state.tokens.revoke(owner)
        return Answer(200, {})


def _code(state: State, chosen: Customer, form: Mapping[str, str]) -> Code:
    asked = tuple(dict.fromkeys(form["scope"].split()))
    ticked = chosen.settings.granted_scopes
    scopes = asked if ticked is None else tuple(each for each in asked if each in ticked)
    is_asked = chosen.id not in state.tokens.agreed or "consent" in form.get("prompt", "").split()
    state.tokens.agreed.add(chosen.id)
    return Code(
        chosen.id,
        form["redirect_uri"],
        scopes,
        state.clock.now_s() + CODE_LIFETIME_S,
        form.get("code_challenge", ""),
        is_offline=form.get("access_type") == "offline" and is_asked,
    )


def _problem(asked: Mapping[str, str]) -> str | None:
    """Return what is wrong with a request for access; None if nothing is."""
    if asked.get("client_id") != CLIENT_ID:
        return f"invalid_client: client_id must be {CLIENT_ID}"
    if asked.get("response_type") != "code":
        return "invalid_request: response_type must be code"
    if not asked.get("redirect_uri", "").startswith(("http://", "https://")):
        return "redirect_uri_mismatch"
    unknown = sorted(set(asked.get("scope", "").split()) - set(ALL_SCOPES))
    if not asked.get("scope") or unknown:
        return f"invalid_scope: {', '.join(unknown) or 'none'}"
    if asked.get("code_challenge") and asked.get("code_challenge_method") != "S256":
        return "invalid_request: code_challenge_method must be S256"
    return None


def _granted(state: State, form: dict[str, str]) -> dict[str, Any]:
    """Return the token endpoint's answer, or raise its refusal."""
    now_s = state.clock.now_s()
    match form.get("grant_type"):
        case "authorization_code":
            code = state.tokens.redeem(
                form.get("code", ""),
                redirect_uri=form.get("redirect_uri", ""),
                verifier=form.get("code_verifier", ""),
                now_s=now_s,
            )
            grant = Grant(code.account, code.scopes, now_s, now_s)
            refresh = state.tokens.grant(grant) if code.is_offline else None
        case "refresh_token":
            is_testing = state.default.settings.is_testing
            given = form.get("refresh_token", "")
            grant = state.tokens.use(given, is_testing=is_testing, now_s=now_s)
            refresh = None
        case other:
            raise oauth(400, "unsupported_grant_type", f"Invalid grant_type: {other or ''}")
    return issued(state, grant, refresh)


def issued(state: State, grant: Grant, refresh: str | None) -> dict[str, Any]:
    """Issue an access token; return the token endpoint's answer."""
    lifetime_s = state.accounts[grant.account].settings.token_ttl_s
    expires_s = state.clock.now_s() + lifetime_s
    access = state.tokens.issue(grant.account, grant.scopes, expires_s=expires_s)
    told: dict[str, Any] = {
        "access_token": access.token,
        "expires_in": lifetime_s,
        "scope": " ".join(grant.scopes),
        "token_type": "Bearer",
    }
    if "openid" in grant.scopes:
        told["id_token"] = _id_token(grant.account, state.clock.now_s(), lifetime_s)
    return told if refresh is None else {**told, "refresh_token": refresh}


def _id_token(account: str, now_s: float, lifetime_s: int) -> str:
    """Return an OpenID token; its signature is nobody's."""
    claims = {
        "iss": "https://accounts.google.com",
        "aud": CLIENT_ID,
        "sub": account,
        "iat": int(now_s),
        "exp": int(now_s) + lifetime_s,
    }
    parts = (msgspec.json.encode(each) for each in ({"alg": "RS256", "typ": "JWT"}, claims))
    encoded = [urlsafe_b64encode(each).rstrip(b"=").decode() for each in parts]
    return ".".join([*encoded, "sandbox"])
