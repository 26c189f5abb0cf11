"""Mails against a real database and a real SMTP server (Q2, Q3)."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from email.message import EmailMessage
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from sqlalchemy import text

from libs.common import database, ids, metrics
from libs.common.consumer import Batch, Record
from libs.common.database import SessionMaker
from libs.common.events import Event, QuotaChanged, QuotaKind, Topic
from sandbox.mailbox.smtp import Mailbox, listen
from services.notifier.notify import Recorder, Sender
from services.notifier.settings import Settings
from services.notifier.smtp import sender_by
from services.notifier.store import Recipient
from tests.fakes import CrashError
from tests.services.writer.world import crash_at

WORKSPACE = UUID(int=1)
PERIOD = "2026-11-01"
NOON = "2026-11-24 12:00+00"  # What time it is by the ledger's clock.
INTEGRATION = UUID(int=3)


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
        await session.execute(
            text(
                "create or replace function ledger.now() returns timestamptz language sql volatile "
                f"as $$ select timestamptz '{NOON}' $$"
            )
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
            {"i": INTEGRATION, "w": WORKSPACE},
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
        at="2026-11-24T10:31:02.123Z",
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
        self.recorder = Recorder(sessions, self.wake, operator=Recipient("ops@example.org", "en"))
        settings = Settings(
            smtp_host=host,
            smtp_port=int(port),
            mail_from="contactsync@example.org",
            kafka_bootstrap="unused:9092",
            database_url="postgresql://unused/unused",
        )
        self.sender = Sender(
            sessions,
            sender_by(settings),
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
            text(
                "select recipient, state, reason, answer, attempts from notices.notices "
                "order by 1, 2"
            )
        )
        return [dict(row) for row in rows.mappings()]


async def told(sessions: SessionMaker) -> set[tuple[str, str | None]]:
    """Return in which states the notices are, and why."""
    return {(row["state"], row["reason"]) for row in await notices(sessions)}


async def execute(sessions: SessionMaker, statement: str, **values: Any) -> None:
    async with sessions.begin() as session:
        await session.execute(text(statement), {"w": WORKSPACE, **values})


async def use(sessions: SessionMaker, *, posted: int, limit: int, revision: int) -> None:
    """Let the month of the workspace be as if so much had been used under such a limit."""
    await execute(
        sessions,
        "insert into ledger.periods (workspace_id, period, quota_limit, revision, posted) "
        "values (:w, date '2026-11-01', :limit, :revision, :posted) "
        "on conflict (workspace_id, period) do update set quota_limit = :limit, "
        "revision = :revision, posted = :posted",
        posted=posted,
        limit=limit,
        revision=revision,
    )


async def test_each_person_who_wants_it_gets_one_mail_in_their_language(
    office: Office, mailbox: tuple[Mailbox, str], sessions: SessionMaker
) -> None:
    """Proves Q3, and that a cause delivered twice is one mail."""
    await office.recorder(batch(threshold(100, both=True), threshold(100, both=True)))
    await office.recorder(batch(threshold(100, both=True)))
    await office.sender.send_due()
    await office.sender.send_due()

    anna, bob = sorted(mailbox[0].mails, key=lambda mail: mail.recipients)
    assert (anna.recipients, bob.recipients) == (("anna@example.org",), ("bob@example.org",))
    assert len(await notices(sessions)) == 2
    assert anna.subject.startswith("Kontakt-Kontingent dieses Monats verbraucht")
    assert "100.000 von 100.000 Aufgaben (100 %)" in anna.text
    assert "am 1. Dezember 2026, 00:00 Uhr UTC, oder sobald" in anna.text
    assert "seit dem 24. November 2026, 10:31 Uhr UTC angehalten: HubSpot → Brevo." in anna.text
    assert "80% and 100% of the quota were reached at once." in bob.text
    assert "Stopped since: November 24, 2026, 10:31 UTC" in bob.text
    assert "Goes on: December 1, 2026, 00:00 UTC" in bob.text
    assert "https://contactsync.example.org" in bob.text
    assert "Bäcker &amp; Söhne &lt;b&gt;" in bob.html
    assert "<b>" not in bob.html
    assert bob.headers["Auto-Submitted"] == "auto-generated"


async def test_an_event_that_comes_again_after_its_mail_left_is_no_second_mail(
    office: Office, mailbox: tuple[Mailbox, str]
) -> None:
    """Proves Q2 and X2: an outbox that is relayed twice, a topic that is read from its start."""
    for _ in range(2):
        await office.recorder(batch(threshold(80)))
        await office.sender.send_due()

    received = Counter(mail.recipients for mail in mailbox[0].mails)
    assert received == {("anna@example.org",): 1, ("bob@example.org",): 1}


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
    assert await told(sessions) == {("suppressed", "decided_since")}


async def test_a_mailbox_that_is_busy_is_tried_again_later(
    office: Office, mailbox: tuple[Mailbox, str], sessions: SessionMaker
) -> None:
    """Fault 64."""
    mailbox[0].faults.script("451", 2)
    await office.recorder(batch(threshold(100)))
    await office.sender.send_due()
    assert await told(sessions) == {("pending", "smtp_451")}
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

    assert await told(sessions) == {("failed", "smtp_550")}
    assert {row["answer"] for row in await notices(sessions)} == {
        "5.7.1 Requested action not taken: refused by the mailbox"
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
    async with asyncio.timeout(60):
        while len(list(mailbox[0].mails)) < 2:  # noqa: ASYNC110  # the mailbox has no event
            await asyncio.sleep(0.01)
    stop.set()

    await asyncio.wait_for(running, 60)


def slow_sender(
    office: Office,
    sent: list[str],
    server: Callable[[], Awaitable[object]],
    *,
    claim_s: float = 600.0,
) -> Sender:
    """Return a notifier whose mails have left when the SMTP server has had its time for each."""

    async def send(message: EmailMessage) -> None:
        await server()
        sent.append(str(message["Message-ID"]))

    return Sender(
        office.sender._sessions,
        send,
        office.wake,
        sender="contactsync@example.org",
        url=None,
        claim_s=claim_s,
        sweep_s=0.05,
    )


async def test_a_claim_that_lapsed_before_its_mail_left_is_left_to_its_new_owner(
    office: Office, sessions: SessionMaker
) -> None:
    """Proves X2: a slow SMTP server makes no mail leave twice."""
    sent: list[str] = []
    began, answers = asyncio.Event(), asyncio.Event()

    async def server() -> None:
        began.set()
        await answers.wait()

    slow = slow_sender(office, sent, server)
    quick = slow_sender(office, sent, partial(asyncio.sleep, 0))
    await office.recorder(batch(threshold(100), threshold(100, revision=2)))

    sending = asyncio.create_task(slow.send_due())
    await began.wait()
    async with sessions.begin() as session:
        # The first has been renewed just now: it is the only one that has not lapsed.
        lapsed = await session.scalars(
            text(
                "update notices.notices set lease_until = now() where lease_until <"
                " (select max(lease_until) from notices.notices) returning notice_id"
            )
        )
    taken_over = await quick.send_due()
    answers.set()
    await sending

    assert taken_over == len(lapsed.all()) > 0
    assert len(sent) == len(set(sent)) == taken_over + 1


async def test_a_sender_that_is_told_to_stop_finishes_one_mail_and_gives_back_the_rest(
    office: Office, sessions: SessionMaker
) -> None:
    """Proves R8."""
    sent: list[str] = []
    began, stop, answers = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def server() -> None:
        began.set()
        await answers.wait()

    slow = slow_sender(office, sent, server)
    await office.recorder(batch(threshold(100)))

    running = asyncio.create_task(slow.run(stop))
    await began.wait()
    stop.set()
    answers.set()
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
    slow = slow_sender(office, [], partial(asyncio.sleep, 3600), claim_s=1.0)
    await office.recorder(batch(threshold(100)))

    await slow.send_due()

    assert await told(sessions) == {("pending", "smtp_no_answer")}


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


@pytest.mark.parametrize(
    ("percent", "limit", "is_sent"),
    [
        pytest.param(100, 100_001, False, id="open_again"),
        pytest.param(100, 100_000, True, id="raised_not_beyond_what_is_used"),
        pytest.param(80, 125_001, False, id="below_80_percent"),
        pytest.param(80, 125_000, True, id="raised_and_still_at_80_percent"),
    ],
)
async def test_a_limit_raised_before_a_mail_left_makes_it_pointless_only_if_that_helps(
    office: Office,
    mailbox: tuple[Mailbox, str],
    sessions: SessionMaker,
    percent: int,
    limit: int,
    is_sent: bool,
) -> None:
    """Proves Q2 and Q3: no mail whose reason is gone, and none is lost that is still true."""
    await office.recorder(batch(threshold(percent)))
    await use(sessions, posted=100_000, limit=limit, revision=2)

    await office.sender.send_due()

    assert len(mailbox[0].mails) == (2 if is_sent else 0)
    state = ("sent", None) if is_sent else ("suppressed", "limit_raised")
    assert await told(sessions) == {state}


@pytest.mark.parametrize("percent", [80, 100])
async def test_a_mail_about_a_month_that_is_over_is_not_sent(
    office: Office, mailbox: tuple[Mailbox, str], sessions: SessionMaker, percent: int
) -> None:
    """Proves Q3: at midnight everything goes on, so nothing is said of a stop."""
    await office.recorder(batch(threshold(percent)))
    await execute(
        sessions,
        "create or replace function ledger.now() returns timestamptz language sql volatile "
        "as $$ select timestamptz '2026-12-01 00:00+00' $$",
    )

    await office.sender.send_due()

    assert len(mailbox[0].mails) == 0
    assert await told(sessions) == {("suppressed", "month_over")}


async def test_of_two_limits_used_up_one_after_the_other_the_newer_is_told(
    office: Office, mailbox: tuple[Mailbox, str], sessions: SessionMaker
) -> None:
    """Proves Q3: raised, and used up again before the first mail could leave."""
    await office.recorder(batch(threshold(100), threshold(100, revision=2)))
    await use(sessions, posted=100_000, limit=100_000, revision=2)
    await execute(
        sessions,
        "insert into ledger.decisions values (:w, date '2026-11-01', 1, 100, 90000), "
        "(:w, date '2026-11-01', 2, 100, 100000)",
    )

    await office.sender.send_due()

    assert len(mailbox[0].mails) == 2
    assert await told(sessions) == {("sent", None), ("suppressed", "decided_since")}


async def test_the_mail_at_100_percent_says_when_80_were_reached(
    office: Office, mailbox: tuple[Mailbox, str], sessions: SessionMaker
) -> None:
    """Proves Q2: when the mail at 80 % did not leave in time, one mail says both."""
    await execute(
        sessions,
        "insert into ledger.decisions values "
        "(:w, date '2026-11-01', 1, 80, 80000, timestamptz '2026-11-19 06:12+00')",
    )
    await office.recorder(batch(threshold(100)))

    await office.sender.send_due()

    (bob,) = mailbox[0].mails.select(to="bob@example.org")
    assert "80% was reached on November 19, 2026, 06:12 UTC, 100% on November 24, 2026" in bob.text


async def test_a_mail_at_80_percent_says_when_the_rest_will_be_used_up(
    office: Office, mailbox: tuple[Mailbox, str], sessions: SessionMaker
) -> None:
    """Proves Q2: 40 a day since the 20th, and 90 are left: two days and a quarter."""
    # A database that is made in a later month has no partition of this one.
    await execute(sessions, "select ledger.make_partitions(0)")
    await execute(
        sessions,
        "insert into ledger.postings (workspace_id, period, effect_key, hold_id, integration_id, "
        "source_id, run_id, operation, posted_at) select :w, date '2026-11-01', "
        "decode(lpad(to_hex(n), 32, '0'), 'hex'), :w, :w, n::text, :w, 'upsert', "
        "timestamptz '2026-11-20 00:00+00' + n * interval '36 minutes' "
        "from generate_series(0, 177) n",
    )
    event = QuotaChanged(
        id=UUID(int=7),
        kind=QuotaKind.THRESHOLD,
        workspace=WORKSPACE,
        period=PERIOD,
        limit=1000,
        revision=1,
        used=910,
        threshold=80,
        at="2026-11-24T10:48:00Z",
    )
    await office.recorder(batch(event))

    await office.sender.send_due()

    (anna,) = mailbox[0].mails.select(to="anna@example.org")
    assert "Verbraucht: 910 von 1.000 Aufgaben (91 %)" in anna.text
    assert "Übrig: 90 Aufgaben" in anna.text
    assert "Verbrauch der letzten Tage: etwa 40 Aufgaben am Tag" in anna.text
    assert "Voraussichtlich verbraucht: etwa am 26. November 2026, 16:00 Uhr UTC" in anna.text


async def test_a_mail_names_some_integrations_and_counts_the_others(
    office: Office, mailbox: tuple[Mailbox, str], sessions: SessionMaker
) -> None:
    await execute(
        sessions,
        "insert into config.integrations (integration_id, workspace_id, name, state) "
        "select gen_random_uuid(), :w, 'List ' || n, 'active' from generate_series(1, 1200) n",
    )
    await office.recorder(batch(threshold(100)))

    await office.sender.send_due()

    (bob,) = mailbox[0].mails.select(to="bob@example.org")
    assert "HubSpot → Brevo, List 1, List 10, " in bob.text
    assert " and 1,181 more." in bob.text
    assert len(bob.source) < 20_000


def asked(kind: QuotaKind, **facts: Any) -> QuotaChanged:
    return QuotaChanged(
        id=ids.computed(kind),
        kind=kind,
        workspace=WORKSPACE,
        period=PERIOD,
        limit=100_000,
        revision=1,
        used=100_000,
        request=UUID(int=11),
        wanted=250_000,
        at="2026-11-24T11:00:00Z",
        **facts,
    )


async def test_a_grant_and_a_refusal_are_told_to_the_workspace(
    office: Office, mailbox: tuple[Mailbox, str], sessions: SessionMaker
) -> None:
    """Proves Q4: with the operator's words, and what is in force for how long."""
    await execute(sessions, "insert into ledger.limits values (:w, 100000)")
    granted = msgspec.structs.replace(
        asked(QuotaKind.REQUEST_GRANTED, is_for_period=True, words="Nur dieses Mal <b>"),
        limit=200_000,
    )
    await office.recorder(batch(granted))
    await office.recorder(batch(asked(QuotaKind.REQUEST_DECLINED, words="Not now")))

    while await office.sender.send_due():
        pass

    granted_to, declined_to = mailbox[0].mails.select(to="anna@example.org")
    assert granted_to.headers["X-Contactsync-Kind"] == "quota_granted"
    assert "Das Kontingent beträgt jetzt 200.000 Aufgaben, nur im November 2026." in (
        granted_to.text
    )
    assert "1. Dezember 2026, 00:00 Uhr UTC; dann wieder 100.000 Aufgaben" in granted_to.text
    assert "Der Betreiber schreibt dazu: „Nur dieses Mal <b>“" in granted_to.text
    assert "Nur dieses Mal &lt;b&gt;" in granted_to.html
    assert declined_to.headers["X-Contactsync-Kind"] == "quota_declined"
    assert len(mailbox[0].mails.select(to="carl@example.org")) == 2
    (_, declined) = mailbox[0].mails.select(to="bob@example.org")
    assert "for 250,000 tasks a month is declined. The limit stays at 100,000" in declined.text
    assert "These integrations are stopped: HubSpot → Brevo." in declined.text
    assert mailbox[0].mails.select(to="ops@example.org") == []


