"""The ledger as a CSV file, written chunk by chunk: a million lines take the memory of one chunk.

Promises: a header, then one line a charged task; what `csv_export` promises of every file.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from libs.common import ids
from libs.common.ids import Prefix
from services.config_api.csv_export import encoded, neutral
from services.config_api.store.quota_ledger import Line, Position

# About 200 KB of text: some milliseconds of the database's, and of ours between two other requests.
CHUNK_LINES = 1000

COLUMNS = ("at", "period", "contact", "integration_id", "integration", "run_id", "operation")

Fetch = Callable[[Position | None], Awaitable[Sequence[Line]]]


async def written(first: Sequence[Line], fetch: Fetch) -> AsyncIterator[bytes]:
    """Yield the file: the header and the `first` chunk, then what `fetch` finds behind each."""
    yield encoded([COLUMNS, *(_cells(line) for line in first)])
    chunk = first
    while len(chunk) == CHUNK_LINES:
        chunk = await fetch(chunk[-1].position)
        yield encoded(_cells(line) for line in chunk)


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
