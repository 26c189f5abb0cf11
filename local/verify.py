"""Work out from the source alone what the destination must hold, and say what differs.

An oracle of its own: it reads REQUIREMENTS.md, not our services, and looks at the two providers'
whole states. What it finds is told without contact data: by the source's ids.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from local.api import Json

# Attribute at the destination by property at the source; e-mail and phone have rules of their own.
PLAIN = {
    "firstname": "FIRSTNAME",
    "lastname": "LASTNAME",
    "company": "COMPANY",
    "city": "CITY",
    "birthday": "BIRTHDAY",
}
DIFFERENCES_SHOWN_MAX = 20

# RFC 5321's shape as far as it can be delivered to: one @, a domain of two or more labels.
EMAIL = re.compile(r"[^@\s]+@[a-z0-9-]+(\.[a-z0-9-]+)*\.[a-z]{2,}", re.ASCII)
PHONE_DIGITS_MIN, PHONE_DIGITS_MAX = 6, 16  # S8.
COUNTRY_CODE = "49"  # Of the country that the wizard chose for national numbers.


@dataclass(frozen=True, slots=True)
class Wanted:
    """What must come of a source's list."""

    contacts: Mapping[str, Mapping[str, str]]  # Attributes by source id, EMAIL among them.
    rejected: Mapping[str, str]  # Reason by source id.

    @property
    def reasons(self) -> dict[str, int]:
        """Return how many contacts are rejected for each reason."""
        return dict(Counter(self.rejected.values()))

    def only_rejecting(self, source_ids: Collection[str]) -> "Wanted":
        """Return the same with the rejections of some contacts only: the others are not read."""
        some = {key: reason for key, reason in self.rejected.items() if key in source_ids}
        return Wanted(self.contacts, some)


def wanted_of(source: Json, list_name: str) -> Wanted:
    """Return what the rules demand of a source's present state."""
    [members] = [each["members"] for each in source["lists"] if each["name"] == list_name]
    listed = {str(member) for member in members}
    contacts, rejected = {}, {}
    for contact in source["contacts"]:
        if contact["id"] in listed and not contact["archived"]:
            mapped = _mapped(contact["properties"])
            if isinstance(mapped, str):
                rejected[contact["id"]] = mapped
            else:
                contacts[contact["id"]] = mapped
    return Wanted(contacts, rejected)


def _mapped(properties: Mapping[str, str | None]) -> dict[str, str] | str:
    """Return a contact's attributes, or the reason why it is rejected (S8, S9)."""
    email = (properties.get("email") or "").strip().lower()
    phone = (properties.get("phone") or "").strip()
    if not email:
        return "no_identity"
    if not EMAIL.fullmatch(email):
        return "invalid_email"
    digits = re.sub(r"\D", "", phone)
    if phone and not PHONE_DIGITS_MIN <= len(digits) <= PHONE_DIGITS_MAX:
        return "invalid_phone"
    if digits.startswith("0"):
        digits = COUNTRY_CODE + digits.removeprefix("0")
    attributes = {"EMAIL": email, "SMS": digits}
    attributes |= {name: properties.get(source) or "" for source, name in PLAIN.items()}
    return {name: value for name, value in attributes.items() if value}


@dataclass(frozen=True, slots=True)
class Before:
    """What the destination held before the first sync."""

    contacts: Mapping[str, Json]  # By e-mail, what of each must stay unless the source has it.
    blocked: frozenset[str]  # E-mail addresses that unsubscribed there (S3).


def before_of(destination: Json) -> Before:
    """Take down what there was."""
    contacts = destination["contacts"]
    return Before(
        contacts={each["email"]: _kept(each) for each in contacts},
        blocked=frozenset(each["email"] for each in contacts if each["emailBlacklisted"]),
    )


