"""A poller process's loop: who is claimed, and what becomes of errors, stops and lost leases."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from uuid import UUID

import pytest

from libs.common.errors import (
    MisconfiguredError,
    NeedsReauthError,
    RateLimitedError,
    RequestRefusedError,
    SyncError,
    UnavailableError,
)
from libs.common.events import IntegrationKind
from libs.common.secrets import Sealed
from services.poller import attend as attend_module
from services.poller import store
from services.poller.attend import Attendant
from services.poller.plan import begin
from services.poller.poll import Stop
from services.poller.run_store import DatabaseRunStore
from tests.services.poller.fakes import FakeSource, nothing
from tests.services.poller.world import World

EVENTUALLY_S = 60.0

# Of one integration's row in a table, 899 more, the same for each number in all of them.
_COPY = """
    insert into {table}
    select c.* from {table} o, generate_series(1, 899) n,
      jsonb_populate_record(o, jsonb_build_object('integration_id', md5(n::text)::uuid)) c
    where o.integration_id = :first
"""


def failing(error: SyncError) -> FakeSource:
    """Return a source whose every read fails alike."""

    async def fail(_call: int) -> None:
        raise error

    source = FakeSource()
    source.add("1")
    source.before = fail
    return source


async def attend(attendant: Attendant) -> None:
    """Claim once, and wait for what was started."""
    await attendant.claim()
    await asyncio.gather(*attendant._running.values())
    attendant._raise_bugs()


@asynccontextmanager
async def running(attendant: Attendant) -> AsyncIterator[asyncio.Event]:
    stop = asyncio.Event()
    task = asyncio.create_task(attendant.run(stop))
    try:
        yield stop
    finally:
        stop.set()
        async with asyncio.timeout(EVENTUALLY_S):
            await task


async def eventually(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(EVENTUALLY_S):
        while not happened():  # noqa: ASYNC110  # what happens knows of no event
            await asyncio.sleep(0.01)


class TestClaims:
    async def test_the_longest_due_come_first(self, world: World) -> None:
        integrations = [await world.integrate() for _ in range(3)]
        for minutes, integration in enumerate(integrations):
            await world.execute(
                "update sync.schedules set next_due_at = clock_timestamp() "
                "- make_interval(mins => :minutes) where integration_id = :integration",
                minutes=minutes,
                integration=integration,
            )

        claimed = await world.claim(limit=2)

        assert {assignment.integration for assignment in claimed} == set(integrations[1:])

    async def test_a_claim_brings_the_credentials_along(self, world: World) -> None:
        """As they are stored, so that a run asks for nothing before its first call."""
        await world.integrate()
        await world.execute(
            """update config.connections set sealed_access_token = 'a', sealed_refresh_token = 'r',
            sealed_api_key = 'k', token_expires_at = '2026-12-01Z', token_version = 7,
            client_id = 'own', sealed_client_secret = 's'"""
        )

        [claimed] = await world.claim()

        ends = datetime(2026, 12, 1, tzinfo=UTC)
        assert claimed.source.sealed == Sealed("hubspot", "a", "r", "k", ends, 7, "own", "s")

    async def test_a_claim_is_another_pollers_until_it_lapses(self, world: World) -> None:
        integration = await world.integrate()

        first, again = await world.claim(), await world.claim()
        await world.lapse(integration)
        later = await world.claim()

        assert [len(first), len(again), len(later)] == [1, 0, 1]
        assert later[0].fencing == first[0].fencing + 1

    async def test_pollers_that_claim_at_once_share_nothing(self, world: World) -> None:
        integrations = {await world.integrate() for _ in range(12)}

        claims = await asyncio.gather(*(world.claim(limit=5) for _ in range(4)))

        claimed = [assignment.integration for claim in claims for assignment in claim]
        assert len(claimed) == len(set(claimed))
        assert set(claimed) <= integrations

    @pytest.mark.parametrize(
        "trouble",
        [
            "update sync.schedules set is_active = false",
            "update sync.schedules set next_due_at = clock_timestamp() + interval '1 minute'",
            "update sync.schedules set provider = 'salesforce'",
            "update config.connections set state = 'needs_reauth'",
            "update config.integrations set state = 'paused'",
            "update config.integrations set state = 'error', error_reason = 'attribute_missing'",
            "select ledger.set_limit(:workspace, 0)",
            """insert into sync.runs (run_id, integration_id, workspace_id, run_no, mode,
                 mapping_version, fencing, state, read)
               select gen_random_uuid(), integration_id, workspace_id, 1, 'full', 1, 1, 'read',
                 50001 from sync.schedules""",
        ],
    )
    async def test_who_must_not_be_read_is_left_alone(self, world: World, trouble: str) -> None:
        """Proves Q3 and S1."""
        await world.integrate()

        await world.execute(trouble)

        assert await world.claim() == []

    async def test_who_waited_for_the_quota_goes_before_what_is_read_anew(
        self, world: World
    ) -> None:
        """Proves Q5: an integration is read on once its parked contacts have left."""
        waiting, other = await world.integrate(), await world.integrate()
        await world.park(waiting, "quota")
        await world.park(other, "destination_down")

        while_it_waits = await world.claim()
        await world.execute("delete from delivery.parked where reason = 'quota'")
        afterwards = await world.claim()

        assert [assignment.integration for assignment in while_it_waits] == [other]
        assert [assignment.integration for assignment in afterwards] == [waiting]

    async def test_a_trouble_of_the_source_is_looked_at_whoever_waits(self, world: World) -> None:
        """Nobody leaves while it is in error, so it would wait for them for ever."""
        integration = await world.integrate()
        await world.park(integration, "quota")

        await world.execute(
            "update config.integrations set state = 'error', error_reason = 'source_list_missing'"
        )

        [assignment] = await world.claim()
        assert assignment.integration == integration

    async def test_a_trouble_of_the_source_is_looked_at_again(self, world: World) -> None:
        await world.integrate()

        await world.execute(
            "update config.integrations set state = 'error', error_reason = 'source_list_missing'"
        )

        [assignment] = await world.claim()
        assert assignment.reported_reason == "source_list_missing"


class TestTurns:
    """Hundreds of one workspace are due, and the one of another (Q5)."""

    @pytest.fixture
    async def crowd(self, world: World) -> list[UUID]:
        """Return the neighbour's only integration, due last, behind 900 of a large workspace."""
        first = await world.integrate()
        for table in ("config.integrations", "config.field_mappings", "sync.schedules"):
            await world.execute(_COPY.format(table=table), first=first)
        await world.execute(
            "update sync.schedules set next_due_at = clock_timestamp() - interval '1 hour'"
        )
        neighbour = await world.integrate()
        await world.execute(
            "update sync.schedules set workspace_id = gen_random_uuid() "
            "where integration_id = :neighbour",
            neighbour=neighbour,
        )
        return [neighbour]

    async def test_a_workspace_does_not_wait_for_anothers_hundreds(
        self, world: World, crowd: list[UUID]
    ) -> None:
        """Proves Q5 and S1: the neighbour is read with the first of them, however late it is."""
        claimed = await world.claim(limit=2)

        assert len(claimed) == 2
        assert crowd[0] in {assignment.integration for assignment in claimed}

    async def test_who_is_read_already_counts_as_a_turn(
        self, world: World, crowd: list[UUID]
    ) -> None:
        """Places get free one by one: each goes to the workspace that has the fewest."""
        await world.execute(
            "update sync.schedules set next_due_at = clock_timestamp() + interval '1 hour' "
            "where integration_id = :neighbour",
            neighbour=crowd[0],
        )
        taken = await world.claim(limit=50)
        await world.make_due(crowd[0])

        [next_one] = await world.claim(limit=1)
        rest = await world.claim(limit=1000)

        assert len(taken) == 50
        assert next_one.integration == crowd[0]
        assert len(rest) == 850

    async def test_a_stopped_workspaces_hundreds_are_passed_over(
        self, world: World, crowd: list[UUID]
    ) -> None:
        await world.execute("select ledger.set_limit(:workspace, 0)")

        claimed = await world.claim(limit=50)

        assert [assignment.integration for assignment in claimed] == crowd


