"""How a workspace's limit changes: the ledger's functions, called as the services call them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from libs.common import database, ledger
from libs.common.database import SessionMaker, enter_workspace, transactions_of
from libs.common.events import QuotaChanged, QuotaKind, Topic, decode
from libs.common.ledger import Posting
from libs.common.postgres import Transaction
from services.config_api.scopes import WORKSPACE_SCOPES, Scope
from services.config_api.store import quota as quota_store
from services.config_api.store import quota_requests as store
from services.config_api.store.quota_requests import Outcome

SCRIPT = Path(__file__).parents[3] / "migrations" / "sql" / "09_quota_requests.sql"

SHIFT = (
    "create table public.shift (by interval not null);"
    "insert into public.shift values ('0');"
    "grant select on public.shift to contactsync_owner;"
    "create or replace function ledger.now() returns timestamptz language sql volatile"
    " as $$ select clock_timestamp() + s.by from public.shift s $$"
)


class Customer:
    """One workspace, seen by the ledger's callers and by its owner."""

    def __init__(self, owner: SessionMaker, api: SessionMaker) -> None:
        self.id = uuid4()
        self.owner = owner
        self._api = api

    async def enter(self) -> None:
        async with self.owner.begin() as session:
            await session.execute(
                text("insert into config.workspaces (workspace_id, name) values (:w, 'n')"),
                {"w": self.id},
            )

    async def allow(self, limit: int) -> None:
        async with self.owner.begin() as session:
            await quota_store.set_limit(session, self.id, limit)

    async def ask(self, wanted: int, request: UUID | None = None) -> UUID:
        """Return the request that is open then."""
        async with self._api.begin() as session:
            await enter_workspace(session, self.id)
            return await store.open_request(
                session, request=request or uuid4(), wanted=wanted, reason="Growth", actor="key_1"
            )

    async def withdraw(self, request: UUID, decision: UUID | None = None) -> Outcome:
        async with self._api.begin() as session:
            await enter_workspace(session, self.id)
            return await store.withdraw(
                session, request=request, decision=decision or uuid4(), actor="key_1"
            )

    async def decide(
        self,
        request: UUID,
        limit: int | None,
        *,
        is_for_period: bool = False,
        decision: UUID | None = None,
    ) -> Outcome:
        async with self._api.begin() as session:
            await database.become_operator(session)
            return await store.decide(
                session,
                request=request,
                decision=decision or uuid4(),
                actor="key_2",
                limit=limit,
                is_for_period=is_for_period,
                words="Good luck!",
            )

    async def use(self, *names: str) -> int:
        """Write as many as the quota allows; return how many."""
        async with transactions_of(self.owner).begin() as session:
            return await use(session, self.id, *names)

    async def is_open(self) -> bool:
        async with transactions_of(self.owner).begin() as session:
            return await ledger.is_open(session, workspace=self.id)

    async def months(self) -> list[tuple[int, int]]:
        """Return limit and revision of each month."""
        async with self.owner.begin() as session:
            rows = await session.execute(
                text(
                    "select quota_limit, revision from ledger.periods"
                    " where workspace_id = :w order by period"
                ),
                {"w": self.id},
            )
            return [(row.quota_limit, row.revision) for row in rows]

    async def events(self) -> list[QuotaChanged]:
        async with self.owner.begin() as session:
            bodies = await session.scalars(
                text("select body from ledger.outbox where key = :w order by id"),
                {"w": str(self.id)},
            )
            events = [decode(Topic.QUOTA_CHANGED, body) for body in bodies]
        return [event for event in events if isinstance(event, QuotaChanged)]

    async def kinds(self) -> list[QuotaKind]:
        return [event.kind for event in await self.events()]


