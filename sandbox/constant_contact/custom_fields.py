"""The custom fields of one account, of every type that there is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid5

from sandbox.constant_contact.contacts import NAMESPACE
from sandbox.constant_contact.moments import written

FIELDS_MAX = 100
LABEL_CHARACTERS_MAX = 50
TYPES = (
    *("string", "date", "datetime", "currency", "text_area"),
    *("number", "boolean", "single_select", "multi_select"),
)
SELECTS = frozenset({"single_select", "multi_select"})


@dataclass(frozen=True, slots=True)
class CustomField:
    id: str
    label: str
    type: str
    created_s: int
    version: int | None = None
    choices: Sequence[str] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The label in lower case, blanks as underscores; it cannot be written."""
        return "_".join(self.label.lower().split())

    def described(self) -> dict[str, Any]:
        """Return the field as GET shows it."""
        more: dict[str, Any] = {}
        if self.metadata:
            more["metadata"] = dict(self.metadata)
        if self.version is not None:
            more["version"] = self.version
        if self.type in SELECTS:
            more["choices"] = [
                {
                    "custom_field_id": self.id,
                    "choice_id": number,
                    "choice_label": label,
                    "display_order": number,
                }
                for number, label in enumerate(self.choices, 1)
            ]
        return {
            "custom_field_id": self.id,
            "label": self.label,
            "name": self.name,
            "type": self.type,
            "updated_at": written(self.created_s),
            "created_at": written(self.created_s),
            **more,
        }


class CustomFields:
    """Every field of an account; at the start one of each type, and one whose date is a text."""

    def __init__(self, account: str, at_s: int) -> None:
        self._account = account
        self.by_id: dict[str, CustomField] = {}
        for label, kind in (
            *(("Hobby", "string"), ("Member since", "date"), ("Last call", "datetime")),
            *(("Balance", "currency"), ("Remarks", "text_area"), ("Points", "number")),
            ("Is a member", "boolean"),
        ):
            self.add(label, kind, at_s, version=2 if kind == "date" else None)
        self.add("Old date", "date", at_s, version=1)
        self.add("Fruit", "single_select", at_s, choices=("Apple", "Pear"))
        self.add("Colours", "multi_select", at_s, choices=("Red", "Green", "Blue"))

    def add(
        self,
        label: str,
        kind: str,
        at_s: int,
        *,
        version: int | None = None,
        choices: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> CustomField:
        field_id = str(uuid5(NAMESPACE, f"{self._account}:field:{label}"))
        made = CustomField(
            field_id, label, kind, at_s, version, tuple(choices), dict(metadata or {})
        )
        self.by_id[field_id] = made
        return made

    def by_label(self, label: str) -> CustomField | None:
        """Return the field with a label; case does not matter."""
        wanted = label.lower()
        return next((each for each in self.by_id.values() if each.label.lower() == wanted), None)
