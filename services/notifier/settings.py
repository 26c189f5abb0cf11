"""What the notifier may be told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from libs.common import email
from libs.common.errors import ContactRejectedError
from libs.common.settings import (
    NO_SECRET,
    DatabaseSettings,
    Environment,
    KafkaSettings,
    PositiveFloat,
    PositiveInt,
    Secret,
    ServiceSettings,
)


@dataclass(frozen=True, kw_only=True)
class Settings(DatabaseSettings, KafkaSettings, ServiceSettings):
    """Where mails leave, and under which name."""

    smtp_host: str
    smtp_port: PositiveInt = 587
    smtp_starttls: bool = False
    smtp_username: str = ""
    smtp_password: Secret = NO_SECRET
    mail_from: str

    # Whose certificates are believed (PEM), where the mail server's is none of the public ones.
    smtp_ca_file: Path | None = None

    # Who is told what only the operator can mend: requests for more, drift. Nobody without it.
    operator_email: str | None = None
    operator_language: Literal["en", "de"] = "en"

    # The front end that a mail's link leads to. Without one, mails carry no link.
    console_url: str | None = None

    # How often due notices are looked for; an event shortens it.
    sweep_s: PositiveFloat = 2.0

    # A notifier that dies while it sends keeps its notices this long. Longer than SMTP's time-out.
    claim_s: PositiveFloat = 120.0

    def __post_init__(self) -> None:
        """Refuse what is no address or no file, and a login that the network would see."""
        super().__post_init__()
        for name, address in (
            ("MAIL_FROM", self.mail_from),
            ("OPERATOR_EMAIL", self.operator_email),
        ):
            if address is not None and not _is_address(address):
                message = f"{name} must be an e-mail address"
                raise ValueError(message)
        if self.smtp_ca_file is not None and not self.smtp_ca_file.is_file():
            message = "SMTP_CA_FILE must be the path of a file that is there"
            raise ValueError(message)
        if (
            self.environment is Environment.PRODUCTION
            and self.smtp_username
            and not self.smtp_starttls
        ):
            message = "SMTP_USERNAME would go over the network in the clear: set SMTP_STARTTLS=true"
            raise ValueError(message)


def _is_address(address: str) -> bool:
    try:
        email.normalise(address)
    except ContactRejectedError:
        return False
    return True
