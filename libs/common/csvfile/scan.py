"""Go through a whole file once: count its rows, and mark where its chunks' rows begin and end.

Text is fed in pieces that end at a line's end; what comes back are chunks to be stored, each with
the marks by which `rows_of` can begin in it. Promises: memory grows by 16 bytes a row at most and
not with the file's length; of rows that tell of one person the first counts, and the others are
marked; a file that cannot be read is refused with the row where that shows.
"""

import csv
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from libs.common.csvfile.refusal import FileRefusedError, Flaw
from libs.common.csvfile.rows import (
    ROW_CHARACTERS_MAX,
    Form,
    Identifier,
    Row,
    is_ragged,
    lines_of,
)

# Put behind a piece's lines: read as a row of its own, it tells that the row before is complete.
# No file has it, as NUL is refused.
_END = "\x00"
_SLOTS_FIRST = 1 << 12


@dataclass(slots=True)
class Scanned:
    """A chunk as it is stored.

    `skip_lines` are its first lines, which belong to a row that began in an earlier chunk.
    `first_row` is the number of the first row that begins in it, `rows` how many with data do.
    """

    text: str
    skip_lines: int
    first_row: int
    rows: int = 0
    duplicates: list[int] = field(default_factory=list)


class Scan:
    """One pass over one file."""

    def __init__(self, form: Form, connection: UUID, *, rows_max: int) -> None:
        self._form = form
        self._identify = Identifier(connection, form)
        self._rows_max = rows_max
        self._seen = _Seen()
        self._number = 0  # Of the last row that was read.
        self._unfinished: list[str] = []  # Lines of a row that goes on.
        self._open: list[
            Scanned
        ] = []  # Chunks whose last row goes on, and those that it goes on in.
        self.rows = 0
        self.ragged = 0
        self.duplicates = 0

    def feed(self, text: str) -> Sequence[Scanned]:
        """Take the next piece; return the chunks that are complete by it, in order.

        Raises FileRefusedError.
        """
        lines = lines_of(text)
        source = [*self._unfinished, *lines, _END]
        carried = len(self._unfinished)
        chunk = Scanned(text, 0, self._number + (2 if carried else 1))
        self._open.append(chunk)
        done, is_complete = 0, False
        reader = csv.reader(source, delimiter=self._form.delimiter)
        try:
            for cells in reader:
                if cells == [_END]:
                    is_complete = True
                    break
                if reader.line_num == len(source):
                    break  # It took the end for a part of itself.
                if done < carried:
                    self._take(cells, self._open[0])
                    chunk.skip_lines = reader.line_num - carried
                else:
                    self._take(cells, chunk)
                done = reader.line_num
        except csv.Error:
            raise self._too_long() from None
        return self._ended(source, done, len(lines), is_complete=is_complete)

    def _ended(
        self, source: Sequence[str], done: int, lines: int, *, is_complete: bool
    ) -> Sequence[Scanned]:
        if is_complete:
            self._unfinished = []
            complete, self._open = self._open, []
            return complete
        if done == 0 and self._unfinished:
            self._open[-1].skip_lines = lines  # All of it belongs to the row that goes on.
        self._unfinished = list(source[done:-1])
        if sum(map(len, self._unfinished)) > ROW_CHARACTERS_MAX:
            raise self._too_long()
        if done == 0:
            return ()
        # The last chunk has the beginning of what goes on; those before it are complete.
        complete, self._open = self._open[:-1], self._open[-1:]
        return complete

    def end(self) -> None:
        """Hear that the file ended; raise FileRefusedError if it cannot have, or has no rows."""
        if self._unfinished:
            row = self._number + 1
            detail = (
                f"Row {row} has a cell that begins with a quotation mark and never ends: close it, "
                "or double the mark where it belongs to the text."
            )
            raise FileRefusedError(Flaw.QUOTE_NOT_CLOSED, detail, row=row)
        if self.rows == 0:
            raise FileRefusedError(Flaw.NO_ROWS, "The file has a header and no rows below it.")

    def _take(self, cells: list[str], chunk: Scanned) -> None:
        self._number += 1
        if self._number <= self._form.header_row or not any(cells):
            return
        row = Row(self._number, cells, is_ragged(cells, len(self._form.columns)))
        self.rows += 1
        if self.rows > self._rows_max:
            detail = f"The file has more than {self._rows_max} rows: divide it into several."
            raise FileRefusedError(Flaw.TOO_MANY_ROWS, detail, row=row.number)
        chunk.rows += 1
        self.ragged += row.is_ragged
        if not self._seen.add(self._identify(row)):
            self.duplicates += 1
            chunk.duplicates.append(row.number)

    def _too_long(self) -> FileRefusedError:
        row = self._number + 1
        detail = (
            f"Row {row} does not end within {ROW_CHARACTERS_MAX} characters: a quotation mark is "
            "missing, or the delimiter is another one."
        )
        return FileRefusedError(Flaw.ROW_TOO_LONG, detail, row=row)


class _Seen:
    """A set of ids in 16 bytes each at most: their 64-bit hashes, by open addressing.

    Of a million ids, two share a hash in one of thirty million files.
    """

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * _SLOTS_FIRST))
        self._count = 0

    def add(self, id_: str) -> bool:
        """Add an id; False if it was there."""
        if 2 * self._count >= len(self._slots):
            self._grow()
        if not _put(self._slots, _hash64(id_)):
            return False
        self._count += 1
        return True

    def _grow(self) -> None:
        grown = array("Q", bytes(16 * len(self._slots)))
        for value in self._slots:
            if value:
                _put(grown, value)
        self._slots = grown


def _put(slots: "array[int]", value: int) -> bool:
    mask = len(slots) - 1
    at = value & mask
    while there := slots[at]:
        if there == value:
            return False
        at = (at + 1) & mask
    slots[at] = value
    return True


def _hash64(id_: str) -> int:
    """Return a hash that is never 0, which stands for an empty slot; within one process only."""
    return (hash(id_) & 0xFFFFFFFFFFFFFFFF) or 1
