"""The consumer's handler: segments, replays, lost leases."""

from uuid import uuid4

import pytest

from libs.common import ids
from libs.common.consumer import Batch, Record
from libs.common.errors import NeedsReauthError, UnavailableError
from libs.common.events import Event, Topic
from services.writer import usual
from services.writer.live import segments
from services.writer.records import wanted_in
from services.writer.values import Wish
from tests.fakes import Fault
from tests.services.writer.world import World, crash_at, upsert


def batch(world: World, *events: Event, waiting: int = 0) -> Batch:
    records = [
        Record(
            event=event,
            topic=Topic.CONTACTS_MAPPED,
            partition=0,
            offset=offset,
            key=str(world.destination),
        )
        for offset, event in enumerate(events)
    ]
    return Batch(
        key=str(world.destination),
        topic=Topic.CONTACTS_MAPPED,
        partition=0,
        records=records,
        count_waiting=lambda: waiting,
    )


async def test_a_batch_is_settled_and_told(world: World) -> None:
    await world.begin_run(1)
    writer = world.writer()

    await writer.live(batch(world, world.record(upsert("a")), world.run_read()))

    assert [type(event).__name__ for event in writer.told] == ["Settled", "RunRead"]


async def test_a_record_that_comes_again_is_told_the_same_way(world: World) -> None:
    """Fault 15. Proves X2: the counts stay true after a crash before the offset.

    Who was rejected (S8, S9) is told of by name, with the reason.
    """
    await world.begin_run(1)
    writer = world.writer()
    record = world.record(upsert("a"), rejected=[("b", 1, "invalid_email")], filtered=[("c", 1)])

    first = await world.write(writer, record)
    again = await world.write(writer, record)

    assert first == again
    assert first[0].rejected == [("b", "invalid_email")]
    assert first[0].filtered == 1
    assert len(world.account.applied) == 1


async def test_with_a_lane_that_piles_up_only_what_is_quick_is_done(world: World) -> None:
    await world.begin_run(1)
    writer = world.writer()

    await writer.live(batch(world, world.record(upsert("a")), waiting=3))

    assert await world.parked() == {"a": "backlog"}


async def test_a_lost_lease_is_met_by_trying_again(world: World) -> None:
    await world.begin_run(1)
    writer = world.writer()

    async def evict() -> None:
        world.account.after_write = None
        await world.execute("update delivery.destinations set fencing = fencing + 1")

    world.account.after_write = evict
    with pytest.raises(UnavailableError):
        await writer.live(batch(world, world.record(upsert("a"))))
    await world.lapse()
    await writer.live(batch(world, world.record(upsert("a"))))

    assert await world.posted() == 1
    await world.check_ledger()


async def test_the_second_reading_of_a_page_is_told_outside_of_its_runs_sum(world: World) -> None:
    """Proves W8: a poller that died read the page again, and one of its contacts was edited."""
    await world.begin_run(1)
    writer = world.writer()
    reread = world.record(upsert("a", ms=2000, VORNAME="B"))

    first, second = await world.write(writer, world.record(upsert("a")), reread)

    assert (first.stage, first.created) == ("direct", ["a"])
    assert (second.stage, second.updated) == (f"drain:{reread.id}", ["a"])
    assert await world.write(writer, reread) == [second]


