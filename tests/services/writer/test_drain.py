"""Parking and drains (PROTOCOL.md 7)."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from libs.common.errors import UnavailableError
from libs.common.postgres import Transaction
from services.writer import store
from services.writer.drain import ORPHANS
from tests.fakes import CrashError, Fault
from tests.services.writer.world import LIST, World, crash_at, leave, upsert

GRANTED_WITHIN_S = 5.0  # Q4: from a grant to the first contact that is sent.


async def test_what_the_quota_does_not_cover_waits_and_follows_a_raise(world: World) -> None:
    """Proves Q1, Q3, Q5: never one more, nothing lost, and it goes on by itself."""
    await world.begin_run(1)
    await world.limit(3)
    writer = world.writer()

    (settled,) = await world.write(writer, world.record(*[upsert(f"c{n}") for n in range(5)]))
    await world.drain(writer)
    written = len(world.account.contacts)
    await world.limit(10)
    await world.drain(writer)

    assert len(settled.created) == 3
    assert settled.parked == [("c3", "quota"), ("c4", "quota")]
    assert written == 3
    assert len(world.account.contacts) == 5
    assert await world.posted() == 5
    await world.check_ledger()


@pytest.mark.parametrize("step", ["held", "called"])
async def test_the_last_units_of_a_drain_that_died_are_used_though_nothing_is_left(
    world: World, step: str
) -> None:
    """Proves Q1, Q5 and X2: what waits for the quota has the unit that nobody else can have."""
    await world.begin_run(1)
    await world.limit(1)
    await world.write(world.writer(), world.record(*[upsert(each) for each in "abc"]))
    await world.lapse()
    await world.limit(2)
    with pytest.raises(CrashError):
        await world.drain(world.writer(reached=crash_at(step)))
    await world.lapse()

    await world.drain(world.writer())

    assert await world.held() == 0
    assert await world.posted() == 2
    assert len(world.account.contacts) == 2
    await world.check_ledger()


async def test_integrations_of_a_workspace_share_its_quota(world: World) -> None:
    """Proves Q1."""
    other = uuid4()
    await world.add_integration(other)
    await world.begin_run(1)
    await world.limit(3)
    writer = world.writer()

    (first,) = await world.write(writer, world.record(upsert("a"), upsert("b")))
    (second,) = await world.write(writer, world.record(upsert("c"), upsert("d"), integration=other))

    assert (first.created, second.created) == (["a", "b"], ["c"])
    assert second.parked == [("d", "quota")]
    assert await world.posted() == len(world.account.contacts) == 3
    await world.check_ledger()


async def test_a_full_quota_stops_before_anything_is_held(world: World) -> None:
    await world.begin_run(1)
    await world.limit(0)

    (settled,) = await world.write(world.writer(), world.record(upsert("a")))

    assert settled.parked == [("a", "quota")]
    assert not world.account.calls


async def test_a_hold_that_grants_nothing_leaves_no_intent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proves Q3: the quota ends between the look and the hold; an empty intent would never end."""
    await world.begin_run(1)
    await world.limit(5)
    reserve = store.reserve

    async def reserve_late(session: Transaction, **wishes: Any) -> int | None:
        await world.limit(0)
        return await reserve(session, **wishes)

    monkeypatch.setattr(store, "reserve", reserve_late)

    (settled,) = await world.write(world.writer(), world.record(upsert("a")))

    assert settled.parked == [("a", "quota")]
    assert await world.one("select count(*) from delivery.intents") == 0


async def test_a_destination_that_is_down_is_probed_with_one_contact(world: World) -> None:
    """Fault 41."""
    await world.begin_run(1)
    writer = world.writer()
    world.account.fail(Fault.DOWN)
    await world.write(writer, world.record(*[upsert(f"c{n}") for n in range(5)]))
    parked = await world.parked()
    calls = world.account.calls["write"]

    await world.drain(writer)
    while_blocked = world.account.calls["write"]
    await world.unblock_in_time()
    world.account.fail(Fault.DOWN)
    await world.drain(writer)
    after_a_failed_probe = world.account.calls["write"]
    await world.unblock_in_time()
    await world.drain(writer)

    assert set(parked.values()) == {"destination_down"}
    assert while_blocked == calls
    assert after_a_failed_probe == calls + 1
    assert len(world.account.contacts) == 5
    assert await world.one("select block_attempts from delivery.destinations") == 0
    await world.check_ledger()


