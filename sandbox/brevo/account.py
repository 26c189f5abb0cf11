"""One Brevo account: everything it holds, and the knobs a test may turn."""

import asyncio
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec

from sandbox.brevo.attributes import Attributes
from sandbox.brevo.contacts import Contacts
from sandbox.brevo.imports import Process
from sandbox.brevo.lists import Lists
from sandbox.brevo.webhooks import Webhooks
from sandbox.brevo.writes import VersionedWrites
from sandbox.clock import Clock
from sandbox.limits import Limits, SlidingWindow
from sandbox.provider import Account, ControlError
from sandbox.wishes import Share

HOUR_S = 3600.0
# developers.brevo.com, docs/api-limits. A bucket's windows: calls and seconds.
TIERS: Mapping[str, Mapping[str, tuple[tuple[int, float], ...]]] = {
    "general": {"contacts": ((10, 1.0), (36_000, HOUR_S)), "other": ((100, HOUR_S),)},
    "advanced": {"contacts": ((20, 1.0), (72_000, HOUR_S)), "other": ((200, HOUR_S),)},
    "extended": {"contacts": ((60, 1.0),), "other": ((600, HOUR_S),)},
}
PROCESSES_KEPT = 10_000  # A soak test starts some hundreds.

Count = Annotated[int, msgspec.Meta(ge=0)]


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """What `PUT /_sandbox/settings` may change of an account."""

    import_delay_s: Annotated[float, msgspec.Meta(ge=0)] = 0.5  # From accepted to done.
    # `failed` and `cancelled` end an import after the first half of its rows.
    import_outcome: Literal["completed", "failed", "cancelled"] = "completed"
    import_silent_failures: Share = 0.0  # Rows that are neither applied nor reported.
    # Both have been seen (brevo-php#37: dropped; others: refused), and the contract says neither.
    unknown_attribute: Literal["ignore", "reject"] = "ignore"
    # Of a clash on update: both have been seen since May 2026, with the same metadata.
    update_clash_code: Literal["duplicate_parameter", "invalid_parameter"] = "duplicate_parameter"
    too_early_calls: Count = 0  # The next so many POST and PUT of a contact are answered 425.
    contact_limit: Count | None = None  # Of the plan; over it, POST is answered 402.
    batch_max: Count = 100  # Not documented by Brevo; integrations commonly say 100.
    key_enabled: bool = True  # False: the key was deleted, 401 "Key not found".
    address_authorised: bool = True  # False: 401 for the caller's IP address.
    plus_is_blank: bool = False  # True: a `+` in a path that is not written %2B is a blank.
    utc_offset_minutes: Annotated[int, msgspec.Meta(ge=-840, le=840)] = 120  # Of the account.


class BrevoAccount(Account):
    """An account with its contacts, lists and everything else; one api key opens all of it."""

    settings: Settings

    def __init__(
        self, account_id: str, name: str, api_key: str, *, clock: Clock, tier: str, language: str
    ) -> None:
        limits = Limits(clock, _windows(tier))
        super().__init__(account_id, name, clock=clock, limits=limits, settings=Settings())
        self.api_key = api_key
        self.tier = tier
        self.owner_email = f"owner@{name}.example.com"
        self.writes: VersionedWrites = VersionedWrites(clock)
        self.attributes = Attributes(language)
        self.contacts = Contacts(clock, self._tell)
        self.lists = Lists(self.now_us())
        self.webhooks = Webhooks()
        self.processes: dict[int, Process] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def has_room(self) -> bool:
        """Tell whether the plan allows one more contact."""
        limit = self.settings.contact_limit
        return limit is None or len(self.contacts) < limit

    def now_us(self) -> int:
        return int(self.clock.now_s() * 1_000_000)

    def shown_time(self, moment_us: int, *, precise: bool = False) -> str:
        """Return a time as Brevo shows it: with the account's offset, 3 or 6 fraction digits."""
        return _shown_time(self.settings.utc_offset_minutes, moment_us, precise=precise)

    def set_limits(self, changes: dict[str, Any]) -> dict[str, Any]:
        """Apply `tier`; raises `ControlError` if there is no such tier."""
        rest = dict(changes)
        tier = rest.pop("tier", None)
        if tier is not None:
            check_tier(tier)
            self.tier = tier
            for bucket, windows in _windows(tier).items():
                self.limits.replace(bucket, windows)
        return rest

    def open_process(self, name: str, *, delay_s: float, notify_url: str | None = None) -> Process:
        """Add a background process that is due after so many seconds."""
        now_s = self.clock.now_s()
        number = next(reversed(self.processes), 0) + 1
        process = Process(number, name, now_s, now_s + delay_s, notify_url)
        self.processes[number] = process
        if len(self.processes) > PROCESSES_KEPT:
            del self.processes[next(iter(self.processes))]
        return process

    def _tell(self, event: str, email: str, values: dict[str, Any]) -> None:
        for webhook in self.webhooks.wanting(event):
            self.run(webhook.send(event, email, self.clock.now_s(), values))

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Let something happen in the background for as long as the account exists."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """End what still runs in the background."""
        for task in self._tasks:
            task.cancel()


def check_tier(tier: object) -> str:
    if not isinstance(tier, str) or tier not in TIERS:
        message = f"there is no tier {tier!r}; there are: {', '.join(TIERS)}"
        raise ControlError(message)
    return tier


def _windows(tier: str) -> dict[str, list[SlidingWindow]]:
    return {
        bucket: [SlidingWindow(limit, window_s) for limit, window_s in windows]
        for bucket, windows in TIERS[tier].items()
    }


@lru_cache(maxsize=10_000)  # A contact's times are shown twice in each answer, and again in others.
def _shown_time(offset_minutes: int, moment_us: int, *, precise: bool) -> str:
    zone = timezone(timedelta(minutes=offset_minutes))
    seconds, microseconds = divmod(moment_us, 1_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).astimezone(zone)
    moment = moment.replace(microsecond=microseconds)
    return moment.isoformat(timespec="microseconds" if precise else "milliseconds")
