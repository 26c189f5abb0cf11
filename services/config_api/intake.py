"""Take a file in as it comes: decode it, find its form, and store it chunk by chunk.

Promises: memory holds some chunks, however long the file is; nothing of a file that is refused
half-way is left; what is read of a file afterwards is what was scanned here.
"""

import codecs
import hashlib
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.csvfile.form import ENCODINGS, HEAD_BYTES, Wishes, encoding_of, form_of
from libs.common.csvfile.refusal import FileRefusedError, Flaw
from libs.common.csvfile.rows import ROW_CHARACTERS_MAX, Form
from libs.common.csvfile.scan import Scan
from services.config_api.store import imports as store
from services.config_api.store.imports import Import, Mark, Tally
from services.config_api.units import Units

# One is a page of a run: a thousand rows and more, some milliseconds to go through.
CHUNK_CHARACTERS = 96 * 1024
# A file that begins in plain ASCII says nothing of its encoding until an umlaut comes.
FALLBACK = "windows-1252"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a file belongs."""

    import_id: UUID
    workspace: UUID
    connection: UUID


class Intake:
    """One file on its way in. Feed it all, then `finish`; raises FileRefusedError anywhere."""

    def __init__(self, units: Units, target: Target, wishes: Wishes, *, rows_max: int) -> None:
        self._units = units
        self._target = target
        self._wishes = wishes
        self._rows_max = rows_max
        self._digest = hashlib.sha256()
        self._size = 0
        self._head = bytearray()
        self._text: _Text | None = None
        self._scan: Scan | None = None
        self._form: Form | None = None
        self._chunks = 0

    async def take(self, stream: AsyncIterable[bytes]) -> None:
        """Take all bytes of a stream, and store what they hold."""
        async for data in stream:
            self._digest.update(data)
            self._size += len(data)
            if self._text is None:
                self._head += data
                if len(self._head) >= HEAD_BYTES:
                    await self._begin(is_whole=False)
            else:
                self._text.add(data)
                await self._store()
        if self._text is None:
            await self._begin(is_whole=True)

    async def _begin(self, *, is_whole: bool) -> None:
        """Find out how the file is to be read."""
        head = bytes(self._head)
        self._head.clear()
        encoding, mark = encoding_of(head[:HEAD_BYTES], self._wishes.encoding)
        self._text = _Text(encoding, is_guessed=self._wishes.encoding is None and not mark)
        self._text.skip(mark)
        self._text.add(head[mark:], is_last=is_whole)
        self._form = form_of(self._text.held, self._text.encoding, self._wishes, is_whole=is_whole)
        self._scan = Scan(self._form, self._target.connection, rows_max=self._rows_max)
        await self._store()

    async def _store(self) -> None:
        """Scan and store every chunk that is complete."""
        assert self._text is not None
        for piece in self._text.pieces():
            await self._store_piece(piece)

    async def _store_piece(self, piece: str) -> None:
        assert self._scan is not None
        chunks = self._scan.feed(piece)
        first, size = self._chunks, self._size

        async def work(session: AsyncSession) -> None:
            await store.add_chunks(
                session,
                import_id=self._target.import_id,
                workspace=self._target.workspace,
                first=first,
                chunks=chunks,
                size=size,
            )

        if chunks:
            await self._units.run(work)
            self._chunks += len(chunks)

    async def finish(self, also: Callable[[AsyncSession], Awaitable[None]]) -> Import:
        """Store that the file is whole, and return it; do `also` in the same transaction."""
        assert self._text is not None
        self._text.add(b"", is_last=True)
        await self._store()
        if rest := self._text.rest():
            await self._store_piece(rest)
        assert self._scan is not None
        assert self._form is not None
        self._scan.end()
        form = msgspec.structs.replace(self._form, encoding=self._text.encoding)
        tally = _tally(self._scan, self._chunks)

        async def work(session: AsyncSession) -> Import:
            await store.finish(
                session,
                import_id=self._target.import_id,
                size=self._size,
                sha256=self._digest.digest(),
                form=form,
                tally=tally,
            )
            await also(session)
            row = await store.find(session, self._target.import_id)
            assert row is not None
            return row

        return await self._units.run(work)


class _Text:
    """The text of a file, out of its bytes: whole lines at a time."""

    def __init__(self, encoding: str, *, is_guessed: bool) -> None:
        self.encoding = encoding
        self.held = ""
        self._decoder = codecs.getincrementaldecoder(ENCODINGS[encoding])()
        self._may_fall_back = is_guessed and encoding == "utf-8"
        self._taken = 0  # Bytes, for who has to look for a wrong one.

    def skip(self, count: int) -> None:
        """Leave the first bytes out: a byte order mark."""
        self._taken += count

    def add(self, data: bytes, *, is_last: bool = False) -> None:
        """Decode some bytes more; raise FileRefusedError if they are not of this encoding."""
        try:
            text = self._decoder.decode(data, is_last)
        except UnicodeDecodeError as error:
            pending = bytes(self._decoder.getstate()[0])
            if not (self._may_fall_back and (pending + data)[: error.start].isascii()):
                at = self._taken - len(pending) + error.start + 1
                raise _wrong_encoding(self.encoding, f"byte {at} of the file") from None
            self.encoding = FALLBACK
            self._decoder = codecs.getincrementaldecoder(ENCODINGS[FALLBACK])()
            self._may_fall_back = False
            self.add(pending + data, is_last=is_last)
            return
        if "\x00" in text:
            detail = "The file has zero bytes in it: it is binary, or has another encoding."
            raise FileRefusedError(Flaw.NOT_CSV, detail)
        self._taken += len(data)
        # What was read as UTF-8 and is not plain ASCII was no accident.
        self._may_fall_back = self._may_fall_back and text.isascii()
        self.held += text

    def pieces(self) -> Iterator[str]:
        """Yield what is there in pieces that end where a line does; the rest is held."""
        while len(self.held) >= CHUNK_CHARACTERS:
            end = self._end_of_line()
            if end == 0:
                return
            piece, self.held = self.held[:end], self.held[end:]
            yield piece

    def _end_of_line(self) -> int:
        """Return where a line ends, about a chunk from here; 0: nowhere yet."""
        end = self.held.rfind("\n", 0, CHUNK_CHARACTERS) + 1 or self.held.find("\n") + 1
        if end == 0:  # Old Macintosh files know this one only.
            end = self.held.rfind("\r", 0, CHUNK_CHARACTERS) + 1
        if end == 0 and len(self.held) > ROW_CHARACTERS_MAX:
            detail = f"The file has a line of more than {ROW_CHARACTERS_MAX} characters."
            raise FileRefusedError(Flaw.ROW_TOO_LONG, detail)
        return end

    def rest(self) -> str:
        """Return what is left, once there is no more to come."""
        rest, self.held = self.held, ""
        return rest


def _wrong_encoding(encoding: str, where: str) -> FileRefusedError:
    return FileRefusedError(
        Flaw.WRONG_ENCODING,
        f"The file is not {encoding}: {where} is none of its characters. Name the `encoding` that "
        f"it was saved in: {', '.join(ENCODINGS)}.",
    )


def _tally(scan: Scan, chunks: int) -> Tally:
    return Tally(chunks, scan.rows, scan.ragged, scan.duplicates)


async def reform(
    units: Units, row: Import, wishes: Wishes, *, rows_max: int
) -> Callable[[AsyncSession], Awaitable[bool]]:
    """Go through a stored file in the form that is wished; return what stores that, if it is new.

    What is not wished stays as it is. Raises FileRefusedError, and then nothing has changed.
    """
    assert row.form is not None
    before = row.form
    encoding = wishes.encoding or before.encoding

    def recode(body: str) -> str:
        return body if encoding == before.encoding else _recoded(body, before.encoding, encoding)

    form = await _reformed(units, row, wishes, recode)
    scan = Scan(form, row.connection_id, rows_max=rows_max)
    marks: list[Mark] = []
    for number in range(row.chunks):
        for chunk in scan.feed(recode(await _body(units, row, number))):
            marks.append(Mark(len(marks), replace(chunk, text="")))
    scan.end()
    tally = _tally(scan, len(marks))
    is_recoded = encoding != before.encoding

    async def work(session: AsyncSession) -> bool:
        return await store.reform(
            session,
            row,
            form=form,
            tally=tally,
            marks=marks,
            recode=recode if is_recoded else None,
        )

    return work


async def _reformed(
    units: Units, row: Import, wishes: Wishes, recode: Callable[[str], str]
) -> Form:
    assert row.form is not None
    before = row.form
    head, number = "", 0
    while len(head) < HEAD_BYTES and number < row.chunks:
        head += recode(await _body(units, row, number))
        number += 1
    has_header = before.header_row > 0 if wishes.has_header is None else wishes.has_header
    wanted = replace(wishes, delimiter=wishes.delimiter or before.delimiter, has_header=has_header)
    encoding = wishes.encoding or before.encoding
    form = form_of(head, encoding, wanted, is_whole=number == row.chunks)
    if wishes.keys is None and set(before.keys) <= set(form.columns) and before.keys:
        return msgspec.structs.replace(form, keys=before.keys)
    return form


async def _body(units: Units, row: Import, number: int) -> str:
    return await units.run(lambda session: store.body_of(session, row.import_id, number))


def _recoded(body: str, before: str, encoding: str) -> str:
    """Return a text as it reads in another encoding; the bytes are those that were uploaded."""
    try:
        text = body.encode(ENCODINGS[before]).decode(ENCODINGS[encoding])
    except UnicodeDecodeError:
        raise _wrong_encoding(encoding, "a part of it") from None
    if "\x00" in text:
        raise _wrong_encoding(encoding, "a zero byte")
    return text
