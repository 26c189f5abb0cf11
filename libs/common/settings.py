"""Settings every service shares. Each service adds its own in `services/<name>/settings.py`.

Settings come from the environment and from nowhere else. They are read once, in `main`, and
handed down: no other module looks at the environment, so a test passes what it likes and a
missing variable stops the process before it has touched anything.

A name ends in its unit, then in `_min` or `_max`: `poll_interval_s`, `pool_size_max`.
"""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import (
    BaseModel,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    PostgresDsn,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

S = TypeVar("S", bound=BaseSettings)


def read(kind: type[S]) -> S:
    """Read a process's settings from the environment; end it with what is wrong and where.

    A value is never repeated in the message: it may be a secret.
    """
    try:
        return kind()
    except ValidationError as error:
        wrong = "\n".join(_told(each) for each in error.errors(include_input=False))
        sys.exit(f"wrong settings in the environment:\n{wrong}")


def _told(error: ErrorDetails) -> str:
    if not error["loc"]:
        return f"  {error['msg'].removeprefix('Value error, ')}"
    name = str(error["loc"][0]).upper()
    if error["type"] == "missing":
        return f"  {name} is not set (docs/operations.md says what it means)"
    return f"  {name}: {error['msg'].removeprefix('Value error, ')}"


class Environment(StrEnum):
    """Where a process runs; only `production` refuses what is meant for the other two."""

    PRODUCTION = "production"
    DEVELOPMENT = "development"
    TEST = "test"


class ServiceSettings(BaseSettings):
    """What every process reads: how loud it is, and where its health and metrics are."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    environment: Environment = Environment.PRODUCTION
    log_level: str = "INFO"

    # Health and metrics (`/live`, `/ready`, `/metrics`). 0 lets the system choose.
    health_host: str = "127.0.0.1"
    health_port: NonNegativeInt = 9000

    # SIGTERM drains within this; Kubernetes must wait longer before it kills (RELIABILITY 7).
    drain_s: float = 25.0

    # Where tests say at which step the process is to die (`libs.common.failpoints`).
    failpoints: Path | None = None

    @model_validator(mode="after")
    def _only_tests_have_failpoints(self) -> Self:
        if self.environment is not Environment.TEST and self.failpoints is not None:
            message = (
                "FAILPOINTS lets tests kill a process at a chosen step: "
                "unset it, or set ENVIRONMENT=test"
            )
            raise ValueError(message)
        return self


class KafkaSettings(BaseSettings):
    """Where the broker is, and how soon it gives up a consumer that says nothing (PROTOCOL.md 2).

    Shorter sessions find a dead consumer sooner, and take a busy one for dead. The broker refuses
    less than its `group.min.session.timeout.ms`, which is 6 s unless it was set.
    """

    kafka_bootstrap: str
    kafka_session_s: PositiveFloat = 45.0
    kafka_heartbeat_s: PositiveFloat = 3.0
    kafka_rebalance_s: PositiveFloat = 60.0

    # How long the rows that a dead relay was publishing are left alone (`libs.common.outbox`).
    # Longer than any publication: what a living one has must not be claimed by another.
    outbox_claim_s: PositiveFloat = 60.0


class DatabaseSettings(BaseSettings):
    """Where PostgreSQL is, as the service's own role (PROTOCOL.md 3)."""

    database_url: PostgresDsn
    database_pool_size_max: PositiveInt = 5


class SecretsSettings(BaseSettings):
    """The keys that seal credentials: `<kek id>:<base64 of 32 bytes>`, newest first."""

    keys: SecretStr


class ClientSettings(BaseModel, frozen=True):
    """Our application at one provider that logs in by OAuth; empty where there is none."""

    id: str = ""
    secret: SecretStr = SecretStr("")


class _ClientsSource(EnvSettingsSource):
    """Finds our applications: `<PROVIDER>_CLIENT_ID`, `<PROVIDER>_CLIENT_SECRET`, for whomever."""

    def __call__(self) -> dict[str, Any]:
        clients: dict[str, dict[str, str | None]] = {}
        for name, value in self.env_vars.items():
            provider, _, part = name.rpartition("_client_")
            if provider and part in ClientSettings.model_fields:
                clients.setdefault(provider, {})[part] = value
        return {"provider_clients": clients}


class ProviderSettings(ServiceSettings):
    """Where providers are. Only the sandbox, outside production, may replace an address."""

    provider_base_urls: dict[str, str] = Field(default_factory=dict)
    # By provider. Each has two variables of its own (`_ClientsSource`), so that which providers
    # there are need not be known here.
    provider_clients: dict[str, ClientSettings] = Field(default_factory=dict)
    public_url: str | None = None

    # False only against a sandbox that has its limits off, to measure our own cost.
    rate_limits: bool = True

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the environment and, in it, each provider's client."""
        return init_settings, env_settings, _ClientsSource(settings_cls)

    @model_validator(mode="after")
    def _production_talks_to_providers_only(self) -> Self:
        if self.environment is Environment.PRODUCTION and self.provider_base_urls:
            message = (
                "PROVIDER_BASE_URLS replaces provider addresses and is for the sandbox only: "
                "unset it, or set ENVIRONMENT=development"
            )
            raise ValueError(message)
        if self.environment is Environment.PRODUCTION and not self.rate_limits:
            message = "RATE_LIMITS=false is for measurements against the sandbox: unset it"
            raise ValueError(message)
        return self
