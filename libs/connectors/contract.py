"""What a provider must do to be a source or a destination.

A connector talks to one provider account and does nothing else: it keeps no state between
calls, starts no task that outlives a call, writes no log and reads no setting. Whoever calls it
owns retries, rate budgets, quota, cursors and metrics. In return every connector keeps these
promises, and `tests/connectors/conformance.py` holds each of them to account:

1. It raises only the errors of `libs.common.errors`.
2. A cursor is opaque to the caller. Reading twice from one cursor loses nothing.
3. A page is bounded, and `read_page` returns even if nothing changed.
4. Writing a contact twice leaves the provider as writing it once.
5. `write` answers for each effect, in the order given. It raises only when it can say nothing
   about any of them.
6. Before each HTTP call it asks its `Gate` for a slot in the call's bucket, and tells the gate
   of every answer that says a limit was reached.
7. It never touches consent: no call makes an unsubscribed or blocked contact active (S3).
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NewType, Protocol
from uuid import UUID

import msgspec

from libs.common.csvfile.rows import Chunk, StoredFile
from libs.common.events import Change, Identity, Operation

Cursor = NewType("Cursor", str)


class FieldType(StrEnum):
    """The kinds of value a field may hold, the same words for all providers."""

    TEXT = "text"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATE = "date"
    DATETIME = "datetime"
    CATEGORY = "category"
    MULTIPLE_CHOICE = "multiple_choice"
    EMAIL = "email"
    PHONE = "phone"
    UNTYPED = "untyped"  # Text that may be read as any kind: a cell of a file.
    OTHER = "other"


class NotMappable(StrEnum):
    """Why a source field is not offered (S6, S7)."""

    BOOLEAN = "boolean"
    CATEGORY = "category"
    READ_ONLY = "read_only"
    CALCULATED = "calculated"
    HIDDEN = "hidden"
    MULTIPLE_VALUES = "multiple_values"
    UNSUPPORTED_TYPE = "unsupported_type"


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a source object, or an attribute of a destination.

    `not_mappable` is None for what may be mapped. `unique` fields identify a contact.
    `length_max` is in characters, None where the provider names none.
    """

    name: str
    label: str
    type: FieldType
    not_mappable: NotMappable | None = None
    unique: bool = False
    length_max: int | None = None


@dataclass(frozen=True, slots=True)
class SourceObject:
    """A kind of record that can be synced (contacts, leads), and whether a list narrows it."""

    name: str
    label: str
    needs_list: bool


@dataclass(frozen=True, slots=True)
class ContactList:
    """A list, segment, group or campaign; `size` as the provider counts, None if it does not.

    `changed_at_ms` tells by how little one may know that nobody joined or left; None: unknown.
    """

    id: str
    name: str
    size: int | None = None
    changed_at_ms: int | None = None
    is_deleted: bool = False


@dataclass(frozen=True, slots=True)
class Account:
    """Who a credential belongs to. `time_zone` is where the provider's day begins (IANA)."""

    id: str
    name: str
    time_zone: str = "UTC"
    tier: str | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """A provider's own limit on a bucket of calls: `calls` in any window of `window_s`.

    `scope` says whose it is: `account` (the connected one) or `application` (our client id).
    `per_day` is counted until midnight in the account's zone; None: no daily limit.
    """

    bucket: str
    calls: int
    window_s: float
    scope: str = "account"
    per_day: int | None = None