async def test_what_only_the_operator_can_mend_is_told_to_the_operator_alone(
    office: Office, mailbox: tuple[Mailbox, str], sessions: SessionMaker
) -> None:
    """Proves Q4 and X3: a request that was opened, and a ledger that does not add up."""
    await office.recorder(batch(asked(QuotaKind.REQUEST_OPENED)))
    await office.recorder(batch(asked(QuotaKind.DRIFT, check="posted", drift=-1200)))

    await office.sender.send_due()

    opened, drift = mailbox[0].mails
    assert {*opened.recipients, *drift.recipients} == {"ops@example.org"}
    assert opened.subject == "Bäcker & Söhne <b> asks for 250,000 tasks a month"
    assert "req_0000000000000000000000000000000b" in opened.text
    assert "Kept minus compared: −1,200" in drift.text  # noqa: RUF001  # a minus, as it is read
    assert "--workspace ws_00000000000000000000000000000001 --period 2026-11" in drift.text
    async with sessions.begin() as session:
        audiences = await session.scalars(text("select distinct audience from notices.notices"))
        assert audiences.all() == ["operator"]


@pytest.mark.parametrize("state", ["open", "withdrawn", "declined"])
async def test_nobody_is_asked_to_decide_what_is_decided_or_taken_back(
    office: Office, mailbox: tuple[Mailbox, str], sessions: SessionMaker, state: str
) -> None:
    """Proves Q4: the operator's mail about a request is looked at again before it leaves."""
    opened = asked(QuotaKind.REQUEST_OPENED)
    await office.recorder(batch(opened))
    await execute(
        sessions,
        "insert into config.quota_requests (request_id, workspace_id, wanted, reason, state, "
        "asked_by, asked_limit, asked_used, decided_at) "
        "values (:r, :w, 250000, 'Fair', :state, 'key', 100000, 90000, "
        "case when :state <> 'open' then now() end)",
        r=opened.request,
        state=state,
    )

    await office.sender.send_due()

    is_open = state == "open"
    assert len(mailbox[0].mails) == is_open
    assert await told(sessions) == {("sent", None) if is_open else ("suppressed", "request_closed")}


