"""Asks providers to tell of edits, where somebody reads them (SF3, SF9; docs/decisions/0142).

Promises: an event is a hint that brings the next read forward, so whatever fails here fails
nothing else: without events edits are read at the interval, and deletions once a day. A token is
known to the provider alone; its digest is stored. An account has one subscription of ours, while
an integration that is not archived reads its edits.
"""

import hashlib
import secrets
from typing import cast
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common import ids, logs
from libs.common.ids import Prefix
from libs.connectors.contract import Announcer, Destination
from services.config_api import connect
from services.config_api.accounts import find_facts
from services.config_api.configure import Desk
from services.config_api.errors import ApiError
from services.config_api.store import connections, subscriptions
from services.config_api.store.connections import Connection
from services.config_api.store.integrations import Integration
from services.config_api.store.subscriptions import Subscription

TOKEN_BYTES = 32

log = logs.get(__name__)


def digest_of(token: str) -> bytes:
    """Return what is kept of a token: it is drawn, so nothing can be found out from its digest."""
    return hashlib.sha256(token.encode()).digest()


async def listen(desk: Desk, integration: Integration) -> None:
    """Have the destination tell of edits while they are read, and no longer."""
    connection_id = integration.destination_connection_id
    if connection_id is None or integration.state == "draft":
        return

    async def look(session: AsyncSession) -> tuple[Connection | None, bool, Subscription | None]:
        return (
            await connections.find(session, connection_id),
            await subscriptions.has_readers(session, connection_id),
            await subscriptions.find(session, connection_id),
        )

    connection, has_readers, subscription = await desk.units.run(look)
    if connection is None:
        return
    url = _url(desk, connection)
    wanted = url if has_readers else None
    if (subscription.url if subscription else None) == wanted:
        return
    try:
        if wanted is None:
            await _end(desk, connection, subscription)
        else:
            await _begin(desk, connection, wanted)
    except ApiError as error:
        log.warning("events_not_arranged", provider=connection.provider, code=error.code)


def _url(desk: Desk, connection: Connection) -> str | None:
    """Return where the provider is to send; None: it sends nothing, or could not reach us."""
    base_url = desk.parts.addresses.events_url
    facts = find_facts(desk.parts.accounts, connection.provider)
    if base_url is None or facts is None or not facts.sends_events:
        return None
    shown = ids.show(Prefix.CONNECTION, connection.connection_id)
    return f"{base_url}/{connection.provider}/{shown}"


async def _begin(desk: Desk, connection: Connection, url: str) -> None:
    """Subscribe, then store it: what comes in between is refused, and read at the interval."""
    token = secrets.token_urlsafe(TOKEN_BYTES)

    async def subscribe(side: Destination) -> str:
        return await cast("Announcer", side).subscribe(url, token)

    remote_id = await connect.ask_destination(
        desk.parts, desk.units, connection, subscribe, is_write=True
    )
    subscription = Subscription(connection.connection_id, remote_id, url)

    async def keep(session: AsyncSession) -> None:
        await subscriptions.keep(session, subscription, connection.workspace_id, digest_of(token))

    await desk.units.run(keep)
    log.info("events_arranged", provider=connection.provider)


async def _end(desk: Desk, connection: Connection, subscription: Subscription | None) -> None:
    """Refuse what still comes, then say that nothing is wanted any more."""
    if subscription is None:
        return
    connection_id: UUID = connection.connection_id
    await desk.units.run(lambda session: subscriptions.forget(session, connection_id))

    async def unsubscribe(side: Destination) -> None:
        await cast("Announcer", side).unsubscribe(subscription.remote_id)

    await connect.ask_destination(desk.parts, desk.units, connection, unsubscribe, is_write=True)
