"""`people/me/connections`: everything in pages, or what changed since a sync token.

Promises, as the discovery document has them: all other parameters of a call with a page token or a
sync token must equal those of the first call; a sync token comes with the last page only, and only
if it is asked for; it dies seven days after the full sync that its chain began with; a deleted
contact comes as one with `metadata.deleted`; a list that is empty is left out.
"""

import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from sandbox.exchange import Answer, Request, Routes
from sandbox.google_contacts.bodies import SOURCES, deleted, described, mask_of
from sandbox.google_contacts.contacts import Contact
from sandbox.google_contacts.errors import expired, invalid
from sandbox.google_contacts.state import Customer, State
from sandbox.google_contacts.tokens import READ_CONTACTS

PAGE_DEFAULT, PAGE_MAX = 100, 1_000
LISTINGS_KEPT = 16  # Of several readers at once; each is as long as its result.
# Standard parameters of every method, and what carries a position: they may differ between calls.
_FREE = frozenset(
    {"alt", "access_token", "callback", "fields", "key", "oauth_token", "pageToken", "prettyPrint"}
    | {"quotaUser", "syncToken", "upload_protocol", "uploadType", "$.xgafv"}
)
_ORDERS = (
    *("LAST_MODIFIED_ASCENDING", "LAST_MODIFIED_DESCENDING"),
    *("FIRST_NAME_ASCENDING", "LAST_NAME_ASCENDING"),
)


class SyncToken(msgspec.Struct, frozen=True):
    """What was told until then; `chain_s` is when the full sync was that the chain began with."""

    account: str
    asked: str
    revision: int
    chain_s: float


class PageToken(msgspec.Struct, frozen=True):
    """Where a page starts in a listing that began with `revision`."""

    account: str
    asked: str
    listing: str
    start: int
    revision: int
    chain_s: float


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Asked:
    """A call's parameters, read and checked."""

    names: list[str]
    sources: list[str]
    size: int
    order: str
    wants_token: bool
    since: SyncToken | None
    page: PageToken | None
    text: str  # All that must stay the same.


def register(routes: Routes[Customer]) -> None:
    """Add the listing."""
    routes.add(
        "GET",
        "/v1/people/me/connections",
        scopes=(READ_CONTACTS,),
        buckets=("critical_reads",),
    )(_connections)


def _connections(account: Customer, request: Request) -> Answer:
    asked = _asked(account, request)
    if asked.page is None and asked.since is None and asked.wants_token:
        State.take(account, "full_syncs", request.endpoint, request.arrived_s)
    page = asked.page or _first(account, asked)
    ids = _listed(account, asked, page)
    chosen = ids[page.start : page.start + asked.size]
    is_sync = asked.since is not None
    shown = [
        _shown(account.contacts.by_id[each], asked, is_sync=is_sync)
        for each in chosen
        if each in account.contacts.by_id
        and (is_sync or not account.contacts.by_id[each].is_deleted)
    ]
    body: dict[str, Any] = {"connections": shown} if shown else {}
    total = len(ids) if is_sync else len(account.contacts.live)
    if total:
        body |= {"totalPeople": total, "totalItems": total}
    if page.start + asked.size < len(ids):
        onward = msgspec.structs.replace(page, start=page.start + asked.size)
        body["nextPageToken"] = _written(onward)
    elif asked.wants_token:
        token = SyncToken(account.id, asked.text, page.revision, page.chain_s)
        body["nextSyncToken"] = _written(token)
    return Answer(200, body)


