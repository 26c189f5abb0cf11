"""Provider limits shared by several processes (S10)."""

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text

from libs.common import rates
from libs.common.clock import SystemClock
from libs.common.database import SessionMaker
from libs.common.errors import RateLimitedError
from libs.common.postgres import Transactions, create_pool, fetch_alone
from libs.common.rates import INTERACTIVE, RateGate


@dataclass(frozen=True)
class Limit:
    bucket: str
    calls: int
    window_s: float
    scope: str = "account"
    per_day: int | None = None


class Clock(SystemClock):
    """The machine's clock, with a day that can be chosen."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now


class StoppedClock(Clock):
    """A clock of a process that stood still for so many seconds."""

    stood_still_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.stood_still_s


NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
# As many calls a second as of a search (5) or of contacts (40), but with a slot that is used still
# if the machine stands still for up to a second.
PATIENT_SEARCH = Limit("search", calls=250, window_s=50.0)
PATIENT_CONTACTS = Limit("contacts", calls=2000, window_s=50.0)


@pytest.fixture
async def poller(role_url: Callable[[str], str]) -> AsyncIterator[Transactions]:
    pool = create_pool(role_url("poller"), size_max=4, application_name="test")
    yield Transactions(pool)
    await pool.close()


def gate(
    transactions: Transactions, *limits: Limit, patience_s: float = 30, lane: str = ""
) -> RateGate:
    return RateGate(
        transactions,
        limits,
        {"account": "acme:1"},
        Clock(NOON),
        patience_s=patience_s,
        lane=lane,
    )


def most_in_a_window(moments: Sequence[float], window_s: float) -> int:
    return max(
        sum(1 for moment in moments if start <= moment < start + window_s) for start in moments
    )


async def test_processes_together_stay_below_the_limit_in_any_window(
    poller: Transactions,
) -> None:
    """Proves S10: three gates are three processes."""
    limit = Limit("contacts", calls=40, window_s=1.0)
    gates = [gate(poller, limit) for _ in range(3)]
    moments: list[float] = []

    async def call(own: RateGate) -> None:
        for _ in range(20):
            await own.enter("contacts")
            moments.append(time.monotonic())

    await asyncio.gather(*(call(own) for own in gates for _ in range(2)))

    assert len(moments) == 120
    assert most_in_a_window(moments, 1.0) <= 40


@pytest.mark.parametrize(
    ("limit", "valid_s"),
    [
        (Limit("search", 5, 1.0), 0.11),
        (Limit("contacts", 110, 10.0), 0.42),
        (Limit("contacts", 100, 1.0), 0.05),
        (Limit("account", 100, 3600.0), 1.0),
    ],
)
def test_a_slot_is_valid_as_long_as_its_limit_has_room(limit: Limit, valid_s: float) -> None:
    """Proves S10: late calls and those in time fit into one window together."""
    assert rates.slot_valid_s([limit]) == pytest.approx(valid_s, abs=0.01)


async def test_who_stands_still_before_a_call_loses_the_slot(
    poller: Transactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proves S10: others call meanwhile, and a late call would be one more in their window."""
    clock = StoppedClock(NOON)
    own = RateGate(poller, [PATIENT_SEARCH], {"account": "acme:1"}, clock, patience_s=30)
    await own.enter("search")
    first, slept = time.monotonic(), own._sleep_until

    async def sleep_and_stand_still(moment: float) -> None:
        await slept(moment)
        clock.stood_still_s = 1.1

    monkeypatch.setattr(own, "_sleep_until", sleep_and_stand_still)

    await own.enter("search")

    # Slots are 0.23 s apart by everybody else's clock: the second was lost, the third is taken.
    assert time.monotonic() - first >= 0.4


class LateAnswers:
    """A database whose answers are late, by as many seconds as are drawn for each."""

    def __init__(self, draw: Callable[[], float]) -> None:
        self.draw = draw
        self.count = 0

    async def fetch(self, transactions: Transactions, statement: str, *arguments: object) -> object:
        answer = await fetch_alone(transactions, statement, *arguments)
        self.count += 1
        await asyncio.sleep(self.draw())
        return answer


