"""Runs that read the newest of many changes only, and pages that cannot vouch for everyone."""

from dataclasses import replace

import pytest

from libs.common.errors import UnavailableError
from libs.common.events import Operation, RunMode
from services.poller.poll import WALKS_MAX, RunStoppedError, Stop
from tests.services.poller.fakes import FakeSource
from tests.services.poller.world import World

MANY = [f"{number:03}" for number in range(450)]  # More than two parts hold.


async def changed(world: World, source: FakeSource) -> None:
    """Edit everyone, the highest ids last."""
    now_ms = (await world.row("select max(from_ms) as at from sync.positions")).at
    for number, contact in enumerate(source.contacts.values(), 1):
        contact.modified_ms = now_ms + number


async def test_only_the_newest_of_a_bulk_change_are_read(world: World) -> None:
    """Proves CC4: the newest 300 are published, and the run says that 150 were left out."""
    source = FakeSource(page_size=100, resumable=False)
    source.add(*MANY)
    integration = await world.integrate()
    await world.poll(integration, source, newest_max=300)
    await changed(world, source)

    await world.poll(integration, source, newest_max=300)

    assert world.journal.ids(run_no=2) == MANY[150:]
    first, second = world.journal.ends
    assert (first.mode, first.read, first.left_out) == (RunMode.FULL, 450, 0)
    assert (second.mode, second.read, second.left_out) == (RunMode.CHANGES, 300, 150)
    run = await world.newest_run(integration)
    assert (run.state, run.read, run.left_out) == ("read", 300, 150)


async def test_changes_up_to_the_cap_are_all_read(world: World) -> None:
    source = FakeSource(page_size=100, resumable=False)
    source.add(*MANY)
    integration = await world.integrate()
    await world.poll(integration, source, newest_max=450)
    await changed(world, source)

    await world.poll(integration, source, newest_max=450)

    assert world.journal.ids(run_no=2) == MANY
    assert world.journal.ends[1].left_out == 0


async def test_only_members_count_as_left_out(world: World) -> None:
    """Proves CC4: contacts of the account that are on no list of ours are not ours to leave out."""
    source = FakeSource(page_size=100, resumable=False)
    source.add(*MANY)
    source.join("7", *MANY[:20])
    integration = await world.integrate(list_id="7")
    await world.poll(integration, source, newest_max=15)
    await changed(world, source)

    await world.poll(integration, source, newest_max=15)

    assert world.journal.ids(run_no=2) == MANY[5:20]
    assert world.journal.ends[1].left_out == 5


@pytest.mark.parametrize(
    ("cap", "own", "read"), [(None, 2, 2), (None, None, 4), (3, 2, 3), (0, 2, 4)]
)
async def test_the_operator_may_lift_the_cap(
    world: World, cap: int | None, own: int | None, read: int
) -> None:
    """Proves CC4 is the default that the provider's facts name, and can be lifted."""
    source = FakeSource(resumable=False)
    source.facts = replace(source.facts, bulk_fetch_cap=own)
    source.add("1", "2", "3", "4")
    integration = await world.integrate()
    attendant = world.attendant(source, bulk_fetch_cap=cap)
    await attendant.attend(await world.claim_one(integration))
    await changed(world, source)

    await attendant.attend(await world.claim_one(integration))

    assert len(world.journal.ids(run_no=2)) == read
    assert world.journal.ends[1].left_out == 4 - read


async def test_changes_are_read_anew_where_contacts_moved(world: World) -> None:
    """Proves S1: who was passed over while rows moved is on the next walk's pages."""
    source = FakeSource(resumable=False)
    source.add("1", "2", "3", "4")
    integration = await world.integrate()
    await world.poll(integration, source)
    await changed(world, source)
    source.calls.clear()
    source.doubtful = {2}

    await world.poll(integration, source, newest_max=3)

    assert source.calls == ["page"] * 4
    assert world.journal.ids(run_no=2) == ["2", "3", "4"]
    assert world.journal.ends[1].left_out == 1