def _asked(account: Customer, request: Request) -> _Asked:
    query = {name: sorted(values) for name, values in request.query.items() if name not in _FREE}
    text = str(sorted(query.items()))
    size = request.parameter("pageSize", "0")
    if not (size.isascii() and size.isdigit()) or int(size) > PAGE_MAX:
        raise invalid()
    older = request.parameter("requestMask.includeField")
    names = mask_of(request.parameter("personFields") or older)
    sources = request.query.get("sources", list(SOURCES[:2]))
    order = request.parameter("sortOrder", _ORDERS[0])
    if set(sources) - set(SOURCES) or order not in _ORDERS:
        raise invalid()
    wants_token = request.flag("requestSyncToken")
    since = _read(request.parameter("syncToken"), SyncToken)
    if (wants_token or since) and order != _ORDERS[0]:
        raise invalid()
    page = _read(request.parameter("pageToken"), PageToken)
    for token in (since, page):
        if token is not None and (token.account, token.asked) != (account.id, text):
            raise invalid()
    if since is not None:
        _check_age(account, since)
    return _Asked(names, sources, int(size) or PAGE_DEFAULT, order, wants_token, since, page, text)


def _check_age(account: Customer, token: SyncToken) -> None:
    settings = account.settings
    is_old = account.clock.now_s() - token.chain_s >= settings.sync_token_ttl_s
    if is_old or token.chain_s < account.sync_tokens_since_s:
        raise expired(settings.expired_code, settings.expired_status)


def _first(account: Customer, asked: _Asked) -> PageToken:
    """Return where a listing begins that nobody asked for before."""
    chain_s = account.clock.now_s() if asked.since is None else asked.since.chain_s
    while len(account.listings) >= LISTINGS_KEPT:
        del account.listings[next(iter(account.listings))]
    listing = secrets.token_hex(8)
    account.listings[listing] = _matching(account, asked)
    return PageToken(account.id, asked.text, listing, 0, _settled(account), chain_s)


def _listed(account: Customer, asked: _Asked, page: PageToken) -> list[str]:
    """Return the ids of a listing: as they stood when it began, or as they stand now."""
    if account.settings.rows_move and page.start:
        return _matching(account, asked)
    if page.listing not in account.listings:
        raise invalid()
    return account.listings[page.listing]


def _settled(account: Customer) -> int:
    """Return the last change that sync reads show by now."""
    horizon_us = account.now_us - int(account.settings.propagation_s * 1_000_000)
    late = [each for each in account.contacts.by_id.values() if each.updated_us > horizon_us]
    if not account.settings.propagation_s or not late:
        return account.contacts.revision
    return min(each.revision for each in late) - 1


def _matching(account: Customer, asked: _Asked) -> list[str]:
    if asked.since is not None:
        last = _settled(account)
        touched = [
            each
            for each in account.contacts.by_id.values()
            if asked.since.revision < each.revision <= last
        ]
        return [each.id for each in sorted(touched, key=lambda each: each.revision)]
    return [each.id for each in sorted(account.contacts.live, key=_KEYS[asked.order])]


def _name(contact: Contact, key: str) -> tuple[str, str]:
    names = contact.parts.get("names", ())
    return (str(names[0].get(key, "")) if names else "", contact.id)


_KEYS: dict[str, Callable[[Contact], Any]] = {
    "LAST_MODIFIED_ASCENDING": lambda contact: contact.revision,
    "LAST_MODIFIED_DESCENDING": lambda contact: -contact.revision,
    "FIRST_NAME_ASCENDING": lambda contact: _name(contact, "givenName"),
    "LAST_NAME_ASCENDING": lambda contact: _name(contact, "familyName"),
}


def _shown(contact: Contact, asked: _Asked, *, is_sync: bool) -> dict[str, Any]:
    if contact.is_deleted:
        return deleted(contact)
    return described(contact, asked.names, sources=asked.sources, is_sync=is_sync, is_listed=True)


def _written(token: msgspec.Struct) -> str:
    return urlsafe_b64encode(msgspec.json.encode(token)).decode()


def _read(text: str, kind: type[T]) -> T | None:
    """Return a token; raises the 400 of one that is none of ours."""
    if not text:
        return None
    try:
        return msgspec.json.decode(urlsafe_b64decode(text.encode()), type=kind)
    except (ValueError, msgspec.MsgspecError):
        raise invalid() from None
