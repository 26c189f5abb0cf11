"""A field of an object: what describe says of it, and what a write has to keep to."""

from dataclasses import dataclass
from typing import Any

TEXTS = frozenset(
    {"string", "textarea", "email", "phone", "url", "picklist", "multipicklist", "combobox"}
)
NUMBERS = frozenset({"int", "double", "currency", "percent"})
IDS = frozenset({"id", "reference"})
TYPES = TEXTS | NUMBERS | IDS | {"boolean", "date", "datetime", "address"}
_SOAP_TYPES = {
    "id": "tns:ID",
    "reference": "tns:ID",
    "boolean": "xsd:boolean",
    "int": "xsd:int",
    "date": "xsd:date",
    "datetime": "xsd:dateTime",
    "address": "urn:address",
    **dict.fromkeys(("double", "currency", "percent"), "xsd:double"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field; `length` is in characters, `precision` and `scale` are digits."""

    name: str
    label: str
    type: str
    length: int = 0
    precision: int = 0
    scale: int = 0
    nillable: bool = True
    createable: bool = True
    updateable: bool = True
    defaulted: bool = False  # Salesforce puts a value in when a new record has none.
    default: str | None = None
    calculated: bool = False
    formula: str | None = None
    auto_number: bool = False
    custom: bool = False
    unique: bool = False
    external_id: bool = False
    restricted: bool = False
    options: tuple[str, ...] = ()
    refers_to: tuple[str, ...] = ()
    relationship: str | None = None
    compound: str | None = None
    filterable: bool = True
    sortable: bool = True

    @property
    def is_required(self) -> bool:
        """Tell whether a new record must have a value."""
        return self.createable and not self.nillable and not self.defaulted

    def described(self) -> dict[str, Any]:
        """Return the field as describe answers it."""
        options = [
            {
                "active": True,
                "defaultValue": each == self.default,
                "label": each,
                "validFor": None,
                "value": each,
            }
            for each in self.options
        ]
        return {
            "aggregatable": self.type != "address",
            "autoNumber": self.auto_number,
            "byteLength": self.length * 3,
            "calculated": self.calculated,
            "calculatedFormula": self.formula,
            "cascadeDelete": False,
            "caseSensitive": False,
            "compoundFieldName": self.compound,
            "createable": self.createable,
            "custom": self.custom,
            "defaultValue": False if self.type == "boolean" else None,
            "defaultedOnCreate": self.defaulted,
            "deprecatedAndHidden": False,
            "digits": self.precision if self.type == "int" else 0,
            "encrypted": False,
            "externalId": self.external_id,
            "filterable": self.filterable,
            "groupable": self.type not in {"address", "textarea", "double", "datetime"},
            "idLookup": self.type == "id" or self.external_id or self.type == "email",
            "inlineHelpText": None,
            "label": self.label,
            "length": self.length,
            "name": self.name,
            "nameField": self.name == "Name",
            "nillable": self.nillable,
            "permissionable": self.nillable,
            "picklistValues": options,
            "precision": self.precision,
            "queryByDistance": False,
            "referenceTo": list(self.refers_to),
            "relationshipName": self.relationship,
            "restrictedPicklist": self.restricted,
            "scale": self.scale,
            "soapType": _SOAP_TYPES.get(self.type, "xsd:string"),
            "sortable": self.sortable,
            "type": self.type,
            "unique": self.unique,
            "updateable": self.updateable,
        }
