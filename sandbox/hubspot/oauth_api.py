"""OAuth, from the page where a person grants access to revoking it; and the account's details.

Sources: guides "Working with OAuth" and "Manage OAuth tokens", RFC 6749, RFC 7636, and HubSpot's
OpenAPI of OAuth. What HubSpot does not document is marked: how a refusal comes back to the
application, and the answer to a revocation.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sandbox import login
from sandbox.exchange import Answer, Request, Routes
from sandbox.hubspot import errors, versions
from sandbox.hubspot.state import Portal, State
from sandbox.hubspot.tokens import (
    ALL_SCOPES,
    APP_ID,
    CLIENT_ID,
    CLIENT_SECRET,
    CODE_LIFETIME_MS,
    USER_ID,
    AccessToken,
    Code,
    Grant,
)
from sandbox.login import Login, Words

HUB_DOMAIN = "sandbox.example.com"
USER = "owner@sandbox.example.com"
WORDS = Words(
    title="Connect to HubSpot (sandbox)",
    heading="Connect contactsync to HubSpot",
    approve="Connect app",
    deny="Cancel",
    problem_title="Authorization failed",
    problem="Authorization failed",
)
CARRIED = (
    "client_id",
    "redirect_uri",
    "scope",
    "optional_scope",
    "state",
    "code_challenge",
    "code_challenge_method",
)


def register(routes: Routes[Portal], state: State) -> None:
    """Add the OAuth and account endpoints of every generation."""
    login.register(
        routes,
        state,
        Login(
            paths=["/oauth/authorize", "/oauth/{portal_id}/authorize"],
            words=WORDS,
            carried=CARRIED,
            problem=_problem,
            scopes=_scopes,
            approved=lambda chosen, form: {"code": _code(state, chosen, form)},
            # As RFC 6749 4.1.2.1 has it; HubSpot's own words are not documented.
            denied={"error": "access_denied", "error_description": "The user denied"},
        ),
    )
    _register_tokens(routes, state)
    _register_legacy_tokens(routes, state)
    _register_account(routes, state)


def _problem(asked: Mapping[str, str]) -> str | None:
    """Return what is wrong with a request for access; None if nothing is."""
    if asked.get("client_id") != CLIENT_ID:
        return f"client_id must be {CLIENT_ID}"
    if not asked.get("redirect_uri", "").startswith(("http://", "https://")):
        return "redirect_uri must be a URL"
    scopes = asked.get("scope", "").split()
    unknown = sorted(set(scopes) - set(ALL_SCOPES))
    if not scopes or unknown:
        return f"scope must name scopes the app has; unknown: {', '.join(unknown) or 'none given'}"
    if asked.get("code_challenge_method", "S256") not in {"S256", "plain"}:
        return "code_challenge_method must be S256 or plain"
    return None


def _scopes(asked: Mapping[str, str]) -> tuple[str, ...]:
    optional = [each for each in asked.get("optional_scope", "").split() if each in ALL_SCOPES]
    return tuple(dict.fromkeys(["oauth", *asked.get("scope", "").split(), *optional]))


def _code(state: State, portal: Portal, form: Mapping[str, str]) -> str:
    return state.tokens.code(
        Code(
            portal.id,
            form["redirect_uri"],
            _scopes(form),
            state.clock.now_ms() + CODE_LIFETIME_MS,
            form.get("code_challenge", ""),
            form.get("code_challenge_method", "plain"),
        )
    )


def _register_tokens(routes: Routes[Portal], state: State) -> None:
    @routes.add("POST", "/oauth/v1/token", *versions.oauth("/token"), open=True)
    def token(portal: Portal, request: Request) -> Answer:
        form = request.form()
        _check_client(form)
        match form.get("grant_type"):
            case "authorization_code":
                grant = state.tokens.redeem(
                    form.get("code", ""),
                    redirect_uri=form.get("redirect_uri", ""),
                    verifier=form.get("code_verifier", ""),
                    now_ms=state.clock.now_ms(),
                )
            case "refresh_token":
                grant = _grant(state, form.get("refresh_token", ""))
            case other:
                status, message = "BAD_GRANT_TYPE", f"unknown grant_type {other}"
                raise errors.oauth(status, message, error="unsupported_grant_type")
        return Answer(200, issued(state, grant), {"cache-control": "no-store"})

    @routes.add("POST", *versions.oauth("/token/introspect"), open=True)
    def introspect(portal: Portal, request: Request) -> Answer:
        form = request.form()
        _check_client(form)
        token = form.get("token", "")
        access, grant = state.tokens.access.get(token), state.tokens.grants.get(token)
        if access and _lives(state, access):
            return Answer(200, _access_facts(state, access))
        return Answer(200, _grant_facts(grant) if grant else {"active": False})

    @routes.add("POST", *versions.oauth("/token/revoke"), open=True)
    def revoke(portal: Portal, request: Request) -> Answer:
        form = request.form()
        _check_client(form)
        state.tokens.grants.pop(form.get("token", ""), None)
        state.tokens.access.pop(form.get("token", ""), None)
        return Answer(200)


def issued(state: State, grant: Grant) -> dict[str, Any]:
    """Issue an access token; return the token endpoint's answer. The refresh token stays."""
    portal = state.accounts[grant.portal_id]
    lifetime_s = portal.settings.token_ttl_s
    expires_ms = state.clock.now_ms() + lifetime_s * 1000
    access = state.tokens.issue(grant, expires_ms=expires_ms)
    return {
        "token_type": "bearer",
        "refresh_token": grant.token,
        "access_token": access.token,
        "hub_id": int(portal.id),
        "scopes": grant.scopes,
        "expires_in": lifetime_s,
        "token_use": "access_token",
        "user_id": USER_ID,
    }


