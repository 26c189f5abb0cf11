"""What was asked of an account, what it wrote, and where it went over a limit.

This is the tests' oracle: nothing is forgotten before it is reset, except that of the violations
only the last ones are kept in full (their number is exact).
"""

from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

from sandbox.clock import Clock

VIOLATIONS_KEPT = 100  # Enough to see a pattern; a runaway client must not fill the memory.


class Calls:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        self.by_endpoint: Counter[str] = Counter()
        self.violations_by_bucket: Counter[str] = Counter()
        self.last_violations: deque[dict[str, Any]] = deque(maxlen=VIOLATIONS_KEPT)

    def count(self, endpoint: str) -> None:
        self.by_endpoint[endpoint] += 1

    def violate(self, bucket: str, endpoint: str) -> None:
        """Remember a call that was over a limit."""
        self.violations_by_bucket[bucket] += 1
        self.last_violations.append(
            {"at": self._clock.now().isoformat(), "bucket": bucket, "endpoint": endpoint}
        )

    def report(self) -> dict[str, Any]:
        return {
            "total": self.by_endpoint.total(),
            "by_endpoint": dict(sorted(self.by_endpoint.items())),
            "violations": self.violations_by_bucket.total(),
            "violations_by_bucket": dict(self.violations_by_bucket),
            "last_violations": list(self.last_violations),
        }


class Writes:
    """Every write to a contact, in order; `seq` starts at 1 and never repeats within a start."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def add(
        self,
        endpoint: str,
        *,
        identity: str | None,
        attributes: Mapping[str, Any],
        contact_id: str | int | None,
        created: bool,
    ) -> None:
        self._entries.append(
            {
                "seq": len(self._entries) + 1,
                "at": self._clock.now().isoformat(),
                "endpoint": endpoint,
                "identity": identity,
                "attributes": dict(attributes),
                "contact_id": contact_id,
                "created": created,
            }
        )

    def after(self, seq: int) -> list[dict[str, Any]]:
        return self._entries[max(seq, 0) :]
