"""Where undecodable records go, and when to stop believing that the records are at fault.

Promises: a record is put to its topic's dead letters untouched (key, body, headers) with the reason
and where it came from, and counts as finished only once that is acknowledged: it is never dropped.
A breaker opens when so many are undecodable that the reader is the likelier culprit (a bad
deployment): then nothing more is put away and the consumer stands still until a person acts.
"""

from collections import deque
from collections.abc import Sequence

from aiokafka.structs import ConsumerRecord

from libs.common.events import Topic
from libs.common.publisher import Header, Publisher

IN_A_ROW = 5  # PROTOCOL.md 2.
WINDOW = 50
SHARE_MAX_PERCENT = 20

REASON = "dead_reason"
FROM_TOPIC = "dead_from_topic"
FROM_PARTITION = "dead_from_partition"
FROM_OFFSET = "dead_from_offset"
FROM_GROUP = "dead_from_group"

Consumed = ConsumerRecord[bytes | None, bytes | None]


class Breaker:
    """Counts undecodable records; once open it stays open, until the process is restarted."""

    def __init__(self) -> None:
        self._last: deque[bool] = deque(maxlen=WINDOW)
        self._in_a_row = 0
        self.is_open = False

    def record(self, *, is_good: bool) -> None:
        """Count one record."""
        self._last.append(is_good)
        self._in_a_row = 0 if is_good else self._in_a_row + 1
        bad = self._last.count(False)
        if self._in_a_row >= IN_A_ROW or bad * 100 > WINDOW * SHARE_MAX_PERCENT:
            self.is_open = True


async def bury(
    publisher: Publisher, topic: Topic, record: Consumed, *, reason: str, group: str
) -> None:
    """Put one record to the dead letters of its topic; return when it is acknowledged.

    Raises UnavailableError if that is not known: try again, a second copy is harmless.
    """
    await publisher.send(
        publisher.names.dead(topic), record.key, record.value, _headers(record, reason, group)
    )


def _headers(record: Consumed, reason: str, group: str) -> Sequence[Header]:
    return [
        *record.headers,
        (REASON, reason.encode()),
        (FROM_TOPIC, str(record.topic).encode()),
        (FROM_PARTITION, str(record.partition).encode()),
        (FROM_OFFSET, str(record.offset).encode()),
        (FROM_GROUP, group.encode()),
    ]
