"""Who may touch a destination."""

import asyncio
from functools import partial
from uuid import UUID, uuid4

import pytest

from libs.common.clock import SystemClock
from libs.common.errors import LeaseLostError, UnavailableError
from libs.common.postgres import Transaction, transact
from libs.connectors.contract import OpenGate
from services.writer import account, store
from services.writer.account import Accounts
from services.writer.lease import LeasedGate, Leases
from tests.services.writer.world import Clock, World, upsert


def leases(world: World, clock: Clock | None = None, **settings: float) -> Leases:
    return Leases(world.sessions, clock or Clock(), uuid4(), **settings)


async def test_one_owner_at_a_time(world: World) -> None:
    first, second = leases(world), leases(world)
    held = await first.acquire(world.destination, world.workspace)
    assert held is not None

    refused = await second.acquire(world.destination, world.workspace)
    await first.release(held)
    taken = await second.acquire(world.destination, world.workspace)

    assert refused is None
    assert taken is not None
    assert taken.fencing == held.fencing + 1
    assert taken.touchable_at <= SystemClock().monotonic()


async def test_a_lapsed_lease_is_taken_over_and_its_calls_waited_for(world: World) -> None:
    clock = Clock()
    held = await leases(world).acquire(world.destination, world.workspace)
    await world.lapse()

    taken = await leases(world, clock).acquire(world.destination, world.workspace)

    assert held is not None
    assert taken is not None
    assert 10.0 < taken.touchable_at - clock.monotonic() < 30.0


async def test_waiting_for_late_calls_ends_when_they_have_ended(world: World) -> None:
    await leases(world).acquire(world.destination, world.workspace)
    await world.lapse()
    clock = Clock()
    taken = await leases(world, clock, late_call_s=1.2).acquire(world.destination, world.workspace)
    assert taken is not None
    began = clock.monotonic()

    await taken.until_touchable()

    assert clock.monotonic() >= taken.touchable_at
    assert clock.monotonic() - began < 20.0


async def test_renewal_prolongs_and_finds_what_was_lost(world: World) -> None:
    clock = Clock()
    mine = leases(world, clock)
    held = await mine.acquire(world.destination, world.workspace)
    assert held is not None
    clock.ahead_s = 30.0

    await mine.renew()
    held.check()
    await world.lapse()
    await leases(world).acquire(world.destination, world.workspace)
    await mine.renew()

    assert held.is_lost
    with pytest.raises(LeaseLostError):
        held.check()
    await mine.renew()  # With nothing left to renew.


async def test_a_lease_is_not_trusted_in_its_last_seconds(world: World) -> None:
    clock = Clock()
    held = await leases(world, clock).acquire(world.destination, world.workspace)
    assert held is not None
    gate = LeasedGate(OpenGate(), held)
    await gate.enter("contacts")
    clock.ahead_s = 44.0

    with pytest.raises(LeaseLostError):
        await gate.enter("contacts")
    await gate.limited("contacts", 1.0)


async def test_a_transaction_without_the_token_is_refused(world: World) -> None:
    held = await leases(world).acquire(world.destination, world.workspace)
    assert held is not None
    await world.lapse()
    await leases(world).acquire(world.destination, world.workspace)

    for write in (held.keep, lambda session: held.begin(session, UUID(int=1))):
        with pytest.raises(LeaseLostError):
            async with world.sessions.begin() as session:
                await write(session)


async def test_a_step_is_stored_once(world: World) -> None:
    """Fault 35."""
    held = await leases(world).acquire(world.destination, world.workspace)
    assert held is not None

    async def begin(step: int) -> bool:
        async with world.sessions.begin() as session:
            return await held.begin(session, UUID(int=step))

    assert await begin(1)
    assert not await begin(1)
    assert await begin(2)


async def test_the_loop_renews_until_stopped(world: World) -> None:
    mine = leases(world, None, renew_s=0.05)
    held = await mine.acquire(world.destination, world.workspace)
    assert held is not None
    before = held.ends_at
    stop = asyncio.Event()

    running = asyncio.create_task(mine.run(stop))
    async with asyncio.timeout(60):
        while held.ends_at == before:  # noqa: ASYNC110  # a field tells nobody that it changed
            await asyncio.sleep(0.01)
    stop.set()
    await running

    assert not held.is_lost


