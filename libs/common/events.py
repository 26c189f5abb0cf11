"""What travels over Kafka: one type per meaning, one topic per audience (PROTOCOL.md 2).

Promises: records are JSON bodies of frozen structs; unknown fields are ignored, so a newer
producer may talk to an older consumer; a field is only ever added, with a default. What a
record is (id, type, source, time, trace) stands in its CloudEvents headers, not in its body.
`contacts.*` carry contact data and are kept for 7 days at most.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar
from uuid import UUID

import msgspec

from libs.common.errors import MalformedEventError

CHANGES_MAX = 500  # Changes in one part of a page.
CHANGED_BYTES_MAX = 512 * 1024  # Bytes in one part: two fit the broker's 1 MiB with headers.
# Bytes of a part once mapped; a quarter of the broker's 1 MiB is left for what an estimate leaves
# out. An effect's ids, versions, hash and JSON's own signs, and its address, are estimated.
MAPPED_BYTES_MAX = 768 * 1024
EFFECT_BYTES = 256
EMAIL_CHARACTERS_MAX = 254  # libs/common/email.py


class Topic(StrEnum):
    """Every topic; its dead letters are the same with `.dead`."""

    CONTACTS_CHANGED = "contacts.changed.v1"
    CONTACTS_MAPPED = "contacts.mapped.v1"
    CONTACTS_SETTLED = "contacts.settled.v1"
    QUOTA_CHANGED = "quota.changed.v1"
    INTEGRATIONS_CHANGED = "integrations.changed.v1"

    @property
    def dead(self) -> str:
        """Return where undecodable records of this topic go."""
        return f"{self.value}.dead"


class Operation(StrEnum):
    """What a change wants to happen to a contact."""

    UPSERT = "upsert"
    DELETE = "delete"
    LEAVE = "leave"


class RunMode(StrEnum):
    """A full read of everything that matches, or changes since the last position."""

    FULL = "full"
    CHANGES = "changes"


def empty_object() -> msgspec.Raw:
    """Return `{}` as it stands in a body; a factory, because a schema cannot show a Raw default."""
    return msgspec.Raw(b"{}")


class Struct(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of what is nested in an event."""


class Event(Struct, frozen=True, kw_only=True, tag_field="type", tag=str.lower):
    """Base of all events; the body's `type` tells the events of one topic apart."""

    topics: ClassVar[frozenset[Topic]] = frozenset()

    id: UUID


class Change(Struct, frozen=True, kw_only=True, gc=False):
    """One contact as the source gave it, with the provider's modification time."""

    id: str
    op: Operation
    version_ms: int
    merged_from: list[str] = []
    properties: msgspec.Raw = msgspec.field(default_factory=empty_object)


class Changed(Event, frozen=True, kw_only=True, tag="changed"):
    """Up to 500 changes of one integration from one provider page, or a part of one.

    `properties` are the source fields that were asked for under `mapping_version`; a field
    asked for and absent or null at the provider is null in the contact. `phones_stay`: a phone
    that is null changes nothing at the destination, by a rule of the source's provider (SF6).
    """

    topics: ClassVar[frozenset[Topic]] = frozenset({Topic.CONTACTS_CHANGED})

    id: UUID
    workspace: UUID
    integration: UUID
    run: UUID
    run_no: int
    mode: RunMode
    fencing: int
    page: int
    part: int
    mapping_version: int
    properties: list[str]
    changes: list[Change]
    phones_stay: bool = False


class RunRead(Event, frozen=True, kw_only=True, tag="run_read"):
    """A run has read all it will read: how much, and whether the read was complete.

    It follows the last page through every topic: the writer decides e-mail changes by it,
    activity knows by it how many parts to wait for. `pages` and `parts` count what was
    published, deletions and leavers included; `totals` are the provider's own.
    """

    topics: ClassVar[frozenset[Topic]] = frozenset(
        {Topic.CONTACTS_CHANGED, Topic.CONTACTS_MAPPED, Topic.CONTACTS_SETTLED}
    )

    id: UUID
    workspace: UUID
    integration: UUID
    destination: UUID | None = None
    run: UUID
    run_no: int
    mode: RunMode
    fencing: int
    mapping_version: int
    pages: int
    parts: int
    read: int
    left_out: int = 0
    total_before: int | None = None
    total_after: int | None = None
    complete: bool = True


class Identity(Struct, frozen=True, kw_only=True, gc=False):
    """The address a contact is known by at a destination: e-mail, else SMS."""

    email: str | None = None
    sms: str | None = None

    @property
    def key(self) -> str | None:
        """Return the one address that must be unique in an integration; None without any."""
        return self.email or self.sms


class Effect(Struct, frozen=True, kw_only=True, gc=False):
    """One intended write: attributes are encoded once and spliced as they are (`Raw`).

    `attributes` is a JSON object of destination attribute → value, null to clear; `hash` is
    the blake2b (16 bytes) of identity and attributes. Both are empty for delete and leave.
    """

    id: str
    op: Operation
    version_ms: int
    identity: Identity = Identity()
    attributes: msgspec.Raw = msgspec.field(default_factory=empty_object)
    hash: bytes = b""
    merged_from: tuple[str, ...] = ()  # A list for each of thousands would be one too many.


