"""CSV files as a source: what every source promises, and what only files do."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import msgspec
import pytest

from libs.common.csvfile.form import Wishes, form_of
from libs.common.csvfile.rows import Chunk, StoredFile, lines_of
from libs.common.csvfile.scan import Scan
from libs.common.errors import MisconfiguredError
from libs.connectors.contract import Cursor, FieldType, Sweep
from libs.connectors.csv.source import CsvSource
from tests.connectors.conformance import FOREVER_MS, SourcePromises, members_of, sweep_all

PROPERTIES = ("E-Mail", "Ort")
PER_CHUNK = 40


@dataclass
class MemoryFiles:
    """Files in memory, in chunks of some lines (`libs.connectors.contract.Files`)."""

    connection: UUID = field(default_factory=uuid4)
    files: list[StoredFile] = field(default_factory=list)
    chunks: dict[UUID, list[Chunk]] = field(default_factory=dict)

    def add(self, content: str, keys: Sequence[str] | None = None) -> StoredFile:
        form = form_of(content, "utf-8", Wishes(keys=keys), is_whole=True)
        scan = Scan(form, self.connection, rows_max=10_000)
        lines = lines_of(content)
        pieces = ["".join(lines[at : at + PER_CHUNK]) for at in range(0, len(lines), PER_CHUNK)]
        scanned = [chunk for piece in pieces for chunk in scan.feed(piece)]
        scan.end()
        uploaded_ms = 1_700_000_000_000 + len(self.files)
        file = StoredFile(uuid4(), uploaded_ms, form, scan.rows, len(scanned))
        self.files.append(file)
        self.chunks[file.id] = [
            Chunk(lines_of(each.text), each.first_row, frozenset(each.duplicates))
            for each in scanned
        ]
        return file

    async def current(self) -> StoredFile | None:
        return self.files[-1] if self.files else None

    async def find(self, file_id: UUID) -> StoredFile | None:
        return next((each for each in self.files if each.id == file_id), None)

    async def read_chunk(self, file_id: UUID, number: int) -> Chunk | None:
        chunks = self.chunks.get(file_id, [])
        return chunks[number] if number < len(chunks) else None


def content_of(count: int, first: int = 0) -> str:
    rows = (f"p{each}@example.org;O{each}\n" for each in range(first, first + count))
    return "E-Mail;Ort\n" + "".join(rows)


def sweep(since_ms: int | None = None) -> Sweep:
    return Sweep("contacts", None, PROPERTIES, since_ms, FOREVER_MS)


@pytest.fixture
def files() -> MemoryFiles:
    return MemoryFiles()


@pytest.fixture
def source(files: MemoryFiles) -> CsvSource:
    return CsvSource(files)


class TestPromises(SourcePromises[MemoryFiles]):
    properties = PROPERTIES
    page_max = PER_CHUNK
    offers_all = True

    @pytest.fixture
    def provider(self) -> MemoryFiles:
        return MemoryFiles()

    def source(self, provider: MemoryFiles) -> CsvSource:
        return CsvSource(provider)

    async def fill(self, provider: MemoryFiles, count: int) -> list[str]:
        """Add a file whose rows are known by a number of their owner's."""
        ids = [str(100_000 + number) for number in range(count)]
        rows = (f"{each};p{each}@example.org;O{each}\n" for each in ids)
        provider.add("Kundennummer;E-Mail;Ort\n" + "".join(rows), keys=("Kundennummer",))
        return ids


async def test_an_account_is_a_connection(source: CsvSource, files: MemoryFiles) -> None:
    account = await source.check()

    assert (account.id, account.name) == (files.connection.hex, "CSV file")


async def test_columns_are_fields_of_any_type(source: CsvSource, files: MemoryFiles) -> None:
    """Proves AC8 and W5: text until it is read; addresses and numbers by their names."""
    files.add("E-Mail;Handy;Punkte\na@example.org;+49 151 1;7\n")

    fields = {each.name: each for each in await source.describe_fields("contacts")}

    assert {name: each.type for name, each in fields.items()} == {
        "E-Mail": FieldType.EMAIL,
        "Handy": FieldType.PHONE,
        "Punkte": FieldType.UNTYPED,
    }
    assert [name for name, each in fields.items() if each.unique] == ["E-Mail", "Handy"]


