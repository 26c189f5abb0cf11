"""Settings every service shares. Each service adds its own in `services/<name>/settings.py`.

Settings come from the environment and from nowhere else. They are read once, in `main`, and
handed down: no other module looks at the environment, so a test passes what it likes and a
missing variable stops the process before it has touched anything.

A name ends in its unit, then in `_min` or `_max`: `poll_interval_s`, `pool_size_max`. A variable
is called as its setting, in capitals; objects and lists are written in JSON.

Values are converted by msgspec, which each service has anyway: pydantic is 10 MB of a process that
needs it for nothing else (ADR 0160).
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from enum import Enum, StrEnum
from pathlib import Path
from types import UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    Self,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec
from msgspec import Meta

# What a value must be stands in `description`: it completes "<NAME> must be …".
PositiveInt = Annotated[int, Meta(gt=0, description="a whole number above 0")]
NonNegativeInt = Annotated[int, Meta(ge=0, description="0 or a whole number above it")]
PositiveFloat = Annotated[float, Meta(gt=0, description="a number above 0")]
NonNegativeFloat = Annotated[float, Meta(ge=0, description="0 or a number above it")]
PostgresUrl = Annotated[
    str,
    Meta(
        pattern=r"^postgres(ql)?(\+[a-z0-9]+)?://\S+$",
        description="an address like postgresql://role:password@host:5432/database",
    ),
]
ProviderUrls = Annotated[
    dict[str, str],
    Meta(description='addresses by provider in JSON, like {"<provider>": "http://127.0.0.1:9000"}'),
]

_DESCRIPTIONS: Mapping[object, str] = {
    bool: "true or false",
    float: "a number",
    int: "a whole number",
    tuple: 'a list of texts in JSON, like ["one", "two"]',
}


class Secret:
    """A text that no log and no message shows."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text, for whoever is meant to have it."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(…)"


NO_SECRET = Secret("")


class WrongSettingsError(Exception):
    """The environment does not say what it must: one line for each variable, without its value."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all settings are: frozen, given by name, with defaults where the environment is silent.

    A subclass that has values which do not go together says so in `__post_init__`: it calls that
    of the others and raises ValueError with which variable is to be set how.
    """

    def __post_init__(self) -> None:
        """Raise ValueError if values do not go together."""

    @classmethod
    def parse(cls, environment: Mapping[str, str]) -> Self:
        """Return what the variables say; raise WrongSettingsError with all that is wrong."""
        given = cls.given({name.lower(): value for name, value in environment.items()})
        hints = get_type_hints(cls, include_extras=True)
        values, wrong = {}, []
        for each in fields(cls):
            name = each.name.upper()
            if each.name not in given:
                if _is_needed(each):
                    wrong.append(f"{name} is not set (docs/operations.md says what it means)")
                continue
            try:
                values[each.name] = _convert(given[each.name], hints[each.name])
            except (msgspec.MsgspecError, UnicodeError):  # Bytes that are no UTF-8, for one.
                # Not the library's message: it may quote the value.
                wrong.append(f"{name} must be {_describe(hints[each.name])}")
        if wrong:
            raise WrongSettingsError(wrong)
        try:
            return cls(**values)
        except ValueError as error:
            raise WrongSettingsError([str(error)]) from None

    @classmethod
    def given(cls, variables: Mapping[str, str]) -> Mapping[str, Any]:
        """Return values by the settings' names; texts are converted, all else is taken as it is."""
        return variables


S = TypeVar("S", bound=Settings)


def read(kind: type[S]) -> S:
    """Read a process's settings from the environment; end it with what is wrong and where.

    A value is never repeated in the message: it may be a secret.
    """
    try:
        return kind.parse(os.environ)
    except WrongSettingsError as error:
        wrong = "\n".join(f"  {line}" for line in error.lines)
        sys.exit(f"wrong settings in the environment:\n{wrong}")


def _is_needed(setting: Field[Any]) -> bool:
    return setting.default is MISSING and setting.default_factory is MISSING


def _convert(value: object, hint: object) -> object:
    """Return a value as its setting has it; raise MsgspecError if it can not be had."""
    if not isinstance(value, str):
        return value
    if get_origin(_bare(hint)) in {dict, tuple}:
        return msgspec.json.decode(value, type=hint)
    return msgspec.convert(value, hint, strict=False, dec_hook=_construct)


def _construct(kind: type[Any], value: object) -> object:
    return kind(value)  # Path, Secret: any text is one.


