"""Asks providers to tell of edits, where somebody reads them (SF3, SF9; docs/decisions/0142).

Promises: an event is a hint that brings the next read forward, so whatever fails here fails
nothing else: without events edits are read at the interval, and deletions once a day. A token is
known to the provider alone; its digest is stored. An account has one subscription of ours, while
an integration that is not archived reads its edits. What could not be arranged then, and what is
older than events, is arranged by itself (docs/decisions/0156).
"""

import asyncio
import contextlib
import hashlib
import secrets
from typing import cast
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common import ids, logs
from libs.common.ids import Prefix
from libs.common.postgres import is_transient
from libs.connectors.contract import Announcer, Destination
from services.config_api import connect
from services.config_api.accounts import find_facts
from services.config_api.configure import Desk
from services.config_api.errors import ApiError
from services.config_api.routing import Parts
from services.config_api.store import connections, subscriptions
from services.config_api.store.connections import Connection
from services.config_api.store.integrations import Integration
from services.config_api.store.subscriptions import Subscription, Unheard
from services.config_api.units import Units

TOKEN_BYTES = 32

# What is missing costs nobody more than an interval: nothing is urgent. A look is one statement.
LOOK_S = 60.0
REST_S = 3_600.0  # Who was asked is not asked again before that: it may have refused.
AT_ONCE_MAX = 20  # An account each, one after the other: seconds.

log = logs.get(__name__)


def digest_of(token: str) -> bytes:
    """Return what is kept of a token: it is drawn, so nothing can be found out from its digest."""
    return hashlib.sha256(token.encode()).digest()


async def listen(desk: Desk, integration: Integration) -> None:
    """Have the destination tell of edits while they are read, and no longer."""
    connection_id = integration.destination_connection_id
    if connection_id is not None and integration.state != "draft":
        await arrange(desk.parts, desk.units, connection_id)


async def arrange(parts: Parts, units: Units, connection_id: UUID) -> None:
    """Have an account tell of edits if they are read, and not otherwise; idempotent."""

    async def look(session: AsyncSession) -> tuple[Connection | None, bool, Subscription | None]:
        return (
            await connections.find(session, connection_id),
            await subscriptions.has_readers(session, connection_id),
            await subscriptions.find(session, connection_id),
        )

    connection, has_readers, subscription = await units.run(look)
    if connection is None:
        return
    url = _url(parts, connection)
    wanted = url if has_readers else None
    if (subscription.url if subscription else None) == wanted:
        return
    try:
        if subscription is not None:
            await _end(parts, units, connection, subscription)
        if wanted is not None:
            await _begin(parts, units, connection, wanted)
    except ApiError as error:
        log.warning("events_not_arranged", provider=connection.provider, code=error.code)


async def keep_arranged(parts: Parts, stop: asyncio.Event) -> None:
    """Arrange what is missing until stopped; a database that is away is waited for."""
    while not stop.is_set():
        try:
            await arrange_missing(parts)
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("events_delayed", exc_info=error)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), LOOK_S)


async def arrange_missing(parts: Parts) -> int:
    """Arrange the events of accounts that should send them and do not; return how many were asked.

    Those of integrations that went both ways before there were events, of an account that could not
    be asked when somebody activated or changed its integration, and all of them after PUBLIC_URL
    was changed.
    """
    base_url = parts.addresses.events_url
    if base_url is None:
        return 0
    providers = [each.provider for each in parts.accounts.catalogue if each.sends_events]

    async def claim(session: AsyncSession) -> list[Unheard]:
        return await subscriptions.claim_unheard(
            session, providers=providers, base_url=base_url, rest_s=REST_S, limit=AT_ONCE_MAX
        )

    claimed = await Units(parts.sessions, None).run(claim)
    for each in claimed:
        await arrange(parts, Units(parts.sessions, each.workspace_id), each.connection_id)
    return len(claimed)


def _url(parts: Parts, connection: Connection) -> str | None:
    """Return where the provider is to send; None: it sends nothing, or could not reach us."""
    base_url = parts.addresses.events_url
    facts = find_facts(parts.accounts, connection.provider)
    if base_url is None or facts is None or not facts.sends_events:
        return None
    shown = ids.show(Prefix.CONNECTION, connection.connection_id)
    return f"{base_url}/{connection.provider}/{shown}"


async def _begin(parts: Parts, units: Units, connection: Connection, url: str) -> None:
    """Subscribe, then store it: what comes in between is refused, and read at the interval."""
    token = secrets.token_urlsafe(TOKEN_BYTES)

    async def subscribe(side: Destination) -> str:
        return await cast("Announcer", side).subscribe(url, token)

    remote_id = await connect.ask_destination(parts, units, connection, subscribe, is_write=True)
    subscription = Subscription(connection.connection_id, remote_id, url)

    async def keep(session: AsyncSession) -> None:
        await subscriptions.keep(session, subscription, connection.workspace_id, digest_of(token))

    await units.run(keep)
    log.info("events_arranged", provider=connection.provider)


async def _end(
    parts: Parts, units: Units, connection: Connection, subscription: Subscription
) -> None:
    """Refuse what still comes, then say that nothing is wanted any more."""
    connection_id: UUID = connection.connection_id
    await units.run(lambda session: subscriptions.forget(session, connection_id))

    async def unsubscribe(side: Destination) -> None:
        await cast("Announcer", side).unsubscribe(subscription.remote_id)

    await connect.ask_destination(parts, units, connection, unsubscribe, is_write=True)
