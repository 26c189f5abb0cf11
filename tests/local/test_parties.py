"""Who can take part in the demo: the tables, and what follows from one entry more."""

import pytest

from libs.connectors import registry
from local import __main__ as command
from local import parties, stack
from local.parties import BREVO, HUBSPOT, Attribute, DestinationParty, Field, SourceParty
from sandbox.__main__ import PROVIDERS

ACME_SOURCE = SourceParty("acme", "Acme", fields={"email": "mail", "city": "town"})
ACME = DestinationParty(
    "acme_crm",
    "Acme CRM",
    attributes={"email": Attribute("Mail"), "phone": Attribute("Phone", create="text")},
    contact=lambda email, name: {"mail": email, "first": name},
    credentials={"api_key": "acme"},
)


@pytest.mark.parametrize("name", parties.SOURCES)
def test_a_source_of_the_demo_is_one_of_the_platform_and_has_a_sandbox(name: str) -> None:
    assert registry.PROVIDERS[name].facts.is_source
    assert parties.SOURCES[name].label == registry.PROVIDERS[name].facts.label
    assert parties.SOURCES[name].is_file == registry.PROVIDERS[name].facts.reads_files
    assert (name in PROVIDERS) != parties.SOURCES[name].is_file


@pytest.mark.parametrize("name", parties.DESTINATIONS)
def test_a_destination_of_the_demo_is_one_of_the_platform_and_has_a_sandbox(name: str) -> None:
    assert registry.PROVIDERS[name].destination is not None
    assert parties.DESTINATIONS[name].label == registry.PROVIDERS[name].facts.label
    assert name in PROVIDERS


def test_a_pair_maps_every_word_that_both_sides_have() -> None:
    assert parties.fields_of(ACME_SOURCE, BREVO) == [
        Field("mail", "EMAIL"),
        Field("town", "CITY", create="text"),
    ]
    assert parties.fields_of(HUBSPOT, ACME) == [
        Field("email", "Mail"),
        Field("phone", "Phone", create="text"),
    ]


def test_one_entry_more_is_one_poller_and_one_client_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parties, "SOURCES", {**parties.SOURCES, "acme": ACME_SOURCE})

    services = stack.services_for(("hubspot", "acme", "brevo"))

    pollers = {each.name: each.arguments for each in services if each.package == "poller"}
    assert pollers == {
        "poller-hubspot": ("--provider", "hubspot"),
        "poller-acme": ("--provider", "acme"),
    }
    assert parties.clients(("hubspot", "acme", "brevo")) == {
        "HUBSPOT_CLIENT_ID": "sandbox-client",
        "HUBSPOT_CLIENT_SECRET": "sandbox-secret",
        "ACME_CLIENT_ID": "sandbox-client",
        "ACME_CLIENT_SECRET": "sandbox-secret",
    }


def test_a_pair_starts_its_own_sandboxes_and_pollers_and_no_others(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Proves that what the main job costs does not grow with the providers there are."""
    options = command._options(tmp_path_factory.mktemp("pair"), ("hubspot", "brevo"))

    assert list(options.providers) == ["hubspot", "brevo"]
    assert options.services == stack.SERVICES


def test_a_phone_of_activecampaign_is_read_as_the_other_destinations_keep_it() -> None:
    state = {"contacts": [{"id": 1, "attributes": {"PHONE": "+49 151 1", "CITY": "Leeds"}},
                          {"id": 2, "attributes": {}}], "lists": []}  # fmt: skip

    read = parties.ACTIVECAMPAIGN.read(state)

    assert [each["attributes"] for each in read["contacts"]] == [
        {"SMS": "491511", "CITY": "Leeds"},
        {},
    ]


def test_salesforces_contacts_are_read_in_the_words_of_the_demo() -> None:
    contact = {"Id": "003", "IsDeleted": True, "Email": "a@example.com", "MobilePhone": "+49 1"}

    read = parties.SALESFORCE.read({"contacts": [contact], "lists": [{"name": "x", "members": []}]})

    [person] = read["contacts"]
    assert (person["id"], person["archived"]) == ("003", True)
    assert person["properties"]["phone"] == "+49 1"
    assert person["properties"]["company"] is None
    assert set(person["properties"]) == set(parties.WORDS)
