"""/v1/imports: CSV files, uploaded as they come, looked at, and confirmed (AC8).

A file belongs to a connection, whose integrations read the newest one that was confirmed: a full
run each. Until then it can be read in another form: encoding, delimiter, header, keys.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, Response, status
from fastapi.responses import StreamingResponse
from pydantic import ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import ClientDisconnect

from libs.common import ids
from libs.common.csvfile import columns
from libs.common.csvfile.columns import Meaning, meaning_of
from libs.common.csvfile.form import COLUMNS_MAX, Wishes
from libs.common.csvfile.refusal import FileRefusedError
from libs.common.csvfile.rows import Chunk, Form, Identifier, lines_of, rows_of
from libs.common.database import transactions_of
from libs.common.ids import Prefix
from libs.common.uploads import UploadedFiles
from libs.connectors.contract import Field as RemoteField
from libs.connectors.contract import FieldType
from services.config_api import connect, csv_export, pages, row_errors
from services.config_api.accounts import find_facts
from services.config_api.errors import (
    ConflictError,
    FileUnusableError,
    Flaw,
    InvalidError,
    SpaceUsedError,
    pointer,
    refuse_field,
    refuse_parameter,
)
from services.config_api.intake import Intake, Target, reform
from services.config_api.mapping import ACCEPTED
from services.config_api.models import (
    PRINTABLE,
    Asked,
    ImportId,
    RemoteName,
    Shown,
    YesOrNo,
    found,
    parameter_id,
)
from services.config_api.pages import PageSize, PageToken
from services.config_api.routes.runs import choose_language
from services.config_api.routing import (
    Caller,
    CallerOf,
    DrawnId,
    Parts,
    PartsOf,
    ProviderRoute,
    Session,
    TransactionalRoute,
    UnitsOfWork,
    UploadRoute,
    demands,
)
from services.config_api.scopes import Scope
from services.config_api.store import audit, connections, workspaces
from services.config_api.store import imports as store
from services.config_api.store import runs as run_store
from services.config_api.store.connections import Connection
from services.config_api.store.imports import Import as Row
from services.config_api.store.imports import Outcome, Reader
from services.config_api.units import Units

PATH = "/v1/imports"

router = APIRouter(tags=["imports"], route_class=TransactionalRoute)
# These read a file in many short transactions, or ask a provider.
provider_router = APIRouter(tags=["imports"], route_class=ProviderRoute)
upload_router = APIRouter(tags=["imports"], route_class=UploadRoute)

READ = [demands(Scope.IMPORTS_READ)]
WRITE = [demands(Scope.IMPORTS_WRITE)]

SAMPLES = 5
SAMPLE_CHARACTERS_MAX = 100

Encoding = Literal[
    "utf-8",
    "utf-16le",
    "utf-16be",
    "windows-1252",
    "windows-1250",
    "windows-1251",
    "iso-8859-15",
    "macintosh",
    "cp850",
]
Delimiter = Literal[",", ";", "\t", "|"]


class Column(Shown):
    """A column of a file; what its name says that it holds, and the first cells of it."""

    name: str
    meaning: Meaning | None = Field(description="null: its name does not tell.")
    samples: Sequence[str]


class Import(Shown):
    """An uploaded file, how it is read, and what was found in it."""

    id: str
    connection_id: str
    name: str
    state: Literal["ready", "confirmed", "forgotten"] = Field(
        description="`ready` to be confirmed; `forgotten`: its text is kept no longer."
    )
    bytes: int
    sha256: str
    encoding: Encoding
    delimiter: Delimiter
    has_header: bool
    columns: Sequence[Column]
    key_columns: Sequence[str] = Field(
        description="What tells people apart, in this file and the next ones: the first that is "
        "filled."
    )
    rows: int = Field(description="Rows with data in them.")
    rows_ragged: int = Field(description="Those whose cells are not those of the columns.")
    rows_duplicate: int = Field(description="Those about somebody of an earlier row.")
    uploaded_at: datetime
    confirmed_at: datetime | None

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "imp_0199d0c1a2b37c4d8e5f60718293a4b5",
                    "connection_id": "con_0199d0c1a2b37c4d8e5f60718293a4b5",
                    "name": "members.csv",
                    "state": "ready",
                    "bytes": 84,
                    "sha256": "0" * 64,
                    "encoding": "utf-8",
                    "delimiter": ";",
                    "has_header": True,
                    "columns": [
                        {"name": "E-Mail", "meaning": "email", "samples": ["ada@example.org"]},
                        {"name": "Vorname", "meaning": "first_name", "samples": ["Ada"]},
                    ],
                    "key_columns": ["E-Mail"],
                    "rows": 1,
                    "rows_ragged": 0,
                    "rows_duplicate": 0,
                    "uploaded_at": "2026-11-24T09:00:00Z",
                    "confirmed_at": None,
                }
            ]
        }
    )


class Imports(Shown):
    """A page of files, newest first; without samples."""

    items: Sequence[Import]
    next_page_token: pages.NextPageToken


class FormWanted(Asked):
    """How a file is to be read; what is left out stays as it is."""

    encoding: Encoding | None = None
    delimiter: Delimiter | None = None
    has_header: YesOrNo | None = None
    key_columns: Annotated[Sequence[RemoteName], Field(max_length=COLUMNS_MAX)] | None = None

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"encoding": "windows-1252", "key_columns": ["Kundennummer"]}]
        }
    )


class SuggestedField(Shown):
    """A line of a mapping that is likely to be right."""

    source: str
    destination: str


class SuggestedMapping(Shown):
    """A mapping to start from, as `PUT …/mapping` takes it, and the columns that it leaves out."""

    fields: Sequence[SuggestedField]
    unmapped_columns: Sequence[str]


@upload_router.post(
    PATH,
    status_code=status.HTTP_201_CREATED,
    dependencies=WRITE,
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "The file itself.",
            "content": {"text/csv": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def upload(
    request: Request,
    units: UnitsOfWork,
    caller: CallerOf,
    parts: PartsOf,
    drawn: DrawnId,
    response: Response,
    connection_id: Annotated[
        str, Query(max_length=100, description="A connection that files are uploaded to.")
    ],
    name: Annotated[
        str, Query(min_length=1, max_length=200, pattern=PRINTABLE, description="The file's name.")
    ] = "import.csv",
    encoding: Annotated[Encoding | None, Query(description="null: it is found out.")] = None,
    delimiter: Annotated[Delimiter | None, Query(description="null: it is found out.")] = None,
    has_header: Annotated[bool | None, Query(description="null: it is found out.")] = None,
) -> Import:
    """Upload a file, and see how it is read: nothing happens before it is confirmed.

    It is read as it comes, so it may be as large as the operator allows.
    """
    connection = await _file_connection(parts, units, connection_id)
    target = Target(drawn, caller.workspace, connection.connection_id)
    await units.run(lambda session: _make_room(session, parts, target, name))
    wishes = Wishes(encoding, delimiter, has_header)
    async with _kept_if_whole(units, target):
        intake = Intake(units, target, wishes, rows_max=parts.uploads.rows_max)
        await intake.take(request.stream())
        row = await intake.finish(
            lambda session: _record(session, caller, "import.uploaded", drawn)
        )
    shown = await _shown_with_samples(units, row)
    response.headers["Location"] = f"{PATH}/{shown.id}"
    return shown


async def _file_connection(parts: Parts, units: Units, text: str) -> Connection:
    connection_id = parameter_id(Prefix.CONNECTION, text, "connection_id")
    assert connection_id is not None
    connection = found(
        await units.run(lambda session: connections.find(session, connection_id)), "connection"
    )
    facts = find_facts(parts.accounts, connection.provider)
    if facts is None or not facts.reads_files:
        raise refuse_parameter(
            parameter="connection_id",
            code="no_files",
            detail="Files are uploaded to a connection whose provider's `authentication` is none.",
        )
    return connection


async def _make_room(session: AsyncSession, parts: Parts, target: Target, name: str) -> None:
    if await store.space_used(session) >= parts.uploads.kept_bytes_max:
        raise SpaceUsedError(
            detail=f"Files of {parts.uploads.kept_bytes_max} bytes are kept for this workspace."
        )
    await store.add(
        session,
        import_id=target.import_id,
        workspace=target.workspace,
        connection=target.connection,
        name=name,
    )


@asynccontextmanager
async def _kept_if_whole(units: Units, target: Target) -> AsyncIterator[None]:
    """Throw away what has come of a file that does not come in whole, or cannot be read.

    What a crash leaves is thrown away by the accountant, a day later.
    """
    try:
        with _translated():
            yield
    except BaseException:
        await units.run(lambda session: store.remove(session, target.import_id))
        raise


@contextmanager
def _translated() -> Iterator[None]:
    """Let what is wrong with a file be answered as a problem that says what, and in which row."""
    try:
        yield
    except ClientDisconnect as error:
        detail = "The upload was cut off: send the file again."
        raise FileUnusableError(detail=detail, flaws=[Flaw("upload_cut_off", detail)]) from error
    except FileRefusedError as error:
        refusal = FileUnusableError(
            detail=error.detail, flaws=[Flaw(error.flaw.value, error.detail)]
        )
        if error.row is not None:
            refusal.members["row"] = error.row
        raise refusal from error


@router.get(PATH, dependencies=READ)
async def list_imports(
    session: Session,
    request: Request,
    response: Response,
    connection_id: Annotated[str | None, Query(max_length=100)] = None,
    page_size: PageSize = pages.SIZE_DEFAULT,
    page_token: PageToken = None,
) -> Imports:
    """List what was uploaded, of one connection or of all."""
    rows = await store.find_page(
        session,
        before=pages.decode_id(page_token),
        connection=parameter_id(Prefix.CONNECTION, connection_id, "connection_id"),
        size=page_size + 1,
    )
    page = pages.cut(rows, page_size, lambda row: row.import_id.hex)
    pages.link(request, response, page.next_token)
    return Imports(items=[_shown(row, []) for row in page.rows], next_page_token=page.next_token)


@provider_router.get(f"{PATH}/{{import_id}}", dependencies=READ)
async def read_import(import_id: ImportId, units: UnitsOfWork) -> Import:
    """Read how a file is read, with the first cells of each column."""
    return await _shown_with_samples(units, await _find(units, import_id))


@provider_router.patch(f"{PATH}/{{import_id}}", dependencies=WRITE)
async def change_form(
    import_id: ImportId, wanted: FormWanted, units: UnitsOfWork, caller: CallerOf, parts: PartsOf
) -> Import:
    """Read a file in another form, before it is confirmed; if that cannot be, nothing changes."""
    row = await _find(units, import_id)
    _refuse_unready(row)
    wishes = Wishes(wanted.encoding, wanted.delimiter, wanted.has_header, wanted.key_columns)
    with _translated():
        store_form = await reform(units, row, wishes, rows_max=parts.uploads.rows_max)

    async def work(session: AsyncSession) -> Row:
        if not await store_form(session):
            raise ConflictError(detail="Somebody else changed or confirmed it at the same moment.")
        await _record(session, caller, "import.changed", import_id)
        return found(await store.find(session, import_id), "import")

    return await _shown_with_samples(units, await units.run(work))


@provider_router.post(f"{PATH}/{{import_id}}:confirm", dependencies=WRITE)
async def confirm(import_id: ImportId, units: UnitsOfWork, caller: CallerOf) -> Import:
    """Let the connection's integrations read the file: each that is active runs in full, now."""

    async def work(session: AsyncSession) -> Row:
        row = found(await store.find(session, import_id), "import")
        await connections.lock(session, row.connection_id)
        row = found(await store.find(session, import_id), "import")
        _refuse_unready(row)
        await _refuse_older(session, row)
        readers = await store.find_readers(session, row.connection_id)
        _refuse_unusable(row, readers)
        await store.confirm(session, import_id, by=caller.actor)
        for reader in readers:
            if reader.state in ("active", "error"):
                await run_store.request(session, reader.integration_id, full=True)
        await _record(session, caller, "import.confirmed", import_id)
        return found(await store.find(session, import_id), "import")

    return await _shown_with_samples(units, await units.run(work))


