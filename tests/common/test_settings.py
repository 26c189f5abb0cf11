"""Wrong settings end a process with what is wrong and where, and never with a value (X1, X4)."""

from dataclasses import dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import Literal, get_type_hints

import pytest

from libs.common import settings as module
from libs.common.settings import (
    NO_SECRET,
    DatabaseSettings,
    Environment,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ProviderSettings,
    ProviderUrls,
    Secret,
    SecretsSettings,
    WrongSettingsError,
    read,
)
from libs.common.settings import Settings as SettingsBase

SERVICES = sorted(
    path.parent.name for path in (Path(__file__).parents[2] / "services").glob("*/settings.py")
)
NAMES = ("Settings", "WriterSettings")
ANY_TEXT = (str, Path, Secret)  # What no text can be wrong for.


@dataclass(frozen=True, kw_only=True)
class Settings(DatabaseSettings, SecretsSettings, ProviderSettings):
    """What a service reads."""


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("DATABASE_URL", "KEYS", "PROVIDER_BASE_URLS", "ENVIRONMENT", "RATE_LIMITS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE_URL", "postgresql://writer:secret-password@db/contactsync")
    monkeypatch.setenv("KEYS", "secret-key")
    return monkeypatch


def test_settings_come_from_the_environment(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("ENVIRONMENT", "development")
    environment.setenv("PROVIDER_BASE_URLS", '{"brevo": "http://127.0.0.1:1"}')

    settings = read(Settings)

    assert settings.environment is Environment.DEVELOPMENT
    assert settings.provider_base_urls == {"brevo": "http://127.0.0.1:1"}


def test_each_providers_client_is_found_by_the_providers_name(
    environment: pytest.MonkeyPatch,
) -> None:
    """Whoever the provider is: two variables are enough, and no edit of the settings."""
    environment.setenv("ACME_CRM_CLIENT_ID", "ours")
    environment.setenv("ACME_CRM_CLIENT_SECRET", "secret-of-ours")
    environment.setenv("_CLIENT_ID", "nobody's")

    settings = read(Settings)

    client = settings.provider_clients["acme_crm"]
    assert (client.id, client.secret.reveal()) == ("ours", "secret-of-ours")
    assert "" not in settings.provider_clients
    assert "secret-of-ours" not in repr(settings)


def test_what_is_missing_and_what_is_wrong_is_named_and_not_shown(
    environment: pytest.MonkeyPatch,
) -> None:
    """Proves X1 and X4."""
    environment.delenv("KEYS")
    environment.setenv("DATABASE_URL", "mysql://writer:secret-password@db/contactsync")

    with pytest.raises(SystemExit) as ended:
        read(Settings)

    assert "KEYS is not set" in str(ended.value)
    assert "DATABASE_URL must be an address like postgresql://" in str(ended.value)
    assert "secret" not in str(ended.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("PROVIDER_BASE_URLS", '{"brevo": "http://127.0.0.1:1"}'), ("RATE_LIMITS", "false")],
)
def test_production_refuses_what_is_meant_for_the_sandbox(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment.setenv(name, value)

    with pytest.raises(SystemExit, match=f"{name}.*sandbox"):
        read(Settings)


@dataclass(frozen=True, kw_only=True)
class Sorts(SettingsBase):
    """One of each kind of value there is."""

    whole: PositiveInt = 1
    or_none: NonNegativeInt | None = None
    share: NonNegativeFloat = 0.5
    plain: float = 0.0
    flag: bool = False
    where: Path | None = None
    language: Literal["en", "de"] = "en"
    stage: Environment = Environment.TEST
    names: tuple[str, ...] = ()
    urls: ProviderUrls = field(default_factory=dict)
    password: Secret = NO_SECRET
    note: str | None = None


def test_texts_become_what_the_setting_is() -> None:
    parsed = Sorts.parse(
        {
            "WHOLE": "7",
            "OR_NONE": "0",
            "SHARE": "1",
            "PLAIN": "-2.5",
            "FLAG": "True",
            "WHERE": "/tmp",
            "LANGUAGE": "de",
            "STAGE": "production",
            "NAMES": '["a", "b"]',
            "urls": "{}",
            "PASSWORD": " 12 ",
            "NOTE": "null",
            "UNKNOWN": "1",
        }
    )

    assert (parsed.whole, parsed.or_none, parsed.share, parsed.plain) == (7, 0, 1.0, -2.5)
    assert (parsed.flag, parsed.where, parsed.language) == (True, Path("/tmp"), "de")
    assert (parsed.stage, parsed.names) == (Environment.PRODUCTION, ("a", "b"))
    assert (parsed.urls, parsed.password.reveal(), parsed.note) == ({}, " 12 ", "null")
    assert Sorts.parse({}) == Sorts()


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("WHOLE", "0", "a whole number above 0"),
        ("WHOLE", "many-secret", "a whole number above 0"),
        ("OR_NONE", "-1", "0 or a whole number above it"),
        ("SHARE", "nan", "0 or a number above it"),
        ("PLAIN", "", "a number"),
        ("PLAIN", "secret\udcff", "a number"),
        ("URLS", "secret\udcff", "addresses by provider in JSON"),
        ("FLAG", "perhaps-secret", "true or false"),
        ("LANGUAGE", "secret", "one of en, de"),
        ("STAGE", "secret", "one of production, development, test"),
        ("NAMES", "secret", "a list of texts in JSON"),
        ("NAMES", "[1]", "a list of texts in JSON"),
        ("URLS", '["secret"]', "addresses by provider in JSON"),
    ],
)
def test_each_wrong_value_is_told_by_what_it_must_be(name: str, value: str, told: str) -> None:
    """Proves X1 and X4: the variable and what it must be, and not what it was."""
    with pytest.raises(WrongSettingsError) as wrong:
        Sorts.parse({name: value, "WHOLE": "x"} if name != "WHOLE" else {name: value})

    assert any(line.startswith(f"{name} must be {told}") for line in wrong.value.lines)
    assert any(line.startswith("WHOLE must be") for line in wrong.value.lines)
    assert "secret" not in str(wrong.value)


@pytest.mark.parametrize("service", SERVICES)
def test_whatever_a_service_reads_can_be_told_in_words(service: str) -> None:
    """Proves X1: a wrong value must not end in a stack trace because nobody said what it is."""
    found = vars(import_module(f"services.{service}.settings"))
    [kind] = [each for name, each in found.items() if name in NAMES]
    hints = get_type_hints(kind, include_extras=True)

    words = {
        each.name: module._describe(hints[each.name])
        for each in fields(kind)
        if module._bare(hints[each.name]) not in ANY_TEXT and each.name != "provider_clients"
    }

    assert words["health_port"] == "0 or a whole number above it"
    assert all(words.values())