async def use(session: Transaction, workspace: UUID, *names: str) -> int:
    hold_id = uuid4()
    granted = await ledger.hold(session, workspace=workspace, hold_id=hold_id, wanted=len(names))
    return await ledger.post(
        session,
        hold_id=hold_id,
        postings=[
            Posting(name.encode().ljust(16), UUID(int=1), name, UUID(int=2), "upsert")
            for name in names[:granted]
        ],
    )


@pytest.fixture
async def customer(
    sessions: SessionMaker, role_url: Callable[[str], str]
) -> AsyncIterator[Customer]:
    engine = database.create_engine(role_url("api"), pool_size_max=4, application_name="api")
    customer = Customer(sessions, database.session_maker(engine))
    await customer.enter()
    yield customer
    await engine.dispose()


@pytest.fixture
async def shift(sessions: SessionMaker) -> Callable[[str], Any]:
    """Return what moves the ledger's clock, for every session at once."""
    async with sessions.begin() as session:
        for statement in SHIFT.split(";"):
            await session.execute(text(statement))

    async def by(interval: str) -> None:
        async with sessions.begin() as session:
            await session.execute(
                text("update public.shift set by = cast(:by as text)::interval"), {"by": interval}
            )

    return by


async def test_a_month_that_begins_while_the_limit_changes_has_the_new_one(
    customer: Customer, shift: Callable[[str], Any]
) -> None:
    """Proves Q4: the limit is set just before midnight, and its transaction ends after it."""
    await customer.allow(10)
    async with customer.owner() as setting, setting.begin():
        await quota_store.set_limit(setting, customer.id, 500)
        await shift("1 month")
        writing = asyncio.create_task(customer.use("a"))
        await until(customer.owner, lambda waits: waits or writing.done())
    await writing

    assert [limit for limit, _ in await customer.months()] == [500, 500]


async def test_a_new_month_opens_what_was_used_up(
    customer: Customer, shift: Callable[[str], Any]
) -> None:
    """Proves Q5: by itself, and with as much as stands."""
    await customer.allow(2)
    assert await customer.use(*"abc") == 2
    before = await customer.is_open()

    await shift("1 month")

    assert (before, await customer.is_open()) == (False, True)
    assert await customer.use(*"cde") == 2


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
async def test_a_month_begins_and_ends_by_utc(sessions: SessionMaker, zone: str) -> None:
    """Proves Q5: wherever the database stands, 14 hours before UTC or 11 behind it."""
    months = []
    for moment in ("2026-11-30 23:59:59+00", "2026-12-01 00:00:00+00"):
        async with sessions.begin() as session:
            await session.execute(text(f"set local time zone '{zone}'"))
            await session.execute(
                text(
                    "create or replace function ledger.now() returns timestamptz"
                    f" language sql volatile as $$ select timestamptz '{moment}' $$"
                )
            )
            months.append(str(await session.scalar(text("select ledger.current_period()"))))

    assert months == ["2026-11-01", "2026-12-01"]


async def until(owner: SessionMaker, is_over: Callable[[bool], bool]) -> None:
    """Return once the answer to whether anybody waits for a lock is what it takes."""
    async with asyncio.timeout(60):
        while True:
            async with owner.begin() as session:
                waits = await session.scalar(
                    text("select exists (select from pg_locks where not granted)")
                )
            if is_over(bool(waits)):
                return
            await asyncio.sleep(0.01)


async def test_a_request_is_open_until_it_is_decided(customer: Customer) -> None:
    """Proves Q4: one at a time; the same one sent again is the same one."""
    first = await customer.ask(200_000)

    assert await customer.ask(200_000, first) == first
    assert await customer.ask(300_000) == first
    assert await customer.decide(first, None) is Outcome.DECIDED
    assert await customer.ask(300_000) != first
    assert await customer.kinds() == [
        QuotaKind.REQUEST_OPENED,
        QuotaKind.REQUEST_DECLINED,
        QuotaKind.REQUEST_OPENED,
    ]


