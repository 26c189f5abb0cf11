"""The sequences that a random search over the protocol found, as far as the writer decides them.

Each was once a lost, doubled or wrongly charged contact (PROTOCOL.md 12).
"""

import asyncio

import pytest

from libs.common.events import Identity, Operation, RunRead
from libs.connectors.contract import Write
from tests.fakes import CrashError, Fault
from tests.services.writer.world import LIST, World, crash_at, leave, upsert

NEW = "new@example.com"


async def linked(world: World, *source_ids: str) -> None:
    """Link contacts by a first run and let the writer go."""
    await world.begin_run(1)
    await world.write(world.writer(), world.record(*[upsert(each) for each in source_ids]))
    await world.lapse()


async def test_the_old_runs_end_counts_after_a_new_claim(world: World) -> None:
    """A new claim while the writer still has the old run's end to read."""
    await linked(world, "a")
    await world.begin_run(2, fencing=2)
    await world.begin_run(3, fencing=3)
    writer = world.writer()

    await world.write(
        writer,
        world.record(upsert("a", NEW, ms=2000), run_no=2, fencing=2),
        world.run_read(2, fencing=2),
    )
    await world.drain(writer)

    assert world.account.keys() == {NEW}
    await world.check_ledger()


async def test_what_was_written_before_a_crash_is_written_over(world: World) -> None:
    """B written, crash, then A again: not unchanged, because B's call may have happened."""
    await linked(world, "a")
    await world.begin_run(2)
    second = world.record(upsert("a", ms=2000, VORNAME="B"), run_no=2)
    third = world.record(upsert("a", ms=3000), run_no=2, page=2)

    writer = await world.killed(world.writer(reached=crash_at("called")), second)
    settled = await world.write(writer, second, third)

    assert world.account.contacts["a@example.com"].attributes == {"VORNAME": "Name of a"}
    assert [each.unchanged for each in settled] == [0, 0]
    assert await world.posted() == 3  # First link, B, A again.
    await world.check_ledger()


async def test_a_contact_created_before_a_crash_never_becomes_two(world: World) -> None:
    """v1 created at one address, crash, v2 with another (S5)."""
    await world.begin_run(1)
    first = world.record(upsert("a"))
    second = world.record(upsert("a", NEW, ms=2000), page=2)

    writer = await world.killed(world.writer(reached=crash_at("called")), first)
    await world.write(writer, first, second, world.run_read())
    await world.drain(writer)

    assert world.account.keys() == {NEW}
    assert (await world.links())["a"].identity == NEW
    assert await world.posted() == 2
    await world.check_ledger()


async def test_a_call_that_did_not_happen_after_all_costs_nothing(world: World) -> None:
    """Proves Q6: killed between the hold and the call; the newer version is another effect."""
    await world.begin_run(1)
    first, second = (
        world.record(upsert("a")),
        world.record(upsert("a", ms=2000, VORNAME="B"), page=2),
    )

    writer = await world.killed(world.writer(reached=crash_at("held")), first)
    await world.write(writer, second)

    assert world.account.contacts["a@example.com"].attributes == {"VORNAME": "B"}
    assert (await world.posted(), await world.held()) == (1, 0)
    await world.check_ledger()


@pytest.mark.parametrize("step", ["held", "called"])
async def test_a_redelivery_while_blocked_keeps_its_unit(world: World, step: str) -> None:
    """Crash, redelivery while blocked: the unit is not released because the contact parks."""
    await world.begin_run(1)
    record = world.record(upsert("a"))
    writer = await world.killed(world.writer(reached=crash_at(step)), record)
    await world.execute(
        "update delivery.destinations set block_reason = 'destination_down',"
        " blocked_until = clock_timestamp() + interval '1 hour'"
    )

    (settled,) = await world.write(writer, record)
    held = await world.held()
    await world.unblock_in_time()
    await world.drain(writer)

    assert settled.parked == [("a", "destination_down")]
    assert held == 1
    assert await world.posted() == 1
    assert await world.parked() == {}
    assert world.account.keys() == {"a@example.com"}
    await world.check_ledger()


@pytest.mark.parametrize("step", ["held", "called"])
async def test_a_crash_after_a_drains_hold_charges_once(world: World, step: str) -> None:
    await world.begin_run(1)
    await world.configure(state="paused")
    await world.write(world.writer(), world.record(upsert("a")))
    await world.configure(state="active")
    await world.lapse()
    with pytest.raises(CrashError):
        await world.drain(world.writer(reached=crash_at(step)))
    await world.lapse()

    await world.drain(world.writer())

    assert await world.posted() == 1
    assert await world.held() == 0
    assert world.account.keys() == {"a@example.com"}
    await world.check_ledger()