class Mapped(Event, frozen=True, kw_only=True, tag="mapped"):
    """One part of a page, mapped by the mapping version it was read under."""

    topics: ClassVar[frozenset[Topic]] = frozenset({Topic.CONTACTS_MAPPED})

    id: UUID
    workspace: UUID
    integration: UUID
    destination: UUID
    run: UUID
    run_no: int
    mode: RunMode
    fencing: int
    page: int
    part: int
    mapping_version: int
    effects: list[Effect] = []
    rejected: list[tuple[str, int, str]] = []  # id, version_ms, reason code.
    filtered: list[tuple[str, int]] = []  # id, version_ms.


DIRECT = "direct"  # The stage of what a batch settled at once; else `import:<id>`, `drain:<id>`.


class Settled(Event, frozen=True, kw_only=True, tag="settled"):
    """How the contacts of one part ended, grouped by kind (PROTOCOL.md 8).

    Of one (run, page, part) there is one `direct` record; an import resolves what it called
    `importing` in a stage of its own, a drain adds stages outside the run's sum.
    """

    topics: ClassVar[frozenset[Topic]] = frozenset({Topic.CONTACTS_SETTLED})

    id: UUID
    workspace: UUID
    integration: UUID
    run: UUID
    run_no: int
    page: int
    part: int
    stage: str = DIRECT
    created: list[str] = []
    updated: list[str] = []
    removed: list[str] = []
    unchanged: int = 0
    superseded: int = 0
    filtered: int = 0
    rejected: list[tuple[str, str]] = []
    parked: list[tuple[str, str]] = []
    warned: list[tuple[str, str]] = []  # Written, with a remark (phone left out).
    importing: int = 0


class QuotaKind(StrEnum):
    """What happened to a workspace's quota."""

    THRESHOLD = "threshold"
    LIMIT_CHANGED = "limit_changed"
    REQUEST_OPENED = "request_opened"
    REQUEST_GRANTED = "request_granted"
    REQUEST_DECLINED = "request_declined"
    DRIFT = "drift"


class QuotaChanged(Event, frozen=True, kw_only=True, tag="quota_changed"):
    """A decision of the ledger: `threshold` is 80 or 100, `both` says 80 came with 100.

    Of a request for more (Q4), `limit` is what is in force after the decision.
    """

    topics: ClassVar[frozenset[Topic]] = frozenset({Topic.QUOTA_CHANGED})

    id: UUID
    kind: QuotaKind
    workspace: UUID
    period: str  # First day of the UTC month, YYYY-MM-DD.
    limit: int
    revision: int
    used: int
    threshold: int | None = None
    both: bool = False
    at: str = ""  # RFC 3339, the database's clock.
    request: UUID | None = None
    wanted: int | None = None  # The limit that was asked for.
    is_for_period: bool = False  # Granted for this month only.
    words: str = ""  # Why it is asked for; once decided, what the operator says to the people.
    # Of a drift that reconciliation found: which check, and by how much what is kept exceeds what
    # it is held against. It is the operator's to see.
    check: str = ""
    drift: int | None = None


class IntegrationKind(StrEnum):
    """What happened to an integration that a person should hear of."""

    ERROR = "error"
    RECOVERED = "recovered"
    NEEDS_REAUTH = "needs_reauth"
    NEEDS_CONFIRMATION = "needs_confirmation"
    FIRST_RUN_COMPLETE = "first_run_complete"


class IntegrationChanged(Event, frozen=True, kw_only=True, tag="integration_changed"):
    """A change of an integration's health; `reason` is a stable code."""

    topics: ClassVar[frozenset[Topic]] = frozenset({Topic.INTEGRATIONS_CHANGED})

    id: UUID
    kind: IntegrationKind
    workspace: UUID
    integration: UUID
    connection: UUID | None = None
    run: UUID | None = None
    reason: str = ""
    at: str = ""


_BY_TOPIC: Mapping[Topic, msgspec.json.Decoder[Event]] = {
    Topic.CONTACTS_CHANGED: msgspec.json.Decoder(Changed | RunRead),
    Topic.CONTACTS_MAPPED: msgspec.json.Decoder(Mapped | RunRead),
    Topic.CONTACTS_SETTLED: msgspec.json.Decoder(Settled | RunRead),
    Topic.QUOTA_CHANGED: msgspec.json.Decoder(QuotaChanged),
    Topic.INTEGRATIONS_CHANGED: msgspec.json.Decoder(IntegrationChanged),
}
_ENCODER = msgspec.json.Encoder()


def encode(event: Event) -> bytes:
    """Return the body of a record."""
    return _ENCODER.encode(event)


def decode(topic: Topic, body: bytes | None) -> Event:
    """Return the event of a record's body; raise MalformedEventError if it is none."""
    if body is None:
        raise MalformedEventError(topic, "no body")
    try:
        return _BY_TOPIC[topic].decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedEventError(topic, type(error).__name__) from error
