"""The mailbox over real SMTP and HTTP, spoken to by ordinary clients."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path

import aiosmtplib
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sandbox.mailbox.__main__ import tls_context
from sandbox.mailbox.messages import MAILS_MAX, Mails
from sandbox.mailbox.pages import create_app
from sandbox.mailbox.smtp import Mailbox, listen
from sandbox.server import serve

ROOT = Path(__file__).parents[2]


class Post:
    """A running mailbox and a client at each of its doors."""

    def __init__(self, smtp: str, http: httpx.AsyncClient) -> None:
        self.host, _, port = smtp.partition(":")
        self.port = int(port)
        self.http = http

    async def send(self, message: EmailMessage, *, login: tuple[str, str] | None = None) -> str:
        """Send one mail and return the answer to its data."""
        username, password = login or (None, None)
        _, answer = await aiosmtplib.send(
            message,
            hostname=self.host,
            port=self.port,
            username=username,
            password=password,
            start_tls=False,
            timeout=60,
        )
        return answer

    async def messages(self, **query: str) -> list[dict[str, object]]:
        answer = await self.http.get("/api/messages", params=query)
        assert answer.status_code == 200
        received: list[dict[str, object]] = answer.json()
        return received

    async def script(self, answer: str, times: int = 1) -> None:
        wanted = {"answer": answer, "times": times}
        (await self.http.put("/_sandbox/faults", json=wanted)).raise_for_status()


@pytest.fixture
async def post() -> AsyncIterator[Post]:
    mailbox = Mailbox()
    async with (
        listen(mailbox) as smtp,
        serve(create_app(mailbox)) as url,
        httpx.AsyncClient(base_url=url) as http,
    ):
        yield Post(smtp, http)


def mail(
    subject: str = "Kontingent überschritten — 100 %", to: str = "ops@example.org"
) -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = subject
    message["From"] = "Contactsync <noreply@example.com>"
    message["To"] = to
    message["Message-ID"] = "<decision-1@example.com>"
    message.set_content("Grüße, 你好\n")
    message.add_alternative("<p>Grüße, <b>你好</b></p><script>alert(1)</script>", subtype="html")
    return message


async def test_a_mail_is_decoded_as_a_mail_program_would_show_it(post: Post) -> None:
    await post.send(mail())

    [received] = await post.messages()

    assert received["subject"] == "Kontingent überschritten — 100 %"
    assert received["from"] == "noreply@example.com"
    assert received["to"] == ["ops@example.org"]
    assert received["message_id"] == "<decision-1@example.com>"
    assert received["text"] == "Grüße, 你好\n"
    assert "<b>你好</b>" in str(received["html"])
    assert isinstance(received["headers"], dict)
    assert received["headers"]["From"] == "Contactsync <noreply@example.com>"
    one = await post.http.get(f"/api/messages/{received['id']}")
    assert one.json() == received


async def test_any_login_is_accepted_and_none_is_needed(post: Post) -> None:
    await post.send(mail())
    await post.send(mail(), login=("anyone", "any password"))

    assert len(await post.messages()) == 2


def certificate(folder: Path) -> Path:
    """Make a certificate for localhost, signed by itself, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    today = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = folder / "localhost.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return path


async def test_a_mail_may_come_over_tls_if_the_mailbox_has_a_certificate(tmp_path: Path) -> None:
    mailbox = Mailbox()
    async with listen(mailbox, tls_context=tls_context(certificate(tmp_path))) as smtp:
        host, _, port = smtp.partition(":")

        await aiosmtplib.send(
            mail(), hostname=host, port=int(port), start_tls=True, validate_certs=False, timeout=60
        )

    assert len(mailbox.mails) == 1
    assert tls_context(None) is None


async def test_messages_are_selected_by_recipient_id_and_message_id(post: Post) -> None:
    await post.send(mail(to="a@example.org"))
    await post.send(mail(to="b@example.org"))

    to_b = await post.messages(to="B@example.org")
    after = await post.messages(after="1")
    both = await post.messages(message_id="<decision-1@example.com>")

    assert [each["id"] for each in to_b] == [2]
    assert [each["id"] for each in after] == [2]
    assert [each["id"] for each in both] == [1, 2]
    assert (await post.http.get("/api/messages", params={"after": "x"})).status_code == 400