def _grant(state: State, token: str) -> Grant:
    grant = state.tokens.grants.get(token)
    if grant is None or grant.portal_id not in state.accounts:
        status, message = "BAD_REFRESH_TOKEN", "refresh token is invalid, expired or revoked"
        raise errors.oauth(status, message)
    return grant


def _check_client(form: dict[str, str]) -> None:
    if form.get("client_id") != CLIENT_ID:
        status, message = "BAD_CLIENT_ID", "missing or unknown client id"
        raise errors.oauth(status, message, error="invalid_client")
    if form.get("client_secret") != CLIENT_SECRET:
        status, message = "BAD_CLIENT_SECRET", "missing or invalid client secret"
        raise errors.oauth(status, message, error="invalid_client")


def _lives(state: State, access: AccessToken) -> bool:
    return access.expires_ms is None or state.clock.now_ms() < access.expires_ms


def _expires_in_s(state: State, access: AccessToken) -> int:
    if access.expires_ms is None:
        return 0
    return max(access.expires_ms - state.clock.now_ms(), 0) // 1000


def _access_facts(state: State, access: AccessToken) -> dict[str, Any]:
    return {
        **_facts(access.token, access.portal_id, access.scopes),
        "app_id": APP_ID,
        "signed_access_token": {"hublet": "na1", "hubId": int(access.portal_id)},
        "expires_in": _expires_in_s(state, access),
        "is_private_distribution": False,
        "token_use": "access_token",
    }


def _grant_facts(grant: Grant) -> dict[str, Any]:
    facts = _facts(grant.token, grant.portal_id, grant.scopes)
    return {**facts, "app_id": APP_ID, "token_use": "refresh_token"}


def _facts(token: str, portal_id: str, scopes: tuple[str, ...]) -> dict[str, Any]:
    return {
        "active": True,
        "token": token,
        "hub_id": int(portal_id),
        "user_id": USER_ID,
        "client_id": CLIENT_ID,
        "user": USER,
        "hub_domain": HUB_DOMAIN,
        "scopes": scopes,
        "token_type": "Bearer",
    }


def _register_legacy_tokens(routes: Routes[Portal], state: State) -> None:
    @routes.add("GET", "/oauth/v1/access-tokens/{token}", open=True)
    def access_token(portal: Portal, request: Request) -> Answer:
        access = state.tokens.access.get(request.arguments["token"])
        if access is None or not _lives(state, access):
            raise errors.refused(404, "access token does not exist")
        facts = _access_facts(state, access)
        hidden = {"active", "client_id", "signed_access_token", "is_private_distribution"}
        shown = {key: value for key, value in facts.items() if key not in hidden | {"token_use"}}
        return Answer(200, {**shown, "token_type": "access"})

    @routes.add("GET", "/oauth/v1/refresh-tokens/{token}", open=True)
    def refresh_token(portal: Portal, request: Request) -> Answer:
        grant = state.tokens.grants.get(request.arguments["token"])
        if grant is None:
            raise errors.refused(404, "refresh token does not exist")
        hidden = {"active", "app_id", "token_use"}
        facts = {key: value for key, value in _grant_facts(grant).items() if key not in hidden}
        return Answer(200, {**facts, "token_type": "refresh"})

    @routes.add("DELETE", "/oauth/v1/refresh-tokens/{token}", open=True)
    def forget(portal: Portal, request: Request) -> Answer:
        if state.tokens.grants.pop(request.arguments["token"], None) is None:
            raise errors.refused(404, "refresh token does not exist")
        return Answer(204)


def _register_account(routes: Routes[Portal], state: State) -> None:
    @routes.add("GET", *versions.account("/details"), scopes=("oauth",))
    def details(portal: Portal, request: Request) -> Answer:
        offset = ZoneInfo(portal.time_zone).utcoffset(state.clock.now()) or timedelta()
        minutes = int(offset.total_seconds() // 60)
        sign = "-" if minutes < 0 else "+"
        return Answer(
            200,
            {
                "portalId": int(portal.id),
                "accountType": "STANDARD",
                "timeZone": portal.time_zone,
                "companyCurrency": "USD",
                "additionalCurrencies": ["EUR"],
                "utcOffset": f"{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}",
                "utcOffsetMilliseconds": minutes * 60_000,
                "uiDomain": "app.hubspot.com",
                "dataHostingLocation": "na1",
            },
        )

    uninstalls = [f"/appinstalls/{each}/external-install" for each in ("v3", *versions.DATES)]

    @routes.add("DELETE", *uninstalls, scopes=("oauth",))
    def uninstall(portal: Portal, request: Request) -> Answer:
        state.tokens.uninstall(portal.id)
        return Answer(204)
