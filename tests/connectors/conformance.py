"""What every source and every destination must do, whoever the provider is.

A provider's tests inherit `SourceConformance` or `DestinationConformance` and say how its sandbox
is set up; each test then runs against the real imitation over HTTP. A source that calls nobody
inherits `SourcePromises`, which is the part of the suite that is not about HTTP and lists. The
promises are numbered as in `libs.connectors.contract`. That each test can fail is shown by
`tests/connectors/test_broken_connectors.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import msgspec
import pytest
from msgspec.structs import replace as replace_write

from libs.common.errors import (
    MisconfiguredError,
    NeedsReauthError,
    RateLimitedError,
    TransientError,
    UnavailableError,
    UnknownOutcomeError,
)
from libs.common.events import Change, Identity, Operation
from libs.connectors.contract import (
    Cursor,
    Destination,
    Gate,
    Missing,
    NotTried,
    RemoteContact,
    Source,
    Sweep,
    Unknown,
    Write,
    Written,
    identity_key,
)
from tests.connectors.served import RecordingGate, Served

FOREVER_MS = 2**42  # Some time in 2109.
Place = TypeVar("Place")


def awaited_of(writes: Sequence[Write]) -> dict[str, Write]:
    """Return the rows of an import as they are looked for."""
    return {identity_key(write.identity): write for write in writes}


def untimed(remote: RemoteContact | None) -> RemoteContact | None:
    """Return a contact without its modification time, which a write of the same moves."""
    return remote and replace_write(remote, modified_ms=0)


async def sweep_all(source: Source, sweep: Sweep) -> list[Change]:
    """Read a sweep to its end."""
    changes: list[Change] = []
    cursor: Cursor | None = None
    while True:
        page = await source.read_page(sweep, cursor)
        changes += page.changes
        cursor = page.cursor
        if cursor is None:
            return changes


async def members_of(source: Source, object_name: str, list_id: str | None) -> list[str]:
    """Read a list's members to the end."""
    ids: list[str] = []
    cursor: Cursor | None = None
    while True:
        page = await source.read_members(object_name, list_id, cursor)
        ids += page.ids
        cursor = page.cursor
        if cursor is None:
            return ids


