"""The ledger as a CSV file, written chunk by chunk: a million lines take the memory of one chunk.

Promises: RFC 4180 with a header, UTF-8, one line a charged task; no cell that a provider or a
customer filled can be taken for a formula by a spreadsheet (OWASP: CSV injection).
"""

import csv
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

from libs.common import ids
from libs.common.ids import Prefix
from services.config_api.store.quota_ledger import Line, Position

MEDIA_TYPE = "text/csv"

# About 200 KB of text: some milliseconds of the database's, and of ours between two other requests.
CHUNK_LINES = 1000

COLUMNS = ("at", "period", "contact", "integration_id", "integration", "run_id", "operation")

# What spreadsheets take for the beginning of a formula, or skip before one; the last four are the
# wide ones of East Asian keyboards.
_FORMULA_BEGINS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")

Fetch = Callable[[Position | None], Awaitable[Sequence[Line]]]


async def written(first: Sequence[Line], fetch: Fetch) -> AsyncIterator[bytes]:
    """Yield the file: the header and the `first` chunk, then what `fetch` finds behind each."""
    yield _encoded([COLUMNS, *(_cells(line) for line in first)])
    chunk = first
    while len(chunk) == CHUNK_LINES:
        chunk = await fetch(chunk[-1].position)
        yield _encoded(_cells(line) for line in chunk)


def neutral(text: str) -> str:
    """Return a cell's text so that no spreadsheet reads a formula in it."""
    return f"'{text}" if text.startswith(_FORMULA_BEGINS) else text


def _encoded(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _cells(line: Line) -> Sequence[str]:
    return (
        line.at.isoformat().replace("+00:00", "Z"),  # As in the pages.
        f"{line.period:%Y-%m}",
        neutral(line.contact),
        ids.show(Prefix.INTEGRATION, line.integration_id),
        neutral(line.integration or ""),
        ids.show(Prefix.RUN, line.run_id),
        line.operation,
    )
