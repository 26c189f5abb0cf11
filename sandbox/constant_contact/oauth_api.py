"""OAuth: the page where a person grants access, and the token endpoint.

Two flows, as the API guide has them: the server flow, whose client proves itself by its secret (in
a Basic header, or in the body as some clients send it), and PKCE, whose client has none. The right
to refresh comes with the scope `offline_access` only; without it no error says so.
"""

from collections.abc import Mapping
from typing import Any

from sandbox import login
from sandbox.constant_contact.errors import oauth
from sandbox.constant_contact.state import Customer, State
from sandbox.constant_contact.tokens import (
    ALL_SCOPES,
    CODE_LIFETIME_S,
    OFFLINE,
    Code,
    Grant,
)
from sandbox.exchange import Answer, Request, Routes
from sandbox.login import Login, Words, client_of

PREFIX = "/oauth2/default/v1"
WORDS = Words(
    title="Log in to Constant Contact (sandbox)",
    heading="Allow contactsync to use your Constant Contact account",
    approve="Allow",
    deny="Do not allow",
    problem_title="Authorization failed",
    problem="Authorization failed",
)
CARRIED = (
    *("client_id", "redirect_uri", "response_type", "scope", "state"),
    *("code_challenge", "code_challenge_method"),
)


def register(routes: Routes[Customer], state: State) -> None:
    """Add the login page and the token endpoint."""
    login.register(
        routes,
        state,
        Login(
            paths=[f"{PREFIX}/authorize"],
            words=WORDS,
            carried=CARRIED,
            problem=lambda asked: _problem(state, asked),
            scopes=lambda asked: asked["scope"].split(),
            approved=lambda chosen, form: {"code": _code(state, chosen, form)},
            denied={"error": "access_denied", "error_description": "The user denied"},
        ),
    )

    @routes.add("POST", f"{PREFIX}/token", open=True)
    def token(account: Customer, request: Request) -> Answer:
        # Their support's examples have the parameters in the address, others have them in the body.
        form = {name: values[0] for name, values in request.query.items()} | request.form()
        client_id, is_confidential = _check_client(state, request, form)
        return Answer(200, _granted(state, client_id, form, is_confidential=is_confidential))


def _code(state: State, chosen: Customer, form: Mapping[str, str]) -> str:
    return state.tokens.code(
        Code(
            chosen.id,
            form["redirect_uri"],
            tuple(dict.fromkeys(form["scope"].split())),
            state.clock.now_s() + CODE_LIFETIME_S,
            form.get("code_challenge", ""),
            form["client_id"],
        )
    )


def _problem(state: State, asked: Mapping[str, str]) -> str | None:
    """Return what is wrong with a request for access; None if nothing is."""
    if asked.get("client_id") not in state.applications:
        return f"client_id must be {' or '.join(state.applications)}"
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


def _check_client(state: State, request: Request, form: dict[str, str]) -> tuple[str, bool]:
    """Return which client it is, and whether its secret proved it; raises the 401 of another.

    A client without a secret is one of the PKCE flow: its code, or its refresh token, is its proof.
    """
    client_id, secret = client_of(request, form)
    application = state.applications.get(client_id)
    if application is None or secret not in ("", application.secret):
        raise oauth(401, "invalid_client", "The client credentials are invalid.")
    return client_id, bool(secret)


def _granted(
    state: State, client_id: str, form: dict[str, str], *, is_confidential: bool
) -> dict[str, Any]:
    """Return the token endpoint's answer, or raise its refusal."""
    now_s = state.clock.now_s()
    match form.get("grant_type"):
        case "authorization_code":
            verifier = form.get("code_verifier", "")
            if not (is_confidential or verifier):
                raise oauth(401, "invalid_client", "A client without a secret needs PKCE.")
            grant = state.tokens.redeem(
                form.get("code", ""),
                client_id,
                redirect_uri=form.get("redirect_uri", ""),
                verifier=verifier,
                now_s=now_s,
            )
            refresh = state.tokens.renew(grant) if OFFLINE in grant.scopes else None
        case "refresh_token":
            account = state.default.settings
            grant, refresh = state.tokens.use(
                form.get("refresh_token", ""),
                client_id,
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
    access = state.tokens.issue(
        grant.account, grant.scopes, expires_s=expires_s, client_id=grant.client_id
    )
    told = {
        "token_type": "Bearer",
        "expires_in": lifetime_s,
        "access_token": access.token,
        "scope": " ".join(grant.scopes),
    }
    return told if refresh is None else {**told, "refresh_token": refresh}