async def test_new_contacts_beside_one_that_must_be_read_back_are_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is looked up again is the one in doubt; the other integration is known all the same."""
    monkeypatch.setattr(usual, "USUAL_FROM", 1)
    await world.begin_run(1)
    other = uuid4()
    await world.add_integration(other)
    writer = await world.killed(
        world.writer(reached=crash_at("called")), world.record(upsert("a", VORNAME="A"))
    )

    edited, new = await world.write(
        writer,
        world.record(upsert("a", ms=2000, VORNAME="B"), page=2),
        world.record(upsert("b"), integration=other),
    )

    assert edited.updated == ["a"]
    assert new.created == ["b"]
    assert await world.posted() == 3
    await world.check_ledger()


async def test_copies_of_a_record_in_one_batch_are_one(world: World) -> None:
    await world.begin_run(1)
    writer = world.writer()
    record = world.record(upsert("a"))

    told = await world.write(writer, record, record)

    assert len(told) == 1
    assert len(world.account.applied) == 1


async def test_older_versions_of_a_batch_are_superseded(world: World) -> None:
    await world.begin_run(1)
    writer = world.writer()

    first, second = await world.write(
        writer,
        world.record(upsert("a", ms=2000, VORNAME="New")),
        world.record(upsert("a", ms=1000, VORNAME="Old"), page=2),
    )

    assert (first.created, second.superseded) == (["a"], 1)
    assert world.account.contacts["a@example.com"].attributes == {"VORNAME": "New"}


async def test_integrations_that_are_unknown_are_treated_as_archived(world: World) -> None:
    (settled,) = await world.write(world.writer(), world.record(upsert("a"), integration=uuid4()))

    assert settled.rejected == [("a", "integration_archived")]


async def test_a_refused_contact_is_rejected_and_costs_nothing(world: World) -> None:
    """Proves Q6."""
    await world.begin_run(1)
    world.account.refused["a@example.com"] = "invalid_email"

    (settled,) = await world.write(world.writer(), world.record(upsert("a"), upsert("b")))

    assert settled.rejected == [("a", "invalid_email")]
    assert settled.created == ["b"]
    assert await world.posted() == 1
    await world.check_ledger()


async def test_a_phone_that_was_left_out_is_a_warning(world: World) -> None:
    await world.begin_run(1)
    world.account.fail(Fault.PHONE)

    (settled,) = await world.write(world.writer(), world.record(upsert("a")))

    assert settled.created == ["a"]
    assert settled.warned == [("a", "phone_left_out")]


def test_segments_end_behind_a_run_read_and_before_a_page_read_again() -> None:
    world = World(None, None, None)  # type: ignore[arg-type]  # only its ids are used
    one, two = world.record(upsert("a")), world.record(upsert("b"), page=2)
    again = world.record(upsert("c"))
    end = world.run_read()

    cut = list(segments([one, one, two, end, two, again, end]))

    assert cut == [([one, two], [end]), ([again], [])]
    assert list(segments([end])) == [([], [end])]
    assert list(segments([])) == []


def test_everything_in_a_record_is_wanted_somehow() -> None:
    world = World(None, None, None)  # type: ignore[arg-type]  # only its ids are used
    record = world.record(upsert("a"), rejected=[("b", 5, "x")], filtered=[("c", 6)])

    wanted = list(wanted_in(record))

    assert [each.wish for each in wanted] == [Wish.UPSERT, Wish.REJECTED, Wish.FILTERED]
    assert {each.part.run for each in wanted} == {ids.run_id(world.integration, 1)}


async def test_a_provider_that_this_version_has_not_waits_for_a_person(world: World) -> None:
    await world.begin_run(1)
    writer = world.writer()
    world.open_error = LookupError("unknown")

    (settled,) = await world.write(writer, world.record(upsert("a")))

    assert settled.parked == [("a", "needs_reauth")]
    assert await world.held() == 0


async def test_a_connection_that_was_removed_parks(world: World) -> None:
    await world.begin_run(1)
    await world.execute("update config.connections set state = 'removed'")

    (settled,) = await world.write(world.writer(), world.record(upsert("a")))

    assert settled.parked == [("a", "needs_reauth")]


async def test_doubtful_contacts_that_can_not_be_read_wait_with_their_units(
    world: World,
) -> None:
    await world.begin_run(1)
    writer = await world.killed(
        world.writer(reached=crash_at("called")), world.record(upsert("a"), upsert("b"))
    )
    world.account.read_faults.append(NeedsReauthError("fake.example", "unauthorized"))

    (settled,) = await world.write(
        writer,
        world.record(
            upsert("a", ms=2000, VORNAME="B"), rejected=[("b", 2000, "invalid_email")], page=2
        ),
    )

    assert settled.parked == [("a", "destination_down")]
    assert settled.rejected == [("b", "invalid_email")]
    assert await world.held() == 2
    assert await world.one("select failed_checks from config.connections where provider = 'fake'")
    await world.check_ledger()