async def test_a_leave_mapped_by_an_old_version_is_not_dropped(world: World) -> None:
    await linked(world, "a")
    await world.configure(deletion_policy="remove_from_list")
    await world.begin_run(2)
    await world.begin_run(3, mode="full", mapping_version=2)

    (settled,) = await world.write(world.writer(), world.record(leave("a"), run_no=2))

    assert settled.removed == ["a"]
    assert world.account.contacts["a@example.com"].list_ids == set()


async def test_pages_on_their_way_survive_a_removed_field(world: World) -> None:
    """A removed field schedules no full run, so nothing makes the old mapping's pages needless."""
    await world.begin_run(1)
    await world.configure(mapping_version=2)

    (settled,) = await world.write(world.writer(), world.record(upsert("a")))

    assert settled.created == ["a"]


async def test_pages_of_an_old_mapping_are_superseded_by_a_newer_full_run(world: World) -> None:
    await world.begin_run(1)
    await world.begin_run(2, mode="full", mapping_version=2)

    (settled,) = await world.write(world.writer(), world.record(upsert("a")))

    assert settled.superseded == 1
    assert not world.account.applied


async def test_a_stale_pollers_page_does_not_bring_back_who_left(world: World) -> None:
    """Fault 17: a stale poller's page after the tombstone: newer by the clock, not by its run."""
    await linked(world, "a")
    await world.begin_run(2)
    writer = world.writer()
    await world.write(writer, world.record(leave("a"), run_no=2))

    (settled,) = await world.write(writer, world.record(upsert("a", ms=9000), run_no=2, page=2))

    assert settled.superseded == 1
    assert (await world.links())["a"].state == "removed"


async def test_unchanged_removes_an_older_parked_row(world: World) -> None:
    """B parked, then A again: B must not be drained over A."""
    await linked(world, "a")
    await world.begin_run(2)
    await world.configure(state="paused")
    writer = world.writer()
    await world.write(writer, world.record(upsert("a", ms=2000, VORNAME="B"), run_no=2))
    await world.configure(state="active")

    (settled,) = await world.write(writer, world.record(upsert("a", ms=3000), run_no=2, page=2))
    await world.drain(writer)

    assert settled.unchanged == 1
    assert await world.parked() == {}
    assert len(world.account.applied) == 1


async def test_a_rejected_version_is_not_undone_by_a_redelivery(world: World) -> None:
    """Parked, then rejected, then redelivered."""
    await world.begin_run(1)
    await world.configure(state="paused")
    writer = world.writer()
    first = world.record(upsert("a"))
    await world.write(writer, first)
    await world.write(writer, world.record(rejected=[("a", 2000, "invalid_email")], page=2))
    await world.configure(state="active")
    await world.execute("delete from delivery.outcomes")

    (settled,) = await world.write(writer, first)
    await world.drain(writer)

    assert settled.superseded == 1
    assert not world.account.applied


async def test_live_batches_and_drains_of_one_owner_take_turns(world: World) -> None:
    await world.begin_run(1)
    await world.configure(state="paused")
    writer = world.writer()
    await world.write(writer, world.record(*[upsert(f"c{n}") for n in range(10)]))
    await world.configure(state="active")
    edits = [upsert(f"c{n}", ms=2000, VORNAME="Edited") for n in range(10)]

    await asyncio.gather(world.drain(writer), world.write(writer, world.record(*edits, page=2)))
    await world.drain(writer)

    names = {each.attributes["VORNAME"] for each in world.account.contacts.values()}
    assert names == {"Edited"}
    await world.check_ledger()


@pytest.mark.parametrize("policy", ["keep", "remove_from_list"])
async def test_deleted_and_created_anew_with_the_same_address(world: World, policy: str) -> None:
    await linked(world, "a")
    await world.configure(deletion_policy=policy)
    await world.begin_run(2)
    writer = world.writer()

    await world.write(
        writer,
        world.record(upsert("b", "a@example.com", ms=3000), run_no=2),
        world.record(leave("a", op=Operation.DELETE, ms=2000), run_no=2, page=2),
    )
    waiting = await world.parked()
    await world.drain(writer)

    assert waiting == {"b": "duplicate_identity"}
    assert await world.parked() == {}
    assert world.account.contacts["a@example.com"].list_ids == {LIST}
    assert (await world.links())["b"].identity == "a@example.com"
    assert (await world.links())["a"].identity is None


