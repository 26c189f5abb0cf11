"""One turn at a destination: look up, classify, hold, call, post, settle — in this order.

Promises (PROTOCOL.md 5): a unit of quota is held, and it is written down whose it is, before
anything is sent; what the destination holds is linked and charged in one transaction, together
with what is told of it; a contact whose earlier call may have happened is repeated exactly or
read back first. A crash between any two steps is mended by the next turn that meets the contact.
Nothing is sent inside a transaction, and every transaction holds the lease's token.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from uuid import UUID

import msgspec

from libs.common import ids, ledger, logs, metrics
from libs.common.clock import Clock
from libs.common.errors import LeaseLostError, SyncError
from libs.common.events import DIRECT, Mapped, Settled
from libs.common.failpoints import Reached, nothing
from libs.common.postgres import Transaction, Transactions, look, transact, transact_alone
from libs.common.reasons import Park
from libs.connectors.contract import Destination, Screening, Written
from services.writer import store
from services.writer.account import Account, Intent, OpenDestination
from services.writer.calls import Answers, Caller, Stop, look_at, stop_of
from services.writer.classify import (
    Effect,
    Parking,
    classify,
    must_look_again,
    must_read_back,
    newest,
    take_over,
)
from services.writer.conclude import (
    Changes,
    Done,
    Doubt,
    NotSent,
    Result,
    begin_rows,
    conclude,
    conclude_effect,
    conclude_read_back,
    park,
)
from services.writer.health import Blocks
from services.writer.imports import Imports
from services.writer.look_up import Known, look_around, look_up, sort_out
from services.writer.outcome import store_changes, tell_late
from services.writer.pairing import Pairing, Pairs
from services.writer.plan import SINGLES_MAX, Plan, Way, plan, rows_that_fit, way
from services.writer.rows import Rows
from services.writer.shares import Budget, by_account
from services.writer.usual import Usual
from services.writer.values import (
    TOMBSTONES,
    ContactId,
    ImportRow,
    LinkState,
    PartId,
    Task,
    Unit,
    View,
    Wanted,
    Wish,
    row_of,
    shared,
)

log = logs.get(__name__)

TASKS_WRITTEN = metrics.counter(
    "tasks_written_total", "Effects that a destination holds.", ["kind"]
)
FRESHNESS = metrics.histogram(
    "sync_freshness_seconds",
    "From a contact's change at its source to its place at the destination.",
    buckets=(1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 14400, 86400),
)
CONTACTS_PARKED = metrics.counter("contacts_parked_total", "Contacts that must wait.", ["reason"])
UNITS_READ_BACK = metrics.counter(
    "units_read_back_total", "Doubtful units settled by a look.", ["outcome"]
)


@dataclass(slots=True)
class Turn:
    """What one turn works on.

    A live one has `mapped`, and its record ids by their part; `items` are then those of its
    contacts that need a closer look, and `firsts` those that are simply new. A drain has `items`
    alone, and its `stage` names it.
    `is_again`: their parts were told of before, from other records: a page that was read again.
    """

    account: Account
    items: Sequence[Wanted] = ()
    mapped: Sequence[Mapped] = ()
    records: dict[PartId, UUID] = field(default_factory=dict)
    stage: str = DIRECT
    is_again: bool = False
    is_probe: bool = False
    singles_max: int = SINGLES_MAX
    known: Known = field(init=False)
    firsts: Rows = field(default_factory=Rows)
    chosen: dict[ContactId, Wanted] = field(init=False)  # The newest state of each contact.
    destination: Destination | None = None
    changes: Changes = field(default_factory=Changes)
    stop: Stop | None = None
    has_answered: bool = False
    misconfigured: dict[UUID, str] = field(default_factory=dict)
    import_intent: UUID | None = None
    pairs: Pairs = field(default_factory=Pairs)
    called: Sequence[Unit] = ()

    @property
    def is_late(self) -> bool:
        """Return whether these are parked contacts, outside the sums of runs (PROTOCOL.md 8)."""
        return self.stage != DIRECT

    def stage_of(self, record: UUID) -> str:
        """Return the stage in which a record is told: a run's sum has one of each part."""
        return f"drain:{record}" if self.is_again else DIRECT


