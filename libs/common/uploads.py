"""Where uploaded files are: `config.imports`, and their text in chunks in `config.import_chunks`.

Promises: only confirmed files are seen, and only those of one connection of one workspace (X3);
memory holds one chunk at a time, and of the next ones what the chunk's last row goes on in.
"""

from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from libs.common.csvfile.rows import Chunk, Form, StoredFile, lines_of
from libs.common.postgres import (
    Transaction,
    Transactions,
    enter_workspace,
    fetch_alone,
    transact,
)

# The newest by upload is the one that counts: by its time versions are told apart.
_FILE = """
    select import_id, (extract(epoch from uploaded_at) * 1000)::bigint as uploaded_ms,
      form::text as form, rows, chunks
    from config.imports
    where workspace_id = $1 and connection_id = $2 and state = 'confirmed'
      and ($3::uuid is null or import_id = $3)
    order by uploaded_at desc limit 1
    """
_CHUNK = """
    select c.body, c.skip_lines, c.first_row, c.duplicates,
      coalesce(n.skip_lines, 0) > 0 as goes_on
    from config.import_chunks c
    join config.imports i on i.import_id = c.import_id and i.connection_id = $2
    left join config.import_chunks n on n.import_id = c.import_id and n.number = c.number + 1
    where c.workspace_id = $1 and c.import_id = $3 and c.number = $4
    """

_FORM = msgspec.json.Decoder(Form)


class UploadedFiles:
    """The confirmed files of one connection (`libs.connectors.contract.Files`).

    Set `as_api` for the API's role, which sees rows only inside a workspace.
    """

    def __init__(
        self, transactions: Transactions, workspace: UUID, connection: UUID, *, as_api: bool = False
    ) -> None:
        self._transactions = transactions
        self._workspace = workspace
        self._connection = connection
        self._as_api = as_api

    @property
    def connection(self) -> UUID:
        """Return whose files these are."""
        return self._connection

    async def current(self) -> StoredFile | None:
        """Return the newest file; None while nobody has confirmed one."""
        return await self._file(None)

    async def find(self, file_id: UUID) -> StoredFile | None:
        """Return a file of this connection; None if there is none of this id."""
        return await self._file(file_id)

    async def _file(self, file_id: UUID | None) -> StoredFile | None:
        for row in await self._fetch(_FILE, file_id):
            form = _FORM.decode(row["form"])
            return StoredFile(
                row["import_id"], row["uploaded_ms"], form, row["rows"], row["chunks"]
            )
        return None

    async def read_chunk(self, file_id: UUID, number: int) -> Chunk | None:
        """Return a chunk, counted from 0; None if the file is kept no longer."""
        rows = await self._fetch(_CHUNK, file_id, number)
        if not rows:
            return None
        [row] = rows
        lines = lines_of(row["body"])[row["skip_lines"] :]
        if lines and row["goes_on"]:
            lines += await self._rest(file_id, number + 1)
        return Chunk(lines, row["first_row"], frozenset(row["duplicates"]))

    async def _rest(self, file_id: UUID, number: int) -> list[str]:
        """Return the lines in which a row goes on that began before a chunk."""
        rest: list[str] = []
        goes_on = True
        while goes_on:
            [row] = await self._fetch(_CHUNK, file_id, number)
            lines = lines_of(row["body"])
            rest += lines[: row["skip_lines"]]
            # It goes on in the next one only through the whole of this one.
            goes_on = row["goes_on"] and row["skip_lines"] == len(lines)
            number += 1
        return rest

    async def _fetch(self, statement: str, *arguments: object) -> "list[asyncpg.Record[Any]]":
        whose = (self._workspace, self._connection)
        if not self._as_api:
            return await fetch_alone(self._transactions, statement, *whose, *arguments)

        async def work(session: Transaction) -> "list[asyncpg.Record[Any]]":
            await enter_workspace(session, self._workspace)
            return list(await session.connection.fetch(statement, *whose, *arguments))

        return await transact(self._transactions, work)
