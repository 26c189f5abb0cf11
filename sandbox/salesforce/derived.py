"""Values that no record holds: addresses, formulas, roll-ups, and what a member has of its contact.

They are worked out when they are read, so none of them moves a record's SystemModstamp when it
changes: that is the trap of formula fields.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from sandbox.salesforce.fields import Field
from sandbox.salesforce.records import Row, Table

Reader = Callable[[Row], Any]
_TERM = re.compile(r'\s*(?:"([^"]*)"|([A-Za-z_][\w.]*))\s*(?:&|$)')
_OF_A_MEMBER = frozenset({"Name", "FirstName", "LastName", "Email", "Phone"})
_COUNTED = {
    "NumberOfLeads": lambda member: bool(member.get("LeadId")),
    "NumberOfContacts": lambda member: bool(member.get("ContactId")) and not member.get("LeadId"),
    "NumberOfConvertedLeads": lambda member: bool(member.get("LeadId") and member.get("ContactId")),
    "NumberOfResponses": lambda member: bool(member.get("HasResponded")),
}


class Related(Protocol):
    """What reading needs of an org: its tables."""

    @property
    def tables(self) -> Mapping[str, Table]: ...


def reader(org: Related, table: Table, field: Field) -> Reader:
    """Return what reads a field of a record of a table."""
    name = field.name
    if field.formula:
        return _formula(org, table, field.formula)
    if field.type == "address":
        return _address(name.removesuffix("Address"))
    special = _special(org, table, name)
    if special is not None:
        return special
    if field.type == "boolean":
        return lambda row: row.get(name, False)
    return lambda row: row.get(name)


def parent(org: Related, table: Table, relationship: Field) -> tuple[Table, Reader]:
    """Return the table that a relationship leads to, and what finds a record's parent there."""
    target = org.tables[relationship.refers_to[0].lower()]
    name = relationship.name

    def found(row: Row) -> Row | None:
        reference = row.get(name)
        return None if reference is None else target.rows.get(reference)

    return target, found


def _special(org: Related, table: Table, name: str) -> Reader | None:
    """Return what works out a field of this one object; None if its records hold the value."""
    if table.name == "CampaignMember" and name in _OF_A_MEMBER:
        return lambda row: (_person_of(org, row) or {}).get(name)
    if table.name == "Campaign" and name in _COUNTED:
        return lambda row: _members(org, row, _COUNTED[name])
    if (table.name, name) == ("Contact", "Cases_Total__c"):
        return lambda row: float(len(cases_of(org, row["Id"])))
    return _SPECIAL.get((table.name, name))


_SPECIAL: Mapping[tuple[str, str], Reader] = {
    ("CampaignMember", "Type"): lambda row: "Lead" if row.get("LeadId") else "Contact",
    ("Lead", "Cases_Total__c"): lambda row: 0.0,
    **{
        (each, "IsEmailBounced"): lambda row: row.get("EmailBouncedDate") is not None
        for each in ("Contact", "Lead")
    },
    **{
        (each, "PhotoUrl"): lambda row: f"/services/images/photo/{row['Id']}"
        for each in ("Contact", "Lead")
    },
}


def cases_of(org: Related, contact_id: str) -> list[Row]:
    """Return the cases that hang on a contact."""
    return [
        each for each in org.tables["case"].having("ContactId", contact_id) if not each["IsDeleted"]
    ]


def _person_of(org: Related, member: Row) -> Row | None:
    lead, contact = member.get("LeadId"), member.get("ContactId")
    if lead is not None:
        return org.tables["lead"].rows.get(lead)
    return org.tables["contact"].rows.get(contact) if contact else None


def _members(org: Related, campaign: Row, counts: Callable[[Row], bool]) -> int:
    return sum(
        not member["IsDeleted"] and counts(member)
        for member in org.tables["campaignmember"].having("CampaignId", campaign["Id"])
    )


def _address(prefix: str) -> Reader:
    parts = {
        "city": f"{prefix}City",
        "country": f"{prefix}Country",
        "postalCode": f"{prefix}PostalCode",
        "state": f"{prefix}State",
        "street": f"{prefix}Street",
    }

    def read(row: Row) -> dict[str, Any] | None:
        values = {word: row.get(name) for word, name in parts.items()}
        if not any(values.values()):
            return None
        return {**values, "geocodeAccuracy": None, "latitude": None, "longitude": None}

    return read


def formula_names(formula: str) -> list[str] | None:
    """Return the fields that a formula joins; None if it is none that the sandbox can work out.

    Known are texts and fields, of a parent too, joined by `&`.
    """
    return None if (terms := _terms(formula)) is None else [name for _, name in terms if name]


def _terms(formula: str) -> list[tuple[str, str]] | None:
    terms, at = [], 0
    while at < len(formula):
        match = _TERM.match(formula, at)
        if match is None:
            return None
        terms.append((match[1] or "", match[2] or ""))
        at = match.end()
    return terms


def _formula(org: Related, table: Table, formula: str) -> Reader:
    parts = [
        _named(org, table, name) if name else _constant(text)
        for text, name in _terms(formula) or []
    ]

    def read(row: Row) -> str | None:
        return "".join(str(value) for part in parts if (value := part(row)) is not None) or None

    return read


def _constant(text: str) -> Reader:
    return lambda row: text


def _named(org: Related, table: Table, name: str) -> Reader:
    """Return what reads `Field` or `Parent.Field`; what is not there is empty."""
    first, _, rest = name.partition(".")
    if rest and (relationship := table.relationships.get(first.lower())):
        target, found = parent(org, table, relationship)
        inner = _named(org, target, rest)
        return lambda row: None if (above := found(row)) is None else inner(above)
    field = table.fields.get(name.lower())
    return _constant("") if field is None else reader(org, table, field)
