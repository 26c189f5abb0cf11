"""Mails against a real database and a real SMTP server (Q2, Q3)."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from email.message import EmailMessage
from typing import Any
from uuid import UUID, uuid4

import aiosmtplib
import pytest
from sqlalchemy import text

from libs.common import database, ids
from libs.common.consumer import Batch, Record
from libs.common.database import SessionMaker
from libs.common.events import Event, QuotaChanged, QuotaKind, Topic
from sandbox.mailbox.smtp import Mailbox, listen
from services.notifier.notify import Recorder, Sender
from tests.fakes import CrashError
from tests.services.writer.world import crash_at

WORKSPACE = UUID(int=1)
PERIOD = "2026-11-01"


@pytest.fixture
async def notifier(role_url: Callable[[str], str]) -> AsyncIterator[SessionMaker]:
    engine = database.create_engine(role_url("notifier"), pool_size_max=4, application_name="test")
    yield database.session_maker(engine)
    await engine.dispose()


@pytest.fixture
async def mailbox() -> AsyncIterator[tuple[Mailbox, str]]:
    mailbox = Mailbox()
    async with listen(mailbox, port=0) as address:
        yield mailbox, address


@pytest.fixture
async def people(sessions: SessionMaker) -> None:
    async with sessions.begin() as session:
        await session.execute(
            text("insert into config.workspaces (workspace_id, name) values (:w, :n)"),
            {"w": WORKSPACE, "n": "Bäcker & Söhne <b>"},
        )
        for email, language, muted in (
            ("anna@example.org", "de", []),
            ("bob@example.org", "en", []),
            ("carl@example.org", "en", ["quota_80", "quota_100"]),
        ):
            await session.execute(
                text(
                    "insert into config.users (user_id, workspace_id, email, language, muted) "
                    "values (:u, :w, :e, :l, :m)"
                ),
                {"u": uuid4(), "w": WORKSPACE, "e": email, "l": language, "m": muted},
            )
        await session.execute(
            text(
                "insert into config.integrations (integration_id, workspace_id, name, state) "
                "values (:i, :w, 'HubSpot → Brevo', 'active')"
            ),
            {"i": uuid4(), "w": WORKSPACE},
        )


def threshold(percent: int, *, both: bool = False, revision: int = 1) -> QuotaChanged:
    return QuotaChanged(
        id=ids.computed(percent, revision),
        kind=QuotaKind.THRESHOLD,
        workspace=WORKSPACE,
        period=PERIOD,
        limit=100_000,
        revision=revision,
        used=percent * 1000,
        threshold=percent,
        both=both,
    )


def batch(*events: Event) -> Batch:
    return Batch(
        key=str(WORKSPACE),
        topic=Topic.QUOTA_CHANGED,
        partition=0,
        records=[
            Record(event=event, topic=Topic.QUOTA_CHANGED, partition=0, offset=n, key="k")
            for n, event in enumerate(events)
        ],
    )


class Office:
    """A notifier whose post goes to a mailbox."""

    def __init__(self, sessions: SessionMaker, address: str) -> None:
        host, port = address.split(":")
        self.wake = asyncio.Event()
        self.recorder = Recorder(sessions, self.wake)

        async def send(message: EmailMessage) -> None:
            await aiosmtplib.send(message, hostname=host, port=int(port), timeout=5)

        self.sender = Sender(
            sessions,
            send,
            self.wake,
            sender="contactsync@example.org",
            url="https://contactsync.example.org",
            claim_s=60,
            sweep_s=0.05,
        )


@pytest.fixture
def office(notifier: SessionMaker, people: None, mailbox: tuple[Mailbox, str]) -> Office:
    return Office(notifier, mailbox[1])


async def notices(sessions: SessionMaker) -> list[dict[str, Any]]:
    async with sessions.begin() as session:
        rows = await session.execute(
            text("select recipient, state, reason, attempts from notices.notices order by 1, 2")
        )
        return [dict(row) for row in rows.mappings()]


async def test_each_person_who_wants_it_gets_one_mail_in_their_language(
    office: Office, mailbox: tuple[Mailbox, str]
) -> None:
    """Proves Q3, and that a cause delivered twice is one mail."""
    await office.recorder(batch(threshold(100, both=True), threshold(100, both=True)))
    await office.recorder(batch(threshold(100, both=True)))
    await office.sender.send_due()
    await office.sender.send_due()

    anna, bob = sorted(mailbox[0].mails, key=lambda mail: mail.recipients)
    assert (anna.recipients, bob.recipients) == (("anna@example.org",), ("bob@example.org",))
    assert anna.subject.startswith("Kontakt-Kontingent dieses Monats verbraucht")
    assert "alle 100.000 Aufgaben" in anna.text
    assert "Am 1. Dezember 2026 um 00:00 Uhr UTC" in anna.text
    assert "HubSpot → Brevo" in anna.text
    assert "80 % and 100 % of the quota were reached at once." in bob.text
    assert "December 1, 2026" in bob.text
    assert "https://contactsync.example.org" in bob.text
    assert "Bäcker &amp; Söhne &lt;b&gt;" in bob.html
    assert "<b>" not in bob.html
    assert bob.headers["Auto-Submitted"] == "auto-generated"


async def test_a_mail_sent_again_is_the_same_mail(
    office: Office, mailbox: tuple[Mailbox, str], sessions: SessionMaker
) -> None:
    """Proves X2: after a crash between send and mark a reader sees one mail twice, not two."""
    await office.recorder(batch(threshold(80)))
    await office.sender.send_due()
    async with sessions.begin() as session:
        await session.execute(text("update notices.notices set state = 'pending'"))
    await office.sender.send_due()

    sources = [mail.source for mail in mailbox[0].mails if "anna" in mail.recipients[0]]
    assert len(sources) == 2
    assert len(set(sources)) == 1


async def test_no_eighty_percent_mail_once_a_hundred_is_decided(
    office: Office, mailbox: tuple[Mailbox, str], sessions: SessionMaker
) -> None:
    """Proves Q2."""
    await office.recorder(batch(threshold(80)))
    async with sessions.begin() as session:
        await session.execute(
            text("insert into ledger.decisions values (:w, date '2026-11-01', 1, 100, 100000)"),
            {"w": WORKSPACE},
        )
    await office.sender.send_due()

    assert list(mailbox[0].mails) == []
    assert {row["state"] for row in await notices(sessions)} == {"suppressed"}


async def test_a_mailbox_that_is_busy_is_tried_again_later(
    office: Office, mailbox: tuple[Mailbox, str], sessions: SessionMaker
) -> None:
    """Fault 64."""
    mailbox[0].faults.script("451", 2)
    await office.recorder(batch(threshold(100)))
    await office.sender.send_due()
    assert {(row["state"], row["reason"]) for row in await notices(sessions)} == {
        ("pending", "SMTP 451")
    }
    assert await office.sender.send_due() == 0

    async with sessions.begin() as session:
        await session.execute(text("update notices.notices set next_at = clock_timestamp()"))
    await office.sender.send_due()

    assert {(row["state"], row["attempts"]) for row in await notices(sessions)} == {("sent", 2)}


async def test_a_mail_that_is_refused_for_good_is_shown_as_failed(
    office: Office, mailbox: tuple[Mailbox, str], sessions: SessionMaker
) -> None:
    """Fault 64."""
    mailbox[0].faults.script("550", 2)
    await office.recorder(batch(threshold(100)))
    await office.sender.send_due()

    assert {(row["state"], row["reason"]) for row in await notices(sessions)} == {
        ("failed", "SMTP 550")
    }


async def test_a_cut_after_the_data_leads_to_a_second_copy_with_the_same_message_id(
    office: Office, mailbox: tuple[Mailbox, str], sessions: SessionMaker
) -> None:
    """Fault 64. RFC 1047: this gap cannot be closed, only made recognisable."""
    mailbox[0].faults.script("cut_after_data", 1)
    await office.recorder(batch(threshold(100)))
    await office.sender.send_due()
    async with sessions.begin() as session:
        await session.execute(text("update notices.notices set next_at = clock_timestamp()"))
    await office.sender.send_due()

    copies = [mail.message_id for mail in mailbox[0].mails]
    assert len(copies) == 3
    assert len(set(copies)) == 2


@pytest.mark.parametrize(
    ("step", "copies_of_the_first"),
    [pytest.param("unsent", 1, id="before_it_is_sent"), pytest.param("sent", 2, id="after_it")],
)
async def test_a_notifier_that_dies_sends_each_mail_again_as_the_same_mail(
    office: Office,
    mailbox: tuple[Mailbox, str],
    sessions: SessionMaker,
    step: str,
    copies_of_the_first: int,
) -> None:
    """Fault 13 (X2): killed before the send, or after it and before the mark. None is lost."""
    await office.recorder(batch(threshold(100)))
    office.sender._reached = crash_at(step)
    with pytest.raises(CrashError):
        await office.sender.send_due()
    assert await office.sender.send_due() == 0, "its claim must lapse first"
    async with sessions.begin() as session:
        await session.execute(text("update notices.notices set lease_until = clock_timestamp()"))

    await office.sender.send_due()

    copies = Counter(mail.message_id for mail in mailbox[0].mails)
    assert sorted(copies.values()) == sorted((1, copies_of_the_first))
    assert {row["state"] for row in await notices(sessions)} == {"sent"}


async def test_a_recorder_that_dies_stores_each_notice_once(
    office: Office, sessions: SessionMaker
) -> None:
    """Fault 13: killed with the notices stored and the event's offset not committed."""
    office.recorder._reached = crash_at("noted")
    with pytest.raises(CrashError):
        await office.recorder(batch(threshold(100)))

    await office.recorder(batch(threshold(100)))

    assert len(await notices(sessions)) == 2


