"""Whole runs over a source that behaves, a real database, and a journal of what was published."""

from dataclasses import replace
from uuid import UUID

import pytest

from libs.common.errors import LeaseLostError, UnavailableError
from libs.common.events import IntegrationKind, Operation, RunMode
from libs.connectors.contract import Sweep
from services.poller.plan import Assignment
from services.poller.poll import RunStoppedError, Stop
from tests.services.poller.fakes import LONG_AGO_MS, FakeSource, nothing
from tests.services.poller.kills import KilledError, killed_at_the_end, killed_when
from tests.services.poller.world import World


async def test_the_first_run_reads_everyone(world: World, source: FakeSource) -> None:
    """Proves S1."""
    source.add("1", "2", "3")
    integration = await world.integrate()

    await world.poll(integration, source)

    assert world.journal.ids(Operation.UPSERT) == ["1", "2", "3"]
    assert set(world.journal.keys) == {str(integration)}
    [end] = world.journal.ends
    assert world.journal.events[-1] is end
    assert (end.mode, end.read, end.parts, end.pages) == (RunMode.FULL, 3, 2, 2)
    assert (end.total_before, end.total_after, end.complete) == (3, 3, True)
    assert await world.members(integration) == {"1", "2", "3"}
    run = await world.newest_run(integration)
    assert (run.state, run.read, run.is_complete) == ("read", 3, True)


async def test_the_next_run_reads_changes_only(world: World, source: FakeSource) -> None:
    """Proves S1."""
    source.add("1", "2", "3")
    integration = await world.integrate()
    first = await world.poll(integration, source)
    source.contacts["2"].modified_ms = first.now_ms + 1

    await world.poll(integration, source)

    assert world.journal.ids(run_no=2) == ["2"]
    assert [end.mode for end in world.journal.ends] == [RunMode.FULL, RunMode.CHANGES]
    assert world.journal.ends[1].total_before is None


async def test_a_poll_without_changes_publishes_its_end_only(
    world: World, source: FakeSource
) -> None:
    source.add("1")
    integration = await world.integrate()
    await world.poll(integration, source)
    source.calls.clear()

    await world.poll(integration, source)

    assert world.journal.ids(run_no=2) == []
    assert world.journal.ends[1].read == 0
    assert source.calls == ["page"]


async def test_sweeps_overlap_for_indexes_that_are_late(world: World, source: FakeSource) -> None:
    source.add("1", "2")
    integration = await world.integrate()
    first = await world.poll(integration, source)
    source.contacts["1"].modified_ms = first.now_ms - 14 * 60 * 1000
    source.contacts["2"].modified_ms = first.now_ms - 16 * 60 * 1000

    await world.poll(integration, source)

    assert world.journal.ids(run_no=2) == ["1"]


async def test_an_edit_is_read_though_the_providers_clock_is_ahead(
    world: World, source: FakeSource
) -> None:
    source.add("1", "2")
    integration = await world.integrate()
    first = await world.poll(integration, source)
    source.contacts["2"].modified_ms = first.now_ms + 10 * 60 * 1000

    await world.poll(integration, source)

    assert world.journal.ids(run_no=2) == ["2"]


async def test_an_edit_is_read_though_our_clock_was_set_back(
    world: World, source: FakeSource
) -> None:
    source.add("1", "2")
    integration = await world.integrate()
    first = await world.poll(integration, source)
    source.contacts["2"].modified_ms = first.now_ms + 1
    ahead_ms = 3_600_000
    await world.execute(
        "update sync.positions set from_ms = from_ms + :ahead where stream = 'contacts'",
        ahead=ahead_ms,
    )

    await world.poll(integration, source)

    assert "2" in world.journal.ids(run_no=2)
    position = await world.row("select from_ms from sync.positions where stream = 'contacts'")
    assert position.from_ms < first.now_ms + ahead_ms


async def test_only_mapped_and_criteria_fields_are_asked_for(
    world: World, source: FakeSource
) -> None:
    source.add("1")
    criteria = {"match": "all", "conditions": [{"field": "city", "operator": "is_set"}]}
    integration = await world.integrate(criteria=criteria)

    await world.poll(integration, source)

    assert world.journal.parts[0].properties == ["city", "email", "firstname"]


