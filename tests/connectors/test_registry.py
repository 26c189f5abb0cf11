import pytest

from libs.common.errors import MisconfiguredError
from libs.connectors import registry
from libs.connectors.account import StaticToken
from libs.connectors.contract import OpenGate
from libs.connectors.http import HttpClient


@pytest.mark.parametrize("name", sorted(registry.PROVIDERS))
def test_a_provider_is_what_its_facts_say(name: str) -> None:
    provider = registry.PROVIDERS[name]

    assert provider.facts.provider == name
    made_by = [each for each in (provider.source, provider.file_source) if each is not None]
    assert len(made_by) == provider.facts.is_source
    assert (provider.file_source is not None) == provider.facts.reads_files
    assert provider.facts.is_destination == (provider.destination is not None)
    assert provider.facts.tells_edits == (provider.edits is not None)
    assert provider.facts.takes_edits == (provider.records is not None)
    assert "" in provider.facts.limits
    assert all(limit.calls > 0 < limit.window_s for each in provider.facts.limits.values()
               for limit in each)  # fmt: skip


@pytest.mark.parametrize("name", sorted(registry.PROVIDERS))
def test_a_providers_own_address_is_one_that_it_may_call(name: str) -> None:
    http = HttpClient()
    provider = registry.PROVIDERS[name]
    base_url = registry.base_url(name, {}, provider.facts.base_url)

    for make in (provider.source, provider.destination):
        if make is not None:
            assert make(http, OpenGate(), StaticToken("t"), base_url).facts is provider.facts


def test_the_sandbox_keeps_a_providers_path() -> None:
    urls = {"brevo": "http://127.0.0.1:8080/", "hubspot": "http://127.0.0.1:8081"}

    assert registry.base_url("brevo", urls) == "http://127.0.0.1:8080/v3"
    assert registry.base_url("hubspot", urls) == "http://127.0.0.1:8081"


def test_an_account_may_have_an_address_of_its_own() -> None:
    assert registry.base_url("brevo", {}, "https://acme.brevo.com") == "https://acme.brevo.com"


def test_where_an_account_is_called_is_told_or_not_guessed() -> None:
    """Proves X3: a credential goes to its own organisation, and to nobody else's address."""
    told = "https://acme.my.salesforce.com"

    assert registry.base_url("salesforce", {}, told) == told
    with pytest.raises(MisconfiguredError, match="address_not_allowed"):
        registry.base_url("salesforce", {})


@pytest.mark.parametrize(
    "given",
    ["https://acme.api-us1.com", "https://ACME.api-us1.com/", "https://acme.api-us1.com/api/3/"],
)
def test_an_accounts_own_address_is_taken_as_its_pages_show_it(given: str) -> None:
    assert registry.own_base_url("activecampaign", given) == "https://acme.api-us1.com/api/3"


@pytest.mark.parametrize(
    "given",
    [
        "http://acme.api-us1.com",
        "https://api-us1.com",
        "https://acme.api-us1.com.evil.example",
        "https://acme.api-us1.com@evil.example",
        "https://acme.api-us1.com:8443",
        "https://acme.api-us1.com/admin",
        "https://acme.api-us1.com/api/3/../..",
        "https://169.254.169.254/api/3",
        "https://localhost/api/3",
        "acme",
    ],
)
def test_another_address_than_the_providers_gets_no_key(given: str) -> None:
    """Proves X4: the address comes from a person, and the key goes where it says."""
    with pytest.raises(MisconfiguredError) as caught:
        registry.own_base_url("activecampaign", given)

    assert caught.value.what == "address_not_allowed"


def test_an_account_without_its_own_address_is_not_called_at_somebody_elses() -> None:
    with pytest.raises(MisconfiguredError):
        registry.base_url("activecampaign", {})


def test_a_side_that_a_provider_has_not_is_told() -> None:
    assert registry.source("hubspot") is registry.PROVIDERS["hubspot"].source
    assert registry.destination("brevo") is registry.PROVIDERS["brevo"].destination
    with pytest.raises(LookupError, match="brevo is no source"):
        registry.source("brevo")
    with pytest.raises(LookupError, match="nobody is no destination"):
        registry.destination("nobody")