async def test_two_who_ask_at_once_open_one_request(customer: Customer) -> None:
    """Proves Q4."""
    opened = await asyncio.gather(*(customer.ask(200_000) for _ in range(8)))

    assert len(set(opened)) == 1
    assert await customer.kinds() == [QuotaKind.REQUEST_OPENED]


async def test_what_was_asked_is_told_with_why(customer: Customer) -> None:
    await customer.allow(10)
    await customer.use(*"abc")

    request = await customer.ask(25)

    event = (await customer.events())[-1]
    assert (event.kind, event.request, event.words) == (
        QuotaKind.REQUEST_OPENED,
        request,
        "Growth",
    )
    assert (event.limit, event.wanted, event.used, event.revision) == (10, 25, 3, 1)


async def test_a_grant_is_one_event_and_in_force_with_the_next_hold(customer: Customer) -> None:
    """Proves Q4 and Q5."""
    await customer.allow(2)
    assert await customer.use(*"abc") == 2
    request = await customer.ask(10)

    assert await customer.decide(request, 20) is Outcome.DECIDED

    assert await customer.use(*"cdefghijkl") == 10
    assert (await customer.kinds())[-2:] == [QuotaKind.REQUEST_OPENED, QuotaKind.REQUEST_GRANTED]
    event = (await customer.events())[-1]
    assert (event.request, event.wanted, event.limit, event.used) == (request, 10, 20, 2)
    assert (event.is_for_period, event.words, event.revision) == (False, "Good luck!", 2)


async def test_a_grant_that_leaves_little_is_told_of_at_its_revision(customer: Customer) -> None:
    """Proves Q2: one decision per period, limit and threshold."""
    await customer.allow(10)
    await customer.use(*"abcdefghij")
    request = await customer.ask(12)

    await customer.decide(request, 12)

    granted, threshold = (await customer.events())[-2:]
    assert granted.kind is QuotaKind.REQUEST_GRANTED
    assert (threshold.threshold, threshold.revision) == (80, granted.revision)


async def test_a_grant_for_this_month_ends_with_it(
    customer: Customer, shift: Callable[[str], Any]
) -> None:
    """Proves Q4."""
    await customer.allow(2)
    await customer.use(*"ab")
    request = await customer.ask(5)

    await customer.decide(request, 5, is_for_period=True)
    assert await customer.use(*"cdefg") == 3
    await shift("1 month")

    assert await customer.use(*"hijkl") == 2
    assert [limit for limit, _ in await customer.months()] == [5, 2]
    granted = [event for event in await customer.events() if event.is_for_period]
    assert [(event.kind, event.limit) for event in granted] == [(QuotaKind.REQUEST_GRANTED, 5)]


async def test_a_revision_is_used_once_in_a_month(customer: Customer) -> None:
    """Proves Q2: the month's own limits and the standing ones count up together."""
    await customer.allow(2)
    seen = [await customer.months()]
    for limit, is_for_period in ((5, True), (6, False), (9, True), (12, True)):
        request = await customer.ask(limit)
        await customer.decide(request, limit, is_for_period=is_for_period)
        seen.append(await customer.months())
    for limit in (3, 2, 12):
        await customer.allow(limit)
        seen.append(await customer.months())

    revisions = [revision for [(_, revision)] in seen]
    assert [limit for [(limit, _)] in seen] == [2, 5, 6, 9, 12, 3, 2, 12]
    assert revisions == sorted(set(revisions))


async def test_a_workspace_without_a_limit_of_its_own_gets_a_new_revision(
    customer: Customer,
) -> None:
    await customer.use("a")
    assert await customer.months() == [(100_000, 1)]

    await customer.allow(200_000)

    assert await customer.months() == [(200_000, 2)]


async def test_the_standing_limit_set_anew_ends_a_months_own(customer: Customer) -> None:
    """The operator says 2, and 2 it is, though 2 stood there before."""
    await customer.allow(2)
    await customer.decide(await customer.ask(5), 5, is_for_period=True)

    await customer.allow(2)

    assert [limit for limit, _ in await customer.months()] == [2]
    assert (await customer.kinds())[-1] is QuotaKind.LIMIT_CHANGED


