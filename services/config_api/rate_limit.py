"""Our own limit on how often a workspace may call: a token bucket for each, in this process.

With several replicas a workspace may make as many calls in each; it protects a process, not a
contract. Fails open for a workspace that was forgotten (at most `CALLERS_MAX` are remembered).
Header fields as in draft-ietf-httpapi-ratelimit-headers (`RateLimit-Policy`, `RateLimit`).
"""

import math
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from libs.common.clock import Clock

CALLERS_MAX = 10_000
POLICY = "workspace"


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one call found: may it go on, and what is left."""

    is_allowed: bool
    headers: dict[str, str]
    retry_after_s: int


class RateLimiter:
    """Lets `calls` through in any `window_s`, refilled evenly."""

    def __init__(self, clock: Clock, *, calls: int, window_s: float) -> None:
        self._clock = clock
        self._calls = calls
        self._window_s = window_s
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, caller: Hashable) -> Allowance:
        """Count one call of a caller."""
        now = self._clock.monotonic()
        left, at = self._buckets.get(caller, (float(self._calls), now))
        left = min(self._calls, left + (now - at) * self._calls / self._window_s)
        is_allowed = left >= 1
        left -= is_allowed
        self._buckets[caller] = (left, now)
        self._buckets.move_to_end(caller)
        if len(self._buckets) > CALLERS_MAX:
            self._buckets.popitem(last=False)
        return self._allowance(left, is_allowed=is_allowed)

    def _allowance(self, left: float, *, is_allowed: bool) -> Allowance:
        per_call_s = self._window_s / self._calls
        resets_s = math.ceil((self._calls - left) * per_call_s)
        return Allowance(
            is_allowed=is_allowed,
            headers={
                "RateLimit-Policy": f'"{POLICY}";q={self._calls};w={math.ceil(self._window_s)}',
                "RateLimit": f'"{POLICY}";r={int(left)};t={resets_s}',
            },
            retry_after_s=max(1, math.ceil((1 - left) * per_call_s)),
        )