async def test_without_an_address_of_the_operators_nobody_else_is_told(
    notifier: SessionMaker, people: None, sessions: SessionMaker
) -> None:
    recorder = Recorder(notifier, asyncio.Event())

    await recorder(batch(asked(QuotaKind.REQUEST_OPENED)))

    assert await notices(sessions) == []


async def test_who_was_removed_or_wants_no_such_mail_gets_none_any_more(
    office: Office, mailbox: tuple[Mailbox, str], sessions: SessionMaker
) -> None:
    """Proves X1: a person who says stop is believed at once; what was sent stays on record."""
    await office.recorder(batch(threshold(100)))
    await execute(sessions, "delete from config.users where email = 'anna@example.org'")
    await execute(
        sessions, "update config.users set muted = '{quota_100}' where email = 'bob@example.org'"
    )

    await office.sender.send_due()

    assert len(mailbox[0].mails) == 0
    assert [(row["recipient"], row["reason"]) for row in await notices(sessions)] == [
        ("anna@example.org", "reader_removed"),
        ("bob@example.org", "reader_muted"),
    ]


async def test_a_new_address_gets_the_mail_and_gets_it_once(
    office: Office, mailbox: tuple[Mailbox, str], sessions: SessionMaker
) -> None:
    """Proves Q3: the event comes again when the address has changed."""
    await office.recorder(batch(threshold(100)))
    await execute(
        sessions,
        "update config.users set email = 'anna@example.com' where email = 'anna@example.org'",
    )
    await office.recorder(batch(threshold(100)))

    await office.sender.send_due()

    received = Counter(mail.recipients for mail in mailbox[0].mails)
    assert received == {("anna@example.com",): 1, ("bob@example.org",): 1}


