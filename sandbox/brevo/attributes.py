"""An account's attributes: which there are, of what type, and what a contact's value becomes.

As documented for `POST /contacts` and `/contacts/attributes`: names are upper case; a value of
the wrong type is dropped without a word; the type of an attribute never changes; the identifiers
SMS, EXT_ID, WHATSAPP and LANDLINE_NUMBER look like attributes and are unique in the account.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sandbox.brevo import errors, values
from sandbox.brevo.values import Value

CATEGORIES = ("normal", "transactional", "category", "calculated", "global")
# In the order in which Brevo names those that clash.
IDENTIFIERS = ("EMAIL", "SMS", "EXT_ID", "WHATSAPP", "LANDLINE_NUMBER")
PHONES = frozenset({"SMS", "WHATSAPP", "LANDLINE_NUMBER"})
OPTION_LENGTH_MAX = 200
_PLAIN_TYPES = ("text", "date", "float", "boolean")
_TYPES = {
    "normal": (*_PLAIN_TYPES, "multiple-choice", "user"),
    "transactional": (*_PLAIN_TYPES, "id"),
    "category": ("category",),
}
# The names that an account gets at its creation depend on its language, and stay.
DEFAULT_NAMES = {
    "en": ("FIRSTNAME", "LASTNAME"),
    "fr": ("PRENOM", "NOM"),
    "de": ("VORNAME", "NACHNAME"),
}


@dataclass(slots=True)
class Attribute:
    name: str
    category: str
    type: str
    options: dict[str, str] = field(default_factory=dict)  # category: value as text -> label
    choices: list[str] = field(default_factory=list)  # multiple-choice
    formula: str = ""  # calculated and global

    def as_json(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"name": self.name, "category": self.category}
        if self.category == "category":
            shown["enumeration"] = [
                {"value": _whole(value), "valueStr": value, "label": label}
                for value, label in self.options.items()
            ]
            return shown  # Live answers carry no type here.
        shown["type"] = self.type
        if self.type == "multiple-choice":
            shown["multiCategoryOptions"] = list(self.choices)
        if self.category in {"calculated", "global"}:
            shown["calculatedValue"] = self.formula
        return shown

    def take(self, value: Any, *, from_text: bool) -> Value | None:
        """Return what is kept of a value; None if Brevo drops it."""
        kept: Value | None = None
        match self.type:
            case "text" | "id" | "user":
                kept = values.text(value)
            case "date":
                kept = values.day(value)
            case "float":
                kept = values.number(value, from_text=from_text)
            case "boolean":
                kept = values.boolean(value, from_text=from_text)
            case "category":
                kept = self._option(value)
            case "multiple-choice":
                kept = self._chosen(value, from_text=from_text)
        return kept

    def _option(self, value: Any) -> Value | None:
        """Accept the value or the label of an option; keep the value."""
        if isinstance(value, bool) or not isinstance(value, str | int):
            return None
        wanted = str(value)
        found = wanted if wanted in self.options else None
        for option, label in self.options.items():
            if found is None and label.casefold() == wanted.casefold():
                found = option
        return None if found is None else _whole(found) or found

    def _chosen(self, value: Any, *, from_text: bool) -> Value | None:
        if from_text and isinstance(value, str):
            value = [choice.strip() for choice in value.split(",")]
        if not isinstance(value, list) or not all(choice in self.choices for choice in value):
            return None
        return list(value)


def _whole(value: str) -> int:
    """Return an option's value as the contract shows it: 0 if it is no whole number."""
    return int(value) if value.lstrip("-").isdecimal() else 0


@dataclass(slots=True)
class Taken:
    """What is left of the attributes of one call: identifiers apart, "" and None for cleared."""

    identifiers: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, Value | None] = field(default_factory=dict)


