"""The lists (segments) of one portal, and who is on them since when.

Members are read in order of id or of joining; both orders are sorted once after a change and then
kept. A deleted list stays, with its time of deletion, for it can be restored (guide "Lists":
within 90 days).
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sandbox.hubspot.errors import iso

CONTACTS = "0-1"  # The object type of contacts.


class Processing(StrEnum):
    """How a list gets its members: by hand, by a filter, or by a filter once."""

    MANUAL = "MANUAL"
    DYNAMIC = "DYNAMIC"
    SNAPSHOT = "SNAPSHOT"


@dataclass(frozen=True, slots=True)
class Membership:
    first_added_ms: int
    last_added_ms: int


@dataclass
class ContactList:
    id: int
    name: str
    processing: Processing
    created_ms: int
    updated_ms: int
    object_type_id: str = CONTACTS
    filter_branch: Any = None
    version: int = 1
    deleted_ms: int | None = None
    last_added_ms: int | None = None
    last_removed_ms: int | None = None
    members: dict[int, Membership] = field(default_factory=dict)
    _former: dict[int, int] = field(default_factory=dict)  # Id: when it was first added.
    _by_id: list[int] | None = None
    _by_joining: list[tuple[int, int]] | None = None

    @property
    def takes_members(self) -> bool:
        """Whether the API may add and remove members."""
        return self.processing is not Processing.DYNAMIC

    def join(self, contact_ids: Iterable[int], at_ms: int) -> list[int]:
        """Add members; return who was not one before."""
        added = [each for each in dict.fromkeys(contact_ids) if each not in self.members]
        for contact_id in added:
            first_ms = self._former.pop(contact_id, at_ms)
            self.members[contact_id] = Membership(first_ms, at_ms)
        if added:
            self.last_added_ms = at_ms
            self._forget_orders()
        return added

    def leave(self, contact_ids: Iterable[int], at_ms: int) -> list[int]:
        """Remove members; return who was one."""
        removed = [each for each in dict.fromkeys(contact_ids) if each in self.members]
        for contact_id in removed:
            self._former[contact_id] = self.members.pop(contact_id).first_added_ms
        if removed:
            self.last_removed_ms = at_ms
            self._forget_orders()
        return removed

    def members_by_id(self) -> list[int]:
        if self._by_id is None:
            self._by_id = sorted(self.members)
        return self._by_id

    def members_by_joining(self) -> list[tuple[int, int]]:
        """Return (when, id) of every member in order of joining."""
        if self._by_joining is None:
            self._by_joining = sorted(
                (member.last_added_ms, contact_id) for contact_id, member in self.members.items()
            )
        return self._by_joining

    def _forget_orders(self) -> None:
        self._by_id = self._by_joining = None


@dataclass(frozen=True, slots=True)
class Slice:
    """A page of an order of members; `next` and `previous` are the keys to ask on from."""

    keys: Sequence[Any]
    next: Any = None
    previous: Any = None


def slice_of(order: Sequence[Any], limit: int, *, after: Any = None, before: Any = None) -> Slice:
    """Return the page after a key; or, if only `before` is given, the one before it, descending.

    Source: description of GET …/memberships in HubSpot's OpenAPI of lists.
    """
    if after is None and before is not None:
        end = bisect_left(order, before)
        start = max(end - limit, 0)
        earlier = list(reversed(order[start:end]))
        return Slice(earlier, previous=earlier[-1] if start else None)
    start = 0 if after is None else bisect_right(order, after)
    keys = order[start : start + limit]
    more = start + limit < len(order)
    return Slice(keys, keys[-1] if more else None, keys[0] if start and keys else None)


class Lists:
    """Every list of a portal, deleted ones too."""

    def __init__(self) -> None:
        self.by_id: dict[int, ContactList] = {}
        self._next_id = 1

    @property
    def live(self) -> list[ContactList]:
        return [each for each in self.by_id.values() if each.deleted_ms is None]

    def by_name(self, name: str, object_type_id: str = CONTACTS) -> ContactList | None:
        """Return a list that is not deleted; case does not matter."""
        for each in self.live:
            if each.object_type_id == object_type_id and each.name.lower() == name.lower():
                return each
        return None

    def create(
        self,
        name: str,
        at_ms: int,
        *,
        processing: Processing = Processing.MANUAL,
        object_type_id: str = CONTACTS,
        filter_branch: Any = None,
    ) -> ContactList:
        created = ContactList(
            self._next_id,
            name,
            processing,
            at_ms,
            at_ms,
            object_type_id=object_type_id,
            filter_branch=filter_branch,
        )
        self.by_id[created.id] = created
        self._next_id += 1
        return created

    def of(self, contact_id: int) -> list[ContactList]:
        return [each for each in self.live if contact_id in each.members]

    def forget(self, contact_id: int, at_ms: int) -> list[ContactList]:
        """Take a contact off every list; return those it was on."""
        left = [each for each in self.by_id.values() if contact_id in each.members]
        for each in left:
            each.leave([contact_id], at_ms)
        return left


def described(which: ContactList, *, filters: bool = False) -> dict[str, Any]:
    """Return a list as GET shows it."""
    more: dict[str, Any] = {"size": len(which.members)}
    if filters and which.filter_branch is not None:
        more["filterBranch"] = which.filter_branch
    return {
        **_common(which),
        **more,
        "listPermissions": {"teamsWithEditAccess": [], "usersWithEditAccess": []},
        "membershipSettings": {"membershipTeamId": None, "includeUnassigned": None},
    }


def found(which: ContactList) -> dict[str, Any]:
    """Return a list as search shows it: sizes and times are strings, empty ones left out."""
    always = {
        "hs_list_size": len(which.members),
        "hs_last_record_added_at": which.last_added_ms,
        "hs_last_record_removed_at": which.last_removed_ms,
        "hs_list_reference_count": 0,
    }
    more = {name: str(value) for name, value in always.items() if value is not None}
    return {**_common(which), "additionalProperties": more}


def _common(which: ContactList) -> dict[str, Any]:
    deleted = {} if which.deleted_ms is None else {"deletedAt": iso(which.deleted_ms)}
    return {
        "listId": str(which.id),
        "listVersion": which.version,
        "createdAt": iso(which.created_ms),
        "updatedAt": iso(which.updated_ms),
        "filtersUpdatedAt": iso(which.created_ms),
        "processingStatus": "COMPLETE",
        "createdById": "1",
        "updatedById": "1",
        "processingType": which.processing,
        "objectTypeId": which.object_type_id,
        "name": which.name,
        **deleted,
    }
