"""What the mailbox keeps of a mail, and for how long.

A mail is parsed once, on arrival, with the standard library alone: what a test reads here is what
any mail program would show, and not what the sender believes to have written. A mail that cannot
be parsed is kept all the same, with what could be read of it. The newest `MAILS_MAX` are kept.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as modern_policy
from typing import Any

MAILS_MAX = 10_000  # Some ten thousand small mails fit into 100 MB; a demo sends a dozen.


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail as it arrived: the envelope from SMTP, the rest decoded from its source."""

    id: int
    sender: str
    recipients: tuple[str, ...]
    received_at: datetime
    message_id: str
    subject: str
    headers: dict[str, str]
    text: str
    html: str
    source: bytes

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "from": self.sender,
            "to": list(self.recipients),
            "subject": self.subject,
            "headers": self.headers,
            "text": self.text,
            "html": self.html,
            "received_at": self.received_at.isoformat(),
            "message_id": self.message_id,
        }


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Mails:
    """Every mail that arrived, oldest first. Ids start at 1 and are never used again."""

    clock: Callable[[], datetime] = _now
    _kept: deque[Mail] = field(default_factory=lambda: deque(maxlen=MAILS_MAX))
    _last_id: int = 0

    def add(self, *, sender: str, recipients: Sequence[str], source: bytes) -> Mail:
        self._last_id += 1
        mail = parse(
            source,
            mail_id=self._last_id,
            sender=sender,
            recipients=recipients,
            received_at=self.clock(),
        )
        self._kept.append(mail)
        return mail

    def find(self, mail_id: int) -> Mail | None:
        """Return one mail; None if it never came or is no longer kept."""
        return next((mail for mail in self._kept if mail.id == mail_id), None)

    def select(self, *, after: int = 0, to: str = "", message_id: str = "") -> list[Mail]:
        """Return the mails after an id that fit every filter given, oldest first."""
        return [
            mail
            for mail in self._kept
            if mail.id > after
            and (not to or to.casefold() in (address.casefold() for address in mail.recipients))
            and (not message_id or message_id == mail.message_id)
        ]

    def clear(self) -> int:
        """Forget every mail and return how many there were."""
        count = len(self._kept)
        self._kept.clear()
        return count

    def __iter__(self) -> Iterator[Mail]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)


def parse(
    source: bytes, *, mail_id: int, sender: str, recipients: Sequence[str], received_at: datetime
) -> Mail:
    message = message_from_bytes(source, policy=modern_policy)
    assert isinstance(message, EmailMessage)  # The policy above makes nothing else.
    headers = {name: str(value) for name, value in message.items()}
    return Mail(
        id=mail_id,
        sender=sender,
        recipients=tuple(recipients),
        received_at=received_at,
        message_id=str(message.get("Message-ID", "")).strip(),
        subject=str(message.get("Subject", "")),
        headers=headers,
        text=_body(message, "plain"),
        html=_body(message, "html"),
        source=source,
    )


def _body(message: EmailMessage, kind: str) -> str:
    """Return the decoded text of one kind; empty if the mail has no such part."""
    part = message.get_body(preferencelist=(kind,))
    if part is None:
        return ""
    try:
        return str(part.get_content()).replace("\r\n", "\n")  # CRLF is SMTP's, not the mail's.
    except (LookupError, UnicodeError):
        # An unknown character set: show what ASCII there is rather than lose the mail.
        payload = part.get_payload(decode=True)
        return payload.decode("ascii", "replace") if isinstance(payload, bytes) else ""