def _refuse_unready(row: Row) -> None:
    if row.state != "ready":
        raise ConflictError(
            detail="This file was confirmed, and does not change any more.", state=row.state
        )


async def _refuse_older(session: AsyncSession, row: Row) -> None:
    newer = await store.find_newer(session, row)
    if newer is not None:
        raise ConflictError(
            detail="A file that was uploaded later is confirmed already: upload this one again.",
            newer_import_id=ids.show(Prefix.IMPORT, newer),
        )


def _refuse_unusable(row: Row, readers: Sequence[Reader]) -> None:
    """Refuse a file by which nobody could be told apart, or that would clear what is mapped."""
    assert row.form is not None
    if not row.form.keys:
        raise refuse_field(
            at="/key_columns",
            code="key_columns_missing",
            detail="No column is known to tell people apart: name one or more by PATCH.",
        )
    flaws = [
        Flaw(
            "column_missing",
            f"The integration “{reader.name}” maps the column “{column}”, which is not in this "
            "file: give it that name, or change the mapping.",
            pointer=pointer("columns"),
            rule="W5",
        )
        for reader in readers
        for column in sorted(reader.columns.difference(row.form.columns))
    ]
    if flaws:
        raise InvalidError(detail="The file has not all the columns that are mapped.", flaws=flaws)