async def test_a_notice_is_given_up_after_many_tries(
    office: Office, mailbox: tuple[Mailbox, str], sessions: SessionMaker
) -> None:
    mailbox[0].faults.script("451", 100)
    await office.recorder(batch(threshold(100)))
    async with sessions.begin() as session:
        await session.execute(text("update notices.notices set attempts = 39"))
    await office.sender.send_due()

    assert {row["state"] for row in await notices(sessions)} == {"failed"}


async def test_a_sender_wakes_when_something_is_decided_and_ends_when_told(
    office: Office, mailbox: tuple[Mailbox, str]
) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(office.sender.run(stop))
    await office.recorder(batch(threshold(100)))
    async with asyncio.timeout(10):
        while len(list(mailbox[0].mails)) < 2:  # noqa: ASYNC110  # the mailbox has no event
            await asyncio.sleep(0.01)
    stop.set()

    await asyncio.wait_for(running, 5)


def slow_sender(office: Office, sent: list[str], began: asyncio.Event, *, lasts_s: float) -> Sender:
    """Return a notifier whose claims last a second, and whose SMTP server is slow."""

    async def send(message: EmailMessage) -> None:
        began.set()
        await asyncio.sleep(lasts_s)
        sent.append(str(message["Message-ID"]))

    return Sender(
        office.sender._sessions,
        send,
        office.wake,
        sender="contactsync@example.org",
        url=None,
        claim_s=1.0,
        sweep_s=0.05,
    )


