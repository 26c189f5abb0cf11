"""What is wrong with a file's rows, as a CSV file: one line for each row that was not written.

The file is gone through again, and each chunk's people are looked up among those who were rejected:
so a row has its number, and memory holds one chunk. Promises: a row is listed once, whatever the
length of the file; what a person must do about it is said in words; no cell of the row is repeated.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from libs.common import reasons
from libs.common.csvfile.rows import Chunk, Form, Identifier, Row, rows_of
from libs.common.reasons import Who, Words
from services.config_api.csv_export import encoded, neutral
from services.config_api.store.imports import Outcome

COLUMNS = ("row", "status", "reason", "what", "remedy", "contact")

# What a row is told of that no service rejects: it never was a contact of its own.
RAGGED = "row_ragged"
DUPLICATE = "row_duplicate"
_OWN: Mapping[str, Mapping[str, Words]] = {
    RAGGED: {
        "en": Words(
            "The row has not as many cells as the header has columns.",
            "Put the cells in the columns that they belong to, and upload the file again.",
        ),
        "de": Words(
            "Die Zeile hat nicht so viele Zellen wie die Kopfzeile Spalten.",
            "Ordnen Sie die Zellen den Spalten zu, und laden Sie die Datei erneut hoch.",
        ),
    },
    DUPLICATE: {
        "en": Words(
            "An earlier row tells of the same person: that one counts.",
            "Nothing, or keep the row that is right and upload the file again.",
        ),
        "de": Words(
            "Eine frühere Zeile betrifft dieselbe Person: Jene zählt.",
            "Nichts, oder behalten Sie die richtige Zeile, und laden Sie die Datei erneut hoch.",
        ),
    },
}

ReadChunk = Callable[[int], Awaitable[Chunk | None]]
LookUp = Callable[[Sequence[str]], Awaitable[Mapping[str, Outcome]]]


@dataclass(frozen=True, slots=True)
class Listing:
    """What a file of errors is made from."""

    form: Form
    identify: Identifier
    chunks: int
    read_chunk: ReadChunk
    look_up: LookUp
    language: str


async def written(listing: Listing) -> AsyncIterator[bytes]:
    """Yield the file: the header, and then the lines of each chunk that has any."""
    yield encoded([COLUMNS])
    for number in range(listing.chunks):
        chunk = await listing.read_chunk(number)
        if chunk is None:
            return  # Forgotten meanwhile: thirty days are over.
        rows = [(row, listing.identify(row)) for row in rows_of(chunk, listing.form)]
        found = await listing.look_up([source_id for _, source_id in rows])
        lines = list(_lines(rows, chunk, found, listing.language))
        if lines:
            yield encoded(lines)


def _lines(
    rows: Sequence[tuple[Row, str]], chunk: Chunk, found: Mapping[str, Outcome], language: str
) -> Iterator[Sequence[str]]:
    for row, source_id in rows:
        if row.number in chunk.duplicates:
            yield _line(row, "skipped", DUPLICATE, _OWN[DUPLICATE][language], source_id)
        elif row.is_ragged:
            yield _line(row, "rejected", RAGGED, _OWN[RAGGED][language], source_id)
        elif (outcome := found.get(source_id)) is not None:
            reason = reasons.REASONS.get(outcome.reason)
            # Who waits for anything else than a better file goes on without one.
            if outcome.status == "parked" and (reason is None or reason.who is not Who.SOURCE):
                continue
            words = None if reason is None else (reason.de if language == "de" else reason.en)
            status = "waiting" if outcome.status == "parked" else outcome.status
            yield _line(row, status, outcome.reason, words, source_id)


def _line(row: Row, status: str, code: str, words: Words | None, source_id: str) -> Sequence[str]:
    return (
        str(row.number),
        status,
        code,
        words.what if words else "",
        words.remedy if words else "",
        neutral(source_id),
    )
