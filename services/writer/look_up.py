"""Step 1: everything that a turn is judged by, in a few queries of one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common import ledger
from libs.common.reasons import Park
from services.writer import store
from services.writer.account import Account
from services.writer.values import ContactId, View, Wanted, identity_key

CONNECTED = "connected"


@dataclass(frozen=True, slots=True)
class Known:
    """What is known when a turn begins; `connection` is None if it was removed."""

    view: View
    connection: store.Connection | None
    block: store.Block | None

    @property
    def attempts(self) -> int:
        """Return how often the destination failed in a row."""
        return self.block.attempts if self.block is not None else 0


async def look_up(
    session: AsyncSession, account: Account, items: Sequence[Wanted], *, is_probe: bool
) -> Known:
    """Return what is known of these contacts and of where they go.

    A probe looks past the block that it is to end, but not past missing credentials.
    """
    connection = await store.connection_of(session, account.connection)
    block = await store.block_of(session, account.connection)
    blocked: str | None = None
    if connection is None or connection.state != CONNECTED:
        blocked = Park.NEEDS_REAUTH
    elif block is not None and not is_probe:
        blocked = block.reason
    contacts = list(
        dict.fromkeys(
            contact
            for item in items
            for contact in (
                item.contact,
                *(ContactId(item.contact.integration, merged) for merged in item.merged_from),
            )
        )
    )
    links = await store.links(session, contacts)
    addresses = {
        (item.contact.integration, key)
        for item in items
        if (key := identity_key(item.identity)) is not None
    } | {(link.contact.integration, link.key) for link in links.values() if link.key is not None}
    view = View(
        integrations=await store.integrations(
            session, {item.contact.integration for item in items}
        ),
        runs=await store.runs(session, {item.part.run for item in items}),
        links=links,
        owners=await store.owners(session, addresses),
        parked=await store.parked(session, contacts),
        units=account.units,
        blocked=blocked,
        is_probe=is_probe,
        is_open=await ledger.is_open(session, workspace=account.workspace),
    )
    return Known(view, connection, block)