async def test_who_is_not_sent_because_the_destination_is_down_costs_nothing(
    world: World,
) -> None:
    """Proves Q6: the unit is given back, and another contact may have it."""
    await world.begin_run(1)
    await world.limit(1)
    writer = world.writer()
    world.account.fail(Fault.DOWN)

    (settled,) = await world.write(writer, world.record(upsert("a")))

    assert settled.parked == [("a", "destination_down")]
    assert (await world.posted(), await world.held()) == (0, 0)
    assert world.account.contacts == {}
    await world.check_ledger()


async def test_a_contact_that_is_not_sent_proves_nothing_of_a_block(world: World) -> None:
    """A duplicate that waits for an open unit's address: the block must not hang on it."""
    await world.begin_run(1)
    writer = world.writer()
    world.account.fail(*[Fault.LOST] * 3)
    await world.write(
        writer, world.record(upsert("b", "x@example.com"), upsert("a", "x@example.com"))
    )
    waiting = await world.parked()

    await world.unblock_in_time()
    await world.drain(writer)

    assert waiting == {"a": "duplicate_identity", "b": "destination_down"}
    assert await world.one("select block_reason from delivery.destinations") is None
    assert await world.parked() == {"a": "duplicate_identity"}
    assert await world.posted() == 1
    await world.check_ledger()


async def test_a_contact_whose_answers_are_always_lost_stops_nobody(world: World) -> None:
    """Each probe tries another contact, so a block does not hang on this one."""
    await world.begin_run(1)
    writer = world.writer()
    bad = [f"bad{number}@example.com" for number in range(4)]
    world.account.lost.update(bad)
    effects = [upsert(f"a{number}", address) for number, address in enumerate(bad)]
    await world.write(writer, world.record(*effects, upsert("b"), upsert("c")))
    stopped = await world.parked()

    for _ in range(8):
        await world.unblock_in_time()
        await world.drain(writer)

    assert set(stopped) == {"a0", "a1", "a2", "a3", "b", "c"}
    assert world.account.keys() == {"b@example.com", "c@example.com"}
    assert set(await world.parked()) == {"a0", "a1", "a2", "a3"}
    await world.check_ledger()


async def test_a_block_holds_for_live_batches_too(world: World) -> None:
    await world.begin_run(1)
    writer = world.writer()
    world.account.fail(Fault.LIMITED)
    await world.write(writer, world.record(upsert("a")))
    calls = world.account.calls["write"]

    (settled,) = await world.write(writer, world.record(upsert("b"), page=2))

    assert settled.parked == [("b", "rate_limited")]
    assert world.account.calls["write"] == calls
    wait_s = await world.one(
        "select extract(epoch from blocked_until - clock_timestamp()) from delivery.destinations"
    )
    assert 25 < wait_s < 32


async def test_a_contact_behind_its_own_parked_row_waits_with_it(world: World) -> None:
    await world.begin_run(1)
    await world.configure(state="paused")
    writer = world.writer()
    await world.write(writer, world.record(upsert("a")))
    await world.configure(state="active")

    (settled,) = await world.write(
        writer, world.record(upsert("a", ms=2000, VORNAME="B"), upsert("b"), page=2)
    )
    await world.drain(writer)

    assert settled.parked == [("a", "paused")]
    assert settled.created == ["b"]
    assert world.account.contacts["a@example.com"].attributes == {"VORNAME": "B"}
    assert await world.posted() == 2


async def test_a_paused_integration_drains_when_it_is_resumed(world: World) -> None:
    await world.begin_run(1)
    await world.configure(state="paused")
    writer = world.writer()
    await world.write(writer, world.record(upsert("a")))

    await world.drain(writer)
    while_paused = await world.parked()
    await world.configure(state="active")
    await world.drain(writer)

    (late,) = await world.later()
    assert while_paused == {"a": "paused"}
    assert late.created == ["a"]
    assert late.stage.startswith("drain:")


async def test_an_archived_integration_rejects_what_waits(world: World) -> None:
    await world.begin_run(1)
    await world.configure(state="paused")
    writer = world.writer()
    await world.write(writer, world.record(upsert("a")))
    await world.configure(state="archived")

    (settled,) = await world.write(writer, world.record(upsert("b"), page=2))
    await world.drain(writer)

    (late,) = await world.later()
    assert settled.rejected == [("b", "integration_archived")]
    assert late.rejected == [("a", "integration_archived")]
    assert await world.parked() == {}


