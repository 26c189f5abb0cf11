"""Salesforce and Brevo in step, both ways: edits, conflicts, echoes, crashes and deletions."""

import os
from collections.abc import AsyncIterator, Callable
from random import Random
from unittest.mock import ANY

import pytest

from libs.common.database import SessionMaker
from tests.integration.both_ways import BothWays, both_ways
from tests.integration.rounds import Rounds
from tests.integration.two_way_mutations import NEEDED, Needed
from tests.simulation.mutations import applied

ADA = {
    "Email": "ada@example.com",
    "FirstName": "Ada",
    "LastName": "Lovelace",
    "Birthdate": "1815-12-10",
    "MobilePhone": "+447911123456",
}


@pytest.fixture
async def world(sessions: SessionMaker, role_url: Callable[[str], str]) -> AsyncIterator[BothWays]:
    """Return both providers with the flows between them; nobody is there yet."""
    async with both_ways(sessions, role_url) as made:
        yield made


async def synced(world: BothWays, **properties: str | None) -> tuple[str, int]:
    """Add somebody at Salesforce and let both flows work; return record and contact."""
    record = await world.add(**{**ADA, **properties})
    await world.settle()
    contacts = {content["Email"]: id_ for id_, (content, _) in (await world.contacts()).items()}
    return record, contacts[{**ADA, **properties}["Email"] or ""]


async def test_a_quiet_system_writes_nothing_and_reads_the_same(world: BothWays) -> None:
    """Proves SF10: what was written by one flow is no change to the other, however often read."""
    await synced(world)
    posted, writes = await world.posted(), await world.writes()
    reads = []
    for _ in range(3):
        before = await world.reads()
        for flow in (world.there, world.back):
            await world.poll(flow)
            await world.write(flow)
        reads.append(await world.reads() - before)

    assert (await world.posted(), await world.writes()) == (posted, writes)
    assert posted == 1
    assert len(set(reads)) == 1


async def test_an_edit_at_either_side_reaches_the_other(world: BothWays) -> None:
    """Proves SF3."""
    record, contact = await synced(world)

    await world.edit_there(contact, FIRSTNAME="Augusta", BIRTHDAY="1815-12-11")
    await world.settle()
    assert (await world.records())[record][0] == {
        **ADA,
        "FirstName": "Augusta",
        "Birthdate": "1815-12-11",
    }
    await world.pass_time(2)
    await world.edit(record, LastName="King", MobilePhone=None)
    await world.settle()

    content = (await world.contacts())[contact][0]
    assert (content["FirstName"], content["LastName"]) == ("Augusta", "King")
    assert content["MobilePhone"] == ADA["MobilePhone"]  # SF6.
    assert await world.posted() == 3


@pytest.mark.parametrize("newer", ["salesforce", "brevo"])
async def test_of_two_edits_the_newer_stands(world: BothWays, newer: str) -> None:
    """Proves SF3: by the providers' clocks, whichever flow is first."""
    record, contact = await synced(world)
    for side in ("salesforce", "brevo") if newer == "brevo" else ("brevo", "salesforce"):
        await world.pass_time(2)
        if side == "salesforce":
            await world.edit(record, FirstName="Salesforce's")
        else:
            await world.edit_there(contact, FIRSTNAME="Brevo's")

    await world.settle()

    wanted = "Brevo's" if newer == "brevo" else "Salesforce's"
    assert (await world.records())[record][0]["FirstName"] == wanted
    assert (await world.contacts())[contact][0]["FirstName"] == wanted


@pytest.mark.parametrize("needed", NEEDED, ids=lambda each: each.mutation.name)
async def test_each_rule_is_needed_by_a_history(world: BothWays, needed: Needed) -> None:
    """Proves SF3, SF9, SF10: with the rule it ends as the model says, without it it does not."""
    history = Rounds(world, Random(1))
    await history.begin(1)

    async def play() -> None:
        await needed.history(history)
        await history.check()

    await play()
    with applied(needed.mutation), pytest.raises(AssertionError):
        await play()


async def test_who_is_merged_twice_goes_on_where_the_second_was(world: BothWays) -> None:
    """Proves SF3: nothing is left of what was agreed on with the record before both merges."""
    history = Rounds(world, Random(5))
    await history.begin(1)
    [couple] = history.couples
    for _ in range(2):
        await history.merge(couple)
        for flow in (world.there, world.back):
            await world.poll(flow)
            await world.write(flow)
    await world.pass_time(2)
    await history.enter(couple, "brevo")
    await world.poll(world.there)
    await world.write(world.there)

    await history.check()
    rows = await world.rows("select source_id from delivery.pairs")
    assert [row.source_id for row in rows] == [couple.record]


async def _play(world: BothWays, seed: int, rounds: int) -> Rounds:
    """Play a history to its end; both sides are checked after every few rounds."""
    history = Rounds(world, Random(seed))
    await history.begin(4)
    quiet: list[int] = []
    for number in range(1, rounds + 1):
        await history.round()
        if number % 5 == 0:
            await history.check()
            quiet.append(await reads_at_rest(world))
    await history.check()
    # Fields are looked at once a minute (connectors/field_watch.py), in whichever round it is.
    assert min(quiet[-5:]) <= quiet[0], quiet
    return history


