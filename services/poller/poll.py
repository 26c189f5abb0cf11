"""Read one integration's source and publish what changed: the order of effects of a run.

Promises (PROTOCOL.md 4):

* Effects before positions: a position is stored only after every record before it was
  acknowledged; the next sweep starts where this one ended only after all of it was.
* Whoever is new is stored before the page that tells of him is published, so that he can leave
  although this process dies.
* Deletions and leavers are computed from a complete read, pass the delete guard, and are published
  before `run_read`, which is last; the lease is checked just before it.
* Every transaction compares the fencing token. Reading stops, at a page where it can be gone on
  with, when the quota is used up, the integration is paused, or the process has to end.

Decisions are in `plan`, `parts` and `leavers`; this file only puts effects in order.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

import msgspec

from libs.common import ids, logs, metrics
from libs.common.clock import Clock
from libs.common.errors import UnavailableError
from libs.common.events import Change, Changed, Event, Operation, RunMode, RunRead, Topic
from libs.common.failpoints import Reached, nothing
from libs.connectors.automatic import WantedField, wanted_fields
from libs.connectors.contract import ContactList, Cursor, Onward, Page, Source, Sweep
from services.poller import leavers, plan
from services.poller.leavers import Leavers
from services.poller.newest import Newest
from services.poller.parts import split, storable, storable_ids
from services.poller.plan import Assignment, Roll, Sweeping
from services.poller.read_ahead import ReadAhead
from services.poller.store import Withheld

# Groups of pages that may wait for their acknowledgement: one waits out the broker's linger (50 ms)
# while the next is read; a crash reads at most twenty pages again, and they are all in memory.
UNACKNOWLEDGED_MAX = 2
REPLAYED_MAX = 10_000  # Where the provider's own rule has no number.
HYDRATE_MAX = 200  # One part's worth of contacts read by id at once.
# So often changes are read from the start again where contacts move while their pages are read; a
# window of changes is short, and after a while it is read anew in any case.
WALKS_MAX = 3

CONTACTS = metrics.counter("polled_contacts_total", "Changes published.", ["provider"])
RUNS = metrics.counter("polled_runs_total", "Runs that ended.", ["provider", "mode", "outcome"])

log = logs.get(__name__)


class Stop(StrEnum):
    """Why a run ends before its end, without anything being wrong."""

    QUOTA = "quota"
    INACTIVE = "inactive"
    CANCELLED = "cancelled"
    SHUTDOWN = "shutdown"


class RunStoppedError(Exception):
    """Reading stopped where it can be gone on with."""

    def __init__(self, reason: Stop) -> None:
        self.reason = reason
        super().__init__(f"run stopped: {reason}")


class RunStore(Protocol):
    """What a run keeps, each call one transaction that compares the fencing token.

    All raise LeaseLostError if somebody else has the integration by now.
    """

    async def begin(self, assignment: Assignment, sweeping: Sweeping) -> Sweeping:
        """Store a new run, the unfinished ones before it abandoned; return it completed."""

    async def resume(self, assignment: Assignment, sweeping: Sweeping) -> bool:
        """Give a run under way our token; False if it has ended, and a new one must begin."""

    async def advance(
        self,
        assignment: Assignment,
        sweeping: Sweeping,
        *,
        present: Sequence[str],
        merged: Sequence[str],
    ) -> Stop | None:
        """Store how far all is acknowledged, and who is on the pages that come next.

        `present` are their ids; `merged` the ids that live on in them. Returns why to stop.
        """

    async def known(self, assignment: Assignment, source_ids: Sequence[str]) -> set[str]:
        """Return which of these are members."""

    async def members(self, assignment: Assignment) -> set[str]:
        """Return all members."""

    async def newcomers(self, assignment: Assignment) -> set[str]:
        """Return the members whose page may never have been published."""

    async def unmet(self, assignment: Assignment, sweeping: Sweeping) -> set[str]:
        """Return the members that this full run did not meet."""

    async def withheld(self, assignment: Assignment) -> Withheld:
        """Return the deletions that wait for a person's word, and those that have it."""

    async def expect_back(
        self, assignment: Assignment, sweeping: Sweeping, ids: Collection[str]
    ) -> None:
        """Have those who are told of as gone read again by the next run, should they be back."""

    async def want_fields(self, assignment: Assignment, fields: Sequence[WantedField]) -> None:
        """Have fields made at the destination, and mapped (AC1)."""

    async def leave_out(
        self,
        assignment: Assignment,
        sweeping: Sweeping,
        *,
        versions: Mapping[str, int],
        read: Collection[str],
    ) -> None:
        """Store who was left out of a run, and who of those before is read by it (CC4)."""

    async def replays(self, assignment: Assignment, limit: int) -> list[str]:
        """Return who was left out and is wanted by a person now, as far as the limit goes."""

    async def forget_left_out(self, assignment: Assignment, ids: Collection[str]) -> None:
        """Forget that contacts were left out: they were published since."""

    async def check_lease(self, assignment: Assignment) -> None:
        """Raise LeaseLostError if the integration is not ours any more."""

    async def end(self, assignment: Assignment, ending: "Ending") -> None:
        """Store the end of a run and give the lease back."""


