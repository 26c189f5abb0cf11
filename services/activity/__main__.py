"""`python -m services.activity`: from contacts.settled.v1 to what the API shows."""

from dataclasses import replace

from libs.common.consumer import Bounds, Consumer
from libs.common.events import Event, Settled, Topic
from libs.common.lifecycle import Process, run
from libs.common.postgres import Transactions, create_pool
from libs.common.publisher import Publisher
from libs.common.settings import read
from services.activity.settings import Settings
from services.activity.settle import Projection

READ_PAUSE_S = 0.2  # Who looks at a run sees it so much later; a transaction holds more of it.


def weigh(event: Event) -> int:
    """Return how many contacts' statuses a record changes."""
    if not isinstance(event, Settled):
        return 1
    written = len(event.created) + len(event.updated) + len(event.removed)
    return written + len(event.rejected) + len(event.parked)


async def main(process: Process, settings: Settings) -> None:
    """Wire the consumer to the read model, and run until told to stop."""
    pool = create_pool(
        settings.database_url,
        size_max=settings.database_pool_size_max,
        application_name=process.service,
    )
    try:
        async with Publisher(settings.kafka_bootstrap, source=process.service) as publisher:
            consumer = Consumer(
                settings.kafka_bootstrap,
                group=process.service,
                topics=[Topic.CONTACTS_SETTLED],
                handler=Projection(Transactions(pool)),
                publisher=publisher,
                weigh=weigh,
                bounds=replace(Bounds.of(settings), read_pause_s=READ_PAUSE_S),
            )
            process.watch("consumer", live=consumer.is_alive, ready=consumer.is_ready)
            await consumer.run(process.stop)
    finally:
        await pool.close()


if __name__ == "__main__":
    settings = read(Settings)
    run("activity", settings, lambda process: main(process, settings))
