"""An account's custom fields, their options and where they are shown; its tags.

A field is known by its id. Its personalisation tag is what mails call it by: it is made out of the
title unless one is given, in capitals, without blanks and marks. A field that is related to no list
(`relid` 0: to all) keeps values, but no page shows them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sandbox.activecampaign import errors, values

# The reference of contact fields; `number` and `currency` are for accounts and deals alone.
TYPES = (
    "text", "textarea", "date", "datetime", "hidden", "dropdown", "radio", "listbox", "checkbox",
)  # fmt: skip
WITH_OPTIONS = frozenset({"dropdown", "radio", "listbox", "checkbox"})


@dataclass(slots=True)
class Option:
    id: int
    value: str
    label: str
    order: int


@dataclass(slots=True)
class CustomField:
    id: int
    title: str
    type: str
    tag: str
    created_s: float
    description: str = ""
    is_visible: bool = True
    order: int = 0
    options: list[Option] = field(default_factory=list)
    relations: dict[int, int] = field(default_factory=dict)  # By id: the list, 0 is all of them.


@dataclass(slots=True)
class Tag:
    id: int
    name: str
    description: str
    created_s: float


class Fields:
    """The custom fields of one account by id."""

    def __init__(self) -> None:
        self._by_id: dict[int, CustomField] = {}
        self._last_id = self._last_option = self._last_relation = 0

    def __iter__(self) -> Iterator[CustomField]:
        return iter(self._by_id.values())

    def __contains__(self, field_id: object) -> bool:
        return field_id in self._by_id

    def get(self, field_id: int) -> CustomField:
        if field_id not in self._by_id:
            errors.absent("Field", field_id)
        return self._by_id[field_id]

    def tagged(self, tag: str) -> CustomField | None:
        return next((each for each in self if each.tag == tag.upper()), None)

    def create(self, wanted: dict[str, Any], now_s: float) -> CustomField:
        """Add a field; a title that is taken and a type that there is not are refused."""
        title, kind = str(wanted.get("title") or "").strip(), str(wanted.get("type") or "")
        if not title:
            errors.invalid("The title is required.", pointer="title", code="field_missing")
        if kind not in TYPES:
            errors.invalid("The type is not valid.", pointer="type", code="field_invalid")
        self._refuse_taken(title)
        tag = values.tag(str(wanted.get("perstag") or "")) or values.tag_of_title(title)
        self._last_id += 1
        made = CustomField(
            self._last_id,
            title,
            kind,
            self._free(tag),
            now_s,
            description=str(wanted.get("descript") or ""),
            is_visible=str(wanted.get("visible", 1)) == "1",
            order=self._last_id,
        )
        self._by_id[made.id] = made
        return made

    def rename(self, changed: CustomField, title: str) -> None:
        if title.casefold() != changed.title.casefold():
            self._refuse_taken(title)
        changed.title = title

    def remove(self, field_id: int) -> CustomField:
        gone = self.get(field_id)
        del self._by_id[field_id]
        return gone

    def add_option(self, changed: CustomField, value: str, label: str, order: int) -> Option:
        self._last_option += 1
        option = Option(self._last_option, value, label, order)
        changed.options.append(option)
        return option

    def relate(self, changed: CustomField, list_id: int) -> int:
        """Show a field for a list, 0 for all; return the id of the relation."""
        self._last_relation += 1
        changed.relations[self._last_relation] = list_id
        return self._last_relation

    def _refuse_taken(self, title: str) -> None:
        if any(each.title.casefold() == title.casefold() for each in self):
            detail = f"There is already a field named '{title}' -- choose another name"
            errors.invalid(
                "There is already a field with this title", detail=detail, code="duplicate"
            )

    def _free(self, tag: str) -> str:
        """Return a tag that no field has; what the service does with a taken one is not known."""
        free, number = tag, 1
        while self.tagged(free) is not None:
            number += 1
            free = f"{tag}_{number}"
        return free


class Tags:
    """The tags of one account by id."""

    def __init__(self) -> None:
        self._by_id: dict[int, Tag] = {}
        self._last_id = 0

    def __iter__(self) -> Iterator[Tag]:
        return iter(self._by_id.values())

    def __contains__(self, tag_id: object) -> bool:
        return tag_id in self._by_id

    def get(self, tag_id: int) -> Tag:
        if tag_id not in self._by_id:
            errors.absent("Tag", tag_id)
        return self._by_id[tag_id]

    def named(self, name: str, now_s: float, description: str = "") -> Tag:
        """Return the tag with a name; it is made if there is none."""
        found = next((each for each in self if each.name == name), None)
        if found is None:
            self._last_id += 1
            found = Tag(self._last_id, name, description, now_s)
            self._by_id[found.id] = found
        return found

    def remove(self, tag_id: int) -> None:
        del self._by_id[self.get(tag_id).id]
