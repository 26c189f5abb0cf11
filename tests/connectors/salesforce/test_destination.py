"""Salesforce as the other end of a two-way integration: records by id, and what may not be done."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from libs.common.errors import (
    MisconfiguredError,
    NeedsReauthError,
    RateLimitedError,
    RequestRefusedError,
    UnavailableError,
    UnknownOutcomeError,
)
from libs.common.events import Identity, Operation
from libs.common.reasons import Reject
from libs.connectors.account import StaticToken
from libs.connectors.contract import (
    FieldType,
    Gate,
    Missing,
    NotTried,
    OpenGate,
    Refused,
    Unknown,
    Write,
    Written,
)
from libs.connectors.salesforce import facts
from libs.connectors.salesforce.destination import SalesforceDestination
from sandbox.salesforce.tokens import STANDING_TOKEN
from tests.connectors.served import RecordingGate, Served

NAMES = ("FirstName", "LastName", "Email", "Birthdate")


def destination_of(
    provider: Served, gate: Gate | None = None, token: str = ""
) -> SalesforceDestination:
    tokens = StaticToken(token or STANDING_TOKEN)
    return SalesforceDestination(provider.http, gate or OpenGate(), tokens, provider.url)


def write_of(record: str | None, op: Operation = Operation.UPSERT, **values: Any) -> Write:
    return Write(op, Identity(), msgspec.json.encode(values), "", record=record)


def delete_of(record: str) -> Write:
    return write_of(record, Operation.DELETE)


async def fill(provider: Served, count: int, kind: str = "Contact", seed: int = 1) -> list[str]:
    wish = {"object": kind, "count": count, "invalid_share": 0, "seed": seed}
    ids: list[str] = (await provider.post("contacts:fill", wish))["ids"]
    return ids


async def values_of(provider: Served, record: str) -> dict[str, Any] | None:
    (remote,) = await destination_of(provider).read_records([record], NAMES)
    return None if remote is None else dict(remote.attributes)


async def test_records_are_changed_two_hundred_a_call(provider: Served) -> None:
    """Proves SF3: each by its id, with an outcome of its own, contacts and leads alike."""
    ids = [*await fill(provider, 250), *await fill(provider, 2, "Lead", seed=2)]
    await provider.post("calls:reset", {})
    writes = [write_of(each, FirstName=f"Zoë {number}") for number, each in enumerate(ids)]

    report = await destination_of(provider).write(writes)

    assert list(report.outcomes) == [Written()] * 252
    assert report.stopped_by is None
    assert await provider.calls() == {"PATCH /services/data/{version}/composite/sobjects": 2}
    remotes = await destination_of(provider).read_records(ids, ["FirstName"])
    assert [each and each.attributes["FirstName"] for each in remotes] == [
        f"Zoë {number}" for number in range(252)
    ]
    assert all(each is not None and each.modified_ms > 1_500_000_000_000 for each in remotes)


async def test_what_a_write_does_not_name_stays_and_null_empties(provider: Served) -> None:
    """Proves SF3."""
    (record,) = await fill(provider, 1)
    before = await values_of(provider, record)
    assert before is not None

    await destination_of(provider).write([write_of(record, FirstName=None)])

    after = await values_of(provider, record)
    assert after is not None
    assert (after["FirstName"], after["LastName"]) == (None, before["LastName"])


async def test_one_record_that_is_refused_spoils_no_other(provider: Served) -> None:
    """Fault 42. Proves SF4, SF8: said of each by itself, and of what must not be sent, unsent."""
    one, two, three, four = await fill(provider, 4)
    (lead,) = await fill(provider, 1, "Lead", seed=2)
    await provider.post("contacts:delete", {"ids": [four]})
    writes = [
        write_of(one, FirstName="Ada"),
        write_of(two, LastName=""),
        write_of(three, LastName="x" * 81),
        write_of(four, FirstName="Ada"),
        write_of(lead, FirstName="x" * 41),
        write_of(None, FirstName="Ada"),
    ]

    report = await destination_of(provider).write(writes)

    assert list(report.outcomes) == [
        Written(),
        Refused(Reject.LAST_NAME_REQUIRED),
        Refused(Reject.VALUE_TOO_LONG),
        Missing(),
        Refused(Reject.VALUE_TOO_LONG),
        Refused(Reject.NOT_A_TASK_TARGET),
    ]
    assert report.stopped_by is None


async def test_a_date_that_is_none_is_its_contacts_own_fault(provider: Served) -> None:
    """Proves SF3: a date in another layout is refused, and nothing else."""
    (record,) = await fill(provider, 1)

    report = await destination_of(provider).write([write_of(record, Birthdate="31.12.1990")])

    assert list(report.outcomes) == [Refused(Reject.DATE_FORMAT)]


async def test_a_contact_with_a_case_is_not_deleted(provider: Served) -> None:
    """Proves SF9."""
    one, two, three = await fill(provider, 3)
    await provider.post("cases:attach", {"contact": two})
    await provider.post("contacts:delete", {"ids": [three]})

    report = await destination_of(provider).write(list(map(delete_of, (one, two, three))))

    assert list(report.outcomes) == [Written(), Refused(Reject.CASE_ATTACHED), Written()]
    assert await values_of(provider, one) is None
    assert await values_of(provider, two) is not None


async def test_who_was_merged_is_read_as_the_survivor(provider: Served) -> None:
    """Proves SF3: a merge, and a merge of that, moves to the record that lives."""
    one, two, three, gone = await fill(provider, 4)
    await provider.post("contacts:merge", {"primary": two, "other": one})
    await provider.post("contacts:merge", {"primary": three, "other": two})
    await provider.post("contacts:delete", {"ids": [gone]})

    remotes = await destination_of(provider).read_records([one, gone, three, "none"], NAMES)

    assert [each and each.id for each in remotes] == [three, None, three, None]


async def test_a_field_that_is_gone_is_the_configuration(provider: Served) -> None:
    """Fault 43: every record would be refused for it, so no contact is blamed."""
    ids = await fill(provider, 2)
    writes = [write_of(each, Gone__c="x") for each in ids]

    report = await destination_of(provider).write(writes)

    assert list(report.outcomes) == [NotTried()] * 2
    assert isinstance(report.stopped_by, MisconfiguredError)
    assert report.stopped_by.what == "attribute_missing"


async def test_a_lost_answer_leaves_its_call_unknown(provider: Served) -> None:
    """Proves X2."""
    ids = await fill(provider, 250)
    await provider.fault({"kind": "cut_after", "times": 1})
    writes = [write_of(each, FirstName="Ada") for each in ids]

    report = await destination_of(provider).write(writes)

    assert list(report.outcomes) == [Unknown()] * 200 + [NotTried()] * 50
    assert isinstance(report.stopped_by, UnknownOutcomeError)
    again = await destination_of(provider).write(writes)
    assert list(again.outcomes) == [Written()] * 250


async def test_a_refused_connection_is_not_unknown(provider: Served) -> None:
    ids = await fill(provider, 1)
    await provider.fault({"kind": "status", "status": 503})

    report = await destination_of(provider).write([write_of(ids[0], FirstName="Ada")])

    assert list(report.outcomes) == [NotTried()]
    assert isinstance(report.stopped_by, UnavailableError)


async def test_every_call_asks_the_gate_and_a_limit_stops(provider: Served) -> None:
    """Proves S10: promise 6."""
    ids = await fill(provider, 250)
    gate = RecordingGate(calls_max=1)
    writes = [write_of(each, FirstName="Ada") for each in ids]

    report = await destination_of(provider, gate).write(writes)

    assert list(report.outcomes) == [Written()] * 200 + [NotTried()] * 50
    assert isinstance(report.stopped_by, RateLimitedError)
    assert gate.entered == [facts.API]


async def test_a_credential_that_is_refused_needs_a_person(provider: Served) -> None:
    with pytest.raises(NeedsReauthError):
        await destination_of(provider, token="unknown").describe_attributes()


async def test_it_says_whose_records_these_are(provider: Served) -> None:
    account = await destination_of(provider).check()

    assert account.id.startswith("00D")
    assert account.name.startswith("Salesforce")


async def test_nobody_is_created_and_there_are_no_lists(provider: Served) -> None:
    """Proves S2."""
    destination = destination_of(provider)
    write = write_of("003000000000000AAA", FirstName="Ada")

    assert list(await destination.find_lists()) == []
    assert list(destination.importable([write])) == [False]
    assert list((await destination.screen_import(["ada@example.com"])).may) == [False]
    assert list(await destination.read_back([Identity(email="ada@example.com")])) == [None]
    for refused in (
        destination.make_list("Customers"),
        destination.make_attribute("Points", FieldType.NUMBER),
        destination.start_import([write], None),
    ):
        with pytest.raises(RequestRefusedError):
            await refused
    with pytest.raises(MisconfiguredError):
        await destination.read_list("1", None, awaited=[])


async def test_a_record_matches_by_value_and_nothing_is_empty(provider: Served) -> None:
    (record,) = await fill(provider, 1)
    destination = destination_of(provider)
    write = write_of(record, FirstName="Ada", Birthdate=None)
    await destination.write([write])
    (remote,) = await destination.read_records([record], NAMES)

    assert remote is not None
    assert destination.matches(remote, write)
    assert not destination.matches(remote, replace(write, attributes=b'{"FirstName":"Eve"}'))
    assert not destination.matches(remote, delete_of(record))