SPOILT = (
    "kind = 'no_such_kind'",
    "language = 'fr'",
    "payload = payload - 'used'",
    "payload = payload - 'revision'",
    "payload = jsonb_set(payload, '{period}', '\"yesterday\"')",
    "payload = jsonb_set(payload, '{limit}', '\"many\"')",
    "payload = '[]'",
)


async def test_a_bad_notice_fails_alone(
    office: Office, mailbox: tuple[Mailbox, str], sessions: SessionMaker
) -> None:
    """Proves Q3: whatever is wrong with one notice, the others leave."""
    await office.recorder(batch(*(threshold(100, revision=n) for n in range(len(SPOILT)))))
    for revision, spoiling in enumerate(SPOILT):
        await execute(
            sessions,
            f"update notices.notices set {spoiling} "
            "where recipient = 'anna@example.org' and payload->>'revision' = :revision",
            revision=str(revision),
        )

    while await office.sender.send_due():
        pass

    assert {mail.recipients for mail in mailbox[0].mails} == {("bob@example.org",)}
    assert Counter((row["state"], row["reason"]) for row in await notices(sessions)) == {
        ("failed", "unrenderable"): len(SPOILT),
        ("sent", None): len(SPOILT),
    }


async def test_a_notice_that_ends_the_process_each_time_does_not_hold_up_the_others(
    office: Office, mailbox: tuple[Mailbox, str], sessions: SessionMaker
) -> None:
    """Proves Q3: what was tried least goes first, and at some time it is given up."""
    await office.recorder(batch(threshold(100)))
    bad = "where recipient = 'anna@example.org'"
    await execute(sessions, f"update notices.notices set attempts = 1 {bad}")
    send, ends = office.sender._send, [CrashError("anna")]

    async def crashing(message: EmailMessage) -> None:
        if message["To"] == "anna@example.org" and ends:
            raise ends.pop()
        await send(message)

    office.sender._send = crashing
    with pytest.raises(CrashError):
        await office.sender.send_due()
    assert [mail.recipients for mail in mailbox[0].mails] == [("bob@example.org",)]

    await execute(sessions, f"update notices.notices set attempts = 40, lease_until = null {bad}")
    await office.sender.send_due()

    assert await told(sessions) == {("failed", "tried_too_often"), ("sent", None)}