class TestRunsAskedFor:
    """The API announced a run: one that began before, with a window that ended, is not it."""

    @pytest.fixture
    def long(self) -> FakeSource:
        source = FakeSource()
        source.add(*(f"c{number:03}" for number in range(60)))
        return source

    async def test_while_its_poller_is_dead_is_due_after_the_dead_ones(
        self, world: World, source: FakeSource
    ) -> None:
        integration = await world.integrate()
        await world.run(await world.claim_one(integration), source)._begin()
        await world.lapse(integration)
        await ask(world, integration)

        await attend(world.attendant(source))

        assert await run_states(world) == [(1, "read")]
        assert (await world.schedule(integration)).due_in_s <= 0

    async def test_while_the_quota_stops_a_run_is_due_after_the_rest_of_it(
        self, world: World, long: FakeSource
    ) -> None:
        """Proves Q5."""
        integration = await begin_and_use_up_the_quota(world, long)
        await ask(world, integration)

        await attend(world.attendant(long))

        assert await run_states(world) == [(1, "read")]
        assert (await world.schedule(integration)).due_in_s <= 0

    async def test_while_a_run_is_put_off_hastens_it_and_is_due_after_the_rest(
        self, world: World, long: FakeSource
    ) -> None:
        integration = await world.integrate()
        limited = RateLimitedError("api", 3_600.0)

        async def limit(call: int) -> None:
            if call == 15:
                raise limited

        long.before = limit
        await attend(world.attendant(long))
        long.before = nothing
        await ask(world, integration)

        await attend(world.attendant(long))

        assert await run_states(world) == [(1, "read")]
        assert (await world.schedule(integration)).due_in_s <= 0

    async def test_a_run_that_was_put_off_moves_no_time(
        self, world: World, long: FakeSource
    ) -> None:
        """Proves S1: the next run begins an interval after this one began, not twice in a row."""
        integration = await begin_and_use_up_the_quota(world, long)

        await attend(world.attendant(long))

        assert await run_states(world) == [(1, "read")]
        assert 29 * 60 < (await world.schedule(integration)).due_in_s <= 30 * 60

    async def test_between_a_claim_and_its_run_is_due_after_it(
        self, world: World, source: FakeSource
    ) -> None:
        integration = await world.integrate()
        assignment = await world.claim_one(integration)
        await ask(world, integration)

        await world.run(assignment, source).poll()

        assert (await world.schedule(integration)).due_in_s <= 0

    async def test_before_a_run_begins_is_that_run(self, world: World, source: FakeSource) -> None:
        integration = await world.integrate()
        await ask(world, integration)

        await attend(world.attendant(source))

        assert 29 * 60 < (await world.schedule(integration)).due_in_s <= 30 * 60

    async def test_a_full_run_asked_for_while_one_is_read_is_not_that_one(
        self, world: World, source: FakeSource
    ) -> None:
        source.add("1", "2", "3", "4")
        integration = await world.integrate()

        async def ask_meanwhile(call: int) -> None:
            if call == 2:
                await world.call("sync.request_run", integration=integration, full=True)

        source.before = ask_meanwhile
        await attend(world.attendant(source))
        source.before = nothing
        await attend(world.attendant(source))

        runs = await world.rows("select run_no, mode, state from sync.runs order by run_no")
        assert [tuple(run) for run in runs] == [(1, "full", "read"), (2, "full", "read")]
        assert (await world.schedule(integration)).wanted_mode == "changes"


