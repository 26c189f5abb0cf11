"""What destinations share that write singly: the order, the stop, and no imports."""

from datetime import UTC, datetime

import pytest

from libs.common.errors import RequestRefusedError, UnavailableError, UnknownOutcomeError
from libs.common.events import Identity, Operation
from libs.connectors.contract import NotTried, Outcome, Unknown, Write, Written
from libs.connectors.singles import NoImports, write_each
from tests.fakes import FakeDestination

WRITES = [
    Write(Operation.UPSERT, Identity(email=f"{number}@example.com"), b"{}", "1")
    for number in range(6)
]


class Single(NoImports):
    facts = FakeDestination.facts


@pytest.mark.parametrize(
    ("error", "fate"),
    [(UnknownOutcomeError("h", "cut"), Unknown()), (UnavailableError("h", "503"), NotTried())],
)
@pytest.mark.parametrize("together", [1, 2])
async def test_the_first_error_stops_the_rest_and_is_told(
    error: Exception, fate: Outcome, together: int
) -> None:
    async def apply(write: Write) -> Outcome:
        if write is WRITES[2]:
            raise error
        return Written(warning=str(write.identity.email))

    report = await write_each(WRITES, apply, together=together)

    written = [Written(warning=f"{number}@example.com") for number in range(2)]
    assert list(report.outcomes[:3]) == [*written, fate]
    assert list(report.outcomes[4:]) == [NotTried()] * 2
    assert report.stopped_by is error


async def test_nothing_to_write_is_written() -> None:
    async def apply(write: Write) -> Outcome:
        raise AssertionError

    assert (await write_each([], apply)).outcomes == []


async def test_who_has_no_imports_says_so() -> None:
    single = Single()

    screening = await single.screen_import(["a", "b"], [{}, {}])

    assert single.importable(WRITES) == [False] * 6
    assert (screening.may, screening.arrived) == ([False] * 2, [(), ()])
    assert await single.find_imports(datetime.now(UTC)) == ()
    with pytest.raises(RequestRefusedError, match="no_imports"):
        await single.start_import(WRITES, None)
    with pytest.raises(RequestRefusedError, match="no_imports"):
        await single.import_status("1")
