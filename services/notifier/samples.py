"""A sample of every mail in every language, to be looked at: `docs/mails` holds them.

The facts are an example's, and go through the same rendering as a reader's mail; a test holds the
files to the code.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from libs.common.mails import MailKind
from services.notifier.render import Rendered, rendered
from services.notifier.store import Notice
from services.notifier.words import LETTERS

CONSOLE = "https://contactsync.example.com"

_WORKSPACE = {
    "workspace": "Bäckerei Söhne GmbH",
    "workspace_id": "ws_0199d0c1a2b37c4d8e5f60718293a4b5",
}
_QUOTA: Mapping[str, Any] = {
    **_WORKSPACE,
    "period": "2026-11-01",
    "revision": 1,
    "limit": 100_000,
    "integrations": ["HubSpot → Brevo", "Newsletter", "Trade fair 2026"],
    "integrations_more": 0,
    "near_at": "2026-11-19T06:12:00+00:00",
    "used_up_at": None,
    "standing_limit": 100_000,
    "forecast": "2026-11-23T21:20:00+00:00",
    "tasks_a_day": 4217,
    "still_wanted": 0,
}
_USED_UP: Mapping[str, Any] = {
    **_QUOTA,
    "used": 100_000,
    "at": "2026-11-24T10:31:00+00:00",
    "used_up_at": "2026-11-24T10:31:00+00:00",
    "forecast": "2026-11-24T10:31:00+00:00",
    "still_wanted": 27_596,
}
_REQUEST: Mapping[str, Any] = {
    **_USED_UP,
    "at": "2026-11-24T14:05:00+00:00",
    "request_id": "req_0199d0c1a2b37c4d8e5f60718293a4b5",
    "wanted": 150_000,
    "is_for_period": False,
    "words": "",
}
_INTEGRATION: Mapping[str, Any] = {
    "workspace": _WORKSPACE["workspace"],
    "integration": "HubSpot → Brevo",
    "integration_id": "int_0199d0c1a2b37c4d8e5f60718293a4b5",
    "at": "2026-11-24T10:31:00+00:00",
}
FACTS: Mapping[MailKind, Mapping[str, Any]] = {
    MailKind.QUOTA_80: {**_QUOTA, "used": 80_432, "at": "2026-11-19T06:12:00+00:00"},
    MailKind.QUOTA_100: _USED_UP,
    MailKind.QUOTA_GRANTED: {
        **_REQUEST,
        "limit": 130_000,
        "revision": 2,
        "is_for_period": True,
        "forecast": None,
    },
    MailKind.QUOTA_DECLINED: _REQUEST,
    MailKind.QUOTA_REQUEST_OPENED: _REQUEST,
    MailKind.DRIFT: {**_USED_UP, "check": "posted", "drift": -3},
    MailKind.INTEGRATION_ERROR: {**_INTEGRATION, "reason": "list_missing"},
    MailKind.INTEGRATION_NEEDS_REAUTH: {**_INTEGRATION, "reason": "invalid_grant"},
    MailKind.INTEGRATION_NEEDS_CONFIRMATION: {**_INTEGRATION, "reason": ""},
}

# What the operator wrote, or the workspace; in the reader's language by good fortune.
_WORDS: Mapping[tuple[MailKind, str], str] = {
    (MailKind.QUOTA_GRANTED, "en"): "Enough for this month. Let us talk about the next ones.",
    (MailKind.QUOTA_GRANTED, "de"): "Das reicht für diesen Monat. Über die nächsten reden wir.",
    (MailKind.QUOTA_DECLINED, "en"): "Please take the old trade fair lists out of the sync first.",
    (MailKind.QUOTA_DECLINED, "de"): "Bitte nehmen Sie erst die alten Messelisten heraus.",
    (
        MailKind.QUOTA_REQUEST_OPENED,
        "en",
    ): "Two trade fairs this month.\nNext month is normal again.",
    (MailKind.QUOTA_REQUEST_OPENED, "de"): "Zwei Messen in diesem Monat.\nDanach wieder wie immer.",
}


def sample(kind: MailKind, language: str) -> Rendered:
    """Return one mail of a kind, as its reader sees it."""
    notice = Notice(
        id=UUID(int=1),
        workspace=UUID(int=2),
        kind=kind,
        language=language,
        recipient="reader@example.com",
        payload={**FACTS[kind], "words": _WORDS.get((kind, language), "")},
        created_at=datetime(2026, 11, 24, 12, tzinfo=UTC),
        attempts=1,
    )
    return rendered(notice, url=CONSOLE)


def files() -> Iterator[tuple[str, str]]:
    """Yield every file's name and content."""
    for kind, language in LETTERS:
        words = sample(kind, language)
        yield f"{kind}.{language}.html", words.html
        yield f"{kind}.{language}.txt", f"{words.subject}\n\n{words.text}"


def write(folder: Path) -> None:
    """Write every file into a folder, made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files():
        (folder / name).write_text(content)
