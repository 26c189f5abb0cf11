"""One decision a run about changed e-mail addresses (PROTOCOL.md 5, S5).

Promises: a `run_read` that counts decides over every parked contact of its integration that the
run could have seen and whose address is not its link's; the decision is stored with the run and
made once, so a replayed `run_read` changes nothing, also for changes that were made since. An
approval stays on the row while the address is the same; a refusal stays on the link.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

import msgspec

from libs.common import logs, metrics
from libs.common.events import RunRead
from libs.common.postgres import Transaction
from services.writer import store
from services.writer.account import Account
from services.writer.values import digest

log = logs.get(__name__)

EMAIL_CHANGES = metrics.counter(
    "email_changes_total", "Changed addresses decided on at a run's end.", ["decision"]
)


class Policy(StrEnum):
    """What an integration lets happen with changed addresses."""

    SINGLE = "single"
    ALL = "all"
    NONE = "none"


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided: contact → digest of its new address, which itself is not stored."""

    approved: dict[str, str] = {}
    refused: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Change:
    """A parked contact whose address is not its link's."""

    source_id: str
    address: str

    @property
    def mark(self) -> str:
        """Return what the address is recognised by."""
        return digest(self.address.encode()).hex()


def decide(policy: Policy, changes: Sequence[Change]) -> Decision:
    """Return which changes of address are approved: a single one, all or none."""
    marks = {change.source_id: change.mark for change in changes}
    if policy is Policy.ALL or (policy is Policy.SINGLE and len(marks) == 1):
        return Decision(approved=marks)
    return Decision(refused=marks)


async def apply_run_read(session: Transaction, account: Account, event: RunRead) -> bool:
    """Decide, or find what was decided, and store it; False if the `run_read` does not count."""
    await account.lease.keep(session)
    run = (await store.runs(session, {event.run})).get(event.run)
    if run is None or run.fencing != event.fencing or run.is_abandoned:
        return False
    changes = [
        Change(source_id, address)
        for source_id, address in await store.changed_addresses(
            session, integration=event.integration, run_no=event.run_no
        )
    ]
    if not changes:
        # Stored like any other: who is met by a redelivery only is left to the next run.
        await _decided(session, event, Decision())
        return True
    configured = (await store.integrations(session, {event.integration})).get(event.integration)
    if configured is None:
        return True
    proposed = decide(Policy(configured.email_change_policy), changes)
    decided = await _decided(session, event, proposed)
    await _carry_out(session, event.integration, decided, changes)
    return True


async def _decided(session: Transaction, event: RunRead, proposed: Decision) -> Decision:
    """Return what was decided before, or else what is proposed now."""
    decision = msgspec.json.encode(proposed)
    stored = await store.decide_email_changes(session, run=event.run, decision=decision)
    return msgspec.json.decode(stored, type=Decision)


async def _carry_out(
    session: Transaction, integration: UUID, decided: Decision, changes: Sequence[Change]
) -> None:
    approved = [
        change for change in changes if decided.approved.get(change.source_id) == change.mark
    ]
    refused = [change for change in changes if decided.refused.get(change.source_id) == change.mark]
    await store.approve(session, integration, [(c.source_id, c.address) for c in approved])
    await store.refuse(session, integration, [(c.source_id, c.address) for c in refused])
    EMAIL_CHANGES.labels("approved").inc(len(approved))
    EMAIL_CHANGES.labels("refused").inc(len(refused))
    log.info("email_changes_decided", granted=len(approved), rejected=len(refused))
