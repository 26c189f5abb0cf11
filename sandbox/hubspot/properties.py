"""The properties of contacts: their definitions, and which values each takes.

Every kind that HubSpot's documentation names is here from the start (guide "Properties"): hidden,
calculated, read-only, unique, enumerations with one and with many values, booleans, dates,
numbers, phone numbers. Values are kept as HubSpot returns them: strings; an empty one is no value.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from sandbox.hubspot.errors import invalid, iso, not_found, refused

STRING_CHARS_MAX = 65_536
UNIQUE_PROPERTIES_MAX = 10
EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
EXACT_MAX = 1e15  # Whole numbers below this are exact as floats.
NAME = re.compile(r"[a-z][a-z0-9_]*")
DAY_MS = 86_400_000
FIELD_TYPES = {
    "bool": {"booleancheckbox", "calculation_equation"},
    "enumeration": {"booleancheckbox", "checkbox", "radio", "select", "calculation_equation"},
    "date": {"date"},
    "datetime": {"date"},
    "string": {"text", "textarea", "html", "file", "phonenumber", "calculation_equation"},
    "number": {"number", "calculation_equation"},
    "phone_number": {"phonenumber"},
}


class Option(msgspec.Struct, rename="camel", kw_only=True):
    label: str
    value: str
    display_order: int = 0
    hidden: bool = False
    description: str = ""


class ModificationMetadata(msgspec.Struct, rename="camel", kw_only=True):
    archivable: bool = True
    read_only_definition: bool = False
    read_only_options: bool = False
    read_only_value: bool = False


class Property(msgspec.Struct, rename="camel", kw_only=True):
    """A property's definition, as the properties API returns it."""

    name: str
    label: str
    type: str
    field_type: str
    group_name: str = "contactinformation"
    description: str = ""
    options: list[Option] = []
    display_order: int = -1
    calculated: bool = False
    external_options: bool = False
    has_unique_value: bool = False
    hidden: bool = False
    hubspot_defined: bool = False
    form_field: bool = True
    data_sensitivity: str = "non_sensitive"
    archived: bool = False
    created_at: str = ""
    updated_at: str = ""
    modification_metadata: ModificationMetadata = msgspec.field(
        default_factory=ModificationMetadata
    )
    archived_at: str | msgspec.UnsetType = msgspec.UNSET
    calculation_formula: str | msgspec.UnsetType = msgspec.UNSET
    referenced_object_type: str | msgspec.UnsetType = msgspec.UNSET

    @property
    def writable(self) -> bool:
        return not (
            self.calculated
            or self.modification_metadata.read_only_value
            or self.field_type.startswith("calculation")
        )


