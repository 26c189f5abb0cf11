"""What must hold of a whole stack once it is quiet: ledger, counts, mails, topics, providers.

Looks at the database as its owner, at the topics and at the providers; it uses none of the services
it judges. Every difference is told by ids, never by contact data.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import asyncpg
import httpx
from aiokafka import AIOKafkaConsumer, TopicPartition

from libs.common.events import Topic
from libs.common.postgres import GONE
from local import verify, wizard
from local.api import Json
from local.stack import Stack
from tests.integration.scene import UNSETTLED, Scene, Way

SAMPLE_EVERY_S = 0.01
SAMPLE_WITHIN_S = 10.0
LOOK_EVERY_S = 0.3
POLL_MS = 200
SHOWN_MAX = 20


@dataclass(slots=True)
class Watched:
    """What the ledger's counters showed at each moment they were looked at."""

    samples: int = 0
    posted: int = 0  # The last that was seen.
    reached_limit: int = 0  # How often posted + held was the limit itself.
    excess: int = 0  # The most by which posted + held was over the limit; never, if it is 0.


@asynccontextmanager
async def watching_the_ledger(stack: Stack) -> AsyncIterator[Watched]:
    """Sample posted + held against the limit for as long as the block lasts."""
    watched = Watched()
    task = asyncio.create_task(_watch_through_crashes(stack.database, watched))
    try:
        yield watched
    finally:
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled():
        task.result()


async def _watch_through_crashes(database: str, watched: Watched) -> None:
    while True:
        with suppress(asyncpg.PostgresError, *GONE):
            connection = await asyncpg.connect(database, command_timeout=SAMPLE_WITHIN_S)
            try:
                await _watch(connection, watched)
            finally:
                connection.terminate()
        await asyncio.sleep(LOOK_EVERY_S)


async def _watch(connection: asyncpg.Connection, watched: Watched) -> None:
    while True:
        rows = await connection.fetch(
            "select posted, posted + held used, quota_limit from ledger.periods"
        )
        watched.posted = sum(row["posted"] for row in rows)
        for row in rows:
            over = row["used"] - row["quota_limit"]
            watched.excess = max(watched.excess, over)
            watched.reached_limit += over == 0
        watched.samples += 1
        await asyncio.sleep(SAMPLE_EVERY_S)


@asynccontextmanager
async def database(stack: Stack) -> AsyncIterator[asyncpg.Connection]:
    """Open the stack's database as its owner."""
    connection = await asyncpg.connect(stack.database)
    try:
        yield connection
    finally:
        await connection.close()


# What is still on its way, by name; all 0 is quiet. Unread pages stand in the runs.
_OPEN = """
select
  (select coalesce(sum(held), 0) from ledger.periods) as held_units,
  (select count(*) from ledger.holds where posted + released < amount) as open_holds,
  (select count(*) from delivery.intents) as intents,
  (select count(*) from delivery.parked) as parked_contacts,
  (select count(*) from sync.runs where state = 'reading') as runs_reading,
  (select count(*) from ledger.outbox) + (select count(*) from sync.outbox)
    + (select count(*) from delivery.outbox) as outbox_rows,
  (select count(*) from notices.notices where state = 'pending') as notices_pending
"""


async def wait_until_quiet(scene: Scene, *, within_s: float) -> list[str]:
    """Wait until a run of each integration that begins now has ended and nothing is on its way.

    Return what was not so in time; empty if all was.
    """
    newest = {name: _newest(runs) for name, runs in (await scene.runs()).items()}
    await scene.ask_for_runs()

    async def busy(connection: asyncpg.Connection) -> list[str]:
        return [*await _unsettled(scene, newest), *await under_way(connection)]

    return await _wait(scene.stack, busy, within_s)


async def wait_until_stopped(stack: Stack, *, within_s: float) -> list[str]:
    """Wait until the only workspace's quota of this month is used up and nothing else is under way.

    Return what was not so in time; empty if all was.
    """

    async def busy(connection: asyncpg.Connection) -> list[str]:
        left = await connection.fetchval(
            "select quota_limit - posted from ledger.periods order by period desc limit 1"
        )
        found = [f"{left} units are left"] if left != 0 else []
        waiting = ("runs_reading", "parked_contacts")
        return found + [
            each for each in await under_way(connection) if each.partition(":")[0] not in waiting
        ]

    return await _wait(stack, busy, within_s)


async def _wait(
    stack: Stack, look: Callable[[asyncpg.Connection], Awaitable[list[str]]], within_s: float
) -> list[str]:
    """Look again and again until nothing is found and no topic is behind; return what is found."""
    started = time.monotonic()
    told: list[str] = []
    async with database(stack) as connection:
        while True:
            # Once more at last: the end of a topic may have become a notice since.
            busy = await look(connection) or await _lagging(stack) or await look(connection)
            if busy != told:
                print(f"{time.monotonic() - started:5.1f} s: {busy}")  # noqa: T201  # with a failure
                told = busy
            if not busy or time.monotonic() - started > within_s:
                return busy
            await asyncio.sleep(LOOK_EVERY_S)