def differences(
    destination: Json,
    *,
    list_name: str,
    wanted: Wanted,
    before: Before,
    waiting: Collection[str] = (),
    stay_off: Collection[str] = (),
) -> list[str]:
    """Return everything at the destination that is not as the rules demand; empty if all is.

    `waiting`: source ids that may not be written yet (the quota is used up); they must be as they
    were before, off the list. `stay_off`: addresses that are written and must not be on the list.
    """
    [held] = [each for each in destination["lists"] if each["name"] == list_name]
    there = {each["email"]: each for each in destination["contacts"] if each.get("email")}
    due = {key: each for key, each in wanted.contacts.items() if key not in waiting}
    ours = {each["EMAIL"] for each in due.values()}
    members = {each["id"] for each in destination["contacts"] if held["id"] in each["listIds"]}
    on_list = ours - set(stay_off)
    found = [
        *_contact_differences(there, due, held["id"], on_list),
        *_stranger_differences(there, before, ours, members),
        *_consent_differences(there, destination, before),
    ]
    if len(members) != len(on_list):
        found.append(f"the list has {len(members)} members and should have {len(on_list)}")
    return found


def _contact_differences(
    there: Mapping[str, Json],
    due: Mapping[str, Mapping[str, str]],
    list_id: int,
    on_list: Collection[str],
) -> Iterator[str]:
    for source_id, attributes in due.items():
        contact = there.get(attributes["EMAIL"])
        if contact is None:
            yield f"contact {source_id} is not there"
            continue
        if list_id not in contact["listIds"] and attributes["EMAIL"] in on_list:
            yield f"contact {source_id} is not on the list"
        if list_id in contact["listIds"] and attributes["EMAIL"] not in on_list:
            yield f"contact {source_id} is on the list and should not be"
        held = {name: str(value) for name, value in contact["attributes"].items() if value != ""}
        expected = {name: value for name, value in attributes.items() if name != "EMAIL"}
        wrong = sorted(
            name
            for name in {"SMS", *PLAIN.values()}
            if held.get(name, "") != expected.get(name, "")
        )
        if wrong:
            yield f"contact {source_id} differs in {', '.join(wrong)}"


def _stranger_differences(
    there: Mapping[str, Json], before: Before, ours: Collection[str], members: Collection[int]
) -> Iterator[str]:
    for email, contact in there.items():
        if email in ours:
            continue
        number = contact["id"]
        if contact["id"] in members:
            yield f"destination contact {number} is on the list and should not be"
        if email not in before.contacts:
            yield f"destination contact {number} should not be there"
        elif _kept(contact) != before.contacts[email]:
            yield f"destination contact {number} should be as it was before"


def _consent_differences(
    there: Mapping[str, Json], destination: Json, before: Before
) -> Iterator[str]:
    blocked = {email for email, contact in there.items() if contact["emailBlacklisted"]}
    for email in before.blocked - blocked:
        number = there[email]["id"] if email in there else "(gone)"
        yield f"destination contact {number} was blocked before and is not any more"
    for email in blocked - before.blocked:
        yield f"destination contact {there[email]['id']} was blocked by the sync"
    if destination["resubscribed"]:
        yield f"{len(destination['resubscribed'])} contacts were made active again"


def rejection_differences(reported: Sequence[Json], wanted: Wanted) -> list[str]:
    """Return how the rejections that the API reports differ from the rules'."""
    told = {str(each["source_id"]): each["reason"] for each in reported}
    return [
        f"contact {source_id} is reported as {told.get(source_id, 'not rejected')} "
        f"and should be {wanted.rejected.get(source_id, 'not rejected')}"
        for source_id in sorted(told.keys() | wanted.rejected.keys())
        if told.get(source_id) != wanted.rejected.get(source_id)
    ]


def shortened(found: Sequence[str]) -> list[str]:
    """Return as many differences as a person reads."""
    shown = list(found[:DIFFERENCES_SHOWN_MAX])
    more = len(found) - len(shown)
    return [*shown, f"… and {more} more"] if more else shown


def _kept(contact: Json) -> Json:
    """Return what of a contact must stay as it is."""
    return {name: contact[name] for name in ("attributes", "listIds", "emailBlacklisted")}
