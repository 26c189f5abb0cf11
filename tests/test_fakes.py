"""The fake destination keeps the contract's promises, as far as they do not need HTTP.

The same sentences hold for real connectors (`tests/connectors/conformance.py`).
"""

from datetime import UTC, datetime

import pytest

from libs.common.errors import RateLimitedError, UnknownOutcomeError
from libs.common.events import Identity, Operation
from libs.connectors.contract import (
    Destination,
    FieldType,
    ImportState,
    Missing,
    NotTried,
    Refused,
    Taken,
    Unknown,
    Write,
    Written,
    identity_key,
)
from tests.fakes import FakeAccount, FakeDestination, Fault

LIST = "7"


def write(number: int, **changes: object) -> Write:
    made: dict[str, object] = {
        "op": Operation.UPSERT,
        "identity": Identity(email=f"c{number}@example.com"),
        "attributes": f'{{"VORNAME":"Name {number}"}}'.encode(),
        "list_id": LIST,
        "join_list": True,
    }
    return Write(**(made | changes))  # type: ignore[arg-type]  # named fields, checked by Write


@pytest.fixture
def account() -> FakeAccount:
    return FakeAccount()


@pytest.fixture
def destination(account: FakeAccount) -> Destination:
    """Return the fake as what it claims to be: mypy checks that it is one."""
    return FakeDestination(account)


async def test_what_was_written_is_there_and_matches(destination: Destination) -> None:
    writes = [write(number) for number in range(150)]

    report = await destination.write(writes)

    remotes = await destination.read_back([each.identity for each in writes])
    assert list(report.outcomes) == [Written()] * 150
    assert all(
        remote is not None and destination.matches(remote, each)
        for remote, each in zip(remotes, writes, strict=True)
    )
    rows = {identity_key(each.identity): each for each in writes}
    first = await destination.read_list(LIST, None, awaited=[rows])
    last = await destination.read_list(LIST, first.cursor, awaited=[rows])
    assert len(first.arrived[0]) + len(last.arrived[0]) == 150
    assert last.cursor is None


async def test_writing_twice_is_writing_once(
    destination: Destination, account: FakeAccount
) -> None:
    await destination.write([write(1)])
    before = await destination.read_back([write(1).identity])

    await destination.write([write(1)])

    assert await destination.read_back([write(1).identity]) == before
    assert [each.created for each in account.writes_of("c1@example.com")] == [True, False]


async def test_outcomes_come_in_the_order_of_the_writes(
    destination: Destination, account: FakeAccount
) -> None:
    await destination.write([write(1), write(2)])
    account.refused["c9@example.com"] = "invalid_email"

    report = await destination.write(
        [
            write(3, known_as=Identity(email="nobody@example.com")),
            write(2, known_as=write(1).identity),
            write(9),
            write(4, known_as=write(1).identity),
            write(4, op=Operation.LEAVE),
        ]
    )

    assert list(report.outcomes) == [
        Missing(),
        Taken(),
        Refused("invalid_email"),
        Written(),
        Written(),
    ]
    assert account.keys() == {"c2@example.com", "c4@example.com"}
    assert account.contacts["c4@example.com"].list_ids == set()


async def test_a_limit_stops_the_rest_untried(
    destination: Destination, account: FakeAccount
) -> None:
    account.fail(None, Fault.LIMITED)

    report = await destination.write([write(1), write(2), write(3)])

    assert list(report.outcomes) == [Written(), NotTried(), NotTried()]
    assert isinstance(report.stopped_by, RateLimitedError)


@pytest.mark.parametrize(("fault", "there"), [(Fault.LOST, 0), (Fault.LOST_APPLIED, 1)])
async def test_a_lost_answer_is_unknown_and_stops_the_rest(
    destination: Destination, account: FakeAccount, fault: Fault, there: int
) -> None:
    account.fail(fault)

    report = await destination.write([write(1), write(2)])

    assert list(report.outcomes) == [Unknown(), NotTried()]
    assert isinstance(report.stopped_by, UnknownOutcomeError)
    assert len(account.contacts) == there


async def test_an_import_takes_who_is_new_and_leaves_the_others_alone(
    destination: Destination, account: FakeAccount
) -> None:
    await destination.write([write(1)])
    writes = [write(number, attributes=b'{"VORNAME":"Imported"}') for number in range(1, 5)]

    screened = (await destination.screen_import([identity_key(w.identity) for w in writes])).may
    process_id = await destination.start_import(writes, None)
    before = await destination.import_status(process_id)
    account.land(silently_lost=["c2@example.com"], refused={"c3@example.com": "invalid_email"})
    after = await destination.import_status(process_id)

    assert list(screened) == [False, True, True, True]
    assert before.state is ImportState.RUNNING
    assert (after.state, after.refused) == (
        ImportState.COMPLETED,
        {"c3@example.com": "invalid_email"},
    )
    assert account.keys() == {"c1@example.com", "c4@example.com"}
    assert account.contacts["c1@example.com"].attributes == {"VORNAME": "Name 1"}
    found = await destination.find_imports(datetime.now(UTC))
    assert [each.process_id for each in found] == [process_id]


async def test_the_account_describes_itself(destination: Destination, account: FakeAccount) -> None:
    await destination.make_attribute("CITY", FieldType.TEXT)

    assert (await destination.check()).id
    assert any(field.unique for field in await destination.describe_attributes())
    assert (await destination.make_list("Customers")).id == (await destination.find_lists())[0].id
    assert account.calls["make_attribute"] == 1