async def begin_and_use_up_the_quota(world: World, source: FakeSource) -> UUID:
    """Return an integration whose first run stopped for want of quota; there is some again."""
    integration = await world.integrate()

    async def use_up(call: int) -> None:
        if call == 15:
            await world.execute("select ledger.set_limit(:workspace, 0)")

    source.before = use_up
    await attend(world.attendant(source))
    source.before = nothing
    await world.execute("select ledger.set_limit(:workspace, 100)")
    return integration


async def ask(world: World, integration: UUID) -> None:
    assert await world.call("sync.request_run", integration=integration, full=False)


async def run_states(world: World) -> list[tuple[int, str]]:
    rows = await world.rows("select run_no, state from sync.runs order by run_no")
    return [(row.run_no, row.state) for row in rows]


class TestSetbacks:
    async def test_a_limit_puts_the_integration_off_as_long_as_it_says(self, world: World) -> None:
        """Proves S10."""
        integration = await world.integrate()

        await attend(world.attendant(failing(RateLimitedError("api", 3_600.0))))

        schedule = await world.schedule(integration)
        assert 3_590 < schedule.due_in_s < 3_602
        assert (schedule.failures, schedule.lease_owner) == (0, None)

    async def test_an_outage_is_waited_for_longer_each_time(self, world: World) -> None:
        integration = await world.integrate()
        delays = []

        for _ in range(3):
            await attend(world.attendant(failing(UnavailableError("host", "HTTP 503"))))
            delays.append((await world.schedule(integration)).due_in_s)
            await world.make_due(integration)

        assert [round(delay / 5) for delay in delays] == [1, 2, 4]
        assert (await world.newest_run(integration)).error_code == "source_down"

    async def test_a_broker_that_is_away_puts_off_as_a_source_does(
        self, world: World, source: FakeSource
    ) -> None:
        source.add("1")
        integration = await world.integrate()
        world.journal.is_down = True

        await attend(world.attendant(source))
        world.journal.is_down = False
        await world.make_due(integration)
        await attend(world.attendant(source))

        assert world.journal.ids() == ["1"]
        assert (await world.schedule(integration)).failures == 0

    async def test_the_third_refused_credential_says_so(self, world: World) -> None:
        """Fault 45."""
        integration = await world.integrate()

        for _ in range(3):
            await attend(world.attendant(failing(NeedsReauthError("host", "invalid_grant"))))
            await world.make_due(integration)

        [told] = await world.told()
        connection = await world.row("select state, reason from config.connections")
        assert told.kind is IntegrationKind.NEEDS_REAUTH
        assert tuple(connection) == ("needs_reauth", "invalid_grant")
        assert await world.claim() == []

    async def test_a_credential_that_works_again_is_forgiven(
        self, world: World, source: FakeSource
    ) -> None:
        integration = await world.integrate()
        await attend(world.attendant(NeedsReauthError("host", "invalid_grant")))
        await world.make_due(integration)

        await attend(world.attendant(source))

        assert (await world.row("select failed_checks from config.connections"))[0] == 0

    async def test_a_list_that_is_gone_needs_a_person_and_is_told_once(
        self, world: World, source: FakeSource
    ) -> None:
        integration = await world.integrate(list_id="8")

        for _ in range(2):
            await attend(world.attendant(source))
            await world.make_due(integration)

        [told] = await world.told()
        row = await world.row("select state, error_reason from config.integrations")
        assert (told.kind, told.reason) == (IntegrationKind.ERROR, "source_list_missing")
        assert tuple(row) == ("error", "source_list_missing")

    async def test_a_list_that_is_back_ends_the_trouble(
        self, world: World, source: FakeSource
    ) -> None:
        integration = await world.integrate(list_id="8")
        await attend(world.attendant(source))
        source.add("1")
        source.join("8", "1")
        await world.make_due(integration)

        await attend(world.attendant(source))

        assert [told.kind for told in await world.told()] == [
            IntegrationKind.ERROR,
            IntegrationKind.RECOVERED,
        ]
        assert (await world.row("select state from config.integrations"))[0] == "active"
        assert world.journal.ids() == ["1"]

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (MisconfiguredError("host", "scope_missing"), "source_scope_missing"),
            (RequestRefusedError("host", 400, "VALIDATION_ERROR"), "source_request_refused"),
        ],
    )
    async def test_what_only_a_person_can_mend_is_reported(
        self, world: World, error: SyncError, reason: str
    ) -> None:
        """Proves X1."""
        integration = await world.integrate()

        await attend(world.attendant(failing(error)))

        run = await world.newest_run(integration)
        assert (await world.row("select error_reason from config.integrations"))[0] == reason
        assert (run.state, f"source_{run.error_code}") == ("failed", reason)

    async def test_an_error_of_a_run_that_lost_its_lease_says_nothing(self, world: World) -> None:
        integration = await world.integrate()
        source = failing(UnavailableError("host", "HTTP 503"))
        fail = source.before

        async def evict(call: int) -> None:
            await world.lapse(integration)
            await world.claim()
            await fail(call)

        source.before = evict

        await attend(world.attendant(source))

        schedule = await world.schedule(integration)
        assert schedule.failures == 0
        assert schedule.lease_owner is not None


