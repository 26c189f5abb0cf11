"""The quota ledger's functions on the real database (Q1, Q2, Q3, Q6)."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from types import MappingProxyType
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import text

from libs.common import ledger
from libs.common.database import SessionMaker
from libs.common.ledger import Posting
from libs.common.postgres import Transaction, Transactions, create_pool, transact

RUN = UUID(int=7)
NOTHING: Mapping[str, str] = MappingProxyType({})


def posting(name: str, operation: str = "upsert") -> Posting:
    return Posting(name.encode().ljust(16), UUID(int=1), name, RUN, operation)


class Workspace:
    """One workspace's ledger, as the writer's role uses it; the owner looks on."""

    def __init__(self, writer: Transactions, owner: SessionMaker) -> None:
        self.id = uuid4()
        self.writer = writer
        self._owner = owner

    async def set_limit(self, limit: int) -> int:
        async with self._owner.begin() as session:
            return int(
                await session.scalar(
                    text("select ledger.set_limit(:w, :l)"), {"w": self.id, "l": limit}
                )
                or 0
            )

    async def hold(self, wanted: int, hold_id: UUID | None = None) -> tuple[UUID, int]:
        hold_id = hold_id or uuid4()
        async with self.writer.begin() as session:
            granted = await ledger.hold(session, workspace=self.id, hold_id=hold_id, wanted=wanted)
        return hold_id, granted

    async def post(self, hold_id: UUID, *names: str, also: Mapping[str, str] = NOTHING) -> int:
        """Post upserts of these, and of others (`also`) what they are named with."""
        operations = {**dict.fromkeys(names, "upsert"), **also}
        postings = [posting(name, operation) for name, operation in operations.items()]

        async def work(session: Transaction) -> int:
            return await ledger.post(session, hold_id=hold_id, postings=postings)

        return await transact(self.writer, work)

    async def release(self, hold_id: UUID, units: int) -> None:
        async with self.writer.begin() as session:
            await ledger.release(session, hold_id=hold_id, units=units)

    async def is_open(self) -> bool:
        async with self.writer.begin() as session:
            return await ledger.is_open(session, workspace=self.id)

    async def counters(self) -> tuple[int, int]:
        async with self._owner.begin() as session:
            row = await session.execute(
                text("select posted, held from ledger.periods where workspace_id = :w"),
                {"w": self.id},
            )
            posted, held = row.one()
            return posted, held

    async def published(self) -> list[tuple[int, bool]]:
        """Return the thresholds that were published, and whether each says both."""
        async with self._owner.begin() as session:
            bodies = await session.scalars(
                text("select body from ledger.outbox where key = :w order by id"),
                {"w": str(self.id)},
            )
            events = [json.loads(body) for body in bodies]
        return [
            (event["threshold"], event["both"]) for event in events if event["kind"] == "threshold"
        ]


@pytest.fixture
async def workspace(
    role_url: Callable[[str], str], sessions: SessionMaker
) -> AsyncIterator[Workspace]:
    pool = create_pool(role_url("writer"), size_max=8, application_name="test")
    yield Workspace(Transactions(pool), sessions)
    await pool.close()


async def test_a_hold_is_granted_up_to_the_limit_and_never_beyond(workspace: Workspace) -> None:
    """Proves Q1."""
    await workspace.set_limit(10)

    assert (await workspace.hold(7))[1] == 7
    assert await workspace.is_open()
    assert (await workspace.hold(7))[1] == 3
    assert (await workspace.hold(7))[1] == 0
    assert not await workspace.is_open()
    assert await workspace.counters() == (0, 10)


async def test_the_default_limit_is_a_hundred_thousand(workspace: Workspace) -> None:
    """Proves Q1."""
    assert await workspace.is_open()
    assert (await workspace.hold(100_001))[1] == 100_000


async def test_a_hold_asked_for_again_grants_nothing_new(workspace: Workspace) -> None:
    """Proves Q1 and X2: nor less than it has, though by now nothing is left for others."""
    await workspace.set_limit(5)
    hold_id, _ = await workspace.hold(5)
    assert await workspace.hold(5, hold_id) == (hold_id, 5)

    await workspace.post(hold_id, "a", "b")

    assert await workspace.hold(5, hold_id) == (hold_id, 3)
    assert await workspace.counters() == (2, 3)


async def test_an_effect_is_charged_once_however_often_it_is_posted(workspace: Workspace) -> None:
    """Proves Q6 and X2."""
    first, _ = await workspace.hold(2)
    second, _ = await workspace.hold(2)

    assert await workspace.post(first, "a", "b") == 2
    assert await workspace.post(first, "a", "b") == 0
    assert await workspace.post(second, "a", "c") == 1
    assert await workspace.post(second, "a", "c") == 0

    assert await workspace.counters() == (3, 0)


async def test_units_are_given_back_once(workspace: Workspace) -> None:
    """Proves Q1: what is given back is not there to be posted, or to be given back again."""
    hold_id, _ = await workspace.hold(3)
    await workspace.post(hold_id, "a")
    await workspace.release(hold_id, 2)

    assert await workspace.counters() == (1, 0)
    with pytest.raises(asyncpg.CheckViolationError, match="open units"):
        await workspace.release(hold_id, 1)
    with pytest.raises(asyncpg.CheckViolationError, match="open units"):
        await workspace.post(hold_id, "b")


async def test_a_post_without_a_hold_is_refused(workspace: Workspace) -> None:
    with pytest.raises(asyncpg.NoDataFoundError, match="there is no hold"):
        await workspace.post(uuid4(), "a")


async def test_a_hold_of_nothing_is_refused(workspace: Workspace) -> None:
    with pytest.raises(asyncpg.PostgresError, match="at least 1 unit"):
        await workspace.hold(0)


async def test_each_threshold_is_decided_once_where_it_is_crossed(workspace: Workspace) -> None:
    """Proves Q2 and Q3."""
    await workspace.set_limit(10)
    hold_id, _ = await workspace.hold(10)

    await workspace.post(hold_id, *"abcdefg")
    assert await workspace.published() == []
    await workspace.post(hold_id, "h")
    assert await workspace.published() == [(80, False)]
    await workspace.post(hold_id, "i")
    await workspace.post(hold_id, "j")
    await workspace.post(hold_id, "j")
    assert await workspace.published() == [(80, False), (100, False)]


async def test_what_is_decided_is_not_told_of_again_whoever_comes_to_it(
    workspace: Workspace, sessions: SessionMaker
) -> None:
    """Proves Q2 and Q3: what looks at all of a limit's use, as a change of it does, finds both."""
    await workspace.set_limit(10)
    await workspace.hold(1)

    for used in (8, 10, 8, 10):
        async with sessions.begin() as session:
            await session.execute(
                text("select ledger.decide(:w, ledger.current_period(), 10, 1, -1, :used)"),
                {"w": workspace.id, "used": used},
            )

    assert await workspace.published() == [(80, False), (100, False)]


