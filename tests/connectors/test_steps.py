"""What a provider does to one step of a job, whichever it is: each step, each provider over HTTP.

A step is one thing that a service asks of a connector: a page, a look at a list, a batch that is
written. Each is disturbed at its first, second and last call, in every way that a provider or the
way to it can fail: it must say so with the error that its caller goes by, and do the same as ever
when it is tried again. The conformance suites of the providers say how their sandboxes are filled.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count, product
from types import ModuleType
from typing import Any, TypeAlias

import pytest

from libs.common.errors import (
    NeedsReauthError,
    RateLimitedError,
    SyncError,
    UnavailableError,
    UnknownOutcomeError,
)
from libs.common.events import Identity, Operation
from libs.connectors.activecampaign import facts as activecampaign_facts
from libs.connectors.contract import (
    FieldType,
    Gate,
    MemberPage,
    NotTried,
    Page,
    Unknown,
    Write,
    WriteReport,
    Written,
    identity_key,
)
from libs.connectors.registry import PROVIDERS
from sandbox.activecampaign import app as activecampaign_app
from sandbox.activecampaign import state as activecampaign_state
from sandbox.brevo import app as brevo_app
from sandbox.brevo import state as brevo_state
from sandbox.constant_contact import app as constant_contact_app
from sandbox.constant_contact import state as constant_contact_state
from sandbox.google_contacts import app as google_contacts_app
from sandbox.google_contacts import state as google_contacts_state
from sandbox.hubspot import app as hubspot_app
from sandbox.hubspot import state as hubspot_state
from sandbox.salesforce import app as salesforce_app
from sandbox.salesforce import state as salesforce_state
from tests.connectors.activecampaign import test_destination as activecampaign
from tests.connectors.brevo import test_destination as brevo
from tests.connectors.brevo import test_source as brevo_source
from tests.connectors.conformance import (
    DestinationConformance,
    SourceConformance,
    awaited_of,
)
from tests.connectors.constant_contact import test_source as constant_contact
from tests.connectors.google_contacts import test_source as google_contacts
from tests.connectors.hubspot import test_source as hubspot
from tests.connectors.salesforce import test_destination as salesforce
from tests.connectors.salesforce import test_source as salesforce_source
from tests.connectors.served import RecordingGate, Served, served

SANDBOXES: Mapping[str, tuple[ModuleType, ModuleType]] = {
    "activecampaign": (activecampaign_app, activecampaign_state),
    "brevo": (brevo_app, brevo_state),
    "constant_contact": (constant_contact_app, constant_contact_state),
    "google_contacts": (google_contacts_app, google_contacts_state),
    "hubspot": (hubspot_app, hubspot_state),
    "salesforce": (salesforce_app, salesforce_state),
}
SOURCES: Mapping[str, Callable[[], SourceConformance]] = {
    "brevo": brevo_source.TestConformance,
    "constant_contact": constant_contact.TestConformance,
    "google_contacts": google_contacts.TestConformance,
    "hubspot": hubspot.TestConformance,
    "salesforce": salesforce_source.TestContacts,
}
DESTINATIONS: Mapping[str, Callable[[], DestinationConformance]] = {
    "activecampaign": activecampaign.TestConformance,
    "brevo": brevo.TestConformance,
}

# What happens to a call, and what its caller must hear if it reads.
FAULTS: Mapping[str, tuple[Mapping[str, Any], type[SyncError]]] = {
    "revoked": ({"kind": "status", "status": 401, "times": None}, NeedsReauthError),
    "limited": ({"kind": "throttle"}, RateLimitedError),
    "down": ({"kind": "status", "status": 503}, UnavailableError),
    "cut": ({"kind": "cut"}, UnavailableError),
    "answer lost": ({"kind": "cut_after"}, UnavailableError),
    "half an answer": ({"kind": "truncate"}, UnavailableError),
    "no success": ({"kind": "html", "status": 200}, UnavailableError),
}
# HubSpot's own words: a 401 without any comes from a proxy before it, and is no refusal.
REVOKED_AT_HUBSPOT = {"status": "error", "category": "INVALID_AUTHENTICATION"}

# Where a success has no body: half of it is all.
BODILESS = frozenset(
    product(["brevo"], ["an attribute", "updates", "a leave", "a deletion"]),
)

Step: TypeAlias = Callable[[Any], Awaitable[Any]]


class Striking(RecordingGate):
    """A gate behind which, from the call that is the `at`-th on, something goes wrong."""

    def __init__(self, provider: Served, fault: Mapping[str, Any], at: int) -> None:
        super().__init__()
        self._provider, self._fault, self._at = provider, fault, at

    async def enter(self, bucket: str) -> None:
        await super().enter(bucket)
        if len(self.entered) == self._at:
            await self._provider.fault({"times": 1, **self._fault})


@pytest.fixture
async def sandbox(name: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    """Return the provider's sandbox, empty and without limits.

    An import is done when it is looked at first: a step has as many calls each time it is taken.
    """
    monkeypatch.setattr(activecampaign_facts, "IMPORT_LOOK_FIRST_S", 0.01)
    app, state = SANDBOXES[name]
    async with served(app.create_app(state.State())) as one:
        if name == "activecampaign":
            await one.put("settings", {"import_delay_s": 0})
        yield one


async def steps_of_source(suite: SourceConformance, provider: Served) -> Mapping[str, Step]:
    """Return everything that a run, and whoever sets it up, asks of a source."""
    ids = await suite.fill(provider, suite.several_pages)
    source = suite.source(provider)
    everyone = suite.sweep()
    (found,) = [
        each for each in await source.find_lists(suite.object) if each.name == suite.list_name
    ]
    second = (await source.read_page(everyone, None)).cursor
    assert second is not None
    return {
        # First: a provider forgets where a listing was after many others were begun.
        "the next page": lambda one: one.read_page(everyone, second),
        "check": lambda one: one.check(),
        "fields": lambda one: one.describe_fields(suite.object),
        "lists": lambda one: one.find_lists(suite.object),
        "a list": lambda one: one.find_list(suite.object, found.id),
        "a count": lambda one: one.count(everyone),
        "the first page": lambda one: one.read_page(everyone, None),
        "a list's page": lambda one: one.read_page(suite.sweep(list_id=found.id), None),
        "changes": lambda one: one.read_page(suite.sweep(since_ms=1), None),
        "contacts by id": lambda one: one.read_contacts(everyone, ids[:3]),
        "everyone's ids": lambda one: one.read_members(suite.object, None, None),
        "members": lambda one: one.read_members(suite.object, found.id, None),
    }


def told(answer: Any) -> Any:
    """Return of an answer what must be the same when it is given again."""
    match answer:
        case Page(changes=changes):
            return sorted(each.id for each in changes)
        case MemberPage(ids=ids):
            return sorted(ids)
        case [*changes] if changes and hasattr(changes[0], "version_ms"):
            return sorted(each.id for each in changes)
    return answer


def disturbed(calls: int) -> Sequence[int]:
    """Return which of a step's calls are disturbed: the first, the second and the last."""
    return sorted({1, min(2, calls), calls}) if calls else ()