def _newest(runs: list[Json]) -> int:
    return max((int(run["run_no"]) for run in runs), default=0)


async def _unsettled(scene: Scene, newest: Mapping[str, int]) -> list[str]:
    found = []
    for integration, runs in (await scene.runs()).items():
        new = [run for run in runs if int(run["run_no"]) > newest[integration]]
        if not any(run["state"] == "complete" for run in new):
            found.append(f"{integration}: no run after {newest[integration]} is complete")
        found += [
            f"{integration}: run {run['run_no']} is {run['state']}"
            for run in runs
            if run["state"] in UNSETTLED
        ]
    return found


async def under_way(connection: asyncpg.Connection) -> list[str]:
    """Return what is on its way, by name."""
    row = await connection.fetchrow(_OPEN)
    return [f"{name}: {count}" for name, count in row.items() if count]


async def _lagging(stack: Stack) -> list[str]:
    """Return topics with records that their consumers have not committed, and dead letters."""
    groups = {
        Topic.CONTACTS_CHANGED: "mapper",
        Topic.CONTACTS_MAPPED: "writer",
        Topic.CONTACTS_SETTLED: "activity",
        Topic.QUOTA_CHANGED: "notifier",
    }
    return [
        f"{group} has {behind} records of {topic} to do"
        for topic, group in groups.items()
        if (behind := await lag(stack.kafka, topic, group))
    ]


async def lag(bootstrap: str, topic: str, group: str) -> int:
    """Return how many records of a topic a group has not committed."""
    async with reading(bootstrap, group) as consumer:
        places = await partitions_of(consumer, topic)
        ends = await consumer.end_offsets(places)
        # `committed` of places that are not assigned asks the broker.
        done = [await consumer.committed(place) or 0 for place in places]
        return int(sum(ends.values())) - sum(done)