def _bare(hint: object) -> Any:
    """Return what a type is without its bounds, and without the None beside it."""
    while get_origin(hint) in {Annotated, Union, UnionType}:
        hint = get_args(hint)[0]
    return hint


def _describe(hint: object) -> str:
    """Return what a value must be, in words."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return str(parts[1].description)
    if origin in {Union, UnionType}:
        return _describe(parts[0])
    if origin is Literal:
        return f"one of {', '.join(parts)}"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return f"one of {', '.join(each.value for each in hint)}"
    return _DESCRIPTIONS[origin or hint]


class Environment(StrEnum):
    """Where a process runs; only `production` refuses what is meant for the other two."""

    PRODUCTION = "production"
    DEVELOPMENT = "development"
    TEST = "test"


@dataclass(frozen=True, kw_only=True)
class ServiceSettings(Settings):
    """What every process reads: how loud it is, and where its health and metrics are."""

    environment: Environment = Environment.PRODUCTION
    log_level: str = "INFO"

    # Health and metrics (`/live`, `/ready`, `/metrics`). 0 lets the system choose.
    health_host: str = "127.0.0.1"
    health_port: NonNegativeInt = 9000

    # SIGTERM drains within this; Kubernetes must wait longer before it kills (RELIABILITY 7).
    drain_s: float = 25.0

    # Where tests say at which step the process is to die (`libs.common.failpoints`).
    failpoints: Path | None = None

    def __post_init__(self) -> None:
        """Refuse failpoints outside of tests."""
        super().__post_init__()
        if self.environment is not Environment.TEST and self.failpoints is not None:
            message = (
                "FAILPOINTS lets tests kill a process at a chosen step: "
                "unset it, or set ENVIRONMENT=test"
            )
            raise ValueError(message)


@dataclass(frozen=True, kw_only=True)
class KafkaSettings(Settings):
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


@dataclass(frozen=True, kw_only=True)
class DatabaseSettings(Settings):
    """Where PostgreSQL is, as the service's own role (PROTOCOL.md 3)."""

    database_url: PostgresUrl = field(repr=False)
    database_pool_size_max: PositiveInt = 5


@dataclass(frozen=True, kw_only=True)
class SecretsSettings(Settings):
    """The keys that seal credentials: `<kek id>:<base64 of 32 bytes>`, newest first."""

    keys: Secret


@dataclass(frozen=True, kw_only=True)
class ClientSettings:
    """Our application at one provider that logs in by OAuth; empty where there is none."""

    id: str = ""
    secret: Secret = NO_SECRET


def _clients(variables: Mapping[str, str]) -> Mapping[str, ClientSettings]:
    """Find our applications: `<PROVIDER>_CLIENT_ID`, `<PROVIDER>_CLIENT_SECRET`, for whomever."""
    found: dict[str, ClientSettings] = {}
    for name, value in variables.items():
        provider, _, part = name.rpartition("_client_")
        if provider and part == "id":
            found[provider] = replace(found.get(provider, ClientSettings()), id=value)
        elif provider and part == "secret":
            found[provider] = replace(found.get(provider, ClientSettings()), secret=Secret(value))
    return found


@dataclass(frozen=True, kw_only=True)
class ProviderSettings(ServiceSettings):
    """Where providers are. Only the sandbox, outside production, may replace an address."""

    provider_base_urls: ProviderUrls = field(default_factory=dict)
    # By provider. Each has two variables of its own (`_clients`), so that which providers
    # there are need not be known here.
    provider_clients: Mapping[str, ClientSettings] = field(default_factory=dict)
    public_url: str | None = None

    # False only against a sandbox that has its limits off, to measure our own cost.
    rate_limits: bool = True

    @classmethod
    def given(cls, variables: Mapping[str, str]) -> Mapping[str, Any]:
        """Return the variables and, found in them, each provider's client."""
        return {**super().given(variables), "provider_clients": _clients(variables)}

    def __post_init__(self) -> None:
        """Refuse in production what is meant for the sandbox."""
        super().__post_init__()
        if self.environment is Environment.PRODUCTION and self.provider_base_urls:
            message = (
                "PROVIDER_BASE_URLS replaces provider addresses and is for the sandbox only: "
                "unset it, or set ENVIRONMENT=development"
            )
            raise ValueError(message)
        if self.environment is Environment.PRODUCTION and not self.rate_limits:
            message = "RATE_LIMITS=false is for measurements against the sandbox: unset it"
            raise ValueError(message)