async def answered(taken: Awaitable[Any]) -> tuple[Any, SyncError | None]:
    """Return what a step answers, or raises."""
    try:
        return await taken, None
    except SyncError as error:
        return None, error


def plan_of(name: str, fault: str) -> Mapping[str, Any]:
    """Return a fault as this provider has it."""
    plan, _ = FAULTS[fault]
    is_theirs = (name, fault) == ("hubspot", "revoked")
    return {**plan, "body": REVOKED_AT_HUBSPOT} if is_theirs else plan


@pytest.mark.parametrize("name", SOURCES)
async def test_a_step_of_reading_says_what_stopped_it_and_can_be_taken_again(
    sandbox: Served, name: str
) -> None:
    """Faults 40, 41, 44 and 45. Proves X2: whichever call of whichever step it is."""
    suite = SOURCES[name]()
    for step, take in (await steps_of_source(suite, sandbox)).items():
        gate = RecordingGate()
        as_ever = told(await take(suite.source(sandbox, gate)))
        assert gate.entered or step == "a count", step
        for fault, at in product(FAULTS, disturbed(len(gate.entered))):
            striking = Striking(sandbox, plan_of(name, fault), at)
            _, error = await answered(take(suite.source(sandbox, striking)))
            assert isinstance(error, FAULTS[fault][1]), (step, fault, at, error)
            await sandbox.heal()
        assert told(await take(suite.source(sandbox))) == as_ever, step