class SourcePromises(ABC, Generic[Place]):
    """What every source promises, also one that calls nobody.

    `provider` is where its contacts are: a fixture of the provider's own tests.
    """

    object = "contacts"
    properties: Sequence[str]
    page_max = 250  # Contacts on one page at most.
    several_pages = 450  # More contacts than fit on one page.
    offers_all = False  # Every field may be mapped: there are none of S6 and S7.

    @abstractmethod
    def source(self, provider: Place) -> Source:
        """Return a source for what is at `provider`."""

    @abstractmethod
    async def fill(self, provider: Place, count: int) -> list[str]:
        """Put contacts into the account, and into its list if it has any; return their ids."""

    def sweep(self, list_id: str | None = None, since_ms: int | None = None) -> Sweep:
        return Sweep(self.object, list_id, self.properties, since_ms, FOREVER_MS)

    async def idle(self, source: Source) -> Sweep:
        """Return a sweep of changes after which nothing has changed."""
        return self.sweep(since_ms=FOREVER_MS - 1)

    async def sweeps(self, source: Source) -> Sequence[Sweep]:
        """Return sweeps that each read everyone who was filled in."""
        return [self.sweep()]

    async def test_check_says_whose_account_it_is(self, provider: Place) -> None:
        account = await self.source(provider).check()

        assert account.id
        assert account.name
        assert account.time_zone

    async def test_fields_name_what_may_be_mapped_and_why_not(self, provider: Place) -> None:
        """Proves S6, S7."""
        await self.fill(provider, 1)
        fields = await self.source(provider).describe_fields(self.object)

        offered = {field.name for field in fields if field.not_mappable is None}
        assert set(self.properties) <= offered
        assert any(field.not_mappable for field in fields) is not self.offers_all
        assert any(field.unique for field in fields)

    async def test_a_full_sweep_reads_everyone_once(self, provider: Place) -> None:
        ids = await self.fill(provider, self.several_pages)
        source = self.source(provider)

        changes = await sweep_all(source, self.sweep())

        assert sorted(change.id for change in changes) == sorted(ids)
        assert all(change.op is Operation.UPSERT for change in changes)
        assert all(change.version_ms > 1_500_000_000_000 for change in changes)
        first = msgspec.json.decode(changes[0].properties, type=dict[str, Any])
        assert set(self.properties) <= set(first)
        assert await source.count(self.sweep()) in (len(ids), None)

    async def test_everyone_alive_is_a_member_of_no_list(self, provider: Place) -> None:
        ids = await self.fill(provider, 150)

        members = await members_of(self.source(provider), self.object, None)

        assert sorted(members) == sorted(ids)

    async def test_a_page_read_twice_from_one_cursor_is_the_same(self, provider: Place) -> None:
        """Promise 2."""
        await self.fill(provider, self.several_pages)
        source = self.source(provider)
        sweep = self.sweep()
        first = await source.read_page(sweep, None)

        once = await source.read_page(sweep, first.cursor)
        twice = await source.read_page(sweep, first.cursor)

        assert [each.id for each in once.changes] == [each.id for each in twice.changes]
        assert not {each.id for each in first.changes} & {each.id for each in once.changes}

    async def test_where_to_go_on_is_told_as_the_page_says_it(self, provider: Place) -> None:
        ids = await self.fill(provider, self.several_pages)
        source = self.source(provider)
        told: list[Cursor | None] = []

        async def onward(following: Cursor | None) -> None:
            told.append(following)

        for sweep in await self.sweeps(source):
            cursor: Cursor | None = None
            read: list[str] = []
            while not read or cursor is not None:
                told.clear()
                page = await source.read_page(sweep, cursor, onward)
                cursor = page.cursor
                read += [change.id for change in page.changes]
                assert told in ([], [cursor])
            assert sorted(read) == sorted(ids)

    async def test_a_page_is_bounded_and_empty_when_nothing_changed(self, provider: Place) -> None:
        """Promise 3."""
        await self.fill(provider, self.several_pages)
        source = self.source(provider)

        full = await source.read_page(self.sweep(), None)
        empty = await source.read_page(await self.idle(source), None)

        assert 0 < len(full.changes) <= self.page_max
        assert (list(empty.changes), empty.cursor) == ([], None)

    async def test_contacts_that_are_gone_are_left_out(self, provider: Place) -> None:
        ids = await self.fill(provider, 3)

        changes = await self.source(provider).read_contacts(self.sweep(), [*ids, "999999999"])

        assert sorted(change.id for change in changes) == sorted(ids)

    async def test_a_list_that_is_gone_is_a_missing_list(self, provider: Place) -> None:
        source = self.source(provider)

        with pytest.raises(MisconfiguredError) as caught:
            await source.find_list(self.object, "987654")
        with pytest.raises(MisconfiguredError) as read:
            await source.read_members(self.object, "987654", None)

        assert caught.value.what == read.value.what == "list_missing"


