"""Storing what a step changed, and telling of what no record brings again."""

from libs.common import ledger
from libs.common.events import Event, Topic
from libs.common.postgres import Transaction
from services.writer import store
from services.writer.account import Account, Intent
from services.writer.conclude import Changes
from services.writer.values import Kind


async def store_changes(session: Transaction, account: Account, changes: Changes) -> None:
    """Store links, rows, postings and releases, and shrink the intents by what has ended."""
    for intent, left in account.left_of(changes.ended).items():
        await store.shrink_intent(session, intent=intent, left=left)
    await store.apply(session, account.connection, account.workspace, changes)


async def store_firsts(
    session: Transaction, account: Account, intent: Intent, changes: Changes, *, stage: str
) -> None:
    """Store that an import has brought first links of one run and nothing else, and tell of it.

    By columns and in two statements: the rows are charged as they are, without an object for each.
    """
    rows = intent.rows
    await store.link_firsts(
        session,
        workspace=account.workspace,
        intent=intent.intent,
        firsts=rows,
        topic=Topic.CONTACTS_SETTLED,
        events=_late(account, changes, stage),
    )
    await ledger.post_columns(
        session,
        hold_id=intent.hold,
        effect_keys=rows.keys,
        source_ids=rows.source_ids,
        in_common=[
            (head.part.integration, head.part.run, Kind.UPSERT, own.stop - own.start)
            for head, own in rows.stretches()
        ],
    )


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
