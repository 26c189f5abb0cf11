"""docker-compose.yml, as far as it can be judged without Docker."""

import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from libs.connectors import registry

COMPOSE = Path(__file__).parents[1] / "docker-compose.yml"


def test_what_a_browser_is_sent_to_is_published_and_listened_to() -> None:
    """The API, HubSpot's login page and the mailbox: a published port leads to no loopback."""
    compose = yaml.safe_load(COMPOSE.read_text())
    services, environment = compose["services"], compose["x-environment"]
    addresses = [*json.loads(environment["PROVIDER_BASE_URLS"]).values(), environment["PUBLIC_URL"]]
    ports = {urlsplit(address).port for address in addresses}
    mailbox = services["mailbox"]["command"]
    ports.add(int(re.findall(r"--http-port (\d+)", mailbox)[0]))

    assert {f"127.0.0.1:{port}:{port}" for port in ports} == set(services["sandbox"]["ports"])
    assert services["config-api"]["environment"]["API_HOST"] == "0.0.0.0"
    assert all("--host 0.0.0.0" in command for command in (services["sandbox"]["command"], mailbox))


def test_every_source_of_the_platform_has_a_poller_and_a_sandbox() -> None:
    """One deployment for each provider: a source without one is never read."""
    compose = yaml.safe_load(COMPOSE.read_text())
    services = compose["services"]
    sources = {name for name, each in registry.PROVIDERS.items() if each.facts.is_source}
    edited = {name for name, each in registry.PROVIDERS.items() if each.facts.tells_edits}
    called = {name for name in sources if not registry.PROVIDERS[name].facts.reads_files}

    pollers = {
        match[1]
        for each in services.values()
        if (match := re.search(r"services\.poller --provider (\w+)", each.get("command") or ""))
    }
    addresses = json.loads(compose["x-environment"]["PROVIDER_BASE_URLS"])
    served = dict(re.findall(r"--port (\w+)=(\d+)", services["sandbox"]["command"]))

    assert pollers == sources | edited
    assert called <= addresses.keys()
    assert {name: str(urlsplit(url).port) for name, url in addresses.items()} == served