async def test_credentials_refused_three_times_need_a_person(world: World) -> None:
    """Fault 45."""
    await world.begin_run(1)
    writer = world.writer()
    reasons = []
    for page in range(3):
        world.account.fail(Fault.REAUTH)
        await world.write(writer, world.record(upsert(f"c{page}"), page=page + 1))
        reasons.append((await world.parked())[f"c{page}"])
        await world.execute("update delivery.destinations set block_reason = null")

    kinds = await world.rows(
        "select convert_from(body, 'UTF8')::jsonb ->> 'kind' as kind from delivery.outbox"
        " where topic = 'integrations.changed.v1'"
    )
    state = await world.one(
        "select state from config.connections where connection_id = :c", c=world.destination
    )
    assert reasons == ["destination_down", "destination_down", "needs_reauth"]
    assert state == "needs_reauth"
    assert [row.kind for row in kinds] == ["needs_reauth"]


async def test_a_reconnected_destination_drains(world: World) -> None:
    await world.begin_run(1)
    writer = world.writer()
    await world.execute(
        "update config.connections set state = 'needs_reauth' where connection_id = :c",
        c=world.destination,
    )
    (settled,) = await world.write(writer, world.record(upsert("a")))
    await world.drain(writer)
    before = await world.parked()
    await world.execute(
        "update config.connections set state = 'connected' where connection_id = :c",
        c=world.destination,
    )

    await world.drain(writer)

    assert settled.parked == [("a", "needs_reauth")]
    assert before == {"a": "needs_reauth"}
    assert await world.parked() == {}


async def test_a_missing_list_puts_the_integration_into_error_once(world: World) -> None:
    """Fault 46."""
    await world.begin_run(1)
    writer = world.writer()
    world.account.fail(Fault.MISCONFIGURED)

    (settled,) = await world.write(writer, world.record(upsert("a"), upsert("b")))
    (again,) = await world.write(writer, world.record(upsert("c"), page=2))

    told = await world.rows(
        "select convert_from(body, 'UTF8')::jsonb as event from delivery.outbox"
        " where topic = 'integrations.changed.v1'"
    )
    assert settled.parked == [("a", "configuration"), ("b", "configuration")]
    assert again.parked == [("c", "configuration")]
    assert [(row.event["kind"], row.event["reason"]) for row in told] == [("error", "list_missing")]
    assert await world.held() == 0


async def test_who_found_no_room_is_tried_again_after_an_hour(world: World) -> None:
    """Proves AC6: adding stops, the account is not asked all the time, and it goes on by itself."""
    await world.begin_run(1)
    writer = world.writer()
    world.account.fail(Fault.FULL)
    (settled,) = await world.write(writer, world.record(upsert("a"), upsert("b")))
    await world.unblock_in_time()
    await world.drain(writer)
    before = world.account.keys()

    await world.execute("update delivery.parked set last_at = last_at - interval '61 minutes'")
    await world.drain(writer)

    assert settled.parked == [("a", "contact_limit"), ("b", "contact_limit")]
    assert before == set()
    assert world.account.keys() == {"a@example.com", "b@example.com"}
    await world.check_ledger()


async def test_an_integration_that_was_mended_drains(world: World) -> None:
    await world.begin_run(1)
    writer = world.writer()
    world.account.fail(Fault.MISCONFIGURED)
    await world.write(writer, world.record(upsert("a")))
    await world.drain(writer)
    before = await world.parked()
    await world.configure(state="active")

    await world.drain(writer)

    assert before == {"a": "configuration"}
    assert world.account.keys() == {"a@example.com"}


async def test_one_integrations_misconfiguration_does_not_stop_another(world: World) -> None:
    other = uuid4()
    await world.add_integration(other)
    await world.begin_run(1)
    writer = world.writer()
    world.account.fail(Fault.MISCONFIGURED)

    first, second = await world.write(
        writer,
        world.record(upsert("a")),
        world.record(upsert("b", "other@example.com"), integration=other),
    )

    assert first.parked == [("a", "configuration")]
    assert second.created == ["b"]


async def test_an_old_mappings_parked_rows_go_once_the_newer_full_run_has_started(
    world: World,
) -> None:
    await world.begin_run(1)
    await world.configure(state="paused")
    await world.configure(deletion_policy="remove_from_list")
    writer = world.writer()
    await world.write(writer, world.record(upsert("a"), leave("b")))
    await world.begin_run(2, mode="full", mapping_version=2)

    await world.drain(writer)

    assert "a" not in await world.parked()
    assert sum(each.superseded for each in await world.later()) == 1
    assert not world.account.applied


async def test_drains_are_fair_between_integrations(world: World) -> None:
    other = uuid4()
    await world.add_integration(other)
    await world.begin_run(1)
    await world.execute("update config.integrations set state = 'paused'")
    writer = world.writer()
    first = [upsert(f"a{n}") for n in range(5)]
    await world.write(writer, world.record(*first))
    await world.write(writer, world.record(upsert("late", "late@example.com"), integration=other))
    await world.execute("update config.integrations set state = 'active'")
    await world.limit(2)

    await world.drain(writer)

    assert world.account.keys() == {"a0@example.com", "late@example.com"}


