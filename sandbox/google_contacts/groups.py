"""The contact groups of one account; who is in them stands with the contacts."""

from dataclasses import dataclass
from typing import Any

SYSTEM = (
    ("myContacts", "My Contacts"),
    ("starred", "Starred"),
    ("friends", "Friends"),
    ("family", "Family"),
    ("coworkers", "Coworkers"),
    ("blocked", "Blocked"),
    ("all", "All"),
    ("chatBuddies", "Chat contacts"),
)
GAINING = frozenset({"myContacts", "starred"})  # The other system groups can only lose members.
_FIRST_ID = 0x26A3


@dataclass(slots=True)
class Group:
    """`id` is what stands behind `contactGroups/`."""

    id: str
    name: str
    formatted_name: str
    is_system: bool
    revision: int = 0
    is_deleted: bool = False


class Groups:
    """Every group of an account, deleted ones too."""

    def __init__(self) -> None:
        self.by_id = {id_: Group(id_, id_, name, is_system=True) for id_, name in SYSTEM}

    @property
    def live(self) -> list[Group]:
        return [each for each in self.by_id.values() if not each.is_deleted]

    def found(self, group_id: str) -> Group | None:
        group = self.by_id.get(group_id)
        return None if group is None or group.is_deleted else group

    def by_name(self, name: str) -> Group | None:
        return next((each for each in self.live if each.name == name), None)

    def create(self, name: str) -> Group:
        group_id = f"{_FIRST_ID + len(self.by_id):x}"
        self.by_id[group_id] = Group(group_id, name, name, is_system=False)
        return self.by_id[group_id]


def described(group: Group, size: int) -> dict[str, Any]:
    """Return a group as a listing shows it; a size of 0 is left out, as proto3 does."""
    name = {"resourceName": f"contactGroups/{group.id}"}
    if group.is_deleted:
        return {**name, "metadata": {"deleted": True}}
    kind = "SYSTEM_CONTACT_GROUP" if group.is_system else "USER_CONTACT_GROUP"
    told = {
        **name,
        "etag": f"g{group.revision}",
        "groupType": kind,
        "name": group.name,
        "formattedName": group.formatted_name,
    }
    return {**told, "memberCount": size} if size else told
