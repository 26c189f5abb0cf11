"""Runs over a source that tells what changed since its own token, and who is gone."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import pytest

from libs.common.errors import PositionLostError, UnavailableError
from libs.common.events import IntegrationKind, Operation, RunMode
from libs.connectors.contract import Cursor, Onward, Page, Sweep, alone
from tests.services.poller.fakes import FakeSource
from tests.services.poller.world import World

pytestmark = pytest.mark.integration


class TellingSource(FakeSource):
    """An account that keeps who was touched: a position is how many touches there were.

    Nothing that is touched gets a new time, so a window of time would find nobody.
    """

    def __init__(self, *, narrows: bool = True) -> None:
        super().__init__(page_size=1_000, resumable=False)
        self.facts = replace(self.facts, sweeps_by_position=True)
        self.narrows = narrows
        self.touched: list[str] = []
        self.oldest = 0  # Positions before it are not known any more.
        self.positions: list[str | None] = []

    def touch(self, *ids: str) -> None:
        self.touched += ids

    async def read_page(self, sweep: Sweep, after: Cursor | None, onward: Onward = alone) -> Page:
        self.positions.append(sweep.position)
        here = str(len(self.touched))
        if sweep.position is None:
            return replace(await super().read_page(sweep, after, onward), position=here)
        await self._called("page")
        if int(sweep.position) < self.oldest:
            raise PositionLostError(host="fake", reason="expired")
        touched = list(dict.fromkeys(self.touched[int(sweep.position) :]))
        return replace(await self._told(sweep, touched), position=here)

    async def _told(self, sweep: Sweep, touched: Sequence[str]) -> Page:
        there = set(self.contacts)
        if self.narrows and sweep.list_id is not None:
            there &= set(self.lists[sweep.list_id])
        gone = [each for each in touched if each not in there]
        present = [each for each in touched if each in there]
        return Page(await self._contacts(present), None, gone=gone, is_narrowed=self.narrows)


async def read_once(
    world: World, source: TellingSource, *ids: str, list_id: str | None = None
) -> UUID:
    """Read everyone, so that the next run reads what was touched since."""
    source.add(*ids)
    if list_id is not None:
        source.join(list_id, *ids)
    integration = await world.integrate(list_id=list_id)
    await world.poll(integration, source)
    return integration


async def attend(world: World, integration: UUID, source: TellingSource) -> None:
    """Let a poller process claim the integration and read it."""
    await world.make_due(integration)
    await attend_due(world, source)


async def attend_due(world: World, source: TellingSource) -> None:
    attendant = world.attendant(source)
    assert await attendant.claim() == 1
    await asyncio.gather(*attendant._running.values())
    attendant._raise_bugs()


async def test_a_run_starts_where_the_last_one_ended(world: World) -> None:
    """Proves S1: changes only, by the provider's own token."""
    source = TellingSource()
    integration = await read_once(world, source, "1", "2", "3")

    source.touch("2")
    await world.poll(integration, source)
    source.touch("3")
    await world.poll(integration, source)

    assert source.positions == [None, "0", "1"]
    assert [world.journal.ids(run_no=run_no) for run_no in (2, 3)] == [["2"], ["3"]]
    assert world.journal.ends[-1].mode is RunMode.CHANGES


async def test_a_position_moves_only_when_a_run_has_ended(world: World) -> None:
    """Proves X2: effects before positions."""
    source = TellingSource()
    integration = await read_once(world, source, "1", "2")
    source.touch("2")
    world.journal.is_down = True
    with pytest.raises(UnavailableError):
        await world.poll(integration, source)
    world.journal.is_down = False
    await world.lapse(integration)

    await world.poll(integration, source)

    assert source.positions == [None, "0", "0"]
    assert world.journal.ids(run_no=3) == ["2"]