class Publish(Protocol):
    """Puts events on a topic, and says when each is there."""

    def __call__(self, topic: Topic, key: str, event: Event) -> asyncio.Task[None]:
        """Start to publish; the task raises UnavailableError if it is not known to be there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a run ended, as it is stored. `leavers` None: the members were not read."""

    sweeping: Sweeping
    roll: Roll
    complete: bool
    total_after: int | None
    satisfies_wish: bool
    leavers: Leavers | None


@dataclass(frozen=True, slots=True)
class Membership:
    """What a change run found out about who is there. `gone` None: nobody was looked for."""

    found: ContactList | None = None
    joiners: Sequence[str] = ()
    gone: frozenset[str] | None = None
    members_before: int = 0


@dataclass(slots=True)
class _Unacknowledged:
    """Groups that were handed to the broker, oldest first, and where each one ends."""

    groups: deque[tuple[asyncio.Future[list[None]], Sweeping]] = field(default_factory=deque)

    def add(self, sends: Sequence[asyncio.Task[None]], ends: Sweeping) -> None:
        self.groups.append((asyncio.gather(*sends), ends))

    async def settle(self, *, waiting_max: int) -> Sweeping | None:
        """Wait until at most so many wait; return where the acknowledged end, None if nowhere."""
        reached = None
        while self.groups and (len(self.groups) > waiting_max or self.groups[0][0].done()):
            acknowledged, ends = self.groups[0]
            await acknowledged
            self.groups.popleft()
            reached = ends
        return reached

    async def give_up(self) -> None:
        """Let what is under way end, whatever becomes of it: its position is not stored."""
        waiting = [group for group, _ in self.groups]
        self.groups.clear()
        await asyncio.gather(*waiting, return_exceptions=True)


