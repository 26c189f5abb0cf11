"""What must hold of a quota that is used up, after whatever happened on the way there.

The judge itself is pure: it compares what was seen of the ledger, the topic, the mailbox and the
providers. None of the services that it judges is asked. Contacts are named by source id.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import asyncpg
import httpx

from libs.common.events import QuotaChanged, QuotaKind, Topic, decode
from local.stack import Stack
from tests.integration import oracle
from tests.integration.scene import Scene

THRESHOLDS = (80, 100)
SHOWN_MAX = 20

Contact = tuple[str, str]  # Integration (32 hexadecimal digits) and source id.
Decision = tuple[int, int]  # Revision of the limit and threshold.


@dataclass(frozen=True, slots=True)
class Told:
    """A decision as the topic tells it; `both` says that 80 % came with the 100 %."""

    id: str
    decision: Decision
    both: bool


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail as it arrived."""

    message_id: str
    kind: str
    to: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen once nothing was on its way any more."""

    limit: int
    posted: int
    held: int
    postings: Mapping[Contact, int]  # How many each contact has.
    written: frozenset[Contact]  # Whom the destinations remember to have been written.
    decided: Sequence[Decision]
    told: Sequence[Told]
    mails: Sequence[Mail]


def problems(seen: Seen) -> list[str]:
    """Return all that is not as it must be; empty if the quota was kept to the unit (Q1 to Q3)."""
    return [*_counters(seen), *_postings(seen), *_decisions(seen), *_mails(seen)]


def _counters(seen: Seen) -> Iterator[str]:
    if seen.posted != seen.limit:
        yield f"{seen.posted} tasks are posted of {seen.limit}, and contacts wait"
    if seen.held:
        yield f"{seen.held} units are held, and nothing is on its way"
    if (postings := sum(seen.postings.values())) != seen.posted:
        yield f"posted is {seen.posted} with {postings} postings"


def _postings(seen: Seen) -> Iterator[str]:
    """Compare who was charged with whom the destinations remember (I3): edited was nobody."""
    double = sorted(contact for contact, times in seen.postings.items() if times > 1)
    yield from (f"contact {source_id} was charged twice" for _, source_id in double[:SHOWN_MAX])
    free = sorted(seen.written - seen.postings.keys())
    yield from (f"contact {source_id} was written for nothing" for _, source_id in free[:SHOWN_MAX])
    vain = sorted(seen.postings.keys() - seen.written)
    yield from (f"contact {source_id} was charged for nothing" for _, source_id in vain[:SHOWN_MAX])


def _decisions(seen: Seen) -> Iterator[str]:
    """Every revision's limit was reached: each has both thresholds, decided and told once (I5)."""
    times = Counter(seen.decided)
    revisions = {revision for revision, _ in times} or {1}
    for decision in [(revision, each) for revision in revisions for each in THRESHOLDS]:
        if times[decision] != 1:
            yield f"{decision} was decided {times[decision]} times"
    tellings: dict[Decision, set[str]] = {}
    for told in seen.told:
        tellings.setdefault(told.decision, set()).add(told.id)
        if told.both:
            tellings.setdefault((told.decision[0], THRESHOLDS[0]), set()).add(told.id)
    for decision in sorted(times.keys() | tellings.keys()):
        if (count := len(tellings.get(decision, ()))) != 1:
            yield f"{decision} was told in {count} events"


def _mails(seen: Seen) -> Iterator[str]:
    """Look for mails that came again with another Message-ID: one a decision and reader (X2).

    Fewer are no fault here, except none at all that it is used up: a raise may be quicker.
    """
    decided = Counter(threshold for _, threshold in {each.decision for each in seen.told})
    ids: dict[tuple[str, str], set[str]] = {}
    for mail in seen.mails:
        ids.setdefault((mail.to, mail.kind), set()).add(mail.message_id)
    for (_, kind), found in sorted(ids.items()):
        most = next((decided[each] for each in THRESHOLDS if kind == f"quota_{each}"), len(found))
        if len(found) > most:
            yield f"{len(found)} Message-IDs of {kind} for {most} decisions"
    if not any(mail.kind == "quota_100" for mail in seen.mails):
        yield "nobody was mailed that the quota is used up"


async def look(scene: Scene) -> Seen:
    """Look at the ledger, the topic, the mailbox and every destination."""
    written: set[Contact] = set()
    for way in scene.ways:
        integration = way.integration.rpartition("_")[2]
        addresses = await way.destination.written()
        wanted = (await scene.wanted(way)).contacts
        source_ids = {each["EMAIL"]: source_id for source_id, each in wanted.items()}
        written |= {(integration, source_ids.get(each, "unknown")) for each in addresses}
    async with oracle.database(scene.stack) as connection:
        return await _seen(scene.stack, connection, frozenset(written))


async def _seen(stack: Stack, connection: asyncpg.Connection, written: frozenset[Contact]) -> Seen:
    [period] = await connection.fetch("select quota_limit, posted, held from ledger.periods")
    postings = await connection.fetch(
        "select integration_id, source_id, count(*) as times from ledger.postings group by 1, 2"
    )
    decided = await connection.fetch("select revision, threshold from ledger.decisions")
    return Seen(
        limit=period["quota_limit"],
        posted=period["posted"],
        held=period["held"],
        postings={(row["integration_id"].hex, row["source_id"]): row["times"] for row in postings},
        written=written,
        decided=[(row["revision"], row["threshold"]) for row in decided],
        told=await _told(stack.kafka),
        mails=await _received(stack.mailbox),
    )


async def _told(bootstrap: str) -> list[Told]:
    async with oracle.reading(bootstrap, None) as consumer:
        bodies = await oracle.bodies(consumer, Topic.QUOTA_CHANGED)
    events = [decode(Topic.QUOTA_CHANGED, body) for body in bodies]
    return [
        Told(str(event.id), (event.revision, event.threshold or 0), event.both)
        for event in events
        if isinstance(event, QuotaChanged) and event.kind is QuotaKind.THRESHOLD
    ]


async def _received(mailbox: str) -> list[Mail]:
    async with httpx.AsyncClient(base_url=mailbox, trust_env=False) as client:
        messages = (await client.get("/api/messages")).json()
    return [
        Mail(each["message_id"], oracle.kind_of(each), recipient)
        for each in messages
        for recipient in each["to"]
    ]