async def test_a_claim_that_lapsed_before_its_mail_left_is_left_to_its_new_owner(
    office: Office,
) -> None:
    """Proves X2: a slow SMTP server makes no mail leave twice."""
    sent: list[str] = []
    began = asyncio.Event()
    slow = slow_sender(office, sent, began, lasts_s=0.3)
    quick = slow_sender(office, sent, asyncio.Event(), lasts_s=0.0)
    await office.recorder(
        batch(threshold(100), threshold(100, revision=2), threshold(100, revision=3))
    )

    sending = asyncio.create_task(slow.send_due())
    await began.wait()
    async with asyncio.timeout(10):
        while not sending.done():
            await quick.send_due()
            await asyncio.sleep(0.01)
    await sending

    assert len(sent) == len(set(sent)) > 3


async def test_a_sender_that_is_told_to_stop_finishes_one_mail_and_gives_back_the_rest(
    office: Office, sessions: SessionMaker
) -> None:
    """Proves R8."""
    sent: list[str] = []
    began, stop = asyncio.Event(), asyncio.Event()
    slow = slow_sender(office, sent, began, lasts_s=0.1)
    await office.recorder(batch(threshold(100)))

    running = asyncio.create_task(slow.run(stop))
    await began.wait()
    stop.set()
    await running

    assert len(sent) == 1
    assert sorted((row["state"], row["attempts"]) for row in await notices(sessions)) == [
        ("pending", 0),
        ("sent", 1),
    ]
    assert await office.sender.send_due() == 1


async def test_a_server_that_keeps_silent_is_tried_again(
    office: Office, sessions: SessionMaker
) -> None:
    """Proves R8."""
    slow = slow_sender(office, [], asyncio.Event(), lasts_s=3600)
    await office.recorder(batch(threshold(100)))

    await slow.send_due()

    assert {(row["state"], row["reason"]) for row in await notices(sessions)} == {
        ("pending", "TimeoutError")
    }


async def test_events_that_nobody_is_mailed_about_leave_nothing(
    office: Office, sessions: SessionMaker
) -> None:
    changed = QuotaChanged(
        id=UUID(int=5),
        kind=QuotaKind.LIMIT_CHANGED,
        workspace=WORKSPACE,
        period=PERIOD,
        limit=1,
        revision=2,
        used=0,
    )

    await office.recorder(batch(changed))

    assert await notices(sessions) == []