async def steps_of_destination(
    suite: DestinationConformance, provider: Served
) -> Mapping[str, Step]:
    """Return everything that a writer, and whoever sets it up, asks of a destination.

    What is new is new each time, so that it takes all its calls; the rest may be repeated.
    """
    fresh = count(100)
    destination = suite.destination(provider)
    list_id, writes = await suite.linked(destination, 6)
    at = [write.identity for write in writes]
    old = [suite.write(n, list_id, known_as=each, join_list=False) for n, each in enumerate(at)]
    leave = Write(Operation.LEAVE, Identity(), b"", list_id, known_as=at[4])
    delete = Write(Operation.DELETE, Identity(), b"", list_id, known_as=at[5])
    imported = [suite.write(50 + number, list_id) for number in range(3)]
    process = await destination.start_import(imported, None)
    since = datetime.now(UTC) - timedelta(hours=1)
    keys = [identity_key(write.identity) for write in imported]
    return {
        "check": lambda one: one.check(),
        "attributes": lambda one: one.describe_attributes(),
        "an attribute": lambda one: one.make_attribute(f"MADE{next(fresh)}", FieldType.TEXT),
        "lists": lambda one: one.find_lists(),
        "a list": lambda one: one.make_list(f"Made {next(fresh)}"),
        "first links": lambda one: one.write([suite.write(next(fresh), list_id) for _ in range(2)]),
        "updates": lambda one: one.write(old[:3]),
        "a leave": lambda one: one.write([leave]),
        "a deletion": lambda one: one.write([delete]),
        "a look": lambda one: one.read_back(at[:4]),
        "a list's page": lambda one: one.read_list(list_id, None, awaited=[awaited_of(writes)]),
        "a screening": lambda one: one.screen_import(keys),
        "an import": lambda one: one.start_import(imported, None),
        "how it stands": lambda one: one.import_status(process),
        "imports": lambda one: one.find_imports(since),
    }


async def steps_of_records(provider: Served) -> Mapping[str, Step]:
    """Return everything that a writer asks of the other end of a two-way integration."""
    ids = await salesforce.fill(provider, 3)
    writes = [salesforce.write_of(each, FirstName="Zoë") for each in ids[:2]]
    return {
        "check": lambda one: one.check(),
        "attributes": lambda one: one.describe_attributes(),
        "updates": lambda one: one.write(writes),
        "a deletion": lambda one: one.write([salesforce.delete_of(ids[2])]),
        "a look": lambda one: one.read_records(ids[:2], salesforce.NAMES),
    }


def caller_of(name: str, provider: Served) -> Callable[[Gate | None], Any]:
    """Return what makes a destination behind a gate."""
    if name == "salesforce":
        return lambda gate: salesforce.destination_of(provider, gate)
    return lambda gate: DESTINATIONS[name]().destination(provider, gate)


def stopped(answer: Any) -> Any:
    """Return why a batch stopped; it must not call what it does not know of written."""
    if not isinstance(answer, WriteReport):
        return None
    if answer.stopped_by is not None:
        assert {type(each) for each in answer.outcomes} <= {Unknown, NotTried, Written}
        assert set(answer.outcomes) != {Written()}
    return answer.stopped_by


@pytest.mark.parametrize("name", [*DESTINATIONS, "salesforce"])
async def test_a_step_of_writing_says_what_stopped_it_and_can_be_taken_again(
    sandbox: Served, name: str
) -> None:
    """Faults 40, 41, 44 and 45. Proves X2: whichever call of whichever step it is."""
    make = caller_of(name, sandbox)
    steps = (
        await steps_of_records(sandbox)
        if name == "salesforce"
        else await steps_of_destination(DESTINATIONS[name](), sandbox)
    )
    for step, take in steps.items():
        gate = RecordingGate()
        await take(make(None))  # What is done once is done then.
        await take(make(gate))
        assert gate.entered, step
        for fault, at in product(FAULTS, disturbed(len(gate.entered))):
            striking = Striking(sandbox, plan_of(name, fault), at)
            answer, error = await answered(take(make(striking)))
            error = error or stopped(answer)
            is_whole = fault == "half an answer" and (name, step) in BODILESS
            assert is_whole or isinstance(error, writing_error(fault)), (step, fault, at, error)
            await sandbox.heal()
        answer = await take(make(None))
        assert stopped(answer) is None, step
        if isinstance(answer, WriteReport):
            assert set(answer.outcomes) == {Written()}, step


def writing_error(fault: str) -> tuple[type[SyncError], ...]:
    """Return what a caller may hear: of a call that writes, that its answer was lost."""
    expected = FAULTS[fault][1]
    return (expected, UnknownOutcomeError) if expected is UnavailableError else (expected,)


def test_every_provider_over_http_takes_its_steps_here() -> None:
    read = {name for name, each in PROVIDERS.items() if each.source or each.edits}
    written = {name for name, each in PROVIDERS.items() if each.destination}

    assert set(SOURCES) == read
    assert set(DESTINATIONS) == written
