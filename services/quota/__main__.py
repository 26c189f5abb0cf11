"""`python -m services.quota`: the accountant, and the relay of the ledger's decisions."""

from libs.common import database
from libs.common.failpoints import reached_by
from libs.common.lifecycle import Process, run
from libs.common.outbox import OutboxRelay
from libs.common.publisher import Publisher
from libs.common.settings import read
from services.quota.account import keep_partitions
from services.quota.settings import Settings


async def main(process: Process, settings: Settings) -> None:
    """Keep the ledger's months and publish its decisions until told to stop."""
    engine = database.create_engine(
        str(settings.database_url),
        pool_size_max=settings.database_pool_size_max,
        application_name=process.service,
    )
    sessions = database.session_maker(engine)
    try:
        async with Publisher(settings.kafka_bootstrap, source=process.service) as publisher:
            relay = OutboxRelay(
                sessions,
                "ledger.outbox",
                publisher,
                claim_s=settings.outbox_claim_s,
                reached=reached_by(process.service, settings),
            )
            _ = process.start(
                keep_partitions(sessions, process.stop, every_s=settings.partitions_every_s)
            )
            await relay.run(process.stop)
    finally:
        await engine.dispose()


if __name__ == "__main__":
    settings = read(Settings)
    run("quota", settings, lambda process: main(process, settings))
