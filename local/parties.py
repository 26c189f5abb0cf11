"""Who can take part in the local demo: a table of sources and a table of destinations.

A provider that is added to the platform takes part by one entry here. What an entry says is how
its sandbox is reached, how a person connects an account of it, what its fields are called, and how
its whole state is read in the demo's own words, so that `local.verify` judges every pair alike:

* a contact of a source has `id`, `archived` and `properties` with `email`, `phone` and the other
  words of `WORDS`; a list has `name` and `members`;
* a contact of a destination has `id`, `email`, `emailBlacklisted`, `listIds` and `attributes` with
  `SMS` for a phone and the other words in capitals, all values as texts; the state also has
  `resubscribed`: contacts whose consent a write overrode.

The control interface of a sandbox (docs/sandbox.md) is the same for all of them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from local.api import Json

# What the demo maps where both sides have it. E-mail and phone are identities (S8, S9).
WORDS = ("email", "firstname", "lastname", "phone", "company", "city", "birthday")
# Of the accounts that each sandbox begins with.
OAUTH_CLIENT = ("sandbox-client", "sandbox-secret")


@dataclass(frozen=True, slots=True)
class Field:
    """One line of a mapping; `create` is the type of an attribute that is not there yet."""

    source: str
    destination: str
    create: str | None = None


@dataclass(frozen=True, slots=True)
class Attribute:
    """What one of `WORDS` is called at a destination; `create` as in `Field`."""

    name: str
    create: str | None = None


def _as_it_is(state: Json) -> Json:
    return state


@dataclass(frozen=True, slots=True)
class SourceParty:
    """A provider that the demo reads from.

    `fields` has its name for each word that it can offer. `credentials` are what a person types,
    as the config API takes them; None: it is connected by its own login page (W2). `read` puts
    its sandbox's state into the words above.
    """

    provider: str
    label: str
    fields: Mapping[str, str]
    object: str = "contacts"
    credentials: Mapping[str, str] | None = None
    read: Callable[[Json], Json] = _as_it_is
    is_file: bool = False  # It has no sandbox: files are uploaded (`local.files`).


@dataclass(frozen=True, slots=True)
class DestinationParty:
    """A provider that the demo writes to.

    `attributes` has its name for each word that it can take. `contact` makes what its sandbox's
    `contacts:upsert` takes, of an address and a first name. `read` is as `SourceParty.read`.
    `unsubscribed_join`: who unsubscribed from everything is put on a new list nevertheless, where
    that sends no mails; else they must stay off it.
    """

    provider: str
    label: str
    attributes: Mapping[str, Attribute]
    contact: Callable[[str, str], Json]
    credentials: Mapping[str, str]
    read: Callable[[Json], Json] = _as_it_is
    unsubscribed_join: bool = True


Party = SourceParty | DestinationParty


HUBSPOT = SourceParty("hubspot", "HubSpot", fields={word: word for word in WORDS})


def _constant_contact_people(state: Json) -> Json:
    """Return the state in our words: of phones and addresses the first one (CC3)."""
    return {
        "contacts": [
            {
                "id": each["contact_id"],
                "archived": each["status"] == "deleted",
                "properties": {
                    "email": (each.get("email_address") or {}).get("address"),
                    "firstname": each.get("first_name"),
                    "lastname": each.get("last_name"),
                    "phone": _first(each["phone_numbers"], "phone_number"),
                    "company": each.get("company_name"),
                    "city": _first(each["street_addresses"], "city"),
                },
            }
            for each in state["contacts"]
        ],
        "lists": [{"name": each["name"], "members": each["members"]} for each in state["lists"]],
    }


def _first(parts: Sequence[Json], name: str) -> str | None:
    return str(parts[0].get(name) or "") if parts else None


# Its birthday is a date, which is not offered (CC2).
CONSTANT_CONTACT = SourceParty(
    "constant_contact",
    "Constant Contact",
    fields={
        "email": "email",
        "firstname": "first_name",
        "lastname": "last_name",
        "phone": "phone",
        "company": "company_name",
        "city": "city",
    },
    read=_constant_contact_people,
)


def _google_people(state: Json) -> Json:
    """Return the state in our words: of several values the first one, which is the primary."""
    return {
        "contacts": [
            {
                "id": each["id"],
                "archived": each["deleted"],
                "properties": {
                    "email": _first(each.get("emailAddresses", []), "value"),
                    "firstname": _first(each.get("names", []), "givenName"),
                    "lastname": _first(each.get("names", []), "familyName"),
                    "phone": _first(each.get("phoneNumbers", []), "value"),
                    "company": _first(each.get("organizations", []), "name"),
                    "city": _first(each.get("addresses", []), "city"),
                    "birthday": _day(each.get("birthdays", [])),
                },
            }
            for each in state["contacts"]
        ],
        "lists": [{"name": each["name"], "members": each["members"]} for each in state["lists"]],
    }


def _day(birthdays: Sequence[Json]) -> str | None:
    if not birthdays:
        return None
    date = birthdays[0]["date"]
    return f"{date['year']}-{date['month']:02}-{date['day']:02}"


GOOGLE_CONTACTS = SourceParty(
    "google_contacts",
    "Google Contacts",
    fields={
        "email": "email",
        "firstname": "first_name",
        "lastname": "last_name",
        "phone": "phone",
        "company": "company",
        "city": "city",
        "birthday": "birthday",
    },
    read=_google_people,
)


def _salesforce_people(state: Json) -> Json:
    """Return the contacts in our words."""
    return {
        "contacts": [
            {
                "id": each["Id"],
                "archived": each["IsDeleted"],
                "properties": {word: each.get(name) for word, name in SALESFORCE.fields.items()},
            }
            for each in state["contacts"]
        ],
        "lists": state["lists"],
    }


# Whom a contact works for is an account of its own, not a field: the department stands in for it.
SALESFORCE = SourceParty(
    "salesforce",
    "Salesforce",
    fields={
        "email": "Email",
        "firstname": "FirstName",
        "lastname": "LastName",
        "phone": "MobilePhone",
        "company": "Department",
        "city": "MailingCity",
        "birthday": "Birthdate",
    },
    read=_salesforce_people,
)

# As a German spreadsheet names them.
CSV = SourceParty(
    "csv",
    "CSV file",
    fields={
        "email": "E-Mail",
        "firstname": "Vorname",
        "lastname": "Nachname",
        "phone": "Handy",
        "company": "Firma",
        "city": "Ort",
        "birthday": "Geburtsdatum",
    },
    credentials={},  # There is nothing to log in to.
    is_file=True,
)

BREVO = DestinationParty(
    "brevo",
    "Brevo",
    attributes={
        "email": Attribute("EMAIL"),
        "firstname": Attribute("FIRSTNAME"),
        "lastname": Attribute("LASTNAME"),
        "phone": Attribute("SMS"),
        "company": Attribute("COMPANY", create="text"),
        "city": Attribute("CITY", create="text"),
        "birthday": Attribute("BIRTHDAY", create="date"),
    },
    contact=lambda email, name: {"email": email, "attributes": {"FIRSTNAME": name}},
    credentials={"api_key": "xkeysib-sandbox", "tier": "general"},
)


def _activecampaign_people(state: Json) -> Json:
    """Return contacts with their phone as the other destinations keep it: digits alone."""
    contacts = []
    for each in state["contacts"]:
        attributes = dict(each["attributes"])
        if phone := attributes.pop("PHONE", ""):
            attributes["SMS"] = re.sub(r"\D", "", phone)
        contacts.append({**each, "attributes": attributes})
    return {**state, "contacts": contacts}


ACTIVECAMPAIGN = DestinationParty(
    "activecampaign",
    "ActiveCampaign",
    attributes={
        "email": Attribute("EMAIL"),
        "firstname": Attribute("FIRSTNAME"),
        "lastname": Attribute("LASTNAME"),
        "phone": Attribute("PHONE"),
        "company": Attribute("COMPANY", create="text"),
        "city": Attribute("CITY", create="text"),
        "birthday": Attribute("BIRTHDAY", create="date"),
    },
    contact=lambda email, name: {"email": email, "attributes": {"FIRSTNAME": name}},
    credentials={
        "api_key": "activecampaign-sandbox",
        "account_url": "https://default.api-us1.com",
    },
    read=_activecampaign_people,
    unsubscribed_join=False,  # No list keeps mails from them: being active on one is consent.
)

SOURCES: Mapping[str, SourceParty] = {
    each.provider: each for each in (HUBSPOT, CONSTANT_CONTACT, SALESFORCE, GOOGLE_CONTACTS, CSV)
}
DESTINATIONS: Mapping[str, DestinationParty] = {
    each.provider: each for each in (BREVO, ACTIVECAMPAIGN)
}
EVERYONE = tuple(dict.fromkeys([*SOURCES, *DESTINATIONS]))


def have_sandboxes(providers: Sequence[str]) -> list[str]:
    """Return those of these providers that there is somebody to imitate of."""
    return [each for each in providers if each not in SOURCES or not SOURCES[each].is_file]


def fields_of(source: SourceParty, destination: DestinationParty) -> Sequence[Field]:
    """Return the mapping of a pair: every word that both have."""
    return [
        Field(source.fields[word], attribute.name, attribute.create)
        for word, attribute in destination.attributes.items()
        if word in source.fields
    ]


def clients(providers: Sequence[str]) -> dict[str, str]:
    """Return the settings by which services log in at these providers' sandboxes."""
    client_id, secret = OAUTH_CLIENT
    return {
        name: value
        for provider in providers
        if provider in SOURCES and SOURCES[provider].credentials is None
        for name, value in (
            (f"{provider.upper()}_CLIENT_ID", client_id),
            (f"{provider.upper()}_CLIENT_SECRET", secret),
        )
    }