async def test_a_grant_never_lowers(customer: Customer) -> None:
    """The limit may have been raised since it was asked for."""
    request = await customer.ask(150_000)
    await customer.allow(200_000)

    assert await customer.decide(request, 150_000) is Outcome.NOT_ABOVE
    assert await customer.decide(request, 200_000) is Outcome.NOT_ABOVE
    assert [limit for limit, _ in await customer.months()] == [200_000]
    assert await customer.decide(request, 200_001) is Outcome.DECIDED


async def test_a_decision_is_taken_once(customer: Customer) -> None:
    """Proves Q4 and X2: sent again it is known, and another one is refused."""
    request, decision = await customer.ask(200_000), uuid4()

    assert await customer.decide(request, 200_000, decision=decision) is Outcome.DECIDED
    before = await customer.events()
    assert await customer.decide(request, 200_000, decision=decision) is Outcome.REPEATED
    assert await customer.decide(request, None) is Outcome.NOT_OPEN
    assert await customer.withdraw(request) is Outcome.NOT_OPEN
    assert await customer.events() == before


async def test_two_operators_who_decide_at_once_decide_once(customer: Customer) -> None:
    """Proves Q4 and X2."""
    request = await customer.ask(200_000)

    outcomes = await asyncio.gather(
        *(customer.decide(request, 200_000 + number) for number in range(4))
    )

    assert sorted(outcomes) == [Outcome.DECIDED, *[Outcome.NOT_OPEN] * 3]
    assert (await customer.kinds()).count(QuotaKind.REQUEST_GRANTED) == 1


async def test_a_request_that_was_taken_back_is_nobodys_to_decide(customer: Customer) -> None:
    request, decision = await customer.ask(200_000), uuid4()

    assert await customer.withdraw(request, decision) is Outcome.DECIDED
    assert await customer.withdraw(request, decision) is Outcome.REPEATED
    assert await customer.decide(request, 200_000) is Outcome.NOT_OPEN
    assert await customer.kinds() == [QuotaKind.REQUEST_OPENED]


async def test_nobody_takes_back_another_workspaces_request(
    customer: Customer, sessions: SessionMaker
) -> None:
    """Proves X3."""
    request = await customer.ask(200_000)
    customer.id = uuid4()

    assert await customer.withdraw(request) is Outcome.NOT_OPEN
    async with sessions.begin() as session:
        found = await store.find(session, request)
    assert found is not None
    assert found.state == "open"


async def test_keys_that_may_do_all_may_ask_for_more(sessions: SessionMaker) -> None:
    """A key grants only what it may do itself: without this nobody of a customer ever could."""
    before = [scope for scope in WORKSPACE_SCOPES if scope is not Scope.QUOTA_WRITE]
    statement = next(
        part for part in SCRIPT.read_text().split(";\n") if "update config.api_keys" in part
    )
    async with sessions.begin() as session:
        await session.execute(
            text("insert into config.workspaces (workspace_id, name) values (:w, 'n')"),
            {"w": UUID(int=1)},
        )
        for number, (workspace, scopes) in enumerate(
            ((UUID(int=1), before), (UUID(int=1), before[1:]), (None, ["operator:read"]))
        ):
            await session.execute(
                text(
                    "insert into config.api_keys"
                    " (key_id, workspace_id, name, secret_sha256, scopes)"
                    " values (:key, :w, 'n', '', :scopes)"
                ),
                {"key": UUID(int=number), "w": workspace, "scopes": scopes},
            )
        await session.execute(text(statement))
        keys = (
            await session.scalars(text("select scopes from config.api_keys order by key_id"))
        ).all()

    assert [("quota:write" in scopes) for scopes in keys] == [True, False, False]
