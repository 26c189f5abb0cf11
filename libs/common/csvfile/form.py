"""Find out how a file is to be read, from its first bytes: encoding, delimiter, header, keys.

Whatever is found is shown to a person, who may say otherwise (`Wishes`). Promises: what certainly
is no CSV file is refused in words that say what it is; nothing is guessed where a person has said.

Without a byte order mark a file is UTF-8 if it can be, UTF-16 if every second byte is zero, else
Windows-1252: what Excel writes in western Europe (docs/decisions/0136).
"""

import codecs
import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from libs.common.csvfile.columns import Meaning, by_meaning, clean, numbered
from libs.common.csvfile.refusal import FileRefusedError, Flaw
from libs.common.csvfile.rows import Form, is_ragged, lines_of, records

# Enough for some hundred rows: what a guess needs, and little to hold back.
HEAD_BYTES = 64 * 1024
COLUMNS_MAX = 500
_LOOKED_AT = 100  # Rows that a guess looks at.

# By the name that people see, Python's. Those that Excel writes for its users' languages.
ENCODINGS: Mapping[str, str] = {
    "utf-8": "utf-8",
    "utf-16le": "utf-16-le",
    "utf-16be": "utf-16-be",
    "windows-1252": "cp1252",
    "windows-1250": "cp1250",
    "windows-1251": "cp1251",
    "iso-8859-15": "iso8859-15",
    "macintosh": "mac-roman",
    "cp850": "cp850",
}
DELIMITERS = (",", ";", "\t", "|")
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16le"),
    (codecs.BOM_UTF16_BE, "utf-16be"),
)
# By how a file begins, what it is instead.
_OTHERS = (
    (b"PK\x03\x04", "an Excel workbook or a ZIP archive"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"%PDF", "a PDF document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"<!doctype", "a web page"),
    (b"<html", "a web page"),
    (b"<?xml", "an XML document"),
    (b"{\\rtf", "a text document"),
)
_SAVE_AS = "Save it as CSV (“CSV UTF-8” in Excel) and upload that."
_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+")
_NUMBER = re.compile(r"[+(]?[0-9][0-9 ()./:,-]*")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a person says of a file; None: it is to be found out."""

    encoding: str | None = None
    delimiter: str | None = None
    has_header: bool | None = None
    keys: Sequence[str] | None = None


def encoding_of(head: bytes, wanted: str | None) -> tuple[str, int]:
    """Return a file's encoding, and how many bytes of its mark are to be left out.

    Raises FileRefusedError for what is no text at all.
    """
    if not head.strip(b"\x00 \t\r\n\xef\xbb\xbf\xfe\xff"):
        raise FileRefusedError(Flaw.EMPTY, "The file is empty.")
    _refuse_others(head)
    marked = next(((name, len(mark)) for mark, name in _MARKS if head.startswith(mark)), None)
    if marked is not None:
        # A mark is no guess, but somebody may have put one before what it does not fit.
        return (marked[0] if wanted is None else wanted), marked[1]
    return (wanted or _guess_encoding(head)), 0


def _refuse_others(head: bytes) -> None:
    begins = head.lstrip()[:16].lower()
    for signature, what in _OTHERS:
        if head.startswith(signature) or begins.startswith(signature.lower()):
            raise FileRefusedError(Flaw.NOT_CSV, f"This is {what}, not a CSV file. {_SAVE_AS}")


def _guess_encoding(head: bytes) -> str:
    if b"\x00" in head:
        return _guess_utf16(head)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return "windows-1252"
    return "utf-8"


def _guess_utf16(head: bytes) -> str:
    even, odd = head[0::2].count(0), head[1::2].count(0)
    # Names of other alphabets have no zeros, but delimiters and line ends have.
    if odd > 4 * even:
        return "utf-16le"
    if even > 4 * odd:
        return "utf-16be"
    raise FileRefusedError(Flaw.NOT_CSV, f"This is a binary file, not a CSV file. {_SAVE_AS}")


def form_of(text: str, encoding: str, wishes: Wishes, *, is_whole: bool) -> Form:
    """Return how a file is to be read whose text begins so; `is_whole`: nothing comes after it.

    Raises FileRefusedError if it is no table, or its header cannot name the columns.
    """
    lines = lines_of(text)
    if not is_whole and len(lines) > 1:
        lines.pop()  # It may go on.
    delimiter = wishes.delimiter or _guess_delimiter(lines)
    looked_at = _sample(lines, delimiter)
    if not is_whole and len(looked_at) > 1 and len(looked_at) < _LOOKED_AT:
        looked_at.pop()  # Perhaps cut within quotation marks.
    filled = [(number, cells) for number, cells in enumerate(looked_at, 1) if any(cells)]
    if not filled:
        raise FileRefusedError(Flaw.EMPTY, "The file has no text in it.")
    number, first = filled[0]
    others = [cells for _, cells in filled[1:]]
    has_header = _looks_like_header(first) if wishes.has_header is None else wishes.has_header
    columns = _columns(first, others, number) if has_header else _numbered([first, *others])
    keys = _keys(columns, [first, *others] if not has_header else others, wishes.keys)
    return Form(
        encoding=encoding,
        delimiter=delimiter,
        header_row=number if has_header else 0,
        columns=columns,
        keys=keys,
    )


def _guess_delimiter(lines: Sequence[str]) -> str:
    """Return the delimiter by which most rows have one number of cells, and that the largest."""
    best, highest = None, 0.0
    for delimiter in DELIMITERS:
        sample = [row for row in _sample(lines, delimiter) if any(row)]
        widths = Counter(map(len, sample))
        width, count = max(widths.items(), key=lambda each: (each[1], each[0]), default=(1, 0))
        score = count / len(sample) * (1 + width / 1000) if width > 1 else 0.0
        if score > highest:
            best, highest = delimiter, score
    if best is not None:
        return best
    if _is_one_column(lines):
        return DELIMITERS[0]
    raise FileRefusedError(
        Flaw.NOT_CSV,
        "No commas, semicolons, tabs or bars divide the lines into columns: this is not a CSV "
        f"file. {_SAVE_AS}",
    )


def _sample(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    """Return the first rows, up to one that is too long: who reads all of them says which."""
    sample: list[list[str]] = []
    try:
        for row in islice(records(lines, delimiter), _LOOKED_AT):
            sample.append(row)  # noqa: PERF402  # what came before an error is kept
    except csv.Error:
        pass
    return sample


def _is_one_column(lines: Sequence[str]) -> bool:
    """Return whether the lines are addresses or numbers, one each: a list needs no delimiter."""
    filled = [line.strip().strip('"') for line in lines if line.strip()]
    known = [each for each in filled if _ADDRESS.fullmatch(each) or _NUMBER.fullmatch(each)]
    return len(known) >= max(1, len(filled) - 1) * 0.8


def _looks_like_header(first: Sequence[str]) -> bool:
    """Return whether a row has names in it: no address, no number, no date."""
    cells = [cell.strip() for cell in first if cell.strip()]
    return not any(_ADDRESS.fullmatch(cell) or _NUMBER.fullmatch(cell) for cell in cells)


def _columns(header: Sequence[str], others: Sequence[Sequence[str]], row: int) -> tuple[str, ...]:
    """Return the names that a header gives; raise FileRefusedError unless it names each once."""
    names = [clean(cell) for cell in header]
    while names and not names[-1]:
        names.pop()  # Spreadsheets write empty columns at the end.
    _refuse_too_many(len(names))
    blank = [number for number, name in enumerate(names, 1) if not name]
    if blank:
        at = ", ".join(map(str, blank[:10]))
        detail = f"The header has no name for column {at}: give each column a name."
        raise FileRefusedError(Flaw.HEADER_BLANK, detail, row=row)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        shown = ", ".join(f"“{name}”" for name in twice[:10])
        detail = f"The header names {shown} more than once: give each column a name of its own."
        raise FileRefusedError(Flaw.HEADER_DUPLICATE, detail, row=row)
    ragged = sum(is_ragged(cells, len(names)) for cells in others)
    if others and ragged > len(others) / 2:
        detail = (
            f"The header has {len(names)} columns, and most rows below have another number of "
            "cells: check the delimiter, and that the header names each column."
        )
        raise FileRefusedError(Flaw.HEADER_RAGGED, detail, row=row)
    return tuple(names)


def _numbered(rows: Sequence[Sequence[str]]) -> tuple[str, ...]:
    [(width, _)] = Counter(map(len, rows)).most_common(1)
    _refuse_too_many(width)
    return numbered(width)


def _refuse_too_many(count: int) -> None:
    if count > COLUMNS_MAX:
        detail = f"The file has {count} columns; at most {COLUMNS_MAX} are read."
        raise FileRefusedError(Flaw.TOO_MANY_COLUMNS, detail)


def _keys(
    columns: Sequence[str], rows: Sequence[Sequence[str]], wanted: Sequence[str] | None
) -> tuple[str, ...]:
    """Return the columns that tell people apart: those a person named, else address and number."""
    if wanted is not None:
        for name in wanted:
            if name not in columns:
                detail = f"The file has no column “{clean(name)}” to tell people apart by."
                raise FileRefusedError(Flaw.UNKNOWN_KEY, detail)
        return tuple(dict.fromkeys(wanted))
    meant = by_meaning(columns)
    found = [meant[each] for each in (Meaning.EMAIL, Meaning.PHONE) if each in meant]
    if Meaning.EMAIL not in meant and (address := _column_of_addresses(columns, rows)):
        found.insert(0, address)
    return tuple(dict.fromkeys(found))


def _column_of_addresses(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str | None:
    """Return the column most of whose filled cells are e-mail addresses."""
    for place, name in enumerate(columns):
        filled = [row[place].strip() for row in rows if len(row) > place and row[place].strip()]
        addresses = [cell for cell in filled if _ADDRESS.fullmatch(cell)]
        if filled and len(addresses) > len(filled) / 2:
            return name
    return None