@pytest.mark.parametrize(("attribute", "parts"), [("NAME", [500, 1]), ("N" * 600, [200, 200, 101])])
async def test_how_many_travel_together_is_the_mappings_to_say(
    world: World, source: FakeSource, attribute: str, parts: list[int]
) -> None:
    """Proves S1: what the mapper can not fit into a record is not put into one."""
    source.page_size = 501
    source.add(*map(str, range(501)))
    fields = [{"source": "email", "destination": attribute, "destination_type": "text"}]

    await world.poll(await world.integrate(fields=fields), source)

    assert [len(part.changes) for part in world.journal.parts] == parts


@pytest.mark.parametrize("phones_stay", [True, False])
async def test_a_page_carries_its_providers_rule_for_phones(
    world: World, source: FakeSource, *, phones_stay: bool
) -> None:
    """Proves SF6: the mapper knows no provider."""
    source.facts = replace(source.facts, phones_stay=phones_stay)
    source.add("1")

    await world.poll(await world.integrate(), source)

    assert [part.phones_stay for part in world.journal.parts] == [phones_stay]


async def test_a_new_mapping_version_that_wants_everything_is_read_in_full(
    world: World, source: FakeSource
) -> None:
    source.add("1", "2")
    integration = await world.integrate()
    await world.poll(integration, source)
    await world.map(integration, version=2)
    await world.call("sync.schedule", integration=integration, full=True)

    await world.poll(integration, source)
    await world.poll(integration, source)

    assert [end.mode for end in world.journal.ends] == [
        RunMode.FULL,
        RunMode.FULL,
        RunMode.CHANGES,
    ]
    assert [end.mapping_version for end in world.journal.ends] == [1, 2, 2]


async def test_a_mapping_that_changes_while_everything_is_read_wants_everything_again(
    world: World, source: FakeSource
) -> None:
    source.add("1", "2", "3")
    integration = await world.integrate()

    async def remap(_call: int) -> None:
        source.before = nothing
        await world.map(integration, version=2)
        await world.call("sync.schedule", integration=integration, full=True)

    source.before = remap
    await world.poll(integration, source)
    assert (await world.schedule(integration)).wanted_mode == "full"

    await world.poll(integration, source)

    assert [end.mapping_version for end in world.journal.ends] == [1, 2]
    assert (await world.schedule(integration)).wanted_mode == "changes"


async def test_a_run_asked_for_while_one_reads_is_due_when_that_ends(
    world: World, source: FakeSource
) -> None:
    source.add("1")
    integration = await world.integrate()

    async def ask(_call: int) -> None:
        await world.call("sync.request_run", integration=integration, full=False)

    source.before = ask
    await world.poll(integration, source)

    assert (await world.schedule(integration)).due_in_s <= 0


async def test_the_next_regular_run_is_an_interval_after_this_ones_start(
    world: World, source: FakeSource
) -> None:
    """Proves S1."""
    integration = await world.integrate()

    await world.poll(integration, source)

    schedule = await world.schedule(integration)
    assert 29 * 60 < schedule.due_in_s <= 30 * 60
    assert schedule.lease_owner is None


async def test_an_id_that_cannot_be_kept_is_left_out_and_counted(
    world: World, source: FakeSource
) -> None:
    source.add("1", "\x1fbad")
    integration = await world.integrate()

    await world.poll(integration, source)

    assert world.journal.ids() == ["1"]
    assert world.journal.ends[0].left_out == 1


