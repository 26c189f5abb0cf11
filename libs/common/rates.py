"""Provider limits shared by every process, through PostgreSQL (PROTOCOL.md 10, S10).

A `RateGate` stands before each call of a connector. It takes call times from `limits.take` in
chunks of at most half a second's worth; it counts calls of the day; and it tells everybody when a
provider says stop. Promises: all processes together stay below the limit in any window as long as
calls are made when they are due; slots of a process that is later than the limit has to spare are
dropped and never caught up, whether the process stood still or the database's answer was late.

Shares of a limit: interactive calls (the wizard) have a tenth of their own, so that a busy sync
never makes a person wait. Where a limit is small, jitter on the way is large beside the distance
of two calls, so less of it is used: 75 to 80 % up to 10 a second; above 86 %. While no person is
there it is 90 % of these, and 86 % of ten a second. Who is refused nevertheless goes on more
slowly, and is back at the old pace two minutes later at most (docs/decisions/0147).
"""

import asyncio
import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

from libs.common.clock import Clock
from libs.common.errors import RateLimitedError
from libs.common.postgres import Transactions, fetch_alone

INTERACTIVE = "interactive"
# How late a call may be made at most, and at least: less than this no network keeps.
SLOT_VALID_MOST_S, SLOT_VALID_LEAST_S = 1.0, 0.05
CHUNK_S = 0.5

# From this window on (Google's minute, Brevo's hour) a rest may be followed by a burst.
LONG_WINDOW_S = 60.0
SMALL_LIMIT_PER_S = 10.0
INTERACTIVE_SHARE = 0.10
SHARE_LEAST = 0.70  # PROTOCOL.md 10: what a backlog uses of a limit at least.
# Of a larger limit. Not all of the tenth: who comes meets slots that were handed out before.
LENT_SHARE = 0.04

# How long the database's quickest answer tells of its clock, and how far clocks part meanwhile.
KNOWN_S, DRIFT_S = 30.0, 0.02

# Two calls of one process are never closer than this share of the slots' distance.
SPACING_SHARE = 0.95