class TestLoop:
    async def test_due_integrations_are_read_until_told_to_stop(
        self, world: World, source: FakeSource
    ) -> None:
        source.add("1", "2")
        for _ in range(3):
            await world.integrate()
        attendant = world.attendant(source)
        assert not attendant.is_ready()

        async with running(attendant):
            await eventually(lambda: len(world.journal.ends) == 3)
            assert attendant.is_ready()
            assert attendant.is_alive()

        assert (
            await world.rows("select fencing from sync.schedules where lease_owner is not null")
            == []
        )

    async def test_no_more_than_the_bound_are_read_at_once(
        self, world: World, source: FakeSource
    ) -> None:
        source.add("1")
        for _ in range(5):
            await world.integrate()
        attendant = world.attendant(source, in_flight_max=2)
        at_once: list[int] = []

        async def count(_call: int) -> None:
            at_once.append(len(attendant._running))

        source.before = count
        async with running(attendant):
            await eventually(lambda: len(world.journal.ends) == 5)

        assert max(at_once) == 2

    async def test_a_long_run_delays_nobody(self, world: World) -> None:
        slow, quick = FakeSource(), FakeSource()
        slow.add("1")
        released = asyncio.Event()

        async def wait(_call: int) -> None:
            await released.wait()

        slow.before = wait
        await world.integrate()
        first = world.attendant(slow, in_flight_max=1)
        async with running(first):
            await eventually(lambda: bool(slow.calls))
            await world.integrate()
            second = world.attendant(quick)
            async with running(second):
                await eventually(lambda: len(world.journal.ends) == 1)
            released.set()
            await eventually(lambda: len(world.journal.ends) == 2)

    async def test_leases_of_long_runs_are_renewed(self, world: World, source: FakeSource) -> None:
        source.add("1")
        integration = await world.integrate()
        attendant = world.attendant(source, lease_s=4.0)
        before = []

        async def wait_for_renewal(_call: int) -> None:
            before.append((await world.schedule(integration)).lease_until)
            async with asyncio.timeout(EVENTUALLY_S):
                until = before[0]
                while until == before[0]:
                    await asyncio.sleep(0.01)
                    until = (await world.schedule(integration)).lease_until
            source.before = nothing

        source.before = wait_for_renewal
        async with running(attendant):
            await eventually(lambda: len(world.journal.ends) == 1)

    async def test_a_run_whose_lease_is_somebody_elses_is_cancelled(
        self, world: World, source: FakeSource
    ) -> None:
        source.add("1")
        integration = await world.integrate()
        attendant = world.attendant(source)

        async def hang(_call: int) -> None:
            await asyncio.Event().wait()

        source.before = hang
        await attendant.claim()
        await eventually(lambda: bool(source.calls))
        await world.lapse(integration)
        [taken] = await world.claim()

        await attendant.renew()
        [task] = attendant._running.values()
        await asyncio.wait({task})
        attendant._raise_bugs()

        assert task.cancelled()
        assert (await world.schedule(integration)).fencing == taken.fencing

    async def test_stopping_gives_back_what_cannot_end_in_time(
        self, world: World, source: FakeSource
    ) -> None:
        source.add("1")
        integration = await world.integrate()

        async def hang(_call: int) -> None:
            await asyncio.Event().wait()

        source.before = hang
        async with running(world.attendant(source, ending_s=0.05)):
            await eventually(lambda: bool(source.calls))

        schedule = await world.schedule(integration)
        assert (schedule.lease_owner, schedule.failures) == (None, 0)
        assert len(await world.claim()) == 1

    async def test_stopping_ends_a_run_at_its_next_page(self, world: World) -> None:
        """Proves X2."""
        source = FakeSource(page_size=1)
        source.add(*(f"c{number:03}" for number in range(200)))
        integration = await world.integrate()
        reading = asyncio.Event()

        async def slow(call: int) -> None:
            if call > 20:
                reading.set()
                await asyncio.sleep(0.005)

        source.before = slow
        async with running(world.attendant(source)):
            await reading.wait()
        source.before = nothing
        assert world.journal.ends == []
        stored = (await world.newest_run(integration)).read
        assert len(world.journal.ids()) == stored

        async with running(world.attendant(source)):
            await eventually(lambda: bool(world.journal.ends))

        assert world.journal.ids() == sorted(source.contacts)
        assert world.journal.ends[0].read == 200

    async def test_stopping_ends_a_look_at_the_members_too(
        self, world: World, source: FakeSource
    ) -> None:
        source.add("1", "2", "3", "4", "5")
        integration = await world.integrate()
        await world.poll(integration, source)
        await world.execute("delete from sync.positions where stream = 'members'")
        await world.make_due(integration)
        looking, go_on = asyncio.Event(), asyncio.Event()

        async def wait(_call: int) -> None:
            looking.set()
            await go_on.wait()

        source.before = wait
        source.calls.clear()
        stop = asyncio.Event()
        attendant = world.attendant(source)
        task = asyncio.create_task(attendant.run(stop))
        await looking.wait()
        stop.set()
        await eventually(lambda: attendant._is_stopping)
        go_on.set()
        await task

        assert source.calls == ["members"]
        assert len(world.journal.ends) == 1

    async def test_a_cancelled_run_begins_anew(self, world: World, source: FakeSource) -> None:
        source.add(*(f"c{number:03}" for number in range(60)))
        integration = await world.integrate()

        async def cancel(call: int) -> None:
            if call == 15:
                run = await world.newest_run(integration)
                await world.call("sync.cancel_run", run=run.run_id)

        source.before = cancel
        await attend(world.attendant(source))
        source.before = nothing
        await attend(world.attendant(source))

        assert await run_states(world) == [(1, "cancelled"), (2, "read")]

    async def test_a_pause_stops_a_run_and_its_end_goes_on(
        self, world: World, source: FakeSource
    ) -> None:
        source.add(*(f"c{number:03}" for number in range(60)))
        integration = await world.integrate()

        async def pause(call: int) -> None:
            if call == 15:
                await world.call("sync.unschedule", integration=integration)

        source.before = pause
        await attend(world.attendant(source))
        assert world.journal.ends == []
        assert await world.claim() == []
        source.before = nothing
        await world.call("sync.schedule", integration=integration, full=False)

        await attend(world.attendant(source))

        assert world.journal.ids() == sorted(source.contacts)
        assert (await world.newest_run(integration)).run_no == 1

    async def test_a_bug_ends_the_process(self, world: World, source: FakeSource) -> None:
        source.add("1")
        await world.integrate()

        async def stumble(_call: int) -> None:
            raise ZeroDivisionError

        source.before = stumble
        attendant = world.attendant(source)

        with pytest.raises(ZeroDivisionError):
            await attendant.run(asyncio.Event())


