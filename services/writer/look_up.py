"""Step 1: everything that a turn is judged by, in a few queries of one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common import ledger
from libs.common.reasons import Park
from services.writer import store
from services.writer.account import Account
from services.writer.values import ContactId, Parked, View, Wanted, identity_key

CONNECTED = "connected"


@dataclass(frozen=True, slots=True)
class Known:
    """What is known when a turn begins; `connection` is None if it was removed.

    `items` are what it is known of, each with those that its parked row says were merged into it.
    """

    items: Sequence[Wanted]
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
    contacts = dict.fromkeys([item.contact for item in items])
    rows = await store.parked(session, contacts)
    items = [_with_merged(item, rows) for item in items]
    merged = {
        ContactId(item.contact.integration, source_id)
        for item in items
        for source_id in item.merged_from
    } - contacts.keys()
    if merged:
        rows |= await store.parked(session, merged)
    links = await store.links(session, [*contacts, *merged])
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
        parked=rows,
        units=account.units,
        held=account.claims,
        blocked=blocked,
        is_probe=is_probe,
        is_open=await ledger.is_open(session, workspace=account.workspace),
    )
    return Known(items, view, connection, block)


def _with_merged(item: Wanted, rows: Mapping[ContactId, Parked]) -> Wanted:
    """Return a contact with the merges of the parked row that it takes the place of."""
    row = rows.get(item.contact)
    if row is None or not set(row.merged_from) - set(item.merged_from):
        return item
    merged = dict.fromkeys((*row.merged_from, *item.merged_from))
    return replace(item, merged_from=tuple(merged))
