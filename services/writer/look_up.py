"""Step 1: everything that a turn is judged by, in a few queries."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from uuid import UUID

from msgspec.structs import replace

from libs.common.events import Mapped
from libs.common.postgres import Transaction
from services.writer import store
from services.writer.account import Account
from services.writer.records import wanted_in
from services.writer.usual import Usual, columns, sort_column
from services.writer.values import (
    ContactId,
    Parked,
    Place,
    View,
    Wanted,
    identity_key,
    shared,
)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known when a turn begins.

    `items` are what it is known of, each with those that its parked row says were merged into it.
    """

    items: Sequence[Wanted]
    view: View
    around: store.Around

    @property
    def connection(self) -> store.Connection | None:
        """Return the destination as configured; None if it was removed."""
        return self.around.connection

    @property
    def block(self) -> store.Block | None:
        """Return why nothing is sent to the destination; None if it is not blocked."""
        return self.around.block

    @property
    def attempts(self) -> int:
        """Return how often the destination failed in a row."""
        return self.block.attempts if self.block is not None else 0


async def look_around(
    session: Transaction,
    account: Account,
    integrations: AbstractSet[UUID],
    runs: AbstractSet[UUID],
) -> store.Around:
    """Return what is the same for all contacts of these integrations and runs."""
    return await store.around(
        session,
        connection=account.connection,
        workspace=account.workspace,
        integrations=integrations,
        runs=runs,
    )


async def look_up(
    session: Transaction,
    account: Account,
    items: Sequence[Wanted],
    around: store.Around,
    *,
    is_probe: bool,
) -> Known:
    """Return what is known of these contacts and of where they go."""
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
        Place(item.contact.integration, key)
        for item in items
        if (key := identity_key(item.identity)) is not None
    }
    addresses |= {
        Place(link.contact.integration, link.key) for link in links.values() if link.key is not None
    }
    view = View(
        integrations=around.integrations,
        runs=around.runs,
        links=links,
        owners=await store.owners(session, addresses),
        parked=rows,
        units=account.units,
        importing=account.importing,
        held=account.held,
        blocked=around.blocked(is_probe=is_probe),
        is_probe=is_probe,
        is_open=around.is_open,
    )
    return Known(items, view, around)


async def sort_out(
    session: Transaction,
    account: Account,
    records: Sequence[Mapped],
    around: store.Around,
    *,
    is_late: bool,
) -> Usual:
    """Return the usual contacts of a live batch, and the rest for a closer look."""
    found = columns(records)
    if not found:
        return Usual(rest=[item for record in records for item in wanted_in(record)])
    all_ = Usual()
    for integration, column in found.items():
        seen = await store.glance(session, shared(integration), column.addresses)
        if any(seen.parked.values()):
            # Somebody was merged into one that waits: who, only the closer look says.
            return Usual(rest=[item for record in records for item in wanted_in(record)])
        all_.add(
            sort_column(
                column,
                seen,
                around.integrations.get(integration),
                around.runs,
                account,
                takes_firsts=around.is_open and around.blocked(is_probe=False) is None,
                is_late=is_late,
            )
        )
    return all_


def _with_merged(item: Wanted, rows: Mapping[ContactId, Parked]) -> Wanted:
    """Return a contact with the merges of the parked row that it takes the place of."""
    row = rows.get(item.contact)
    if row is None or not set(row.merged_from) - set(item.merged_from):
        return item
    merged = dict.fromkeys((*row.merged_from, *item.merged_from))
    return replace(item, merged_from=tuple(merged))
