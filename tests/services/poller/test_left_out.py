"""Who is left out of a bulk change is named, and read when a person asks for it (CC4)."""

from uuid import UUID

import pytest

from libs.common import ids
from libs.common.events import Operation, RunMode
from tests.services.poller.fakes import LONG_AGO_MS, FakeSource
from tests.services.poller.test_bulk_changes import changed
from tests.services.poller.world import World

TEN = [f"{number:02}" for number in range(10)]


async def left_out(world: World) -> dict[str, bool]:
    """Return who is named, and whether a person asked for him."""
    rows = await world.rows("select source_id, wanted_at from sync.left_out order by source_id")
    return {row.source_id: row.wanted_at is not None for row in rows}


async def bulk(world: World, source: FakeSource, *, list_id: str | None = None) -> UUID:
    """Read ten contacts, edit them all, and read the newest four; return the integration."""
    source.add(*TEN)
    if list_id is not None:
        source.join(list_id, *TEN)
    integration = await world.integrate(list_id=list_id)
    await world.poll(integration, source, newest_max=4)
    await changed(world, source)
    await world.poll(integration, source, newest_max=4)
    return integration


def past(source: FakeSource) -> None:
    """Let the bulk change be long ago: no window meets it again."""
    for contact in source.contacts.values():
        contact.modified_ms = LONG_AGO_MS


@pytest.fixture
def source() -> FakeSource:
    return FakeSource(page_size=3, resumable=False)


async def test_who_is_left_out_is_named_with_his_run(world: World, source: FakeSource) -> None:
    """Proves CC4: listed, not only counted."""
    integration = await bulk(world, source)

    rows = await world.rows("select distinct run_id, workspace_id from sync.left_out")
    assert await left_out(world) == dict.fromkeys(TEN[:6], False)
    assert [row.run_id for row in rows] == [ids.run_id(integration, 2)]
    assert [row.workspace_id for row in rows] == [world.workspace]
    assert world.journal.ends[1].left_out == 6


async def test_they_are_read_when_a_person_asks(world: World, source: FakeSource) -> None:
    """Proves CC4: replayable, at most so many in one run; then they are named no more."""
    integration = await bulk(world, source)
    source.delete("01")

    asked = await world.call("sync.replay_left_out", run=ids.run_id(integration, 2))
    again = await world.call("sync.replay_left_out", run=ids.run_id(integration, 2))
    past(source)
    await world.poll(integration, source, newest_max=4)
    third = world.journal.ids(run_no=3)
    left = await left_out(world)
    await world.poll(integration, source, newest_max=4)

    assert (asked, again) == (6, 0)
    assert third == ["00", "02", "03"]  # 01 is gone.
    assert left == {"04": True, "05": True}
    assert world.journal.ids(run_no=4) == ["04", "05"]
    assert await left_out(world) == {}
    end = world.journal.ends[2]
    assert (end.mode, end.read, end.left_out) == (RunMode.CHANGES, 3, 0)


async def test_nobody_is_read_in_anothers_name(world: World, source: FakeSource) -> None:
    """Proves CC4 and X3."""
    integration = await bulk(world, source)
    world.workspace, own = ids.new(), world.workspace

    asked = await world.call("sync.replay_left_out", run=ids.run_id(integration, 2))

    world.workspace = own
    assert asked == 0
    assert set((await left_out(world)).values()) == {False}


async def test_who_left_the_list_since_is_not_read(world: World, source: FakeSource) -> None:
    """Proves CC4 and S4: a replay brings nobody back, whether he left before it or with it."""
    integration = await bulk(world, source, list_id="7")
    past(source)
    source.leave("7", "00")
    await world.poll(integration, source, newest_max=9)
    source.leave("7", "01")
    await world.call("sync.replay_left_out", run=ids.run_id(integration, 2))

    await world.poll(integration, source, newest_max=9)

    assert world.journal.ids(Operation.LEAVE, run_no=3) == ["00"]
    assert world.journal.ids(Operation.LEAVE, run_no=4) == ["01"]
    assert world.journal.ids(Operation.UPSERT, run_no=4) == ["02", "03", "04", "05"]
    assert await left_out(world) == {}


async def test_who_is_edited_again_or_read_in_full_is_named_no_more(
    world: World, source: FakeSource
) -> None:
    """Proves CC4: what was read since was not left out."""
    integration = await bulk(world, source)
    now_ms = (await world.row("select max(from_ms) as at from sync.positions")).at
    for contact in source.contacts.values():
        contact.modified_ms = 1
    source.contacts["02"].modified_ms = now_ms + 1
    await world.poll(integration, source, newest_max=4)
    after_an_edit = await left_out(world)
    await world.execute("update sync.schedules set wanted_mode = 'full'")

    await world.poll(integration, source, newest_max=4)

    assert sorted(after_an_edit) == ["00", "01", "03", "04", "05"]
    assert world.journal.ends[3].mode is RunMode.FULL
    assert await left_out(world) == {}


async def test_windows_that_overlap_leave_out_nobody_twice(
    world: World, source: FakeSource
) -> None:
    """Proves CC4: who was asked for stays asked for, and is read."""
    integration = await bulk(world, source)
    await world.call("sync.replay_left_out", run=ids.run_id(integration, 2))

    await world.poll(integration, source, newest_max=4)

    assert world.journal.ids(run_no=3) == sorted([*TEN[:4], *TEN[6:]])
    assert await left_out(world) == {"04": True, "05": True}