async def test_deleted_messages_are_gone_and_their_ids_are_not_used_again(post: Post) -> None:
    await post.send(mail())

    answer = await post.http.delete("/api/messages")
    await post.send(mail())

    assert answer.json() == {"deleted": 1}
    assert [each["id"] for each in await post.messages()] == [2]
    assert (await post.http.get("/api/messages/1")).status_code == 404


@pytest.mark.parametrize("code", [451, 550])
async def test_a_scripted_refusal_refuses_so_many_mails_and_keeps_none(
    post: Post, code: int
) -> None:
    await post.script(str(code), times=2)

    for _ in range(2):
        with pytest.raises(aiosmtplib.SMTPDataError) as refused:
            await post.send(mail())
        assert refused.value.code == code
    await post.send(mail())

    assert len(await post.messages()) == 1


async def test_a_cut_after_the_data_keeps_the_mail_and_tells_the_sender_nothing(
    post: Post,
) -> None:
    await post.script("cut_after_data")

    with pytest.raises(aiosmtplib.SMTPServerDisconnected):
        await post.send(mail())
    await post.send(mail())

    received = await post.messages(message_id="<decision-1@example.com>")
    assert len(received) == 2


async def test_cleared_faults_do_not_happen(post: Post) -> None:
    await post.script("550", times=5)

    await post.http.delete("/_sandbox/faults")
    await post.send(mail())

    assert len(await post.messages()) == 1


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ('{"answer": "250"}', "choose one of"),
        ('{"answer": "451", "times": 0}', "1 or more"),
        ('{"answer": "451", "times": true}', "whole number"),
        ("[]", "the body must be"),
        ("{", "Expecting"),
    ],
)
async def test_a_fault_that_makes_no_sense_is_refused_with_the_reason(
    post: Post, wanted: str, reason: str
) -> None:
    answer = await post.http.put("/_sandbox/faults", content=wanted)

    assert answer.status_code == 400
    assert reason in answer.json()["error"]


async def test_the_page_lists_mails_and_lets_no_script_of_theirs_run(post: Post) -> None:
    await post.send(mail(subject="<script>alert('subject')</script>"))

    listed = await post.http.get("/")
    page = await post.http.get("/messages/1")
    part = await post.http.get("/messages/1/html")
    source = await post.http.get("/messages/1/source")

    assert "Mailbox (1)" in listed.text
    for text in (listed.text, page.text):
        assert "&lt;script&gt;alert(&#x27;subject&#x27;)" in text
        assert "<script>" not in text
    assert "Grüße, 你好" in page.text
    assert '<iframe sandbox src="/messages/1/html">' in page.text
    assert "default-src 'none'" in part.headers["content-security-policy"]
    assert "sandbox" in part.headers["content-security-policy"]
    assert "Message-ID: <decision-1@example.com>" in source.text
    for gone in ("/messages/9", "/messages/9/html", "/messages/9/source"):
        assert (await post.http.get(gone)).status_code == 404


def test_a_mail_with_an_unknown_character_set_is_kept_with_what_can_be_read() -> None:
    source = b"Subject: x\r\nContent-Type: text/plain; charset=klingon\r\n\r\nhello\r\n"

    kept = Mails().add(sender="a@example.org", recipients=["b@example.org"], source=source)

    assert kept.text.startswith("hello")
    assert kept.html == ""


def test_the_mailbox_keeps_no_more_than_its_limit() -> None:
    mails = Mails()

    for _ in range(MAILS_MAX + 1):
        mails.add(sender="", recipients=[], source=b"Subject: x\r\n\r\n")

    assert len(mails) == MAILS_MAX
    assert mails.find(1) is None
    assert mails.find(MAILS_MAX + 1) is not None


async def test_the_process_says_where_it_listens_and_ends_when_told() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "sandbox.mailbox", "--smtp-port", "0", "--http-port", "0"),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout is not None
    addresses = json.loads(await asyncio.wait_for(process.stdout.readline(), 30))
    async with httpx.AsyncClient(base_url=addresses["http"]) as http:
        post = Post(addresses["smtp"], http)

        await post.script("cut_after_data")
        with pytest.raises(aiosmtplib.SMTPServerDisconnected):
            await post.send(mail())
        await post.send(mail())
        received = await post.messages()
        process.send_signal(signal.SIGTERM)

    assert len(received) == 2
    assert await asyncio.wait_for(process.wait(), 60) == 0