async def test_a_turn_waits_for_the_lease_only_so_long(world: World) -> None:
    first = Accounts(world.sessions, leases(world))
    second = Accounts(world.sessions, leases(world))
    async with first.turn(world.destination, world.workspace, patience_s=0.0):
        pass

    with pytest.raises(UnavailableError):
        async with second.turn(world.destination, world.workspace, patience_s=0.5):
            pass
    await first.release()
    async with second.turn(world.destination, world.workspace, patience_s=0.0) as account:
        assert second.owns(world.destination)
        assert not first.owns(world.destination)
        assert account.connection == world.destination
    await second.release([uuid4()])


async def test_a_destination_whose_records_go_elsewhere_is_let_go_of_after_its_turn(
    world: World,
) -> None:
    served = {world.destination}
    first = Accounts(world.sessions, leases(world), serves=served.__contains__)
    second = Accounts(world.sessions, leases(world))

    async with first.turn(world.destination, world.workspace, patience_s=0.0):
        served.clear()

    async with second.turn(world.destination, world.workspace, patience_s=0.0):
        assert not first.owns(world.destination)


async def test_destinations_of_others_are_let_go_of_and_its_own_are_kept(world: World) -> None:
    served = {world.destination}
    accounts = Accounts(world.sessions, leases(world), serves=served.__contains__)
    async with accounts.turn(world.destination, world.workspace, patience_s=0.0):
        pass

    await accounts.release_strangers()
    kept = accounts.owns(world.destination)
    served.clear()
    await accounts.release_strangers()

    assert kept
    assert not accounts.owns(world.destination)