class Attributes:
    """The attributes of one account by name; names are unique across categories."""

    def __init__(self, language: str = "en") -> None:
        self._by_name: dict[str, Attribute] = {}
        for name in (*DEFAULT_NAMES[language], *IDENTIFIERS[1:]):
            self._by_name[name] = Attribute(name, "normal", "text")
        self._by_name["DOUBLE_OPT-IN"] = Attribute(
            "DOUBLE_OPT-IN", "category", "category", options={"1": "Yes", "2": "No"}
        )
        blacklist = "COUNT[BLACKLISTED,BLACKLISTED,<,NOW()]"
        self._by_name["BLACKLIST"] = Attribute("BLACKLIST", "global", "float", formula=blacklist)

    def __iter__(self) -> Iterator[Attribute]:
        return iter(self._by_name.values())

    def get(self, name: str) -> Attribute | None:
        return self._by_name.get(name)

    def as_json(self) -> list[dict[str, Any]]:
        return [attribute.as_json() for attribute in self._by_name.values()]

    def create(self, category: str, name: str, wanted: "Definition") -> Attribute:
        """Add an attribute; `RefusedError` for a name that is taken or a body that is wrong."""
        _check_category(category)
        name = name.upper()
        if name in self._by_name or name == "EMAIL":
            errors.refuse(400, "duplicate_parameter", "Attribute name already exists")
        attribute = wanted.build(category, name)
        self._by_name[name] = attribute
        return attribute

    def find(self, category: str, name: str) -> Attribute:
        _check_category(category)
        attribute = self._by_name.get(name.upper())
        if attribute is None or attribute.category != category:
            errors.unknown("Attribute not found")
        return attribute

    def remove(self, category: str, name: str) -> Attribute:
        attribute = self.find(category, name)
        if attribute.name in IDENTIFIERS or attribute.category == "global":
            errors.invalid("This attribute cannot be deleted")
        return self._by_name.pop(attribute.name)

    def take(
        self,
        given: Mapping[str, Any],
        *,
        reject_unknown: bool,
        invalid_phone: Callable[[], None],
        from_text: bool = False,
    ) -> Taken:
        """Sort and convert the attributes of a write; what Brevo ignores is gone.

        `invalid_phone` is called for a number that is none: it raises, or lets it be dropped.
        """
        taken = Taken()
        for name, value in given.items():
            if name in IDENTIFIERS:
                self._take_identifier(taken, name, value, invalid_phone)
                continue
            attribute = self._by_name.get(name)
            if attribute is None:
                if reject_unknown:
                    errors.invalid(f"Attribute not found: {name}")
                continue
            if attribute.category in {"calculated", "global"}:
                continue
            kept = None if value == "" else attribute.take(value, from_text=from_text)
            if kept is not None or value == "":
                taken.attributes[name] = kept
        return taken

    @staticmethod
    def _take_identifier(
        taken: Taken, name: str, value: Any, invalid_phone: Callable[[], None]
    ) -> None:
        if isinstance(value, bool) or not isinstance(value, str | int):
            return
        if name in PHONES and value != "":
            digits = values.phone(value)
            if digits is None:
                invalid_phone()
            else:
                taken.identifiers[name] = digits
            return
        taken.identifiers[name] = str(value).strip()


@dataclass(slots=True)
class Definition:
    """The body of a create or update of an attribute, before it is known to fit its category."""

    type: str | None = None
    enumeration: Sequence[tuple[str, str]] | None = None
    choices: Sequence[str] | None = None
    formula: str | None = None

    def build(self, category: str, name: str) -> Attribute:
        if category in {"calculated", "global"}:
            if not self.formula:
                errors.missing("value is missing")
            return Attribute(name, category, "float", formula=self.formula)
        if self.type is None:
            errors.missing("type is missing")
        if self.type not in _TYPES[category]:
            errors.invalid(f"Type {self.type} is not available for category {category}")
        attribute = Attribute(name, category, self.type)
        if category == "category":
            if not self.enumeration:
                errors.missing("enumeration is missing")
            self._set_options(attribute)
        if self.type == "multiple-choice":
            if not self.choices:
                errors.missing("multiCategoryOptions is missing")
            self._add_choices(attribute)
        return attribute

    def change(self, attribute: Attribute) -> None:
        """Apply an update: options are replaced, choices are added to, a formula is replaced."""
        if attribute.category == "category" and self.enumeration:
            self._set_options(attribute)
        elif attribute.type == "multiple-choice" and self.choices:
            self._add_choices(attribute)
        elif attribute.category in {"calculated", "global"} and self.formula:
            attribute.formula = self.formula
        else:
            errors.invalid(f"Nothing can be updated on a {attribute.category} attribute")

    def _set_options(self, attribute: Attribute) -> None:
        options = dict(self.enumeration or ())
        _check_lengths(options.values())
        attribute.options = options

    def _add_choices(self, attribute: Attribute) -> None:
        _check_lengths(self.choices or ())
        attribute.choices = list(dict.fromkeys([*attribute.choices, *(self.choices or ())]))


def _check_category(category: str) -> None:
    if category not in CATEGORIES:
        errors.invalid("Attribute category is invalid")


def _check_lengths(options: Iterable[str]) -> None:
    if any(len(option) > OPTION_LENGTH_MAX for option in options):
        errors.invalid(f"An option cannot exceed {OPTION_LENGTH_MAX} characters")