class SourceConformance(SourcePromises[Served]):
    """The suite for sources over HTTP. The provider's sandbox answers under `provider`."""

    list_name = "Newsletter"

    @abstractmethod
    def source(self, provider: Served, gate: Gate | None = None, token: str = "") -> Source:
        """Return a source for the sandbox's default account; `token` replaces its credential."""

    @abstractmethod
    async def change(self, provider: Served, count: int) -> list[str]:
        """Edit some contacts; return their ids."""

    async def sweeps(self, source: Source) -> Sequence[Sweep]:
        (found,) = [
            each for each in await source.find_lists(self.object) if each.name == self.list_name
        ]
        return [self.sweep(list_id=found.id), self.sweep(), self.sweep(since_ms=1)]

    async def test_a_list_is_read_by_its_members(self, provider: Served) -> None:
        ids = await self.fill(provider, self.several_pages)
        source = self.source(provider)
        (found,) = [
            each for each in await source.find_lists(self.object) if each.name == self.list_name
        ]

        changes = await sweep_all(source, self.sweep(list_id=found.id))
        members = await members_of(source, self.object, found.id)

        assert sorted(change.id for change in changes) == sorted(ids) == sorted(members)
        assert await source.count(self.sweep(list_id=found.id)) == self.several_pages
        again = await source.find_list(self.object, found.id)
        assert (again.name, again.size) == (self.list_name, self.several_pages)

    async def test_a_change_sweep_holds_all_that_changed(self, provider: Served) -> None:
        """Proves S1: changes only, and none is missed."""
        await self.fill(provider, 300)
        source = self.source(provider)
        before_ms = max(each.version_ms for each in await sweep_all(source, self.sweep()))
        changed = await self.change(provider, 20)

        changes = await sweep_all(source, self.sweep(since_ms=before_ms + 1))

        assert {change.id for change in changes} == set(changed)

    @pytest.mark.parametrize(
        ("since", "until", "is_read"), [(0, 0, True), (1, 5, False), (-5, -1, False)]
    )
    async def test_a_window_includes_both_of_its_ends(
        self, provider: Served, since: int, until: int, *, is_read: bool
    ) -> None:
        """Proves S1: windows that follow one another leave no millisecond out."""
        await self.fill(provider, 1)
        source = self.source(provider)
        (contact,) = await sweep_all(source, self.sweep())
        at_ms = contact.version_ms

        window = replace(self.sweep(since_ms=at_ms + since), until_ms=at_ms + until)

        assert bool(await sweep_all(source, window)) is is_read

    async def test_every_call_asks_the_gate(self, provider: Served) -> None:
        """Promise 6."""
        await self.fill(provider, 250)
        gate = RecordingGate()
        await provider.post("calls:reset", {})
        source = self.source(provider, gate)

        await source.check()
        await sweep_all(source, self.sweep())
        await source.describe_fields(self.object)

        assert len(gate.entered) == sum((await provider.calls()).values())
        assert set(gate.entered) <= {limit.bucket for limit in source.facts.limits[""]}

    async def test_a_limit_is_told_to_the_gate(self, provider: Served) -> None:
        """Promise 6."""
        await provider.fault({"kind": "throttle"})
        gate = RecordingGate()

        with pytest.raises(RateLimitedError) as caught:
            await self.source(provider, gate).describe_fields(self.object)

        assert gate.refusals == [(caught.value.bucket, caught.value.retry_after_s)]

    @pytest.mark.parametrize("kind", ["cut", "cut_after", "truncate", "html", "status"])
    async def test_a_provider_in_trouble_is_a_transient_error(
        self, provider: Served, kind: str
    ) -> None:
        """Promise 1."""
        await self.fill(provider, 1)
        await provider.fault({"kind": kind, "status": 503} if kind == "status" else {"kind": kind})

        with pytest.raises(TransientError):
            await self.source(provider).read_page(self.sweep(), None)

    async def test_a_credential_that_is_refused_needs_a_person(self, provider: Served) -> None:
        with pytest.raises(NeedsReauthError):
            await self.source(provider, token="unknown").describe_fields(self.object)


