"""The words the writer thinks in: what a contact is wanted to be, and what is known of it.

Everything here is a value without I/O. `Task` is also the persisted form of an open unit of quota
(`delivery.intents`): it says what was to be written so fully that another owner of the
destination can repeat it, read it back, or park it (PROTOCOL.md 5).
"""

import functools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from typing import NamedTuple, cast
from uuid import UUID

import msgspec
from asyncpg.pgproto import pgproto
from msgspec.structs import replace

from libs.common import ids
from libs.common.events import Identity, Operation
from libs.connectors.contract import Write

HASH_BYTES = 16
NO_IDENTITY = Identity()
_HASHER = blake2b(digest_size=HASH_BYTES)  # A copy costs half of what making one does.


@functools.lru_cache(maxsize=4096)
def shared(id_: UUID) -> UUID:
    """Return the one object of this process for an id that thousands of contacts have in common.

    It equals the id and hashes like it, but in C, and compared with itself it needs no look
    inside: a batch's contacts are looked up in dictionaries some eighty times each.
    """
    return cast("UUID", pgproto.UUID(id_.bytes))


class Version(msgspec.Struct, frozen=True, order=True, gc=False):
    """How new a state of a contact is: the provider's clock, then the run that read it."""

    ms: int
    run_no: int


class ContactId(msgspec.Struct, frozen=True, order=True, cache_hash=True, gc=False):
    """A source contact of an integration.

    No tuple: thousands of those are looked at by the garbage collector, again and again.
    """

    integration: UUID
    source_id: str


class Place(msgspec.Struct, frozen=True, order=True, cache_hash=True, gc=False):
    """An address in an integration, where it belongs to one contact; as `identity_key` has it."""

    integration: UUID
    address: str


class PartId(msgspec.Struct, frozen=True, array_like=True, cache_hash=True, gc=False):
    """One part of one page of a run: what outcomes are counted by."""

    integration: UUID
    run: UUID
    run_no: int
    page: int
    part: int


class Wish(StrEnum):
    """What a version of a contact asks for; a link remembers it of its newest version."""

    UPSERT = "upsert"
    DELETE = "delete"
    LEAVE = "leave"
    FILTERED = "filtered"
    REJECTED = "rejected"


TOMBSTONES = frozenset({Wish.DELETE, Wish.LEAVE})


def is_older(version: Version, wish: Wish, other: Version, other_wish: Wish) -> bool:
    """Return whether a version is older than another (PROTOCOL.md 1).

    Against a tombstone only the run counts, because a tombstone has no modification time of its
    own; on a tie the tombstone is the newer.
    """
    is_tombstone, other_is_tombstone = wish in TOMBSTONES, other_wish in TOMBSTONES
    if is_tombstone == other_is_tombstone:
        return version < other
    if version.run_no == other.run_no:
        return other_is_tombstone
    return version.run_no < other.run_no


def identity_key(identity: Identity) -> str | None:
    """Return the one address that is unique in an integration, compared without case."""
    if identity.email:
        return identity.email.lower()
    return identity.sms or None


def digest(content: bytes) -> bytes:
    """Return the 16 bytes that content is compared by."""
    hasher = _HASHER.copy()
    hasher.update(content)
    return hasher.digest()


class Wanted(msgspec.Struct, frozen=True, gc=False):
    """The newest state that one contact is wanted in, live or from its parked row.

    `approved` is the address of an e-mail change that a run's end allowed. `fencing` is the token
    that a live record was published under: a deletion or leave whose run has another one does not
    count. `is_parked` says that it comes from its contact's parked row, `must_be_single` that an
    import has failed it already.
    """

    contact: ContactId
    wish: Wish
    version: Version
    part: PartId
    mapping_version: int
    identity: Identity = NO_IDENTITY
    attributes: bytes = b"{}"
    hash: bytes = b""
    merged_from: tuple[str, ...] = ()
    reason: str = ""
    approved: str | None = None
    fencing: int | None = None
    counts: bool = True
    is_parked: bool = False
    must_be_single: bool = False


