"""Start the mapper: `python -m services.mapper`."""

from collections.abc import Iterable
from dataclasses import replace
from uuid import UUID

from libs.common.consumer import Bounds, Consumer
from libs.common.events import Changed, Event, Topic
from libs.common.failpoints import reached_by
from libs.common.lifecycle import Process, run
from libs.common.postgres import Transactions, create_pool
from libs.common.publisher import Publisher
from libs.common.settings import read
from services.mapper import store
from services.mapper.map_records import RecordMapper
from services.mapper.settings import Settings
from services.mapper.store import Integration

GROUP = "mapper"
# Mapping takes no time, so nothing is gained by holding more than the next batches.
IN_FLIGHT_BYTES_MAX = 4 << 20
READ_PAUSE_S = 0.2  # Six pages at once, not one by one: fewer fetches, questions, publications.


def weigh(event: Event) -> int:
    """Return how many contacts a record holds."""
    return len(event.changes) if isinstance(event, Changed) else 1


async def main(process: Process, settings: Settings) -> None:
    """Map records until told to stop."""
    pool = create_pool(
        settings.database_url,
        size_max=settings.database_pool_size_max,
        application_name=f"contactsync_{GROUP}",
    )
    transactions = Transactions(pool)

    async def load(integration: UUID, versions: set[int]) -> Integration | None:
        return await store.load_integration(transactions, integration, versions=versions)

    try:
        async with Publisher(settings.kafka_bootstrap, source=GROUP) as publisher:

            async def publish(topic: Topic, events: Iterable[tuple[str, Event]]) -> None:
                await publisher.publish_all(topic, events)

            consumer = Consumer(
                settings.kafka_bootstrap,
                group=GROUP,
                topics=[Topic.CONTACTS_CHANGED],
                handler=RecordMapper(
                    load, publish, reached=reached_by(process.service, settings)
                ).handle,
                publisher=publisher,
                weigh=weigh,
                bounds=replace(
                    Bounds.of(settings),
                    in_flight_bytes_max=IN_FLIGHT_BYTES_MAX,
                    read_pause_s=READ_PAUSE_S,
                ),
            )
            process.watch("consumer", live=consumer.is_alive, ready=consumer.is_ready)
            await consumer.run(process.stop)
    finally:
        await pool.close()


if __name__ == "__main__":
    _settings = read(Settings)
    run(GROUP, _settings, lambda process: main(process, _settings))