class TestLists:
    async def test_members_are_read_and_nobody_else(self, world: World, source: FakeSource) -> None:
        """Proves W3."""
        source.add("1", "2", "3")
        source.join("8", "1", "3")
        integration = await world.integrate(list_id="8")

        first = await world.poll(integration, source)
        for contact in source.contacts.values():
            contact.modified_ms = first.now_ms + 1
        await world.poll(integration, source)

        assert world.journal.ids(run_no=1) == ["1", "3"]
        assert world.journal.ids(run_no=2) == ["1", "3"]

    async def test_an_unmoved_list_is_not_paged(self, world: World, source: FakeSource) -> None:
        source.add("1")
        source.join("8", "1")
        integration = await world.integrate(list_id="8")
        await world.poll(integration, source)
        source.calls.clear()

        await world.poll(integration, source)

        assert source.calls == ["page"]

    async def test_a_list_is_paged_once_a_day_regardless(
        self, world: World, source: FakeSource
    ) -> None:
        source.add("1")
        source.join("8", "1")
        integration = await world.integrate(list_id="8")
        await world.poll(integration, source)
        await world.execute(
            "update sync.positions set sweep = jsonb_set(sweep, '{read_at_ms}', "
            "to_jsonb((sweep->>'read_at_ms')::bigint - 86400000)) where stream = 'members'"
        )
        source.calls.clear()

        await world.poll(integration, source)

        assert source.calls == ["members", "page"]

    async def test_a_joiner_is_read_whatever_his_modification_time(
        self, world: World, source: FakeSource
    ) -> None:
        source.add("1", "2")
        source.join("8", "1")
        integration = await world.integrate(list_id="8")
        await world.poll(integration, source)
        source.join("8", "2")

        await world.poll(integration, source)

        assert world.journal.ids(Operation.UPSERT, run_no=2) == ["2"]
        assert await world.members(integration) == {"1", "2"}

    async def test_a_leaver_is_told_of_before_the_end(
        self, world: World, source: FakeSource
    ) -> None:
        source.add("1", "2", "3")
        source.join("8", "1", "2", "3")
        integration = await world.integrate(list_id="8")
        await world.poll(integration, source)
        source.leave("8", "2")

        await world.poll(integration, source)

        assert world.journal.ids(Operation.LEAVE, run_no=2) == ["2"]
        assert world.journal.events[-1] is world.journal.ends[1]
        assert world.journal.ends[1].read == 1
        assert await world.members(integration) == {"1", "3"}

    async def test_who_comes_back_unedited_is_a_joiner_with_a_newer_run(
        self, world: World, source: FakeSource
    ) -> None:
        source.add("1", "2")
        source.join("8", "1", "2")
        integration = await world.integrate(list_id="8")
        await world.poll(integration, source)
        source.leave("8", "2")
        await world.poll(integration, source)
        source.join("8", "2")

        await world.poll(integration, source)

        assert world.journal.ids(Operation.LEAVE, run_no=2) == ["2"]
        assert world.journal.ids(Operation.UPSERT, run_no=3) == ["2"]

    async def test_a_leaver_is_found_by_a_full_run_too(
        self, world: World, source: FakeSource
    ) -> None:
        source.add("1", "2")
        source.join("8", "1", "2")
        integration = await world.integrate(list_id="8")
        await world.poll(integration, source)
        source.leave("8", "2")
        await world.call("sync.request_run", integration=integration, full=True)

        await world.poll(integration, source)

        assert world.journal.ids(Operation.UPSERT, run_no=2) == ["1"]
        assert world.journal.ids(Operation.LEAVE, run_no=2) == ["2"]

    async def test_a_joiner_whose_poller_dies_and_who_leaves_is_told_of(
        self, world: World, source: FakeSource
    ) -> None:
        """Fault 1. Proves X2: PROTOCOL 12, a joiner whose poller dies, then leaves."""
        source.add("1", "2")
        source.join("8", "1")
        integration = await world.integrate(list_id="8")
        await world.poll(integration, source)
        source.join("8", "2")
        dying = await world.claim_one(integration)
        run = world.run(dying, source)
        with pytest.raises(KilledError):
            await killed_when(run, lambda: "2" in world.journal.ids())
        source.leave("8", "2")
        await world.lapse(integration)

        [assignment] = await world.claim()
        await world.run(assignment, source).poll()

        assert world.journal.ids(Operation.UPSERT) == ["1", "2"]
        assert world.journal.ids(Operation.LEAVE) == ["2"]
        assert await world.members(integration) == {"1"}

    async def test_a_joiner_stored_by_a_run_that_died_is_read_by_the_next(
        self, world: World, source: FakeSource
    ) -> None:
        """Proves X2."""
        source.add("1", "2")
        source.join("8", "1")
        integration = await world.integrate(list_id="8")
        await world.poll(integration, source)
        source.join("8", "2")
        dying = await world.claim_one(integration)
        run = world.run(dying, source)
        with pytest.raises(KilledError):
            await killed_when(run, lambda: True, after_member="2")
        assert await world.members(integration) == {"1", "2"}
        assert world.journal.ids() == ["1"]
        await world.lapse(integration)

        [assignment] = await world.claim()
        await world.run(assignment, source).poll()

        assert world.journal.ids(Operation.UPSERT) == ["1", "2"]