async def test_duplicates_wait_until_the_owner_lets_go(world: World) -> None:
    """Proves Q6: a second contact of one address is none, and costs nothing while it waits."""
    await world.begin_run(1)
    await world.begin_run(2)
    writer = world.writer()
    (settled,) = await world.write(
        writer, world.record(upsert("a", "x@example.com"), upsert("b", "X@example.com"))
    )
    await world.drain(writer)
    before, charged = await world.parked(), await world.posted()

    await world.write(writer, world.record(upsert("a", "y@example.com", ms=2000), run_no=2))
    await world.write(writer, world.run_read(2))
    await world.drain(writer)

    assert settled.created == ["a"]
    assert (before, charged) == ({"b": "duplicate_identity"}, 1)
    assert await world.parked() == {}
    assert {each: row.identity for each, row in (await world.links()).items()} == {
        "a": "y@example.com",
        "b": "x@example.com",
    }


async def test_a_batch_too_large_for_singles_leaves_the_rest_for_later(world: World) -> None:
    await world.begin_run(1)
    world.rows_min = 10_000
    writer = world.writer()

    (settled,) = await world.write(writer, world.record(*[upsert(f"c{n}") for n in range(60)]))
    await world.drain(writer)

    assert len(settled.parked) == 60
    assert {reason for _, reason in settled.parked} == {"backlog"}
    assert await world.posted() == 60
    assert not world.account.imports


async def test_a_backlog_that_never_rests_is_not_gathered_for_ever(world: World) -> None:
    """Contacts that come again and again put nothing off: theirs is the longest wait."""
    await world.begin_run(1)
    world.rows_min = 10_000
    writer = world.writer(gather_rest_s=3600.0)
    await world.write(writer, world.record(*[upsert(f"c{n}") for n in range(60)]))

    await world.drain(writer)
    assert await world.posted() == 0
    await world.execute("update delivery.parked set first_at = first_at - interval '11 s'")
    await world.drain(writer)

    assert await world.posted() == 60


async def test_a_lease_that_nobody_let_go_of_in_time_is_let_go_of_later(world: World) -> None:
    """The revocation's time was over before the database answered: another writer waits for it."""
    await world.begin_run(1)
    writer = world.writer()
    await world.write(writer, world.record(upsert("a")))
    writer.accounts.serves = lambda _connection: False
    stop = asyncio.Event()
    running = asyncio.create_task(writer.drain.run(stop))

    async with asyncio.timeout(60):
        while writer.accounts.owns(world.destination):  # noqa: ASYNC110  # nobody is told of it
            await asyncio.sleep(0.05)
    stop.set()
    await running

    assert not writer.accounts.known()


async def test_another_writers_destination_is_left_to_it(world: World) -> None:
    await world.begin_run(1)
    await world.write(world.writer(), world.record(upsert("a")))

    with pytest.raises(UnavailableError):
        await world.writer().drain.drain(world.destination, world.workspace)


async def test_units_that_nobody_came_for_are_settled_after_an_hour(world: World) -> None:
    """Fault 52. A crash whose record never comes again: its unit is posted by what stands there."""
    await world.begin_run(1)
    effects = [upsert("a"), upsert("b")]
    world.account.crash_after = None
    writer = await world.killed(world.writer(reached=crash_at("called")), world.record(*effects))
    del world.account.contacts["b@example.com"]
    await world.drain(writer)
    held = await world.held()
    await world.lapse()
    await world.execute("update delivery.intents set created_at = created_at - interval '2 hours'")

    await world.drain(world.writer())

    assert held == 2
    assert await world.held() == 0
    assert await world.posted() == 1
    assert set(await world.links()) == {"a"}
    await world.check_ledger()


async def test_an_orphan_is_counted_once_however_often_it_is_looked_at(world: World) -> None:
    """Fault 52. Its destination does not answer, so it stands for some looks."""
    await world.begin_run(1)
    writer = await world.killed(
        world.writer(reached=crash_at("called")), world.record(upsert("a"), upsert("b"))
    )
    await world.execute("update delivery.intents set created_at = created_at - interval '2 hours'")
    world.account.read_faults += [UnavailableError("api.example.com", "no answer")] * 2
    before = ORPHANS._value.get()

    for _ in range(3):
        await writer.drain.drain(world.destination, world.workspace)

    assert ORPHANS._value.get() - before == 2
    assert not world.account.read_faults
    assert await world.held() == 0