@asynccontextmanager
async def reading(bootstrap: str, group: str | None) -> AsyncIterator[AIOKafkaConsumer]:
    """Open a consumer that joins no group: it only asks."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def partitions_of(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    """Return every partition of a topic."""
    # Not `topics()`, whose answer the consumer does not keep: a topic would seem to be empty.
    await consumer._client._wait_on_metadata(topic)
    partitions = consumer.partitions_for_topic(topic)
    assert partitions, f"nothing is known of {topic}"
    return [TopicPartition(topic, number) for number in sorted(partitions)]


async def bodies(consumer: AIOKafkaConsumer, topic: str) -> list[bytes]:
    """Return the bodies of all records of a topic, in any order of its partitions."""
    places = await partitions_of(consumer, topic)
    consumer.assign(places)
    await consumer.seek_to_beginning(*places)
    ends = await consumer.end_offsets(places)
    found: list[bytes] = []
    for place in places:
        while await consumer.position(place) < ends[place]:
            records = await consumer.getmany(place, timeout_ms=POLL_MS)
            found += [record.value or b"" for record in records.get(place, ())]
    return found


async def problems(scene: Scene) -> list[str]:
    """Return all that is not as it must be, now that nothing is on its way; empty if all is."""
    async with database(scene.stack) as connection:
        found = [*await _ledger_problems(scene, connection), *await _run_problems(scene)]
        found += await _mail_problems(scene.stack, connection)
    for way in scene.ways:
        found += [f"{way.destination_list}: {each}" for each in await _differences(scene, way)]
    return [
        *found,
        *await _violations(scene),
        *await dead_letters(scene.stack),
    ]


async def _differences(scene: Scene, way: Way) -> list[str]:
    """Compare a destination, and the rejections that the API tells, with what the rules demand."""
    wanted = await scene.wanted(way)
    found = verify.differences(
        await way.destination.state(),
        list_name=way.destination_list,
        wanted=wanted,
        before=way.before,
    )
    found += verify.rejection_differences(await scene.contacts(way, "rejected"), wanted)
    return verify.shortened(found)


async def _ledger_problems(scene: Scene, connection: asyncpg.Connection) -> list[str]:
    """Return what is wrong with what was charged (I3, I4, Q6)."""
    counted = await connection.fetchrow(
        """select coalesce(sum(posted), 0)::bigint as posted,
             (select count(*) from ledger.postings) as postings from ledger.periods"""
    )
    found = []
    if counted["posted"] != counted["postings"]:
        found.append(f"posted is {counted['posted']} with {counted['postings']} postings")
    charged = Counter(
        {
            row["source_id"]: row["times"]
            for row in await connection.fetch(
                "select source_id, count(*) as times from ledger.postings group by source_id"
            )
        }
    )
    found += [
        f"contact {source_id} was charged {times} times and edited {scene.edits[source_id]} times"
        for source_id, times in charged.items()
        if times > 1 + scene.edits[source_id]
    ][:SHOWN_MAX]
    linked = await connection.fetch("select source_id from delivery.links where state = 'linked'")
    found += [
        f"contact {row['source_id']} was written and never charged"
        for row in linked
        if not charged[row["source_id"]]
    ][:SHOWN_MAX]
    return [*found, *await _told_problems(scene, connection)]


async def _told_problems(scene: Scene, connection: asyncpg.Connection) -> list[str]:
    """Return runs that tell of other tasks than the ledger has for them (Q6, W8)."""
    rows = await connection.fetch(
        """select integration_id, run_no, count(*) as tasks,
             array_agg(distinct source_id) filter (where times > 1) as twice
           from (select *, count(*) over (partition by run_id, source_id) as times
                 from ledger.postings) p join sync.runs r using (integration_id, run_id)
           group by 1, 2"""
    )
    charged = {(row["integration_id"].hex, row["run_no"]): row for row in rows}
    found = []
    for integration, runs in (await scene.runs()).items():
        for run in runs:
            row = charged.get((integration.removeprefix("int_"), int(run["run_no"])))
            if run["tasks"] != (row["tasks"] if row else 0):
                twice = (row["twice"] or [])[:SHOWN_MAX] if row else []
                found.append(
                    f"{integration}: run {run['run_no']} tells of {run['tasks']} tasks "
                    f"(later: {run['settled_later']}), the ledger has {row and row['tasks']} for it"
                    f", for these contacts more than one: {twice}"
                )
    return found


async def _run_problems(scene: Scene) -> list[str]:
    """Return runs that were read to the end and do not account for all they read (I1)."""
    found = []
    for integration, runs in (await scene.runs()).items():
        for run in runs:
            counts = dict(run["counts"])
            read = counts.pop("read")
            where = f"{integration}: run {run['run_no']}"
            if run["read_at"] is not None and run["state"] != "complete":
                found.append(f"{where} was read and is {run['state']}: {run['proof']}")
            if run["state"] == "complete" and sum(counts.values()) != read:
                found.append(f"{where} read {read} and tells of {counts}")
    return found


async def _mail_problems(stack: Stack, connection: asyncpg.Connection) -> list[str]:
    """Compare the mails about thresholds with the ledger's decisions (Q2, Q3, X2)."""
    decided = await connection.fetchval(
        "select count(*) from ledger.decisions where threshold = 100"
    )
    async with httpx.AsyncClient(base_url=stack.mailbox, trust_env=False) as mailbox:
        mails = (await mailbox.get("/api/messages")).json()
    # Whose reason was gone before it could leave: the limit was raised, or used up once more.
    suppressed = {
        row["recipient"]: row["notices"]
        for row in await connection.fetch(
            "select recipient, count(*) as notices from notices.notices "
            "where kind = 'quota_100' and state = 'suppressed' group by recipient"
        )
    }
    identities = Counter((each["message_id"], each["to"][0]) for each in mails)
    found = [
        f"mail {name[0]} came {times} times" for name, times in identities.items() if times > 1
    ]
    for recipient in wizard.RECIPIENTS:
        kinds = Counter(kind_of(each) for each in mails if recipient["email"] in each["to"])
        if kinds["quota_100"] + suppressed.get(recipient["email"], 0) != decided:
            told = f"{kinds['quota_100']} mails that the quota is used up"
            found.append(f"{recipient['language']} got {told}; it was decided {decided} times")
        if kinds["quota_80"] > 1 + decided:
            found.append(f"{recipient['language']} got {kinds['quota_80']} mails about 80 %")
    return found


def kind_of(mail: Json) -> str:
    """Return what a mail is about, as its header says."""
    headers = {name.lower(): value for name, value in mail["headers"].items()}
    return str(headers.get("x-contactsync-kind"))


async def _violations(scene: Scene) -> list[str]:
    """Return calls beyond a provider's limits (I8, S10)."""
    accounts = {"hubspot": scene.source} | {
        way.destination_list: way.destination for way in scene.ways
    }
    calls = {name: await account.calls() for name, account in accounts.items()}
    return [
        f"{name}: {each['violations']} calls beyond its limits: {each['violations_by_bucket']}"
        for name, each in calls.items()
        if each["violations"]
    ]


async def dead_letters(stack: Stack) -> list[str]:
    """Return how many records of each topic could not be decoded."""
    async with reading(stack.kafka, None) as consumer:
        found = []
        for topic in Topic:
            places = await partitions_of(consumer, f"{topic}.dead")
            count = sum((await consumer.end_offsets(places)).values())
            if count:
                found.append(f"{count} dead letters of {topic}")
        return found
