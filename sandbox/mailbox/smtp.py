"""The mailbox's ear: takes any mail for anyone, and fails on request.

Every login is accepted and none is needed. TLS is offered only if a context is given. A scripted
fault answers the next so many mails instead of taking them:

* `451` and `550` refuse the mail after its data: try again later, and never.
* `cut_after_data` keeps the mail and closes the connection without an answer, which is how a
  sender comes to not know whether its mail was taken (RFC 5321, 6.1: it must send again).
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from sandbox.mailbox.messages import Mails

MAIL_BYTES_MAX = 10 * 1024 * 1024
REFUSALS = {
    "451": "451 4.3.0 Requested action aborted: try again later",
    "550": "550 5.7.1 Requested action not taken: refused by the mailbox",
}
CUT_AFTER_DATA = "cut_after_data"
ANSWERS = (*REFUSALS, CUT_AFTER_DATA)


@dataclass(slots=True)
class Faults:
    """What happens to the next mails: one answer, a number of times."""

    answer: str = ""
    times_left: int = 0

    def script(self, answer: str, times: int) -> None:
        """Let the next mails meet a fault. Raises ValueError if there is no such fault."""
        if answer not in ANSWERS:
            message = f"answer {answer!r} is unknown: choose one of {', '.join(ANSWERS)}"
            raise ValueError(message)
        if times < 1:
            message = f"times is {times}: it must be 1 or more"
            raise ValueError(message)
        self.answer, self.times_left = answer, times

    def clear(self) -> None:
        self.answer, self.times_left = "", 0

    def take(self) -> str:
        """Return the fault the next mail meets; empty if none."""
        if self.times_left == 0:
            return ""
        self.times_left -= 1
        return self.answer


@dataclass(slots=True)
class Mailbox:
    """The state behind both doors: the mails that came, and the faults still to happen."""

    mails: Mails = field(default_factory=Mails)
    faults: Faults = field(default_factory=Faults)


class _Handler:
    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    async def handle_DATA(  # noqa: N802 - aiosmtpd finds its hooks by these names
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        fault = self._mailbox.faults.take()
        if fault in REFUSALS:
            return REFUSALS[fault]
        source = envelope.original_content or b""
        mail = self._mailbox.mails.add(
            sender=envelope.mail_from or "", recipients=envelope.rcpt_tos, source=source
        )
        if fault == CUT_AFTER_DATA:
            await _cut(server)
        return f"250 2.0.0 OK: kept as {mail.id}"


async def _cut(server: SMTP) -> None:
    """Close the connection and never come back: losing it cancels the task we are in."""
    # Not checked by type: uvloop's transports are none of asyncio's classes.
    cast("asyncio.Transport", server.transport).abort()
    await asyncio.get_running_loop().create_future()


def _accept_login(*_: Any) -> AuthResult:
    return AuthResult(success=True)


@asynccontextmanager
async def listen(
    mailbox: Mailbox, *, port: int = 0, tls_context: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Take mail on a loopback port (0: one that is free) and yield `host:port`."""
    loop = asyncio.get_running_loop()

    def connect() -> SMTP:
        return SMTP(
            _Handler(mailbox),
            hostname="localhost",  # Without it, aiosmtpd asks the name service for one.
            ident="mailbox",
            loop=loop,
            data_size_limit=MAIL_BYTES_MAX,
            enable_SMTPUTF8=True,
            authenticator=_accept_login,
            auth_require_tls=False,
            tls_context=tls_context,
        )

    server = await loop.create_server(connect, host="127.0.0.1", port=port)
    async with server:
        host, bound_port = server.sockets[0].getsockname()[:2]
        yield f"{host}:{bound_port}"