class TestDeletions:
    async def test_a_deleted_contact_is_found_by_the_daily_look(
        self, world: World, source: FakeSource
    ) -> None:
        source.add("1", "2", "3")
        integration = await world.integrate()
        await world.poll(integration, source)
        source.delete("2")
        await world.poll(integration, source)
        assert world.journal.ids(Operation.DELETE) == []
        await _yesterday(world)

        await world.poll(integration, source)

        assert world.journal.ids(Operation.DELETE) == ["2"]
        assert await world.members(integration) == {"1", "3"}

    async def test_a_restored_contact_is_read_again_unedited(
        self, world: World, source: FakeSource
    ) -> None:
        source.add("1", "2")
        integration = await world.integrate()
        await world.poll(integration, source)
        source.delete("2")
        await _yesterday(world)
        await world.poll(integration, source)
        source.add("2")
        await _yesterday(world)

        await world.poll(integration, source)

        assert world.journal.ids(Operation.UPSERT, run_no=3) == ["2"]

    async def test_a_merge_names_who_was_merged_and_deletes_nobody_in_the_same_run(
        self, world: World, source: FakeSource
    ) -> None:
        source.add("1", "2", "3")
        integration = await world.integrate()
        first = await world.poll(integration, source)
        source.merge("4", "1", "2", modified_ms=first.now_ms + 1)
        await _yesterday(world)

        await world.poll(integration, source)
        await _yesterday(world)
        source.contacts["4"].modified_ms = LONG_AGO_MS
        await world.poll(integration, source)

        upserts = list(world.journal.changes(Operation.UPSERT, run_no=2))
        assert {change.id for change in upserts} == {"4"}
        assert upserts[0].merged_from == ["1", "2"]
        assert world.journal.ids(Operation.DELETE, run_no=2) == []
        # The survivor has taken them over by now; had he been rejected, they would be gone.
        assert world.journal.ids(Operation.DELETE, run_no=3) == ["1", "2"]

    async def test_a_full_run_deletes_nobody_who_was_merged(
        self, world: World, source: FakeSource
    ) -> None:
        source.add("1", "2", "3")
        integration = await world.integrate()
        first = await world.poll(integration, source)
        source.merge("4", "1", "2", modified_ms=first.now_ms + 1)
        await world.call("sync.request_run", integration=integration, full=True)

        await world.poll(integration, source)

        assert world.journal.ids(Operation.DELETE) == []

    async def test_a_member_that_comes_back_under_another_id_is_followed(
        self, world: World, source: FakeSource
    ) -> None:
        source.add("1", "2", "3")
        source.join("8", "1", "2", "3")
        integration = await world.integrate(list_id="8")
        first = await world.poll(integration, source)
        source.merge("4", "1", "2", modified_ms=first.now_ms + 1)

        await world.poll(integration, source)

        assert world.journal.ids(Operation.UPSERT, run_no=2) == ["4"]
        assert "4" in await world.members(integration)


