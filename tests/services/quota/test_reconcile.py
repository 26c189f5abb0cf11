"""Reconciliation: drift is found where it is, told once, and never where there is none."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import date, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from libs.common import ids
from libs.common.clock import SystemClock
from libs.common.database import SessionMaker, transaction_of
from libs.common.errors import LeaseLostError
from libs.common.events import QuotaChanged, QuotaKind, Topic, decode
from libs.common.ids import Prefix
from libs.common.reconciliation import REMEDIES, Check
from services.quota import store
from services.quota.lease import Term
from services.quota.reconcile import (
    LOOKS,
    Drift,
    Reconciliation,
    Report,
    look,
    reconcile,
)
from services.quota.store import Aged, Compared, Month
from tests.services.writer.world import World, crash_at, make_world, upsert

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
WRITTEN = 4
OPEN = 2


@pytest.fixture
async def world(sessions: SessionMaker, role_url: Callable[[str], str]) -> AsyncIterator[World]:
    """Return a workspace with four tasks of a run, and two units that a writer died with."""
    made = await make_world(sessions, role_url("writer"))
    await made.begin_run(1)
    effects = [upsert(f"c{n}") for n in range(WRITTEN)]
    await made.write(made.writer(), made.record(*effects))
    await made.lapse()
    doubtful = [upsert(f"d{n}") for n in range(OPEN)]
    await made.killed(made.writer(reached=crash_at("called")), made.record(*doubtful))
    yield made
    await made.pool.close()


@pytest.fixture
async def month(world: World) -> Month:
    return Month(world.workspace, await world.one("select ledger.current_period()"))


@pytest.fixture
async def term(quota: SessionMaker) -> Term:
    async with quota.begin() as session:
        transaction = await transaction_of(session)
        token = await store.claim_accounts(transaction, owner=uuid4(), ttl=HOUR)
    assert token is not None
    return Term(token, asyncio.Event())


async def events(world: World) -> list[QuotaChanged]:
    found = await world.rows("select body from ledger.outbox order by id")
    decoded = [decode(Topic.QUOTA_CHANGED, bytes(row.body)) for row in found]
    return [
        event
        for event in decoded
        if isinstance(event, QuotaChanged) and event.kind is QuotaKind.DRIFT
    ]


async def told_as_written(world: World, count: int, *, run_no: int = 1) -> None:
    """Let activity say that so many contacts of a run were created."""
    await world.execute(
        "insert into activity.runs (run_id, integration_id, workspace_id, run_no, created, state)"
        " values (:run, :integration, :workspace, :run_no, :count, 'complete')",
        run=ids.run_id(world.integration, run_no),
        integration=world.integration,
        workspace=world.workspace,
        run_no=run_no,
        count=count,
    )


async def test_where_everything_fits_nothing_is_found(
    world: World, month: Month, quota: SessionMaker
) -> None:
    """Units under way are no drift, and what is open for an hour is told apart."""
    await told_as_written(world, WRITTEN)
    await world.execute("update ledger.holds set created_at = created_at - interval '2 hours'")

    report = await look(quota, month)

    assert report.drifts == []
    assert {each.check: (each.kept, each.found) for each in report.compared} == {
        "posted": (WRITTEN, WRITTEN),
        "held": (OPEN, OPEN),
        "holds": (WRITTEN, WRITTEN),
        "units": (OPEN, OPEN),
        "links": (WRITTEN, WRITTEN),
        "settled": (0, 0),
    }
    assert report.aged.units == OPEN
    assert "open for over an hour: 2 units" in report.words()


INJECTED = {
    "a counter that says more": (
        "update ledger.periods set posted = posted + 5",
        [Drift(Check.POSTED, 5)],
    ),
    "units held that no hold has": (
        "update ledger.periods set held = held + 3",
        [Drift(Check.HELD, 3)],
    ),
    "a posting taken out": (
        "delete from ledger.postings where source_id = 'c1'",
        [Drift(Check.POSTED, 1), Drift(Check.HOLDS, 1)],
    ),
    "a posting of a hold that never was": (
        (
            "insert into ledger.postings select workspace_id, period, '\\x00', gen_random_uuid(),"
            " integration_id, source_id, run_id, operation from ledger.postings limit 1"
        ),
        [Drift(Check.POSTED, -1), Drift(Check.HOLDS, -1)],
    ),
    "a hold's open units that no writer keeps": (
        "delete from delivery.intents",
        [Drift(Check.UNITS, OPEN)],
    ),
    "an intent whose hold never was": (
        "update delivery.intents set hold_id = gen_random_uuid()",
        [Drift(Check.UNITS, 2)],  # Its two units, and two of the hold: they cancel each other out.
    ),
    "a contact that the writer does not know": (
        "delete from delivery.links where source_id = 'c2'",
        [Drift(Check.LINKS, 1)],
    ),
}


async def test_drift_is_found_in_one_look_with_its_amount(
    world: World, month: Month, sessions: SessionMaker
) -> None:
    """Each check finds what it is for, and only that."""
    found = {}
    for name, (statement, _) in INJECTED.items():
        async with sessions() as session, session.begin() as injected:
            await session.execute(text(statement))
            compared = await store.look(session, month)
            found[name] = Report(month, compared, Aged(0, None)).drifts
            await injected.rollback()

    assert found == {name: drifts for name, (_, drifts) in INJECTED.items()}


async def test_a_drift_is_reported_within_one_reconciliation_and_told_once(
    world: World, month: Month, quota: SessionMaker, term: Term
) -> None:
    """Proves Q1 and X1: with workspace, amount and remedy, and not again an hour later."""
    await world.execute("update ledger.periods set posted = posted + 5")

    report = await reconcile(quota, term, month)
    await reconcile(quota, term, month)

    [event] = await events(world)
    assert (event.workspace, event.check, event.drift) == (world.workspace, "posted", 5)
    assert (event.period, event.used) == (f"{month.period}", WRITTEN + 5)
    for words in (ids.show(Prefix.WORKSPACE, world.workspace), "drift +5", REMEDIES[Check.POSTED]):
        assert words in report.words()
    kept = await world.rows("select * from ledger.reconciliations order by reconciliation_id")
    assert [row.has_drift for row in kept] == [True, True]
    assert kept[0].report["checks"][0] == {
        "check": "posted",
        "kept": WRITTEN + 5,
        "found": WRITTEN,
        "odd": 1,
        "examples": [],
    }


async def test_nothing_is_repaired(
    world: World, month: Month, quota: SessionMaker, term: Term
) -> None:
    await world.execute("update ledger.periods set posted = posted + 5, held = held + 1")

    await reconcile(quota, term, month)

    assert (await world.posted(), await world.held()) == (WRITTEN + 5, OPEN + 1)


async def test_a_drift_that_comes_back_or_grows_is_told_again(
    world: World, month: Month, quota: SessionMaker, term: Term
) -> None:
    """One that grows is told of once a day, however often it is looked at."""
    await world.execute("update ledger.periods set posted = posted + 5")
    await reconcile(quota, term, month)
    await world.execute("update ledger.periods set posted = posted - 5")
    await reconcile(quota, term, month)
    assert await world.rows("select * from ledger.drifts") == []
    await world.execute("update ledger.periods set posted = posted + 5")
    await reconcile(quota, term, month)
    await world.execute("update ledger.periods set posted = posted + 1")
    await reconcile(quota, term, month)
    before_a_day = [event.drift for event in await events(world)]
    await world.execute("update ledger.drifts set told_at = told_at - interval '25 hours'")

    await reconcile(quota, term, month)
    await reconcile(quota, term, month)

    assert before_a_day == [5, 5]
    assert [event.drift for event in await events(world)] == [5, 5, 6]


async def test_more_told_than_posted_is_believed_when_it_stands_in_two_looks(
    world: World, month: Month, quota: SessionMaker, term: Term
) -> None:
    await told_as_written(world, WRITTEN + 1)

    first = await reconcile(quota, term, month)
    after_one = await events(world)
    await reconcile(quota, term, month)

    assert first.drifts == [Drift(Check.SETTLED, -1)]
    assert after_one == []
    assert [(event.check, event.drift) for event in await events(world)] == [("settled", -1)]


async def test_an_effect_that_another_hold_had_charged_is_no_drift(
    world: World, month: Month, quota: SessionMaker
) -> None:
    """It was told of twice and charged once (Q6)."""
    await told_as_written(world, WRITTEN + 1)
    await world.execute(
        "insert into ledger.absorbed select h.hold_id, p.effect_key from ledger.holds h,"
        " ledger.postings p where h.posted = 0 and p.source_id = 'c0'"
    )

    assert (await look(quota, month)).drifts == []


async def test_less_told_than_posted_counts_only_after_another_whole_run(
    world: World, month: Month, quota: SessionMaker
) -> None:
    """Until then it may be on its way: no false alarm while writers work or a broker is down."""
    await told_as_written(world, WRITTEN - 1)
    under_way = await look(quota, month)
    await world.begin_run(2)
    await told_as_written(world, 0, run_no=2)
    at_once = await look(quota, month)
    await world.execute("update ledger.postings set posted_at = posted_at - interval '1 hour'")

    assert under_way.drifts == []
    assert at_once.drifts == []
    assert (await look(quota, month)).drifts == [Drift(Check.SETTLED, 1)]


async def test_what_a_former_accountant_found_counts_no_more(
    world: World, month: Month, quota: SessionMaker, term: Term
) -> None:
    """Fault 27, of the accountant: it was stopped in the middle of a look, and is replaced."""
    await world.execute("update ledger.periods set posted = posted + 5")
    await world.execute("update ledger.accountant set token = token + 1")

    with pytest.raises(LeaseLostError):
        await reconcile(quota, term, month)

    assert await events(world) == []
    assert await world.rows("select * from ledger.reconciliations") == []


async def test_a_look_that_is_kept_twice_counts_once(
    world: World, month: Month, quota: SessionMaker, term: Term
) -> None:
    """Fault 35. A commit whose answer was lost is run again."""
    look_id = uuid4()
    for _ in range(2):
        async with quota.begin() as session:
            await store.keep_reconciliation(
                session,
                token=term.token,
                look_id=look_id,
                month=month,
                report={},
                drifts=[{"check": "posted", "drift": 1, "looks": 2}],
            )

    assert [row.looks for row in await world.rows("select looks from ledger.drifts")] == [1]
    assert await events(world) == []


async def test_other_mistakes_of_the_database_are_not_taken_for_a_lost_term(
    world: World, month: Month, quota: SessionMaker, term: Term
) -> None:
    drifts: list[dict[str, Any]] = [{"check": None, "drift": 1, "looks": 1}]
    with pytest.raises(DBAPIError):
        async with quota.begin() as session:
            await store.keep_reconciliation(
                session, token=term.token, look_id=uuid4(), month=month, report={}, drifts=drifts
            )


async def run_until(world: World, quota: SessionMaker, term: Term, looks: int) -> None:
    """Let the turns go until so many looks were kept."""
    turns = Reconciliation(quota, SystemClock(), every_s=3600, rests=0)
    running = asyncio.create_task(turns.run(term))
    async with asyncio.timeout(60):
        while await world.one("select count(*) from ledger.reconciliations") < looks:  # noqa: ASYNC110  # a table has no event
            await asyncio.sleep(0.02)
    term.over.set()
    await asyncio.wait_for(running, 60)


async def due(quota: SessionMaker, every: timedelta = HOUR) -> list[Month]:
    async with quota.begin() as session:
        return await store.due_months(session, every=every, limit=100)


async def test_every_workspace_has_its_turn(
    world: World, month: Month, quota: SessionMaker, term: Term
) -> None:
    await world.execute(
        "insert into ledger.periods (workspace_id, period, quota_limit, revision)"
        " select gen_random_uuid(), ledger.current_period(), 10, 1 from generate_series(1, 3)"
    )

    await run_until(world, quota, term, 4)

    assert len(await world.rows("select distinct workspace_id from ledger.reconciliations")) == 4
    assert await due(quota) == []
    assert len(await due(quota, timedelta())) == 4


async def test_a_month_that_is_over_is_looked_at_until_a_day_after_and_while_anything_is_open(
    world: World, month: Month, quota: SessionMaker, term: Term
) -> None:
    await reconcile(quota, term, month)
    await world.execute(
        "create or replace function ledger.now() returns timestamptz language sql volatile"
        " as $$ select clock_timestamp() + interval '1 month' $$"
    )
    await world.execute("update ledger.periods set held = 0")
    in_the_first_day = await due(quota, -DAY)
    await world.execute(
        "update ledger.reconciliations set looked_at = (cast(:period as date)"
        " + interval '1 month 1 day 1 minute') at time zone 'UTC'",
        period=month.period,
    )
    afterwards = await due(quota, -90 * DAY)
    await world.execute("update ledger.periods set held = 1")
    while_open = await due(quota, -90 * DAY)

    assert (in_the_first_day, afterwards, while_open) == ([month], [], [month])


async def test_a_look_that_takes_too_long_lets_the_others_have_their_turn(
    world: World, month: Month, quota: SessionMaker, term: Term, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One workspace of a size that nobody thought of does not stop the others."""
    other = uuid4()
    await world.execute(
        "insert into ledger.periods (workspace_id, period, quota_limit, revision)"
        " values (:w, ledger.current_period(), 10, 1)",
        w=other,
    )
    await world.execute("alter function ledger.look rename to true_look")
    await world.execute(
        "create function ledger.look(p_workspace uuid, p_period date) returns table"
        " (check_name text, kept bigint, found bigint, odd bigint, examples text[])"
        " language plpgsql stable security definer as $$ begin"
        f" if p_workspace = '{world.workspace}' then perform pg_sleep(30); end if;"
        " return query select * from ledger.true_look(p_workspace, p_period); end $$"
    )
    await world.execute("grant execute on function ledger.look to contactsync_quota")
    monkeypatch.setattr(store, "LOOK_WITHIN", "2s")
    before = LOOKS.labels("too_long")._value.get()

    await run_until(world, quota, term, 1)

    looked_at = await world.rows("select workspace_id from ledger.reconciliations")
    assert [row.workspace_id for row in looked_at] == [other]
    assert LOOKS.labels("too_long")._value.get() <= before + 1