async def test_what_is_mapped_is_asked_for_and_nothing_else(world: World) -> None:
    """Proves W5 and S11: of the source's fields, those that are mapped or that criteria ask."""
    conditions = [{"field": "city", "operator": "is_set"}]
    plain = await world.integrate()
    narrowed = await world.integrate(criteria={"match": "all", "conditions": conditions})

    asked = {each.integration: list(each.properties) for each in await world.claim()}

    assert asked == {
        plain: ["email", "firstname"],
        narrowed: ["city", "email", "firstname"],
    }


async def test_a_trouble_of_the_source_is_not_the_writers_to_end(world: World) -> None:
    integration = await world.integrate()
    await world.execute(
        "update config.integrations set state = 'error', error_reason = 'source_list_missing'"
    )
    ended_by_writer = await world.call(
        "config.report_integration", integration=integration, reason=None
    )
    async with world.as_poller.begin() as session:
        ended = await store.report_integration(session, integration=integration, reason=None)

    assert (ended_by_writer, ended) == (False, True)


async def test_a_trouble_of_the_destination_is_not_the_pollers_to_end(world: World) -> None:
    integration = await world.integrate()
    await world.execute(
        "update config.integrations set state = 'error', error_reason = 'attribute_missing'"
    )

    async with world.as_poller.begin() as session:
        ended = await store.report_integration(session, integration=integration, reason=None)

    assert not ended


