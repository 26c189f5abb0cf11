"""The contact lists of one account; who is on them stands with the contacts."""

from dataclasses import dataclass
from typing import Any
from uuid import uuid5

from sandbox.constant_contact.contacts import NAMESPACE
from sandbox.constant_contact.moments import written

MEMBERSHIPS_MAX = 50  # Of one contact.
LISTS_MAX = 1_000


@dataclass(slots=True)
class ContactList:
    id: str
    name: str
    created_s: int
    updated_s: int
    description: str = ""
    favorite: bool = False
    deleted_s: int | None = None


class Lists:
    """Every list of an account, deleted ones too."""

    def __init__(self, account: str) -> None:
        self._account = account
        self.by_id: dict[str, ContactList] = {}

    @property
    def live(self) -> list[ContactList]:
        return [each for each in self.by_id.values() if each.deleted_s is None]

    def by_name(self, name: str) -> ContactList | None:
        """Return a list that is not deleted; case does not matter."""
        return next((each for each in self.live if each.name.lower() == name.lower()), None)

    def create(self, name: str, at_s: int) -> ContactList:
        list_id = str(uuid5(NAMESPACE, f"{self._account}:list:{len(self.by_id) + 1}"))
        self.by_id[list_id] = ContactList(list_id, name, at_s, at_s)
        return self.by_id[list_id]


def described(which: ContactList, count: int | None) -> dict[str, Any]:
    """Return a list as GET shows it; a count only where one is asked for."""
    more: dict[str, Any] = {} if count is None else {"membership_count": count}
    if which.deleted_s is not None:
        more["deleted_at"] = written(which.deleted_s)
    return {
        "list_id": which.id,
        "name": which.name,
        "description": which.description,
        "favorite": which.favorite,
        "created_at": written(which.created_s),
        "updated_at": written(which.updated_s),
        **more,
    }
