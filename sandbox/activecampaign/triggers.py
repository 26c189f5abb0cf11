"""What a write sets off: automations, autoresponders, webhooks and mails to a list's owner.

Every write to a contact does, unless the call says not to, and only the importer's call can say
so: `exclude_automations` keeps automations and autoresponders still, and an import calls no webhook
and mails nobody in any case. Nothing is really sent; it is remembered, for tests to look at.
"""

from collections import Counter
from typing import Any

KEPT = 10_000  # Enough for any test to look at; the counts are exact.


class Triggers:
    """What was set off in one account, in order."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.last: list[dict[str, Any]] = []

    def set_off(self, kind: str, on: str, email: str) -> None:
        self.counts[kind] += 1
        if len(self.last) < KEPT:
            self.last.append({"kind": kind, "on": on, "email": email})


class Cause:
    """A call, and what it lets be set off."""

    def __init__(self, triggers: Triggers, *, automations: bool = True, others: bool = True):
        self._triggers = triggers
        self._automations = automations
        self._others = others

    @classmethod
    def silent(cls) -> "Cause":
        """Return a cause that sets nothing off: what the account's own people do in its pages."""
        return cls(Triggers())

    def changed(self, email: str) -> None:
        """Set off what follows a contact that was made, or values that changed."""
        self._automation("update", email)
        self._other("webhook", "update", email)

    def tagged(self, email: str) -> None:
        self._automation("tag", email)
        self._other("webhook", "tag", email)

    def joined(self, email: str) -> None:
        """Set off what follows a subscription to a list."""
        self._automation("subscribe", email)
        if self._automations:
            self._triggers.set_off("autoresponder", "subscribe", email)
        self._other("webhook", "subscribe", email)
        self._other("notification", "subscribe", email)

    def left(self, email: str) -> None:
        """Set off what follows a contact that left a list."""
        self._automation("unsubscribe", email)
        self._other("webhook", "unsubscribe", email)
        self._other("notification", "unsubscribe", email)

    def _automation(self, on: str, email: str) -> None:
        if self._automations:
            self._triggers.set_off("automation", on, email)

    def _other(self, kind: str, on: str, email: str) -> None:
        if self._others:
            self._triggers.set_off(kind, on, email)
