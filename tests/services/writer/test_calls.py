"""Calls, until each effect has a result."""

from collections.abc import Sequence
from uuid import UUID

import msgspec
import pytest

from libs.common.errors import (
    LeaseLostError,
    MisconfiguredError,
    RequestRefusedError,
    UnavailableError,
)
from libs.connectors.contract import Write, WriteReport
from services.writer.calls import Answers, Caller, Stop, stop_of
from services.writer.conclude import AddressTaken, Done, Doubt, NotSent, Refusal
from services.writer.values import ContactId, Kind, Task, Unit, Wish
from tests.fakes import FakeAccount, FakeDestination, Fault
from tests.services.writer.world import LIST

ID = UUID(int=1)


def unit(
    source_id: str,
    *,
    kind: Kind = Kind.UPSERT,
    email: str | None = None,
    known: str | None = None,
    is_doubtful: bool = False,
) -> Unit:
    task = Task(
        integration=ID,
        source_id=source_id,
        kind=kind,
        wish=Wish.LEAVE if kind is Kind.LEAVE else Wish.UPSERT,
        version_ms=1,
        run_no=1,
        run=UUID(int=2),
        page=1,
        part=0,
        mapping_version=1,
        list_id=LIST,
        key=source_id.encode(),
        email=email or f"{source_id}@example.com",
        attributes=msgspec.Raw(b'{"VORNAME":"Ada"}'),
        known_email=known,
        join_list=known is None,
    )
    return Unit(task, UUID(int=8), UUID(int=9), is_doubtful=is_doubtful)


def contact(source_id: str) -> ContactId:
    return ContactId(ID, source_id)


async def write(account: FakeAccount, *units: Unit) -> Answers:
    answers = Answers()
    await Caller(FakeDestination(account)).write(units, answers)
    return answers


async def test_everything_that_is_taken_is_done() -> None:
    account = FakeAccount()
    account.fail(None, Fault.PHONE)

    answers = await write(account, unit("a"), unit("b"))

    assert answers.results == {contact("a"): Done(), contact("b"): Done("phone_left_out")}
    assert answers.has_answered
    assert answers.stop is None


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.LOST_APPLIED])
async def test_a_lost_answer_is_tried_again_and_holds_nobody_up(fault: Fault) -> None:
    """Fault 42."""
    account = FakeAccount()
    account.fail(fault)

    answers = await write(account, unit("a"), unit("b"))

    assert answers.results == {contact("a"): Done(), contact("b"): Done()}
    assert len(account.contacts) == 2


async def test_three_lost_answers_are_doubts_and_the_rest_waits() -> None:
    account = FakeAccount()
    account.fail(*[Fault.LOST] * 3)

    answers = await write(account, unit("a"), unit("b"), unit("c"), unit("d"))

    doubts = {contact(each): Doubt() for each in "abc"}
    assert answers.results == doubts | {contact("d"): NotSent("destination_down")}
    assert answers.stop == Stop("destination_down")
    assert account.calls["write"] == 3


async def test_a_contact_whose_answers_are_always_lost_holds_nobody_up() -> None:
    account = FakeAccount()
    account.lost.add("a@example.com")

    answers = await write(account, unit("a"), unit("b"), unit("c"))

    assert answers.results == {
        contact("a"): Doubt(),
        contact("b"): Done(),
        contact("c"): Done(),
    }
    assert answers.stop == Stop("destination_down")


async def test_a_doubt_stays_one_whatever_follows_but_success() -> None:
    account = FakeAccount()
    account.fail(Fault.LOST_APPLIED, Fault.LIMITED)

    answers = await write(account, unit("a"), unit("b"))

    assert answers.results[contact("a")] == Doubt()
    assert answers.results[contact("b")] == NotSent("rate_limited")


async def test_a_refusal_after_a_lost_answer_is_looked_at() -> None:
    """The move happened; asked again, its new address is taken — by itself."""
    account = FakeAccount()
    destination = FakeDestination(account)
    await destination.write([unit("a", email="old@example.com").task.write()])
    account.fail(Fault.LOST_APPLIED)

    answers = await write(
        account, unit("a", kind=Kind.MOVE, email="new@example.com", known="old@example.com")
    )

    assert answers.results == {contact("a"): Done()}
    assert account.keys() == {"new@example.com"}


async def test_a_unit_taken_along_is_refused_only_after_a_look() -> None:
    account = FakeAccount()
    account.refused["a@example.com"] = "invalid_email"
    account.refused["b@example.com"] = "invalid_email"
    await FakeDestination(account).write([unit("b").task.write()])
    account.put(unit("b").task.write())

    answers = await write(account, unit("a", is_doubtful=True), unit("b", is_doubtful=True))

    assert answers.results == {contact("a"): Refusal("invalid_email"), contact("b"): Done()}


