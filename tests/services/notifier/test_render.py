"""Every mail in every language renders, and nothing a person typed can break out of its place."""

from datetime import UTC, datetime
from email import message_from_bytes, policy
from uuid import UUID

import pytest

from services.notifier.render import render
from services.notifier.store import Notice
from services.notifier.words import LETTERS

PAYLOAD = {
    "workspace": "Acme\r\nBcc: victim@example.org",
    "integration": "<script>alert(1)</script>",
    "integrations": ["A & B", "C"],
    "reason": "list_missing",
    "period": "2026-12-01",
    "revision": 1,
    "limit": 100000,
    "used": 80000,
    "both": False,
}


def notice(kind: str, language: str) -> Notice:
    return Notice(
        id=UUID(int=1),
        workspace=UUID(int=2),
        kind=kind,
        language=language,
        recipient="anna@example.org",
        payload=PAYLOAD,
        created_at=datetime(2026, 11, 24, 12, tzinfo=UTC),
        attempts=1,
    )


@pytest.mark.parametrize(("kind", "language"), sorted(LETTERS))
def test_a_mail_renders_the_same_each_time_and_escapes_what_people_typed(
    kind: str, language: str
) -> None:
    """Fault 55."""
    once, twice = (
        render(notice(kind, language), sender="c@example.org", url="https://c.example.org")
        for _ in range(2)
    )

    assert once.as_bytes() == twice.as_bytes()
    parsed = message_from_bytes(once.as_bytes(), policy=policy.default)
    assert parsed["Bcc"] is None
    assert parsed["Message-ID"] == f"<{UUID(int=1)}@example.org>"
    assert parsed["Content-Language"] == language
    html = parsed.get_body(("html",))
    assert html is not None
    assert "<script>" not in html.get_content()


def test_every_kind_speaks_both_languages() -> None:
    kinds = {kind for kind, _ in LETTERS}

    assert set(LETTERS) == {(kind, language) for kind in kinds for language in ("en", "de")}


def test_the_month_after_december_is_january() -> None:
    mail = render(notice("quota_100", "en"), sender="c@example.org", url=None)

    assert "January 1, 2027" in str(mail.get_body(("plain",)))