@dataclass(frozen=True, slots=True)
class OAuthFacts:
    """The provider's authorisation server; addresses are full URLs.

    `parameters` are what its page takes besides those of RFC 6749.
    """

    authorize_url: str
    token_url: str
    revoke_url: str | None
    scopes: Sequence[str]
    uses_pkce: bool
    # With the tokens comes where this account is called (`instance_url`).
    tells_account_url: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the platform knows of a provider without asking it."""

    provider: str
    label: str
    is_source: bool
    is_destination: bool
    base_url: str
    hosts: Sequence[str]  # Names, or suffixes that start with a dot, that may be called.
    limits: Mapping[str, Sequence[Limit]]  # By tier; "" is the default tier.
    oauth: OAuthFacts | None = None
    objects: Sequence[SourceObject] = ()
    write_batch_max: int = 1  # Effects in one bulk call; 1: single calls only.
    import_rows_max: int | None = None  # None: no asynchronous import.
    import_rows_min: int = 50  # Fewer effects go singly (PROTOCOL 6).
    import_bytes_max: int = 6_000_000  # Of a body: Brevo asks for less than 8 MB.
    resumable_paging: bool = False
    # Changes are read from where the last sweep ended, by the provider's own token (`Sweep`).
    sweeps_by_position: bool = False
    # Of one run of changes, at most the newest so many contacts are fetched (CC4); None: all.
    bulk_fetch_cap: int | None = None
    # So many integrations may read one account (CC1, SF7); None: any number.
    integrations_per_account: int | None = None
    # Each account has an address of its own, which a person gives; `base_url` only shows its form.
    has_account_url: bool = False
    # Fields are made by themselves for whatever the source has (AC1).
    takes_automatic_imports: bool = False
    # Only workspaces on this plan may use it (SF1); None: all.
    plan: str | None = None
    # A phone that was emptied here stays as it is at the destination (SF6).
    phones_stay: bool = False
    # Both ways (SF3): of a source, its records can be written to; of a destination, what people
    # edit there can be read.
    takes_edits: bool = False
    tells_edits: bool = False
    # Its account sends events of edits to an address of ours (`Announcer`, `Heard`).
    sends_events: bool = False
    # An account is a series of files that people upload: there is no login and no call. A file
    # is read whole, by full runs; it tells who is there, and does not tell who is gone.
    reads_files: bool = False

    @property
    def accounts_have_urls(self) -> bool:
        """Return whether each account has an address of its own, whoever tells it."""
        return self.has_account_url or (self.oauth is not None and self.oauth.tells_account_url)

    @property
    def tiers(self) -> Sequence[str]:
        """Return the subscriptions by which the provider's limits differ, by name."""
        return [tier for tier in self.limits if tier]


class Gate(Protocol):
    """Who lets a call through: the shared rate budget, seen from a connector."""

    async def enter(self, bucket: str) -> None:
        """Wait for a slot; raise RateLimitedError if none comes within the caller's patience."""

    async def limited(self, bucket: str, retry_after_s: float) -> None:
        """Hear that the provider refused for `retry_after_s`, so that all callers stop."""


class OpenGate:
    """A gate without limits, for tests and for single interactive calls."""

    async def enter(self, bucket: str) -> None:
        """Let the call through."""

    async def limited(self, bucket: str, retry_after_s: float) -> None:
        """Do nothing."""


class TokenSupply(Protocol):
    """Where a connector gets the credential of its next call."""

    async def token(self) -> str:
        """Return a credential that is valid now; raise NeedsReauthError if there is none."""

    async def refused(self, token: str) -> None:
        """Hear that the provider refused this credential, so that the next one is fresh."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """What one run reads: fixed at its start, the same on every page.

    `since_ms` None reads everything that is there; else what changed from then to `until_ms`,
    both by the provider's clock, both inclusive. `list_id` narrows to a list's members.
    `position` is where the sweep before ended, of a provider that tells so (`Page.position`): it
    then says what changed, and the window does not count.
    """

    object: str
    list_id: str | None
    properties: Sequence[str]
    since_ms: int | None
    until_ms: int
    position: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some changes, and where the next page starts; `cursor` None: this was the last.

    `is_doubtful`: contacts left while the pages were read, so that another may have moved past
    them: this sweep proves nobody absent. `gone` are ids of whom a sweep of changes is told that
    they were deleted, or are not on the list (any more); ids that nobody knows do no harm.
    `is_narrowed`: a sweep of changes over a list tells of its members only, joiners among them.
    `position`, on the last page, is where the next sweep starts (`Sweep.position`).
    """

    changes: Sequence[Change]
    cursor: Cursor | None
    is_doubtful: bool = False
    gone: Sequence[str] = ()
    is_narrowed: bool = False
    position: str | None = None


@dataclass(frozen=True, slots=True)
class MemberPage:
    """Some members of a list by id; `is_doubtful` as of a `Page`."""

    ids: Sequence[str]
    cursor: Cursor | None
    is_doubtful: bool = False


# Told by a source where the page after this one starts, as soon as it knows; None: there is none.
Onward = Callable[[Cursor | None], Awaitable[None]]


async def alone(following: Cursor | None) -> None:
    """Let a page be read to its end: nobody asks for the next one meanwhile."""


