import pytest

from libs.connectors import registry
from libs.connectors.account import StaticToken
from libs.connectors.contract import OpenGate
from libs.connectors.http import HttpClient


@pytest.mark.parametrize("name", sorted(registry.PROVIDERS))
def test_a_provider_is_what_its_facts_say(name: str) -> None:
    provider = registry.PROVIDERS[name]

    assert provider.facts.provider == name
    assert provider.facts.is_source == (provider.source is not None)
    assert provider.facts.is_destination == (provider.destination is not None)
    assert "" in provider.facts.limits
    assert all(limit.calls > 0 < limit.window_s for each in provider.facts.limits.values()
               for limit in each)  # fmt: skip


@pytest.mark.parametrize("name", sorted(registry.PROVIDERS))
def test_a_providers_own_address_is_one_that_it_may_call(name: str) -> None:
    http = HttpClient()
    base_url = registry.base_url(name, {})
    provider = registry.PROVIDERS[name]

    for make in (provider.source, provider.destination):
        if make is not None:
            assert make(http, OpenGate(), StaticToken("t"), base_url).facts is provider.facts


def test_the_sandbox_keeps_a_providers_path() -> None:
    urls = {"brevo": "http://127.0.0.1:8080/", "hubspot": "http://127.0.0.1:8081"}

    assert registry.base_url("brevo", urls) == "http://127.0.0.1:8080/v3"
    assert registry.base_url("hubspot", urls) == "http://127.0.0.1:8081"


def test_an_account_may_have_an_address_of_its_own() -> None:
    assert registry.base_url("brevo", {}, "https://acme.brevo.com") == "https://acme.brevo.com"


def test_a_side_that_a_provider_has_not_is_told() -> None:
    assert registry.source("hubspot") is registry.PROVIDERS["hubspot"].source
    assert registry.destination("brevo") is registry.PROVIDERS["brevo"].destination
    with pytest.raises(LookupError, match="brevo is no source"):
        registry.source("brevo")
    with pytest.raises(LookupError, match="nobody is no destination"):
        registry.destination("nobody")
