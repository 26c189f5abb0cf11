"""What the config API may be told."""

from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta

from libs.common.settings import (
    DatabaseSettings,
    Environment,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ProviderSettings,
    SecretsSettings,
)
from services.config_api.routing import UploadBounds

NumbersByProvider = Annotated[
    dict[str, NonNegativeInt],
    Meta(description='numbers by provider in JSON, like {"<provider>": 3}'),
]


@dataclass(frozen=True, kw_only=True)
class Settings(DatabaseSettings, SecretsSettings, ProviderSettings):
    """Where it listens, where browsers may be sent, and how much it takes."""

    api_host: str = "127.0.0.1"
    api_port: NonNegativeInt = 8000

    # Origins (`https://app.example.com`) that a login may end at, beside PUBLIC_URL's own.
    return_origins: tuple[str, ...] = ()

    # A mapping of 200 fields takes 20 KB; no request is larger for a good reason.
    body_bytes_max: PositiveInt = 256 * 1024

    # A CSV file (AC8): a million contacts of a hundred bytes each. All files that are kept for one
    # workspace together: those of its last thirty days.
    upload_bytes_max: PositiveInt = 100 * 1024 * 1024
    upload_rows_max: PositiveInt = 1_000_000
    upload_bytes_kept_max: PositiveInt = 1024 * 1024 * 1024

    # Calls of one workspace in one process: a front end that polls ten runs a second stays below.
    rate_limit_calls: PositiveInt = 1200
    rate_limit_window_s: PositiveFloat = 60.0

    # CC1, SF7, liftable: how many integrations may read one account, by provider
    # (`{"constant_contact": 3}`; 0: any number). Who is not named has what its rule says.
    integrations_per_account: NumbersByProvider = field(default_factory=dict)

    @property
    def uploads(self) -> UploadBounds:
        """Return how much may be uploaded."""
        return UploadBounds(self.upload_bytes_max, self.upload_rows_max, self.upload_bytes_kept_max)

    @property
    def base_url(self) -> str:
        """Return the address under which browsers and providers reach us."""
        return (self.public_url or f"http://{self.api_host}:{self.api_port}").rstrip("/")

    @property
    def events_url(self) -> str | None:
        """Return where providers may send events; None in production without PUBLIC_URL."""
        is_reachable = self.public_url or self.environment is not Environment.PRODUCTION
        return f"{self.base_url}/v1/provider-events" if is_reachable else None

    def __post_init__(self) -> None:
        """Refuse logins that would come back over plain HTTP."""
        super().__post_init__()
        is_production = self.environment is Environment.PRODUCTION
        if is_production and self.public_url and not self.public_url.startswith("https://"):
            message = "PUBLIC_URL must begin with https:// in production: logins come back to it"
            raise ValueError(message)