async def test_both_thresholds_at_once_are_one_decision_to_tell(workspace: Workspace) -> None:
    """Proves Q2."""
    await workspace.set_limit(5)
    hold_id, _ = await workspace.hold(5)

    await workspace.post(hold_id, *"abcde")

    assert await workspace.published() == [(100, True)]


async def test_a_burst_of_several_operations_is_one_decision_too(
    workspace: Workspace, sessions: SessionMaker
) -> None:
    """Proves Q2, and that each posting keeps what is its own."""
    await workspace.set_limit(5)
    hold_id, _ = await workspace.hold(5)
    others = {"a": "leave", "b": "leave", "c": "move", "d": "leave"}  # Four: 80 %.

    assert await workspace.post(hold_id, "e", also=others) == 5

    assert await workspace.published() == [(100, True)]
    async with sessions.begin() as session:
        rows = await session.execute(
            text("select source_id, operation, effect_key from ledger.postings")
        )
        found = {row.source_id: (row.operation, row.effect_key) for row in rows}
    wanted = {"e": "upsert", **others}
    assert found == {name: (each, name.encode().ljust(16)) for name, each in wanted.items()}


async def test_a_raised_limit_is_in_force_with_the_next_hold(workspace: Workspace) -> None:
    """Proves Q4."""
    await workspace.set_limit(2)
    hold_id, _ = await workspace.hold(2)
    await workspace.post(hold_id, "a", "b")
    assert (await workspace.hold(1))[1] == 0

    await workspace.set_limit(10)

    assert (await workspace.hold(20))[1] == 8


async def test_a_limit_lowered_below_use_is_decided_at_that_moment(workspace: Workspace) -> None:
    """Fault 51. Proves Q3."""
    hold_id, _ = await workspace.hold(5)
    await workspace.post(hold_id, *"abcde")

    await workspace.set_limit(3)

    assert not await workspace.is_open()
    assert (await workspace.hold(1))[1] == 0
    assert await workspace.published() == [(100, True)]


async def test_the_same_limit_set_again_is_no_new_revision(workspace: Workspace) -> None:
    assert await workspace.set_limit(3) == await workspace.set_limit(3)


async def test_a_limit_of_nothing_is_used_up_at_once(workspace: Workspace) -> None:
    await workspace.set_limit(0)

    assert not await workspace.is_open()
    assert await workspace.published() == [(100, True)]