async def test_the_loop_drains_what_was_parked_and_stops_when_told(world: World) -> None:
    await world.begin_run(1)
    await world.configure(state="paused")
    writer = world.writer()
    await world.write(writer, world.record(upsert("a")))
    await world.configure(state="active")
    stop = asyncio.Event()

    running = asyncio.create_task(writer.drain.run(stop))
    writer.drain.wake()
    async with asyncio.timeout(60):
        while await world.parked():  # noqa: ASYNC110  # the row's end is seen in the database only
            await asyncio.sleep(0.05)
    stop.set()
    await running

    assert world.account.contacts["a@example.com"].list_ids == {LIST}


async def test_a_grant_is_noticed_within_a_second_and_costs_no_turn_before(world: World) -> None:
    """Proves Q3 and Q4: stopped is what the ledger says; the loop's next look is far away."""
    await world.begin_run(1)
    await world.limit(1)
    writer = world.writer(drain_every_s=3600.0)
    await world.write(writer, world.record(upsert("a"), upsert("b")))
    began = await _last_step(world)
    stop = asyncio.Event()
    running = asyncio.create_task(writer.drain.run(stop))
    await asyncio.sleep(1.5)
    while_stopped = await _last_step(world)

    await world.limit(2)
    async with asyncio.timeout(GRANTED_WITHIN_S):
        while "b@example.com" not in world.account.contacts:  # noqa: ASYNC110  # a fake tells nobody
            await asyncio.sleep(0.02)
    stop.set()
    await running

    assert while_stopped == began
    assert await world.posted() == 2


async def _last_step(world: World) -> Any:
    """Return what every turn of a destination changes."""
    return await world.one("select last_step from delivery.destinations")


async def a_while_later(world: World) -> None:
    """Let what waits have waited longer than an integration in error is left alone."""
    await world.execute(
        "update delivery.parked set first_at = first_at - interval '16 min',"
        " tried_at = tried_at - interval '16 min'"
    )


async def test_an_integration_in_error_is_tried_again_and_recovers_by_itself(
    world: World,
) -> None:
    """A list that is back at the destination needs nobody to press a button here."""
    await world.begin_run(1)
    writer = world.writer()
    world.account.fail(Fault.MISCONFIGURED)
    await world.write(writer, world.record(upsert("a"), upsert("b")))

    await world.drain(writer)
    too_soon = await world.parked()
    world.account.fail(Fault.MISCONFIGURED)
    await a_while_later(world)
    await world.drain(writer)
    still = await world.parked()
    await a_while_later(world)
    await world.drain(writer)

    told = await world.rows(
        "select convert_from(body, 'UTF8')::jsonb ->> 'kind' as kind from delivery.outbox"
        " where topic = 'integrations.changed.v1' order by id"
    )
    assert set(too_soon.values()) == set(still.values()) == {"configuration"}
    assert await world.parked() == {}
    assert [row.kind for row in told] == ["error", "recovered"]
    assert await world.posted() == 2


async def test_a_contact_that_is_refused_alone_does_not_keep_its_integration_in_error(
    world: World,
) -> None:
    """Whose fault it is shows as soon as others are tried, also while more keep coming."""
    await world.begin_run(1)
    writer = world.writer()
    world.account.refused_calls.add("bad@example.com")
    await world.write(writer, world.record(upsert("a", "bad@example.com")))
    in_error = await world.one("select state from config.integrations")

    for page in range(2, 5):
        await world.write(writer, world.record(upsert(f"b{page}"), page=page))
        await a_while_later(world)
        await world.write(writer, world.record(upsert(f"c{page}"), page=page + 10))
        await world.drain(writer)

    assert in_error == "error"
    assert await world.one("select state from config.integrations") == "active"
    assert await world.parked() == {}
    assert len(world.account.contacts) == 6
    assert (await world.links())["a"].operation == "rejected"
    await world.check_ledger()


async def test_outcomes_are_forgotten_after_the_topics_have(world: World) -> None:
    await world.begin_run(1)
    writer = world.writer()
    await world.write(writer, world.record(upsert("a")), world.record(upsert("b"), page=2))
    await world.execute(
        "update delivery.outcomes set stored_at = stored_at - interval '9 days'"
        " where record_id = :r",
        r=world.record(upsert("a")).id,
    )
    stop = asyncio.Event()

    running = asyncio.create_task(writer.drain.run(stop))
    async with asyncio.timeout(60):
        while await world.one("select count(*) from delivery.outcomes") > 1:  # noqa: ASYNC110  # rows tell nobody
            await asyncio.sleep(0.05)
    stop.set()
    await running

    assert await world.one("select count(*) from delivery.outcomes") == 1
