"""What must be true after every transaction, and when everything is quiet (PROTOCOL.md 1 to 8).

While it goes on: posted + held within the limit; every open unit named for one contact; every
write covered by a unit; nothing charged that was not written, and nothing twice. At quiet: the
destination holds the newest version of each contact and nobody twice, every write is charged,
no unit is open, every run's proof fits, and nothing waits without cause.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from libs.common.events import Changed, Event, Operation
from libs.connectors.contract import Write
from services.writer.calls import has_happened
from services.writer.email_changes import Change, Decision
from services.writer.store import StoredIntent
from services.writer.values import ContactId, LinkState, Task, Wish
from tests.fakes import FakeDestination
from tests.simulation.extras import GUARD_CONTACTS
from tests.simulation.memory.database import Database, Period, Tables
from tests.simulation.people import INVALID, Source
from tests.simulation.provider import POISON, REFUSED_NAME, Account

# Three checks make a connection need a person. Two pollers may have one under way meanwhile, and a
# process may die before it counts.
REFUSED_MAX = 6
REFUSED_NAMES = (REFUSED_NAME, POISON)
# A block lasts a quarter of an hour at most, and what waits for it goes on by then.
QUIET_WITHIN_S = 5_400.0
SLOT = timedelta(seconds=60)  # AC5's half hour in small.

if TYPE_CHECKING:
    from tests.simulation.history import History


class ViolationError(AssertionError):
    """A promise that was broken; `kind` is the same for all seeds that break it."""

    def __init__(self, kind: str, detail: object = "") -> None:
        self.kind = kind
        super().__init__(f"{kind}: {detail}")


def require(holds: object, kind: str, detail: object = "") -> None:
    if not holds:
        raise ViolationError(kind, detail)


class Oracle:
    """Sees every transaction and every write; what is wrong is raised where it happens."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._postings = 0
        self._seen: object = None
        self._tasks: dict[bytes, Task] = {}
        self._newest: dict[ContactId, Task] = {}  # What was charged last.
        self.shares = 0  # Of an external account in a slot; 0: none are needed.
        self.account_of: Callable[[UUID], Account] | None = None
        self._used: dict[tuple[UUID, int], int] = {}  # Posted and held, as last seen.
        self.broken: ViolationError | None = None  # The first one: what follows is its consequence.
        self._written: set[bytes] = set()
        self._charged: set[bytes] = set()
        self.is_guarded = False  # Whether many deletions at once are few enough to be seen.
        self._refused: Counter[UUID] = Counter()  # Calls with credentials that are not taken.
        self._told_gone: defaultdict[UUID, set[str]] = defaultdict(set)  # By run.

    def refused(self, connection: UUID) -> None:
        """See a call that was refused for its credentials: not again and again."""
        row = self._database.tables.connections[connection]
        self._refused[connection] += 1
        if row.state == "connected" and row.failed_checks == 0:
            self._refused[connection] = 1
        self._keep(self._refused[connection] <= REFUSED_MAX, "refused again and again", row)

    def see_told(self, event: Event) -> None:
        """See what a poller tells: who is gone, and many only with a person's word."""
        if not (self.is_guarded and isinstance(event, Changed)):
            return
        gone = {each.id for each in event.changes if each.op is not Operation.UPSERT}
        tables = self._database.tables
        agreed = {id_ for (run, id_), _ in tables.withheld.items() if tables.runs[run].confirmed_at}
        self._told_gone[event.run] |= gone - agreed
        few = len(self._told_gone[event.run]) <= GUARD_CONTACTS
        self._keep(few, "deleted without a word", self._told_gone[event.run])

    def _keep(self, holds: object, kind: str, detail: object) -> None:
        if not holds:
            self.broken = self.broken or ViolationError(kind, detail)

    def watch(self, tables: Tables) -> None:
        """Look at what a transaction has left."""
        try:
            self._look(tables)
        except ViolationError as error:
            self.broken = self.broken or error
            raise

    def _look(self, tables: Tables) -> None:
        if len(tables.postings) > self._postings:
            self._see_charges(tables)
        units = (tables.periods, tables.holds, tables.intents)
        if units != self._seen:
            self._seen = (tables.periods.copy(), tables.holds.copy(), tables.intents.copy())
            self._look_at_units(tables)

    def _look_at_units(self, tables: Tables) -> None:
        open_units = Counter({hold: row.open for hold, row in tables.holds.items() if row.open})
        for (workspace, month), period in tables.periods.items():
            self._look_at_limit((workspace, month), period)
            held = sum(
                row.open
                for row in tables.holds.values()
                if (row.workspace, row.period) == (workspace, month)
            )
            require(held == period.held, "held units without a hold", period)
        tasks = [
            (row.stored.hold, task)
            for row in tables.intents.values()
            for task in _tasks_of(row.stored)
        ]
        require(Counter(hold for hold, _ in tasks) == open_units, "a unit is nobody's")
        self._look_at_shares(tables, [task for _, task in tasks if task.key not in self._tasks])
        self._tasks.update((task.key, task) for _, task in tasks)
        contacts = Counter(task.contact for _, task in tasks)
        require(all(count == 1 for count in contacts.values()), "two units of one contact")

    def _look_at_shares(self, tables: Tables, granted: list[Task]) -> None:
        """Whoever gets a unit has a share in this slot, or in the last, which has just ended."""
        if not self.shares:
            return
        slots = Counter((account, slot) for account, slot, _ in tables.shares)
        require(all(n <= self.shares for n in slots.values()), "over the share", slots)
        now = int(self._database.now().timestamp() // SLOT.total_seconds())
        have = {contact for _, slot, contact in tables.shares if slot >= now - 1}
        without = [task for task in granted if task.contact not in have]
        require(not without, "written without a share", without)

    def _look_at_limit(self, key: tuple[UUID, int], period: Period) -> None:
        """Nothing is granted over the limit; after it was lowered, what there was may stay."""
        used = period.posted + period.held
        stood = used <= self._used.get(key, 0)
        require(used <= period.limit or stood, "over the limit", period)
        self._used[key] = used

    def _see_charges(self, tables: Tables) -> None:
        for (_, _, key), charge in list(tables.postings.items())[self._postings :]:
            require(key not in self._charged, "charged twice", charge)
            is_there = key in self._written or self._stands(self._tasks[key])
            require(is_there, "charged, not written", charge)
            self._charged.add(key)
            self._newest[self._tasks[key].contact] = self._tasks[key]
        self._postings = len(tables.postings)

    def _stands(self, task: Task) -> bool:
        """Return whether the account has an effect already, whoever made it: a look cannot tell."""
        assert self.account_of is not None
        account = self.account_of(task.contact.integration)
        return has_happened(FakeDestination(account), task, account.remote(task.write()))

    def covers(self, write: Write, *, stood_still: bool) -> bool:
        """Return whether a unit is held for a write that takes effect now, and remember it."""
        found = [task for task in self._open_tasks() if _is_of(task, write)]
        if not stood_still:
            # What comes too late may be another owner's effect as well: his answer decides.
            self._written.update(task.key for task in found)
        # An effect that is charged already may be written again: a mark asked for it.
        again = any(_is_of(task, write) for task in self._newest.values())
        if not (found or again or stood_still):
            self.broken = self.broken or ViolationError("written without a unit", write)
        return bool(found) or again

    def _open_tasks(self) -> list[Task]:
        rows = self._database.tables.intents.values()
        return [task for row in rows for task in _tasks_of(row.stored)]

    def judge(self, history: "History") -> None:
        """Look at how everything ended."""
        tables = self._database.tables
        if self.broken is not None:
            raise self.broken
        is_quiet = history.clock.monotonic() < QUIET_WITHIN_S
        require(is_quiet, "never quiet", _waiting(tables))
        require(not tables.intents, "a unit stays open")
        missing = self._written - self._charged
        require(not missing, "written, not charged", [self._tasks[key] for key in missing])
        for integration, source in history.sources.items():
            _Ended(history, integration, source).judge()
        for run, row in tables.runs.items():
            # A page that changed between its two readings is counted as it was told first.
            if row.state == "read" and row.is_complete and run not in history.broker.reread:
                settled = tables.settled_runs.get(run)
                is_proved = settled is not None and settled.state == "complete"
                require(is_proved, "a run's proof does not fit", (row.run_no, settled))


def _tasks_of(stored: StoredIntent) -> list[Task]:
    return [*stored.tasks, *(row.task for row in stored.rows)]


def _is_of(task: Task, write: Write) -> bool:
    own = task.write()
    return (own.op, own.identity, own.attributes, own.list_id) == (
        write.op,
        write.identity,
        write.attributes,
        write.list_id,
    )


def _place(key: str) -> str:
    """Return how the destination has an address: of a number the digits alone."""
    return key.removeprefix("+")


def _waiting(tables: Tables) -> list[object]:
    parked = [
        (contact.integration, contact.source_id, row.reason)
        for contact, row in tables.parked.items()
    ]
    return [*parked, *tables.intents.values(), len(tables.outbox)]


class _Ended:
    """One integration at the end."""

    def __init__(self, history: "History", integration: UUID, source: Source) -> None:
        self._history = history
        self._tables = history.database.tables
        self._integration = integration
        self._source = source
        self._row = self._tables.integrations[integration]
        self._account = history.account_of(integration)
        self._there = self._account.contacts
        self._decisions = [
            msgspec.json.decode(run.email_decision, type=Decision)
            for run in self._tables.runs.values()
            if run.integration == integration and run.email_decision is not None
        ]

    def judge(self) -> None:
        for source_id in sorted(self._source.present):
            self._judge_present(source_id)
        for contact, link in self._tables.links.items():
            gone = contact.source_id not in self._source.present
            if contact.integration == self._integration and gone:
                self._judge_gone(contact)
                assert link is not None
        self._judge_addresses()
        if self._row.email_change_policy == "single":
            most = max((len(each.approved) for each in self._decisions), default=0)
            require(most <= 1, "a bulk change of addresses was let through", most)

    def _judge_present(self, source_id: str) -> None:
        contact = ContactId(self._integration, source_id)
        known = self._source.account.contacts[source_id]
        email, name = known.properties[self._source.key] or "", known.properties["firstname"]
        link, parked = self._tables.links.get(contact), self._tables.parked.get(contact)
        if parked is not None:
            self._judge_waiting(contact, email)
            return
        require(link is not None, "lost", contact)
        assert link is not None
        require(link.version.ms == known.modified_ms, "stale version", (known, link))
        if email == INVALID or name in REFUSED_NAMES:
            return
        require(link.state is LinkState.LINKED, "not linked", (known, link))
        if link.key != email:
            require(link.refused == email, "at another address", (known, link))
            before = (
                source_id,
                *known.merged_from,
            )  # Who takes over a link takes over its refusal.
            was_refused = any(self._was_refused(each, email) for each in before)
            require(was_refused, "refused without cause", (known, link))
        self._judge_content(contact, link.key or "")

    def _was_refused(self, source_id: str, email: str) -> bool:
        mark = Change(source_id, email).mark
        return _place(email) in self._account.taken or any(
            each.refused.get(source_id) == mark
            and (self._row.email_change_policy == "none" or len(each.refused) > 1)
            for each in self._decisions
        )

    def _judge_waiting(self, contact: ContactId, email: str) -> None:
        """Let a contact wait at the end only for an address that another one holds."""
        reason = self._tables.parked[contact].reason
        owners = [
            other
            for other, link in self._tables.links.items()
            if other.integration == self._integration
            and link.state is LinkState.LINKED
            and link.key == email
            and other != contact
        ]
        require(reason == "duplicate_identity" and owners, "waits without cause", (contact, reason))

    def _judge_content(self, contact: ContactId, key: str) -> None:
        there = self._there.get(_place(key))
        require(there is not None, "not there", (contact, key))
        assert there is not None
        mapping = self._tables.mappings[self._integration, self._row.mapping_version]
        for field in msgspec.json.decode(mapping.fields):
            if field["source"] == self._source.key:
                continue
            wanted = self._source.account.contacts[contact.source_id].properties[field["source"]]
            found = there.attributes.get(field["destination"])
            require(found == wanted, "stale content", (contact, wanted, found))
        # A leave may be late itself, and its address be another contact's by then.
        is_on_list = self._row.list_id in there.list_ids
        is_late = _place(key) in self._account.overdue
        require(is_on_list or is_late, "not on the list", contact)

    def _judge_gone(self, contact: ContactId) -> None:
        link = self._tables.links[contact]
        if self._lives_on(contact.source_id):
            return
        require(link.state is not LinkState.LINKED, "gone, but linked", link)
        key = link.key
        if key is None or self._row.deletion_policy == "keep" or _place(key) not in self._there:
            return
        if link.wish not in (Wish.LEAVE, Wish.DELETE):
            return
        is_on_list = self._row.list_id in self._there[_place(key)].list_ids
        require(not is_on_list or self._is_held(key, contact), "gone, but on the list", link)

    def _lives_on(self, source_id: str) -> bool:
        """Return whether it is part of a contact that is rejected, and so cannot take it over."""
        return any(
            source_id in each.merged_from
            and (
                each.properties[self._source.key] == INVALID
                or each.properties["firstname"] in REFUSED_NAMES
            )
            for each in self._source.account.contacts.values()
        )

    def _is_held(self, key: str, but: ContactId | None = None) -> bool:
        return any(
            _place(link.key or "") == _place(key)
            and contact.integration == self._integration
            and contact != but
            for contact, link in self._tables.links.items()
        )

    def _judge_addresses(self) -> None:
        """Nobody is there twice: every address that was written is some link's.

        Two that were there when they became one at the source stay, as S4 has it.
        """
        merged = set(map(_place, self._source.merged))
        for key in self._there:
            is_ours = key.startswith(_place(self._source.prefix)) and key not in merged
            if is_ours and key not in self._account.overdue:
                require(self._is_held(key), "there twice", key)