class LinkState(StrEnum):
    """Whether a source contact stands at the destination because of us."""

    LINKED = "linked"
    REMOVED = "removed"
    NONE = "none"


class Link(msgspec.Struct, frozen=True, gc=False):
    """What is known of a source contact at the destination; `hash` is what was last written."""

    contact: ContactId
    state: LinkState
    version: Version
    wish: Wish
    identity: Identity = NO_IDENTITY
    hash: bytes = b""
    content_hash: bytes = b""
    refused: str | None = None
    removed_by_us: bool = False
    needs_recheck: bool = False
    # In the turn in which a survivor takes over the link of one who was merged into it: whose.
    taken_from: str | None = None

    @property
    def key(self) -> str | None:
        """Return the address it holds; None for one that never had or let go of it."""
        return identity_key(self.identity)

    def at_least(self, version: Version, wish: Wish) -> "Link":
        """Return the link with a version that is not older than it was."""
        if is_older(version, wish, self.version, self.wish):
            return self
        return replace(self, version=version, wish=wish)

    def merged_away(self, run_no: int) -> "Link":
        """Return the tombstone of a contact that lives on in another, which has its address now."""
        return replace(
            self,
            state=LinkState.REMOVED,
            wish=Wish.DELETE,
            version=Version(self.version.ms, max(self.version.run_no, run_no)),
            identity=Identity(),
        )


class Parked(msgspec.Struct, frozen=True, gc=False):
    """What must be known of a parked row to judge a newer or an older version of its contact."""

    version: Version
    wish: Wish
    reason: str
    key: str | None
    approved: str | None
    merged_from: tuple[str, ...] = ()


class Kind(StrEnum):
    """The ways a contact is written."""

    UPSERT = "upsert"
    OLD_ADDRESS = "old_address"  # Other fields, while the change of address waits or was refused.
    MOVE = "move"
    LEAVE = "leave"