async def test_a_notice_of_an_older_version_is_still_sent(
    office: Office, mailbox: tuple[Mailbox, str], sessions: SessionMaker
) -> None:
    """Proves X2: what waited while a new version was rolled out is not lost."""
    await execute(
        sessions,
        "insert into notices.notices (notice_id, workspace_id, kind, language, recipient, payload) "
        "values (:n, :w, 'quota_100', 'en', 'bob@example.org', cast(:payload as jsonb))",
        n=uuid4(),
        payload='{"period": "2026-11-01", "revision": 1, "limit": 100, "used": 100, "both": false, '
        '"workspace": "n", "integrations": ["a"], "integration": ""}',
    )

    await office.sender.send_due()

    (bob,) = mailbox[0].mails
    assert "Used: 100 of 100 tasks (100%)" in bob.text


async def test_how_long_mails_wait_is_measured_by_kind(
    office: Office, sessions: SessionMaker
) -> None:
    await office.recorder(batch(threshold(100), threshold(80)))
    await execute(
        sessions,
        "update notices.notices set next_at = clock_timestamp() - interval '1 hour' "
        "where kind = 'quota_100'",
    )

    await office.sender.send_due()

    def waits_s(kind: str) -> float:
        value = metrics.REGISTRY.get_sample_value(
            "contactsync_notices_oldest_seconds", {"kind": kind}
        )
        assert value is not None
        return value

    assert waits_s("quota_100") >= 3600
    assert waits_s("quota_80") < 60
    assert waits_s("drift") == 0
    await office.sender.send_due()
    assert waits_s("quota_100") == 0
