"""What an automatic import maps by itself, and how what it makes is called (AC1). Pure.

Every source field that may be mapped gets a field of its own at the destination, named after the
external service, so that nobody's own fields are written to; its tag is made from that name. Four
fields need no making, because every contact has them: see `Standard`.
"""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from libs.connectors.contract import Field, FieldType

EVERY_MINUTES = 30  # AC2: nobody chooses the interval of an automatic import.
CONTACTS_MAX = 500  # AC5: of one external account in one sync.
WARN_ABOVE = 2  # AC4: more automatic imports than this for one service are probably a mistake.


class Standard(StrEnum):
    """What every contact has at a destination; NONE: a field must be made."""

    NONE = ""
    EMAIL = "email"
    FIRST_NAME = "firstname"
    LAST_NAME = "lastname"
    PHONE = "phone"


# What sources call them, by letters and digits alone.
_CALLED = {
    "email": Standard.EMAIL,
    "emailaddress": Standard.EMAIL,
    "firstname": Standard.FIRST_NAME,
    "givenname": Standard.FIRST_NAME,
    "lastname": Standard.LAST_NAME,
    "familyname": Standard.LAST_NAME,
    "phone": Standard.PHONE,
    "phonenumber": Standard.PHONE,
}
_TYPES = {
    Standard.EMAIL: {FieldType.EMAIL, FieldType.TEXT},
    Standard.FIRST_NAME: {FieldType.TEXT},
    Standard.LAST_NAME: {FieldType.TEXT},
    Standard.PHONE: {FieldType.PHONE, FieldType.TEXT},
}
# Kept as what they are; everything else is kept as it is written.
_KEPT = frozenset({FieldType.DATE, FieldType.DATETIME})


@dataclass(frozen=True, slots=True)
class WantedField:
    """A source field that needs a place at the destination; `title` is what that is called."""

    source: str
    type: FieldType
    title: str
    standard: Standard = Standard.NONE

    @property
    def made_as(self) -> FieldType:
        """Return the type of the field that is made for it."""
        return self.type if self.type in _KEPT else FieldType.TEXT


def wanted_fields(
    service: str, fields: Sequence[Field], known: Collection[str] = ()
) -> list[WantedField]:
    """Return the fields that are not known yet, in the source's order.

    Two with one label are told apart by their names, as is a later one whose label is taken.
    """
    mappable = [field for field in fields if field.not_mappable is None]
    labels = Counter(_plain(field.label or field.name) for field in mappable)
    standard = _standard_of(mappable)
    found: list[WantedField] = []
    for field in mappable:
        if field.name in known:
            continue
        label = field.label or field.name
        is_shared = labels[_plain(label)] > 1 or not _plain(label)
        title = f"{service} – {label} ({field.name})" if is_shared else f"{service} – {label}"  # noqa: RUF001  # the dash between a service and its field
        found.append(
            WantedField(field.name, field.type, title, standard.get(field.name, Standard.NONE))
        )
    return found


def has_address(fields: Sequence[WantedField]) -> bool:
    """Return whether contacts can be told apart by what is wanted of them."""
    return any(field.standard is Standard.EMAIL for field in fields)


def place_of(wanted: WantedField, attributes: Sequence[Field]) -> Field | None:
    """Return where a field goes among what the destination has; None: it must be made first."""
    for attribute in attributes:
        if wanted.standard is Standard.EMAIL:
            if attribute.unique and attribute.type is FieldType.EMAIL:
                return attribute
        elif wanted.standard and _plain(attribute.name) == wanted.standard:
            return attribute
    fitting = (each for each in attributes if each.type in (wanted.made_as, FieldType.TEXT))
    titled = (each for each in fitting if each.label.casefold() == wanted.title.casefold())
    return next(titled, None)


def _standard_of(fields: Sequence[Field]) -> dict[str, Standard]:
    """Return which source field is which standard one: the first of each."""
    found: dict[Standard, str] = {}
    # An address that tells contacts apart goes before one that is only called so.
    for field in sorted(fields, key=lambda each: not each.unique):
        standard = _CALLED.get(_plain(field.name))
        if standard is None and field.unique and field.type is FieldType.EMAIL:
            standard = Standard.EMAIL
        if standard is not None and field.type in _TYPES[standard]:
            found.setdefault(standard, field.name)
    return {name: standard for standard, name in found.items()}


def _plain(text: str) -> str:
    """Return letters and digits alone, in small letters: what a tag tells apart, and less."""
    return re.sub(r"[\W_]+", "", text).casefold()