async def test_a_slot_whose_answer_was_late_is_lost(
    poller: Transactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 24. Proves S10: slots count by the database's clock, however long its answers take."""
    delays_s = iter([0.0, 1.5, 0.0])
    late = LateAnswers(lambda: next(delays_s))
    monkeypatch.setattr(rates, "fetch_alone", late.fetch)
    own = gate(poller, PATIENT_SEARCH)
    await own.enter("search")

    await own.enter("search")

    assert late.count == 3


async def test_the_first_answer_that_was_late_is_not_believed(
    poller: Transactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proves S10: when the answer left the database, nothing tells."""
    delays_s = iter([1.1, 1.1])
    late = LateAnswers(lambda: next(delays_s))
    monkeypatch.setattr(rates, "fetch_alone", late.fetch)

    await gate(poller, PATIENT_SEARCH).enter("search")

    assert late.count == 2  # One that is always so late is as good as one that never is.


async def test_late_answers_put_no_call_beyond_the_limit(
    poller: Transactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 24. Proves S10: three processes whose way to the database is slow and uneven."""
    drawn = random.Random(3)
    late = LateAnswers(lambda: drawn.choice([0.0, 0.0, 0.3, 0.7]))
    monkeypatch.setattr(rates, "fetch_alone", late.fetch)
    gates = [gate(poller, Limit("search", calls=5, window_s=1.0)) for _ in range(3)]
    moments: list[float] = []

    async def call(own: RateGate) -> None:
        for _ in range(6):
            await own.enter("search")
            moments.append(time.monotonic())

    await asyncio.gather(*(call(own) for own in gates))

    assert len(moments) == 18
    assert most_in_a_window(moments, 0.95) <= 5


@pytest.mark.parametrize("jump_s", [-3600.0, 3600.0])
def test_a_clock_that_was_set_is_believed_again(jump_s: float) -> None:
    """Fault 47: the database's clock jumps; slots go on by what it shows from then on."""
    clock = rates._DatabaseClock()
    assert clock.ours(1000.0, 10.0, 10.01) == pytest.approx((10.01, 0.01))

    after = [clock.ours(1005.0 + jump_s + each, 15.0 + each, 15.01 + each) for each in (0.0, 1.0)]

    assert [moment for moment, _ in after] == pytest.approx([15.01, 16.01])


async def test_a_busy_process_asks_for_many_slots_at_once(
    poller: Transactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes: list[int] = []

    async def counted(on: Transactions, statement: str, *arguments: object) -> object:
        takes.append(1)
        return await fetch_alone(on, statement, *arguments)

    monkeypatch.setattr(rates, "fetch_alone", counted)
    own = gate(poller, PATIENT_CONTACTS)

    for _ in range(30):
        await own.enter("contacts")

    assert len(takes) <= 8  # 1, 2, 4, 8, 16 if none came too late.


def test_slots_are_taken_ahead_only_while_all_of_them_are_used() -> None:
    """What nobody uses is lost to the others."""
    lane = rates._Lane([Limit("contacts", calls=40, window_s=1.0)], "")
    lane.grant(first=10.0, number=2, interval_s=0.03)
    for now in (10.0, 10.03):
        assert lane.take_due(now) is not None
        lane.last_call = now

    busy, after_a_rest = lane.wanted(10.05), lane.wanted(10.2)
    lane.grant(first=11.0, number=2, interval_s=0.03)
    lane.last_call = 11.0
    assert lane.take_due(12.0) is None
    too_late = lane.wanted(11.01)
    lane.grant(first=12.0, number=16, interval_s=0.03)
    lane.last_call = 12.0

    assert (busy, after_a_rest, too_late) == (4, 1, 1)
    assert lane.wanted(12.01) == lane.chunk == 17  # Half a second's worth at most.


async def test_a_wizard_is_let_in_beside_a_busy_sync(poller: Transactions) -> None:
    limit = Limit("contacts", calls=500, window_s=50.0)
    busy, wizard = gate(poller, limit), gate(poller, limit, patience_s=0.5, lane=INTERACTIVE)
    waiting = asyncio.gather(*(busy.enter("contacts") for _ in range(80)))  # For ten seconds.

    await wizard.enter("contacts")

    assert not waiting.done()
    waiting.cancel()


async def test_who_is_not_patient_hears_when_to_come_back(poller: Transactions) -> None:
    own = gate(poller, Limit("search", calls=1, window_s=10.0), patience_s=0.1)
    await own.enter("search")

    with pytest.raises(RateLimitedError, match="search") as error:
        await own.enter("search")

    assert error.value.retry_after_s == pytest.approx(12.5, abs=2.4)


async def test_after_a_rest_an_hourly_limit_lets_some_calls_through_at_once(
    poller: Transactions,
) -> None:
    own = gate(poller, Limit("account", calls=100, window_s=3600.0), patience_s=0.2)

    for _ in range(9):
        await own.enter("account")
    with pytest.raises(RateLimitedError):
        await own.enter("account")


async def test_a_provider_that_says_stop_stops_every_process(poller: Transactions) -> None:
    """Fault 40. Proves S10."""
    limit = Limit("contacts", calls=100, window_s=1.0)
    first, second = gate(poller, limit), gate(poller, limit, patience_s=0.5)

    await first.limited("contacts", 60.0)

    with pytest.raises(RateLimitedError) as error:
        await second.enter("contacts")
    assert error.value.retry_after_s == pytest.approx(60, abs=20)


async def test_who_is_refused_goes_on_more_slowly_and_comes_back(
    poller: Transactions, sessions: SessionMaker
) -> None:
    """Fault 40. Proves S10: a limit that is lower than what is known of it is found."""
    limit = Limit("contacts", calls=20, window_s=1.0)
    first, second = gate(poller, limit), gate(poller, limit)

    await asyncio.gather(first.limited("contacts", 0.05), second.limited("contacts", 0.05))
    after_one = await _pace(poller)
    await _pass_time(sessions, 10.0)
    await first.limited("contacts", 0.05)
    after_another = await _pace(poller)
    await _pass_time(sessions, 60.0)

    assert after_one == pytest.approx(0.75, abs=0.02)  # Refused together is refused once.
    assert after_another == pytest.approx(0.75 * (0.75 + 10 / 120), abs=0.02)
    assert await _pace(poller) == 1.0


async def test_a_wait_for_an_allowance_slows_nobody_down_and_neither_waits_a_person(
    poller: Transactions, sessions: SessionMaker
) -> None:
    """Proves S10: a day that is over says nothing of how many calls a second there may be."""
    own = gate(poller, Limit("contacts", calls=20, window_s=1.0))

    await own.limited("contacts", 3600.0)
    after_a_day = await _pace(poller)
    await _pass_time(sessions, 3600.0)
    await own.limited("contacts", 0.0)

    assert after_a_day == 1.0
    assert await _pace(poller) == pytest.approx(0.75, abs=0.02)
    assert await _pace(poller, lane=f":{INTERACTIVE}") == 1.0


async def _pace(transactions: Transactions, *, lane: str = "") -> float:
    """Return what is left of a pace of 4 calls a second."""
    await asyncio.sleep(0.06)  # A short block is over.
    [row] = await fetch_alone(
        transactions, "select * from limits.take('acme:1', 'contacts', 1, 4, 0, $1)", lane
    )
    return float(1 / row["interval_s"] / 4)


async def _pass_time(sessions: SessionMaker, seconds: float) -> None:
    """Let so much time have passed since everything that blocks remember."""
    async with sessions.begin() as session:
        await session.execute(
            text(
                "update limits.blocks set blocked_until = blocked_until - cast(:gone as interval),"
                " slowed_at = slowed_at - cast(:gone as interval)"
            ),
            {"gone": timedelta(seconds=seconds)},
        )


async def test_one_bucket_that_is_stopped_does_not_stop_the_others(poller: Transactions) -> None:
    own = gate(poller, Limit("processes", 100, 3600.0), Limit("contacts", 100, 1.0))

    await own.limited("processes", 60.0)

    await own.enter("contacts")


async def test_the_days_calls_end_with_the_day(poller: Transactions) -> None:
    """Proves S10 and HS1: a daily limit is counted, and says when it begins anew."""
    # With a window that long a slot that is a second late is used still, and all three are.
    own = gate(poller, Limit("contacts", calls=1100, window_s=100.0, per_day=3))
    for _ in range(3):
        await own.enter("contacts")

    with pytest.raises(RateLimitedError) as error:
        await own.enter("contacts")

    assert error.value.retry_after_s == 12 * 3600


class Sharers:
    """Workspaces that share the 20 calls of a day that has just begun."""

    def __init__(self, poller: Transactions) -> None:
        self._poller = poller
        # Noon of a day that by the database's clock has not begun: all of it is left, whatever the
        # hour is, and also if midnight comes meanwhile.
        later = datetime.now(UTC) + timedelta(days=2)
        self._clock = Clock(later.replace(hour=12, minute=0, second=0, microsecond=0))
        self.resets_at = rates.resets_at(self._clock.now(), "UTC")

    async def use_all(self, party: str, *, lane: str = "") -> tuple[int, float]:
        """Call until refused; return how many calls were made, and when to come back.

        A slot that goes by while the machine stands still is counted, and no call is made on it.
        """
        limit = Limit("api", calls=10, window_s=1.0, scope="application", per_day=20)
        scopes = {"application": "acme:application"}
        own = RateGate(
            self._poller, [limit], scopes, self._clock, patience_s=30, lane=lane, party=party
        )
        for made in range(100):
            try:
                await own.enter("api")
            except RateLimitedError as error:
                return made, error.retry_after_s or 0.0
        pytest.fail("a day that does not end")

    async def counted(self, sessions: SessionMaker) -> int:
        """Return how many calls of the day are counted."""
        async with sessions.begin() as session:
            counted = await session.scalar(text("select sum(used) from limits.days"))
        return int(counted)

    async def let_half_the_day_pass(self, sessions: SessionMaker) -> None:
        """Let twelve hours be left of the day under way."""
        self.resets_at = datetime.now(UTC) + timedelta(hours=12)
        async with sessions.begin() as session:
            for table in ("days", "day_shares"):
                await session.execute(
                    text(f"update limits.{table} set resets_at = :at"), {"at": self.resets_at}
                )

    async def take(self, party: str, calls: int, *, is_person: bool = False) -> str:
        """Count calls of the day under way."""
        [row] = await fetch_alone(
            self._poller,
            "select limits.count_share('acme:application', $1, $2, 20, $3, $4)",
            party,
            calls,
            self.resets_at,
            is_person,
        )
        return str(row[0])


async def settle(sessions: SessionMaker, count: int) -> list[str]:
    """Make workspaces, each with an integration that reads an account of the provider."""
    parties = [uuid4() for _ in range(count)]
    for statement in (
        "insert into config.workspaces (workspace_id, name) values (:id, 'a')",
        """insert into config.connections (connection_id, workspace_id, provider, name)
        values (:id, :id, 'acme', 'a')""",
        """insert into config.integrations
        (integration_id, workspace_id, name, state, source_connection_id)
        values (:id, :id, 'a', 'active', :id)""",
    ):
        async with sessions.begin() as session:
            for party in parties:
                await session.execute(text(statement), {"id": party})
    return [str(party) for party in parties]


async def test_no_workspace_uses_up_the_day_of_the_others(
    poller: Transactions, sessions: SessionMaker
) -> None:
    """Proves CC5, S10: a day's calls are shared fairly, and a tenth is kept for people."""
    greedy, modest = await settle(sessions, 2)
    day = Sharers(poller)

    first, comes_back_s = await day.use_all(greedy)
    after_first = await day.counted(sessions)
    second, _ = await day.use_all(modest)
    after_second = await day.counted(sessions)
    people, waits_s = await day.use_all(greedy, lane=INTERACTIVE)

    assert max(first, second) <= 9
    assert people <= 2
    assert (after_first, after_second, await day.counted(sessions)) == (9, 18, 20)
    assert comes_back_s == rates.SHARE_AGAIN_S
    assert waits_s == 12 * 3_600  # Of a day that is over nothing becomes free before it ends.


async def test_who_is_alone_has_the_whole_day(poller: Transactions, sessions: SessionMaker) -> None:
    """Proves CC5: nothing is kept for those that have nothing running."""
    [alone] = await settle(sessions, 1)
    day = Sharers(poller)

    calls, _ = await day.use_all(alone)

    assert calls <= await day.counted(sessions) == 18


async def test_what_is_not_used_by_noon_is_for_everybody(
    poller: Transactions, sessions: SessionMaker
) -> None:
    """Proves CC5, S10: and what is left is kept until the evening for who comes late."""
    greedy, modest = await settle(sessions, 2)
    day = Sharers(poller)
    await day.use_all(greedy)
    await day.let_half_the_day_pass(sessions)

    lent = [await day.take(greedy, 5), await day.take(greedy, 1)]
    late = [await day.take(modest, 5), await day.take(modest, 1)]
    person = [await day.take(modest, 1, is_person=True), await day.take(modest, 1, is_person=True)]

    assert lent == ["counted", "share_over"]
    assert late == ["counted", "share_over"]
    assert person == ["counted", "day_over"]


async def test_who_begins_within_the_day_gets_of_what_is_free(
    poller: Transactions, sessions: SessionMaker
) -> None:
    """Proves CC5: what is kept for those before him is theirs."""
    [early] = await settle(sessions, 1)
    day = Sharers(poller)
    await day.take(early, 5)
    await day.let_half_the_day_pass(sessions)

    newcomer = str(uuid4())
    first = await day.take(newcomer, 1)
    # Half a day of all is kept for the first, 9 calls; half a day of half of it for the other.
    everything = [await day.take(early, 9), await day.take(early, 1)]

    assert first == "counted"
    assert everything == ["counted", "share_over"]
    assert await day.take(newcomer, 3) == "counted"


async def test_processes_that_divide_a_day_together_divide_it_once(
    poller: Transactions, sessions: SessionMaker
) -> None:
    """Proves CC5, S10: with any number of pollers not one call more than the day has."""
    parties = await settle(sessions, 3)
    day = Sharers(poller)

    made = await asyncio.gather(*(day.use_all(each) for each in parties for _ in range(2)))

    async with sessions.begin() as session:
        used = await session.execute(
            text("select party, used from limits.day_shares where used > 0 order by party")
        )
        assert [tuple(row) for row in used] == [(party, 6) for party in sorted(parties)]
    assert sum(calls for calls, _ in made) <= 18  # A slot that was lost was counted all the same.


def test_a_day_ends_at_midnight_where_the_account_is() -> None:
    assert rates.resets_at(NOON, "UTC") == datetime(2026, 11, 25, tzinfo=UTC)
    assert rates.resets_at(NOON, "US/Eastern") - NOON == timedelta(hours=17)


@pytest.mark.parametrize(
    ("limit", "rate", "share"),
    [
        (Limit("application", 4, 1.0), 4.0, 0.70),
        (Limit("search", 5, 1.0), 5.0, 0.70),
        (Limit("contacts", 10, 1.0), 10.0, 0.70),
        (Limit("contacts", 110, 10.0), 11.0, 0.85),
        (Limit("contacts", 190, 10.0), 19.0, 0.85),
        (Limit("reads", 60, 60.0), 1.0, 0.70),
        (Limit("single imports", 20, 60.0), 1 / 3, 0.70),
        (Limit("account", 100, 3600.0), 1 / 36, 0.70),
    ],
)
def test_a_backlog_uses_the_promised_share_of_a_limit(
    limit: Limit, rate: float, share: float
) -> None:
    """PROTOCOL 10: at least 70 % of up to 10 a second, 85 % above."""
    background = rates.pace([limit], interactive=False)
    wizard = rates.pace([limit], interactive=True)

    assert background.rate_per_s >= share * rate
    assert sum(most_in(each, limit.window_s) for each in (background, wizard)) <= limit.calls


def most_in(pace: rates.Pace, window_s: float) -> int:
    """Return how many calls a pace allows in any window that begins with a burst, at most."""
    fastest = pace.rate_per_s + pace.lent_per_s
    return pace.burst + math.ceil(round(fastest * window_s, 9))


async def test_what_is_kept_for_people_is_lent_while_nobody_is_there(
    poller: Transactions, sessions: SessionMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PROTOCOL 10: of a larger limit."""
    limit = Limit("contacts", calls=110, window_s=10.0)
    rates_seen: list[float] = []

    async def seen(on: Transactions, statement: str, *arguments: object) -> object:
        rows = await fetch_alone(on, statement, *arguments)
        rates_seen.append(1 / rows[0]["interval_s"])
        return rows

    async def go_back(seconds: float) -> None:
        async with sessions.begin() as session:
            back = {"back": timedelta(seconds=seconds)}
            moved = "next_at - cast(:back as interval)"
            await session.execute(text(f"update limits.slots set next_at = {moved}"), back)

    async def pace_of_one() -> float:
        await gate(poller, limit).enter("contacts")
        return rates_seen[-1]  # A slot that was lost is taken once more.

    monkeypatch.setattr(rates, "fetch_alone", seen)
    alone = await pace_of_one()
    await gate(poller, limit, lane=INTERACTIVE).enter("contacts")
    await go_back(10.0)
    beside_somebody = await pace_of_one()
    await go_back(8.0)
    alone_again = await pace_of_one()

    assert [alone, beside_somebody, alone_again] == pytest.approx([9.9, 9.46, 9.9])


def test_slots_of_a_small_limit_are_not_taken_ahead() -> None:
    """What nobody uses of it is lost to the other processes."""
    lane = rates._Lane([Limit("search", calls=5, window_s=1.0)], "")
    lane.grant(first=10.0, number=1, interval_s=0.25)
    assert lane.take_due(10.0) is not None
    lane.last_call = 10.0

    alone = lane.wanted(10.05)
    lane.waiting = 2

    assert (alone, lane.wanted(10.05)) == (1, 2)


def test_the_tightest_of_several_limits_sets_the_pace() -> None:
    tight_by_the_hour = [Limit("contacts", 10, 1.0), Limit("contacts", 3_600, 3600.0)]
    tight_by_the_second = [Limit("contacts", 10, 1.0), Limit("contacts", 36_000, 3600.0)]

    assert rates.pace(tight_by_the_hour, interactive=False) == rates.Pace(0.86, 0, 0.04)
    assert rates.pace(tight_by_the_second, interactive=False).rate_per_s == 8.0