class Run:
    """One run of one integration, from claim to end."""

    def __init__(
        self,
        assignment: Assignment,
        source: Source,
        store: RunStore,
        publish: Publish,
        clock: Clock,
        *,
        newest_max: int | None = None,
        is_stopping: Callable[[], bool] = lambda: False,
        reached: Reached = nothing,
    ) -> None:
        """`newest_max`: of a run of changes at most the newest so many are read (CC4)."""
        self._assignment = assignment
        self._source = source
        self._store = store
        self._publish = publish
        self._clock = clock
        self._newest_max = newest_max
        self._is_stopping = is_stopping
        self._reached = reached
        self._unacknowledged = _Unacknowledged()
        self._merged: set[str] = set()
        self._told_gone: set[str] = set()
        self._position: str | None = None  # Where the next run starts, as the last page tells.
        self._is_resumed = False
        # As far as records were handed to the broker.
        self._sweeping = plan.begin(assignment, by_position=source.facts.sweeps_by_position)
        self._acknowledged = self._sweeping

    async def poll(self) -> None:
        """Read to the end.

        Raises RunStoppedError where it may be gone on with, LeaseLostError, TransientError and
        ConfigurationError of the connector, and UnavailableError of the broker.
        """
        try:
            await self._begin()
            await self._look_for_fields()
            found = await self._find_list()
            await self._count_before()
            membership = await self._look_for_members(found)
            await self._sweep()
            await self._hydrate(membership.joiners)
            await self._replay(membership)
            await self._end(membership)
        finally:
            await self._unacknowledged.give_up()

    @property
    def sweeping(self) -> Sweeping:
        """Return the run as far as it has come."""
        return self._sweeping

    @property
    def is_full(self) -> bool:
        """Return whether everything is read, not changes only."""
        return self._sweeping.mode is RunMode.FULL

    async def _begin(self) -> None:
        resumed = plan.resumable(
            self._assignment, resumable_paging=self._source.facts.resumable_paging
        )
        if resumed is not None and await self._store.resume(self._assignment, resumed):
            self._sweeping, self._is_resumed = resumed, True
        else:
            self._sweeping = await self._store.begin(self._assignment, self._sweeping)
        self._acknowledged = self._sweeping

    async def _look_for_fields(self) -> None:
        """Have a place made for what the source has got since; this run goes on without (AC1).

        Nobody maps fields here, so nobody could take out one that the source has not any more: it
        is not asked for, and what stands at the destination is left alone.
        """
        known = self._assignment.known_fields
        if known is None:
            return
        fields = await self._source.describe_fields(self._assignment.object)
        there = {field.name for field in fields}
        self._assignment = replace(
            self._assignment,
            properties=[name for name in self._assignment.properties if name in there],
        )
        if wanted := wanted_fields(self._source.facts.label, fields, known):
            log.info("fields_found", integration=str(self._assignment.integration), n=len(wanted))
            await self._store.want_fields(self._assignment, wanted)

    async def _find_list(self) -> ContactList | None:
        if self._assignment.list_id is None:
            return None
        return await self._source.find_list(self._assignment.object, self._assignment.list_id)

    async def _count_before(self) -> None:
        """Ask the provider's total: of a full run only, a window of changes has none to keep."""
        if self.is_full and self._sweeping.cursor is None and not self._sweeping.is_swept:
            total = await self._source.count(self._sweep_wanted)
            self._sweeping = msgspec.structs.replace(self._sweeping, total_before=total)
            self._acknowledged = self._sweeping

    async def _look_for_members(self, found: ContactList | None) -> Membership:
        if self.is_full:
            # Gone on with, it does not read again what was read before the list looked like this:
            # who joined or left since would be taken for looked at.
            return Membership(None if self._is_resumed else found)
        if not self._looks_for_gone:
            return Membership(found)
        waiting = await self._newcomers()
        if not plan.must_read_members(self._assignment, found):
            return Membership(found, joiners=sorted(waiting))
        present, is_doubtful = await self._read_members()
        known = await self._store.members(self._assignment)
        return Membership(
            found,
            joiners=sorted((present - known) | (waiting & present)),
            # Who was passed over is not gone: another read has to say who is.
            gone=None if is_doubtful else frozenset(known - present),
            members_before=len(known),
        )

    async def _newcomers(self) -> set[str]:
        if not plan.has_newcomers(self._assignment):
            return set()
        return await self._store.newcomers(self._assignment)

    async def _read_members(self) -> tuple[set[str], bool]:
        """Return all members, and whether some may have been passed over."""
        present: set[str] = set()
        is_doubtful = False
        after: Cursor | None = None
        while True:
            page = await self._source.read_members(
                self._assignment.object, self._assignment.list_id, after
            )
            present.update(storable_ids(page.ids))
            is_doubtful = is_doubtful or page.is_doubtful
            if page.cursor is None:
                return present, is_doubtful
            after = page.cursor
            if self._is_stopping():
                raise RunStoppedError(Stop.SHUTDOWN)

    async def _sweep(self) -> None:
        if self._sweeping.is_swept:
            return
        if self._newest_max is not None and not self.is_full:
            await self._sweep_newest(self._newest_max)
        else:
            async with self._ahead(plan.cursor_of(self._sweeping)) as ahead:
                while pages := await ahead.next_group():
                    await self._publish_pages(pages)
                    pages = ()  # Not kept while the next ones are read: a megabyte or two.
        self._sweeping = msgspec.structs.replace(self._sweeping, is_swept=True, cursor=None)
        if self._sweeping.parts:
            await self._settle()

    def _ahead(self, after: Cursor | None) -> ReadAhead:
        async def read_page(after: Cursor | None, onward: Onward) -> Page:
            return await self._source.read_page(self._sweep_wanted, after, onward)

        return ReadAhead(read_page, after, self._clock)

    async def _sweep_newest(self, most: int) -> None:
        """Read all changes, then publish the newest of them and count the others (CC4)."""
        for _ in range(WALKS_MAX):
            newest = await self._read_newest(most)
            if newest is not None:
                break
        else:
            raise UnavailableError(self._assignment.provider, "contacts moved while they were read")
        self._leave_out(newest.left_out)
        if newest.left_out or self._assignment.has_left_out:
            # Before anything is published: a crash leaves too many named, and nobody unnamed.
            await self._store.leave_out(
                self._assignment,
                self._sweeping,
                versions=newest.dropped(),
                read=[change.id for change in newest.changes()],
            )
        for changes in _chunks(newest.changes(), HYDRATE_MAX):
            await self._publish_groups([changes], None)

    async def _read_newest(self, most: int) -> Newest | None:
        """Return the newest changes; None if contacts moved, so that one may be on no page."""
        before = self._sweeping
        newest, is_doubtful = Newest(most), False
        async with self._ahead(None) as ahead:
            while pages := await ahead.next_group():
                is_doubtful = is_doubtful or any(page.is_doubtful for page in pages)
                for changes in await self._choose(pages):
                    newest.add(changes)
                if self._is_stopping():
                    raise RunStoppedError(Stop.SHUTDOWN)
        if not is_doubtful and not newest.has_doubles:
            return newest
        self._sweeping = before  # What was counted is counted by the next walk.
        return None

    def _leave_out(self, count: int) -> None:
        if count:
            left_out = self._sweeping.left_out + count
            self._sweeping = msgspec.structs.replace(self._sweeping, left_out=left_out)

    async def _publish_pages(self, pages: Sequence[Page]) -> None:
        if any(page.is_doubtful for page in pages):
            self._sweeping = msgspec.structs.replace(self._sweeping, is_doubtful=True)
        await self._publish_groups(await self._choose(pages), pages[-1].cursor)

    async def _publish_groups(
        self, groups: Sequence[Sequence[Change]], cursor: Cursor | None
    ) -> None:
        coming = [change for changes in groups for change in changes]
        if not coming and cursor is None:
            return  # An idle poll has nothing to keep before its end.
        self._reached("read")
        await self._advance(coming)
        sends = [send for changes in groups for send in self._send(changes)]
        self._sweeping = msgspec.structs.replace(self._sweeping, cursor=cursor)
        self._unacknowledged.add(sends, self._sweeping)
        self._reached("sent")

    async def _choose(self, pages: Sequence[Page]) -> list[Sequence[Change]]:
        """Return the changes of each page that concern this integration."""
        groups = [storable(page.changes) for page in pages]
        self._leave_out(sum(len(page.changes) for page in pages) - sum(map(len, groups)))
        self._note_told(pages)
        is_narrowed = all(page.is_narrowed for page in pages)
        if self._assignment.list_id is None or self.is_full or is_narrowed:
            return groups
        # A window of changes is the whole account's; who just joined is read by id.
        # A survivor may be a member under an id that was merged into it.
        names = {
            name
            for changes in groups
            for change in changes
            for name in (change.id, *change.merged_from)
        }
        if not names:
            return groups
        members = await self._store.known(self._assignment, sorted(names))
        return [
            [each for each in changes if not members.isdisjoint((each.id, *each.merged_from))]
            for changes in groups
        ]

    def _note_told(self, pages: Sequence[Page]) -> None:
        """Remember where the next run starts, and who is gone: who is on a later page is back."""
        self._position = pages[-1].position
        for page in pages:
            if self._told_gone:
                self._told_gone.difference_update(change.id for change in page.changes)
            self._told_gone.update(page.gone)

    async def _advance(self, coming: Sequence[Change]) -> None:
        """Store what is acknowledged and who comes next; stop here if there is a reason to."""
        await self._note_acknowledged(waiting_max=UNACKNOWLEDGED_MAX - 1)
        merged = [old for change in coming if change.merged_from for old in change.merged_from]
        self._merged.update(merged)
        upsert = Operation.UPSERT
        stop = await self._store.advance(
            self._assignment,
            self._acknowledged,
            present=[change.id for change in coming if change.op is upsert],
            merged=merged,
        )
        if stop is None and self._is_stopping():
            stop = Stop.SHUTDOWN
        if stop is not None:
            await self._note_acknowledged(waiting_max=0)
            await self._store.advance(self._assignment, self._acknowledged, present=(), merged=())
            raise RunStoppedError(stop)

    async def _note_acknowledged(self, *, waiting_max: int) -> None:
        reached = await self._unacknowledged.settle(waiting_max=waiting_max)
        if reached is not None:
            self._acknowledged = reached

    async def _settle(self) -> None:
        """Wait until everything is acknowledged, and store it."""
        await self._note_acknowledged(waiting_max=0)
        self._reached("acknowledged")
        self._acknowledged = self._sweeping
        await self._advance(())

    def _send(self, changes: Sequence[Change]) -> list[asyncio.Task[None]]:
        """Hand the parts of one page to the broker."""
        parts = split(changes, self._assignment.changes_max)
        if not parts:
            return []
        page = self._sweeping.pages + 1
        sends = [self._send_part(page, number, part) for number, part in enumerate(parts, 1)]
        self._sweeping = msgspec.structs.replace(
            self._sweeping,
            pages=page,
            parts=self._sweeping.parts + len(parts),
            read=self._sweeping.read + len(changes),
            met=self._sweeping.met + plan.upserts(changes),
        )
        CONTACTS.labels(self._assignment.provider).inc(len(changes))
        return sends

    def _send_part(self, page: int, part: int, changes: list[Change]) -> asyncio.Task[None]:
        assignment, sweeping = self._assignment, self._sweeping
        run = plan.run_id(assignment, sweeping)
        changed = Changed(
            id=plan.record_id(assignment, sweeping, page, part, changes),
            workspace=assignment.workspace,
            integration=assignment.integration,
            run=run,
            run_no=sweeping.run_no,
            mode=sweeping.mode,
            fencing=assignment.fencing,
            page=page,
            part=part,
            mapping_version=sweeping.mapping_version,
            properties=list(assignment.properties),
            changes=changes,
            phones_stay=self._source.facts.phones_stay,
        )
        return self._publish(Topic.CONTACTS_CHANGED, str(assignment.integration), changed)

    async def _hydrate(self, joiners: Sequence[str]) -> None:
        """Read those who joined, whatever their modification time, and publish them."""
        if not joiners:
            return
        for start in range(0, len(joiners), HYDRATE_MAX):
            wanted = joiners[start : start + HYDRATE_MAX]
            changes = storable(await self._source.read_contacts(self._sweep_wanted, wanted))
            await self._advance(changes)
            # Not a page position: whoever goes on reads the joiners again.
            self._unacknowledged.add(self._send(changes), self._sweeping)
        await self._settle()

    async def _replay(self, membership: Membership) -> None:
        """Read those whom earlier runs left out, and whom a person wants (CC4)."""
        if self.is_full or not self._assignment.has_replays:
            return  # A full run reads everybody.
        ids = await self._store.replays(self._assignment, self._newest_max or REPLAYED_MAX)
        there = set(ids)
        if self._assignment.list_id is not None:
            there = await self._store.known(self._assignment, ids)
        await self._hydrate(sorted(there - (membership.gone or frozenset())))
        await self._store.forget_left_out(self._assignment, ids)

    async def _end(self, membership: Membership) -> None:
        total_after = await self._source.count(self._sweep_wanted) if self.is_full else None
        sweeping = self._sweeping
        meets = plan.is_complete(sweeping.met, sweeping.total_before, total_after)
        complete = meets and not sweeping.is_doubtful
        gone = await self._judge_gone(membership, complete=complete)
        if gone is not None:
            await self._publish_gone(gone.published)
        await self._store.check_lease(self._assignment)
        await self._publish(
            Topic.CONTACTS_CHANGED,
            str(self._assignment.integration),
            self._run_read(total_after, complete=complete),
        )
        self._reached("told")
        log.info(
            "run_read",
            integration=str(self._assignment.integration),
            run_no=self._sweeping.run_no,
            mode=self._sweeping.mode.value,
            read=self._sweeping.read,
        )
        await self._store.end(
            self._assignment,
            Ending(
                sweeping=self._sweeping,
                roll=plan.next_roll(
                    self._assignment,
                    self._sweeping,
                    membership.found,
                    was_read=(self.is_full or membership.gone is not None) and complete,
                    settles=self.is_full or not self._is_resumed,
                    position=self._position,
                ),
                complete=complete,
                total_after=total_after,
                satisfies_wish=plan.satisfies_wish(self._assignment, self._sweeping),
                leavers=gone,
            ),
        )
        RUNS.labels(self._assignment.provider, self._sweeping.mode.value, "read").inc()

    async def _judge_gone(self, membership: Membership, *, complete: bool) -> Leavers | None:
        """Return who may be told of as gone; None if nobody was looked for."""
        gone, before = membership.gone, membership.members_before
        if not self._looks_for_gone:
            return None
        if self.is_full:
            gone = frozenset(await self._store.unmet(self._assignment, self._sweeping))
            before = self._sweeping.members_before
        told = await self._known_gone()
        if gone is None and not told:
            return None
        withheld = await self._store.withheld(self._assignment)
        if gone is None:
            # Nobody looked for those who wait for a person's word: they go on waiting.
            gone, before = withheld.standing, len(await self._store.members(self._assignment))
        gone |= told
        return leavers.decide(
            # Who lives on in another contact is taken over by it; the next look finds him gone.
            gone - self._merged,
            members_before=before,
            is_complete=complete,
            confirmed=withheld.confirmed,
            standing=frozenset() if self.is_full else withheld.standing,
        )

    async def _known_gone(self) -> frozenset[str]:
        """Return who is gone by the provider's own word, of those who are members."""
        if self.is_full or not self._told_gone:
            return frozenset()
        told = sorted(storable_ids(list(self._told_gone)))
        return frozenset(await self._store.known(self._assignment, told))

    async def _publish_gone(self, gone: Collection[str]) -> None:
        """Tell who is gone.

        Of a run that is gone on with after its poller's death somebody may be back who was told of
        as gone. A newer run alone can say so: this one's word is as old as that (`plan.next_roll`).
        """
        if gone and not self.is_full:  # After a full run they are no members: they join anew.
            await self._store.expect_back(self._assignment, self._sweeping, gone)
        changes = [
            Change(
                id=source_id,
                op=self._assignment.leaving,
                version_ms=self._sweeping.until_ms,
            )
            for source_id in sorted(gone)
        ]
        for part in _chunks(changes, HYDRATE_MAX):
            self._unacknowledged.add(self._send(part), self._sweeping)
            await self._note_acknowledged(waiting_max=UNACKNOWLEDGED_MAX)
        await self._note_acknowledged(waiting_max=0)

    def _run_read(self, total_after: int | None, *, complete: bool) -> RunRead:
        assignment, sweeping = self._assignment, self._sweeping
        run = plan.run_id(assignment, sweeping)
        return RunRead(
            id=ids.computed("run_read", run, assignment.fencing),
            workspace=assignment.workspace,
            integration=assignment.integration,
            run=run,
            run_no=sweeping.run_no,
            mode=sweeping.mode,
            fencing=assignment.fencing,
            mapping_version=sweeping.mapping_version,
            pages=sweeping.pages,
            parts=sweeping.parts,
            read=sweeping.read,
            left_out=sweeping.left_out,
            total_before=sweeping.total_before,
            total_after=total_after,
            complete=complete,
        )

    @property
    def _looks_for_gone(self) -> bool:
        return plan.looks_for_gone(self._assignment, self._sweeping, self._source.facts)

    @property
    def _sweep_wanted(self) -> Sweep:
        return plan.sweep_of(self._assignment, self._sweeping)


def _chunks(changes: Sequence[Change], size: int) -> Iterable[Sequence[Change]]:
    return (changes[start : start + size] for start in range(0, len(changes), size))