async def test_a_row_is_read_as_it_stands(source: CsvSource, files: MemoryFiles) -> None:
    """Proves AC8: every row by its file's time, with the mapped columns alone."""
    file = files.add(content_of(450))

    changes = await sweep_all(source, sweep())

    assert {each.version_ms for each in changes} == {file.uploaded_ms}
    values = msgspec.json.decode(changes[0].properties, type=dict[str, str])
    assert values == {"E-Mail": "p0@example.org", "Ort": "O0"}


async def test_who_is_on_two_rows_is_one_member(source: CsvSource, files: MemoryFiles) -> None:
    files.add(content_of(150) + "P3@Example.org;again\n")

    members = await members_of(source, "contacts", None)

    assert len(set(members)) == 150
    assert set(members) == {each.id for each in await sweep_all(source, sweep())}


async def test_a_run_of_changes_reads_nothing(source: CsvSource, files: MemoryFiles) -> None:
    """Promise 3: a file is read whole, when it is confirmed."""
    files.add(content_of(3))

    page = await source.read_page(sweep(since_ms=1), None)

    assert (list(page.changes), page.cursor) == ([], None)
    assert await source.count(sweep(since_ms=1)) is None


async def test_a_sweep_stays_in_the_file_that_it_began(
    source: CsvSource, files: MemoryFiles
) -> None:
    """Proves AC8: whatever is uploaded meanwhile."""
    files.add(content_of(100))
    first = await source.read_page(sweep(), None)
    files.add(content_of(5, first=900))

    rest = [*first.changes]
    cursor = first.cursor
    while cursor is not None:
        page = await source.read_page(sweep(), cursor)
        rest += page.changes
        cursor = page.cursor

    assert len({each.id for each in rest}) == 100
    assert len(await sweep_all(source, sweep())) == 5


async def test_there_are_no_lists(source: CsvSource, files: MemoryFiles) -> None:
    files.add(content_of(1))

    assert await source.find_lists("contacts") == []


async def test_a_file_that_is_kept_no_longer_is_missing(
    source: CsvSource, files: MemoryFiles
) -> None:
    """Proves X1: a person is told to upload it again."""
    file = files.add(content_of(100))
    first = await source.read_page(sweep(), None)
    files.chunks.clear()

    with pytest.raises(MisconfiguredError, match="file_missing"):
        await source.read_page(sweep(), first.cursor)
    with pytest.raises(MisconfiguredError, match="file_missing"):
        await source.read_page(sweep(), Cursor(f"{uuid4().hex}:0"))
    assert file.chunks > 1


@pytest.mark.parametrize(
    ("header", "row", "other_row", "is_same"),
    [
        ("E-Mail;Ort", "Ada@Example.org;A", " ada@example.org ;B", True),
        ("E-Mail;Ort", "ada@example.org;A", "bob@example.org;A", False),
        ("E-Mail;Handy", ";+49 151 123", ";+49(151)123", True),
        ("E-Mail;Handy", "a@example.org;1", ";1", False),
        ("Wort;Ort", "a;b", "a;b", True),
        ("Wort;Ort", "a;b", "a;c", False),
    ],
)
async def test_a_person_has_one_id_over_files(
    source: CsvSource, files: MemoryFiles, header: str, row: str, other_row: str, *, is_same: bool
) -> None:
    """Proves AC8: so that the same file again charges nothing."""
    wanted = Sweep("contacts", None, (), None, FOREVER_MS)
    files.add(f"{header}\n{row}\n")
    [first] = await sweep_all(source, wanted)
    files.add(
        f"{header};Neu\n{other_row};x\n" if "Wort" not in header else f"{header}\n{other_row}\n"
    )
    [second] = await sweep_all(source, wanted)
    elsewhere = MemoryFiles()
    elsewhere.add(f"{header}\n{row}\n")
    [stranger] = await sweep_all(CsvSource(elsewhere), wanted)

    assert (first.id == second.id) is is_same
    assert second.version_ms > first.version_ms
    assert stranger.id != first.id  # Ids say nothing across connections.
    assert "example" not in first.id  # X4: no contact data in an id.


async def test_a_customers_number_is_the_id(source: CsvSource, files: MemoryFiles) -> None:
    """Proves AC9: it can be asked about by what its owner knows it by."""
    file = files.add("Kundennummer;E-Mail\n4711;a@example.org\n")
    form = msgspec.structs.replace(file.form, keys=("Kundennummer",))
    files.files[-1] = StoredFile(file.id, file.uploaded_ms, form, 1, 1)

    [change] = await sweep_all(source, Sweep("contacts", None, (), None, FOREVER_MS))

    assert change.id == "4711"
