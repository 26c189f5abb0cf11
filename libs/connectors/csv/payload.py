"""A file's rows as changes, and its columns as fields: pure."""

from collections.abc import Iterator, Sequence

import msgspec

from libs.common.csvfile.columns import Meaning, meaning_of
from libs.common.csvfile.rows import Chunk, Form, Identifier, Row, StoredFile, rows_of
from libs.common.events import Change, Operation
from libs.connectors.contract import Field, FieldType

# Which cells belong to which columns is not known: no object, so the mapper calls it malformed.
_RAGGED = msgspec.Raw(b"[]")
_encode = msgspec.json.Encoder().encode


def fields_of(form: Form) -> list[Field]:
    """Return a file's columns. Their cells are text: what is in them is judged row by row."""
    return [
        Field(name=name, label=name, type=_type_of(name), unique=name in form.keys)
        for name in form.columns
    ]


def _type_of(name: str) -> FieldType:
    match meaning_of(name):
        case Meaning.EMAIL:
            return FieldType.EMAIL
        case Meaning.PHONE:
            return FieldType.PHONE
        case _:
            return FieldType.UNTYPED


def missing(form: Form, properties: Sequence[str]) -> list[str]:
    """Return the properties that are no columns of a file."""
    return [name for name in properties if name not in form.columns]


def changes_of(
    chunk: Chunk, file: StoredFile, identify: Identifier, properties: Sequence[str]
) -> Iterator[Change]:
    """Yield a change for each row with data in it.

    A row that tells of somebody whom an earlier one has told of is older than that, so it is
    superseded wherever it arrives.
    """
    places = [(name, file.form.columns.index(name)) for name in properties]
    for row in rows_of(chunk, file.form):
        yield Change(
            id=identify(row),
            op=Operation.UPSERT,
            version_ms=file.uploaded_ms - (row.number in chunk.duplicates),
            properties=_properties(row, places),
        )


def _properties(row: Row, places: Sequence[tuple[str, int]]) -> msgspec.Raw:
    if row.is_ragged:
        return _RAGGED
    cells = row.cells
    return msgspec.Raw(_encode({name: cells[place] for name, place in places}))