async def reads_at_rest(world: BothWays) -> int:
    """Return how many calls a round makes that finds nothing to do; none of them writes."""
    reads, writes = await world.reads(), await world.writes()
    for flow in (world.there, world.back):
        await world.poll(flow)
        await world.write(flow)
    assert await world.writes() == writes
    return await world.reads() - reads


async def test_both_sides_come_to_what_the_rule_says(world: BothWays) -> None:
    """Proves SF3, SF10, X2: random edits on both sides, deaths and deliveries; no echo."""
    history = await _play(world, seed=1, rounds=20)

    assert history.deaths > 3


@pytest.mark.long
@pytest.mark.parametrize("seed", range(int(os.environ.get("BOTH_WAYS_SEEDS", "2"))))
async def test_two_hundred_rounds_come_to_what_the_rule_says(world: BothWays, seed: int) -> None:
    """Proves SF3, SF10, X2: as above, 200 rounds; calls of a quiet round do not grow."""
    history = await _play(world, seed=100 + seed, rounds=200)

    assert history.deaths > 50


async def test_a_contact_deleted_at_brevo_is_deleted_at_salesforce(world: BothWays) -> None:
    """Proves SF9: unless a case hangs on it; then it stays, and is reported."""
    _, contact = await synced(world)
    other, held = await synced(world, Email="case@example.com", MobilePhone=None)
    await world.salesforce.post("cases:attach", {"contact": other})
    await world.brevo.post("contacts:delete", {"ids": [contact, held]})

    await world.poll(world.back, full=True)
    await world.write(world.back)
    await world.settle()

    assert set(await world.records()) == {other}
    reasons = [each for settled in world.back.told for each in settled.rejected]
    assert reasons == [(str(held), "case_attached")]
    removed = [each for settled in world.back.told for each in settled.removed]
    assert removed == [str(contact)]
    assert await world.contacts() == {}  # Neither is created again by the way there.


async def test_nobody_is_created_at_salesforce(world: BothWays) -> None:
    """Proves S2: who is at Brevo alone is none of the way back's business, and nothing is kept."""
    record, contact = await synced(world)
    posted = await world.posted()
    stranger = {"EMAIL": "stranger@example.com", "FIRSTNAME": "Eve"}
    await world.brevo.post("contacts:upsert", {"contacts": [{"attributes": stranger}]})

    await world.settle()

    assert set(await world.records()) == {record}
    assert await world.posted() == posted
    links = await world.rows(
        "select source_id from delivery.links where integration_id = :i", i=world.back.integration
    )
    assert [row.source_id for row in links] == [str(contact)]


async def test_an_empty_last_name_is_not_carried_back(world: BothWays) -> None:
    """Proves SF4: it is reported, and Salesforce keeps the name."""
    record, contact = await synced(world)

    await world.edit_there(contact, LASTNAME="")
    await world.settle()

    assert (await world.records())[record][0]["LastName"] == "Lovelace"
    reasons = [each for settled in world.back.told for each in settled.rejected]
    assert set(reasons) == {(str(contact), "last_name_required")}


async def test_who_lost_the_address_at_salesforce_is_left_alone(world: BothWays) -> None:
    """Proves SF5: in neither direction, until there is one again."""
    record, contact = await synced(world)
    await world.pass_time(2)
    await world.edit(record, Email=None, FirstName="Nobody")
    await world.pass_time(2)
    await world.edit_there(contact, FIRSTNAME="Somebody")
    await world.settle()
    assert (await world.records())[record][0]["FirstName"] == "Nobody"
    assert (await world.contacts())[contact][0]["FirstName"] == "Somebody"

    await world.pass_time(2)
    await world.edit(record, Email=ADA["Email"])
    await world.settle()

    assert (await world.records())[record][0]["FirstName"] == "Nobody"
    assert (await world.contacts())[contact][0]["FirstName"] == "Nobody"


async def test_consent_goes_neither_way(world: BothWays) -> None:
    """Proves S3: who unsubscribed stays so, and Salesforce hears nothing of it."""
    record, _ = await synced(world)
    await world.brevo.post("contacts:block", {"emails": [ADA["Email"]]})
    await world.pass_time(2)
    await world.edit(record, FirstName="Augusta")

    await world.settle()

    state = await world.brevo.get("state")
    assert (state["blocklist"], state["resubscribed"]) == ([ADA["Email"]], [])
    assert state["contacts"][0]["attributes"]["FIRSTNAME"] == "Augusta"
    rows = await world.rows("select count(*) as n from ledger.postings")
    assert rows[0].n == 2