class Source(Protocol):
    """An account that contacts are read from."""

    facts: Facts

    async def check(self) -> Account:
        """Return whose account this is; raise the reason if it cannot be read."""

    async def describe_fields(self, object_name: str) -> Sequence[Field]:
        """Return every field, also those that may not be mapped, with the reason."""

    async def find_lists(self, object_name: str) -> Sequence[ContactList]:
        """Return every list that contacts of this object may be in."""

    async def find_list(self, object_name: str, list_id: str) -> ContactList:
        """Return a list with fresh counts; raise MisconfiguredError(list_missing) if gone."""

    async def count(self, sweep: Sweep) -> int | None:
        """Return the provider's own total for a sweep; None where it tells none."""

    async def read_page(self, sweep: Sweep, after: Cursor | None, onward: Onward = alone) -> Page:
        """Return a page of a sweep; every contact that matches is on at least one page.

        Where the provider's paging cannot promise that, a page says so (`Page.is_doubtful`).

        A sweep over a list without `since_ms` reads its members; one with `since_ms` may also
        return contacts that are not members: the caller knows who is (`Page.is_narrowed`: not).
        Raises PositionLostError for a position that the provider does not take (any more).

        A source that knows the page's `cursor` before its contacts awaits `onward` with it, once,
        and reads them when that returns: so the caller may begin the next page meanwhile.
        """

    async def read_contacts(self, sweep: Sweep, ids: Sequence[str]) -> Sequence[Change]:
        """Return these contacts as they are now; ids that are gone are left out.

        A contact that was merged into another comes back under the surviving id, the id asked
        for in its `merged_from`.
        """

    async def read_members(
        self, object_name: str, list_id: str | None, after: Cursor | None
    ) -> MemberPage:
        """Return a page of a list's member ids; without a list, of all living contacts' ids."""


class Files(Protocol):
    """The files of one connection: what a source of files is opened over instead of HTTP."""

    @property
    def connection(self) -> UUID:
        """Return whose files these are."""

    async def current(self) -> StoredFile | None:
        """Return the newest file; None while nobody has confirmed one."""

    async def find(self, file_id: UUID) -> StoredFile | None:
        """Return a file of this connection; None if there is none of this id."""

    async def read_chunk(self, file_id: UUID, number: int) -> Chunk | None:
        """Return a chunk, counted from 0; None if the file is kept no longer."""


def identity_key(identity: Identity) -> str:
    """Return what two sights of one contact have in common: lower-cased e-mail, else digits."""
    if identity.email is not None:
        return identity.email.lower()
    return re.sub(r"\D+", "", identity.sms or "").removeprefix("00")


class Write(msgspec.Struct, frozen=True, gc=False):
    """One effect as a destination takes it.

    `attributes` is the mapped JSON object, identities included under the destination's own
    names where it wants them there. `known_as` is the address the contact has there now, None
    if it was never linked: with `identity` different, the contact moves to the new address.
    `join_list`: set list membership in this call (only on first link or after our removal).
    `record` is the id of the one record that may be written: on the way back (`Records`).
    """

    op: Operation
    identity: Identity
    attributes: bytes
    list_id: str
    known_as: Identity | None = None
    join_list: bool = False
    record: str | None = None


class Written(msgspec.Struct, frozen=True, gc=False):
    """The destination confirmed the effect; `warning` is a stable code such as phone_left_out."""

    warning: str | None = None


class Refused(msgspec.Struct, frozen=True, gc=False):
    """The destination refuses this one contact, for a reason of `libs.common.reasons.Reject`."""

    reason: str


class Missing(msgspec.Struct, frozen=True, gc=False):
    """The contact that should have been updated is not there (404)."""


class Taken(msgspec.Struct, frozen=True, gc=False):
    """The new address of an e-mail change belongs to another contact already."""


class Unknown(msgspec.Struct, frozen=True, gc=False):
    """The call was sent and its answer lost: it may or may not have been applied."""


class NotTried(msgspec.Struct, frozen=True, gc=False):
    """Nothing was sent for this effect: a limit, an outage or a lost lease came before it."""


Outcome = Written | Refused | Missing | Taken | Unknown | NotTried


@dataclass(frozen=True, slots=True)
class WriteReport:
    """An outcome for each write, in order; `stopped_by` is the error that left some NotTried."""

    outcomes: Sequence[Outcome]
    stopped_by: Exception | None = None


class RemoteContact(msgspec.Struct, frozen=True, gc=False):
    """A contact as it is at the destination now; attributes in the destination's own form.

    `left_list_ids` are lists that the person unsubscribed from: no write puts them back.
    Both ends of a two-way integration tell `id` and, by the provider's clock, `modified_ms`.
    """

    identity: Identity
    attributes: Mapping[str, Any]
    list_ids: frozenset[str] = frozenset()
    is_blocked: bool = False
    left_list_ids: frozenset[str] = frozenset()
    id: str = ""
    modified_ms: int = 0


# Rows of imports under way by their `identity_key`, those of each import for themselves: two may
# be waiting for one address.
Awaited = Sequence[Mapping[str, Write]]
# Which of them stand at the destination as they should, in the same order.
Arrived = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class ListPage:
    """Who of those awaited is on a page of a list; `cursor` None: this was the last page."""

    arrived: Arrived
    cursor: Cursor | None


