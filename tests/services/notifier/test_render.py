"""Every mail in every language renders, and nothing a person typed can break out of its place."""

import re
from datetime import UTC, datetime, timedelta, timezone
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any
from uuid import UUID

import pytest
from aiosmtplib.email import flatten_message

from libs.common.mails import MailKind
from services.notifier.render import moment, number, render, rendered, share
from services.notifier.samples import FACTS
from services.notifier.store import Notice
from services.notifier.words import LETTERS

HOSTILE = {
    "workspace": "Acme\r\nBcc: victim@example.org",
    "integration": "<script>alert(1)</script>",
    "integrations": ["A & B", "C<script>"],
    "words": "<script>alert(2)</script>",
    "reason": "{{ 7 * 7 }}<script>",
}


def notice(kind: str, language: str, **facts: Any) -> Notice:
    return Notice(
        id=UUID(int=1),
        workspace=UUID(int=2),
        kind=kind,
        language=language,
        recipient="anna@example.org",
        payload={**FACTS[MailKind(kind)], **facts},
        created_at=datetime(2026, 11, 24, 12, tzinfo=UTC),
        attempts=1,
    )


def read_back(mail: EmailMessage) -> EmailMessage:
    """Return a mail as a reader's program gets it: sent through SMTP, and parsed."""
    parsed = message_from_bytes(flatten_message(mail), policy=policy.default)
    assert isinstance(parsed, EmailMessage)
    return parsed


def body(mail: EmailMessage, kind: str = "plain") -> str:
    part = mail.get_body((kind,))
    assert part is not None
    return str(part.get_content())


@pytest.mark.parametrize(("kind", "language"), sorted(LETTERS))
def test_a_mail_renders_the_same_each_time_and_escapes_what_people_typed(
    kind: str, language: str
) -> None:
    """Fault 55."""
    once, twice = (
        render(
            notice(kind, language, **HOSTILE), sender="c@example.org", url="https://c.example.org"
        )
        for _ in range(2)
    )

    assert once.as_bytes() == twice.as_bytes()
    parsed = read_back(once)
    assert parsed["Bcc"] is None
    assert parsed["Message-ID"] == f"<{UUID(int=1)}@example.org>"
    assert parsed["Content-Language"] == language
    assert "<script>" not in body(parsed, "html")
    assert "49" not in body(parsed).split()


def test_every_kind_speaks_both_languages() -> None:
    kinds = {kind for kind, _ in LETTERS}

    assert kinds == set(MailKind)
    assert set(LETTERS) == {(kind, language) for kind in kinds for language in ("en", "de")}


def test_the_month_after_december_is_january() -> None:
    mail = render(notice("quota_100", "en", period="2026-12-01"), sender="c@example.org", url=None)

    assert "January 1, 2027" in body(mail)


@pytest.mark.parametrize("length", range(1, 100, 7))
def test_a_subject_reads_as_it_was_written_wherever_it_is_folded(length: int) -> None:
    """The standard library loses one blank between two words with umlauts, and doubles another."""
    name = "x" * length + " Bäcker & Söhne Müller"

    mail = render(notice("quota_80", "de", workspace=name), sender="c@example.org", url=None)

    expected = f"80 % des Kontakt-Kontingents dieses Monats sind verbraucht ({name})"
    assert read_back(mail)["Subject"] == expected
    head, _, _ = flatten_message(mail).partition(b"\r\n\r\n")
    assert max(len(line) for line in head.splitlines()) <= 78


@pytest.mark.parametrize(
    ("language", "written"),
    [
        ("de", ["1.234,5", "1.234.567", "\N{MINUS SIGN}1.000", "0"]),
        ("en", ["1,234.5", "1,234,567", "\N{MINUS SIGN}1,000", "0"]),
    ],
)
def test_numbers_are_written_as_their_readers_do(language: str, written: list[str]) -> None:
    """Proves Q2."""
    assert [number(value, language) for value in (1234.5, 1234567, -1000, 0)] == written


@pytest.mark.parametrize(
    ("part", "whole", "written"),
    [
        (80, 100, ("80 %", "80%")),
        (641, 1000, ("64,1 %", "64.1%")),
        (80_499, 100_000, ("80,4 %", "80.4%")),
        (99_999, 100_000, ("99,9 %", "99.9%")),
        (123_456, 10_000, ("1.234,5 %", "1,234.5%")),
    ],
)
def test_a_share_is_never_rounded_up(part: int, whole: int, written: tuple[str, str]) -> None:
    """Proves Q2: 1.234,5 to a German reader, 1,234.5 to an English one."""
    assert (share(part, whole, "de"), share(part, whole, "en")) == written


def test_moments_are_utc_whatever_zone_they_came_in() -> None:
    at = datetime(2026, 12, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))

    assert moment(at, "de") == "30. November 2026, 23:30 Uhr UTC"
    assert moment(at, "en") == "November 30, 2026, 23:30 UTC"


def test_the_link_is_a_place_in_the_console() -> None:
    told = {
        url: rendered(notice("quota_100", "en"), url=url).text
        for url in ("https://c.example", "https://c.example/app?x=1", "https://c.example/#own")
    }

    assert "limit: https://c.example/#/quota/requests/new\n" in told["https://c.example"]
    assert "https://c.example/app?x=1#/quota/requests/new\n" in told["https://c.example/app?x=1"]
    assert "https://c.example/#own\n" in told["https://c.example/#own"]


def test_a_mail_without_a_console_has_no_link() -> None:
    words = rendered(notice("quota_100", "en"), url=None)

    assert "href" not in words.html
    assert "limit:" not in words.text.replace("Limit:", "")


@pytest.mark.parametrize("language", ["de", "en"])
def test_a_grant_that_does_not_help_says_so(language: str) -> None:
    """Proves Q4."""
    words = rendered(
        notice("quota_granted", language, limit=90_000, used=90_000, is_for_period=False), url=None
    )

    still = {"de": "Die Integrationen bleiben angehalten.", "en": "integrations stay stopped."}
    assert still[language] in words.text
    assert "2026 only" not in words.text
    assert "nur im" not in words.text


@pytest.mark.parametrize("kind", ["quota_100", "quota_80", "quota_declined"])
def test_a_limit_of_nothing_has_no_share(kind: str) -> None:
    words = rendered(notice(kind, "en", limit=0, used=0), url=None)

    assert "Used: 0 of 0 tasks\n" in words.text


def test_nothing_of_a_mail_is_fetched() -> None:
    """What needs an image, a font or a script is not readable everywhere."""
    for kind, language in LETTERS:
        html = rendered(notice(kind, language), url="https://c.example").html
        assert not re.search(r"<img|<script|<link|src=|url\(|@import|@font-face", html)


@pytest.mark.parametrize(
    ("language", "remedy", "other"),
    [
        ("en", "Ask the operator", "Check its list"),
        ("de", "Bitten Sie den Betreiber", "Prüfen Sie"),
    ],
)
def test_a_stop_for_want_of_a_plan_says_what_to_ask_for(
    language: str, remedy: str, other: str
) -> None:
    """Proves SF1: no list or mapping is to blame, and no provider has answered anything."""
    kind = MailKind.INTEGRATION_ERROR

    told = rendered(notice(kind, language, reason="plan_needed"), url=None).text
    usual = rendered(notice(kind, language, reason="list_missing"), url=None).text

    assert remedy in told
    assert "plan_needed" not in told
    assert other not in told
    assert other in usual
    assert "list_missing" in usual