async def test_no_writer_waits_for_another_that_has_not_committed(
    workspace: Workspace, role_url: Callable[[str], str]
) -> None:
    """The month's row is counted up at the commit; far from the limit nobody locks it before."""
    slow = await asyncpg.connect(role_url("writer"))
    hold_id, _ = await workspace.hold(2)
    try:
        async with slow.transaction():
            transaction = Transaction(slow)
            mine = uuid4()
            await ledger.hold(transaction, workspace=workspace.id, hold_id=mine, wanted=3)
            await ledger.post(transaction, hold_id=mine, postings=[posting("a")])
            await ledger.release(transaction, hold_id=mine, units=1)

            async with asyncio.timeout(10):
                assert (await workspace.hold(4))[1] == 4
                assert await workspace.post(hold_id, "b") == 1
            assert await workspace.counters() == (1, 5)
    finally:
        await slow.close()

    assert await workspace.counters() == (2, 6)


async def test_a_hold_whose_room_is_gone_by_its_commit_is_asked_for_again(
    workspace: Workspace,
) -> None:
    """Proves Q1: what was granted far from the limit is held against it as it is committed."""
    await workspace.set_limit(100)
    attempts = 0

    async def work(session: Transaction) -> int:
        nonlocal attempts
        attempts += 1
        granted = await ledger.hold(session, workspace=workspace.id, hold_id=hold_id, wanted=5)
        if attempts == 1:
            await workspace.set_limit(3)
        return granted

    hold_id = uuid4()
    assert await transact(workspace.writer, work) == 3
    assert attempts == 2
    assert await workspace.counters() == (0, 3)


async def test_two_holds_of_one_transaction_are_not_granted_the_same_units(
    workspace: Workspace,
) -> None:
    """Proves Q1."""
    await workspace.set_limit(100)

    async def work(session: Transaction) -> list[int]:
        return [
            await ledger.hold(session, workspace=workspace.id, hold_id=each, wanted=wanted)
            for each, wanted in holds
        ]

    holds = [(uuid4(), wanted) for wanted in (6, 90, 10)]
    assert await transact(workspace.writer, work) == [6, 90, 4]
    assert await workspace.counters() == (0, 100)


async def test_eight_writers_at_the_limit_post_exactly_the_limit(workspace: Workspace) -> None:
    """Fault 50. Proves Q1, Q2 and Q3: exactly the limit, one decision a threshold."""
    await workspace.set_limit(100)

    async def write(writer: int) -> None:
        for number in range(10):
            hold_id, granted = await workspace.hold(3)
            names = [f"{writer}.{number}.{unit}" for unit in range(granted)]
            if names:
                await workspace.post(hold_id, *names)

    await asyncio.gather(*(write(writer) for writer in range(8)))

    assert await workspace.counters() == (100, 0)
    assert sorted(await workspace.published()) in ([(80, False), (100, False)], [(100, True)])


async def test_without_the_months_partition_nothing_is_granted(
    workspace: Workspace, sessions: SessionMaker
) -> None:
    """Fault 39. Fail closed: a hold whose posting could not be stored is no hold.

    Nothing of the refused one stays, and the month's partition is all that was missing.
    """
    kept, _ = await workspace.hold(2)
    async with sessions.begin() as session:
        [partition] = (
            await session.scalars(
                text("select 'ledger.postings_' || to_char(ledger.current_period(), 'YYYY_MM')")
            )
        ).all()
        await session.execute(text(f"drop table {partition}"))

    with pytest.raises(asyncpg.PostgresError, match="no partition"):
        await workspace.hold(1)
    with pytest.raises(asyncpg.CheckViolationError, match="no partition"):
        await workspace.post(kept, "a")
    assert await workspace.counters() == (0, 2)
    async with sessions.begin() as session:
        await session.execute(text("select ledger.make_partitions(0)"))
    assert (await workspace.hold(1))[1] == 1
    assert await workspace.post(kept, "a") == 1


async def test_a_month_boundary_charges_the_month_of_the_hold(
    workspace: Workspace, sessions: SessionMaker
) -> None:
    """Fault 48."""
    hold_id, _ = await workspace.hold(1)
    async with sessions.begin() as session:
        await session.execute(
            text(
                "create or replace function ledger.now() returns timestamptz language sql volatile "
                "as $$ select clock_timestamp() + interval '1 month' $$"
            )
        )

    await workspace.post(hold_id, "a")
    next_month, _ = await workspace.hold(1)
    await workspace.post(next_month, "b")

    async with sessions.begin() as session:
        rows = await session.execute(
            text("select posted, held from ledger.periods where workspace_id = :w order by period"),
            {"w": workspace.id},
        )
        assert rows.all() == [(1, 0), (1, 0)]