@router.delete(f"{PATH}/{{import_id}}", status_code=status.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def delete_import(import_id: ImportId, session: Session, caller: CallerOf) -> None:
    """Throw a file away that was not confirmed."""
    _refuse_unready(found(await store.find(session, import_id), "import"))
    await store.remove(session, import_id)
    await _record(session, caller, "import.deleted", import_id)


@provider_router.get(f"{PATH}/{{import_id}}/suggested-mapping", dependencies=READ)
async def suggest_mapping(
    import_id: ImportId,
    units: UnitsOfWork,
    parts: PartsOf,
    connection_id: Annotated[
        str, Query(max_length=100, description="The destination that is to be mapped to.")
    ],
) -> SuggestedMapping:
    """Suggest what the destination's attributes are filled from, by the columns' names."""
    form = (await _find(units, import_id)).form
    assert form is not None
    attributes = await _attributes(units, parts, connection_id)
    pairs = list(columns.pairs(form.columns, attributes))
    mapped = {column for column, _ in pairs}
    return SuggestedMapping(
        fields=[SuggestedField(source=source, destination=name) for source, name in pairs],
        unmapped_columns=[name for name in form.columns if name not in mapped],
    )


async def _attributes(units: Units, parts: Parts, text: str) -> Mapping[str, Meaning | None]:
    """Return a destination's attributes that can be filled, with what is known of each."""
    connection_id = parameter_id(Prefix.CONNECTION, text, "connection_id")
    assert connection_id is not None
    connection = found(
        await units.run(lambda session: connections.find(session, connection_id)), "connection"
    )
    facts = find_facts(parts.accounts, connection.provider)
    if facts is None or not facts.is_destination:
        raise refuse_parameter(
            parameter="connection_id", code="no_destination", detail="This is no destination."
        )
    described = await connect.ask_destination(
        parts, units, connection, lambda side: side.describe_attributes()
    )
    return {
        each.name: _meaning_of(each)
        for each in sorted(described, key=lambda each: not each.unique)
        if each.not_mappable is None
        and each.type in ACCEPTED
        # What else identifies people there is nobody's to guess.
        and (not each.unique or _meaning_of(each) is not None)
    }


def _meaning_of(attribute: RemoteField) -> Meaning | None:
    """Return what identifies people by its type; names tell of the others."""
    if attribute.unique and attribute.type is FieldType.EMAIL:
        return Meaning.EMAIL
    if attribute.unique and attribute.type is FieldType.PHONE:
        return Meaning.PHONE
    return None


@provider_router.get(
    f"{PATH}/{{import_id}}/errors.csv",
    dependencies=[demands(Scope.CONTACTS_READ)],
    response_class=StreamingResponse,
    responses={200: {"description": "RFC 4180, UTF-8.", "content": {csv_export.MEDIA_TYPE: {}}}},
)
async def export_errors(
    import_id: ImportId,
    units: UnitsOfWork,
    caller: CallerOf,
    parts: PartsOf,
    integration_id: Annotated[
        str | None,
        Query(max_length=100, description="Needed where several integrations read the file."),
    ] = None,
    accept_language: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    """Fetch what is wrong with the file's rows: the number of each, the reason, what to do.

    As things stand: a row whose contact was written since is not in it.
    """
    row = await _find(units, import_id)
    if row.state != "confirmed" or row.form is None:
        raise ConflictError(
            detail="Only a file that was confirmed, and is still kept, has errors.",
            state=row.state,
        )
    wanted = parameter_id(Prefix.INTEGRATION, integration_id, "integration_id")
    reader = await units.run(lambda session: _reader(session, row, wanted))
    workspace = await units.run(lambda session: workspaces.find(session, caller.workspace))
    language = choose_language(accept_language, found(workspace, "workspace").language)
    listing = _listing(parts, units, row, row.form, reader, language)
    return StreamingResponse(
        row_errors.written(listing),
        media_type=csv_export.MEDIA_TYPE,
        headers={
            "Content-Disposition": 'attachment; filename="row-errors.csv"',
            "Content-Language": language,
        },
    )


async def _reader(session: AsyncSession, row: Row, wanted: UUID | None) -> UUID:
    """Return the integration whose outcomes are asked for."""
    readers = [each.integration_id for each in await store.find_readers(session, row.connection_id)]
    if wanted is None and len(readers) == 1:
        return readers[0]
    if wanted is None:
        raise refuse_parameter(
            parameter="integration_id",
            code="integration_needed",
            detail=f"{len(readers)} integrations read this file: name one of them.",
        )
    return found(wanted if wanted in readers else None, "integration")


def _listing(
    parts: Parts, units: Units, row: Row, form: Form, integration: UUID, language: str
) -> row_errors.Listing:
    transactions = transactions_of(parts.sessions)
    files = UploadedFiles(transactions, row.workspace_id, row.connection_id, as_api=True)

    async def read_chunk(number: int) -> Chunk | None:
        return await files.read_chunk(row.import_id, number)

    async def look_up(source_ids: Sequence[str]) -> Mapping[str, Outcome]:
        return await units.run(
            lambda session: store.outcomes(
                session, row, integration=integration, source_ids=source_ids
            )
        )

    return row_errors.Listing(
        form=form,
        identify=Identifier(row.connection_id, form),
        chunks=row.chunks,
        read_chunk=read_chunk,
        look_up=look_up,
        language=language,
    )


async def _find(units: Units, import_id: UUID) -> Row:
    return found(await units.run(lambda session: store.find(session, import_id)), "import")


async def _shown_with_samples(units: Units, row: Row) -> Import:
    if row.form is None or row.state == "forgotten":
        return _shown(row, [])
    body = await units.run(lambda session: store.body_of(session, row.import_id, 0))
    first = Chunk(lines_of(body), 1)
    whole = [each.cells for each in rows_of(first, row.form) if not each.is_ragged]
    return _shown(row, whole[:SAMPLES])


def _shown(row: Row, samples: Sequence[Sequence[str]]) -> Import:
    form = row.form
    assert form is not None
    return Import.model_validate(
        {
            "id": ids.show(Prefix.IMPORT, row.import_id),
            "connection_id": ids.show(Prefix.CONNECTION, row.connection_id),
            "name": row.name,
            "state": row.state,
            "bytes": row.size,
            "sha256": (row.sha256 or b"").hex(),
            "encoding": form.encoding,
            "delimiter": form.delimiter,
            "has_header": form.header_row > 0,
            "columns": [
                {
                    "name": name,
                    "meaning": meaning_of(name),
                    "samples": [cells[place][:SAMPLE_CHARACTERS_MAX] for cells in samples],
                }
                for place, name in enumerate(form.columns)
            ],
            "key_columns": form.keys,
            "rows": row.rows,
            "rows_ragged": row.ragged,
            "rows_duplicate": row.duplicates,
            "uploaded_at": row.uploaded_at,
            "confirmed_at": row.confirmed_at,
        }
    )


async def _record(session: AsyncSession, caller: Caller, action: str, import_id: UUID) -> None:
    await audit.record(
        session,
        workspace=caller.workspace,
        actor=caller.actor,
        action=action,
        subject=ids.show(Prefix.IMPORT, import_id),
    )
