"""The poller over uploaded files: read whole, gone on with; who is not in one is not gone."""

from collections.abc import Iterable

import msgspec
import pytest

from libs.common.errors import MisconfiguredError
from libs.common.events import Operation, RunMode
from libs.common.uploads import UploadedFiles
from libs.connectors.csv.source import CsvSource
from services.config_api import intake
from tests.services.poller.kills import KilledError, killed_when
from tests.services.poller.world import World
from tests.uploads import store_file

FIELDS = (
    {"source": "E-Mail", "destination": "EMAIL", "destination_type": "email"},
    {"source": "Ort", "destination": "CITY", "destination_type": "text"},
)


def source_of(world: World) -> CsvSource:
    return CsvSource(UploadedFiles(world.as_poller, world.workspace, world.connection))


def people(numbers: Iterable[int], city: str = "Köln") -> str:
    rows = "".join(f"{each};p{each}@example.org;{city}\n" for each in numbers)
    return "Kundennummer;E-Mail;Ort\n" + rows


async def upload(world: World, content: str) -> None:
    await store_file(world.sessions, world.workspace, world.connection, content)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have some thirty rows on a page."""
    monkeypatch.setattr(intake, "CHUNK_CHARACTERS", 1_000)


async def test_a_file_is_read_whole_and_then_not_again(world: World) -> None:
    """Proves AC8 and S1: a full run reads every row; a run of changes reads none."""
    await upload(world, people(range(400)))
    integration = await world.integrate(fields=FIELDS)

    await world.poll(integration, source_of(world))
    await world.poll(integration, source_of(world))

    first, second = world.journal.ends
    assert len(set(world.journal.ids(Operation.UPSERT, run_no=1))) == 400
    assert (first.mode, first.read, first.total_before, first.complete) == (
        RunMode.FULL,
        400,
        400,
        True,
    )
    assert (second.mode, second.read) == (RunMode.CHANGES, 0)
    run = await world.row("select * from sync.runs where run_no = 1")
    assert (run.expected, run.read) == (400, 400)  # What progress is told from.


async def test_who_is_not_in_a_new_file_is_not_gone(world: World) -> None:
    """Proves AC8 and S4: a file need not be everybody, so `keep` never asks about deletions."""
    await upload(world, people(range(100)))
    integration = await world.integrate(fields=FIELDS)
    await world.poll(integration, source_of(world))
    await upload(world, people(range(90, 130)))
    await world.call("sync.request_run", integration=integration, full=True)

    await world.poll(integration, source_of(world))

    assert len(world.journal.ids(Operation.UPSERT, run_no=2)) == 40
    assert world.journal.ids(Operation.DELETE, Operation.LEAVE) == []
    assert (await world.newest_run(integration)).withheld == 0


async def test_who_is_not_in_a_new_file_is_gone_where_a_person_said_so(world: World) -> None:
    """Proves AC8 and S4: with `remove_from_list`, absent is gone, and many need a word."""
    await upload(world, people(range(100)))
    integration = await world.integrate(fields=FIELDS)
    await world.execute("update config.integrations set deletion_policy = 'remove_from_list'")
    await world.poll(integration, source_of(world))
    before = set(world.journal.ids(run_no=1))
    await upload(world, people(range(3, 100)))
    await world.call("sync.request_run", integration=integration, full=True)

    await world.poll(integration, source_of(world))
    await world.poll(integration, source_of(world))  # A run of changes takes nobody for gone.

    still = set(world.journal.ids(Operation.UPSERT, run_no=2))
    assert set(world.journal.ids(Operation.DELETE)) == before - still
    assert len(before - still) == 3


async def test_a_run_that_was_killed_goes_on_in_the_file_that_it_began(world: World) -> None:
    """Fault 20. Proves AC8 and X2: kill -9 in the middle; a newer file waits for its own run."""
    await upload(world, people(range(2_000)))
    integration = await world.integrate(fields=FIELDS)
    assignment = await world.claim_one(integration)
    dying = world.run(assignment, source_of(world))
    with pytest.raises(KilledError):
        await killed_when(dying, lambda: len(world.journal.parts) > 30)
    killed_after = len(world.journal.parts)
    await upload(world, people(range(5_000, 5_010)))
    await world.lapse(integration)

    await world.poll(integration, source_of(world))
    await world.call("sync.request_run", integration=integration, full=True)
    await world.poll(integration, source_of(world))

    parts = [part for part in world.journal.parts if part.run_no == 1]
    again = len(world.journal.ids(run_no=1)) - len(set(world.journal.ids(run_no=1)))
    assert len(set(world.journal.ids(run_no=1))) == 2_000
    assert parts[killed_after].page > 10  # Not from the beginning.
    assert again <= 20 * max(len(part.changes) for part in parts)
    assert [end.read for end in world.journal.ends] == [2_000, 10]


async def test_a_row_of_a_person_who_was_told_of_is_older(world: World) -> None:
    """Proves AC8: the first row counts, whichever page the others are on."""
    rows = "".join(f"p{each}@example.org;O{each}\n" for each in range(100))
    await upload(world, "E-Mail;Ort\nP7@example.org;first\n" + rows)
    integration = await world.integrate(fields=FIELDS)

    await world.poll(integration, source_of(world))

    changes = list(world.journal.changes())
    versions = [each.version_ms for each in changes if each.id == changes[0].id]
    assert len(versions) == 2
    assert versions[0] == versions[1] + 1
    assert {each.version_ms for each in changes} == set(versions)
    assert world.journal.ends[0].read == 101


async def test_a_file_without_a_mapped_column_is_read_by_nobody(world: World) -> None:
    """Fault 46. Proves X1: absent is not empty; the integration says so, and nothing is cleared."""
    await upload(world, "E-Mail\na@example.org\n")
    integration = await world.integrate(fields=FIELDS)
    assignment = await world.claim_one(integration)

    with pytest.raises(MisconfiguredError, match="field_missing"):
        await world.run(assignment, source_of(world)).poll()

    assert world.journal.events == []


async def test_a_connection_without_a_file_says_so(world: World) -> None:
    integration = await world.integrate(fields=FIELDS)
    assignment = await world.claim_one(integration)

    with pytest.raises(MisconfiguredError, match="file_missing"):
        await world.run(assignment, source_of(world)).poll()


async def test_ragged_rows_travel_as_what_they_are(world: World) -> None:
    """Proves AC8: a row whose cells fit no column is told of, and is nobody else's trouble."""
    good = "a@example.org;A\nd@example.org;D\n"
    await upload(world, f"E-Mail;Ort\n{good}b@example.org\nc@example.org;C;c\n")
    integration = await world.integrate(fields=FIELDS)

    await world.poll(integration, source_of(world))

    properties = [bytes(each.properties) for each in world.journal.changes()]
    assert properties[2:] == [b"[]", b"[]"]
    assert msgspec.json.decode(properties[0]) == {"E-Mail": "a@example.org", "Ort": "A"}
