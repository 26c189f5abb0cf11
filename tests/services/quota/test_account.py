"""The ledger's months are there before they are needed, and what is over goes."""

import asyncio
from datetime import date
from uuid import UUID, uuid4

from sqlalchemy import text

from libs.common.database import SessionMaker
from services.quota import account
from services.quota.account import MONTHS_AHEAD, drop_partitions, forget, keep_up, make_partitions
from tests.uploads import prepare, store_file

WORKSPACE = UUID(int=5)


async def execute(sessions: SessionMaker, statement: str, **values: object) -> None:
    async with sessions.begin() as session:
        await session.execute(text(statement), values)


async def names(sessions: SessionMaker, statement: str) -> list[str]:
    async with sessions.begin() as session:
        return list((await session.scalars(text(statement))).all())


async def partitions(sessions: SessionMaker) -> list[str]:
    return await names(
        sessions,
        "select relname from pg_inherits join pg_class on oid = inhrelid"
        " where inhparent = 'ledger.postings'::regclass order by relname",
    )


async def shift(sessions: SessionMaker, months: int) -> None:
    await execute(
        sessions,
        "create or replace function ledger.now() returns timestamptz language sql volatile "
        f"as $$ select clock_timestamp() + interval '{months} months' $$",
    )


async def test_three_months_ahead_are_there_from_the_start(quota: SessionMaker) -> None:
    assert len(await partitions(quota)) == 1 + MONTHS_AHEAD
    assert await make_partitions(quota) == 0


async def test_a_new_month_gets_its_partition_until_told_to_stop(
    quota: SessionMaker, sessions: SessionMaker
) -> None:
    """Fault 39."""
    await shift(sessions, 2)
    stop = asyncio.Event()
    keeping = asyncio.create_task(keep_up(quota, stop, every_s=0.01, months_kept=13))
    async with asyncio.timeout(60):
        while len(await partitions(quota)) < 3 + MONTHS_AHEAD:  # noqa: ASYNC110  # a table has no event
            await asyncio.sleep(0.01)
    stop.set()

    await asyncio.wait_for(keeping, 60)


async def test_months_are_dropped_when_they_are_kept_no_longer(
    quota: SessionMaker, sessions: SessionMaker
) -> None:
    """The counters stay; thirteen months after its own a month's postings are still there."""
    before = await partitions(sessions)
    await execute(
        sessions,
        "insert into ledger.periods (workspace_id, period, quota_limit, revision, posted)"
        " select :w, ledger.current_period(), 10, 1, 7",
        w=WORKSPACE,
    )
    await shift(sessions, 13)
    await make_partitions(quota)

    assert await drop_partitions(quota, months_kept=13) == 0
    await shift(sessions, 14)
    assert await drop_partitions(quota, months_kept=13) == 1

    assert (before[0] in await partitions(sessions), before[1] in await partitions(sessions)) == (
        False,
        True,
    )
    assert await names(sessions, "select posted::text from ledger.periods") == ["7"]


async def test_a_month_that_somebody_reads_is_dropped_another_time(
    quota: SessionMaker, sessions: SessionMaker
) -> None:
    await shift(sessions, 14)
    async with sessions.begin() as session:
        await session.execute(text("select count(*) from ledger.postings"))

        assert await drop_partitions(quota, months_kept=13) == 0

    assert await drop_partitions(quota, months_kept=13) == 1


async def make_holds(sessions: SessionMaker) -> dict[str, UUID]:
    """Make a hold of each kind, with an effect each that it absorbed."""
    await execute(
        sessions,
        "insert into ledger.periods (workspace_id, period, quota_limit, revision)"
        " select :w, ledger.current_period() - make_interval(months => ago), 100, 1"
        " from generate_series(1, 2) ago",
        w=WORKSPACE,
    )
    made = {}
    for name, ago, posted in (
        ("finished long ago", 2, 3),
        ("finished last month", 1, 3),
        ("open since long ago", 2, 2),
    ):
        made[name] = uuid4()
        await execute(
            sessions,
            "insert into ledger.holds (hold_id, workspace_id, period, amount, posted, released)"
            " select :id, :w, ledger.current_period() - make_interval(months => :ago), 4,"
            " :posted, 1",
            id=made[name],
            w=WORKSPACE,
            ago=ago,
            posted=posted,
        )
        await execute(sessions, "insert into ledger.absorbed values (:id, '\\x01')", id=made[name])
    return made


async def test_finished_holds_of_months_long_over_are_forgotten(
    quota: SessionMaker, sessions: SessionMaker
) -> None:
    """An open one is somebody's still, and a record of last month may come once more."""
    holds = await make_holds(sessions)

    forgotten = await forget(quota)

    assert forgotten == 2
    assert await forget(quota) == 0
    kept = {str(holds["finished last month"]), str(holds["open since long ago"])}
    assert set(await names(sessions, "select hold_id::text from ledger.holds")) == kept
    assert set(await names(sessions, "select hold_id::text from ledger.absorbed")) == kept


