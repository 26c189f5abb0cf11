"""`python -m services.writer`: writes what is wanted to destinations, within the quota."""

import asyncio
from dataclasses import replace
from uuid import UUID

from libs.common import ids
from libs.common.consumer import Bounds, Consumer
from libs.common.events import Event, Mapped, Topic
from libs.common.failpoints import reached_by
from libs.common.lifecycle import Process, run
from libs.common.outbox import OutboxRelay
from libs.common.postgres import Pool, Transactions
from libs.common.publisher import Publisher
from libs.common.secrets import KeyRing
from libs.common.settings import read
from libs.connectors.http import HttpClient
from libs.connectors.opening import Opener, clients_of
from services.writer import store
from services.writer.account import Accounts
from services.writer.destinations import Destinations
from services.writer.drain import Drain
from services.writer.health import Blocks
from services.writer.imports import Imports
from services.writer.lease import Leases
from services.writer.live import Live
from services.writer.settings import WriterSettings
from services.writer.shares import Budget
from services.writer.write import Writing

GROUP = "writer"


def weigh(event: Event) -> int:
    """Return how many contacts a record holds: a batch is bounded by them."""
    if not isinstance(event, Mapped):
        return 1
    return max(1, len(event.effects) + len(event.rejected) + len(event.filtered))


async def main(process: Process, settings: WriterSettings) -> None:
    """Wire the writer, and run it until told to stop."""
    pool = store.create_pool(settings.database_url, size_max=settings.database_pool_size_max)
    http = HttpClient(environment=settings.environment, loopback_urls=settings.provider_base_urls)
    try:
        async with Publisher(settings.kafka_bootstrap, source=process.service) as publisher:
            await serve(process, settings, publisher, pool, http)
    finally:
        await http.aclose()
        await pool.close()


async def serve(
    process: Process,
    settings: WriterSettings,
    publisher: Publisher,
    pool: Pool,
    http: HttpClient,
) -> None:
    """Consume, drain and relay until told to stop; then let go of every destination."""
    transactions = Transactions(pool)
    leases = Leases(
        transactions,
        process.clock,
        ids.new(),
        ttl_s=settings.lease_s,
        renew_s=settings.lease_renew_s,
        late_call_s=settings.late_call_s,
    )

    def serves(connection: UUID) -> bool:
        return consumer.serves(Topic.CONTACTS_MAPPED, str(connection))

    accounts = Accounts(transactions, leases, serves=serves)
    destinations = Destinations(_opener(process, settings, transactions, http))
    reached = reached_by(process.service, settings)
    imports = Imports(
        transactions,
        process.clock,
        poll_s=settings.import_poll_s,
        late_call_s=settings.late_call_s,
        reached=reached,
    )
    blocks = Blocks(transactions, process.clock)
    writing = Writing(
        transactions,
        process.clock,
        destinations,
        imports,
        blocks,
        budget=Budget(settings.sync_budget),
        reached=reached,
    )
    drain = Drain(
        transactions, process.clock, accounts, writing, imports, every_s=settings.drain_every_s
    )
    live = Live(
        transactions, accounts, writing, publisher.publish_all, wake=drain.wake, reached=reached
    )
    consumer = Consumer(
        settings.kafka_bootstrap,
        group=GROUP,
        topics=[Topic.CONTACTS_MAPPED],
        handler=live,
        publisher=publisher,
        weigh=weigh,
        on_revoked=live.on_revoked,
        bounds=replace(Bounds.of(settings), collect_s=settings.collect_s),
    )
    process.watch("consumer", live=consumer.is_alive, ready=consumer.is_ready)
    relay = OutboxRelay(
        transactions,
        "delivery.outbox",
        publisher,
        claim_s=settings.outbox_claim_s,
        reached=reached,
    )
    beside = [process.start(each.run(process.stop)) for each in (leases, relay, drain)]
    await consumer.run(process.stop)
    await asyncio.gather(*beside)
    await accounts.release()


def _opener(
    process: Process, settings: WriterSettings, transactions: Transactions, http: HttpClient
) -> Opener:
    return Opener(
        http=http,
        transactions=transactions,
        keys=KeyRing.parse(settings.keys.reveal()),
        clock=process.clock,
        patience_s=settings.patience_s,
        clients=clients_of(settings),
        base_urls=settings.provider_base_urls,
        paced=settings.rate_limits,
    )


if __name__ == "__main__":
    _settings = read(WriterSettings)
    run(GROUP, _settings, lambda process: main(process, _settings))
