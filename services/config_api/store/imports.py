"""config.imports and config.import_chunks: files that people upload, and their text (AC8)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.csvfile.rows import Form
from libs.common.csvfile.scan import Scanned

_FORM = msgspec.json.Decoder(Form)


@dataclass(frozen=True, slots=True)
class Import:
    """An uploaded file, without its text. `form` is None while it is being received."""

    import_id: UUID
    workspace_id: UUID
    connection_id: UUID
    name: str
    state: str
    size: int  # In bytes.
    sha256: bytes | None
    form: Form | None
    chunks: int
    rows: int
    ragged: int
    duplicates: int
    revision: int
    uploaded_at: datetime | None
    confirmed_at: datetime | None
    confirmed_by: str | None


@dataclass(frozen=True, slots=True)
class Tally:
    """What a scan of a file has counted."""

    chunks: int
    rows: int
    ragged: int
    duplicates: int


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a chunk's rows are under a new form; its text is not in it."""

    number: int
    chunk: Scanned


@dataclass(frozen=True, slots=True)
class Reader:
    """An integration that reads a connection's files, and the columns that it asks them for."""

    integration_id: UUID
    name: str
    state: str
    columns: frozenset[str]


_SELECT = (
    "select import_id, workspace_id, connection_id, name, state, bytes as size, sha256,"
    " form::text as form, chunks, rows, ragged, duplicates, revision, uploaded_at, confirmed_at,"
    " confirmed_by from config.imports"
)


def _import(row: Any) -> Import:
    members: Mapping[str, Any] = row._mapping  # noqa: SLF001  # SQLAlchemy's public name for it
    form = members["form"]
    return Import(**{**members, "form": None if form is None else _FORM.decode(form)})


async def space_used(session: AsyncSession) -> int:
    """Return how many bytes of files are kept for the workspace."""
    used = await session.scalar(
        text("select coalesce(sum(bytes), 0) from config.imports where state <> 'forgotten'")
    )
    return int(used or 0)


async def add(
    session: AsyncSession, *, import_id: UUID, workspace: UUID, connection: UUID, name: str
) -> None:
    """Begin to receive a file; beginning it again changes nothing."""
    await session.execute(
        text(
            "insert into config.imports (import_id, workspace_id, connection_id, name)"
            " values (:import, :workspace, :connection, :name) on conflict do nothing"
        ),
        {"import": import_id, "workspace": workspace, "connection": connection, "name": name},
    )


async def add_chunks(
    session: AsyncSession,
    *,
    import_id: UUID,
    workspace: UUID,
    first: int,
    chunks: Sequence[Scanned],
    size: int,
) -> None:
    """Store chunks, numbered from `first`, and that `size` bytes have come; once is as twice."""
    for number, chunk in enumerate(chunks, first):
        await session.execute(
            text(
                "insert into config.import_chunks (import_id, number, workspace_id, body,"
                " skip_lines, first_row, rows, duplicates) values (:import, :number, :workspace,"
                " :body, :skip, :first_row, :rows, :duplicates) on conflict do nothing"
            ),
            {
                "import": import_id,
                "number": number,
                "workspace": workspace,
                "body": chunk.text,
                "skip": chunk.skip_lines,
                "first_row": chunk.first_row,
                "rows": chunk.rows,
                "duplicates": chunk.duplicates,
            },
        )
    await session.execute(
        text("update config.imports set bytes = :size where import_id = :import"),
        {"import": import_id, "size": size},
    )


async def finish(
    session: AsyncSession,
    *,
    import_id: UUID,
    size: int,
    sha256: bytes,
    form: Form,
    tally: Tally,
) -> None:
    """Say that a file is there as a whole, ready to be looked at and confirmed."""
    await session.execute(
        text(
            "update config.imports set state = 'ready', bytes = :size, sha256 = :sha256,"
            " form = cast(:form as jsonb), chunks = :chunks, rows = :rows, ragged = :ragged,"
            " duplicates = :duplicates, uploaded_at = clock_timestamp()"
            " where import_id = :import and state = 'receiving'"
        ),
        {"import": import_id, "size": size, "sha256": sha256, **_parameters(form, tally)},
    )


def _parameters(form: Form, tally: Tally) -> dict[str, object]:
    return {
        "form": msgspec.json.encode(form).decode(),
        "chunks": tally.chunks,
        "rows": tally.rows,
        "ragged": tally.ragged,
        "duplicates": tally.duplicates,
    }


async def find(session: AsyncSession, import_id: UUID) -> Import | None:
    """Return a file that came in whole; None if this workspace has none of this id."""
    found = await session.execute(
        text(f"{_SELECT} where import_id = :import and state <> 'receiving'"),
        {"import": import_id},
    )
    row = found.one_or_none()
    return None if row is None else _import(row)


async def find_page(
    session: AsyncSession, *, before: UUID | None, connection: UUID | None, size: int
) -> list[Import]:
    """Return the workspace's files, newest first."""
    found = await session.execute(
        text(
            f"{_SELECT} where state <> 'receiving'"
            " and (cast(:before as uuid) is null or import_id < :before)"
            " and (cast(:connection as uuid) is null or connection_id = :connection)"
            " order by import_id desc limit :size"
        ),
        {"before": before, "connection": connection, "size": size},
    )
    return [_import(row) for row in found]


