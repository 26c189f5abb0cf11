"""What the notifier may be told."""

from typing import Literal, Self

from pydantic import EmailStr, FilePath, PositiveFloat, PositiveInt, SecretStr, model_validator

from libs.common.settings import DatabaseSettings, Environment, KafkaSettings, ServiceSettings


class Settings(DatabaseSettings, KafkaSettings, ServiceSettings):
    """Where mails leave, and under which name."""

    smtp_host: str
    smtp_port: PositiveInt = 587
    smtp_starttls: bool = False
    smtp_username: str = ""
    smtp_password: SecretStr = SecretStr("")
    mail_from: EmailStr

    # Whose certificates are believed (PEM), where the mail server's is none of the public ones.
    smtp_ca_file: FilePath | None = None

    # Who is told what only the operator can mend: requests for more, drift. Nobody without it.
    operator_email: EmailStr | None = None
    operator_language: Literal["en", "de"] = "en"

    # The front end that a mail's link leads to. Without one, mails carry no link.
    console_url: str | None = None

    # How often due notices are looked for; an event shortens it.
    sweep_s: PositiveFloat = 2.0

    # A notifier that dies while it sends keeps its notices this long. Longer than SMTP's time-out.
    claim_s: PositiveFloat = 120.0

    @model_validator(mode="after")
    def _a_login_is_not_shown_to_the_network(self) -> Self:
        if (
            self.environment is Environment.PRODUCTION
            and self.smtp_username
            and not self.smtp_starttls
        ):
            message = "SMTP_USERNAME would go over the network in the clear: set SMTP_STARTTLS=true"
            raise ValueError(message)
        return self
