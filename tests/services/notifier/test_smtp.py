"""The mail server of a company: STARTTLS by its own authority, a login, and refusals."""

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from libs.common.settings import NO_SECRET, Environment, Secret
from services.notifier.settings import Settings
from services.notifier.smtp import (
    ANSWER_MAX,
    MailError,
    MailPostponedError,
    MailRefusedError,
    sender_by,
)

PASSWORD = "correct horse"


@dataclass
class MailServer:
    """A server that takes mail from who logs in through TLS; it refuses what it is told to."""

    port: int = 0
    received: list[tuple[str, bool]] = field(default_factory=list)  # To whom, and was it by TLS.
    logins: list[bytes] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)  # By command.

    async def handle_MAIL(  # noqa: N802  # aiosmtpd finds its hooks by these names
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.mail_from = address
        return self.answers.get("MAIL", "250 OK")

    async def handle_RCPT(  # noqa: N802  # as above
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.rcpt_tos.append(address)
        return self.answers.get("RCPT", "250 OK")

    async def handle_DATA(  # noqa: N802  # as above
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        if "DATA" in self.answers:
            return self.answers["DATA"]
        self.received.append((envelope.rcpt_tos[0], session.ssl is not None))
        return "250 OK"

    def log_in(self, *arguments: Any) -> AuthResult:
        given = arguments[-1]
        assert isinstance(given, LoginPassword)
        self.logins.append(given.login)
        is_right = given.login == b"contactsync" and given.password == PASSWORD.encode()
        return AuthResult(success=is_right, handled=False)


@dataclass(frozen=True)
class Authority:
    """A certificate authority of our own, and a server's certificate by it (PEM files)."""

    own: Path
    server: Path


def certificate(
    name: str, key: ec.EllipticCurvePrivateKey, *, by: tuple[str, ec.EllipticCurvePrivateKey]
) -> bytes:
    """Return a certificate for a key on 127.0.0.1, or for the authority itself."""
    issuer, signer = by
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=name == issuer, path_length=None), critical=True)
    )
    if name != issuer:
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    made = builder.sign(signer, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    folder = tmp_path_factory.mktemp("authority")
    signer, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    own, server = folder / "ca.pem", folder / "server.pem"
    own.write_bytes(certificate("Our CA", signer, by=("Our CA", signer)))
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    server.write_bytes(private + certificate("mail", key, by=("Our CA", signer)))
    return Authority(own, server)


@asynccontextmanager
async def listening(server: MailServer, certificate: Path | None) -> AsyncIterator[MailServer]:
    """Serve on a loopback port; without a certificate a login is taken in the clear."""
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()

    def connect() -> SMTP:
        return SMTP(
            server,
            hostname="localhost",
            loop=loop,
            tls_context=context,
            require_starttls=context is not None,
            auth_required=context is not None,
            auth_require_tls=context is not None,
            authenticator=server.log_in,
        )

    listener = await loop.create_server(connect, host="127.0.0.1", port=0)
    async with listener:
        server.port = listener.sockets[0].getsockname()[1]
        yield server


@pytest.fixture
async def server(authority: Authority) -> AsyncIterator[MailServer]:
    async with listening(MailServer(), authority.server) as server:
        yield server


@pytest.fixture
def settings(server: MailServer, authority: Authority) -> Callable[..., Settings]:
    def make(**members: Any) -> Settings:
        usual = {
            "smtp_host": "127.0.0.1",
            "smtp_port": server.port,
            "smtp_starttls": True,
            "smtp_username": "contactsync",
            "smtp_password": Secret(PASSWORD),
            "smtp_ca_file": authority.own,
            "mail_from": "contactsync@example.org",
            "kafka_bootstrap": "unused:9092",
            "database_url": "postgresql://unused/unused",
        }
        return Settings(**{**usual, **members})

    return make


def mail(to: str = "anna@example.org") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "contactsync@example.org", to, "n"
    message.set_content("n\n")
    return message


async def refusal(settings: Settings, message: EmailMessage | None = None) -> MailError:
    """Return what sending a mail raises."""
    with pytest.raises(MailError) as caught:
        await sender_by(settings)(message or mail())
    return caught.value


async def test_a_mail_leaves_through_tls_by_our_own_authority_and_with_a_login(
    server: MailServer, settings: Callable[..., Settings]
) -> None:
    """Proves Q3: as companies' mail servers want it."""
    await sender_by(settings())(mail())

    assert server.received == [("anna@example.org", True)]
    assert server.logins == [b"contactsync"]


async def test_a_wrong_password_is_the_operators_business_and_no_mail_is_lost(
    server: MailServer, settings: Callable[..., Settings]
) -> None:
    """Proves X2 and X4: it would be refused for every mail alike; nothing says who logs in."""
    error = await refusal(settings(smtp_password=Secret("wrong")))

    assert isinstance(error, MailPostponedError)
    assert (error.reason, error.answer) == ("smtp_login_535", "")
    assert server.received == []


async def test_a_certificate_of_a_stranger_gets_neither_login_nor_mail(
    server: MailServer, settings: Callable[..., Settings]
) -> None:
    """Proves X4."""
    error = await refusal(settings(smtp_ca_file=None))

    assert isinstance(error, MailPostponedError)
    assert error.reason == "smtp_tls"
    assert (server.logins, server.received) == ([], [])


async def test_a_server_that_offers_no_tls_gets_neither_login_nor_mail(
    settings: Callable[..., Settings],
) -> None:
    """Proves X4."""
    async with listening(MailServer(), None) as bare:
        error = await refusal(settings(smtp_port=bare.port))

    assert isinstance(error, MailPostponedError)
    assert error.reason == "smtp_not_supported"
    assert (bare.logins, bare.received) == ([], [])


async def test_a_forgotten_login_is_not_held_against_the_reader(
    settings: Callable[..., Settings],
) -> None:
    error = await refusal(settings(smtp_username="", smtp_password=NO_SECRET))

    assert isinstance(error, MailPostponedError)
    assert error.reason == "smtp_530"


@pytest.mark.parametrize(
    ("command", "answer", "kind"),
    [
        ("RCPT", "550 5.1.1 No such user here", MailRefusedError),
        ("RCPT", "450 4.2.0 Greylisted, come back later", MailPostponedError),
        ("DATA", "554 5.6.0 Not this one", MailRefusedError),
        ("DATA", "451 4.3.0 Later", MailPostponedError),
        ("MAIL", "451 4.3.0 Later", MailPostponedError),
        ("MAIL", "550 5.7.1 Not from you", MailPostponedError),
    ],
)
async def test_a_refusal_is_final_only_if_it_is_about_the_mail_or_its_reader(
    server: MailServer,
    settings: Callable[..., Settings],
    command: str,
    answer: str,
    kind: type[MailError],
) -> None:
    """Fault 64: 4xx and whatever is held against us wait, with the server's words."""
    server.answers[command] = answer

    error = await refusal(settings())

    assert isinstance(error, kind)
    code, _, words = answer.partition(" ")
    assert (error.reason, error.answer) == (f"smtp_{code}", words)


async def test_nobody_there_is_tried_later(settings: Callable[..., Settings]) -> None:
    async with listening(MailServer(), None) as gone:
        pass

    error = await refusal(settings(smtp_port=gone.port))

    assert isinstance(error, MailPostponedError)
    assert error.reason == "smtp_no_answer"


async def test_an_address_that_is_not_fit_for_smtp_is_refused_by_ourselves(
    server: MailServer, settings: Callable[..., Settings]
) -> None:
    nobody = await refusal(settings(), mail("nobody:;"))
    two_at_once = await refusal(settings(), mail("anna@bob@example.org"))

    assert isinstance(nobody, MailRefusedError)
    assert isinstance(two_at_once, MailRefusedError)
    assert nobody.reason == two_at_once.reason == "invalid_address"
    assert server.received == []


def test_a_servers_words_are_kept_short_and_printable() -> None:
    error = MailRefusedError("smtp_550", "5.1.1 no\r\n\x00user" + "é" * 1000)

    assert error.answer.startswith("5.1.1 no user")
    assert len(error.answer) == ANSWER_MAX


@pytest.mark.parametrize("environment", ["production", "development"])
def test_a_login_without_tls_is_refused_in_production(
    settings: Callable[..., Settings], environment: str
) -> None:
    """Proves X4."""
    wanted = {"environment": Environment(environment), "smtp_starttls": False}

    if environment == "production":
        with pytest.raises(ValueError, match="SMTP_STARTTLS"):
            settings(**wanted)
    else:
        assert settings(**wanted).smtp_username


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mail_from", "contactsync"),
        ("operator_email", "ops at example.org"),
        ("smtp_ca_file", Path("/nowhere/ca.pem")),
    ],
)
def test_what_no_mail_could_leave_with_is_told_at_the_start(
    settings: Callable[..., Settings], name: str, value: object
) -> None:
    """Proves X1: by the variable's name, and not when the first mail is due."""
    with pytest.raises(ValueError, match=f"^{name.upper()} must be "):
        settings(**{name: value})
