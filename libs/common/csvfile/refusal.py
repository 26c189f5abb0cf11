"""Why a file is not taken: one code and one sentence, for the person who chose it."""

from enum import StrEnum


class Flaw(StrEnum):
    """What is wrong with a file as a whole. What is wrong with one row stops nobody else."""

    EMPTY = "file_empty"
    NO_ROWS = "file_has_no_rows"
    NOT_CSV = "file_is_not_csv"
    WRONG_ENCODING = "wrong_encoding"
    HEADER_BLANK = "header_blank"
    HEADER_DUPLICATE = "header_duplicate"
    HEADER_RAGGED = "header_ragged"
    TOO_MANY_COLUMNS = "too_many_columns"
    TOO_MANY_ROWS = "too_many_rows"
    ROW_TOO_LONG = "row_too_long"
    QUOTE_NOT_CLOSED = "quote_not_closed"
    UNKNOWN_KEY = "unknown_key_column"


class FileRefusedError(Exception):
    """A file cannot be read as it is asked for. `row` counts from 1, as a spreadsheet does.

    `detail` holds no cell of the file but column names.
    """

    def __init__(self, flaw: Flaw, detail: str, *, row: int | None = None) -> None:
        self.flaw = flaw
        self.detail = detail
        self.row = row
        super().__init__(detail)
