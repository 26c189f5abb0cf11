"""The lists of one account."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.activecampaign import errors

FIRST_LIST = "Master Contact List"
_REQUIRED = ("name", "stringid", "sender_url", "sender_reminder")


@dataclass(slots=True)
class ContactList:
    id: int
    name: str
    string_id: str
    created_s: float
    sender_url: str = ""
    sender_reminder: str = ""
    groups: int = 0  # To how many groups of users it was made visible.
    sends_last_broadcast: bool = False  # To whoever joins.


class Lists:
    """An account begins with one list."""

    def __init__(self, now_s: float) -> None:
        self._by_id: dict[int, ContactList] = {}
        self._last_id = 0
        self.add(FIRST_LIST, now_s)

    def __iter__(self) -> Iterator[ContactList]:
        return iter(self._by_id.values())

    def __contains__(self, list_id: object) -> bool:
        return list_id in self._by_id

    def get(self, list_id: int) -> ContactList:
        if list_id not in self._by_id:
            errors.absent("Subscriberlist", list_id)
        return self._by_id[list_id]

    def named(self, name: str) -> ContactList | None:
        return next((each for each in self if each.name == name), None)

    def add(self, name: str, now_s: float, given: Mapping[str, Any] | None = None) -> ContactList:
        """Add a list without asking for what the API requires."""
        wanted = given or {}
        self._last_id += 1
        made = ContactList(
            self._last_id,
            name,
            str(wanted.get("stringid") or re.sub(r"\W+", "-", name.lower())),
            now_s,
            str(wanted.get("sender_url") or ""),
            str(wanted.get("sender_reminder") or ""),
            sends_last_broadcast=str(wanted.get("send_last_broadcast") or "0") != "0",
        )
        self._by_id[made.id] = made
        return made

    def create(self, wanted: Mapping[str, Any], now_s: float) -> ContactList:
        """Add a list as the API does: everything required must be there."""
        for name in _REQUIRED:
            if not wanted.get(name):
                errors.invalid(f"The {name} is required.", pointer=name, code="field_missing")
        return self.add(str(wanted["name"]), now_s, wanted)

    def delete(self, list_id: int) -> None:
        del self._by_id[self.get(list_id).id]
