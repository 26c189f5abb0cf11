"""A source that has no sandbox: files, as a person makes them and uploads them (AC8).

It answers the demo as `local.providers.Provider` does. Without a file of somebody's own it makes
one of the sandbox's seeded people, some of them unusable on purpose; what is edited is edited in
memory, and the whole file is uploaded again.
"""

import csv
import io
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import UUID

from libs.common import ids
from libs.common.csvfile.columns import Meaning, by_meaning
from libs.common.csvfile.form import ENCODINGS as PYTHONS
from libs.common.csvfile.form import HEAD_BYTES, Wishes, encoding_of, form_of
from libs.common.csvfile.refusal import FileRefusedError
from libs.common.csvfile.rows import Chunk, Form, Identifier, lines_of, rows_of
from libs.common.ids import Prefix
from local import verify
from local.api import Api, Json
from local.errors import StackError
from local.parties import SourceParty
from sandbox.people import Person, people

_WORDS = {
    Meaning.EMAIL: "email",
    Meaning.FIRST_NAME: "firstname",
    Meaning.LAST_NAME: "lastname",
    Meaning.PHONE: "phone",
    Meaning.COMPANY: "company",
    Meaning.CITY: "city",
    Meaning.BIRTHDAY: "birthday",
}
# What an edit changes: the first of these that the file has.
_PLAIN = ("city", "company", "lastname", "firstname")
NO_CONNECTION = UUID(int=0)


@dataclass(slots=True)
class FileSource:
    """One file, in memory, and the connection that it is uploaded to."""

    party: SourceParty
    path: Path | None = None
    form: Form | None = None
    rows: list[list[str]] = field(default_factory=list)
    connection: UUID = NO_CONNECTION
    content: bytes | None = None  # As it is on the disk, until a row is edited.

    @classmethod
    def of(cls, party: SourceParty, path: Path | None) -> "FileSource":
        """Return the file at a path, or one to be filled; raise `StackError` if it is unusable."""
        source = cls(party, path)
        if path is not None:
            source._open(path)
        return source

    def _open(self, path: Path) -> None:
        try:
            content = path.read_bytes()
            name, mark = encoding_of(content[:HEAD_BYTES], None)
            text = content[mark:].decode(PYTHONS[name])
            form = form_of(text, name, Wishes(), is_whole=True)
        except (OSError, UnicodeDecodeError, FileRefusedError) as error:
            what = f"{path} cannot be read: {error}"
            raise StackError(what, "name a CSV file with a header") from error
        rows = list(rows_of(Chunk(lines_of(text), 1), form))
        ragged = next((row.number for row in rows if row.is_ragged), None)
        if ragged is not None:
            what = f"row {ragged} of {path} has not as many cells as there are columns"
            raise StackError(what, "the API tells such rows; the demo cannot judge them")
        self._take(form, [list(row.cells) for row in rows])
        self.content = content

    def _take(self, form: Form, rows: list[list[str]]) -> None:
        self.form, self.rows = form, rows
        meant = by_meaning(form.columns)
        fields = {word: meant[meaning] for meaning, word in _WORDS.items() if meaning in meant}
        self.party = replace(self.party, fields=fields)

    async def lift_limits(self) -> None:
        """Do nothing: a file has no limits."""

    async def fill(self, count: int, *, seed: int, name: str, invalid_share: float) -> Json:
        """Make a file of so many people, unless there is one."""
        if self.form is None:
            header = tuple(self.party.fields.values())
            made = people(count, seed=seed, invalid_share=invalid_share)
            form = form_of(_written(";", [header]), "utf-8", Wishes(has_header=True), is_whole=True)
            self._take(form, [_cells(person) for person in made])
        return {}

    async def change(self, count: int, *, seed: int) -> None:
        """Edit a plain cell of so many rows whose contact is usable."""
        assert self.form is not None
        word = next((each for each in _PLAIN if each in self.party.fields), None)
        usable = self._usable()
        if word is None or len(usable) < count:
            what = f"the file has not {count} contacts with a name, company or city to edit"
            raise StackError(what, "name a file that has")
        place = self.form.columns.index(self.party.fields[word])
        self.content = None
        for number in random.Random(seed).sample(usable, count):  # noqa: S311  # the same each time
            self.rows[number][place] += f" {seed}"

    def _usable(self) -> list[int]:
        """Return the places of rows that are written: by an oracle of its own."""
        wanted = verify.wanted_of(self._state(), "").contacts
        seen: set[str] = set()
        places = []
        for place, (source_id, _) in enumerate(self._people()):
            if source_id in wanted and source_id not in seen:
                places.append(place)
            seen.add(source_id)
        return places

    async def state(self) -> Json:
        """Return everybody in the file, in the demo's words; of several rows of one the first."""
        return self._state()

    def _state(self) -> Json:
        contacts: dict[str, Json] = {}
        for source_id, properties in self._people():
            person = {"id": source_id, "archived": False, "properties": properties}
            contacts.setdefault(source_id, person)
        everybody = [{"name": name, "members": list(contacts)} for name in ("", "Newsletter")]
        return {"contacts": list(contacts.values()), "lists": everybody}

    def _people(self) -> Iterable[tuple[str, Mapping[str, str]]]:
        assert self.form is not None
        identify = Identifier(self.connection, self.form)
        places = {
            word: self.form.columns.index(column) for word, column in self.party.fields.items()
        }
        text = _written(self.form.delimiter, self.rows)
        form = _headless(self.form)
        for row in rows_of(Chunk(lines_of(text), 1), form):
            yield identify(row), {word: row.cells[place] for word, place in places.items()}

    async def calls(self) -> Json:
        """Return that nobody was called."""
        return {"total": 0, "violations": 0, "writes": 0}

    async def upload(self, api: Api, connection: str | None = None) -> None:
        """Upload the file as it is now, and confirm it."""
        assert self.form is not None
        if connection is not None:
            self.connection = ids.parse(Prefix.CONNECTION, connection)
        written = _written(self.form.delimiter, [self.form.columns, *self.rows]).encode()
        shown = ids.show(Prefix.CONNECTION, self.connection)
        made = await api.upload(f"/v1/imports?connection_id={shown}", self.content or written)
        await api.post(f"/v1/imports/{made['id']}:confirm")


def _headless(form: Form) -> Form:
    """Return a form of the rows alone."""
    return Form(
        encoding=form.encoding,
        delimiter=form.delimiter,
        header_row=0,
        columns=form.columns,
        keys=form.keys,
    )


def _cells(person: Person) -> list[str]:
    return [
        person.email or "",
        person.first_name,
        person.last_name,
        person.phone or "",
        person.company,
        person.city,
        person.birthday,
    ]


def _written(delimiter: str, rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows(rows)
    return text.getvalue()
