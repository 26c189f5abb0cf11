"""Projects one batch of an integration's outcomes into the read model, in one transaction.

Promise: the transaction is idempotent (a part counts once, sums are only added for new parts), so
a batch may come again after a crash, whole or cut differently.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from uuid import UUID

from libs.common import metrics
from libs.common.consumer import Batch
from libs.common.events import Settled
from libs.common.postgres import Transaction, Transactions, transact
from services.activity import store
from services.activity.project import RunSums, deltas, ending, split, statuses

CONTACTS_SETTLED = metrics.counter(
    "contacts_settled_total", "Contacts told of by the writer, by how they ended.", ["outcome"]
)
RUNS_ENDED = metrics.counter("runs_ended_total", "Runs that ended, by verdict.", ["verdict"])


class Projection:
    """The consumer's handler; holds nothing but where the database is."""

    def __init__(self, sessions: Transactions) -> None:
        self._sessions = sessions

    async def __call__(self, batch: Batch) -> None:
        """Store a batch's parts and run_reads, and end the runs that they complete."""
        parts, run_reads = split(record.event for record in batch.records)

        async def work(session: Transaction) -> tuple[list[Settled], list[str]]:
            fresh = await store.insert_parts(session, parts) if parts else []
            await store.add_to_runs(session, deltas(fresh))
            standing = await store.store_run_reads(session, run_reads)
            await _store_statuses(session, fresh)
            if others := {part.run for part in fresh} - standing.keys():
                standing |= await store.sums(session, others)
            return fresh, await _end_runs(session, standing)

        fresh, verdicts = await transact(self._sessions, work)
        for delta in deltas(fresh).values():
            for outcome, count in (delta.counts + delta.later).items():
                CONTACTS_SETTLED.labels(outcome).inc(count)
        for verdict in verdicts:
            RUNS_ENDED.labels(verdict).inc()


async def _store_statuses(session: Transaction, parts: Sequence[Settled]) -> None:
    by_integration: defaultdict[tuple[UUID, UUID], list[Settled]] = defaultdict(list)
    for part in parts:
        by_integration[part.integration, part.workspace].append(part)
    for (integration, workspace), own in sorted(by_integration.items()):
        if named := statuses(own):
            await store.store_statuses(
                session, integration=integration, workspace=workspace, statuses=named
            )


async def _end_runs(session: Transaction, runs: Mapping[UUID, RunSums]) -> list[str]:
    verdicts = []
    for run, standing in sorted(runs.items()):
        if (ended := ending(standing)) and await store.end_run(session, run, ended):
            verdicts.append(ended.verdict)
    return verdicts
