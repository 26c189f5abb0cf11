"""Storing what a step changed, and telling of what no record brings again."""

from libs.common.events import Topic
from libs.common.postgres import Transaction
from services.writer import store
from services.writer.account import Account
from services.writer.conclude import Changes


async def store_changes(session: Transaction, account: Account, changes: Changes) -> None:
    """Store links, rows, postings and releases, and shrink the intents by what has ended."""
    for intent, left in account.left_of(changes.ended).items():
        await store.shrink_intent(session, intent=intent, left=left)
    await store.apply(session, account.connection, account.workspace, changes)


async def tell_late(session: Transaction, account: Account, changes: Changes, stage: str) -> None:
    """Put what has no record of its own into the outbox: drains, imports, writes to old addresses.

    A record's own outcome is stored instead, and published by whoever handles the record.
    """
    events = [
        tally.settled(part, account.workspace, name)
        for tallies, name in ((changes.tallies, stage), (changes.extras, f"{stage}:extra"))
        for part, tally in tallies.items()
        if not tally.is_empty
    ]
    pairs = [(str(event.integration), event) for event in events]
    await store.tell(session, Topic.CONTACTS_SETTLED, pairs)