async def test_a_merge_at_salesforce_is_followed_back(world: BothWays) -> None:
    """Proves SF3: an edit at Brevo reaches the survivor, and makes no second contact."""
    record, contact = await synced(world)
    survivor = await world.add(Email="second@example.com", LastName="Byron")
    await world.pass_time(2)
    await world.salesforce.post("contacts:merge", {"primary": survivor, "other": record})
    await world.pass_time(2)
    await world.edit_there(contact, FIRSTNAME="Augusta")
    await world.poll(world.back)
    await world.write(world.back)

    records = await world.records()
    assert set(records) == {survivor}
    assert records[survivor][0]["FirstName"] == "Augusta"


async def test_a_change_of_address_at_brevo_goes_back(world: BothWays) -> None:
    """Proves SF3, S5, SF10: with the other fields; it is no change to the way there then."""
    record, contact = await synced(world)
    await world.edit_there(contact, EMAIL="moved@example.com", FIRSTNAME="Augusta")
    await world.settle()
    moved = {**ADA, "Email": "moved@example.com", "FirstName": "Augusta"}
    assert (await world.records())[record][0] == moved

    await world.pass_time(2)
    await world.edit(record, LastName="King")
    await world.settle()

    assert await world.contacts() == {contact: (moved | {"LastName": "King"}, ANY)}
    assert await world.posted() == 4  # The other fields go at once, the address after its run.


async def test_a_bulk_change_of_addresses_at_brevo_stays_there(world: BothWays) -> None:
    """Proves S5: it is reported; fields go on both ways, and nobody is lost or made twice."""
    record, contact = await synced(world)
    other, second = await synced(world, Email="eve@example.com", MobilePhone=None)
    await world.edit_there(contact, EMAIL="moved@example.com", FIRSTNAME="Augusta")
    await world.edit_there(second, EMAIL="moved.too@example.com")
    await world.settle()
    await world.pass_time(2)
    await world.edit(record, LastName="King")
    await world.settle()

    records, contacts = await world.records(), await world.contacts()
    addresses = {record: ADA["Email"], other: "eve@example.com"}
    assert {each: content["Email"] for each, (content, _) in records.items()} == addresses
    assert records[record][0]["FirstName"] == "Augusta"
    assert set(contacts) == {contact, second}
    assert contacts[contact][0]["Email"] == "moved@example.com"
    assert contacts[contact][0]["LastName"] == "King"
    told = await world.rows(
        "select body from delivery.outbox where convert_from(body, 'utf8') like '%bulk_email%'"
    )
    assert told


@pytest.mark.parametrize("newer", ["salesforce", "brevo"])
async def test_of_two_changed_addresses_the_newer_stands(world: BothWays, newer: str) -> None:
    """Proves SF3, S5: whichever flow is first, both sides come to one address."""
    record, contact = await synced(world)
    for side in ("salesforce", "brevo") if newer == "brevo" else ("brevo", "salesforce"):
        await world.pass_time(2)
        if side == "salesforce":
            await world.edit(record, Email="salesforce@example.com")
        else:
            await world.edit_there(contact, EMAIL="brevo@example.com")
    await world.poll(world.back)
    await world.write(world.back)
    await world.drain(world.back)

    await world.settle()

    assert (await world.records())[record][0]["Email"] == f"{newer}@example.com"
    assert {each["Email"] for each, _ in (await world.contacts()).values()} == {
        f"{newer}@example.com"
    }


async def test_who_lost_the_address_gets_none_from_brevo(world: BothWays) -> None:
    """Proves SF5: neither a new address at Brevo."""
    record, contact = await synced(world)
    await world.edit(record, Email=None)
    await world.pass_time(2)
    await world.edit_there(contact, EMAIL="moved@example.com")

    await world.settle()

    assert "Email" not in (await world.records())[record][0]


async def test_an_edit_at_brevo_right_after_an_import_goes_back(world: BothWays) -> None:
    """Proves SF3, SF9: what an import has brought is agreed on, and known by its id once read."""
    records = [
        await world.add(Email=f"person{number}@example.com", FirstName="Ada", LastName="Ahl")
        for number in range(110)
    ]
    await world.poll(world.there)
    await world.write(world.there)
    for _ in range(100):
        await world.drain(world.there)
        if len(await world.contacts()) == len(records) and await world.posted() == len(records):
            break
    [contact] = [
        id_
        for id_, (content, _) in (await world.contacts()).items()
        if content["Email"] == "person7@example.com"
    ]

    await world.pass_time(2)
    await world.edit_there(contact, FIRSTNAME="Augusta")
    await world.settle()

    assert (await world.records())[records[7]][0]["FirstName"] == "Augusta"
    assert await world.posted() == len(records) + 1

    # And whoever nobody ever edited is known by his own id, by which deletions are told (SF9).
    [other] = [
        id_
        for id_, (content, _) in (await world.contacts()).items()
        if content["Email"] == "person8@example.com"
    ]
    await world.brevo.post("contacts:delete", {"ids": [other]})
    await world.poll(world.back, full=True)
    await world.write(world.back)
    assert records[8] not in await world.records()