class TestGuard:
    async def test_many_deletions_wait_for_a_persons_word(
        self, world: World, source: FakeSource
    ) -> None:
        integration = await _with_gone(world, source, everyone=100, gone=30)

        await world.poll(integration, source)

        run = await world.newest_run(integration)
        assert world.journal.ids(Operation.DELETE) == []
        assert run.withheld == 30
        assert len(await world.members(integration)) == 100
        [told] = await world.told()
        assert (told.kind, told.run) == (IntegrationKind.NEEDS_CONFIRMATION, run.run_id)

    async def test_nobody_is_asked_twice(self, world: World, source: FakeSource) -> None:
        integration = await _with_gone(world, source, everyone=100, gone=30)
        await world.poll(integration, source)
        asking = await world.newest_run(integration)
        await _yesterday(world)

        await world.poll(integration, source)

        assert len(await world.told()) == 1
        assert await world.call("sync.confirm_deletions", run=asking.run_id) == 30

    async def test_a_few_more_are_published_while_a_question_stands(
        self, world: World, source: FakeSource
    ) -> None:
        integration = await _with_gone(world, source, everyone=100, gone=30)
        await world.poll(integration, source)
        source.delete("c090")
        await _yesterday(world)

        await world.poll(integration, source)

        assert world.journal.ids(Operation.DELETE) == ["c090"]

    async def test_confirmed_deletions_are_published_with_the_next_claim(
        self, world: World, source: FakeSource
    ) -> None:
        integration = await _with_gone(world, source, everyone=100, gone=30)
        await world.poll(integration, source)
        run = await world.newest_run(integration)

        confirmed = await world.call("sync.confirm_deletions", run=run.run_id)
        assert (await world.schedule(integration)).due_in_s <= 0
        [assignment] = await world.claim()
        await world.run(assignment, source).poll()
        await world.poll(integration, source)

        assert confirmed == 30
        assert len(world.journal.ids(Operation.DELETE, run_no=3)) == 30
        assert world.journal.ids(Operation.DELETE, run_no=4) == []
        assert len(await world.members(integration)) == 70

    async def test_who_came_back_before_the_word_is_not_deleted(
        self, world: World, source: FakeSource
    ) -> None:
        integration = await _with_gone(world, source, everyone=100, gone=30)
        await world.poll(integration, source)
        run = await world.newest_run(integration)
        source.add("c000")

        await world.call("sync.confirm_deletions", run=run.run_id)
        await world.poll(integration, source)

        assert "c000" not in world.journal.ids(Operation.DELETE)
        assert len(world.journal.ids(Operation.DELETE)) == 29

    async def test_a_question_lapses_with_the_next_full_read(
        self, world: World, source: FakeSource
    ) -> None:
        integration = await _with_gone(world, source, everyone=100, gone=30)
        await world.poll(integration, source)
        asking = await world.newest_run(integration)
        source.add(*(f"c{number:03}" for number in range(30)))
        await world.call("sync.request_run", integration=integration, full=True)

        await world.poll(integration, source)

        assert await world.call("sync.confirm_deletions", run=asking.run_id) == 0
        assert await world.rows("select * from sync.withheld") == []
        assert world.journal.ids(Operation.DELETE) == []

    async def test_an_incomplete_full_read_deletes_nobody(
        self, world: World, source: FakeSource
    ) -> None:
        source.add("1", "2", "3")
        integration = await world.integrate()
        await world.poll(integration, source)
        source.delete("2")
        source.total = 3
        await world.call("sync.request_run", integration=integration, full=True)

        await world.poll(integration, source)

        assert world.journal.ids(Operation.DELETE) == []
        assert world.journal.ends[1].complete is False
        assert (await world.newest_run(integration)).withheld == 1

    async def test_a_source_that_does_not_count_is_believed(
        self, world: World, source: FakeSource
    ) -> None:
        source.counts = False
        source.add("1", "2")
        integration = await world.integrate()
        await world.poll(integration, source)
        source.delete("2")
        await world.call("sync.request_run", integration=integration, full=True)

        await world.poll(integration, source)

        assert world.journal.ids(Operation.DELETE) == ["2"]
        assert world.journal.ends[1].total_after is None