class ValueProblemError(ValueError):
    """A value that a property does not take; `code` is HubSpot's name for the reason."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def accepted(definition: Property, value: object, before: str | None = None) -> str:
    """Return a value as it is kept, "" if it clears; raises `ValueProblemError`.

    `before` is the value the contact has: a leading semicolon adds to it.
    """
    text = _text(value)
    if not text:
        return ""
    if definition.name == "email":
        return _email(text)
    check = _CHECKS.get(definition.type)
    if check:
        return check(definition, text)
    if definition.type == "enumeration":
        return _choice(definition, text, before)
    if len(text) > STRING_CHARS_MAX:
        code, message = "VALUE_TOO_LONG", f"{definition.name} was too long"
        raise ValueProblemError(code, message)
    return text


def moment_ms(text: str) -> int:
    """Return the milliseconds of an ISO 8601 moment or date, or of milliseconds as digits."""
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case _:
            return str(value)


def _email(text: str) -> str:
    address = text.strip().lower()
    if not EMAIL.fullmatch(address):
        code, message = "INVALID_EMAIL", f"Email address {text} is invalid"
        raise ValueProblemError(code, message)
    return address


def _number(definition: Property, text: str) -> str:
    if not NUMBER.fullmatch(text.strip()):
        code, message = "INVALID_INTEGER", f"{text} was not a valid number."
        raise ValueProblemError(code, message)
    number = float(text)
    return str(int(number)) if number.is_integer() and abs(number) < EXACT_MAX else text.strip()


def _bool(definition: Property, text: str) -> str:
    if text.lower() not in {"true", "false"}:
        code, message = (
            "INVALID_OPTION",
            f"{text} was not one of the allowed options: [true, false]",
        )
        raise ValueProblemError(code, message)
    return text.lower()


def _date(definition: Property, text: str) -> str:
    day = _moment(definition, text)
    if not day.endswith("T00:00:00.000Z"):
        raise _not_a_moment(definition, text)
    return day[:10]


def _moment(definition: Property, text: str) -> str:
    try:
        return iso(moment_ms(text))
    except (ValueError, OverflowError, OSError) as error:
        raise _not_a_moment(definition, text) from error


def _not_a_moment(definition: Property, text: str) -> ValueProblemError:
    return ValueProblemError("INVALID_DATE", f"{text} was not a valid {definition.type}.")


def _choice(definition: Property, text: str, before: str | None) -> str:
    if definition.external_options:
        return text
    many = definition.field_type == "checkbox"
    chosen = [part for part in text.split(";") if part] if many else [text]
    allowed = {option.value for option in definition.options}
    for part in chosen:
        if part not in allowed:
            code = "INVALID_OPTION"
            message = f"{part} was not one of the allowed options: {sorted(allowed)}"
            raise ValueProblemError(code, message)
    if many and text.startswith(";") and before:
        chosen = list(dict.fromkeys([*before.split(";"), *chosen]))
    return ";".join(chosen)


_CHECKS = {"number": _number, "bool": _bool, "date": _date, "datetime": _moment}


class Properties:
    """The definitions of one portal, and their groups."""

    def __init__(self, now_ms: int) -> None:
        self.by_name: dict[str, Property] = {}
        self.groups = {"contactinformation": "Contact Information", "sandbox": "Sandbox"}
        for definition in _defaults():
            definition.created_at = definition.updated_at = iso(now_ms)
            self.by_name[definition.name] = definition

    def live(self, name: str) -> Property | None:
        definition = self.by_name.get(name)
        return definition if definition and not definition.archived else None

    def create(self, wish: Mapping[str, Any], now_ms: int) -> Property:
        """Make a custom property; raises a `RefusedError` with HubSpot's reason."""
        try:
            definition = msgspec.convert({**wish}, Property)
        except msgspec.ValidationError as error:
            message = f"Invalid input JSON: {error}"
            raise invalid(message) from error
        self._check(definition, wish)
        definition.created_at = definition.updated_at = iso(now_ms)
        definition.hubspot_defined = definition.calculated = False
        definition.modification_metadata = ModificationMetadata()
        self.by_name[definition.name] = definition
        return definition

    def change(self, name: str, wish: Mapping[str, Any], now_ms: int) -> Property:
        definition = self.live(name)
        if definition is None:
            raise not_found()
        if definition.modification_metadata.read_only_definition:
            message = f"Property {name} is defined by HubSpot and cannot be changed"
            raise invalid(message)
        kept = {"name", "hubspotDefined", "createdAt", "hasUniqueValue", "archived"}
        merged = msgspec.to_builtins(definition) | {
            key: value for key, value in wish.items() if value is not None and key not in kept
        }
        try:
            changed = msgspec.convert(merged, Property)
        except msgspec.ValidationError as error:
            message = f"Invalid input JSON: {error}"
            raise invalid(message) from error
        self._check_pair(changed)
        changed.updated_at = iso(now_ms)
        self.by_name[name] = changed
        return changed

    def archive(self, name: str, now_ms: int) -> None:
        definition = self.live(name)
        if definition is None:
            raise not_found()
        if not definition.modification_metadata.archivable:
            message = f"Property {name} cannot be archived"
            raise invalid(message)
        definition.archived = True
        definition.archived_at = iso(now_ms)

    def _check(self, definition: Property, wish: Mapping[str, Any]) -> None:
        missing = [key for key in ("groupName",) if not wish.get(key)]
        if missing:
            message = f"Invalid input JSON: some of required attributes are not set {missing}"
            raise invalid(message)
        if not NAME.fullmatch(definition.name):
            message = f"Property name {definition.name} must be lower case letters, digits and _"
            raise invalid(message)
        if self.live(definition.name):
            message = f"A property named '{definition.name}' already exists."
            raise refused(
                409, message, category="OBJECT_ALREADY_EXISTS", subCategory="Properties.CONFLICT"
            )
        if definition.group_name not in self.groups:
            message = f"Property group {definition.group_name} does not exist"
            raise invalid(message)
        unique = sum(other.has_unique_value for other in self.by_name.values())
        if definition.has_unique_value and unique >= UNIQUE_PROPERTIES_MAX:
            message = f"No more than {UNIQUE_PROPERTIES_MAX} unique properties are allowed"
            raise invalid(message)
        self._check_pair(definition)

    def _check_pair(self, definition: Property) -> None:
        if definition.field_type not in FIELD_TYPES.get(definition.type, set()):
            message = f"fieldType {definition.field_type} is not valid for type {definition.type}"
            raise invalid(message)


def _options(*values: str) -> list[Option]:
    return [
        Option(label=value.replace("_", " ").capitalize(), value=value, display_order=order)
        for order, value in enumerate(values)
    ]


