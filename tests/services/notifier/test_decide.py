"""Which events are mailed, and how long a failed mail waits."""

from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from libs.common.events import (
    Event,
    IntegrationChanged,
    IntegrationKind,
    QuotaChanged,
    QuotaKind,
)
from services.notifier.decide import cause_id, mail_for, notice_id, wait_s

WORKSPACE, INTEGRATION = UUID(int=1), UUID(int=2)


def quota(**facts: Any) -> QuotaChanged:
    return QuotaChanged(
        id=UUID(int=9),
        workspace=WORKSPACE,
        period="2026-11-01",
        limit=100,
        revision=1,
        used=80,
        **facts,
    )


def integration(kind: IntegrationKind) -> IntegrationChanged:
    return IntegrationChanged(
        id=UUID(int=8), kind=kind, workspace=WORKSPACE, integration=INTEGRATION
    )


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (quota(kind=QuotaKind.THRESHOLD, threshold=80), "quota_80"),
        (quota(kind=QuotaKind.THRESHOLD, threshold=100, both=True), "quota_100"),
        (integration(IntegrationKind.ERROR), "integration_error"),
        (integration(IntegrationKind.NEEDS_REAUTH), "integration_needs_reauth"),
        (integration(IntegrationKind.NEEDS_CONFIRMATION), "integration_needs_confirmation"),
    ],
)
def test_what_a_person_must_know_is_mailed(event: Event, kind: str) -> None:
    mail = mail_for(event)

    assert mail is not None
    assert (mail.kind, mail.workspace) == (kind, WORKSPACE)


@pytest.mark.parametrize(
    "event",
    [
        quota(kind=QuotaKind.LIMIT_CHANGED),
        integration(IntegrationKind.RECOVERED),
        integration(IntegrationKind.FIRST_RUN_COMPLETE),
    ],
)
def test_what_needs_nobody_is_not_mailed(event: Event) -> None:
    assert mail_for(event) is None


def test_the_same_cause_is_the_same_mail_and_another_revision_is_not() -> None:
    """Proves Q2: exactly one per period, limit and workspace."""
    told = quota(kind=QuotaKind.THRESHOLD, threshold=80)
    others = [
        replace(told, revision=2),
        replace(told, period="2026-12-01"),
        replace(told, workspace=UUID(int=3)),
        replace(told, threshold=100),
    ]
    mails = [mail for event in (told, *others) if (mail := mail_for(event))]
    again = mail_for(replace(told, id=UUID(int=10), used=81))
    assert again is not None

    notices = {notice_id(mail, "a@example.org") for mail in mails}

    assert notice_id(again, "a@example.org") == notice_id(mails[0], "a@example.org")
    assert len(notices | {notice_id(again, "b@example.org")}) == len(others) + 2
    assert len({cause_id(mail) for mail in mails}) == len(others) + 1


def test_waits_grow_and_are_bounded() -> None:
    waits = [wait_s(attempts) for attempts in range(1, 50)]

    assert waits[:3] == [10.0, 20.0, 40.0]
    assert waits[-1] == 900.0