async def test_a_claim_in_vain_leaves_a_tombstone_its_address(world: World) -> None:
    """Proves S5 and S3: who left is moved, with its block, though another wanted its address."""
    await linked(world, "a", "b")
    world.account.contacts["a@example.com"].is_blocked = True
    await world.limit(3)
    await world.configure(deletion_policy="remove_from_list")
    for run_no in (2, 3, 4):
        await world.begin_run(run_no)
    writer = world.writer()
    await world.write(writer, world.record(leave("a"), run_no=2))
    take = upsert("b", "a@example.com", ms=2000)
    await world.write(writer, world.record(take, run_no=3), world.run_read(3))
    back = upsert("a", NEW, ms=3000)
    await world.write(writer, world.record(back, run_no=4), world.run_read(4))
    waiting = await world.parked()
    await world.limit(100)

    await world.drain(writer)

    assert waiting == {"a": "email_change", "b": "email_change"}
    assert world.account.keys() == {NEW, "b@example.com"}
    assert world.account.contacts[NEW].is_blocked
    assert world.account.contacts[NEW].list_ids == {LIST}
    assert (await world.links())["b"].refused_identity == "a@example.com"
    assert await world.parked() == {}
    await world.check_ledger()


async def test_who_comes_to_the_old_address_of_a_move_waits_for_it(world: World) -> None:
    """Proves S5: a move whose answer is lost takes nobody along who was written meanwhile."""
    await linked(world, "a")
    await world.limit(2)
    await world.configure(deletion_policy="remove_from_list")
    for run_no in (2, 3, 4):
        await world.begin_run(run_no)
    writer = world.writer()
    await world.write(writer, world.record(leave("a"), run_no=2))
    back = upsert("a", NEW, ms=2000)
    await world.write(writer, world.record(back, run_no=3), world.run_read(3))
    await world.write(writer, world.record(upsert("b", "a@example.com"), run_no=4))
    waiting = await world.parked()
    await world.limit(100)
    world.account.fail(Fault.LOST)

    await world.drain(writer)

    assert waiting == {"a": "email_change", "b": "quota"}
    assert world.account.contacts[NEW].attributes == {"VORNAME": "Name of a"}
    assert world.account.contacts["a@example.com"].attributes == {"VORNAME": "Name of b"}
    assert await world.parked() == {}
    await world.check_ledger()


async def test_rejoined_after_our_own_removal_is_on_the_list_again(world: World) -> None:
    """Proves S3's exception: membership is sent again only because we took it away."""
    await linked(world, "a")
    await world.configure(deletion_policy="remove_from_list")
    await world.begin_run(2)
    await world.begin_run(3)
    writer = world.writer()
    await world.write(writer, world.record(leave("a"), run_no=2))
    left = set(world.account.contacts["a@example.com"].list_ids)

    (settled,) = await world.write(writer, world.record(upsert("a"), run_no=3))

    assert left == set()
    assert settled.updated == ["a"]
    assert world.account.contacts["a@example.com"].list_ids == {LIST}


async def test_an_update_never_sends_membership(world: World) -> None:
    """Proves S3: who left the list at the destination stays off it."""
    await linked(world, "a")
    world.account.contacts["a@example.com"].list_ids.clear()
    await world.begin_run(2)

    await world.write(world.writer(), world.record(upsert("a", ms=2000, VORNAME="B"), run_no=2))

    assert world.account.contacts["a@example.com"].list_ids == set()


async def test_a_newer_edit_of_a_waiting_change_waits_for_its_own_run(world: World) -> None:
    """First ending of an e-mail change: a newer edit is waiting when its run's end is read."""
    await linked(world, "a")
    await world.begin_run(2)
    await world.begin_run(3)
    writer = world.writer()
    await world.write(writer, world.record(upsert("a", "mid@example.com", ms=2000), run_no=2))
    await world.write(writer, world.record(upsert("a", NEW, ms=3000), run_no=3))

    await world.write(writer, world.run_read(2))
    await world.drain(writer)
    between = world.account.keys()
    await world.write(writer, world.run_read(3))
    await world.drain(writer)

    assert between == {"a@example.com"}
    assert world.account.keys() == {NEW}


async def test_a_replayed_run_read_decides_nothing_new(world: World) -> None:
    """Second ending of an e-mail change."""
    await linked(world, "a", "b")
    await world.begin_run(2)
    writer = world.writer()
    await world.write(writer, world.record(upsert("a", NEW, ms=2000), run_no=2), world.run_read(2))
    await world.drain(writer)
    await world.write(
        writer, world.record(upsert("b", "other@example.com", ms=2000), run_no=2, page=2)
    )

    await world.write(writer, world.run_read(2))
    await world.drain(writer)

    assert world.account.keys() == {NEW, "b@example.com"}
    assert await world.parked() == {"b": "email_change"}


