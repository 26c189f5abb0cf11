"""Brevo's import: a bulk upsert that is accepted at once and carried out later.

What it does not do is as important as what it does (developers.brevo.com, importContacts, and the
reports of its users): an unknown attribute and an invalid phone are dropped from their row without
a word; a boolean `false` does not overwrite `true`; a row with an invalid address or somebody
else's identifier is left out and listed in a CSV file; and nothing lists the rows that went in.
With `import_silent_failures` a share of good rows is left out and listed nowhere.
"""

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from sandbox.brevo import values
from sandbox.brevo.attributes import Attributes, Taken
from sandbox.brevo.contacts import Change, Contact, Contacts
from sandbox.brevo.writes import VersionedWrites

IMPORT_BYTES_MAX = 10 * 1024 * 1024  # "Maximum allowed body size is 10MB"
ENDPOINT = "POST /v3/contacts/import"
# The report in which a row is listed whose identifier belongs to somebody else.
_REPORTS = {
    "EMAIL": "duplicate_email_id",
    "SMS": "duplicate_phone_id",
    "EXT_ID": "duplicate_ext_id",
    "WHATSAPP": "duplicate_whatsapp_id",
    "LANDLINE_NUMBER": "duplicate_landline_number_id",
}
INVALID_EMAILS = "invalid_emails"
REPORTS = (INVALID_EMAILS, "duplicate_contact_id", *_REPORTS.values())


class Row(msgspec.Struct):
    """One row as sent: everything but the e-mail goes in as an attribute."""

    email: str | None = None
    attributes: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Options:
    list_ids: Sequence[int]
    update_existing: bool = True
    empty_erases: bool = False
    email_blacklist: bool = False
    sms_blacklist: bool = False
    from_text: bool = False  # CSV: every value is text.


@dataclass(slots=True)
class Process:
    """One background process and how far it is; times in seconds since 1970."""

    id: int
    name: str
    created_s: float
    due_s: float
    notify_url: str | None = None
    status: str = "queued"
    rows: int = 0
    created: int = 0
    updated: int = 0
    left_out: int = 0  # Good rows that were silently not applied.
    rejected: dict[str, list[Row]] = field(default_factory=dict)
    notified: str = ""  # What came of calling `notify_url`.

    @property
    def is_over(self) -> bool:
        return self.status in {"completed", "failed", "cancelled"}

    def status_at(self, now_s: float) -> str:
        """Return the status a caller sees: it waits, then runs under one word, then the other."""
        if self.is_over or self.due_s <= self.created_s:
            return self.status
        share = (now_s - self.created_s) / (self.due_s - self.created_s)
        return "queued" if share < 1 / 3 else "in_process" if share < 2 / 3 else "processing"

    def reject(self, report: str, row: Row) -> None:
        self.rejected.setdefault(report, []).append(row)

    def report_csv(self, report: str) -> str:
        """Return the rows of one report as Brevo writes its files: `;` between fields."""
        rows = self.rejected.get(report, [])
        names = sorted({name for row in rows for name in row.attributes or ()})
        out = io.StringIO()
        writer = csv.writer(out, delimiter=";", lineterminator="\n")
        writer.writerow(["EMAIL", *names])
        for row in rows:
            attributes = row.attributes or {}
            writer.writerow([row.email or "", *(attributes.get(name, "") for name in names)])
        return out.getvalue()


class Target(Protocol):
    """What an import writes to: the account, as far as it matters here."""

    contacts: Contacts
    attributes: Attributes
    writes: VersionedWrites

    @property
    def has_room(self) -> bool: ...


def rows_of_csv(text: str) -> list[Row]:
    """Return the rows of a file body; raises ValueError if it has no header with an identifier."""
    lines = csv.reader(io.StringIO(text), delimiter=";")
    header = [name.strip().upper() for name in next(lines, [])]
    if not {"EMAIL", "SMS", "EXT_ID"} & set(header):
        message = "the first line must name EMAIL, SMS or EXT_ID"
        raise ValueError(message)
    rows = []
    for line in lines:
        if line:
            cells = dict(zip(header, line, strict=False))
            rows.append(Row(cells.pop("EMAIL", None), dict(cells)))
    return rows


def is_left_out(process: Process, row: Row, share: float) -> bool:
    """Tell whether a row is one of the share that silently fails; the same for the same import."""
    if share <= 0:
        return False
    digest = hashlib.blake2b(f"{process.id}:{row.email}:{row.attributes}".encode()).digest()
    return int.from_bytes(digest[:4]) < share * 2**32


def apply(
    target: Target, process: Process, rows: Iterable[Row], options: Options, *, silent_share: float
) -> None:
    """Carry out some rows of an import."""
    for row in rows:
        process.rows += 1
        if is_left_out(process, row, silent_share):
            process.left_out += 1
        else:
            _apply_row(target, process, row, options)


def _apply_row(target: Target, process: Process, row: Row, options: Options) -> None:
    given = row.attributes or {}
    taken = target.attributes.take(
        given, reject_unknown=False, invalid_phone=lambda: None, from_text=options.from_text
    )
    address = row.email or taken.identifiers.get("EMAIL", "")
    email = values.email(address) if address else None
    if address and email is None:
        process.reject(INVALID_EMAILS, row)
        return
    taken.identifiers.pop("EMAIL", None)
    if email is not None:
        taken.identifiers["EMAIL"] = email
    if not options.empty_erases:
        _drop_empty(taken)
    contact = _find(target.contacts, taken.identifiers)
    if contact is None and not any(taken.identifiers.values()):
        process.reject(INVALID_EMAILS, row)
        return
    clashes = target.contacts.clashes(taken.identifiers, contact)
    if clashes:
        process.reject(_REPORTS[next(iter(clashes))], row)
        return
    _write(target, process, contact, taken, options, given)


def _drop_empty(taken: Taken) -> None:
    taken.identifiers = {kind: value for kind, value in taken.identifiers.items() if value != ""}
    taken.attributes = {
        name: value for name, value in taken.attributes.items() if value is not None
    }


def _find(contacts: Contacts, identifiers: Mapping[str, str]) -> Contact | None:
    """Return the contact a row is about: by its address if it has one, else by another key."""
    for kind in ("EMAIL", "EXT_ID", "SMS"):
        if identifiers.get(kind):
            return contacts.owner(kind, identifiers[kind])
    return None


def _write(
    target: Target,
    process: Process,
    contact: Contact | None,
    taken: Taken,
    options: Options,
    given: Mapping[str, Any],
) -> None:
    change = Change(
        taken.identifiers,
        taken.attributes,
        options.list_ids,
        email_blacklisted=True if options.email_blacklist else None,
        sms_blacklisted=True if options.sms_blacklist else None,
    )
    created = contact is None
    if contact is None:
        if not target.has_room:
            process.left_out += 1
            return
        contact = target.contacts.create(change)
        process.created += 1
    elif options.update_existing:
        change.attributes = _without_false(contact, taken)
        target.contacts.apply(contact, change)
        process.updated += 1
    else:
        target.contacts.apply(contact, Change(list_ids=options.list_ids))
    target.writes.remember(ENDPOINT, contact, given, created=created)


def _without_false(contact: Contact, taken: Taken) -> dict[str, Any]:
    """Return the attributes without a `false` that would overwrite `true` (python client, #95)."""
    return {
        name: value
        for name, value in taken.attributes.items()
        if not (value is False and contact.attributes.get(name) is True)
    }