class Writing:
    """Takes turns; it owns no state of its own beside what it was given."""

    def __init__(
        self,
        sessions: Transactions,
        clock: Clock,
        open_destination: OpenDestination,
        imports: Imports,
        blocks: Blocks,
        *,
        budget: Budget | None = None,
        reached: Reached = nothing,
    ) -> None:
        self._sessions = sessions
        self._clock = clock
        self._open = open_destination
        self._imports = imports
        self._blocks = blocks
        self.budget = budget or Budget()
        self._pairing = Pairing(sessions)
        self._reached = reached

    @property
    def blocks(self) -> Blocks:
        """Return who stores and tells how destinations are."""
        return self._blocks

    async def take(self, turn: Turn) -> list[Settled]:
        """Do steps 1 to 6; return what is to be told of each record, stored already."""
        await self._sort_out(turn)
        await self._read_back(turn)
        await self._look_again(turn)
        compared = await self._pairing.compare(turn, self._classify(turn))
        effects = await self._share_out(turn, compared)
        self._reached("classified")
        units, rows = await self._hold(turn, effects)
        self._reached("held")
        results = await self._call(turn, units)
        self._reached("called")
        await self._pairing.look_after(turn, results)
        self._observe(effects, results)
        begin_rows(rows, turn.known.view, turn.changes)
        for item, task in effects:
            unit = turn.account.units.get(task.contact)
            if unit is not None and task.contact in results:
                conclude_effect(item, unit, results[task.contact], turn.known.view, turn.changes)
        settled = await self._settle(turn, results)
        self._reached("settled")
        if turn.import_intent is not None and turn.destination is not None:
            intent = turn.account.intents[turn.import_intent]
            await self._imports.send(turn.account, turn.destination, intent)
        return settled

    async def _sort_out(self, turn: Turn) -> None:
        """Look at everything once: at most contacts by columns, at the rest one by one."""

        async def work(session: Transaction) -> tuple[Usual, Known]:
            if not turn.mapped:
                return Usual(), await self._known(session, turn, turn.items)
            around = await look_around(
                session,
                turn.account,
                {record.integration for record in turn.mapped},
                {record.run for record in turn.mapped},
            )
            usual = await sort_out(
                session, turn.account, turn.mapped, around, is_late=turn.is_again
            )
            return usual, await look_up(
                session, turn.account, usual.rest, around, is_probe=turn.is_probe
            )

        usual, turn.known = await look(self._sessions, work)
        turn.changes.moved += usual.moved
        for part, count in usual.unchanged.items():
            turn.changes.tallies[part].unchanged += count
        turn.firsts = usual.firsts
        await self._begin(turn)

    async def _look_up(self, turn: Turn) -> None:
        async def work(session: Transaction) -> Known:
            return await self._known(session, turn, turn.items)

        turn.known = await look(self._sessions, work)
        await self._begin(turn)

    async def _known(self, session: Transaction, turn: Turn, items: Sequence[Wanted]) -> Known:
        parts = {item.part for item in items} | {row.head.part for row in turn.firsts}
        around = await look_around(
            session,
            turn.account,
            {part.integration for part in parts},
            {part.run for part in parts},
        )
        return await look_up(session, turn.account, items, around, is_probe=turn.is_probe)

    async def _begin(self, turn: Turn) -> None:
        """Judge by what was looked up; nothing new is written where nothing can be."""
        turn.items = [_judged(item, turn.known.view) for item in turn.known.items]
        if turn.known.view.blocked is None:
            await self._connect(turn)
        self._keep_firsts(turn)

    def _keep_firsts(self, turn: Turn) -> None:
        """Let new contacts have their addresses; let them wait with the others if all must."""
        view = turn.known.view
        if not turn.firsts:
            return
        if view.blocked is None and turn.items:
            view.claims |= turn.firsts.claims()
        elif view.blocked is not None:
            turn.items = [*turn.items, *(row.wanted for row in turn.firsts)]
            turn.firsts = Rows()

    async def _connect(self, turn: Turn) -> None:
        connection = turn.known.connection
        assert connection is not None, "a removed connection blocks the turn"
        turn.destination = await self._opened(turn.account, connection)
        if turn.destination is None:
            turn.known.view.blocked = Park.NEEDS_REAUTH

    async def destination_of(self, account: Account) -> Destination | None:
        """Return an account's destination; None if its credentials can not be used."""

        async def work(session: Transaction) -> store.Connection | None:
            return await store.connection_of(session, account.connection)

        connection = await look(self._sessions, work)
        return await self._opened(account, connection) if connection is not None else None

    async def _opened(self, account: Account, connection: store.Connection) -> Destination | None:
        if account.destination is None or account.opened_for != connection:
            try:
                account.destination = await self._open(connection, account.lease)
            except (SyncError, LookupError) as error:
                # No usable credentials, or a provider that this version has not: a person's turn.
                log.warning("destination_not_opened", error=type(error).__name__)
                return None
            account.opened_for = connection
        return account.destination

    async def _read_back(self, turn: Turn) -> None:
        """Settle the open units of contacts that are wanted otherwise than these say."""
        view = turn.known.view
        turn.chosen = newest(turn.items)
        if any(contact in view.units for contact in turn.chosen):
            await turn.account.lease.until_touchable()
        units = must_read_back(turn.chosen.values(), view)
        if units and turn.destination is not None:
            stop = await self.settle_units(turn.account, turn.destination, units)
            if stop is not None:
                turn.stop = stop
                await self._blocks.rename(turn, {})
                turn.known.view.blocked = turn.stop.reason
                turn.destination = None
                self._keep_firsts(turn)
                turn.chosen = newest(turn.items)
                return
            await self._look_up(turn)
            turn.chosen = newest(turn.items)

    async def _look_again(self, turn: Turn) -> None:
        """End the suspicion of contacts that stand as they were written last: it costs nothing."""
        view, destination = turn.known.view, turn.destination
        tasks = must_look_again(turn.chosen.values(), view)
        if not tasks or destination is None:
            return
        try:
            stands = await look_at(destination, tasks)
        except LeaseLostError:
            raise
        except SyncError as error:
            # Then they are written again, as if they had been overwritten.
            log.info("suspects_not_read", contacts=len(tasks), error=type(error).__name__)
            return
        for task, is_there in zip(tasks, stands, strict=True):
            if is_there:
                link = view.links[task.contact]
                view.links[task.contact] = msgspec.structs.replace(link, needs_recheck=False)

    async def settle_units(
        self, account: Account, destination: Destination, units: Sequence[Unit]
    ) -> Stop | None:
        """Post or release doubtful units by what stands at the destination.

        Returns why it could not be read; then nothing has changed.
        """
        try:
            happened = await look_at(destination, [unit.task for unit in units])
        except LeaseLostError:
            raise
        except SyncError as error:
            return stop_of(error)
        self._reached("read_back")

        attempt = account.next_attempt()
        step = ids.computed("read_back", attempt)

        async def work(session: Transaction) -> Changes:
            is_new = await account.lease.begin(session, step)
            links = await store.links(session, _contacts_of(units))
            view = View(links=links)
            changes = Changes()
            for unit, has_happened in zip(units, happened, strict=True):
                conclude_read_back(unit, happened=has_happened, view=view, changes=changes)
            if is_new:
                await store_changes(session, account, changes)
                await self._pairing.settle_units(session, units, happened)
                await tell_late(session, account, changes, f"drain:{step}")
            return changes

        changes = await transact(self._sessions, work)
        account.end(changes.ended)
        for units_of_hold in changes.posts.values():
            UNITS_READ_BACK.labels("posted").inc(len(units_of_hold))
        UNITS_READ_BACK.labels("released").inc(changes.releases.total())
        return None

    async def write_again(
        self, account: Account, destination: Destination, contacts: Sequence[ContactId]
    ) -> None:
        """Restore what a former owner's late call may have overwritten: its mark says so.

        The same effects as before, so nothing is charged. What cannot be restored now is never
        taken for unchanged, and follows with its next version.
        """
        found = [account.rewritable[each] for each in contacts if each in account.rewritable]
        # Of a pair, whatever stands there is compared: nothing is written over an edit unseen.
        tasks = [task for task in found if not task.is_paired]
        if not tasks:
            return
        report = await destination.write([task.write() for task in tasks])
        restored = [
            task
            for task, outcome in zip(tasks, report.outcomes, strict=True)
            if isinstance(outcome, Written)
        ]
        log.warning("contacts_written_again", count=len(restored), found=len(contacts))

        async def work(session: Transaction) -> None:
            await account.lease.keep(session)
            await store.end_rechecks(session, restored)

        await transact(self._sessions, work)

    def _take_over(self, item: Wanted, turn: Turn) -> None:
        """Give a survivor the links, and of two-way integrations the pairs, of who was merged."""
        view, changes = turn.known.view, turn.changes
        integration = view.integrations.get(item.contact.integration)
        own = view.links.get(item.contact)
        had_own = own is not None and own.state is LinkState.LINKED
        for link in take_over(item, view):
            if integration is not None and integration.is_two_way:
                turn.pairs.follow(link, had_own=had_own)
            changes.links[link.contact] = link
            if link.contact != item.contact:
                changes.drop_row(link.contact, view)

    def _classify(self, turn: Turn) -> list[tuple[Wanted, Task]]:
        """Decide on every contact; return the effects to be had, in order."""
        view, changes = turn.known.view, turn.changes
        chosen = turn.chosen
        unread = {unit.task.contact for unit in must_read_back(chosen.values(), view)}
        effects: list[tuple[Wanted, Task]] = []
        # Before anything else: who was merged away must not be taken off the list as its survivor.
        for item in chosen.values():
            if item.merged_from:
                self._take_over(item, turn)
        for item in turn.items:
            if chosen[item.contact] is not item:
                changes.tallies[item.part].superseded += 1
                continue
            if item.contact in unread and item.wish is not Wish.REJECTED:
                park(item, view.blocked or Park.DESTINATION_DOWN, view, changes)
                continue
            decision = classify(item, view)
            if isinstance(decision, Effect):
                effects.append((item, _in_stage(decision.task, turn)))
                continue
            conclude(item, decision, view, changes)
            if isinstance(decision, Parking) and decision.extra is not None:
                effects.append((item, _in_stage(decision.extra, turn)))
        return effects

    async def _share_out(
        self, turn: Turn, effects: list[tuple[Wanted, Task]]
    ) -> list[tuple[Wanted, Task]]:
        """Return the effects that have a share in this sync, or need none; let the others wait."""
        account, view = turn.account, turn.known.view
        may_need = any(each.importer_of for each in view.integrations.values())
        if not (may_need and self.budget.contacts_max):
            return effects
        contacts = [item.contact for item, _ in effects if item.contact not in account.units]
        contacts += turn.firsts.contacts()
        needed = by_account(contacts, view.integrations)
        if not needed:
            return effects
        has_share = await self._take_shares(turn, needed)
        without = {each for own in needed.values() for each in own} - has_share
        for row in turn.firsts:
            if row.contact in without:
                park(row.wanted, Park.SYNC_BUDGET, view, turn.changes)
        turn.firsts = turn.firsts.without(without)
        for item, task in effects:
            # A write beside a change of address is left out: the change waits with all fields.
            if item.contact in without and not task.is_extra:
                park(item, Park.SYNC_BUDGET, view, turn.changes)
        return [(item, task) for item, task in effects if item.contact not in without]

    async def _take_shares(
        self, turn: Turn, needed: Mapping[str, Sequence[ContactId]]
    ) -> set[ContactId]:
        account = turn.account

        async def work(session: Transaction) -> set[ContactId]:
            await account.lease.keep(session)
            has_share: set[ContactId] = set()
            for name, contacts in sorted(needed.items()):
                has_share |= await store.take_shares(
                    session,
                    connection=account.connection,
                    account=name,
                    slot=self.budget.slot,
                    most=self.budget.most,
                    contacts=contacts,
                    is_drain=turn.is_late,
                )
            return has_share

        return await transact(self._sessions, work)

    async def _hold(
        self, turn: Turn, effects: list[tuple[Wanted, Task]]
    ) -> tuple[list[Unit], Rows]:
        """Reserve units and write down whose they are; return what to call for, and the rows.

        New contacts that no import takes now, and those that no unit is left for, join the effects.
        """
        account = turn.account
        taken_along = [item.contact for item, _ in effects if item.contact in account.units]
        # Few a turn, like all singles: a crash beside an import leaves thousands.
        known = taken_along[: turn.singles_max]
        turn.singles_max -= len(known)
        planned = await self._plan(turn, effects)
        granted = await self._reserve(turn, planned.singles, planned.rows)
        singles = [task.contact for task in planned.singles[:granted]]
        rows = planned.rows.first(granted - len(singles))
        if not effects and len(rows) == len(turn.firsts):
            return [], rows  # As mostly: everybody is new, and goes by import.
        held = set(rows.contacts())
        effects += [(row.wanted, row.task) for row in turn.firsts.without(held)]
        later = set(planned.later) | set(taken_along) - set(known)
        has_unit = {*singles, *held, *known}
        for item, task in effects:
            if task.is_extra or item.contact in has_unit:
                continue
            if turn.is_late and item.contact in later:
                continue  # It waits as it did: its turn comes.
            reason = Park.BACKLOG if item.contact in later else Park.QUOTA
            park(item, reason, turn.known.view, turn.changes)
        return [account.units[contact] for contact in (*known, *singles)], rows

    async def _plan(self, turn: Turn, effects: list[tuple[Wanted, Task]]) -> Plan:
        """Decide which of the effects without a unit go singly, by import or later."""
        account, destination = turn.account, turn.destination
        tasks = [task for item, task in effects if item.contact not in account.units]
        if destination is None or destination.facts.import_rows_max is None or turn.is_probe:
            return plan([*tasks, *_tasks(turn.firsts)], singles_max=turn.singles_max)
        candidates = [
            task
            for item, task in effects
            if not (task.is_extra or task.merged or item.must_be_single)
            and item.contact not in account.units
        ]
        may = destination.importable([*turn.firsts.writes, *(task.write() for task in candidates)])
        rows = turn.firsts.compressed(may[: len(turn.firsts)])
        if candidates:
            rows = rows.followed_by(map(row_of, compress(candidates, may[len(turn.firsts) :])))
        chosen = await self._way(turn, destination, rows)
        gathered: list[ContactId] = []
        if chosen is Way.IMPORT:
            rows_max = destination.facts.import_rows_max
            fitting = rows_that_fit(rows, rows_max, destination.facts.import_bytes_max)
            if len(fitting) == rows_max:
                # The others go by the next imports: singly each would cost calls of its own.
                gathered = list(rows.without(set(fitting.contacts())).contacts())
            rows = await self._screened(turn, destination, fitting)
        elif chosen is Way.GATHER:
            gathered, rows = list(rows.contacts()), Rows()
        else:
            rows = Rows()
        if len(rows) < len(may):  # Else all of them are among the rows, as mostly.
            tasks += _tasks(turn.firsts.without(set(rows.contacts())))
        return plan(tasks, rows=rows, gathered=gathered, singles_max=turn.singles_max)

    async def _way(self, turn: Turn, destination: Destination, rows: Rows) -> Way:
        """Return how these rows go now; an import that is about to end is waited for."""

        def now() -> Way:
            return way(
                len(rows),
                rows_min=destination.facts.import_rows_min,
                open_imports=len(turn.account.imports()),
                is_late=turn.is_late,
            )

        async def look() -> bool:
            return await self._look(turn, destination, rows) is not None

        if now() is Way.GATHER and len(rows) >= destination.facts.import_rows_min:
            await self._imports.make_room(turn.account, destination, look)
        return now()

    async def _screened(self, turn: Turn, destination: Destination, rows: Rows) -> Rows:
        """Return the rows that an import may take; none if too few of them are new there."""
        screening = await self._look(turn, destination, rows)
        if screening is None:
            return Rows()
        screened = rows.compressed(screening.may)
        return screened if len(screened) >= destination.facts.import_rows_min else Rows()

    async def _look(self, turn: Turn, destination: Destination, rows: Rows) -> Screening | None:
        """Look at the account as far as it has grown; None, and the turn stops, if that fails."""
        awaited = turn.account.awaited()
        try:
            screening = await destination.screen_import(rows.addresses, awaited)
        except LeaseLostError:
            raise
        except SyncError as error:
            turn.stop = stop_of(error)
            return None
        # What it came across of imports under way need not be read for them once more.
        self._imports.come_across(turn.account, awaited, screening.arrived)
        return screening

    async def _reserve(self, turn: Turn, singles: Sequence[Task], rows: Rows) -> int:
        """Hold units for these effects in their order; return for how many of them."""
        keys = [task.key for task in singles] + rows.keys
        if not keys:
            return 0
        account = turn.account
        hold = shared(ids.batch_id("hold", keys, account.next_attempt()))
        intent, import_ = shared(ids.computed("intent", hold)), shared(ids.computed("import", hold))
        reservation = store.Reservation(hold, intent, singles, import_, rows)
        granted = None
        if not self._pairing.has_to_begin(turn, singles):
            granted = await self._reserve_at_once(account, reservation)
        if granted is None:
            granted = await self._reserve_in_steps(turn, reservation)
        own = reservation.first(granted)
        created_at = self._clock.now()
        if own.tasks:
            tasks = {task.contact: task for task in own.tasks}
            account.add(Intent(intent, hold, "open", tasks, created_at=created_at))
        if own.rows:
            account.add(Intent(import_, hold, "open", rows=own.rows, created_at=created_at))
            turn.import_intent = import_
        return granted

    async def _reserve_at_once(
        self, account: Account, reservation: store.Reservation
    ) -> int | None:
        """Reserve everything by one statement, or nothing; None if there is only a part of it."""

        async def statement(session: Transaction) -> int | None:
            with account.lease.counted():
                return await store.reserve(
                    session,
                    connection=account.connection,
                    workspace=account.workspace,
                    fencing=account.lease.fencing,
                    reservation=reservation,
                )

        return await transact_alone(self._sessions, statement)

    async def _reserve_in_steps(self, turn: Turn, reservation: store.Reservation) -> int:
        """Reserve what there is, and store what pairs are about to be, in one transaction."""
        account = turn.account

        async def work(session: Transaction) -> int:
            await account.lease.keep(session)
            granted = await ledger.hold(
                session,
                workspace=account.workspace,
                hold_id=reservation.hold,
                wanted=reservation.wanted,
            )
            own = reservation.first(granted)
            # An intent without a unit would never end.
            each_kind = ((own.intent, own.tasks, Rows()), (own.import_, (), own.rows))
            for intent, tasks, rows in each_kind:
                if tasks or rows:
                    await store.insert_intent(
                        session,
                        intent=intent,
                        connection=account.connection,
                        workspace=account.workspace,
                        hold=own.hold,
                        fencing=account.lease.fencing,
                        tasks=tasks,
                        rows=rows,
                    )
            await self._pairing.begin(session, turn, own.tasks)
            return granted

        return await transact(self._sessions, work)

    async def _call(self, turn: Turn, units: Sequence[Unit]) -> dict[ContactId, Result]:
        """Send the single effects, one integration after the other."""
        results: dict[ContactId, Result] = dict(turn.pairs.stands)
        units = [unit for unit in units if unit.task.contact not in results]
        if not units:
            return results
        assert turn.destination is not None, "nothing is held for a destination that is closed"
        by_integration: dict[UUID, list[Unit]] = defaultdict(list)
        for unit in units:
            by_integration[unit.task.integration].append(unit)
        turn.called = units
        caller = Caller(turn.destination)
        for integration, own in by_integration.items():
            if turn.stop is not None:
                results.update(_unsent(own, turn.stop.reason))
                continue
            answers = Answers()
            try:
                await caller.write(own, answers)
            except LeaseLostError:
                await self._mark(turn.account, caller.sent)
                raise
            turn.has_answered |= answers.has_answered
            results |= answers.results
            if answers.stop is None:
                continue
            if answers.stop.reason == Park.CONFIGURATION:
                turn.misconfigured[integration] = answers.stop.code
            else:
                turn.stop = answers.stop
        if turn.stop is not None:
            results = await self._blocks.rename(turn, results)
        return results

    async def _settle(self, turn: Turn, results: dict[ContactId, Result]) -> list[Settled]:
        """Store what happened and what is told of it, in one transaction."""
        account, changes = turn.account, turn.changes
        told = [
            changes.tallies[part].settled(part, account.workspace, turn.stage_of(record))
            for part, record in turn.records.items()
        ]

        step = ids.computed("settle", account.next_attempt())
        pairs = list(zip(turn.records.values(), told, strict=True))

        async def work(session: Transaction) -> None:
            if not await account.lease.begin(session, step):
                return
            await store_changes(session, account, changes)
            await self._pairing.settle(session, turn)
            if turn.import_intent is not None:
                await store.begin_import(session, intent=turn.import_intent)
            if turn.is_late:
                await tell_late(session, account, changes, turn.stage)
            else:
                await store.store_outcomes(session, pairs)
                await tell_late(session, account, replace(changes, tallies={}), f"drain:{step}")
            await self._blocks.store(session, turn)

        async def statement(session: Transaction) -> None:
            with account.lease.counted():
                await store.settle(
                    session,
                    connection=account.connection,
                    fencing=account.lease.fencing,
                    step=step,
                    import_=turn.import_intent,
                    moved=changes.moved,
                    told=pairs,
                )

        try:
            if _is_plain(turn):
                await transact_alone(self._sessions, statement)
            else:
                await transact(self._sessions, work)
        except LeaseLostError:
            sent = [each for each, found in results.items() if isinstance(found, Done | Doubt)]
            await self._mark(account, sent)
            raise
        account.end(changes.ended)
        account.doubt(contact for contact, found in results.items() if isinstance(found, Doubt))
        account.remember(
            unit.task for unit in turn.called if isinstance(results.get(unit.task.contact), Done)
        )
        if turn.import_intent is not None:
            account.begin_import(turn.import_intent, self._clock.now())
        self._count(turn)
        return told

    def _observe(
        self, effects: list[tuple[Wanted, Task]], results: dict[ContactId, Result]
    ) -> None:
        now_s = self._clock.now().timestamp()
        for item, _ in effects:
            if isinstance(results.get(item.contact), Done):
                FRESHNESS.observe(max(0.0, now_s - item.version.ms / 1000))

    async def _mark(self, account: Account, sent: Collection[ContactId]) -> None:
        """Leave marks for contacts whose call outlived the lease: the one unfenced write."""
        log.warning("lease_lost_after_call", contacts=len(sent))

        async def work(session: Transaction) -> None:
            await store.mark_rechecks(session, connection=account.connection, contacts=sent)

        await transact(self._sessions, work)

    def _count(self, turn: Turn) -> None:
        posted = [each.operation for own in turn.changes.posts.values() for each in own]
        for operation, count in Counter(posted).items():
            TASKS_WRITTEN.labels(operation).inc(count)
        reasons = [row.reason for row in turn.changes.parks.values()]
        for reason, count in Counter(reasons).items():
            CONTACTS_PARKED.labels(reason).inc(count)