async def test_an_approved_change_stays_approved_while_it_waits(world: World) -> None:
    """Third ending of an e-mail change: approved, but the destination is blocked. Proves S5."""
    await linked(world, "a")
    await world.begin_run(2)
    writer = world.writer()
    await world.write(writer, world.record(upsert("a", NEW, ms=2000), run_no=2), world.run_read(2))
    world.account.fail(Fault.DOWN)
    await world.drain(writer)
    blocked = await world.parked()

    await world.unblock_in_time()
    await world.drain(writer)

    assert blocked == {"a": "destination_down"}
    assert world.account.keys() == {NEW}
    assert await world.posted() == 2
    await world.check_ledger()


async def test_the_end_of_an_abandoned_run_decides_nothing(world: World) -> None:
    """Fourth ending of an e-mail change: the next run's end decides."""
    await linked(world, "a")
    await world.begin_run(2)
    writer = world.writer()
    await world.write(writer, world.record(upsert("a", NEW, ms=2000), run_no=2))
    await world.execute("update sync.runs set state = 'abandoned' where run_no = 2")
    await world.begin_run(3)

    await world.write(writer, world.run_read(2))
    await world.drain(writer)
    between = world.account.keys()
    await world.write(writer, world.run_read(3))
    await world.drain(writer)

    assert between == {"a@example.com"}
    assert world.account.keys() == {NEW}


async def test_several_changes_of_one_run_are_refused_and_not_slipped_through(
    world: World,
) -> None:
    """Proves S5: a bulk change is not propagated, and a later edit does not bring it."""
    await linked(world, "a", "b")
    await world.begin_run(2)
    await world.begin_run(3)
    writer = world.writer()
    changes = [upsert(each, f"{each}2@example.com", ms=2000) for each in "ab"]
    await world.write(writer, world.record(*changes, run_no=2), world.run_read(2))
    await world.drain(writer)

    later = upsert("a", "a2@example.com", ms=3000, VORNAME="Edited")
    await world.write(writer, world.record(later, run_no=3), world.run_read(3))
    await world.drain(writer)

    rejected = [pair for event in await world.later() for pair in event.rejected]
    assert sorted(rejected) == [("a", "bulk_email_change"), ("b", "bulk_email_change")]
    assert world.account.keys() == {"a@example.com", "b@example.com"}
    assert world.account.contacts["a@example.com"].attributes == {"VORNAME": "Edited"}
    assert await world.parked() == {}


async def test_a_change_to_an_international_address_is_decided(world: World) -> None:
    """Lower case is another one in PostgreSQL than in Python; it is made in one place."""
    await linked(world, "a")
    await world.begin_run(2)
    writer = world.writer()
    change = upsert("a", "\u0130pek@example.com", ms=2000)

    await world.write(writer, world.record(change, run_no=2), world.run_read(2))
    await world.drain(writer)

    assert await world.parked() == {}
    assert world.account.keys() == {"\u0130pek@example.com".lower()}


async def test_a_refused_change_that_was_taken_back_may_be_made_again(world: World) -> None:
    """A single change is approved, though a bulk change once brought the same address."""
    await linked(world, "a", "b")
    for run_no in (2, 3, 4):
        await world.begin_run(run_no)
    writer = world.writer()
    bulk = [upsert(each, f"{each}2@example.com", ms=2000) for each in "ab"]
    await world.write(writer, world.record(*bulk, run_no=2), world.run_read(2))
    await world.drain(writer)

    taken_back = world.record(upsert("a", ms=3000), run_no=3)
    (settled,) = await world.write(writer, taken_back, world.run_read(3))
    again = world.record(upsert("a", "a2@example.com", ms=4000), run_no=4)
    await world.write(writer, again, world.run_read(4))
    await world.drain(writer)

    assert settled.unchanged == 1
    assert world.account.keys() == {"a2@example.com", "b@example.com"}
    assert await world.parked() == {}
    await world.check_ledger()


async def test_an_approved_change_to_another_contacts_address_holds_no_other_field(
    world: World,
) -> None:
    """Proves S5: the owner may never let go, and the other fields go to the old address at once."""
    await linked(world, "a", "b")
    await world.begin_run(2)
    await world.begin_run(3)
    writer = world.writer()
    change = upsert("a", "b@example.com", ms=2000)
    await world.write(writer, world.record(change, run_no=2), world.run_read(2))
    await world.drain(writer)
    waiting = await world.parked()

    later = upsert("a", "b@example.com", ms=3000, VORNAME="Edited")
    await world.write(writer, world.record(later, run_no=3), world.run_read(3))
    await world.drain(writer)
    edited = dict(world.account.contacts["a@example.com"].attributes)
    still = await world.parked()
    back = upsert("a", ms=4000, VORNAME="Back")
    (settled,) = await world.write(writer, world.record(back, run_no=3, page=2))

    assert waiting == still == {"a": "duplicate_identity"}
    assert edited == {"VORNAME": "Edited"}
    assert settled.updated == ["a"]
    assert world.account.contacts["a@example.com"].attributes == {"VORNAME": "Back"}
    assert world.account.contacts["b@example.com"].attributes == {"VORNAME": "Name of b"}
    assert await world.parked() == {}
    assert await world.posted() == 4
    await world.check_ledger()


