"""What the login pages of providers have in common: the page, the ways back, and PKCE.

A provider says in its own words what it asks (`Words`) and what is wrong with a request for access,
and makes its own codes. The first account is chosen unless the address or the form names another.
"""

import binascii
import hashlib
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Generic, TypeVar
from urllib.parse import unquote, urlencode

from sandbox.exchange import Answer, Request, Routes
from sandbox.provider import Account, Provider

A = TypeVar("A", bound=Account)

PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title></head>
<body>
<h1>{heading}</h1>
<p>This is a sandbox: nothing leaves this machine. {asks}</p>
<ul>{scopes}</ul>
<form method="post" action="{action}">
{hidden}
<label>{account} <select name="account">{accounts}</select></label>
<button type="submit" name="decision" value="approve">{approve}</button>
<button type="submit" name="decision" value="deny">{deny}</button>
</form>
</body>
</html>
"""
PROBLEM_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>
<body><h1>{heading}</h1><p>{reason}</p></body></html>
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What a provider's pages say."""

    title: str
    heading: str
    approve: str
    deny: str
    problem_title: str
    problem: str
    asks: str = "The application asks for:"
    account: str = "Account"


@dataclass(frozen=True, slots=True, kw_only=True)
class Login(Generic[A]):
    """A login page at the first of its paths; others lead there and may name an account.

    `carried` are the parameters that the form keeps. `problem` says what is wrong with a request,
    None if nothing is; `approved` what the application is told when a person agrees.
    """

    paths: Sequence[str]
    words: Words
    carried: Sequence[str]
    problem: Callable[[Mapping[str, str]], str | None]
    scopes: Callable[[Mapping[str, str]], Iterable[str]]
    approved: Callable[[A, Mapping[str, str]], Mapping[str, str]]
    denied: Mapping[str, str]


def register(routes: Routes[A], provider: Provider[A], login: Login[A]) -> None:
    """Add a login page, and what its two buttons do."""

    @routes.add("GET", *login.paths, open=True)
    def ask(account: A, request: Request) -> Answer:
        asked = kept(request, login.carried)
        if problem := login.problem(asked):
            return refused(login.words, problem)
        named = next(iter(request.arguments.values()), None)
        accounts = provider.accounts.values()
        scopes = login.scopes(asked)
        return page(login.words, login.paths[0], accounts, scopes, asked, selected=named)

    @routes.add("POST", login.paths[0], open=True)
    def decide(account: A, request: Request) -> Answer:
        form = request.form()
        problem = login.problem(form)
        chosen = provider.accounts.get(form.get("account", provider.default.id))
        if problem or chosen is None:
            return refused(login.words, problem or "there is no such account")
        if form.get("decision") != "approve":
            return back(form, login.denied)
        return back(form, login.approved(chosen, form))


def kept(request: Request, names: Sequence[str]) -> dict[str, str]:
    """Return those of a request's parameters that have a value."""
    return {name: request.parameter(name) for name in names if request.parameter(name)}


def page(
    words: Words,
    action: str,
    accounts: Iterable[Account],
    scopes: Iterable[str],
    asked: Mapping[str, str],
    *,
    selected: str | None = None,
) -> Answer:
    """Return the page that asks a person."""
    hidden = "\n".join(
        f'<input type="hidden" name="{name}" value="{escape(value)}">'
        for name, value in asked.items()
    )
    options = "".join(
        f'<option value="{each.id}"{" selected" if each.id == selected else ""}>'
        f"{escape(each.name)} ({each.id})</option>"
        for each in accounts
    )
    text = PAGE.format(
        title=words.title,
        heading=words.heading,
        asks=words.asks,
        scopes="".join(f"<li>{escape(scope)}</li>" for scope in scopes),
        action=action,
        hidden=hidden,
        account=words.account,
        accounts=options,
        approve=words.approve,
        deny=words.deny,
    )
    return _html(200, text)


def refused(words: Words, reason: str) -> Answer:
    """Return the page for what cannot be told to the application, as it may be another."""
    text = PROBLEM_PAGE.format(
        title=words.problem_title, heading=words.problem, reason=escape(reason)
    )
    return _html(400, text)


def back(asked: Mapping[str, str], told: Mapping[str, str]) -> Answer:
    """Send the person's browser back to the application, with its state."""
    query = {**told, "state": asked["state"]} if asked.get("state") else told
    joint = "&" if "?" in asked["redirect_uri"] else "?"
    return Answer(302, headers={"Location": f"{asked['redirect_uri']}{joint}{urlencode(query)}"})


def challenge(verifier: str) -> str:
    """Return a verifier's S256 challenge (RFC 7636)."""
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def client_of(request: Request, form: Mapping[str, str]) -> tuple[str, str]:
    """Return id and secret of a client, out of a Basic header or else the form (RFC 6749 2.3.1)."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return form.get("client_id", ""), form.get("client_secret", "")
    try:
        client_id, _, secret = b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return unquote(client_id), unquote(secret)


def _html(status: int, text: str) -> Answer:
    return Answer(status, text.encode(), media_type="text/html; charset=utf-8")
