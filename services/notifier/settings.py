"""What the notifier may be told."""

from pydantic import EmailStr, PositiveFloat, PositiveInt, SecretStr

from libs.common.settings import DatabaseSettings, KafkaSettings, ServiceSettings


class Settings(DatabaseSettings, KafkaSettings, ServiceSettings):
    """Where mails leave, and under which name."""

    smtp_host: str
    smtp_port: PositiveInt = 587
    smtp_starttls: bool = False
    smtp_username: str = ""
    smtp_password: SecretStr = SecretStr("")
    mail_from: EmailStr

    # The front end that a mail's link leads to. Without one, mails carry no link.
    console_url: str | None = None

    # How often due notices are looked for; an event shortens it.
    sweep_s: PositiveFloat = 2.0

    # A notifier that dies while it sends keeps its notices this long. Longer than SMTP's time-out.
    claim_s: PositiveFloat = 120.0