LIFECYCLE_STAGES = (
    "subscriber",
    "lead",
    "marketingqualifiedlead",
    "salesqualifiedlead",
    "opportunity",
    "customer",
    "evangelist",
    "other",
)
_TEXTS = {
    "email": "Email",
    "firstname": "First Name",
    "lastname": "Last Name",
    "company": "Company Name",
    "jobtitle": "Job Title",
    "address": "Street Address",
    "city": "City",
    "state": "State/Region",
    "zip": "Postal Code",
    "country": "Country/Region",
    "website": "Website URL",
    "fax": "Fax Number",
    "hs_additional_emails": "Additional email addresses",
}
_COMPUTED_TEXTS = {
    "hs_email_domain": "Email Domain",
    "hs_full_name_or_email": "Full name or email",
    "hs_merged_object_ids": "Merged record IDs",
    "hs_calculated_merged_vids": "Merged vids with timestamps of a contact",
}


def _defaults() -> Iterable[Property]:
    yield from _writable_defaults()
    yield from _read_only_defaults()
    yield from _custom()


def _own(name: str, label: str, kind: str, field: str, **rest: Any) -> Property:
    fixed = ModificationMetadata(archivable=False, read_only_definition=True)
    rest.setdefault("modification_metadata", fixed)
    return Property(
        name=name, label=label, type=kind, field_type=field, hubspot_defined=True, **rest
    )


def _writable_defaults() -> Iterable[Property]:
    for name, label in _TEXTS.items():
        yield _own(name, label, "string", "text")
    yield _own("phone", "Phone Number", "string", "phonenumber")
    yield _own("mobilephone", "Mobile Phone Number", "string", "phonenumber")
    stages = _options(*LIFECYCLE_STAGES)
    yield _own("lifecyclestage", "Lifecycle Stage", "enumeration", "radio", options=stages)
    statuses = _options("NEW", "OPEN", "IN_PROGRESS", "CONNECTED", "UNQUALIFIED")
    yield _own("hs_lead_status", "Lead Status", "enumeration", "radio", options=statuses)
    languages = _options("de", "en", "es", "fr", "ja", "pl", "uk", "zh")
    yield _own("hs_language", "Preferred language", "enumeration", "select", options=languages)
    yield _own(
        "hubspot_owner_id",
        "Contact owner",
        "enumeration",
        "select",
        external_options=True,
        referenced_object_type="OWNER",
    )


def _read_only_defaults() -> Iterable[Property]:
    def fixed() -> ModificationMetadata:
        return ModificationMetadata(
            archivable=False, read_only_definition=True, read_only_value=True
        )

    for name, label in {
        "createdate": "Create Date",
        "lastmodifieddate": "Last Modified Date",
        "hs_lastmodifieddate": "Object last modified date/time",
    }.items():
        yield _own(name, label, "datetime", "date", modification_metadata=fixed())
    yield _own("hs_object_id", "Record ID", "number", "number", modification_metadata=fixed())
    for name, label in _COMPUTED_TEXTS.items():
        yield _own(
            name,
            label,
            "string",
            "calculation_equation",
            calculated=True,
            modification_metadata=fixed(),
        )
    yield _own(
        "hs_searchable_calculated_phone_number",
        "Phone number calculated for searching",
        "string",
        "calculation_equation",
        calculated=True,
        hidden=True,
        modification_metadata=fixed(),
    )
    yield _own(
        "num_notes",
        "Number of Sales Activities",
        "number",
        "number",
        calculated=True,
        modification_metadata=fixed(),
    )
    yield _own(
        "hs_email_optout",
        "Unsubscribed from all email",
        "bool",
        "booleancheckbox",
        modification_metadata=fixed(),
    )


def _custom() -> Iterable[Property]:
    """Yield what a customer might have added: one of each kind that is left."""
    group = "sandbox"
    for name, label, kind, field in (
        ("birthday", "Birthday", "date", "date"),
        ("last_visit", "Last visit", "datetime", "date"),
        ("loyalty_points", "Loyalty points", "number", "number"),
        ("newsletter_optin", "Newsletter opt-in", "bool", "booleancheckbox"),
        ("notes_on_contact", "Notes", "string", "textarea"),
    ):
        yield Property(name=name, label=label, type=kind, field_type=field, group_name=group)
    yield Property(
        name="interests",
        label="Interests",
        type="enumeration",
        field_type="checkbox",
        group_name=group,
        options=_options("music", "sports", "travel", "food"),
    )
    yield Property(
        name="customer_number",
        label="Customer number",
        type="string",
        field_type="text",
        group_name=group,
        has_unique_value=True,
    )
    yield Property(
        name="loyalty_level",
        label="Loyalty level",
        type="number",
        field_type="calculation_equation",
        group_name=group,
        calculation_formula="loyalty_points / 100",
    )
