"""Which mail an event asks for, and what a failed try means: functions of values.

A notice's id is computed from its cause and its reader, and the Message-ID from the notice's id:
the same cause told again, or a mail sent again after a crash, is recognisably the same one
(RELIABILITY.md 5).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from libs.common import ids
from libs.common.events import (
    Event,
    IntegrationChanged,
    IntegrationKind,
    QuotaChanged,
    QuotaKind,
)

ATTEMPTS_MAX = 40  # With the waits below about a third of a day.
WAIT_FIRST_S = 10.0
WAIT_MOST_S = 900.0
DOUBLINGS_MAX = 10


@dataclass(frozen=True, slots=True)
class Mail:
    """A kind of mail with what it tells; `cause` is what makes it the same mail."""

    kind: str
    workspace: UUID
    cause: tuple[object, ...]
    facts: Mapping[str, Any]
    integration: UUID | None = None


_INTEGRATION_KINDS = {
    IntegrationKind.ERROR: "integration_error",
    IntegrationKind.NEEDS_REAUTH: "integration_needs_reauth",
    IntegrationKind.NEEDS_CONFIRMATION: "integration_needs_confirmation",
}


def mail_for(event: Event) -> Mail | None:
    """Return the mail that an event asks for; None if nobody is mailed about it."""
    match event:
        case QuotaChanged(kind=QuotaKind.THRESHOLD, threshold=threshold) if threshold:
            return Mail(
                kind=f"quota_{threshold}",
                workspace=event.workspace,
                cause=("quota", event.period, event.revision, threshold),
                facts={
                    "period": event.period,
                    "revision": event.revision,
                    "limit": event.limit,
                    "used": event.used,
                    "both": event.both,
                },
            )
        case IntegrationChanged() if event.kind in _INTEGRATION_KINDS:
            return Mail(
                kind=_INTEGRATION_KINDS[event.kind],
                workspace=event.workspace,
                cause=("integration", event.id),
                facts={"reason": event.reason},
                integration=event.integration,
            )
    return None


def notice_id(mail: Mail, recipient: str) -> UUID:
    """Return the id of one person's copy of a mail."""
    return ids.computed("notice", mail.kind, mail.workspace, *mail.cause, recipient)


def wait_s(attempts: int) -> float:
    """Return how long to wait after this many failed tries, in seconds."""
    return float(min(WAIT_MOST_S, WAIT_FIRST_S * 2 ** min(attempts - 1, DOUBLINGS_MAX)))
