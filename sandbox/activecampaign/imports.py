"""The importer: rows that are checked at once, and carried out later.

From its page: all rows are checked before any is queued; an address of the exclusion list is
skipped with the call already, and told among the failures later; a row fails whose contact left a
list that it would be put on, whose address bounced, or that is one contact too many. Why a row
failed is not told. Names that the importer does not know are ignored.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from sandbox.activecampaign import errors, values
from sandbox.activecampaign.contacts import UNSUBSCRIBED, Change, Contact, Contacts
from sandbox.activecampaign.fields import Fields, Tags
from sandbox.activecampaign.lists import Lists
from sandbox.activecampaign.triggers import Cause
from sandbox.calls import Writes

CONTACTS_MAX, BYTES_MAX = 250, 399_999
ENDPOINT = "POST /api/3/import/bulk_import"
NOT_QUEUED = (
    "JSON payload did not pass validation. Please fix failureReasons and retry. "
    "The import was not queued for processing."
)
UNSEEN_SHARE = 0.1  # Of its time, in which an import is not known yet: its status is `false`.


class RowValue(msgspec.Struct):
    id: int | str
    value: str | int | float | None = None


class ListRef(msgspec.Struct):
    listid: int | str


class Row(msgspec.Struct):
    """One contact of an import; what else it holds is ignored, as camelCase names are."""

    email: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    phone: str | None = None
    tags: list[str] = []
    fields: list[RowValue] = []
    subscribe: list[ListRef] = []
    unsubscribe: list[ListRef] = []
    exclude_automations: bool = False


class Callback(msgspec.Struct):
    """Who is to be told; stored and given back by /_sandbox/state, never called."""

    url: str
    request_type: str = msgspec.field(name="requestType")
    params: list[Any] = []
    headers: list[Any] = []


class ImportBody(msgspec.Struct):
    contacts: list[Row] = []
    callback: Callback | None = None
    exclude_automations: bool = False


@dataclass(slots=True)
class Batch:
    """One import and how far it is; times in seconds since 1970."""

    id: str
    rows: Sequence[Row]
    created_s: float
    due_s: float
    callback: Callback | None = None
    is_applied: bool = False
    outcome: str = "completed"
    left_out: int = 0  # Good rows that were silently not applied.
    success: list[str] = field(default_factory=list)
    failure: list[str] = field(default_factory=list)

    def status_at(self, now_s: float) -> str | bool:
        """Return the status that is told: at first the import is not even known."""
        if self.is_applied:
            return self.outcome
        share = (now_s - self.created_s) / max(self.due_s - self.created_s, 1e-9)
        if share < UNSEEN_SHARE:
            return False
        return "waiting" if share < 1 / 3 else "claimed" if share < 1 / 2 else "active"


class Target(Protocol):
    """What an import writes to: the account, as far as it matters here."""

    contacts: Contacts
    fields: Fields
    lists: Lists
    tags: Tags
    writes: Writes
    excluded: set[str]

    @property
    def has_room(self) -> bool: ...

    @property
    def now_s(self) -> float: ...


def check(body: ImportBody, size: int) -> None:
    """Refuse an import of which anything is wrong: nothing is queued then."""
    if not body.contacts:
        errors.not_imported(NOT_QUEUED, ["Field 'contacts' not found"])
    if len(body.contacts) > CONTACTS_MAX or size > BYTES_MAX:
        too_large = f"An import has at most {CONTACTS_MAX} contacts and {BYTES_MAX} bytes"
        errors.not_imported(NOT_QUEUED, [too_large])
    reasons = [
        {"contact": place, "failureReason": flaw}
        for place, row in enumerate(body.contacts, start=1)
        if (flaw := _flaw(row))
    ]
    if reasons:
        errors.not_imported(NOT_QUEUED, reasons)


def _flaw(row: Row) -> str | None:
    if not row.email:
        return "Field 'email' not found"
    if values.email(row.email) is None:
        return f"Email '{row.email}' is not valid"
    return None


def carry_out(target: Target, batch: Batch, cause: Cause, *, silent_share: float) -> None:
    """Apply the rows of an import; one that does not complete ends after half of them."""
    rows = batch.rows if batch.outcome == "completed" else batch.rows[: len(batch.rows) // 2]
    for row in rows:
        email = values.email(row.email or "")
        assert email is not None, "every row was checked"
        if _is_left_out(batch, email, silent_share):
            batch.left_out += 1
        elif _is_refused(target, row, email):
            batch.failure.append(email)
        else:
            batch.success.append(str(_apply(target, row, email, cause).id))
    batch.is_applied = True


def _is_left_out(batch: Batch, email: str, share: float) -> bool:
    """Tell whether a row is one of the share that silently fails; the same for the same import."""
    if share <= 0:
        return False
    digest = hashlib.blake2b(f"{batch.id}:{email}".encode()).digest()
    return int.from_bytes(digest[:4]) < share * 2**32


def _is_refused(target: Target, row: Row, email: str) -> bool:
    if email in target.excluded:
        return True
    contact = target.contacts.owner(email)
    if contact is None:
        return not target.has_room
    return contact.is_bounced or any(
        contact.status(int(each.listid)) == UNSUBSCRIBED for each in row.subscribe
    )


def _apply(target: Target, row: Row, email: str, cause: Cause) -> Contact:
    change = Change(
        first_name=row.first_name,
        last_name=row.last_name,
        phone=row.phone,
        values={
            int(each.id): "" if each.value is None else str(each.value)
            for each in row.fields
            if str(each.id).isdecimal() and int(each.id) in target.fields
        },
    )
    contact = target.contacts.owner(email)
    created = contact is None
    if contact is None:
        contact = target.contacts.create(email, change, cause)
    else:
        target.contacts.apply(contact, change, cause)
    for each in row.subscribe:
        if int(each.listid) in target.lists:
            target.contacts.subscribe(contact, int(each.listid), cause)
    for each in row.unsubscribe:
        if int(each.listid) in target.lists:
            target.contacts.unsubscribe(contact, int(each.listid), cause)
    for name in row.tags:
        target.contacts.tag(contact, target.tags.named(name, target.now_s).id, cause)
    target.writes.add(
        ENDPOINT,
        identity=email,
        attributes=msgspec.to_builtins(row),
        contact_id=contact.id,
        created=created,
    )
    return contact
