"""What a provider's imitation gives to the core: its accounts, its routes, its manners.

The core does the rest for every provider alike: reading HTTP, faults, counting calls, the control
interface. A provider's package has `state.State`, a `Provider` of its own kind of `Account`, and
`app.create_app(state)`, which returns `sandbox.server.ProviderApp(state)`.
"""

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

import msgspec

from sandbox.calls import Calls, Writes
from sandbox.clock import Clock
from sandbox.exchange import Answer, Request, Route, Routes
from sandbox.faults import FaultPlan, Faults
from sandbox.limits import Limits


class ControlError(ValueError):
    """A control call cannot be carried out; the text says why. Answered as 400."""


class Account:
    """One customer's account at one provider; a provider adds its contacts and lists."""

    def __init__(
        self, account_id: str, name: str, *, clock: Clock, limits: Limits, settings: msgspec.Struct
    ) -> None:
        self.id = account_id
        self.name = name
        self.clock = clock
        self.limits = limits
        self.settings = settings  # Knobs that `PUT /_sandbox/settings` may turn.
        self.calls = Calls(clock)
        self.writes = Writes(clock)
        self.faults = Faults()

    def set_limits(self, changes: dict[str, Any]) -> dict[str, Any]:
        """Apply the changes only this provider understands (a tier); return the others.

        Raises `ControlError` if one cannot be applied.
        """
        return dict(changes)


A = TypeVar("A", bound=Account)


class Provider(ABC, Generic[A]):
    """All accounts of one provider in this process, and how it answers."""

    def __init__(self, *, seed: int = 1, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.seed = seed
        self.accounts: dict[str, A] = {}
        self.routes: Routes[A] = Routes()  # The provider's interface.
        self.control: Routes[A] = Routes()  # Its own part of /_sandbox/.
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Make everything as it was at the start: the default account and nothing in it."""
        self.seed = seed
        self.accounts.clear()
        self.clock.reset()
        self.start()

    @property
    def default(self) -> A:
        """The account that was there first."""
        return next(iter(self.accounts.values()))

    @abstractmethod
    def start(self) -> None:
        """Put the default account into `accounts`."""

    @abstractmethod
    def open_account(self, wishes: dict[str, Any]) -> tuple[A, dict[str, Any]]:
        """Make another account; return it and its credentials. Raises `ControlError`."""

    @abstractmethod
    def account_of(self, request: Request) -> A | None:
        """Return whose credentials a call carries; None if it carries none that are known."""

    @abstractmethod
    def admit(self, account: A | None, route: Route[A], request: Request) -> A:
        """Check credentials, rights and limits; return whose call it is, or raise `RefusedError`.

        A call over a limit is told to `account.calls.violate` here.
        """

    @abstractmethod
    def no_route(self, request: Request, methods: list[str]) -> Answer:
        """Return the answer to a path that is not there, or has only these other methods."""

    @abstractmethod
    def error(self, status: int) -> Answer:
        """Return the provider's usual body for a status: what a `status` fault answers."""

    @abstractmethod
    def throttled(self, account: A, route: Route[A] | None) -> Answer:
        """Return the provider's own 429: what a `throttle` fault answers."""

    @abstractmethod
    def bad_json(self, request: Request, reason: str) -> Answer:
        """Return the answer to a body that is not JSON."""

    def lie(self, account: A, route: Route[A], request: Request, fault: FaultPlan) -> Answer:
        """Return an answer that claims success; nothing may be applied."""
        if fault.status is not None or fault.body is not None:
            return Answer(fault.status or 200, fault.body, fault.headers)
        return Answer(200, {}) if request.method in {"GET", "POST"} else Answer(204)

    def finish(
        self, account: A | None, route: Route[A] | None, request: Request, answer: Answer
    ) -> Answer:
        """Add what every answer carries (rate limit headers, a correlation id)."""
        return answer