class DestinationConformance(ABC):
    """The suite for destinations. `number` writes differ in identity, attributes and phone.

    A provider that writes several contacts with one call, after a look at each, says so by
    `written_of_five` and `together`, and which of its calls is the one that writes by `writing`.
    """

    written_of_five = 5  # Contacts that are linked when only five calls are let through.
    together = 1  # Contacts at most whose outcome is unknown if one answer is lost.
    writing: Mapping[str, str] = MappingProxyType({})  # Matches no call that only looks.

    @abstractmethod
    def destination(
        self, provider: Served, gate: Gate | None = None, token: str = ""
    ) -> Destination:
        """Return a destination for the default account; `token` replaces its credential."""

    @abstractmethod
    def write(self, number: int, list_id: str, **changes: Any) -> Write:
        """Return a first link of contact `number`; `changes` replace fields of it."""

    @abstractmethod
    async def block(self, provider: Served, email: str) -> None:
        """Unsubscribe a contact as the person would."""

    @abstractmethod
    async def contacts(self, provider: Served) -> int:
        """Return how many contacts the account holds."""

    async def linked(
        self, destination: Destination, count: int, **changes: Any
    ) -> tuple[str, list[Write]]:
        """Link some contacts; return the list and the writes."""
        list_id = (await destination.make_list("Customers")).id
        writes = [self.write(number, list_id, **changes) for number in range(count)]
        report = await destination.write(writes)
        assert report.stopped_by is None
        assert list(report.outcomes) == [Written()] * count
        return list_id, writes

    async def test_check_says_whose_account_it_is(self, provider: Served) -> None:
        account = await self.destination(provider).check()

        assert account.id
        assert account.name

    async def test_attributes_tell_what_identifies_a_contact(self, provider: Served) -> None:
        fields = await self.destination(provider).describe_attributes()

        assert any(field.unique for field in fields)

    async def test_a_list_that_was_made_is_found(self, provider: Served) -> None:
        """Proves W6."""
        destination = self.destination(provider)

        made = [await destination.make_list(f"List {number}") for number in range(3)]

        found = {each.id: each.name for each in await destination.find_lists()}
        assert {each.id: each.name for each in made}.items() <= found.items()

    async def test_what_was_written_is_there_and_matches(self, provider: Served) -> None:
        destination = self.destination(provider)

        list_id, writes = await self.linked(destination, 10)

        remote = await destination.read_back([write.identity for write in writes])
        assert all(
            each is not None and destination.matches(each, write)
            for each, write in zip(remote, writes, strict=True)
        )
        page = await destination.read_list(list_id, None, awaited=[{}, awaited_of(writes)])
        assert [len(arrived) for arrived in page.arrived] == [0, 10]
        assert page.cursor is None

    async def test_a_row_that_stands_otherwise_is_still_awaited(self, provider: Served) -> None:
        """Proves PROTOCOL 6: an import is believed row by row, by what stands on its list."""
        destination = self.destination(provider)
        list_id, writes = await self.linked(destination, 3)
        others = [self.write(number, list_id) for number in (0, 1, 9)]
        others[0] = replace_write(others[0], attributes=writes[1].attributes)
        rows = {
            **awaited_of(others),
            **awaited_of([replace_write(writes[2], list_id="987654")]),
        }

        page = await destination.read_list(list_id, None, awaited=[rows, awaited_of(writes)])

        assert [set(arrived) for arrived in page.arrived] == [
            {identity_key(writes[1].identity)},
            set(awaited_of(writes)),
        ]

    async def test_writing_twice_is_writing_once(self, provider: Served) -> None:
        """Promise 4."""
        destination = self.destination(provider)
        _, writes = await self.linked(destination, 5)
        before = await destination.read_back([write.identity for write in writes])
        count = await self.contacts(provider)

        report = await destination.write(writes)

        assert list(report.outcomes) == [Written()] * 5
        after = await destination.read_back([write.identity for write in writes])
        assert list(map(untimed, after)) == list(map(untimed, before))
        assert await self.contacts(provider) == count

    async def test_outcomes_come_in_the_order_of_the_writes(self, provider: Served) -> None:
        """Promise 5."""
        destination = self.destination(provider)
        list_id, writes = await self.linked(destination, 6)
        mixed = [
            self.write(number, list_id, known_as=writes[number].identity)
            if number % 2
            else self.write(
                100 + number, list_id, known_as=Identity(email=f"nobody{number}@example.com")
            )
            for number in range(6)
        ]

        report = await destination.write(mixed)

        assert [type(each) for each in report.outcomes] == [Missing, Written] * 3
        assert report.stopped_by is None

    async def test_a_limit_stops_the_rest_untried(self, provider: Served) -> None:
        """Promise 5."""
        list_id = (await self.destination(provider).make_list("Customers")).id
        gate = RecordingGate(calls_max=5)
        writes = [self.write(number, list_id) for number in range(20)]

        report = await self.destination(provider, gate).write(writes)

        assert list(report.outcomes).count(Written()) == self.written_of_five
        assert list(report.outcomes).count(NotTried()) == 20 - self.written_of_five
        assert isinstance(report.stopped_by, RateLimitedError)

    async def test_a_lost_answer_is_unknown_and_stops_the_rest(self, provider: Served) -> None:
        destination = self.destination(provider)
        list_id = (await destination.make_list("Customers")).id
        await provider.fault({"kind": "cut_after", "times": 1, "match": dict(self.writing)})
        writes = [self.write(number, list_id) for number in range(20)]

        report = await destination.write(writes)

        assert list(report.outcomes).count(Unknown()) == min(self.together, 20)
        assert set(report.outcomes) <= {Unknown(), NotTried(), Written()}
        assert (NotTried() in report.outcomes) is (self.together < 20)
        assert isinstance(report.stopped_by, UnknownOutcomeError)
        again = await destination.write(writes)
        assert list(again.outcomes) == [Written()] * 20
        assert await self.contacts(provider) == 20

    @pytest.mark.parametrize("kind", ["html", "truncate"])
    async def test_an_answer_that_cannot_be_believed_is_no_success(
        self, provider: Served, kind: str
    ) -> None:
        destination = self.destination(provider)
        list_id = (await destination.make_list("Customers")).id
        fault = {"kind": kind, "match": dict(self.writing)}
        await provider.fault({**fault, "status": 200} if kind == "html" else fault)

        report = await destination.write([self.write(1, list_id)])

        assert list(report.outcomes) == [Unknown()]

    async def test_a_refused_connection_is_not_unknown(self, provider: Served) -> None:
        destination = self.destination(provider)
        await provider.fault({"kind": "status", "status": 503})

        report = await destination.write([self.write(1, "1")])

        assert list(report.outcomes) == [NotTried()]
        assert isinstance(report.stopped_by, UnavailableError)

    async def test_every_call_asks_the_gate(self, provider: Served) -> None:
        """Promise 6."""
        gate = RecordingGate()
        await provider.post("calls:reset", {})
        destination = self.destination(provider, gate)

        _, writes = await self.linked(destination, 3)
        await destination.read_back([write.identity for write in writes])
        await destination.check()

        assert len(gate.entered) == sum((await provider.calls()).values())
        assert set(gate.entered) <= {limit.bucket for limit in destination.facts.limits[""]}

    async def test_a_limit_is_told_to_the_gate(self, provider: Served) -> None:
        """Promise 6."""
        await provider.fault({"kind": "throttle"})
        gate = RecordingGate()

        with pytest.raises(RateLimitedError) as caught:
            await self.destination(provider, gate).describe_attributes()

        assert gate.refusals == [(caught.value.bucket, caught.value.retry_after_s)]

    async def test_a_credential_that_is_refused_needs_a_person(self, provider: Served) -> None:
        with pytest.raises(NeedsReauthError):
            await self.destination(provider, token="unknown").describe_attributes()

    async def test_nobody_is_made_active_by_a_write(self, provider: Served) -> None:
        """Proves S3, HS2: promise 7, for an update, a first link and an e-mail change."""
        destination = self.destination(provider)
        list_id, writes = await self.linked(destination, 3)
        for write in writes:
            assert write.identity.email
            await self.block(provider, write.identity.email)
        moved = Identity(email="moved@example.com")

        report = await destination.write(
            [
                self.write(0, list_id, known_as=writes[0].identity, join_list=False),
                self.write(1, list_id),
                self.write(2, list_id, known_as=writes[2].identity, identity=moved),
            ]
        )

        assert list(report.outcomes) == [Written()] * 3
        remote = await destination.read_back([writes[0].identity, writes[1].identity, moved])
        assert [each is not None and each.is_blocked for each in remote] == [True] * 3

    async def test_an_e_mail_change_never_leaves_two(self, provider: Served) -> None:
        """Proves S5."""
        destination = self.destination(provider)
        list_id, writes = await self.linked(destination, 1)
        count = await self.contacts(provider)
        moved = self.write(
            0, list_id, known_as=writes[0].identity, identity=Identity(email="moved@example.com")
        )

        report = await destination.write([moved])

        assert list(report.outcomes) == [Written()]
        old, new = await destination.read_back([writes[0].identity, moved.identity])
        assert old is None
        assert new is not None
        assert destination.matches(new, moved)
        assert await self.contacts(provider) == count

    async def test_leaving_takes_off_the_list_and_keeps_the_contact(self, provider: Served) -> None:
        """Proves S4."""
        destination = self.destination(provider)
        list_id, writes = await self.linked(destination, 2)
        leave = Write(Operation.LEAVE, Identity(), b"", list_id, known_as=writes[0].identity)

        once = await destination.write([leave])
        twice = await destination.write([leave])

        assert list(once.outcomes) == list(twice.outcomes) == [Written()]
        (left,) = await destination.read_back([writes[0].identity])
        assert left is not None
        assert destination.matches(left, leave)
        page = await destination.read_list(list_id, None, awaited=[awaited_of(writes)])
        assert list(page.arrived[0]) == [identity_key(writes[1].identity)]

    async def test_deleting_deletes_once(self, provider: Served) -> None:
        destination = self.destination(provider)
        list_id, writes = await self.linked(destination, 1)
        delete = Write(Operation.DELETE, Identity(), b"", list_id, known_as=writes[0].identity)

        once = await destination.write([delete])
        twice = await destination.write([delete])

        assert list(once.outcomes) == list(twice.outcomes) == [Written()]
        assert list(await destination.read_back([writes[0].identity])) == [None]

    async def test_a_list_that_is_gone_is_a_missing_list(self, provider: Served) -> None:
        destination = self.destination(provider)

        report = await destination.write([self.write(1, "987654")])
        with pytest.raises(MisconfiguredError) as read:
            await destination.read_list("987654", None, awaited=[])

        assert isinstance(report.stopped_by, MisconfiguredError)
        assert report.stopped_by.what == read.value.what == "list_missing"
        assert list(report.outcomes) == [NotTried()]