async def test_a_lease_whose_owner_could_not_begin_lapses(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it were renewed for ever by a process that does not know of it."""
    owner = leases(world)
    accounts = Accounts(world.sessions, owner)

    async def fails(_session: Transaction, _connection: UUID) -> list[store.StoredIntent]:
        raise OSError

    with monkeypatch.context() as broken:
        broken.setattr(store, "open_intents", fails)
        broken.setattr(account, "transact", partial(transact, attempts_max=1))
        with pytest.raises(OSError, match=r".*"):
            async with accounts.turn(world.destination, world.workspace, patience_s=0.0):
                pass
    await world.lapse()
    await owner.renew()

    other = leases(world)
    assert await other.acquire(world.destination, world.workspace) is not None


async def test_turns_of_one_destination_do_not_overlap(world: World) -> None:
    accounts = Accounts(world.sessions, leases(world))
    inside: list[int] = []

    async def turn() -> None:
        async with accounts.turn(world.destination, world.workspace, patience_s=0.0):
            inside.append(1)
            assert len(inside) == 1
            await asyncio.sleep(0.01)
            inside.pop()

    await asyncio.gather(*[turn() for _ in range(5)])


async def test_a_lease_that_ran_out_between_turns_is_taken_anew(world: World) -> None:
    clock = Clock()
    accounts = Accounts(world.sessions, leases(world, clock))
    async with accounts.turn(world.destination, world.workspace, patience_s=0.0) as account:
        first = account.lease.fencing
    clock.ahead_s = 60.0

    async with accounts.turn(world.destination, world.workspace, patience_s=0.0) as account:
        second = account.lease.fencing

    assert second > first


async def test_a_writer_that_finds_its_token_lost_after_a_call_leaves_a_mark(
    world: World,
) -> None:
    """The contacts of that call are never taken for unchanged afterwards."""
    await world.begin_run(1)
    await world.begin_run(2)
    await world.begin_run(3)
    await world.write(world.writer(), world.record(upsert("a")))
    await world.lapse()
    edited = world.record(upsert("a", ms=2000, VORNAME="Late"), run_no=2)

    async def evict() -> None:
        world.account.after_write = None
        await world.execute("update delivery.destinations set fencing = fencing + 1")

    world.account.after_write = evict
    with pytest.raises(LeaseLostError):
        await world.writer().live.handle(world.destination, [edited])
    marks = await world.one("select count(*) from delivery.rechecks")
    await world.lapse()
    successor = world.writer()
    (settled,) = await world.write(successor, world.record(upsert("a", ms=3000), run_no=3))

    assert marks == 1
    assert await world.one("select count(*) from delivery.rechecks") == 0
    assert settled.updated == ["a"]
    assert world.account.contacts["a@example.com"].attributes == {"VORNAME": "Name of a"}
    await world.check_ledger()


async def test_a_call_that_lands_after_its_lease_is_undone_by_the_next_owner(
    world: World,
) -> None:
    """Fault 27. The named residue: a process stood still between its check and its call."""
    await world.begin_run(1)
    late = world.record(upsert("a", VORNAME="Late"))
    newer = world.record(upsert("a", ms=2000, VORNAME="Newer"), page=2)
    successor = world.writer()

    async def stand_still() -> None:
        world.account.before_write = None
        await world.lapse()
        await world.write(successor, late, newer)
        assert world.account.contacts["a@example.com"].attributes == {"VORNAME": "Newer"}

    world.account.before_write = stand_still
    with pytest.raises(LeaseLostError):
        await world.writer().live.handle(world.destination, [late])
    overwritten = world.account.contacts["a@example.com"].attributes["VORNAME"]
    await world.drain(successor)

    assert overwritten == "Late"
    assert world.account.contacts["a@example.com"].attributes == {"VORNAME": "Newer"}
    assert not (await world.links())["a"].needs_recheck
    assert await world.posted() == 1
    await world.check_ledger()


async def test_a_lease_lost_between_two_calls_leaves_marks_for_those_before(world: World) -> None:
    """The same in the middle of a turn: the next call finds the lease lost."""
    await world.begin_run(1)
    late = world.record(upsert("a", VORNAME="Late"), upsert("b"))
    newer = world.record(upsert("a", ms=2000, VORNAME="Newer"), page=2)
    evicted, successor = world.writer(), world.writer()

    async def stand_still() -> None:
        world.account.before_write = None
        await world.lapse()
        await world.write(successor, late, newer)
        evicted.clock.ahead_s = 60.0

    world.account.before_write = stand_still
    with pytest.raises(LeaseLostError):
        await evicted.live.handle(world.destination, [late])
    overwritten = world.account.contacts["a@example.com"].attributes["VORNAME"]
    marks = await world.rows("select source_id from delivery.rechecks")
    await world.drain(successor)

    assert overwritten == "Late"
    assert [row.source_id for row in marks] == ["a"]
    assert world.account.contacts["a@example.com"].attributes == {"VORNAME": "Newer"}
    assert await world.posted() == 2
    await world.check_ledger()


@pytest.mark.parametrize("is_overwritten", [False, True])
async def test_a_mark_for_a_contact_nobody_has_written_since_is_looked_at(
    world: World, *, is_overwritten: bool
) -> None:
    """Proves Q6 for fault 27: who stands there as he should costs nothing."""
    await world.begin_run(1)
    await world.begin_run(2)
    writer = world.writer()
    await world.write(writer, world.record(upsert("a")))
    await world.execute(
        "insert into delivery.rechecks (connection_id, integration_id, source_id)"
        " values (:c, :i, 'a')",
        c=world.destination,
        i=world.integration,
    )
    if is_overwritten:
        world.account.contacts["a@example.com"].attributes["VORNAME"] = "Late"

    await world.drain(writer)
    marked = (await world.links())["a"].needs_recheck
    (settled,) = await world.write(writer, world.record(upsert("a", ms=2000), run_no=2))

    assert marked
    assert settled.updated == (["a"] if is_overwritten else [])
    assert settled.unchanged == (0 if is_overwritten else 1)
    assert world.account.contacts["a@example.com"].attributes == {"VORNAME": "Name of a"}
    assert not (await world.links())["a"].needs_recheck
    assert await world.posted() == (2 if is_overwritten else 1)


async def test_a_suspect_that_cannot_be_read_is_written_again(world: World) -> None:
    await world.begin_run(1)
    await world.begin_run(2)
    writer = world.writer()
    await world.write(writer, world.record(upsert("a")))
    await world.execute("update delivery.links set needs_recheck = true")
    world.account.read_faults.append(UnavailableError("fake.example", "HTTP 503"))

    (settled,) = await world.write(writer, world.record(upsert("a", ms=2000), run_no=2))

    assert settled.updated == ["a"]
    assert not (await world.links())["a"].needs_recheck