async def test_who_was_deleted_is_told_of_without_reading_everyone(world: World) -> None:
    """Proves S4: at once, not with the daily look."""
    source = TellingSource()
    integration = await read_once(world, source, "1", "2")
    source.delete("2")
    source.touch("2", "stranger")
    source.calls.clear()

    await world.poll(integration, source)

    assert source.calls == ["page"]
    assert world.journal.ids(Operation.DELETE) == ["2"]
    assert await world.members(integration) == {"1"}


async def test_who_is_gone_on_one_page_and_there_on_a_later_one_stays(world: World) -> None:
    source = TellingSource()
    integration = await read_once(world, source, "1", "2")
    first = Page([], Cursor("second"), gone=["1", "2"])

    async def two_pages(sweep: Sweep, after: Cursor | None, onward: Onward = alone) -> Page:
        return first if after is None else Page(await source._contacts(["2"]), None, position="0")

    source.read_page = two_pages  # type: ignore[method-assign]  # somebody was restored meanwhile

    await world.poll(integration, source)

    assert world.journal.ids(Operation.DELETE) == ["1"]
    assert await world.members(integration) == {"2"}


@pytest.mark.parametrize("narrows", [True, False])
async def test_leavers_and_joiners_of_a_list_are_told_of(world: World, *, narrows: bool) -> None:
    """Proves W3, S4: one joined and one left, so that the list's size did not move."""
    source = TellingSource(narrows=narrows)
    integration = await read_once(world, source, "1", "2", list_id="L")
    source.add("3", "4")
    source.join("L", "3")
    source.leave("L", "2")
    if narrows:
        source.changed_at_ms["L"] = 1  # A provider that does not tell when somebody joined.
    source.touch("2", "3", "4")

    await world.poll(integration, source)

    assert world.journal.ids(Operation.UPSERT, run_no=2) == (["3"] if narrows else ["2", "3"])
    assert world.journal.ids(Operation.LEAVE, run_no=2) == ["2"]
    assert await world.members(integration) == {"1", "3"}
    assert ("members" in source.calls) is not narrows


async def test_a_position_that_is_lost_is_followed_by_a_full_run_at_once(world: World) -> None:
    """Proves S1, S4: what the provider forgot to tell is found by reading everything."""
    source = TellingSource()
    integration = await read_once(world, source, "1", "2", "3")
    source.delete("3")
    source.touch("3", "2")
    source.oldest = 2

    await attend(world, integration, source)
    schedule = await world.schedule(integration)
    await attend_due(world, source)
    source.touch("1")
    await attend(world, integration, source)

    assert schedule.due_in_s <= 0
    assert schedule.failures == 0
    assert await world.told() == []
    assert [end.mode for end in world.journal.ends] == [
        RunMode.FULL,
        RunMode.FULL,
        RunMode.CHANGES,
    ]
    assert world.journal.ids(Operation.DELETE) == ["3"]
    assert world.journal.ids(run_no=4) == ["1"]
    [abandoned] = await world.rows("select state from sync.runs where run_no = 2")
    assert abandoned.state == "abandoned"


async def test_many_who_are_told_of_wait_for_a_persons_word(world: World) -> None:
    """Proves S4: the delete guard, and a question that stands while others are told of."""
    source = TellingSource()
    everyone = [f"c{number:03}" for number in range(100)]
    integration = await read_once(world, source, *everyone)
    source.delete(*everyone[:30])
    source.touch(*everyone[:30])
    await world.poll(integration, source)
    asking = await world.newest_run(integration)
    source.delete("c090")
    source.touch("c090")

    await world.poll(integration, source)

    assert asking.withheld == 30
    assert [told.kind for told in await world.told()] == [IntegrationKind.NEEDS_CONFIRMATION]
    assert world.journal.ids(Operation.DELETE) == ["c090"]
    assert await world.call("sync.confirm_deletions", run=asking.run_id) == 30
    await world.poll(integration, source)
    assert len(world.journal.ids(Operation.DELETE, run_no=4)) == 30
