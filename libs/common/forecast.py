"""When a month's quota will be used up, judged by the use of the last days: a function of values.

Promises: the same figures give the same answer wherever it is told (the API, the mails); a date is
told only if it lies in the period that it is about.
"""

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta

# A week has each of its days once: who writes on working days only is judged by both kinds.
RECENT_DAYS = 7

DAY = timedelta(days=1)


def exhausted_at(
    *, limit: int, used: int, held: int, per_day: Mapping[date, int], now: datetime
) -> datetime | None:
    """Return when the quota will be used up, in UTC and to the second; None if not this month.

    `limit`, `used` and `held` are tasks of the present month, `per_day` the tasks of each UTC day
    (days without any may be left out), `now` an aware time. The method: the use of today and of
    the `RECENT_DAYS` whole days before it, whichever month they lie in, is divided by the time
    since the first of these days that had any use, at least one day, so that an hour's import is
    not taken for a day's habit. At that steady rate, what is left (`limit - used - held`) lasts
    from now until the answer. It is `now` itself if nothing is left. None: there was no use, or at
    this rate the quota outlasts the month. Days on which a used-up quota stopped all writing count
    as days without use, so shortly after a grant the answer is rather late than early.
    """
    now = now.astimezone(UTC)
    left = limit - used - held
    if left <= 0:
        return now.replace(microsecond=0)
    rate = tasks_a_day(per_day, now)
    if rate == 0 or left / rate * DAY.total_seconds() >= (period_end(now) - now).total_seconds():
        return None
    seconds = math.floor(left / rate * DAY.total_seconds())
    return now.replace(microsecond=0) + timedelta(seconds=seconds)


def period_end(now: datetime) -> datetime:
    """Return when the quota period of a moment ends: the first of the next month, UTC."""
    return datetime.combine(next_period(now.astimezone(UTC).date()), time(), UTC)


def next_period(day: date) -> date:
    """Return the first day of the month after a day's."""
    return (day.replace(day=1) + timedelta(days=31)).replace(day=1)


def tasks_a_day(per_day: Mapping[date, int], now: datetime) -> float:
    """Return the rate of the last days, by the method of `exhausted_at`; 0 without any use."""
    now = now.astimezone(UTC)
    today = now.date()
    recent = {
        day: used
        for day, used in per_day.items()
        if used > 0 and today - timedelta(days=RECENT_DAYS) <= day <= today
    }
    if not recent:
        return 0.0
    since = datetime.combine(min(recent), time(), UTC)
    return sum(recent.values()) / max((now - since) / DAY, 1.0)