async def test_an_unknown_try_followed_by_a_limit_stays_unknown(world: World) -> None:
    """The unit of a contact whose call may have happened is not given back for a 429."""
    await world.begin_run(1)
    writer = world.writer()
    world.account.fail(Fault.LOST_APPLIED, Fault.LIMITED)

    (settled,) = await world.write(writer, world.record(upsert("a")))
    held = await world.held()
    await world.unblock_in_time()
    await world.drain(writer)

    assert settled.parked == [("a", "destination_down")]
    assert held == 1
    assert await world.posted() == 1
    await world.check_ledger()


async def test_a_run_read_is_told_though_it_does_not_count(world: World) -> None:
    await world.begin_run(1, fencing=5)
    writer = world.writer()

    await world.write(writer, world.run_read(1, fencing=4))

    assert [type(event) for event in writer.told] == [RunRead]


async def test_deletions_under_another_token_do_not_count(world: World) -> None:
    await linked(world, "a")
    await world.configure(deletion_policy="remove_from_list")
    await world.begin_run(2, fencing=7)

    (settled,) = await world.write(world.writer(), world.record(leave("a"), run_no=2, fencing=6))

    assert settled.superseded == 1
    assert world.account.contacts["a@example.com"].list_ids == {LIST}


async def test_an_address_taken_at_the_destination_counts_as_refused(world: World) -> None:
    """Proves S5: never upsert over the new address while the old one exists."""
    await linked(world, "a")
    await world.begin_run(2)
    writer = world.writer()
    stranger = Write(Operation.UPSERT, Identity(email=NEW), b'{"VORNAME":"Stranger"}', "9")
    world.account.put(stranger)

    await world.write(
        writer,
        world.record(upsert("a", NEW, ms=2000, VORNAME="Edited"), run_no=2),
        world.run_read(2),
    )
    await world.drain(writer)

    assert world.account.contacts[NEW].attributes == {"VORNAME": "Stranger"}
    assert world.account.contacts["a@example.com"].attributes == {"VORNAME": "Edited"}
    assert (await world.links())["a"].refused_identity == NEW
    assert await world.parked() == {}
    rejected = [pair for event in await world.later() for pair in event.rejected]
    assert rejected == [("a", "bulk_email_change")]
    await world.check_ledger()


@pytest.mark.parametrize(
    ("policy", "moved"), [("single", set()), ("all", {"a", "b"}), ("none", set())]
)
async def test_the_policy_decides_on_several_changes(
    world: World, policy: str, moved: set[str]
) -> None:
    """Proves S5's policies."""
    await linked(world, "a", "b")
    await world.configure(email_change_policy=policy)
    await world.begin_run(2)
    writer = world.writer()
    changes = [upsert(each, f"{each}2@example.com", ms=2000) for each in "ab"]

    await world.write(writer, world.record(*changes, run_no=2), world.run_read(2))
    await world.drain(writer)

    there = {key for key in world.account.contacts if "2@" in key}
    assert there == {f"{each}2@example.com" for each in moved}
    assert len(world.account.contacts) == 2


async def test_a_single_change_is_refused_where_none_is_wanted(world: World) -> None:
    await linked(world, "a")
    await world.configure(email_change_policy="none")
    await world.begin_run(2)
    writer = world.writer()

    await world.write(writer, world.record(upsert("a", NEW, ms=2000), run_no=2), world.run_read(2))
    await world.drain(writer)

    assert world.account.keys() == {"a@example.com"}


async def test_a_block_stays_with_a_contact_that_moves(world: World) -> None:
    """Proves S3 as far as the writer goes: it moves the contact, it never makes a new one."""
    await linked(world, "a")
    world.account.contacts["a@example.com"].is_blocked = True
    await world.begin_run(2)
    writer = world.writer()

    await world.write(writer, world.record(upsert("a", NEW, ms=2000), run_no=2), world.run_read(2))
    await world.drain(writer)

    assert world.account.contacts[NEW].is_blocked
