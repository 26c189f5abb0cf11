"""Which mail an event asks for, and what a failed try means: functions of values.

A notice's id is computed from its cause and its reader, and the Message-ID from the notice's id:
the same cause told again, or a mail sent again after a crash, is recognisably the same one
(RELIABILITY.md 5).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from libs.common import forecast, ids
from libs.common.events import (
    Event,
    IntegrationChanged,
    IntegrationKind,
    QuotaChanged,
    QuotaKind,
)
from libs.common.ids import Prefix
from libs.common.mails import MailKind

ATTEMPTS_MAX = 40  # With the waits below about a third of a day.
WAIT_FIRST_S = 10.0
WAIT_MOST_S = 900.0
DOUBLINGS_MAX = 10


@dataclass(frozen=True, slots=True)
class Mail:
    """A kind of mail with what it tells; `cause` is what makes it the same mail.

    `at`: when it was decided, RFC 3339; empty if the event does not say. `period` is the month of
    the quota that it is about; None if it is about no quota.
    """

    kind: MailKind
    workspace: UUID
    cause: tuple[object, ...]
    facts: Mapping[str, Any]
    at: str = ""
    period: date | None = None
    integration: UUID | None = None


_INTEGRATION_KINDS = {
    IntegrationKind.ERROR: MailKind.INTEGRATION_ERROR,
    IntegrationKind.NEEDS_REAUTH: MailKind.INTEGRATION_NEEDS_REAUTH,
    IntegrationKind.NEEDS_CONFIRMATION: MailKind.INTEGRATION_NEEDS_CONFIRMATION,
}
_THRESHOLD_KINDS = {80: MailKind.QUOTA_80, 100: MailKind.QUOTA_100}
_REQUEST_KINDS = {
    QuotaKind.REQUEST_OPENED: MailKind.QUOTA_REQUEST_OPENED,
    QuotaKind.REQUEST_GRANTED: MailKind.QUOTA_GRANTED,
    QuotaKind.REQUEST_DECLINED: MailKind.QUOTA_DECLINED,
}


def mail_for(event: Event) -> Mail | None:
    """Return the mail that an event asks for; None if nobody is mailed about it.

    A limit that an operator changes unasked is not mailed about: whoever agreed on it knows, the
    audit log and the quota show it, and its threshold, once crossed, is told like any other.
    """
    match event:
        case QuotaChanged(kind=QuotaKind.THRESHOLD, threshold=threshold):
            kind = _THRESHOLD_KINDS.get(threshold or 0)
            cause: tuple[object, ...] = ("quota", event.period, event.revision, threshold)
            return _about_quota(event, kind, cause, {"both": event.both})
        case QuotaChanged() if event.kind in _REQUEST_KINDS and event.request is not None:
            return _about_quota(
                event,
                _REQUEST_KINDS[event.kind],
                ("request", event.request),
                {
                    "request_id": ids.show(Prefix.QUOTA_REQUEST, event.request),
                    "wanted": event.limit if event.wanted is None else event.wanted,
                    "is_for_period": event.is_for_period,
                    "words": event.words,
                },
            )
        case QuotaChanged(kind=QuotaKind.DRIFT):
            facts = {"check": event.check, "drift": event.drift or 0}
            return _about_quota(event, MailKind.DRIFT, ("drift", event.id), facts)
        case IntegrationChanged() if event.kind in _INTEGRATION_KINDS:
            return Mail(
                kind=_INTEGRATION_KINDS[event.kind],
                workspace=event.workspace,
                cause=("integration", event.id),
                facts={
                    "reason": event.reason,
                    "integration_id": ids.show(Prefix.INTEGRATION, event.integration),
                },
                at=event.at,
                integration=event.integration,
            )
    return None


def _about_quota(
    event: QuotaChanged, kind: MailKind | None, cause: tuple[object, ...], facts: Mapping[str, Any]
) -> Mail | None:
    if kind is None:
        return None
    return Mail(
        kind=kind,
        workspace=event.workspace,
        cause=cause,
        facts={
            "workspace_id": ids.show(Prefix.WORKSPACE, event.workspace),
            "period": event.period,
            "revision": event.revision,
            "limit": event.limit,
            "used": event.used,
            **facts,
        },
        at=event.at,
        period=date.fromisoformat(event.period),
    )


def outlook(
    mail: Mail, *, held: int, per_day: Mapping[date, int], at: datetime
) -> Mapping[str, Any]:
    """Return what a mail about the quota says of the time to come, by `libs.common.forecast`.

    `forecast`: when the limit will be used up, or None; `tasks_a_day`: the rate of the last days;
    `still_wanted`: how many tasks the rest of the month would take at that rate.
    """
    rate = forecast.tasks_a_day(per_day, at)
    exhausted_at = forecast.exhausted_at(
        limit=mail.facts["limit"], used=mail.facts["used"], held=held, per_day=per_day, now=at
    )
    days_left = (forecast.period_end(at) - at) / forecast.DAY
    return {
        "forecast": exhausted_at.isoformat() if exhausted_at else None,
        "tasks_a_day": round(rate),
        "still_wanted": round(rate * days_left),
    }


def cause_id(mail: Mail) -> UUID:
    """Return the id of what a mail tells, the same for all its readers."""
    return ids.computed("cause", mail.kind, mail.workspace, *mail.cause)


def notice_id(mail: Mail, recipient: str) -> UUID:
    """Return the id of one person's copy of a mail."""
    return ids.computed("notice", mail.kind, mail.workspace, *mail.cause, recipient)


def wait_s(attempts: int) -> float:
    """Return how long to wait after this many failed tries, in seconds."""
    return float(min(WAIT_MOST_S, WAIT_FIRST_S * 2 ** min(attempts - 1, DOUBLINGS_MAX)))
