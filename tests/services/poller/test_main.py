"""How a poller process is told what to do."""

import pytest

from libs.common.settings import read
from libs.connectors.opening import clients_of
from services.poller.__main__ import provider_of
from services.poller.settings import Settings

ENVIRONMENT = {
    "DATABASE_URL": "postgresql://contactsync_poller@127.0.0.1/contactsync",
    "KAFKA_BOOTSTRAP": "127.0.0.1:9092",
    "KEYS": "k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "HUBSPOT_CLIENT_ID": "ours",
    "HUBSPOT_CLIENT_SECRET": "secret",
}


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return read(Settings)


def test_a_process_reads_one_provider() -> None:
    assert provider_of(["--provider", "hubspot"]) == "hubspot"
    assert provider_of(["--provider", "brevo"]) == "brevo"  # For what goes back from there.


@pytest.mark.parametrize(
    "arguments", [[], ["--provider", "activecampaign"], ["--provider", "myspace"]]
)
def test_what_is_no_source_is_refused_with_the_choices(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Proves X1."""
    with pytest.raises(SystemExit) as ended:
        provider_of(arguments)

    assert ended.value.code == 2
    assert "--provider" in capsys.readouterr().err


def test_settings_come_from_the_environment(settings: Settings) -> None:
    client = clients_of(settings)["hubspot"]

    assert (client.id, client.secret) == ("ours", "secret")
    assert settings.integrations_in_flight_max == 50
    assert settings.claim_every_s == 1.0
