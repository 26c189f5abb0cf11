"""Storing what a step changed, and telling of what no record brings again."""

from uuid import UUID

from libs.common import ledger
from libs.common.events import Event, Topic
from libs.common.postgres import Transaction
from services.writer import store
from services.writer.account import Account
from services.writer.conclude import Changes


async def store_changes(session: Transaction, account: Account, changes: Changes) -> None:
    """Store links, rows, postings and releases, and shrink the intents by what has ended."""
    for intent, left in account.left_of(changes.ended).items():
        await store.shrink_intent(session, intent=intent, left=left)
    await store.apply(session, account.connection, account.workspace, changes)


async def store_end(
    session: Transaction, account: Account, changes: Changes, *, intent: UUID, stage: str
) -> None:
    """Store how an import ended, and tell of it; in few statements if all of it are first links."""
    if _has_only_firsts(changes):
        await store.link_firsts(
            session,
            workspace=account.workspace,
            intent=intent,
            firsts=changes.firsts,
            topic=Topic.CONTACTS_SETTLED,
            events=_late(account, changes, stage),
        )
        for hold, postings in changes.posts.items():
            await ledger.post(session, hold_id=hold, postings=postings)
        return
    await store.shrink_intent(session, intent=intent, left=[])
    await store_changes(session, account, changes)
    await tell_late(session, account, changes, stage)


def _has_only_firsts(changes: Changes) -> bool:
    """Return whether contacts of one run were linked and charged, and nothing else happened."""
    others = (changes.links, changes.moved, changes.parks, changes.drops, changes.releases)
    return not (any(others) or changes.ended) and len(changes.firsts.by_run()) == 1


async def tell_late(session: Transaction, account: Account, changes: Changes, stage: str) -> None:
    """Put what has no record of its own into the outbox: drains, imports, writes to old addresses.

    A record's own outcome is stored instead, and published by whoever handles the record.
    """
    await store.tell(session, Topic.CONTACTS_SETTLED, _late(account, changes, stage))


def _late(account: Account, changes: Changes, stage: str) -> list[tuple[str, Event]]:
    events = [
        tally.settled(part, account.workspace, name)
        for tallies, name in ((changes.tallies, stage), (changes.extras, f"{stage}:extra"))
        for part, tally in tallies.items()
        if not tally.is_empty
    ]
    return [(str(event.integration), event) for event in events]
