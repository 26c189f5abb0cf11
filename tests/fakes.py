"""Providers in memory that behave: for tests that need faults at exact places, and no socket.

`FakeAccount` is what stands at a destination and remembers every write in order; it outlives the
`FakeDestination` objects that speak to it, as a real account outlives our processes. It answers by
the contract (`libs.connectors.contract`), `tests/test_fakes.py` holds it to that. Faults are
queued and met by the next calls.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from libs.common.errors import (
    MisconfiguredError,
    NeedsReauthError,
    RateLimitedError,
    RequestRefusedError,
    SyncError,
    UnavailableError,
    UnknownOutcomeError,
)
from libs.common.events import Identity, Operation
from libs.connectors.contract import (
    Account,
    Arrived,
    Awaited,
    ContactList,
    Cursor,
    Facts,
    Field,
    FieldType,
    FoundImport,
    Gate,
    ImportState,
    ImportStatus,
    Limit,
    ListPage,
    Missing,
    NotTried,
    OpenGate,
    Outcome,
    Refused,
    RemoteContact,
    Screening,
    Taken,
    Unknown,
    Write,
    WriteReport,
    Written,
    identity_key,
)

HOST = "fake.example"
PAGE = 100


class Fault(StrEnum):
    """What can go wrong with one call."""

    LOST_APPLIED = "lost_applied"  # Applied, and the answer lost.
    LOST = "lost"  # Not applied, and nobody can know.
    DOWN = "down"
    LIMITED = "limited"
    REAUTH = "reauth"
    MISCONFIGURED = "misconfigured"
    FULL = "full"  # No room for another contact.
    REFUSED_CALL = "refused_call"  # 400 for a call as a whole.
    PHONE = "phone"  # Written without the phone.


class CrashError(Exception):
    """The process ends here."""


@dataclass
class FakeContact:
    """A contact of the account."""

    identity: Identity
    attributes: dict[str, Any]
    list_ids: set[str] = field(default_factory=set)
    is_blocked: bool = False


@dataclass(frozen=True)
class Applied:
    """One write that took effect."""

    operation: str
    key: str
    attributes: Mapping[str, Any]
    created: bool
    by_import: bool = False


@dataclass
class FakeImport:
    """An import as the provider runs it."""

    process_id: str
    writes: list[Write]
    state: ImportState = ImportState.RUNNING
    refused: dict[str, str] = field(default_factory=dict)


class FakeAccount:
    """What stands at a destination."""

    def __init__(self) -> None:
        self.contacts: dict[str, FakeContact] = {}
        self.applied: list[Applied] = []
        self.imports: list[FakeImport] = []
        self.faults: deque[Fault | None] = deque()
        self.read_faults: deque[SyncError] = deque()
        self.refused: dict[str, str] = {}
        self.refused_calls: set[str] = set()
        self.lost: set[str] = set()  # Every answer about these is lost, and nothing is applied.
        self.crash_after: int | None = None
        self.lose_import_answer = False
        self.import_error: SyncError | None = None
        self.screen_error: SyncError | None = None
        self.status_error: SyncError | None = None
        self.list_error: SyncError | None = None
        self.finds_imports = True
        self.made: dict[str, FieldType] = {}  # Attributes by title.
        self.made_errors: dict[str, SyncError] = {}  # What making one meets; "": making any.
        self.calls: dict[str, int] = {}
        self.read_since: list[datetime | None] = []
        # Awaited in the middle of a write, before and after it takes effect.
        self.before_write: Callable[[], Awaitable[None]] | None = None
        self.after_write: Callable[[], Awaitable[None]] | None = None

    def count(self, call: str) -> None:
        """Remember a call."""
        self.calls[call] = self.calls.get(call, 0) + 1

    def fail(self, *faults: Fault | None) -> None:
        """Let the next single writes meet these faults, one each; None is a write that works."""
        self.faults.extend(faults)

    def keys(self) -> set[str]:
        """Return the addresses that are there."""
        return set(self.contacts)

    def writes_of(self, key: str) -> list[Applied]:
        """Return every write of an address, in order."""
        return [each for each in self.applied if each.key == key]

    def put(self, write: Write, *, by_import: bool = False) -> None:
        """Create or update a contact."""
        key = identity_key(write.identity)
        attributes = msgspec.json.decode(write.attributes, type=dict[str, Any])
        contact = self.contacts.get(key)
        created = contact is None
        if contact is None:
            contact = self.contacts[key] = FakeContact(write.identity, {})
        contact.identity = write.identity
        contact.attributes.update(attributes)
        if write.join_list:
            contact.list_ids.add(write.list_id)
        self.applied.append(Applied(write.op, key, attributes, created, by_import))

    def move(self, write: Write, old: str) -> None:
        """Give a contact another address."""
        self.contacts[identity_key(write.identity)] = self.contacts.pop(old)
        self.put(write)

    def leave(self, write: Write) -> None:
        """Take a contact off a list."""
        key = identity_key(write.identity)
        if key in self.contacts:
            self.contacts[key].list_ids.discard(write.list_id)
        self.applied.append(Applied(write.op, key, {}, created=False))

    def land(
        self,
        process_id: str | None = None,
        *,
        silently_lost: Sequence[str] = (),
        refused: Mapping[str, str] | None = None,
        state: ImportState = ImportState.COMPLETED,
    ) -> None:
        """Let an import (the oldest that runs) do its work and end."""
        running = [
            each
            for each in self.imports
            if each.state is ImportState.RUNNING and process_id in (None, each.process_id)
        ]
        found = running[0]
        found.refused = dict(refused or {})
        for write in found.writes:
            key = identity_key(write.identity)
            if key in silently_lost or key in found.refused or key in self.contacts:
                continue
            self.put(write, by_import=True)
        found.state = state


class FakeDestination:
    """Speaks to a `FakeAccount` as a connector does: one call for each single write."""

    facts = Facts(
        provider="fake",
        label="Fake",
        is_source=False,
        is_destination=True,
        base_url="https://fake.example",
        hosts=(HOST,),
        limits={"": (Limit("contacts", 10, 1.0), Limit("other", 100, 3600.0))},
        import_rows_max=1000,
        import_rows_min=50,
    )

    def __init__(self, account: FakeAccount, gate: Gate | None = None) -> None:
        self.account = account
        self._gate = gate or OpenGate()

    async def check(self) -> Account:
        await self._call("check", "other")
        return Account("fake-1", "Fake account")

    async def describe_attributes(self) -> Sequence[Field]:
        await self._call("describe_attributes")
        made = self.account.made
        return [
            Field("EMAIL", "EMAIL", FieldType.EMAIL, unique=True),
            *(Field(name.upper(), name, type_) for name, type_ in made.items()),
        ]

    async def make_attribute(self, name: str, type_: FieldType) -> None:
        await self._call("make_attribute")
        errors = self.account.made_errors
        if (error := errors.get(name, errors.get(""))) is not None:
            raise error
        if self.account.made.setdefault(name, type_) is not type_:
            raise RequestRefusedError(HOST, 422, "duplicate")

    async def find_lists(self) -> Sequence[ContactList]:
        await self._call("find_lists")
        return [ContactList("7", "Customers")]

    async def make_list(self, name: str) -> ContactList:
        await self._call("make_list")
        return ContactList("7", name)

    async def write(self, writes: Sequence[Write]) -> WriteReport:
        outcomes: list[Outcome] = []
        for write in writes:
            try:
                outcomes.append(await self._apply(write))
            except SyncError as error:
                if isinstance(error, UnknownOutcomeError):
                    outcomes.append(Unknown())
                outcomes += [NotTried()] * (len(writes) - len(outcomes))
                return WriteReport(outcomes, stopped_by=error)
        return WriteReport(outcomes)

    async def read_back(self, identities: Sequence[Identity]) -> Sequence[RemoteContact | None]:
        await self._call("read_back")
        found = [self.account.contacts.get(identity_key(identity)) for identity in identities]
        return [_remote(contact) if contact else None for contact in found]

    async def read_list(
        self,
        list_id: str,
        after: Cursor | None,
        since: datetime | None = None,
        *,
        awaited: Awaited,
        newest_first: bool = False,
        hoped: int = 0,
    ) -> ListPage:
        await self._call("read_list")
        if self.account.list_error is not None:
            raise self.account.list_error
        self.account.read_since.append(since)
        members = [each for each in self.account.contacts.values() if list_id in each.list_ids]
        if newest_first:
            members.reverse()
        offset = int(after or 0)
        page = members[offset : offset + PAGE]
        is_last = offset + PAGE >= len(members)
        cursor = None if is_last else Cursor(str(offset + PAGE))
        return ListPage(self._arrived(page, awaited), cursor)

    def _arrived(self, contacts: Iterable[FakeContact], awaited: Awaited) -> Arrived:
        remotes = {identity_key(each.identity): each for each in map(_remote, contacts)}
        return [
            [
                key
                for key, write in rows.items()
                if key in remotes
                and write.list_id in remotes[key].list_ids
                and self.matches(remotes[key], write)
            ]
            for rows in awaited
        ]

    def matches(self, remote: RemoteContact, write: Write) -> bool:
        wanted = msgspec.json.decode(write.attributes, type=dict[str, Any])
        return identity_key(remote.identity) == identity_key(write.identity) and all(
            remote.attributes.get(name) == value for name, value in wanted.items()
        )

    def importable(self, writes: Sequence[Write]) -> Sequence[bool]:
        return [
            write.op is Operation.UPSERT and write.known_as is None and write.join_list
            for write in writes
        ]

    async def screen_import(self, keys: Sequence[str], awaited: Awaited = ()) -> Screening:
        await self._call("screen_import")
        if self.account.screen_error is not None:
            raise self.account.screen_error
        known = self.account.contacts
        return Screening([key not in known for key in keys], self._arrived(known.values(), awaited))

    async def start_import(self, writes: Sequence[Write], notify_url: str | None) -> str:
        await self._call("start_import")
        if self.account.import_error is not None:
            raise self.account.import_error
        process_id = str(len(self.account.imports) + 1)
        self.account.imports.append(FakeImport(process_id, list(writes)))
        if self.account.lose_import_answer:
            raise UnknownOutcomeError(HOST, "lost")
        return process_id

    async def import_status(self, process_id: str) -> ImportStatus:
        await self._call("import_status", "other")
        if self.account.status_error is not None:
            raise self.account.status_error
        found = next(each for each in self.account.imports if each.process_id == process_id)
        return ImportStatus(found.state, found.refused)

    async def find_imports(self, since: datetime) -> Sequence[FoundImport]:
        await self._call("find_imports", "other")
        if not self.account.finds_imports:
            raise UnavailableError(HOST, "HTTP 503")
        return [FoundImport(each.process_id, each.state) for each in reversed(self.account.imports)]

    async def _call(self, name: str, bucket: str = "contacts") -> None:
        await self._gate.enter(bucket)
        self.account.count(name)
        if name == "read_back" and self.account.read_faults:
            raise self.account.read_faults.popleft()

    async def _apply(self, write: Write) -> Outcome:
        await self._call("write")
        account = self.account
        if account.crash_after == 0:
            raise CrashError
        if account.before_write is not None:
            await account.before_write()
        fault = account.faults.popleft() if account.faults else None
        _meet(fault)
        key = identity_key(write.identity)
        if key in account.refused_calls:
            raise RequestRefusedError(HOST, 400, "bad")
        if key in account.lost:
            raise UnknownOutcomeError(HOST, "HTTP 500")
        outcome = self._effect(write, key)
        if account.after_write is not None:
            await account.after_write()
        if fault is Fault.LOST_APPLIED:
            raise UnknownOutcomeError(HOST, "time-out")
        if account.crash_after is not None:
            account.crash_after -= 1
        if fault is Fault.PHONE and outcome == Written():
            return Written(warning="phone_left_out")
        return outcome

    def _effect(self, write: Write, key: str) -> Outcome:
        account = self.account
        if key in account.refused:
            return Refused(account.refused[key])
        known = identity_key(write.known_as) if write.known_as is not None else None
        if write.op is not Operation.UPSERT:
            account.leave(write)
        elif known is None:
            account.put(write)
        elif known not in account.contacts:
            return Missing()
        elif known == key:
            account.put(write)
        elif key in account.contacts:
            return Taken()
        else:
            account.move(write, known)
        return Written()


def _meet(fault: Fault | None) -> None:
    errors: dict[Fault, Callable[[], SyncError]] = {
        Fault.LOST: lambda: UnknownOutcomeError(HOST, "time-out"),
        Fault.DOWN: lambda: UnavailableError(HOST, "HTTP 503"),
        Fault.LIMITED: lambda: RateLimitedError("contacts", 30.0),
        Fault.REAUTH: lambda: NeedsReauthError(HOST, "unauthorized"),
        Fault.MISCONFIGURED: lambda: MisconfiguredError(HOST, "list_missing"),
        Fault.FULL: lambda: MisconfiguredError(HOST, "contact_limit"),
        Fault.REFUSED_CALL: lambda: RequestRefusedError(HOST, 400, "bad"),
    }
    if fault in errors:
        error = errors[fault]()
        raise error


def _remote(contact: FakeContact) -> RemoteContact:
    return RemoteContact(
        replace_identity(contact.identity),
        dict(contact.attributes),
        frozenset(contact.list_ids),
        contact.is_blocked,
    )


def replace_identity(identity: Identity) -> Identity:
    """Return an address as a provider gives it back: the e-mail in lower case."""
    email = identity.email.lower() if identity.email else None
    return msgspec.structs.replace(identity, email=email)