async def test_looks_that_found_nothing_are_kept_for_a_week(
    quota: SessionMaker, sessions: SessionMaker
) -> None:
    for days, has_drift in ((6, False), (8, False), (8, True), (500, True)):
        await execute(
            sessions,
            "insert into ledger.reconciliations"
            " (reconciliation_id, workspace_id, period, looked_at, has_drift, report)"
            " values (gen_random_uuid(), :w, :period,"
            " clock_timestamp() - make_interval(days => :days), :drift, '{}')",
            w=WORKSPACE,
            period=date(2026, 1, 1),
            days=days,
            drift=has_drift,
        )

    assert await forget(quota) == 2

    found = "select has_drift::text from ledger.reconciliations order by 1"
    assert await names(sessions, found) == ["false", "true"]


async def test_the_ledgers_standing_is_told_by_its_accountant_alone(
    quota: SessionMaker, sessions: SessionMaker
) -> None:
    """Workspaces by the share they have used, and what is open; nothing when its term is over."""
    for posted, held in ((0, 3), (50, 0), (85, 5), (100, 0)):
        await execute(
            sessions,
            "insert into ledger.periods (workspace_id, period, quota_limit, revision, posted, held)"
            " select gen_random_uuid(), ledger.current_period(), 100, 1, :posted, :held",
            posted=posted,
            held=held,
        )
    await execute(
        sessions,
        "insert into ledger.drifts (workspace_id, period, check_name, drift)"
        " values (:w, '2026-01-01', 'posted', -4)",
        w=WORKSPACE,
    )
    stop = asyncio.Event()
    measuring = asyncio.create_task(account.keep_measuring(quota, stop, every_s=60))

    async with asyncio.timeout(60):
        while not account.HOLD_OPEN._value.get():  # noqa: ASYNC110  # a metric has no event
            await asyncio.sleep(0.01)
    used = {
        sample.labels["le"]: sample.value
        for metric in account.USED.collect()
        for sample in metric.samples
    }
    drift = account.DRIFT.labels("posted")._value.get()
    open_units = account.HOLD_OPEN._value.get()
    stop.set()
    await measuring

    assert list(used.values()) == [2, 2, 3, 3, 4]
    assert (drift, open_units) == (4, 8)
    assert [metric.samples for metric in account.USED.collect()] == [[]]
    assert account.HOLD_OPEN._value.get() == 0


async def test_a_file_is_forgotten_thirty_days_after_its_run(
    quota: SessionMaker, sessions: SessionMaker
) -> None:
    """Proves AC8: the text goes, what was told of it stays; what may be read is kept."""
    connection, integration = uuid4(), uuid4()
    await prepare(sessions, WORKSPACE, connection)
    first = await store_file(sessions, WORKSPACE, connection, "Email\na@example.org\n")
    second = await store_file(sessions, WORKSPACE, connection, "Email\nb@example.org\n")
    await execute(
        sessions,
        "insert into config.integrations (integration_id, workspace_id, name,"
        " source_connection_id) values (:integration, :workspace, 'n', :connection)",
        integration=integration,
        workspace=WORKSPACE,
        connection=connection,
    )
    run = (
        "insert into sync.runs (run_id, integration_id, workspace_id, run_no, mode,"
        " mapping_version, fencing, state, started_at, read_at) values (gen_random_uuid(),"
        " :integration, :workspace, :run_no, 'full', 1, 1, 'read',"
        " clock_timestamp() - make_interval(days => :days),"
        " clock_timestamp() - make_interval(days => :days))"
    )
    whose = {"integration": integration, "workspace": WORKSPACE}
    await execute(sessions, run, run_no=1, days=50, **whose)
    await execute(sessions, run, run_no=2, days=29, **whose)
    for file, days in ((first, 60), (second, 40)):
        await execute(
            sessions,
            "update config.imports set confirmed_at = clock_timestamp()"
            " - make_interval(days => :days) where import_id = :file",
            file=file.import_id,
            days=days,
        )

    forgotten = [await account.forget_imports(quota) for _ in range(2)]

    states = await names(sessions, "select state from config.imports order by uploaded_at")
    chunks = await names(sessions, "select import_id::text from config.import_chunks")
    assert forgotten == [1, 0]
    assert states == ["forgotten", "confirmed"]
    assert chunks == [str(second.import_id)]


async def test_an_upload_that_nobody_confirms_goes_after_a_day(
    quota: SessionMaker, sessions: SessionMaker
) -> None:
    """Proves AC8: also what a crash has left half-way."""
    connection = uuid4()
    await prepare(sessions, WORKSPACE, connection)
    file = await store_file(sessions, WORKSPACE, connection, "Email\na@example.org\n")
    for state in ("receiving", "ready"):
        await execute(
            sessions,
            "insert into config.imports (import_id, workspace_id, connection_id, name, state,"
            " created_at) values (gen_random_uuid(), :workspace, :connection, 'n', :state,"
            " clock_timestamp() - interval '25 hours')",
            workspace=WORKSPACE,
            connection=connection,
            state=state,
        )

    forgotten = [await account.forget_imports(quota) for _ in range(3)]

    assert forgotten == [1, 1, 0]
    assert await names(sessions, "select import_id::text from config.imports") == [
        str(file.import_id)
    ]
