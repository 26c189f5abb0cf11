"""What queries found, kept for those who read it page by page.

A result is the records as they were when the query ran: a record never changes, a write puts
another in its place. It stays for two days; since API 56 there may be any number (limits
cheat sheet).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.salesforce.ids import LOCATOR, new_id
from sandbox.salesforce.records import Row

LIFETIME_S = 2 * 86_400
KEPT_MAX = 1_000  # For our memory's sake: Salesforce has no cap.


@dataclass(frozen=True, slots=True)
class Result:
    """What a query found, and how each record of it is shown."""

    account: str
    rows: Sequence[Row]
    shown: Callable[[Row], dict[str, Any]]
    page_rows: int
    made_s: float


class Results:
    def __init__(self) -> None:
        self._kept: dict[str, Result] = {}
        self._made = 0

    def keep(self, result: Result) -> str:
        """Return the locator of a result."""
        self._made += 1
        locator = new_id(LOCATOR, 1, self._made)
        self._kept[locator] = result
        while len(self._kept) > KEPT_MAX:
            del self._kept[next(iter(self._kept))]
        return locator

    def find(self, locator: str, account: str, now_s: float) -> Result | None:
        """Return an account's result; None if it is unknown or too old."""
        for old in [key for key, each in self._kept.items() if now_s - each.made_s >= LIFETIME_S]:
            del self._kept[old]
        result = self._kept.get(locator)
        return result if result is not None and result.account == account else None
