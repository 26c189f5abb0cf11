"""Mails, once per cause: an event becomes a stored notice per person, a notice becomes a mail.

Promises (RELIABILITY.md 5): one notice per cause and person, whatever is delivered twice; a mail is
sent at least once, and each time with the same Message-ID; a mail whose reason is gone, or whose
reader is, is not sent, and that is looked at just before it would be (80 % once 100 % is decided; a
limit that was raised; a month that is over; a request that is decided or taken back). A notice is
claimed with a lease, which is renewed just before it is sent and is longer than any try lasts, then
marked by that lease. A notice that can not be rendered fails alone, and what was tried least goes
first: a bad one stops no other.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common import ids, ledger, logs, metrics
from libs.common.consumer import Batch
from libs.common.database import SessionMaker, transaction_of, transactions_of
from libs.common.failpoints import Reached, nothing
from libs.common.ids import Prefix
from libs.common.mails import MailKind
from libs.common.moments import moment_of
from libs.common.postgres import transact, transact_alone
from services.notifier import store
from services.notifier.decide import (
    ATTEMPTS_MAX,
    Mail,
    cause_id,
    mail_for,
    notice_id,
    outlook,
    wait_s,
)
from services.notifier.render import UnrenderableError, render
from services.notifier.smtp import MailError, MailPostponedError, MailRefusedError, Send
from services.notifier.store import Notice, Recipient

CLAIMED_MAX = 20  # Mails in one go.
NAMED_MAX = 20  # Integrations that a mail names; of the others it says how many there are.
THRESHOLDS: Mapping[str, int] = {MailKind.QUOTA_80: 80, MailKind.QUOTA_100: 100}

MAILS = metrics.counter("mails_total", "Tries to send a mail, by result.", ["kind", "result"])
OLDEST = metrics.gauge(
    "notices_oldest_seconds", "How long the oldest due notice of a kind has waited.", ["kind"]
)

log = logs.get(__name__)


class Recorder:
    """The consumer's handler: stores what each event asks to be told.

    What concerns the operator alone is told to `operator`, and to nobody without one.
    """

    def __init__(
        self,
        sessions: SessionMaker,
        wake: asyncio.Event,
        *,
        operator: Recipient | None = None,
        reached: Reached = nothing,
    ) -> None:
        self._sessions = sessions
        self._wake = wake
        self._operator = operator
        self._reached = reached

    async def __call__(self, batch: Batch) -> None:
        """Store the notices of a batch's events in one transaction."""
        mails = [mail for record in batch.records if (mail := mail_for(record.event))]
        if not mails:
            return

        async def work(session: AsyncSession) -> None:
            for mail in mails:
                await self._add_notices(session, mail)

        await transact(self._sessions, work)
        self._reached("noted")
        self._wake.set()

    async def _add_notices(self, session: AsyncSession, mail: Mail) -> None:
        recipients = await self._recipients(session, mail)
        payload = await _payload(session, mail) if recipients else {}
        for recipient in recipients:
            await store.add_notice(
                session,
                notice_id=notice_id(mail, recipient.email),
                cause=cause_id(mail),
                workspace=mail.workspace,
                kind=mail.kind,
                recipient=recipient,
                payload=payload,
            )

    async def _recipients(self, session: AsyncSession, mail: Mail) -> Sequence[Recipient]:
        if mail.kind.is_operators:
            return [self._operator] if self._operator else []
        return await store.recipients(session, workspace=mail.workspace, kind=mail.kind)


