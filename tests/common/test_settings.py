"""Wrong settings end a process with what is wrong and where, and never with a value (X1, X4)."""

import pytest

from libs.common.settings import (
    DatabaseSettings,
    Environment,
    ProviderSettings,
    SecretsSettings,
    read,
)


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
    assert (client.id, client.secret.get_secret_value()) == ("ours", "secret-of-ours")
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
    assert "DATABASE_URL: " in str(ended.value)
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
