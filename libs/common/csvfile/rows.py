"""Read the rows of a file out of its chunks: the same rows for whoever looks.

A chunk is some lines of a file's text; a row belongs to the chunk that it begins in, and may go on
in the next ones, because a cell in quotation marks may hold line breaks. Promises: a row has the
number that a spreadsheet shows it under (the header and blank rows count); a person has the same
id in each file of a connection (`Identifier`), whatever else is in the row.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple
from uuid import UUID

import msgspec

from libs.common.csvfile.columns import Meaning, meaning_of

# Half of what a part of a page may weigh; the csv module itself takes half of that in one cell.
ROW_CHARACTERS_MAX = 256 * 1024
# A customer's number is shown as it is, and longer ones by a digest, as an id must be short.
PLAIN_ID_CHARACTERS_MAX = 100

_DIGEST_BYTES = 16
_NO_DIGITS = re.compile(r"[^0-9+]+")


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """How a file is to be read.

    `header_row` is the number of the row that names the columns, 0 where none does; `keys` are the
    columns that tell people apart: the first of them that is filled counts.
    """

    encoding: str
    delimiter: str
    header_row: int
    columns: tuple[str, ...]
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """The rows that begin in a chunk: their lines, to the end of the last of them.

    `first_row` is the first row's number; `duplicates` are the numbers of rows that tell of
    somebody whom an earlier row has told of already.
    """

    lines: Sequence[str]
    first_row: int
    duplicates: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that a person uploaded and confirmed; it does not change any more.

    `uploaded_ms` is by the database's clock. `rows` are those with data in them.
    """

    id: UUID
    uploaded_ms: int
    form: Form
    rows: int
    chunks: int


class Row(NamedTuple):
    """A row with data; `is_ragged`: it has fewer cells than columns, or cells beyond them."""

    number: int
    cells: Sequence[str]
    is_ragged: bool


def lines_of(text: str) -> list[str]:
    """Return the lines of a text with their ends, of whatever system."""
    return list(io.StringIO(text, newline=""))


def records(lines: Iterable[str], delimiter: str) -> Iterator[list[str]]:
    """Yield the cells of each row, also of the header and of blank ones."""
    return csv.reader(lines, delimiter=delimiter)


def rows_of(chunk: Chunk, form: Form) -> Iterator[Row]:
    """Yield a chunk's rows with data in them."""
    for number, cells in enumerate(records(chunk.lines, form.delimiter), chunk.first_row):
        if number > form.header_row and any(cells):
            yield Row(number, cells, is_ragged(cells, len(form.columns)))


def is_ragged(cells: Sequence[str], width: int) -> bool:
    """Return whether a row's cells are not those of its columns; blank ones beyond do not count."""
    return len(cells) != width and (len(cells) < width or any(cells[width:]))


class Identifier:
    """Tells by which id the person in a row is known, of one connection and one form.

    By the first key column that is filled. A customer's own number is the id itself; an address or
    a phone number is digested with the connection's id, so that ids hold no contact data and say
    nothing across connections. A row without a key, or a ragged one, is known by all its cells.
    """

    def __init__(self, connection: UUID, form: Form) -> None:
        self._salt = connection.bytes
        self._keys = [(form.columns.index(key), meaning_of(key)) for key in form.keys]

    def __call__(self, row: Row) -> str:
        """Return the id."""
        if not row.is_ragged:
            for place, meaning in self._keys:
                if value := row.cells[place].strip():
                    return self._known_by(value, meaning)
        return self._digest("row", "\x1f".join(row.cells))

    def _known_by(self, value: str, meaning: Meaning | None) -> str:
        if meaning is Meaning.ID and value.isprintable() and len(value) <= PLAIN_ID_CHARACTERS_MAX:
            return value
        if meaning is Meaning.PHONE:
            return self._digest("phone", _NO_DIGITS.sub("", value) or value)
        return self._digest("key", value.casefold())

    def _digest(self, kind: str, text: str) -> str:
        content = f"{kind}\x1f{text}".encode()
        return blake2b(content, digest_size=_DIGEST_BYTES, salt=self._salt).hexdigest()
