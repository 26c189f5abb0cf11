"""Mails, once per cause: an event becomes a stored notice per person, a notice becomes a mail.

Promises (RELIABILITY.md 5): one notice per cause and person, whatever is delivered twice; a mail is
sent at least once, and each time with the same Message-ID; a mail whose reason is gone is not sent
(80 % once 100 % is decided). A notice is claimed with a lease, which is renewed just before it is
sent and is longer than any try lasts, then marked by that lease.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from email.message import EmailMessage
from uuid import UUID, uuid4

from aiosmtplib import SMTPException, SMTPRecipientsRefused, SMTPResponseException
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common import logs, metrics
from libs.common.consumer import Batch
from libs.common.database import SessionMaker, transact
from libs.common.failpoints import Reached, nothing
from services.notifier import store
from services.notifier.decide import ATTEMPTS_MAX, Mail, mail_for, notice_id, wait_s
from services.notifier.render import render
from services.notifier.store import Notice

CLAIMED_MAX = 20  # Mails in one go.

MAILS = metrics.counter("mails_total", "Tries to send a mail, by result.", ["kind", "result"])
OLDEST = metrics.gauge("notices_oldest_seconds", "How long the oldest due notice has waited.")

log = logs.get(__name__)

Send = Callable[[EmailMessage], Awaitable[object]]


class Recorder:
    """The consumer's handler: stores what each event asks to be told."""

    def __init__(
        self, sessions: SessionMaker, wake: asyncio.Event, *, reached: Reached = nothing
    ) -> None:
        self._sessions = sessions
        self._wake = wake
        self._reached = reached

    async def __call__(self, batch: Batch) -> None:
        """Store the notices of a batch's events in one transaction."""
        mails = [mail for record in batch.records if (mail := mail_for(record.event))]
        if not mails:
            return

        async def work(session: AsyncSession) -> None:
            for mail in mails:
                await _add_notices(session, mail)

        await transact(self._sessions, work)
        self._reached("noted")
        self._wake.set()


async def _add_notices(session: AsyncSession, mail: Mail) -> None:
    names = await store.integration_names(
        session, workspace=mail.workspace, integration=mail.integration
    )
    payload = {
        **mail.facts,
        "workspace": await store.workspace_name(session, mail.workspace),
        "integrations": list(names),
        "integration": names[0] if mail.integration and names else "",
    }
    for recipient in await store.recipients(session, workspace=mail.workspace, kind=mail.kind):
        await store.add_notice(
            session,
            notice_id=notice_id(mail, recipient.email),
            workspace=mail.workspace,
            kind=mail.kind,
            recipient=recipient,
            payload=payload,
        )


class Sender:
    """Sends what is due; several may run side by side."""

    def __init__(
        self,
        sessions: SessionMaker,
        send: Send,
        wake: asyncio.Event,
        *,
        sender: str,
        url: str | None,
        claim_s: float,
        sweep_s: float,
        reached: Reached = nothing,
    ) -> None:
        self._sessions = sessions
        self._send = send
        self._wake = wake
        self._sender = sender
        self._url = url
        self._claim_s = claim_s
        self._sweep_s = sweep_s
        self._reached = reached

    async def run(self, stop: asyncio.Event) -> None:
        """Send until told to stop; the mail that is on its way is finished first."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                if not await self.send_due(stop):
                    await self._rest(stopping)
        finally:
            stopping.cancel()

    async def send_due(self, stop: asyncio.Event | None = None) -> int:
        """Claim some due notices and see to each; return how many there were.

        When told to stop, the rest is left as it was found.
        """
        token = uuid4()

        async def claim(session: AsyncSession) -> list[Notice]:
            OLDEST.set(await store.oldest_pending_s(session))
            return list(
                await store.claim_due(
                    session, token=token, claim_s=self._claim_s, limit=CLAIMED_MAX
                )
            )

        notices = await transact(self._sessions, claim)
        for number, notice in enumerate(notices):
            if stop is not None and stop.is_set():
                await self._give_back(notices[number:], token)
                break
            # Those before it may have taken long: by now it may be another notifier's.
            if await self._renew(notice, token):
                await self._see_to(notice, token)
        return len(notices)

    async def _renew(self, notice: Notice, token: UUID) -> bool:
        async def work(session: AsyncSession) -> bool:
            return await store.renew(
                session, notice_id=notice.id, token=token, claim_s=self._claim_s
            )

        return await transact(self._sessions, work)

    async def _give_back(self, notices: Sequence[Notice], token: UUID) -> None:
        async def work(session: AsyncSession) -> None:
            await store.give_back(session, ids=[notice.id for notice in notices], token=token)

        await transact(self._sessions, work)

    async def _rest(self, stopping: asyncio.Task[bool]) -> None:
        woken = asyncio.create_task(self._wake.wait())
        await asyncio.wait(
            {woken, stopping}, timeout=self._sweep_s, return_when=asyncio.FIRST_COMPLETED
        )
        woken.cancel()
        self._wake.clear()

    async def _see_to(self, notice: Notice, token: UUID) -> None:
        if await self._is_pointless(notice):
            await self._finish(notice, token, "suppressed", "100 % was decided before it left")
            return
        self._reached("unsent")
        try:
            # Half a claim: the other half is for marking what became of it.
            async with asyncio.timeout(self._claim_s / 2):
                await self._send(render(notice, sender=self._sender, url=self._url))
        except SMTPRecipientsRefused as error:
            await self._refused(notice, token, min(one.code for one in error.recipients))
        except SMTPResponseException as error:
            await self._refused(notice, token, error.code)
        except (SMTPException, OSError) as error:
            await self._try_later(notice, token, type(error).__name__)
        else:
            self._reached("sent")
            await self._finish(notice, token, "sent", None)

    async def _is_pointless(self, notice: Notice) -> bool:
        if notice.kind != "quota_80":
            return False

        async def work(session: AsyncSession) -> bool:
            return await store.is_decided(
                session,
                workspace=notice.workspace,
                period=notice.payload["period"],
                revision=notice.payload["revision"],
                threshold=100,
            )

        return await transact(self._sessions, work)

    async def _refused(self, notice: Notice, token: UUID, code: int) -> None:
        if code < 500:
            await self._try_later(notice, token, f"SMTP {code}")
        else:
            await self._finish(notice, token, "failed", f"SMTP {code}")

    async def _try_later(self, notice: Notice, token: UUID, reason: str) -> None:
        if notice.attempts >= ATTEMPTS_MAX:
            await self._finish(notice, token, "failed", reason)
            return
        MAILS.labels(notice.kind, "postponed").inc()
        log.warning("mail_postponed", kind=notice.kind, reason=reason)

        async def work(session: AsyncSession) -> None:
            await store.postpone(
                session,
                notice_id=notice.id,
                token=token,
                wait_s=wait_s(notice.attempts),
                reason=reason,
            )

        await transact(self._sessions, work)

    async def _finish(self, notice: Notice, token: UUID, state: str, reason: str | None) -> None:
        MAILS.labels(notice.kind, state).inc()
        if state == "failed":
            log.error("mail_failed", kind=notice.kind, reason=reason)

        async def work(session: AsyncSession) -> None:
            await store.finish(
                session, notice_id=notice.id, token=token, state=state, reason=reason
            )

        await transact(self._sessions, work)
