"""A source and a topic that behave, for runs whose every step a test wants to choose."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from libs.common.errors import MisconfiguredError, UnavailableError
from libs.common.events import Change, Changed, Event, Operation, RunRead, Topic
from libs.connectors.contract import (
    Account,
    ContactList,
    Cursor,
    Facts,
    Field,
    MemberPage,
    Onward,
    Page,
    Sweep,
    alone,
)

LONG_AGO_MS = 1_600_000_000_000

FACTS = Facts(
    provider="hubspot",
    label="Fake",
    is_source=True,
    is_destination=False,
    base_url="https://fake.invalid",
    hosts=("fake.invalid",),
    limits={},
    resumable_paging=True,
)


@dataclass
class FakeContact:
    properties: dict[str, str | None]
    modified_ms: int = LONG_AGO_MS
    merged_from: list[str] = field(default_factory=list)


async def nothing(_page: int) -> None:
    return


class FakeSource:
    """An account in memory, read by id order: a cursor is the last id that was given."""

    def __init__(self, *, page_size: int = 2, resumable: bool = True) -> None:
        self.facts = replace(FACTS, resumable_paging=resumable)
        self.contacts: dict[str, FakeContact] = {}
        self.lists: dict[str, dict[str, int]] = {}  # Members and when each joined.
        self.changed_at_ms: dict[str, int] = {}
        self.page_size = page_size
        self.calls: list[str] = []
        # Called before a page, a hydration or a member page is answered; may change the account,
        # wait, or raise.
        self.before: Callable[[int], Awaitable[None]] = nothing
        self.total: int | None = None  # What `count` says, where it shall lie.
        self.counts = True
        self.fields: list[Field] = []
        self.doubtful: set[int] = set()  # Calls whose pages say that they are, by number.

    def add(self, *ids: str, modified_ms: int = LONG_AGO_MS) -> None:
        for id_ in ids:
            self.contacts[id_] = FakeContact({"email": f"{id_}@example.com"}, modified_ms)

    def join(self, list_id: str, *ids: str) -> None:
        members = self.lists.setdefault(list_id, {})
        self._touch(list_id)
        members.update(dict.fromkeys(ids, self.changed_at_ms[list_id]))

    def leave(self, list_id: str, *ids: str) -> None:
        self._touch(list_id)
        for id_ in ids:
            del self.lists[list_id][id_]

    def delete(self, *ids: str) -> None:
        for id_ in ids:
            del self.contacts[id_]
            for members in self.lists.values():
                members.pop(id_, None)

    def merge(self, survivor: str, *merged: str, modified_ms: int) -> None:
        """Make a new contact of several, as HubSpot does."""
        first = self.contacts[merged[0]]
        self.contacts[survivor] = FakeContact(first.properties, modified_ms, list(merged))
        for id_ in merged:
            del self.contacts[id_]

    def _touch(self, list_id: str) -> None:
        self.changed_at_ms[list_id] = self.changed_at_ms.get(list_id, 0) + 1

    async def check(self) -> Account:
        return Account("1", "Fake")

    async def describe_fields(self, object_name: str) -> Sequence[Field]:
        self.calls.append("fields")
        return self.fields

    async def find_lists(self, object_name: str) -> Sequence[ContactList]:
        return [await self.find_list(object_name, list_id) for list_id in self.lists]

    async def find_list(self, object_name: str, list_id: str) -> ContactList:
        if list_id not in self.lists:
            raise MisconfiguredError(host="fake", what="list_missing")
        members = self.lists[list_id]
        return ContactList(list_id, "A list", len(members), self.changed_at_ms[list_id])

    async def count(self, sweep: Sweep) -> int | None:
        if not self.counts:
            return None
        return len(self._matching(sweep)) if self.total is None else self.total

    async def read_page(self, sweep: Sweep, after: Cursor | None, onward: Onward = alone) -> Page:
        await self._called("page")
        ids = [id_ for id_ in self._matching(sweep) if after is None or id_ > after]
        chosen = ids[: self.page_size]
        cursor = Cursor(chosen[-1]) if len(ids) > self.page_size else None
        is_doubtful = len(self.calls) in self.doubtful
        await onward(cursor)
        return Page(await self._contacts(chosen), cursor, is_doubtful)

    async def read_contacts(self, sweep: Sweep, ids: Sequence[str]) -> Sequence[Change]:
        await self._called("contacts")
        return await self._contacts(ids)

    async def _contacts(self, ids: Sequence[str]) -> Sequence[Change]:
        await asyncio.sleep(0)
        found = {}
        for id_ in ids:
            for present, contact in self.contacts.items():
                if id_ == present or id_ in contact.merged_from:
                    found[present] = self._change(present)
        return list(found.values())

    async def read_members(
        self, object_name: str, list_id: str | None, after: Cursor | None
    ) -> MemberPage:
        await self._called("members")
        everyone = sorted(self.contacts if list_id is None else self.lists[list_id])
        ids = [id_ for id_ in everyone if after is None or id_ > after]
        chosen = ids[: self.page_size]
        cursor = Cursor(chosen[-1]) if len(ids) > self.page_size else None
        return MemberPage(chosen, cursor, len(self.calls) in self.doubtful)

    async def _called(self, what: str) -> None:
        self.calls.append(what)
        await self.before(len(self.calls))

    def _matching(self, sweep: Sweep) -> list[str]:
        if sweep.since_ms is not None:
            window = range(sweep.since_ms, sweep.until_ms + 1)
            return sorted(
                id_ for id_, contact in self.contacts.items() if contact.modified_ms in window
            )
        if sweep.list_id is not None:
            return sorted(id_ for id_ in self.lists[sweep.list_id] if id_ in self.contacts)
        return sorted(self.contacts)

    def _change(self, id_: str) -> Change:
        contact = self.contacts[id_]
        return Change(
            id=id_,
            op=Operation.UPSERT,
            version_ms=contact.modified_ms,
            merged_from=contact.merged_from,
            properties=msgspec.Raw(msgspec.json.encode(contact.properties)),
        )


class Journal:
    """A topic that remembers; it can be told to lose what is published from now on."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.keys: list[str] = []
        self.is_down = False

    def publish(self, topic: Topic, key: str, event: Event) -> asyncio.Task[None]:
        assert topic in event.topics
        assert topic is Topic.CONTACTS_CHANGED
        return asyncio.create_task(self._publish(key, event))

    async def _publish(self, key: str, event: Event) -> None:
        await asyncio.sleep(0)
        if self.is_down:
            raise UnavailableError(host="broker", reason="no acknowledgement")
        self.events.append(event)
        self.keys.append(key)

    @property
    def parts(self) -> list[Changed]:
        return [event for event in self.events if isinstance(event, Changed)]

    @property
    def ends(self) -> list[RunRead]:
        return [event for event in self.events if isinstance(event, RunRead)]

    def changes(self, *operations: Operation, run_no: int | None = None) -> Iterator[Change]:
        for part in self.parts:
            if run_no in (None, part.run_no):
                yield from (
                    change for change in part.changes if not operations or change.op in operations
                )

    def ids(self, *operations: Operation, run_no: int | None = None) -> list[str]:
        """Return the ids of the changes, sorted."""
        return sorted(change.id for change in self.changes(*operations, run_no=run_no))