class LimitLike(Protocol):
    """What this module needs of `libs.connectors.contract.Limit`."""

    @property
    def bucket(self) -> str: ...
    @property
    def calls(self) -> int: ...
    @property
    def window_s(self) -> float: ...
    @property
    def scope(self) -> str: ...
    @property
    def per_day(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast one lane may call one bucket: calls a second, and calls at once after a rest.

    `lent_per_s` is what it may be faster by while nobody interactive is there.
    """

    rate_per_s: float
    burst: int
    lent_per_s: float = 0.0


def pace(limits: Iterable[LimitLike], *, interactive: bool) -> Pace:
    """Return the pace that keeps a lane's share below every one of a bucket's limits.

    A burst is only for buckets that have long windows alone: where a short one stands beside it,
    calls are spaced anyway, and nothing of the long one needs to be kept for bursts.
    """
    limits = list(limits)
    spaced = any(limit.window_s < LONG_WINDOW_S for limit in limits)
    paces = [_pace_of(limit, interactive=interactive, spaced=spaced) for limit in limits]
    tightest = min(paces, key=lambda pace: pace.rate_per_s)
    return replace(tightest, burst=min(pace.burst for pace in paces))


def _pace_of(limit: LimitLike, *, interactive: bool, spaced: bool) -> Pace:
    per_s = limit.calls / limit.window_s
    if not spaced:
        # 77 % + 9 % burst, and 5 % + 9 % burst: together not above the limit in any window. A burst
        # comes on top of the call that is due anyway.
        rate, burst = (0.05, 0.09) if interactive else (0.77, 0.09)
        return Pace(rate_per_s=rate * per_s, burst=max(0, int(burst * limit.calls) - 1))
    if interactive:
        return Pace(INTERACTIVE_SHARE * per_s, burst=0)
    return Pace(_share(limit) * per_s, burst=0, lent_per_s=_lent_share(limit) * per_s)


def _share(limit: LimitLike) -> float:
    """Return what background calls may use of a limit whose calls are spaced.

    Of a few calls a window, one that is a person's is a large part: 3 of 4 are left then.
    """
    if not _is_small(limit):
        return 0.86
    beside = (limit.calls - math.ceil(INTERACTIVE_SHARE * limit.calls)) / limit.calls
    return min(0.80, beside) if beside >= SHARE_LEAST else 0.80


def _lent_share(limit: LimitLike) -> float:
    """Return how much more it is while nobody is there; who comes finds room for his first call."""
    if not _is_small(limit):
        return LENT_SHARE
    together = math.ceil(0.86 * limit.calls) + math.ceil(INTERACTIVE_SHARE * limit.calls)
    return 0.06 if together <= limit.calls else 0.0


def _is_small(limit: LimitLike) -> bool:
    return limit.calls / limit.window_s <= SMALL_LIMIT_PER_S and limit.window_s < LONG_WINDOW_S


def slot_valid_s(limits: Iterable[LimitLike]) -> float:
    """Return how late a call may be made: what all shares together leave free of each window.

    On the average, slots of a window and of so much before it are then the limit's calls; where a
    background and an interactive slot fall together, a call that late may be one more.
    """
    spare = (
        limit.window_s / (_share(limit) + INTERACTIVE_SHARE) - limit.window_s for limit in limits
    )
    return min(SLOT_VALID_MOST_S, max(SLOT_VALID_LEAST_S, min(spare)))


def resets_at(now: datetime, time_zone: str) -> datetime:
    """Return when the provider's day ends: the next midnight in its zone."""
    local = now.astimezone(ZoneInfo(time_zone))
    tomorrow = local.date() + timedelta(days=1)
    return datetime.combine(tomorrow, datetime.min.time(), tzinfo=local.tzinfo)


# When to ask again where what is left of a day is kept for others: some of it is free by then.
SHARE_AGAIN_S = 900.0
# Whose limit it is where all workspaces share one (`libs.connectors.contract.Limit.scope`).
APPLICATION = "application"

# One statement is one small transaction. Its commit is waited for: slots that a crash forgets would
# be handed out again while who has them still calls. On a day that is over, the slots were taken
# for nobody: it is over for all. On one whose rest is kept for others one slot is lost to them.
_TAKE = """
    select t.*, extract(epoch from clock_timestamp())::double precision as now,
        case when t.granted = 0 or $7::integer is null then 'counted'
          when $10 <> '' then limits.count_share($1, $10, t.granted, $7, $8, $6 <> '')
          when limits.count_day($1, t.granted, $7, $8) then 'counted'
          else 'day_over' end as day
    from limits.take($1, $2, $3, $4, $5, $6, $9) t
    """


class _DatabaseClock:
    """How our clock stands to the database's, as its quickest answer of the last moments shows.

    An answer comes after the moment it tells of: how much later is known from those that were
    quicker. Slots are by the database's clock, so the answer's own way must not move them.
    """

    def __init__(self) -> None:
        self._ours_less_theirs = float("inf")
        self._known_at = float("-inf")

    def ours(self, theirs: float, asked: float, answered: float) -> tuple[float, float]:
        """Return when it was `theirs` by our clock, and by how much that may be too late."""
        ahead = answered - theirs
        # It was told after it was asked for: if not by what we know, one of the clocks was set.
        was_set = theirs + self._ours_less_theirs < asked - DRIFT_S
        if was_set or answered > self._known_at + KNOWN_S:
            self._ours_less_theirs, self._known_at = ahead, answered
            return answered, answered - asked
        if ahead <= self._ours_less_theirs:
            self._ours_less_theirs, self._known_at = ahead, answered
        return theirs + self._ours_less_theirs, 0.0


class _Lane:
    """The slots this process holds of one bucket."""

    def __init__(self, limits: list[LimitLike], lane: str) -> None:
        self.lock = asyncio.Lock()
        self.pace = pace(limits, interactive=lane == INTERACTIVE)
        self.chunk = max(1, int(self.pace.rate_per_s * CHUNK_S))
        self.per_day = min((limit.per_day for limit in limits if limit.per_day), default=None)
        self.scope = limits[0].scope
        self.valid_s = slot_valid_s(limits)
        # Where slots are few, one that nobody uses is a larger loss than a statement more.
        self.takes_ahead = not all(_is_small(limit) for limit in limits)
        self.due: deque[float] = deque()
        self.last_call = float("-inf")
        self.waiting = 0
        self._at_once = 1

    def wanted(self, now: float) -> int:
        """Return how many slots to take: for all who wait; twice the last ones if all were used.

        A sweep's calls come one by one, but as fast as they may: asking for each of them would cost
        more than making it.
        """
        if now > self.last_call + 2 / self.pace.rate_per_s or not self.takes_ahead:
            self._at_once = 1
        return min(self.chunk, max(self.waiting, self._at_once))

    def grant(self, first: float, number: int, interval_s: float) -> None:
        """Keep slots that were taken."""
        self.due.extend(first + each * interval_s for each in range(number))
        self._at_once = 2 * number

    def lose_turn(self) -> None:
        """Hear that a slot went by: there were too many."""
        self._at_once = 1

    def take_due(self, now: float) -> float | None:
        """Return when the next call may be made; None if no slot is valid any more."""
        while self.due:
            due = self.due.popleft()
            if not self.is_late(due, now):
                return due
            self.lose_turn()
        return None

    def is_late(self, due: float, now: float) -> bool:
        """Return whether a call on this slot would come too close to those after it."""
        return now > due + self.valid_s


class RateGate:
    """Lets calls of one account through at the pace of its limits.

    `scopes` names whose limit it is in the shared tables, by the limit's own scope
    (`{"account": "hubspot:62515"}`). `patience_s` is the longest a caller whose turn it is is kept
    waiting; after it RateLimitedError says when to come back. One gate serves many tasks of one
    process, each in its turn. `party` is who shares a day's calls with others where they are our
    application's: nobody uses up what the others need (docs/decisions/0155); empty: first come.
    """

    def __init__(
        self,
        transactions: Transactions,
        limits: Iterable[LimitLike],
        scopes: Mapping[str, str],
        clock: Clock,
        *,
        patience_s: float,
        time_zone: str = "UTC",
        lane: str = "",
        party: str = "",
    ) -> None:
        self._transactions = transactions
        self._scopes = scopes
        self._clock = clock
        self._patience_s = patience_s
        self._time_zone = time_zone
        self._lane = lane
        self._party = party
        self._database_clock = _DatabaseClock()
        by_bucket: dict[str, list[LimitLike]] = {}
        for limit in limits:
            by_bucket.setdefault(limit.bucket, []).append(limit)
        self._lanes = {bucket: _Lane(found, lane) for bucket, found in by_bucket.items()}

    async def enter(self, bucket: str) -> None:
        """Wait for a slot; raise RateLimitedError if none comes within the patience."""
        lane = self._lanes[bucket]
        lane.waiting += 1
        try:
            async with lane.lock:
                await self._wait_for_slot(bucket, lane)
        finally:
            lane.waiting -= 1

    async def limited(self, bucket: str, retry_after_s: float) -> None:
        """Stop a bucket for every process until the provider's time is over (at most 24 h)."""
        lane = self._lanes[bucket]
        lane.due.clear()
        block = "select limits.block($1, $2, $3)"
        await fetch_alone(
            self._transactions, block, self._scopes[lane.scope], bucket, retry_after_s
        )

    async def _wait_for_slot(self, bucket: str, lane: _Lane) -> None:
        deadline = self._clock.monotonic() + self._patience_s
        while True:
            due = await self._due(bucket, lane, deadline)
            spaced = lane.last_call + SPACING_SHARE / (lane.pace.rate_per_s + lane.pace.lent_per_s)
            await self._sleep_until(due if lane.pace.burst else max(due, spaced))
            now = self._clock.monotonic()
            # A process that stood still while it waited has lost its turn.
            if not lane.is_late(due, now):
                lane.last_call = now
                return
            lane.lose_turn()

    async def _due(self, bucket: str, lane: _Lane, deadline: float) -> float:
        while True:
            due = lane.take_due(self._clock.monotonic())
            if due is not None:
                return due
            wait_s = await self._take(bucket, lane)
            if wait_s == 0:
                continue
            if self._clock.monotonic() + wait_s > deadline:
                raise RateLimitedError(bucket, wait_s)
            await self._sleep_until(self._clock.monotonic() + wait_s)

    async def _take(self, bucket: str, lane: _Lane) -> float:
        """Take slots for everyone who waits; return 0, or how long until it may be tried again."""
        wanted = lane.wanted(self._clock.monotonic())
        end = resets_at(self._clock.now(), self._time_zone)
        asked = self._clock.monotonic()
        [row] = await fetch_alone(
            self._transactions,
            _TAKE,
            self._scopes[lane.scope],
            bucket,
            wanted,
            lane.pace.rate_per_s,
            lane.pace.burst,
            f":{self._lane}" if self._lane else "",
            lane.per_day,
            end,
            lane.pace.lent_per_s,
            self._party if lane.scope == APPLICATION else "",
        )
        if row["day"] != "counted":
            left_s = (end - self._clock.now()).total_seconds()
            again_s = left_s if row["day"] == "day_over" else min(left_s, SHARE_AGAIN_S)
            raise RateLimitedError(bucket, again_s)
        if not row["granted"]:
            return max(float(row["wait_s"]), 0.001)
        # Slots whose time may be over are dropped; the next answer is known better.
        now, doubt_s = self._database_clock.ours(row["now"], asked, self._clock.monotonic())
        if doubt_s <= lane.valid_s:
            lane.grant(now + row["wait_s"], row["granted"], row["interval_s"])
        return 0

    async def _sleep_until(self, moment: float) -> None:
        left = moment - self._clock.monotonic()
        if left > 0:
            await asyncio.sleep(left)