class Task(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One effect to be had at the destination, complete enough to survive its process.

    `is_extra` marks the write to the old address whose change is parked beside it; `was_linked`
    makes it an update. `merged` are contacts whose links end with this write.
    """

    integration: UUID
    source_id: str
    kind: Kind
    wish: Wish
    version_ms: int
    run_no: int
    run: UUID
    page: int
    part: int
    mapping_version: int
    list_id: str
    key: bytes
    email: str | None = None
    sms: str | None = None
    hash: bytes = b""
    content_hash: bytes = b""
    attributes: msgspec.Raw = msgspec.Raw(b"{}")
    known_email: str | None = None
    known_sms: str | None = None
    join_list: bool = False
    was_linked: bool = False
    is_extra: bool = False
    is_refused_change: bool = False
    is_late: bool = False  # From a drain: outside the sum of its run (PROTOCOL.md 8).
    merged: list[str] = []
    # Of a two-way integration: compared before it is sent, for one record alone if that is known.
    is_paired: bool = False
    record: str | None = None

    @property
    def contact(self) -> ContactId:
        """Return whose effect this is."""
        return ContactId(self.integration, self.source_id)

    @property
    def version(self) -> Version:
        """Return the version it writes."""
        return Version(self.version_ms, self.run_no)

    @property
    def identity(self) -> Identity:
        """Return the address it writes to, or the new one of a move."""
        return Identity(email=self.email, sms=self.sms)

    @property
    def known_as(self) -> Identity | None:
        """Return the address the contact has at the destination; None if it was never there."""
        if self.known_email or self.known_sms:
            return Identity(email=self.known_email, sms=self.known_sms)
        return None

    @property
    def of_part(self) -> PartId:
        """Return the part that its outcome is counted with."""
        return PartId(self.integration, self.run, self.run_no, self.page, self.part)

    def write(self) -> Write:
        """Return the effect as a destination takes it; of a record there is no list to leave."""
        return Write(
            op=Operation.LEAVE if self.kind is Kind.LEAVE else Operation.UPSERT,
            identity=self.identity,
            attributes=bytes(self.attributes),
            list_id=self.list_id,
            known_as=self.known_as,
            join_list=self.join_list,
            record=self.record,
        )

    def anew(self) -> "Task":
        """Return it as a creation, after the destination said that the contact is not there."""
        return msgspec.structs.replace(self, known_email=None, known_sms=None, join_list=True)


class Head(msgspec.Struct, frozen=True, cache_hash=True, gc=False):
    """What the contacts of one part have in common, said once for all of them."""

    part: PartId
    mapping_version: int
    list_id: str
    is_late: bool = False  # From a drain: outside the sum of its run (PROTOCOL.md 8).


class ImportRow(msgspec.Struct, frozen=True, gc=False):
    """A first link that goes by import, and the unit of quota that is its contact's.

    Thousands at a time are made, kept, sent, compared and linked, so a row has what differs from
    the others of its part, and nothing else. `task` is the same effect as one that goes singly.
    """

    contact: ContactId
    place: Place
    head: Head
    write: Write
    version_ms: int
    hash: bytes
    key: bytes
    was_linked: bool = False

    @property
    def version(self) -> Version:
        """Return the version it writes."""
        return Version(self.version_ms, self.head.part.run_no)

    @property
    def task(self) -> Task:
        """Return the effect as one of its own."""
        part, write = self.head.part, self.write
        return Task(
            integration=part.integration,
            source_id=self.contact.source_id,
            kind=Kind.UPSERT,
            wish=Wish.UPSERT,
            version_ms=self.version_ms,
            run_no=part.run_no,
            run=part.run,
            page=part.page,
            part=part.part,
            mapping_version=self.head.mapping_version,
            list_id=write.list_id,
            key=self.key,
            email=write.identity.email,
            sms=write.identity.sms,
            hash=self.hash,
            content_hash=digest(write.attributes),
            attributes=msgspec.Raw(write.attributes),
            join_list=True,
            was_linked=self.was_linked,
            is_late=self.head.is_late,
        )

    @property
    def wanted(self) -> Wanted:
        """Return the state that its contact is wanted in, as a record brought it."""
        return Wanted(
            contact=self.contact,
            wish=Wish.UPSERT,
            version=self.version,
            part=self.head.part,
            mapping_version=self.head.mapping_version,
            identity=self.write.identity,
            attributes=self.write.attributes,
            hash=self.hash,
        )


def row_of(task: Task) -> ImportRow:
    """Return an effect that an import can take as a row of it."""
    head = Head(task.of_part, task.mapping_version, task.list_id, task.is_late)
    return ImportRow(
        task.contact,
        Place(task.integration, identity_key(task.identity) or ""),
        head,
        task.write(),
        task.version_ms,
        task.hash,
        task.key,
        task.was_linked,
    )


class Unit(msgspec.Struct, frozen=True, gc=False):
    """One unit of quota that belongs to a contact until it is posted or released."""

    task: Task
    intent: UUID
    hold: UUID
    in_import: bool = False
    is_doubtful: bool = False  # From before: its call may have happened.

    def is_for(self, wanted: Wanted) -> bool:
        """Return whether repeating the unit's own effect is what is wanted."""
        return (
            self.task.version == wanted.version
            and self.task.wish == wanted.wish
            and self.task.hash == wanted.hash
            and self.task.kind in {Kind.UPSERT, Kind.LEAVE}
            and (wanted.wish in TOMBSTONES or self.task.identity == wanted.identity)
        )


def claims_of(task: Task) -> Iterator[tuple[Place, str]]:
    """Yield which addresses an open unit takes, and for whom.

    A move takes the one that it comes from as well: who was written there meanwhile, because a
    tombstone lets go of it, would be moved in its place.
    """
    if task.kind is Kind.LEAVE:
        return
    key = task.email.lower() if task.email else task.sms
    if key:
        yield Place(task.integration, key), task.source_id
    if task.kind is Kind.MOVE:
        old = task.known_email.lower() if task.known_email else task.known_sms
        if old:
            yield Place(task.integration, old), task.source_id


class EffectSeed(NamedTuple):
    """What makes one effect another than the rest of its contact's."""

    kind: Kind
    identity: str | None
    hash: bytes


def effect_key(contact: ContactId, version: Version, seed: EffectSeed) -> bytes:
    """Return the id that makes charging for an effect idempotent (PROTOCOL.md 1)."""
    keys = ids.EffectKeys(contact.integration, version.run_no, seed.kind)
    return keys.of(contact.source_id, version.ms, seed.identity, seed.hash)


class IntegrationState(StrEnum):
    """The states of `config.integrations` that matter here."""

    ACTIVE = "active"
    PAUSED = "paused"
    DRAFT = "draft"
    ERROR = "error"
    ARCHIVED = "archived"


@dataclass(frozen=True, slots=True)
class Integration:
    """What the writer must know of an integration.

    `importer_of` is the external account whose share it takes from (AC5); empty: it needs none.
    """

    integration: UUID
    workspace: UUID
    state: IntegrationState
    removes_leavers: bool
    email_change_policy: str
    list_id: str
    importer_of: str = ""
    # Of a two-way integration: its other flow, and whether this one is the way back.
    partner: UUID | None = None
    is_way_back: bool = False

    @property
    def is_two_way(self) -> bool:
        """Return whether what it writes is compared with the other side first."""
        return self.partner is not None

    @property
    def leading(self) -> UUID:
        """Return the flow that leads there: the pairs are named by it."""
        is_back = self.is_way_back and self.partner is not None
        return self.partner if is_back and self.partner else self.integration


@dataclass(frozen=True, slots=True)
class Run:
    """What the writer must know of a run: `is_outdated` if a newer full run makes it needless."""

    fencing: int
    is_abandoned: bool
    is_outdated: bool


class SeenLink(msgspec.Struct, frozen=True, gc=False):
    """A link at a glance; `is_plain`: linked by an upsert, not suspect, no address refused."""

    version_ms: int
    run_no: int
    hash: bytes | None
    is_plain: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of an integration's contacts at a glance.

    `parked` says of each parked row whether others were merged into its contact; `owned` are
    addresses of linked contacts, looked for only on behalf of contacts without a link, and those of
    tombstones whose own contacts are among these: they may be back for them.
    """

    links: Mapping[str, SeenLink]
    parked: Mapping[str, bool]
    owned: Collection[str]


@dataclass(slots=True)
class View:
    """Everything that a batch is judged by; `claims` grow while it is judged.

    `units` are those of single effects, `importing` the rows of imports under way. `owners` says
    who holds an address: linked contacts only. `blocked` is the reason why nothing
    can be written to the destination now. A probe looks past an integration's error.
    """

    integrations: Mapping[UUID, Integration] = field(default_factory=dict)
    runs: Mapping[UUID, Run] = field(default_factory=dict)
    links: dict[ContactId, Link] = field(default_factory=dict)
    owners: dict[Place, str] = field(default_factory=dict)
    parked: Mapping[ContactId, Parked] = field(default_factory=dict)
    units: Mapping[ContactId, Unit] = field(default_factory=dict)
    importing: Mapping[ContactId, ImportRow] = field(default_factory=dict)
    blocked: str | None = None
    is_probe: bool = False
    is_open: bool = True
    claims: dict[Place, str] = field(default_factory=dict)
    # Addresses of open units are taken, like those of links.
    held: Mapping[Place, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Find out who holds an address by an open unit, unless the caller keeps account of it."""
        if not self.held:
            self.held = {
                **dict(claim for unit in self.units.values() for claim in claims_of(unit.task)),
                **{row.place: row.contact.source_id for row in self.importing.values()},
            }

    def owner(self, contact: ContactId, key: str) -> str | None:
        """Return which other contact of the integration holds an address, if one does."""
        place = Place(contact.integration, key)
        for holders in (self.owners, self.claims, self.held):
            holder = holders.get(place)
            if holder is not None and holder != contact.source_id:
                return holder
        return None

    def is_claimed(self, contact: ContactId, key: str) -> bool:
        """Return whether another contact is being written to an address without a linked one."""
        place = Place(contact.integration, key)
        return place not in self.owners and self.owner(contact, key) is not None
