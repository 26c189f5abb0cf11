"""docs/mails holds every mail as the code writes it, with the right numbers for its readers."""

import re
from pathlib import Path

import pytest

from libs.common.mails import MailKind
from services.notifier.samples import FACTS, files, sample, write

FOLDER = Path(__file__).parents[3] / "docs" / "mails"


def test_the_files_are_what_the_code_writes() -> None:
    """After a change of words: `python -m services.notifier mails docs/mails`."""
    written = {path.name: path.read_text() for path in FOLDER.iterdir() if path.suffix != ".md"}

    assert written == dict(files())


def test_the_command_writes_into_a_new_folder(tmp_path: Path) -> None:
    write(tmp_path / "new" / "mails")

    assert {path.name for path in (tmp_path / "new" / "mails").iterdir()} == {
        name for name, _ in files()
    }


# What a German and an English reader must find: used, limit, what is left or wanted, a share, and
# when it goes on.
NUMBERS = {
    (MailKind.QUOTA_80, "de"): ("80.432 von 100.000", "(80,4 %)", "19.568", "1. Dezember 2026"),
    (MailKind.QUOTA_80, "en"): ("80,432 of 100,000", "(80.4%)", "19,568", "December 1, 2026"),
    (MailKind.QUOTA_100, "de"): ("100.000 von 100.000", "(100 %)", "27.596", "1. Dezember 2026"),
    (MailKind.QUOTA_100, "en"): ("100,000 of 100,000", "(100%)", "27,596", "December 1, 2026"),
    (MailKind.QUOTA_GRANTED, "de"): ("130.000", "150.000", "(76,9 %)", "100.000 von 130.000"),
    (MailKind.QUOTA_GRANTED, "en"): ("130,000", "150,000", "(76.9%)", "100,000 of 130,000"),
    (MailKind.QUOTA_DECLINED, "de"): ("150.000", "100.000 von 100.000", "1. Dezember 2026"),
    (MailKind.QUOTA_DECLINED, "en"): ("150,000", "100,000 of 100,000", "December 1, 2026"),
}


@pytest.mark.parametrize(("kind", "language"), sorted(NUMBERS))
def test_a_quota_mail_names_the_right_numbers_in_its_readers_form(
    kind: MailKind, language: str
) -> None:
    """Proves Q2, Q3 and Q4: in the text and in the HTML alike."""
    words = sample(kind, language)
    seen = re.sub(r"<[^>]+>", " ", words.html)

    for number in NUMBERS[kind, language]:
        assert number in words.text
        assert number in seen
    other = re.compile(r"\d,\d{3}" if language == "de" else r"\d\.\d{3}")
    assert not other.search(words.text)
    assert "UTC" in words.text


@pytest.mark.parametrize("language", ["de", "en"])
@pytest.mark.parametrize(
    "kind", [MailKind.QUOTA_80, MailKind.QUOTA_100, MailKind.QUOTA_GRANTED, MailKind.QUOTA_DECLINED]
)
def test_a_quota_mail_names_every_integration_and_leads_on(kind: MailKind, language: str) -> None:
    """Proves Q3 and Q4."""
    words = sample(kind, language)

    assert "HubSpot → Brevo, Newsletter, Trade fair 2026" in words.text
    assert "https://contactsync.example.com/#/quota" in words.text
    assert FACTS[kind]["workspace"] in words.subject