@dataclass(frozen=True, slots=True)
class Screening:
    """For each address whether an import may take it, in order; and whom the look came across."""

    may: Sequence[bool]
    arrived: Arrived


class ImportState(StrEnum):
    """How an asynchronous import stands."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ImportStatus:
    """An import's state, and the identity keys of the rows that the provider says it refused.

    `refused` maps an `identity_key` to a code of `Reject`; it is complete only when the state
    is completed.
    """

    state: ImportState
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FoundImport:
    """An import in the provider's own list of processes, for adoption after a lost answer."""

    process_id: str
    state: ImportState


class Destination(Protocol):
    """An account that contacts are written to.

    Calls to one account are made by one caller at a time, under its lease: the gate is asked
    before every single HTTP call and raises LeaseLostError when the lease is gone.
    """

    facts: Facts

    async def check(self) -> Account:
        """Return whose account this is; raise the reason if it cannot be written to."""

    async def describe_attributes(self) -> Sequence[Field]:
        """Return every attribute with its type; the unique ones identify a contact."""

    async def make_attribute(self, name: str, type_: FieldType) -> None:
        """Create an attribute; return quietly if it exists with this type."""

    async def find_lists(self) -> Sequence[ContactList]:
        """Return every list."""

    async def make_list(self, name: str) -> ContactList:
        """Create a list and return it."""

    async def write(self, writes: Sequence[Write]) -> WriteReport:
        """Apply single effects, as many calls as it takes; stop at the first error for all."""

    async def read_back(self, identities: Sequence[Identity]) -> Sequence[RemoteContact | None]:
        """Return each contact as it is now, in the order asked; None for one that is absent."""

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
        """Return who of those awaited is on a page of a list, and holds what was written.

        Where `hoped` are more than a call returns, several calls may be made side by side.

        With `newest_first`, who came last is on the first page: sooner found, but somebody may be
        missed while others are taken off. Without, whoever stays is on one of the pages.
        With `since`, contacts that nobody touched after it may be left out (inclusive, by the
        provider's clock: take some minutes off). Pass the same on every page.
        """

    def matches(self, remote: RemoteContact, write: Write) -> bool:
        """Return whether the contact holds what the write wanted, by the provider's own forms.

        A phone comes back without its plus sign, a date in another layout: values that the
        provider normalises are compared normalised. An attribute the write does not name does
        not count.
        """

    def importable(self, writes: Sequence[Write]) -> Sequence[bool]:
        """Return of each write whether an import would do what it does (no moves, no booleans…)."""

    async def screen_import(self, keys: Sequence[str], awaited: Awaited = ()) -> Screening:
        """Return which importable writes, by their `identity_key`, may go by import.

        The others go singly.

        An import cannot look before it touches a contact, so only contacts that the account
        does not have yet may be in it (S3). None may if looking costs more than it saves. Ask
        before `start_import`, with all the writes that are meant for one import. Whoever comes in
        sight of those awaited is told of: rows of earlier imports, which then need not be read
        again.
        """

    async def start_import(self, writes: Sequence[Write], notify_url: str | None) -> str:
        """Start an asynchronous import of importable writes; return the provider's id."""

    async def import_status(self, process_id: str) -> ImportStatus:
        """Return how an import stands; costs a call of a scarce bucket."""

    async def find_imports(self, since: datetime) -> Sequence[FoundImport]:
        """Return the account's imports, newest first, that may be ours since then."""


class Records(Destination, Protocol):
    """A source's own account as the other end of a two-way integration: the way back (SF3).

    It only changes and deletes records that it is given by id (`Write.record`): it creates nobody,
    has no lists, and a write without a record is refused. A deletion (`Operation.DELETE` or
    `LEAVE`) deletes the record.
    """

    async def read_records(
        self, ids: Sequence[str], names: Sequence[str]
    ) -> Sequence[RemoteContact | None]:
        """Return these records as they are now, with these fields, in the order asked.

        Who was merged into another comes back as the survivor, under its id; None: it is gone.
        """


@dataclass(frozen=True, slots=True)
class Heard:
    """What events of a provider say: a hint that reading is worth while, never what is written.

    `gone` are the addresses, in lower case, of contacts that were deleted. `is_news` is False for
    events that concern nothing that is read.
    """

    is_news: bool
    gone: Sequence[str] = ()


class Announcer(Protocol):
    """An account that can be asked to send events of its contacts (`Facts.sends_events`)."""

    async def subscribe(self, url: str, token: str) -> str:
        """Have events sent to `url`, with `token` as bearer; return the subscription's id.

        Subscriptions to the same address that are left from before are ended.
        """

    async def unsubscribe(self, subscription: str) -> None:
        """End a subscription; return quietly if there is none."""
