"""How many records the services have not finished yet, told by the broker."""

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient


async def lag(bootstrap: str) -> int:
    """Return the sum over all groups: what a topic has beyond what the group has committed."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await admin.start()
    await consumer.start()
    try:
        behind = 0
        for group, *_ in await admin.list_consumer_groups():
            committed = await admin.list_consumer_group_offsets(group)
            ends = await consumer.end_offsets(list(committed))
            behind += sum(ends[place] - at.offset for place, at in committed.items())
        return behind
    finally:
        await consumer.stop()
        await admin.close()