async def remove(session: AsyncSession, import_id: UUID) -> None:
    """Throw a file away that was not confirmed, with its text."""
    await session.execute(
        text("delete from config.imports where import_id = :import and state <> 'confirmed'"),
        {"import": import_id},
    )


async def body_of(session: AsyncSession, import_id: UUID, number: int) -> str:
    """Return the text of a chunk."""
    body: str | None = await session.scalar(
        text(
            "select body from config.import_chunks where import_id = :import and number = :number"
        ),
        {"import": import_id, "number": number},
    )
    return body or ""


async def reform(
    session: AsyncSession,
    row: Import,
    *,
    form: Form,
    tally: Tally,
    marks: Sequence[Mark],
    recode: Callable[[str], str] | None,
) -> bool:
    """Have a file read in another form; False if it was reformed or confirmed meanwhile.

    `recode` turns a chunk's text into what it is in another encoding; None: it stays.
    """
    changed = await session.scalar(
        text(
            "update config.imports set form = cast(:form as jsonb), chunks = :chunks,"
            " rows = :rows, ragged = :ragged, duplicates = :duplicates, revision = revision + 1"
            " where import_id = :import and state = 'ready' and revision = :revision"
            " returning true"
        ),
        {"import": row.import_id, "revision": row.revision, **_parameters(form, tally)},
    )
    if not changed:
        return False
    for mark in marks:
        body = None
        if recode is not None:
            body = recode(await body_of(session, row.import_id, mark.number))
        await session.execute(
            text(
                "update config.import_chunks set body = coalesce(cast(:body as text), body),"
                " skip_lines = :skip, first_row = :first_row, rows = :rows,"
                " duplicates = :duplicates where import_id = :import and number = :number"
            ),
            {
                "import": row.import_id,
                "number": mark.number,
                "body": body,
                "skip": mark.chunk.skip_lines,
                "first_row": mark.chunk.first_row,
                "rows": mark.chunk.rows,
                "duplicates": mark.chunk.duplicates,
            },
        )
    return True


async def find_newer(session: AsyncSession, row: Import) -> UUID | None:
    """Return a confirmed file of the same connection that was uploaded later; None without one."""
    newer: UUID | None = await session.scalar(
        text(
            "select import_id from config.imports where connection_id = :connection"
            " and state in ('confirmed', 'forgotten') and uploaded_at > :uploaded_at limit 1"
        ),
        {"connection": row.connection_id, "uploaded_at": row.uploaded_at},
    )
    return newer


async def find_readers(session: AsyncSession, connection: UUID) -> list[Reader]:
    """Return the integrations that have been active and read a connection's files."""
    found = await session.execute(
        text(
            "select i.integration_id, i.name, i.state,"
            " array(select f ->> 'source' from jsonb_array_elements(m.fields) f"
            "   union select c ->> 'field' from jsonb_array_elements("
            "     coalesce(m.criteria -> 'conditions', '[]')) c) as columns"
            " from config.integrations i join config.field_mappings m"
            " on m.integration_id = i.integration_id and m.version = i.mapping_version"
            " where i.source_connection_id = :connection and i.activated_at is not null"
            " and i.state <> 'archived' order by i.integration_id"
        ),
        {"connection": connection},
    )
    return [Reader(row[0], row[1], row[2], frozenset(row[3])) for row in found]


async def confirm(session: AsyncSession, import_id: UUID, *, by: str) -> None:
    """Let a file be the one that its connection's integrations read."""
    await session.execute(
        text(
            "update config.imports set state = 'confirmed', confirmed_at = clock_timestamp(),"
            " confirmed_by = :by where import_id = :import and state = 'ready'"
        ),
        {"import": import_id, "by": by},
    )


async def is_unread(session: AsyncSession, *, integration: UUID, connection: UUID) -> bool:
    """Return whether a file was confirmed since the integration last began to read one."""
    unread = await session.scalar(
        text(
            "select exists (select from config.imports f where f.connection_id = :connection"
            " and f.state = 'confirmed' and f.confirmed_at > coalesce((select max(r.started_at)"
            " from sync.runs r where r.integration_id = :integration and r.mode = 'full'"
            " and r.state in ('reading', 'read')), '-infinity'))"
        ),
        {"integration": integration, "connection": connection},
    )
    return bool(unread)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the last outcome of somebody in a file was, where nothing was written."""

    status: str
    reason: str


async def outcomes(
    session: AsyncSession, row: Import, *, integration: UUID, source_ids: Sequence[str]
) -> dict[str, Outcome]:
    """Return who of these was rejected, or waits, since the file was confirmed.

    What became of them since the next file was confirmed is that one's.
    """
    found = await session.execute(
        text(
            "select source_id, status, reason from activity.contacts"
            " where integration_id = :integration and source_id = any(:ids)"
            " and status in ('rejected', 'parked') and at >= :since"
            " and at < coalesce((select min(n.confirmed_at) from config.imports n"
            "   where n.connection_id = :connection and n.uploaded_at > :uploaded_at),"
            "   'infinity')"
        ),
        {
            "integration": integration,
            "ids": list(source_ids),
            "since": row.confirmed_at,
            "connection": row.connection_id,
            "uploaded_at": row.uploaded_at,
        },
    )
    return {each.source_id: Outcome(each.status, each.reason or "") for each in found}