class TestGoingOn:
    async def test_a_run_whose_poller_died_is_gone_on_with(
        self, world: World, source: FakeSource
    ) -> None:
        """Fault 2. Proves X2."""
        source.add(*(f"c{number:03}" for number in range(100)))
        integration = await world.integrate()
        dying = await world.claim_one(integration)
        with pytest.raises(KilledError):
            await killed_when(world.run(dying, source), lambda: len(world.journal.parts) > 25)
        before = await world.newest_run(integration)
        source.calls.clear()
        await world.lapse(integration)

        [assignment] = await world.claim()
        await world.run(assignment, source).poll()

        after = await world.newest_run(integration)
        assert (after.run_no, after.state) == (1, "read")
        assert after.fencing > before.fencing
        assert 0 < before.read < 100
        assert 0 < len(source.calls) < 50
        assert set(world.journal.ids()) == set(source.contacts)
        # Pages that were read twice have the same numbers: they are told of once.
        assert len({(part.page, part.part) for part in world.journal.parts}) == 50
        assert (world.journal.ends[0].parts, world.journal.ends[0].read) == (50, 100)

    async def test_who_joins_or_leaves_before_a_run_is_gone_on_with_is_found_next(
        self, world: World, source: FakeSource
    ) -> None:
        ids = [f"c{number:03}" for number in range(100)]
        source.add("a", *ids)
        source.join("8", *ids)
        integration = await world.integrate(list_id="8")
        dying = await world.claim_one(integration)
        with pytest.raises(KilledError):
            await killed_when(world.run(dying, source), lambda: len(world.journal.parts) > 25)
        source.join("8", "a")  # Both lie behind the page that is gone on with.
        source.leave("8", "c000")
        await world.lapse(integration)
        [assignment] = await world.claim()
        await world.run(assignment, source).poll()
        assert world.journal.ids(run_no=1)[0] == "c000"

        await world.poll(integration, source)

        assert world.journal.ids(Operation.UPSERT, run_no=2) == ["a"]
        assert world.journal.ids(Operation.LEAVE, run_no=2) == ["c000"]

    async def test_a_position_is_stored_only_after_the_acknowledgement(
        self, world: World, source: FakeSource
    ) -> None:
        """Fault 3. Proves X2."""
        source.add(*(f"c{number:03}" for number in range(100)))
        integration = await world.integrate()
        assignment = await world.claim_one(integration)
        world.journal.is_down = True

        with pytest.raises(UnavailableError):
            await world.run(assignment, source).poll()

        run = await world.newest_run(integration)
        position = await world.row("select sweep from sync.positions where stream = 'contacts'")
        assert run.read == 0
        assert position.sweep["cursor"] is None

    async def test_without_resumable_paging_a_new_run_begins(self, world: World) -> None:
        source = FakeSource(resumable=False)
        source.add("1", "2", "3", "4", "5")
        integration = await world.integrate()
        dying = await world.claim_one(integration)
        with pytest.raises(KilledError):
            await killed_when(world.run(dying, source), lambda: bool(world.journal.parts))
        await world.lapse(integration)

        [assignment] = await world.claim()
        await world.run(assignment, source).poll()

        runs = await world.rows("select run_no, state from sync.runs order by run_no")
        assert [tuple(run) for run in runs] == [(1, "abandoned"), (2, "read")]
        assert world.journal.ids(run_no=2) == ["1", "2", "3", "4", "5"]

    async def test_a_stale_poller_changes_nothing(self, world: World, source: FakeSource) -> None:
        """Fault 16. Proves X2: a stale poller's page comes after another has the lease."""
        source.add(*(f"c{number:03}" for number in range(100)))
        integration = await world.integrate()
        stale = await world.claim_one(integration)
        taken_over: list[Assignment] = []

        async def evict(call: int) -> None:
            if call == 15:
                await world.lapse(integration)
                taken_over.extend(await world.claim())

        source.before = evict
        with pytest.raises(LeaseLostError):
            await world.run(stale, source).poll()
        assert world.journal.ends == []
        await world.run(taken_over[0], source).poll()

        run = await world.newest_run(integration)
        assert (run.state, run.fencing) == ("read", taken_over[0].fencing)
        assert set(world.journal.ids()) == set(source.contacts)

    async def test_the_lease_is_checked_just_before_the_end_is_told(
        self, world: World, source: FakeSource
    ) -> None:
        """Proves X2: a new claim while the old run's end is still to come."""
        source.add("1")
        integration = await world.integrate()
        stale = await world.claim_one(integration)
        run = world.run(stale, source)
        counted = source.count

        async def evict_at_the_end(sweep: Sweep) -> int | None:
            if world.journal.parts:
                await world.lapse(integration)
                await world.claim()
            return await counted(sweep)

        source.count = evict_at_the_end  # type: ignore[method-assign]  # one moment of one run

        with pytest.raises(LeaseLostError):
            await run.poll()

        assert world.journal.ends == []

    async def test_leavers_told_again_after_a_death_are_another_record(
        self, world: World, source: FakeSource
    ) -> None:
        """Proves X2: the writer drops the first telling by its token, and must not know its id.

        Told under one id, the outcome stored for the first (superseded) would be told again for
        the second, and the leaver be lost.
        """
        source.add("1", "2")
        source.join("8", "1", "2")
        integration = await world.integrate(list_id="8")
        await world.poll(integration, source)
        source.leave("8", "2")
        dying = await world.claim_one(integration)
        with pytest.raises(KilledError):
            await killed_at_the_end(world.run(dying, source))
        await world.lapse(integration)

        [again] = await world.claim()
        await world.run(again, source).poll()

        first, second = (part for part in world.journal.parts if part.run_no == 2)
        assert (first.changes, first.page, first.part) == (second.changes, second.page, second.part)
        assert (first.fencing, second.fencing) == (dying.fencing, again.fencing)
        assert first.id != second.id
        assert second.fencing == (await world.newest_run(integration)).fencing
        assert "2" not in await world.members(integration)

    async def test_who_is_back_when_his_leave_was_told_already_is_read_by_the_next_run(
        self, world: World, source: FakeSource
    ) -> None:
        """Proves X2: the leave is as new as anything this run can say; only a newer one counts."""
        source.add("1", "2")
        source.join("8", "1", "2")
        integration = await world.integrate(list_id="8")
        await world.poll(integration, source)
        source.leave("8", "2")
        dying = await world.claim_one(integration)
        with pytest.raises(KilledError):
            await killed_at_the_end(world.run(dying, source))
        await world.lapse(integration)
        source.join("8", "2")
        [again] = await world.claim()
        await world.run(again, source).poll()

        await world.poll(integration, source)

        assert world.journal.ids(Operation.LEAVE, run_no=2) == ["2"]
        assert world.journal.ids(Operation.UPSERT, run_no=3) == ["2"]
        await world.poll(integration, source)
        assert world.journal.ids(run_no=4) == []

    async def test_a_later_claim_leaves_the_token_of_a_run_that_was_read(
        self, world: World, source: FakeSource
    ) -> None:
        """Proves X2: a new claim while the writer still has the old run's end to read."""
        source.add("1")
        integration = await world.integrate()
        first = await world.poll(integration, source)

        await world.poll(integration, source)

        run = await world.row("select fencing, state from sync.runs where run_no = 1")
        assert (run.fencing, run.state) == (first.fencing, "read")
        assert world.journal.ends[0].fencing == first.fencing

    async def test_a_cancelled_run_stops(self, world: World, source: FakeSource) -> None:
        source.add(*(f"c{number:03}" for number in range(100)))
        integration = await world.integrate()
        assignment = await world.claim_one(integration)

        async def cancel(call: int) -> None:
            if call == 15:
                run = await world.newest_run(integration)
                assert await world.call("sync.cancel_run", run=run.run_id)

        source.before = cancel
        with pytest.raises(RunStoppedError) as stopped:
            await world.run(assignment, source).poll()

        assert stopped.value.reason is Stop.CANCELLED
        assert world.journal.ends == []

    async def test_reading_stops_when_the_quota_is_used_up_and_goes_on_later(
        self, world: World, source: FakeSource
    ) -> None:
        """Proves Q3 and Q5: a poller stops at a page it can go on from."""
        source.add(*(f"c{number:03}" for number in range(100)))
        integration = await world.integrate()
        assignment = await world.claim_one(integration)

        async def use_up(call: int) -> None:
            if call == 15:
                await world.call("ledger.set_limit", workspace=world.workspace, limit=0)

        source.before = use_up
        with pytest.raises(RunStoppedError) as stopped:
            await world.run(assignment, source).poll()
        assert stopped.value.reason is Stop.QUOTA
        await world.lapse(integration)
        assert await world.claim() == []
        await world.call("ledger.set_limit", workspace=world.workspace, limit=100)
        source.before = nothing

        [again] = await world.claim()
        await world.run(again, source).poll()

        assert (await world.newest_run(integration)).run_no == 1
        assert set(world.journal.ids()) == set(source.contacts)


async def _yesterday(world: World) -> None:
    """Let a day go by since the members were last read."""
    await world.execute(
        "update sync.positions set sweep = jsonb_set(sweep, '{read_at_ms}', "
        "to_jsonb((sweep->>'read_at_ms')::bigint - 86400000)) where stream = 'members'"
    )


async def _with_gone(world: World, source: FakeSource, *, everyone: int, gone: int) -> UUID:
    """Return an integration that was read, and of whose contacts some are gone since."""
    source.page_size = 50
    source.add(*(f"c{number:03}" for number in range(everyone)))
    integration = await world.integrate()
    await world.poll(integration, source)
    source.delete(*(f"c{number:03}" for number in range(gone)))
    await _yesterday(world)
    return integration