async def _payload(session: AsyncSession, mail: Mail) -> Mapping[str, Any]:
    """Return all that a mail will say, as it is now: each try must say the same."""
    told = {**mail.facts, "workspace": await store.workspace_name(session, mail.workspace)}
    if mail.integration is not None:
        told["integration"] = await store.integration_name(session, mail.integration)
    if mail.period is None:
        return told
    names, total = await store.active_integrations(session, mail.workspace, limit=NAMED_MAX)
    at = moment_of(mail.at) or await store.now(session)
    known = await store.quota_facts(
        session, workspace=mail.workspace, period=mail.period, revision=mail.facts["revision"]
    )
    per_day = await ledger.use_per_day(await transaction_of(session), workspace=mail.workspace)
    return {
        **told,
        **outlook(mail, held=known.held, per_day=per_day, at=at),
        "at": at.isoformat(),
        "integrations": list(names),
        "integrations_more": total - len(names),
        "near_at": known.near_at.isoformat() if known.near_at else None,
        "used_up_at": known.used_up_at.isoformat() if known.used_up_at else None,
        "standing_limit": known.standing_limit,
    }


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
        self._transactions = transactions_of(sessions)
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
        # A look every other second mostly finds nothing: one statement, past SQLAlchemy.
        waits_s = await transact_alone(self._transactions, store.oldest_pending_s)
        _show_oldest(waits_s)
        if all(waited_s < 0.0 for waited_s in waits_s.values()):
            return 0
        token = uuid4()

        async def claim(session: AsyncSession) -> list[Notice]:
            claimed = await store.claim_due(
                session, token=token, claim_s=self._claim_s, limit=CLAIMED_MAX
            )
            # What was tried least goes first: one that ends the process lets the others leave.
            return sorted(claimed, key=lambda notice: (notice.attempts, notice.created_at))

        notices = await transact(self._sessions, claim)
        for number, notice in enumerate(notices):
            if stop is not None and stop.is_set():
                await self._give_back(notices[number:], token)
                break
            # Those before it may have taken long: by now it may be another notifier's.
            recipient = await self._renew(notice, token)
            if recipient is not None:
                await self._see_to(replace(notice, recipient=recipient), token)
        return len(notices)

    async def _renew(self, notice: Notice, token: UUID) -> str | None:
        async def work(session: AsyncSession) -> str | None:
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
        if notice.attempts > ATTEMPTS_MAX:  # Each of them ended its process.
            await self._finish(notice, token, "failed", "tried_too_often")
            return
        try:
            reason = await self._why_not(notice)
            if reason is not None:
                await self._finish(notice, token, "suppressed", reason)
                return
            mail = render(notice, sender=self._sender, url=self._url)
        except UnrenderableError as error:
            log.exception("mail_unrenderable", kind=notice.kind)
            await self._finish(notice, token, "failed", "unrenderable", str(error))
            return
        self._reached("unsent")
        try:
            # Half a claim: the other half is for marking what became of it.
            async with asyncio.timeout(self._claim_s / 2):
                await self._send(mail)
        except MailRefusedError as error:
            await self._finish(notice, token, "failed", error.reason, error.answer)
        except MailPostponedError as error:
            await self._try_later(notice, token, error)
        except TimeoutError:
            await self._try_later(notice, token, MailPostponedError("smtp_no_answer"))
        else:
            self._reached("sent")
            await self._finish(notice, token, "sent", None)

    async def _why_not(self, notice: Notice) -> str | None:
        """Return why a notice is not worth sending any more; None if it is."""
        decision = _decision(notice)
        request = _request(notice)

        async def work(session: AsyncSession) -> str | None:
            gone = await store.reader_is_gone(session, notice.id)
            if gone is not None:
                return gone
            if request is not None and await store.is_request_closed(session, request):
                return "request_closed"
            if decision is None:
                return None
            period, revision, threshold = decision
            return await store.outdated(
                session,
                workspace=notice.workspace,
                period=period,
                revision=revision,
                threshold=threshold,
            )

        return await transact(self._sessions, work)

    async def _try_later(self, notice: Notice, token: UUID, error: MailError) -> None:
        if notice.attempts >= ATTEMPTS_MAX:
            await self._finish(notice, token, "failed", error.reason, error.answer)
            return
        MAILS.labels(notice.kind, "postponed").inc()
        log.warning("mail_postponed", kind=notice.kind, reason=error.reason)

        async def work(session: AsyncSession) -> None:
            await store.postpone(
                session,
                notice_id=notice.id,
                token=token,
                wait_s=wait_s(notice.attempts),
                reason=error.reason,
                answer=error.answer or None,
            )

        await transact(self._sessions, work)

    async def _finish(
        self, notice: Notice, token: UUID, state: str, reason: str | None, answer: str = ""
    ) -> None:
        MAILS.labels(notice.kind, state).inc()
        if state == "failed":
            log.error("mail_failed", kind=notice.kind, reason=reason)

        async def work(session: AsyncSession) -> None:
            await store.finish(
                session,
                notice_id=notice.id,
                token=token,
                state=state,
                reason=reason,
                answer=answer or None,
            )

        await transact(self._sessions, work)


def _decision(notice: Notice) -> tuple[date, int, int] | None:
    """Return period, revision and threshold of a notice about one; raise UnrenderableError."""
    threshold = THRESHOLDS.get(notice.kind)
    if threshold is None:
        return None
    try:
        return (
            date.fromisoformat(notice.payload["period"]),
            int(notice.payload["revision"]),
            threshold,
        )
    except (LookupError, TypeError, ValueError) as error:
        raise UnrenderableError(type(error).__name__) from error


def _request(notice: Notice) -> UUID | None:
    """Return the request that a notice asks somebody to decide; raise UnrenderableError."""
    if notice.kind != MailKind.QUOTA_REQUEST_OPENED:
        return None
    try:
        return ids.parse(Prefix.QUOTA_REQUEST, notice.payload["request_id"])
    except (LookupError, TypeError, ValueError) as error:
        raise UnrenderableError(type(error).__name__) from error


def _show_oldest(waits_s: Mapping[str, float]) -> None:
    for kind in MailKind:
        OLDEST.labels(kind).set(max(0.0, waits_s.get(kind, 0.0)))