def _is_plain(turn: Turn) -> bool:
    """Return whether contacts were unchanged or go by an import, and nothing else happened."""
    changes = turn.changes
    others = (changes.links, changes.firsts, changes.parks, changes.drops, changes.posts)
    return not (
        any(others)
        or changes.releases
        or changes.ended
        or changes.extras
        or turn.pairs != Pairs()
        or turn.items
        or turn.called
        or turn.is_late
        or turn.stop is not None
        or turn.has_answered
        or turn.misconfigured
        or len({(moved.integration, moved.run_no) for moved in changes.moved}) > 1
    )


def _judged(item: Wanted, view: View) -> Wanted:
    """Return a deletion or leave with the verdict whether its run's token still counts."""
    if item.wish not in TOMBSTONES or item.fencing is None:
        return item
    run = view.runs.get(item.part.run)
    counts = run is not None and run.fencing == item.fencing and not run.is_abandoned
    return msgspec.structs.replace(item, counts=counts)


def _unsent(units: Sequence[Unit], reason: str) -> dict[ContactId, Result]:
    return {unit.task.contact: Doubt() if unit.is_doubtful else NotSent(reason) for unit in units}


def _tasks(rows: Iterable[ImportRow]) -> list[Task]:
    return [row.task for row in rows]


def _contacts_of(units: Sequence[Unit]) -> list[ContactId]:
    """Return whose units these are, and who was merged into them."""
    tasks = [unit.task for unit in units]
    merged = [ContactId(task.integration, each) for task in tasks for each in task.merged]
    return list(dict.fromkeys([*(task.contact for task in tasks), *merged]))


def _in_stage(task: Task, turn: Turn) -> Task:
    is_late = turn.is_late or turn.is_again
    return msgspec.structs.replace(task, is_late=True) if is_late else task