async def test_a_look_that_fails_leaves_the_doubt() -> None:
    account = FakeAccount()
    account.refused["a@example.com"] = "invalid_email"
    account.read_faults.append(UnavailableError("fake.example", "HTTP 503", 7.0))

    answers = await write(account, unit("a", is_doubtful=True))

    assert answers.results == {contact("a"): Doubt()}
    assert answers.stop == Stop("destination_down", 7.0)


async def test_who_is_missing_is_created_once() -> None:
    account = FakeAccount()

    answers = await write(account, unit("a", known="a@example.com"))

    assert answers.results == {contact("a"): Done()}
    assert account.contacts["a@example.com"].list_ids == {LIST}
    assert account.calls["write"] == 2


async def test_who_is_missing_when_the_destination_goes_down_was_not_sent() -> None:
    account = FakeAccount()
    account.fail(None, Fault.DOWN)

    answers = await write(account, unit("a", known="a@example.com"), unit("b"))

    assert answers.results == {
        contact("a"): NotSent("destination_down"),
        contact("b"): NotSent("destination_down"),
    }


async def test_a_taken_address_is_told_of_moves() -> None:
    account = FakeAccount()
    await write(account, unit("a"), unit("b"))

    answers = await write(
        account, unit("a", kind=Kind.MOVE, email="b@example.com", known="a@example.com")
    )

    assert answers.results == {contact("a"): AddressTaken()}


async def test_who_is_gone_has_left() -> None:
    answers = await write(FakeAccount(), unit("a", kind=Kind.LEAVE, known="a@example.com"))

    assert answers.results == {contact("a"): Done()}


async def test_a_refused_call_is_cut_down_to_the_contact() -> None:
    """Fault 42."""
    account = FakeAccount()
    account.refused_calls = {"c@example.com", "f@example.com"}

    answers = await write(account, *[unit(each) for each in "abcdefgh"])

    refused = {each for each, result in answers.results.items() if result != Done()}
    assert refused == {contact("c"), contact("f")}
    assert answers.results[contact("c")] == Refusal("value_not_accepted")
    assert answers.stop is None


async def test_where_everybody_is_refused_alike_it_is_the_configuration() -> None:
    account = FakeAccount()
    account.refused_calls = {f"{each}@example.com" for each in "abcd"}

    answers = await write(account, *[unit(each) for each in "abcd"])

    assert answers.stop == Stop("configuration", code="bad")
    assert set(answers.results.values()) == {NotSent("configuration")}


async def test_a_stop_in_the_middle_of_cutting_leaves_the_rest_untried() -> None:
    account = FakeAccount()
    account.refused_calls = {"a@example.com"}
    account.fail(None, None, Fault.DOWN)

    answers = await write(account, *[unit(each) for each in "abcd"])

    assert answers.stop == Stop("destination_down")
    assert NotSent("destination_down") in answers.results.values()
    assert len(answers.results) == 4


class Raising(FakeDestination):
    """A destination whose calls say nothing about any contact."""

    def __init__(self, error: Exception) -> None:
        super().__init__(FakeAccount())
        self._error = error

    async def write(self, writes: Sequence[Write]) -> WriteReport:
        raise self._error


async def test_an_error_about_all_is_an_outcome_for_each() -> None:
    answers = Answers()

    await Caller(Raising(UnavailableError("fake.example", "x"))).write([unit("a")], answers)

    assert answers.results == {contact("a"): NotSent("destination_down")}


async def test_a_lost_lease_ends_everything() -> None:
    with pytest.raises(LeaseLostError):
        await Caller(Raising(LeaseLostError("x"))).write([unit("a")], Answers())


def test_an_error_that_nobody_expected_is_raised() -> None:
    with pytest.raises(LeaseLostError):
        stop_of(LeaseLostError("x"))
    assert stop_of(RequestRefusedError("h", 400, "bad")) == Stop("configuration", code="bad")
    assert stop_of(MisconfiguredError("h", "list_missing")).reason == "configuration"
    assert stop_of(MisconfiguredError("h", "contact_limit")).reason == "contact_limit"


async def test_somebody_else_who_looks_the_same_is_no_move() -> None:
    """A lost move to an address that is taken has not happened, whatever stands there (S5)."""
    account = FakeAccount()
    for email in ("a@example.com", "b@example.com"):
        await write(account, unit("x", email=email))
    account.fail(Fault.LOST)

    answers = await write(
        account, unit("a", kind=Kind.MOVE, email="b@example.com", known="a@example.com")
    )

    assert answers.results == {contact("a"): AddressTaken()}
    assert account.keys() == {"a@example.com", "b@example.com"}
