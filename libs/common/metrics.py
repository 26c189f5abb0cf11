"""What the platform counts, in Prometheus' words.

Promises: every name is `contactsync_<noun>_<unit|total>`; labels have few values (a service, a
group, a topic, a partition, an outcome: never a workspace or a contact); one registry per process,
served at `/metrics`. Services make their own with `counter`, `gauge` and `histogram`.
"""

import asyncio
from collections.abc import Sequence

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from libs.common.clock import Clock

PREFIX = "contactsync_"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
# Whoever scrapes sees the last sample only. A block that is shorter is seen as often either way: it
# meets fewer samples, and what it left is shown for longer.
LOOP_LAG_EVERY_S = 2.0

REGISTRY = CollectorRegistry(auto_describe=True)
for _collector in (GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR):
    REGISTRY.register(_collector)


def counter(name: str, meaning: str, labels: Sequence[str] = ()) -> Counter:
    """Make a counter; its name ends in `_total`."""
    assert name.endswith("_total"), name
    return Counter(_full(name), meaning, labels, registry=REGISTRY)


def gauge(name: str, meaning: str, labels: Sequence[str] = ()) -> Gauge:
    """Make a gauge; its name ends in its unit."""
    return Gauge(_full(name), meaning, labels, registry=REGISTRY)


def histogram(
    name: str, meaning: str, labels: Sequence[str] = (), buckets: Sequence[float] = SECONDS
) -> Histogram:
    """Make a histogram; its name ends in its unit, and seconds are the default."""
    return Histogram(_full(name), meaning, labels, buckets=buckets, registry=REGISTRY)


def _full(name: str) -> str:
    assert not name.startswith(PREFIX), name
    return PREFIX + name


def exposition() -> bytes:
    """Return all metrics in the text format of Prometheus."""
    return generate_latest(REGISTRY)


BUILD_INFO = gauge(
    "build_info", "Which version of which service runs; always 1.", ["service", "version"]
)
LOOP_LAG = gauge("loop_lag_seconds", "How late the event loop woke a sleeper.")

RECORDS_IN = counter("records_in_total", "Records read from a topic.", ["group", "topic"])
RECORDS_FINISHED = counter(
    "records_finished_total", "Records whose effects are durable.", ["group", "topic"]
)
RECORDS_DEAD = counter(
    "records_dead_total", "Undecodable records put to dead letters.", ["group", "topic"]
)
BATCHES_RETRIED = counter(
    "batches_retried_total", "Batches that wait to be tried again.", ["group"]
)
BATCH_SECONDS = histogram("batch_duration_seconds", "How long a handler took.", ["group"])
BREAKER_OPEN = gauge(
    "dead_letter_breaker_open_state", "1: paused, too many undecodable records.", ["group"]
)
OFFSETS_MISSED = counter(
    "offsets_missed_total", "Offsets that the broker no longer had.", ["group", "topic"]
)
WATERMARK_LAG = gauge(
    "watermark_lag_records",
    "Offsets between the lowest unfinished and the newest read.",
    ["group", "topic", "partition"],
)
OLDEST_IN_FLIGHT = gauge(
    "oldest_in_flight_seconds", "Since when the oldest running batch shows no sign.", ["group"]
)
IN_FLIGHT = gauge("in_flight_records", "Records read and not finished.", ["group"])
IN_FLIGHT_BYTES = gauge("in_flight_bytes", "Bytes read and not finished.", ["group"])
PAUSED = gauge("paused_partitions", "Partitions not read for now.", ["group"])
ASSIGNED = gauge("assigned_partitions", "Partitions this process owns.", ["group"])
EPOCH = gauge("assignment_epoch_number", "Counts the assignments of this process.", ["group"])
COMMIT_FAILURES = counter("commit_failures_total", "Commits that failed.", ["group"])
POLL_FAILURES = counter("poll_failures_total", "Reads that failed.", ["group"])
REBALANCES = counter("rebalances_total", "Assignments revoked.", ["group"])
REBALANCE_SECONDS = histogram("rebalance_drain_seconds", "Drain before giving up.", ["group"])

SENDS = counter("sends_total", "Records sent to a topic.", ["topic", "outcome"])
SEND_SECONDS = histogram("send_duration_seconds", "Until a record was acknowledged.", ["topic"])
PRODUCERS_REPLACED = counter("producers_replaced_total", "Producers given up.", ["reason"])

OUTBOX_OLDEST = gauge("outbox_oldest_seconds", "Age of the oldest row not published.", ["table"])
OUTBOX_PUBLISHED = counter("outbox_published_total", "Rows published.", ["table"])
OUTBOX_BURIED = counter("outbox_buried_total", "Rows that were no events.", ["table"])


async def sample_loop_lag(stop: asyncio.Event, clock: Clock) -> None:
    """Measure, until stopped, how late the event loop wakes who asked to be woken.

    Told to stop, it may sleep on: who does not wait so long cancels it.
    """
    while not stop.is_set():
        before = clock.monotonic()
        await asyncio.sleep(LOOP_LAG_EVERY_S)
        LOOP_LAG.set(max(0.0, clock.monotonic() - before - LOOP_LAG_EVERY_S))
