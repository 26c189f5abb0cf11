"""CSV files that we write: what all of them have in common.

Promises: RFC 4180, UTF-8; no cell that a provider or a customer filled can be taken for a formula
by a spreadsheet (OWASP: CSV injection).
"""

import csv
import io
from collections.abc import Iterable, Sequence

MEDIA_TYPE = "text/csv"

# What spreadsheets take for the beginning of a formula, or skip before one; the last four are the
# wide ones of East Asian keyboards.
_FORMULA_BEGINS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def neutral(text: str) -> str:
    """Return a cell's text so that no spreadsheet reads a formula in it."""
    return f"'{text}" if text.startswith(_FORMULA_BEGINS) else text


def encoded(rows: Iterable[Sequence[str]]) -> bytes:
    """Return rows as they stand in a file."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