async def test_a_contact_on_two_pages_tells_that_rows_moved(world: World) -> None:
    """Proves S1: an edit may push a row to the end, and another past the page that is next."""
    source = FakeSource(resumable=False)
    source.add("1", "2", "3", "4")
    integration = await world.integrate()
    await world.poll(integration, source)
    await changed(world, source)
    source.calls.clear()

    async def move(call: int) -> None:
        if call == 2:
            source.contacts["5"] = replace(source.contacts["1"], merged_from=["1"])

    source.before = move
    original = source._change
    source._change = lambda id_: original("1" if id_ == "5" else id_)  # type: ignore[method-assign]  # a row of its own, the same contact

    with pytest.raises(UnavailableError):
        await world.poll(integration, source, newest_max=3)

    assert world.journal.ids(run_no=2) == []


async def test_nothing_is_told_of_changes_that_never_hold_still(world: World) -> None:
    """Proves S1: the position stays, and the next run reads the same window."""
    source = FakeSource(resumable=False)
    source.add("1", "2", "3")
    integration = await world.integrate()
    await world.poll(integration, source)
    await changed(world, source)
    before = await world.row("select from_ms from sync.positions where stream = 'contacts'")
    source.calls.clear()
    source.doubtful = set(range(1, 20))

    with pytest.raises(UnavailableError):
        await world.poll(integration, source, newest_max=3)

    after = await world.row("select from_ms from sync.positions where stream = 'contacts'")
    assert source.calls == ["page"] * 2 * WALKS_MAX
    assert world.journal.ids(run_no=2) == []
    assert after.from_ms == before.from_ms


async def test_reading_the_newest_stops_when_the_process_has_to_end(world: World) -> None:
    source = FakeSource(page_size=1, resumable=False)
    source.add(*MANY[:30])
    integration = await world.integrate()
    await world.poll(integration, source)
    await changed(world, source)
    run = world.run(await world.claim_one(integration), source, newest_max=2)
    run._is_stopping = lambda: True
    source.calls.clear()

    with pytest.raises(RunStoppedError) as stopped:
        await run.poll()

    assert stopped.value.reason is Stop.SHUTDOWN
    assert len(source.calls) < len(source.contacts)  # It does not read to the end first.
    assert world.journal.ids(run_no=2) == []


async def test_a_doubtful_full_run_tells_of_nobody_as_gone(world: World) -> None:
    """Proves S4: who was passed over is not a leaver; the run says that it is not complete."""
    source = FakeSource(resumable=False)
    source.add("1", "2", "3")
    source.join("7", "1", "2", "3")
    integration = await world.integrate(list_id="7")
    await world.poll(integration, source)
    source.leave("7", "3")
    await world.execute(
        "update sync.schedules set wanted_mode = 'full' where integration_id = :integration",
        integration=integration,
    )
    source.calls.clear()
    source.doubtful = {1}

    await world.poll(integration, source)

    assert world.journal.ends[1].mode is RunMode.FULL
    assert not world.journal.ends[1].complete
    assert world.journal.ids(Operation.LEAVE, run_no=2) == []


async def test_doubtful_members_bring_joiners_and_take_nobody(world: World) -> None:
    """Proves S4: whoever joined is read at once, who left by a look that holds still."""
    source = FakeSource(resumable=False)
    source.add("1", "2", "3")
    source.join("7", "1", "2")
    integration = await world.integrate(list_id="7")
    await world.poll(integration, source)
    source.leave("7", "1")
    source.join("7", "3")
    source.calls.clear()
    source.doubtful = {1}

    await world.poll(integration, source)
    doubted = world.journal.ids(Operation.LEAVE, run_no=2), world.journal.ids(run_no=2)
    source.doubtful.clear()
    await world.poll(integration, source)

    assert doubted == ([], ["3"])
    assert world.journal.ids(Operation.LEAVE, run_no=3) == ["1"]
