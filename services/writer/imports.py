"""Asynchronous imports: sent once, believed only when read back (PROTOCOL.md 6).

An import is a row of `delivery.intents` that moves by compare-and-set: `sending` (its rows hold
units), `running` (the provider gave it an id), gone. Promises: one whose answer was lost is never
sent again; it is looked for, and its rows are settled by what stands at the destination. A row is
posted only when it was seen there as it should be; all others are released and parked for a single
write. Since a destination imports only contacts that it did not have (`screen_import`), rows that
are all there need no further proof: an import ends as soon as they are, and the provider is asked
only about those that stay away.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta

from msgspec.structs import replace

from libs.common import ids, logs, metrics
from libs.common.clock import Clock
from libs.common.errors import (
    LeaseLostError,
    MisconfiguredError,
    RateLimitedError,
    SyncError,
    TransientError,
    UnknownOutcomeError,
)
from libs.common.failpoints import Reached, nothing
from libs.common.postgres import Transaction, Transactions, transact, transact_alone
from libs.common.reasons import Park
from libs.connectors.contract import Arrived, Cursor, Destination, ImportState, Write
from services.writer import store
from services.writer.account import Account, Intent
from services.writer.calls import stop_of
from services.writer.conclude import (
    Changes,
    Done,
    NotSent,
    Refusal,
    Result,
    charge_rows,
    conclude_effect,
    link_rows,
)
from services.writer.lease import LATE_CALL_S
from services.writer.outcome import store_changes, store_firsts, tell_late
from services.writer.pairing import agree_on
from services.writer.plan import IMPORTS_MAX
from services.writer.rows import Rows
from services.writer.values import ContactId, Unit, View

CHECK_FIRST_S = 1.0
AGAIN_S = 30.0  # After a failed look at an import's rows.
ROOM_S = 2.0  # A turn must be short: 100 singles take longer.
CHECK_MOST_S = 60.0
PATIENT_CHECKS = 3  # Looks without progress that follow at the first's distance; then it doubles.
PUT_OFF_MAX = 2  # How often a look at the account takes the place of one at an import's rows.
ASK_AFTER_CHECKS = 2  # Looks at the rows that must have shown no progress before asking.
NOT_FOUND = "not_found"  # What a provider says of an import that it has forgotten.
LIST_MISSING = "list_missing"
GIVE_UP_AFTER = timedelta(hours=24)
# Taken off a time that a provider compares by its own clock. Looks that only hope to end an import
# early read less of a busy list; the look that decides about missing rows makes sure.
CLOCKS_DIFFER = timedelta(minutes=5)
CLOCKS_DIFFER_MOSTLY = timedelta(seconds=15)

log = logs.get(__name__)

IMPORTS = metrics.counter("imports_total", "Asynchronous imports, by what came of them.", ["event"])


class Imports:
    """Sends imports and brings them to their end; called within a turn only."""

    def __init__(
        self,
        sessions: Transactions,
        clock: Clock,
        *,
        poll_s: float = 60.0,
        check_first_s: float = CHECK_FIRST_S,
        late_call_s: float = LATE_CALL_S,
        reached: Reached = nothing,
    ) -> None:
        self._sessions = sessions
        self._clock = clock
        self._poll_s = poll_s
        self._check_first_s = check_first_s
        self._late_call_s = late_call_s
        self._reached = reached

    async def send(self, account: Account, destination: Destination, intent: Intent) -> None:
        """Send an import that was just written down; what is surely not sent is parked."""
        intent.check_at = self._clock.monotonic() + self._check_first_s
        try:
            process_id = await destination.start_import(intent.rows.writes, None)
        except LeaseLostError:
            raise
        except UnknownOutcomeError:
            IMPORTS.labels("unanswered").inc()
            intent.check_at = self._clock.monotonic() + self._late_call_s
            return
        except SyncError as error:
            IMPORTS.labels("refused").inc()
            not_sent = NotSent(_single(stop_of(error).reason))
            # A refused import would be refused again; one that did not get there may be sent anew.
            await self._finish(
                account,
                intent,
                dict.fromkeys(intent.rows.contacts(), not_sent),
                must_be_single=not isinstance(error, TransientError),
            )
            return
        self._reached("import_sent")
        await self._run(account, intent, process_id)

    async def _run(self, account: Account, intent: Intent, process_id: str) -> None:
        async def work(session: Transaction) -> None:
            with account.lease.counted():
                await store.run_import(
                    session,
                    connection=account.connection,
                    fencing=account.lease.fencing,
                    intent=intent.intent,
                    process_id=process_id,
                )

        await transact_alone(self._sessions, work)
        intent.state, intent.process_id = "running", process_id
        IMPORTS.labels("sent").inc()

    def due(self, account: Account) -> list[Intent]:
        """Return the imports whose rows should be looked at now."""
        now = self._clock.monotonic()
        return [intent for intent in account.imports() if intent.check_at <= now]

    def postpone(self, account: Account, seconds: float) -> None:
        """Leave all imports of an account alone for a while."""
        for intent in account.imports():
            intent.check_at = max(intent.check_at, self._clock.monotonic() + seconds)

    async def advance(self, account: Account, destination: Destination) -> None:
        """Look at the rows of every import that is due, and end those that can be ended.

        Raises the errors of the destination's calls; whatever was ended before stays ended.
        """
        due = self.due(account)
        if not due:
            return
        await account.lease.until_touchable()
        if any(self._must_ask(intent) for intent in due):
            await self._ask(account, destination)
        by_list: dict[str, list[Intent]] = defaultdict(list)
        for intent in due:
            by_list[intent.rows.writes[0].list_id].append(intent)
        for list_id, intents in by_list.items():
            await self._read(account, destination, list_id, intents)
            for intent in intents:
                await self._judge(account, destination, intent)

    async def make_room(
        self, account: Account, destination: Destination, look: Callable[[], Awaitable[bool]]
    ) -> None:
        """Wait a moment for one of the imports under way to end, if all that may be are.

        Where imports end within a second or two, as in an account that has little else to do,
        the next contacts need not go the long way of those that wait for their turn. `look` is the
        look at the account that these need anyway, and says whether it could be made: whose rows it
        shows are not looked for by their list (docs/decisions/0163).
        """
        until = self._clock.monotonic() + ROOM_S
        while len(account.imports()) >= IMPORTS_MAX:
            look_at = max(
                min(intent.check_at for intent in account.imports()), account.lease.touchable_at
            )
            if look_at > until:
                return
            await asyncio.sleep(max(0.0, look_at - self._clock.monotonic()))
            if not await look():
                return
            try:
                await self.advance(account, destination)
            except LeaseLostError:
                raise
            except SyncError as error:
                log.warning("import_not_read", error=type(error).__name__)
                self.postpone(account, AGAIN_S)

    def _must_ask(self, intent: Intent) -> bool:
        return not (intent.has_ended or self._is_too_old(intent)) and (
            intent.state == "sending" or intent.checked >= ASK_AFTER_CHECKS
        )

    async def _ask(self, account: Account, destination: Destination) -> None:
        """Ask the provider which imports have ended: one call for all, seldom."""
        now = self._clock.monotonic()
        if now < account.ask_at:
            return
        account.ask_at = now + self._poll_s
        imports = account.imports()
        since = min(intent.sent_at or self._clock.now() for intent in imports)
        try:
            found = await destination.find_imports(since - CLOCKS_DIFFER)
        except RateLimitedError as error:
            account.ask_at = now + max(self._poll_s, error.retry_after_s or 0.0)
            return
        running = {each.process_id for each in found if each.state is ImportState.RUNNING}
        known = {each.process_id for each in found}
        ours = {intent.process_id for intent in imports if intent.process_id is not None}
        for intent in imports:
            if intent.state == "sending":
                # Which one is ours nobody knows: wait for all that may be, then look at the rows.
                # None at all: it was not taken.
                intent.has_ended = not (running - ours)
            elif intent.process_id in known:
                intent.has_ended = intent.process_id not in running
            else:
                intent.has_ended = await self._has_ended(destination, intent)

    async def _has_ended(self, destination: Destination, intent: Intent) -> bool:
        assert intent.process_id is not None
        try:
            status = await destination.import_status(intent.process_id)
        except MisconfiguredError as error:
            if error.what != NOT_FOUND:
                raise
            return True  # The provider knows it no longer, so it does not run.
        return status.state is not ImportState.RUNNING

    async def _read(
        self,
        account: Account,
        destination: Destination,
        list_id: str,
        intents: Sequence[Intent],
    ) -> None:
        """Find out which further rows stand on the list as they should."""
        decides = any(intent.has_ended or self._is_too_old(intent) for intent in intents)
        since = min(intent.sent_at or self._clock.now() for intent in intents)
        since -= CLOCKS_DIFFER if decides else CLOCKS_DIFFER_MOSTLY
        # The rows are the newest of the list: the oldest first would show all that was imported
        # within those seconds before them. Only the look that decides must miss nobody.
        cursor: Cursor | None = None
        while missing := sum(len(intent.away) for intent in intents):
            awaited = account.awaited()
            try:
                page = await destination.read_list(
                    list_id,
                    cursor,
                    since,
                    awaited=awaited,
                    newest_first=not decides,
                    hoped=missing,
                )
            except MisconfiguredError as error:
                if error.what != LIST_MISSING:
                    raise
                return  # Nobody stands on a list that is gone: the single writes will say so.
            self.see(awaited, page.arrived)
            cursor = page.cursor
            if cursor is None:
                break

    def see(self, awaited: Sequence[dict[str, Write]], arrived: Arrived) -> None:
        """Take in which rows stand at the destination as they should."""
        for away, addresses in zip(awaited, arrived, strict=True):
            for address in addresses:
                away.pop(address, None)  # Two pages may show one contact.

    def come_across(
        self, account: Account, awaited: Sequence[dict[str, Write]], arrived: Arrived
    ) -> None:
        """Take in which rows a look at the account has shown; it counts as a look at all of them.

        Whose rows are all there ends with the next turn. Who was not there just now need not be
        looked for at once: as long as batches follow one another, the next one's look will show
        them. Not for ever: a row that never comes would keep its import from being asked about.
        """
        self.see(awaited, arrived)
        if not any(arrived):
            return  # Nobody came yet, or the destination does not tell.
        now = self._clock.monotonic()
        for intent in account.imports():
            if intent.state != "running":
                continue  # Its call may still be under way.
            if not intent.away:
                intent.check_at = min(intent.check_at, now)
            elif intent.put_off < PUT_OFF_MAX:
                intent.put_off += 1
                intent.check_at = max(intent.check_at, now + self._check_first_s)

    async def _judge(self, account: Account, destination: Destination, intent: Intent) -> None:
        """End an import whose rows are all there, or that has ended; else look again later."""
        away = Rows()
        if intent.away:
            away = intent.rows.compressed([each in intent.away for each in intent.rows.addresses])
        if away and not (intent.has_ended or self._is_too_old(intent)):
            self._look_later(intent)
            return
        refused = await self._refused(destination, intent) if away else {}
        failed: dict[ContactId, Result] = {}
        for row in away:
            code = refused.get(row.place.address)
            failed[row.contact] = Refusal(code) if code else NotSent(Park.DESTINATION_DOWN)
        self._reached("import_judged")
        log.info("import_ended", rows=len(intent.rows), failures=len(away))
        await self._finish(account, intent, failed)

    def _is_too_old(self, intent: Intent) -> bool:
        return self._clock.now() - (intent.sent_at or self._clock.now()) > GIVE_UP_AFTER

    def _look_later(self, intent: Intent) -> None:
        seen, intent.seen = intent.seen, len(intent.rows) - len(intent.away)
        intent.checked = 0 if intent.seen > seen else intent.checked + 1
        wait_s = min(
            CHECK_MOST_S, self._check_first_s * 2.0 ** max(0, intent.checked - PATIENT_CHECKS)
        )
        intent.check_at = self._clock.monotonic() + wait_s

    async def _refused(self, destination: Destination, intent: Intent) -> dict[str, str]:
        if intent.process_id is None:
            return {}
        try:
            return dict((await destination.import_status(intent.process_id)).refused)
        except LeaseLostError:
            raise
        except SyncError as error:
            is_forgotten = isinstance(error, MisconfiguredError) and error.what == NOT_FOUND
            if is_forgotten or self._is_too_old(intent):
                return {}  # The single write that follows tells the same.
            raise

    async def _finish(
        self,
        account: Account,
        intent: Intent,
        failed: Mapping[ContactId, Result],
        *,
        must_be_single: bool = True,
    ) -> None:
        """Store how every row ended, and tell of it, in one transaction.

        Most rows are there and nothing else is known of their contacts: those are linked as they
        are. The others failed, or something happened to their contacts beside the import.
        """
        rows = intent.rows
        is_late = rows.heads[0].is_late
        stage = f"{'drain' if is_late else 'import'}:{intent.intent}"
        step = ids.computed("import", account.next_attempt())

        async def work(session: Transaction) -> None:
            with account.lease.counted():
                begun = await store.begin_end(
                    session,
                    connection=account.connection,
                    fencing=account.lease.fencing,
                    step=step,
                    rows=rows,
                )

            async def agree() -> None:
                if begun.has_two_way:
                    await agree_on(session, account.workspace, rows.without(failed))

            stored = begun.known
            view = View(
                links=await store.links(session, stored), parked=await store.parked(session, stored)
            )
            changes = Changes()
            known = {*stored, *failed}
            first = rows.without(known)
            link_rows(first, changes)
            if not known and len(rows.by_run()) == 1:  # As mostly.
                if begun.is_new:
                    await store_firsts(session, account, intent, changes, stage=stage)
                    await agree()
                return
            charge_rows(first, intent.hold, changes)
            for row in map(rows.of_contact, known):
                assert row is not None, "nobody else was asked for"
                item = replace(row.wanted, must_be_single=must_be_single)
                unit = Unit(row.task, intent.intent, intent.hold, in_import=True)
                result = failed.get(row.contact, Done())
                conclude_effect(item, unit, result, view, changes)
            if begun.is_new:
                await store.shrink_intent(session, intent=intent.intent, left=[])
                await store_changes(session, account, changes)
                await agree()
                await tell_late(session, account, changes, stage)

        await transact(self._sessions, work)
        self._reached("import_ended")
        account.end_import(intent)
        IMPORTS.labels("ended").inc()


def _single(reason: str) -> str:
    """Return why a row waits for a single write: what was wrong with the import is not its own."""
    return reason if reason in {Park.RATE_LIMITED, Park.CONFIGURATION} else Park.DESTINATION_DOWN