def printed(role_url: Callable[[str], str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a person does."""
    return subprocess.run(
        [sys.executable, "-m", "services.quota", "reconcile", *arguments],
        env={**os.environ, "DATABASE_URL": role_url("quota")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_the_command_prints_the_same_and_its_end_says_whether_there_is_drift(
    world: World, month: Month, role_url: Callable[[str], str]
) -> None:
    shown = ids.show(Prefix.WORKSPACE, world.workspace)
    period = f"{month.period:%Y-%m}"

    clean = await asyncio.to_thread(printed, role_url, "--workspace", shown)
    await world.execute("update ledger.periods set posted = posted + 5")
    drifted = await asyncio.to_thread(
        printed, role_url, "--workspace", str(world.workspace), "--period", period, "--json"
    )
    other_month = await asyncio.to_thread(
        printed, role_url, "--workspace", shown, "--period", "2020-01"
    )

    assert (clean.returncode, clean.stdout.splitlines()[0]) == (0, f"{shown}, {period}: no drift")
    assert drifted.returncode == 1
    assert json.loads(drifted.stdout)["checks"][0]["kept"] == WRITTEN + 5
    assert other_month.returncode == 2
    assert other_month.stderr == f"reconcile: of this workspace there are postings of {period}\n"
    assert await world.rows("select * from ledger.reconciliations") == []
    assert await events(world) == []


def test_differences_that_cancel_each_other_out_are_told_by_their_number() -> None:
    compared = [Compared("holds", 7, 7, 2, ["a", "b"])]
    report = Report(Month(UUID(int=1), date(2026, 11, 1)), compared, Aged(0, None))

    assert report.drifts == [Drift(Check.HOLDS, 2)]
    assert "for example: a, b" in report.words()
