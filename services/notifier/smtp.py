"""The mail server: the one place where SMTP's answers are interpreted.

Promise: `send` returns when the server has taken the mail; else it raises one of two errors, sorted
by what the sender must do. A refusal is final only if it is about the mail or its reader (5xx to
the recipient or the data). Whatever the server holds against us (greeting, TLS, login, the sender's
address, no answer at all) would be held against every mail: it is mended by an operator, and the
mails wait for it.
"""

import re
import ssl
from collections.abc import Awaitable, Callable
from email.message import EmailMessage

import aiosmtplib
from aiosmtplib import (
    SMTPAuthenticationError,
    SMTPDataError,
    SMTPException,
    SMTPRecipientRefused,
    SMTPRecipientsRefused,
    SMTPResponseException,
)

from services.notifier.settings import Settings

SMTP_S = 30.0
ANSWER_MAX = 300  # Characters kept of a server's words: a line or two.

Send = Callable[[EmailMessage], Awaitable[object]]

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


class MailError(Exception):
    """A mail was not taken: a stable code why, and the server's own words."""

    def __init__(self, reason: str, answer: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.answer = _UNPRINTABLE.sub(" ", answer).strip()[:ANSWER_MAX]


class MailRefusedError(MailError):
    """The mail will never be taken."""


class MailPostponedError(MailError):
    """The mail may be taken later."""


def sender_by(settings: Settings) -> Send:
    """Return what sends a mail through the server of the settings."""
    context = None
    if settings.smtp_ca_file is not None:
        context = ssl.create_default_context(cafile=settings.smtp_ca_file)

    async def send(message: EmailMessage) -> None:
        try:
            await aiosmtplib.send(
                message,
                hostname=settings.smtp_host,
                port=settings.smtp_port,
                start_tls=settings.smtp_starttls,
                tls_context=context,
                username=settings.smtp_username or None,
                password=settings.smtp_password.reveal() or None,
                timeout=SMTP_S,
            )
        except (SMTPException, OSError, ValueError) as error:
            raise translated(error) from error

    return send


def translated(error: Exception) -> MailError:
    """Return what an exception of the library means to a sender."""
    match error:
        case SMTPRecipientsRefused(recipients=[one, *_]):  # A notice has one reader.
            return _about_mail(one)
        case SMTPRecipientRefused() | SMTPDataError():
            return _about_mail(error)
        case SMTPException() | OSError():
            return MailPostponedError(*_about_us(error))
    return MailRefusedError("invalid_address")  # The library's ValueError: not fit for SMTP.


def _about_us(error: SMTPException | OSError) -> tuple[str, str]:
    match error:
        case SMTPAuthenticationError():
            return f"smtp_login_{error.code}", ""  # The server's words may name who logs in.
        case SMTPResponseException():
            return f"smtp_{error.code}", error.message
        case ssl.SSLError():
            return "smtp_tls", type(error).__name__
        case OSError():
            return "smtp_no_answer", type(error).__name__
    return "smtp_not_supported", str(error)  # The library says so: no STARTTLS, no login, …


def _about_mail(error: SMTPResponseException) -> MailError:
    kind = MailRefusedError if error.code >= 500 else MailPostponedError
    return kind(f"smtp_{error.code}", error.message)
