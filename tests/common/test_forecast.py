"""When a quota will be used up, and the use per day that it is judged by."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from libs.common import database, ledger
from libs.common.database import SessionMaker, enter_workspace, transaction_of
from libs.common.forecast import RECENT_DAYS, exhausted_at, period_end

NOON = datetime(2026, 11, 12, 12, tzinfo=UTC)
TODAY = NOON.date()


def day(back: int) -> date:
    return TODAY - timedelta(days=back)


def forecast(
    per_day: dict[date, int], *, used: int = 0, held: int = 0, now: datetime = NOON
) -> datetime | None:
    return exhausted_at(limit=1000, used=used, held=held, per_day=per_day, now=now)


def test_a_steady_use_goes_on() -> None:
    """100 a day for seven days and a half, 250 left: two days and a half."""
    per_day = {day(back): 100 for back in range(1, 8)} | {TODAY: 50}

    assert forecast(per_day, used=750) == NOON + timedelta(days=2.5)


def test_what_is_reserved_is_as_good_as_used() -> None:
    per_day = {day(back): 100 for back in range(1, 8)} | {TODAY: 50}

    assert forecast(per_day, used=700, held=200) == NOON + timedelta(days=1)


def test_days_without_use_count_from_the_first_that_had_any() -> None:
    """300 in two days and a half, of which one was idle."""
    assert forecast({day(2): 250, TODAY: 50}, used=760) == NOON + timedelta(days=2)


def test_an_hours_import_is_not_a_days_habit() -> None:
    """Half a day has passed since midnight: a whole one is counted."""
    assert forecast({TODAY: 500}, used=500) == NOON + timedelta(days=1)


def test_use_before_the_recent_days_is_forgotten() -> None:
    assert forecast({day(RECENT_DAYS + 1): 900}, used=900) is None
    assert forecast({day(RECENT_DAYS): 900}, used=999) is not None


def test_use_of_the_month_before_counts_in_the_first_days_of_a_month() -> None:
    now = datetime(2026, 11, 2, tzinfo=UTC)

    assert forecast({date(2026, 10, 31): 600}, now=now) == now + timedelta(days=1000 / 300)


def test_a_quota_that_outlasts_its_month_has_no_date() -> None:
    per_day = {day(back): 10 for back in range(1, 8)}

    assert forecast(per_day, used=70) is None


def test_without_use_there_is_no_date() -> None:
    assert forecast({}, used=500) is None
    assert forecast({TODAY: 0}, used=500) is None


@pytest.mark.parametrize("used", [1000, 1001])
def test_what_is_used_up_is_used_up_now(used: int) -> None:
    """A limit may have been lowered below use."""
    assert forecast({}, used=used) == NOON
    assert exhausted_at(limit=0, used=0, held=0, per_day={}, now=NOON) == NOON


def test_the_answer_is_in_utc_and_whole_seconds() -> None:
    elsewhere = timezone(timedelta(hours=9))
    now = (NOON + timedelta(microseconds=7)).astimezone(elsewhere)

    answer = forecast({TODAY: 300}, used=300, now=now)

    assert answer is not None
    assert answer == NOON + timedelta(days=7 / 3)
    assert answer.tzinfo is UTC
    assert answer.microsecond == 0


@given(
    limit=st.integers(0, 10**12),
    used=st.integers(0, 10**12),
    held=st.integers(0, 10**6),
    uses=st.dictionaries(st.integers(-3, 20), st.integers(0, 10**9)),
    now=st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001  # hypothesis wants naive bounds
)
def test_a_date_lies_between_now_and_the_periods_end(
    limit: int, used: int, held: int, uses: dict[int, int], now: datetime
) -> None:
    per_day = {now.date() - timedelta(days=back): count for back, count in uses.items()}

    answer = exhausted_at(limit=limit, used=used, held=held, per_day=per_day, now=now)

    assert answer is None or now.replace(microsecond=0) <= answer < period_end(now)
    if used + held >= limit:
        assert answer is not None


@pytest.mark.parametrize(
    ("now", "end"),
    [
        (datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
        (datetime(2028, 2, 1, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)),
        (
            datetime(2026, 11, 1, 1, tzinfo=timezone(timedelta(hours=2))),
            datetime(2026, 11, 1, tzinfo=UTC),
        ),
    ],
)
def test_a_period_ends_with_its_month_in_utc(now: datetime, end: datetime) -> None:
    assert period_end(now) == end


USED = """
insert into ledger.postings (workspace_id, period, effect_key, hold_id, integration_id,
  source_id, run_id, operation, posted_at)
select :workspace, ledger.current_period(), decode(md5(:tag || n), 'hex'),
  gen_random_uuid(), gen_random_uuid(), n::text, gen_random_uuid(), 'upsert',
  (date_trunc('day', clock_timestamp() at time zone 'UTC') - make_interval(days => :back))
    at time zone 'UTC'
from generate_series(1, :count) n
"""


async def use(sessions: SessionMaker, workspace: UUID, *, back: int, count: int) -> None:
    """Post so many tasks at the first moment of a UTC day."""
    async with sessions.begin() as session:
        await session.execute(
            text(USED),
            {"workspace": workspace, "tag": f"{back}:", "back": back, "count": count},
        )


async def test_use_is_counted_by_the_day_it_was_written(
    sessions: SessionMaker, role_url: Callable[[str], str]
) -> None:
    """The notifier sees how much was used, of one workspace, and no contact (X4)."""
    ours, theirs = uuid4(), uuid4()
    for workspace, back, count in ((ours, 0, 3), (ours, 7, 5), (ours, 8, 9), (theirs, 1, 7)):
        await use(sessions, workspace, back=back, count=count)
    notifier = database.create_engine(role_url("notifier"), pool_size_max=1, application_name="t")
    async with sessions.begin() as session:
        today = await session.scalar(text("select (clock_timestamp() at time zone 'UTC')::date"))

    async with database.session_maker(notifier).begin() as session:
        found = await ledger.use_per_day(await transaction_of(session), workspace=ours)
    with pytest.raises(DBAPIError, match="permission denied"):
        async with database.session_maker(notifier).begin() as session:
            await session.execute(text("select source_id from ledger.postings"))

    await notifier.dispose()
    assert found == {today: 3, today - timedelta(days=7): 5}


async def test_the_api_counts_no_other_workspaces_use(
    sessions: SessionMaker, role_url: Callable[[str], str]
) -> None:
    """Proves X3."""
    ours, theirs = uuid4(), uuid4()
    await use(sessions, theirs, back=0, count=1)
    api = database.create_engine(role_url("api"), pool_size_max=1, application_name="t")

    async with database.session_maker(api).begin() as session:
        await enter_workspace(session, ours)
        found = await ledger.use_per_day(await transaction_of(session), workspace=theirs)
    async with database.session_maker(api).begin() as session:
        await enter_workspace(session, theirs)
        own = await ledger.use_per_day(await transaction_of(session), workspace=theirs)

    await api.dispose()
    assert found == {}
    assert list(own.values()) == [1]
