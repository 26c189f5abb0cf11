"""Every promise of the conformance suites can be broken, and the suites see it.

The honest connector is the worked example's (docs/connectors.md), which keeps them all. Here each
promise meets a connector that is honest but for one thing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from msgspec.structs import replace as replace_write

from libs.common.errors import MisconfiguredError, NeedsReauthError, SyncError, TransientError
from libs.common.events import Change, Operation
from libs.connectors.contract import (
    Account,
    ContactList,
    Cursor,
    Gate,
    MemberPage,
    NotTried,
    OpenGate,
    Outcome,
    Page,
    Unknown,
    Write,
    WriteReport,
    Written,
)
from tests.connectors import worked_example
from tests.connectors.conformance import DestinationConformance, SourceConformance, sweep_all
from tests.connectors.served import Served

EXAMPLE = worked_example.load()
provider = EXAMPLE.tests.provider

# Breaks one thing of a connector that is honest until then.
Break = Callable[[Any], None]


def answers(method: str, answer: Callable[[Any], Any]) -> Break:
    """Return what changes an answer."""

    def break_(connector: Any) -> None:
        honest = getattr(connector, method)

        async def changed(*arguments: Any, **named: Any) -> Any:
            return answer(await honest(*arguments, **named))

        setattr(connector, method, changed)

    return break_


def both(*breaks: Break) -> Break:
    def break_(connector: Any) -> None:
        for each in breaks:
            each(connector)

    return break_


def hides(caught: type[SyncError], method: str, answer: Callable[[], Any]) -> Break:
    """Return what answers, or raises, something else in the place of an error."""

    def break_(connector: Any) -> None:
        honest = getattr(connector, method)

        async def hidden(*arguments: Any, **named: Any) -> Any:
            try:
                return await honest(*arguments, **named)
            except caught:
                return answer()

        setattr(connector, method, hidden)

    return break_


class Deaf:
    """A gate that is asked, and hears of no limit."""

    def __init__(self, gate: Gate) -> None:
        self.enter = gate.enter

    async def limited(self, bucket: str, retry_after_s: float) -> None:
        return


def passes_the_gate_by(connector: Any) -> None:
    connector._calls = replace(connector._calls, gate=OpenGate())


def keeps_limits_to_itself(connector: Any) -> None:
    connector._calls = replace(connector._calls, gate=Deaf(connector._calls.gate))


def sweeps(**changes: Callable[[Any], Any]) -> Break:
    """Return what reads another sweep than it was asked for."""

    def break_(source: Any) -> None:
        honest = source.read_page

        async def read_page(sweep: Any, *rest: Any) -> Page:
            changed = {name: change(getattr(sweep, name)) for name, change in changes.items()}
            page: Page = await honest(replace(sweep, **changed), *rest)
            return page

        source.read_page = read_page

    return break_


def remembers_where_it_was(source: Any) -> None:
    honest = source.read_page
    place: list[Cursor | None] = [None]

    async def read_page(sweep: Any, after: Cursor | None, *rest: Any) -> Page:
        page: Page = await honest(sweep, place[0], *rest)
        place[0] = page.cursor
        return page

    source.read_page = read_page


def tells_another_place(source: Any) -> None:
    honest = source.read_page

    async def read_page(sweep: Any, after: Cursor | None, *rest: Any) -> Page:
        for onward in rest:
            await onward(Cursor("elsewhere"))
        page: Page = await honest(sweep, after)
        return page

    source.read_page = read_page


def reads_all_at_once(source: Any) -> None:
    honest = EXAMPLE.tests.AcmeSource.read_page

    async def read_page(sweep: Any, after: Cursor | None, *rest: Any) -> Page:
        source.read_page = lambda *each: honest(source, *each)
        return Page(await sweep_all(source, sweep), None)

    source.read_page = read_page


def _loses_one(page: Page) -> Page:
    return replace(page, changes=list(page.changes)[1:])


def _loses_a_member(page: MemberPage) -> MemberPage:
    return replace(page, ids=list(page.ids)[1:])


def _with_a_stranger(changes: Sequence[Change]) -> Sequence[Change]:
    return [*changes, Change(id="999999999", op=Operation.UPSERT, version_ms=1)]


def _offers_all(fields: Sequence[Any]) -> Sequence[Any]:
    return [replace(field, not_mappable=None) for field in fields]


_NOBODY = answers("check", lambda _: Account("", ""))


def _another_error() -> None:
    error = MisconfiguredError("acme", "scope_missing")
    raise error


SOURCES: Mapping[str, Break | Sequence[Break]] = {
    "test_check_says_whose_account_it_is": _NOBODY,
    "test_fields_name_what_may_be_mapped_and_why_not": answers("describe_fields", _offers_all),
    "test_a_full_sweep_reads_everyone_once": answers("read_page", _loses_one),
    "test_everyone_alive_is_a_member_of_no_list": answers("read_members", _loses_a_member),
    "test_a_page_read_twice_from_one_cursor_is_the_same": remembers_where_it_was,
    "test_where_to_go_on_is_told_as_the_page_says_it": tells_another_place,
    "test_a_page_is_bounded_and_empty_when_nothing_changed": reads_all_at_once,
    "test_contacts_that_are_gone_are_left_out": answers("read_contacts", _with_a_stranger),
    "test_a_list_that_is_gone_is_a_missing_list": hides(
        MisconfiguredError, "find_list", lambda: ContactList("987654", "")
    ),
    "test_a_list_is_read_by_its_members": answers("read_members", _loses_a_member),
    "test_a_change_sweep_holds_all_that_changed": answers("read_page", _loses_one),
    "test_a_window_includes_both_of_its_ends": (
        sweeps(since_ms=lambda at: at and at + 1),
        sweeps(since_ms=lambda at: at and at - 1),
        sweeps(until_ms=lambda at: at + 1),
    ),
    "test_every_call_asks_the_gate": passes_the_gate_by,
    "test_a_limit_is_told_to_the_gate": keeps_limits_to_itself,
    "test_a_provider_in_trouble_is_a_transient_error": (
        hides(TransientError, "read_page", lambda: Page([], None)),
    )
    * 5,
    "test_a_credential_that_is_refused_needs_a_person": hides(
        NeedsReauthError, "describe_fields", _another_error
    ),
}


def outcomes(change: Callable[[Outcome], Outcome]) -> Break:
    """Return what tells other outcomes than there were."""
    return answers(
        "write",
        lambda report: WriteReport([change(each) for each in report.outcomes], report.stopped_by),
    )


def instead(old: Outcome, new: Outcome) -> Break:
    return outcomes(lambda outcome: new if outcome == old else outcome)


def writes(change: Callable[[Write], Sequence[Write]]) -> Break:
    """Return what writes others than it was asked to; told is how the last of each ended."""

    def break_(destination: Any) -> None:
        honest = destination.write

        async def write(wanted: Sequence[Write]) -> WriteReport:
            return WriteReport([(await honest(change(each))).outcomes[-1] for each in wanted])

        destination.write = write

    return break_


def writes_nothing(destination: Any) -> None:
    async def write(wanted: Sequence[Write]) -> WriteReport:
        return WriteReport([Written()] * len(wanted))

    destination.write = write


def _with_a_copy(made: Iterator[int]) -> Callable[[Write], Sequence[Write]]:
    def change(write: Write) -> Sequence[Write]:
        copy = replace_write(write.identity, email=f"copy{next(made)}@example.com")
        return [replace_write(write, identity=copy), write]

    return change


def _made_anew(write: Write) -> Sequence[Write]:
    known_as = write.known_as or write.identity
    gone = replace_write(write, op=Operation.DELETE, known_as=known_as)
    return [gone, replace_write(write, known_as=None)]


def _believes_all(destination: Any) -> None:
    destination.matches = lambda remote, write: True


def as_if(old: Operation, new: Operation) -> Break:
    return writes(lambda write: [replace_write(write, op=new if write.op is old else write.op)])


DESTINATIONS: Mapping[str, Break | Sequence[Break]] = {
    "test_check_says_whose_account_it_is": _NOBODY,
    "test_attributes_tell_what_identifies_a_contact": answers("describe_attributes", lambda _: []),
    "test_a_list_that_was_made_is_found": answers("find_lists", lambda found: found[1:]),
    "test_what_was_written_is_there_and_matches": writes_nothing,
    "test_a_row_that_stands_otherwise_is_still_awaited": _believes_all,
    "test_writing_twice_is_writing_once": writes(_with_a_copy(iter(range(1_000)))),
    "test_outcomes_come_in_the_order_of_the_writes": answers(
        "write", lambda report: WriteReport(list(report.outcomes)[::-1], report.stopped_by)
    ),
    "test_a_limit_stops_the_rest_untried": instead(NotTried(), Unknown()),
    "test_a_lost_answer_is_unknown_and_stops_the_rest": instead(Unknown(), NotTried()),
    "test_an_answer_that_cannot_be_believed_is_no_success": (instead(Unknown(), Written()),) * 2,
    "test_a_refused_connection_is_not_unknown": instead(NotTried(), Unknown()),
    "test_every_call_asks_the_gate": passes_the_gate_by,
    "test_a_limit_is_told_to_the_gate": keeps_limits_to_itself,
    "test_a_credential_that_is_refused_needs_a_person": hides(
        NeedsReauthError, "describe_attributes", _another_error
    ),
    "test_nobody_is_made_active_by_a_write": writes(_made_anew),
    "test_an_e_mail_change_never_leaves_two": writes(
        lambda write: [replace_write(write, known_as=None)]
    ),
    "test_leaving_takes_off_the_list_and_keeps_the_contact": as_if(
        Operation.LEAVE, Operation.DELETE
    ),
    "test_deleting_deletes_once": as_if(Operation.DELETE, Operation.LEAVE),
    "test_a_list_that_is_gone_is_a_missing_list": both(
        hides(MisconfiguredError, "read_list", lambda: None), instead(NotTried(), Written())
    ),
}


def promises_of(suite: type) -> set[str]:
    return {name for name in dir(suite) if name.startswith("test_")}


def cases_of(suite: type, promise: str) -> list[dict[str, Any]]:
    """Return the arguments that pytest would call a test with, once for each case."""
    for mark in getattr(getattr(suite, promise), "pytestmark", ()):
        names, cases = mark.args
        if isinstance(names, str):
            return [{names: case} for case in cases]
        return [dict(zip(names, case, strict=True)) for case in cases]
    return [{}]


def broken(suite: type, breaks: Mapping[str, Break | Sequence[Break]]) -> list[Any]:
    return [
        pytest.param(promise, case, each, id=f"{promise.removeprefix('test_')}-{number}")
        for promise, given in breaks.items()
        for number, (case, each) in enumerate(
            zip(
                cases_of(suite, promise),
                given if isinstance(given, Sequence) else [given],
                strict=True,
            )
        )
    ]


def test_no_promise_is_left_out() -> None:
    assert promises_of(SourceConformance) == set(SOURCES)
    assert promises_of(DestinationConformance) == set(DESTINATIONS)


@pytest.mark.parametrize(("promise", "case", "break_"), broken(SourceConformance, SOURCES))
async def test_a_broken_source_is_found_out(
    provider: Served, promise: str, case: dict[str, Any], break_: Break
) -> None:
    suite = EXAMPLE.tests.TestSource()
    await found_out(suite, "source", provider, promise, case, break_)


@pytest.mark.parametrize(
    ("promise", "case", "break_"), broken(DestinationConformance, DESTINATIONS)
)
async def test_a_broken_destination_is_found_out(
    provider: Served, promise: str, case: dict[str, Any], break_: Break
) -> None:
    suite = EXAMPLE.tests.TestDestination()
    await found_out(suite, "destination", provider, promise, case, break_)


async def found_out(
    suite: Any, side: str, provider: Served, promise: str, case: dict[str, Any], break_: Break
) -> None:
    """Hold a suite's connector, with one thing broken, to a promise; fail if it keeps it.

    What a suite finds is a failed assertion, or an error of the contract that it did not expect:
    any other is a mistake of this module.
    """
    make = getattr(suite, side)

    def made(*arguments: Any, **named: Any) -> Any:
        connector = make(*arguments, **named)
        break_(connector)
        return connector

    setattr(suite, side, made)
    with pytest.raises((AssertionError, pytest.fail.Exception, SyncError)):
        await getattr(suite, promise)(provider=provider, **case)