async def test_a_stop_that_comes_late_leaves_the_next_pollers_run_its_position(
    world: World,
) -> None:
    """Proves X2: every transaction compares the token, that of a stop as well."""
    integration = await world.integrate()
    [late] = await world.claim()
    await world.lapse(integration)
    [assignment] = await world.claim()
    await DatabaseRunStore(world.as_poller).begin(assignment, begin(assignment))

    await world.attendant(FakeSource())._stopped(late, Stop.CANCELLED)

    position = await world.row("select sweep from sync.positions where stream = 'contacts'")
    assert position.sweep["run_no"] == 1
    assert (await world.schedule(integration)).lease_owner is not None


async def test_a_cancellation_that_gets_lost_does_not_hold_up_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proves R8."""
    attendant, stop, renewing = world.attendant(FakeSource(), lease_s=0.04), asyncio.Event(), []

    async def renew() -> None:
        renewing.append(True)
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0.1)

    monkeypatch.setattr(attendant, "renew", renew)
    running_ = asyncio.create_task(attendant.run(stop))
    await eventually(lambda: bool(renewing))
    stop.set()
    ended, _ = await asyncio.wait({running_}, timeout=60)
    running_.cancel()

    assert ended


async def test_a_run_that_ignores_its_cancellation_does_not_hold_up_the_end(
    world: World, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proves R8: its lease is given back all the same."""
    monkeypatch.setattr(attend_module, "CANCEL_S", 0.1)
    integration = await world.integrate()
    released = asyncio.Event()

    async def stay(_call: int) -> None:
        while not released.is_set():
            with suppress(asyncio.CancelledError):
                await released.wait()

    source.add("1")
    source.before = stay
    attendant, stop = world.attendant(source, ending_s=0.1), asyncio.Event()
    running_ = asyncio.create_task(attendant.run(stop))
    await eventually(lambda: bool(source.calls))
    stop.set()
    ended, _ = await asyncio.wait({running_}, timeout=60)
    schedule = await world.schedule(integration)
    released.set()
    await asyncio.wait({running_, *attendant._running.values()})

    assert ended
    assert schedule.lease_owner is None
