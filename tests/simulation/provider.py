"""The destination account, with the network in between: calls travel, get lost, and arrive late.

A call that was sent arrives, whatever became of its sender: within the client's time-out, so never
later than a new owner of the destination waits. Only a process that stood still between asking its
lease and sending is later than that; what it writes is noted in `overdue`.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from libs.common.errors import (
    RateLimitedError,
    RequestRefusedError,
    UnavailableError,
    UnknownOutcomeError,
)
from libs.common.events import Identity
from libs.common.reasons import Reject
from libs.connectors.contract import (
    Gate,
    ImportState,
    ListPage,
    NotTried,
    Outcome,
    Refused,
    RemoteContact,
    Taken,
    Write,
    WriteReport,
    identity_key,
)
from tests.fakes import HOST, FakeAccount, FakeDestination, FakeImport
from tests.simulation.processes import Process, Weather

TIME_OUT_S = 5.0
DOWN = "HTTP 503"
BUCKET = "contacts"
IMPORTS_ARE_ROUGHER = 4.0  # There are few of them.
REFUSED_NAME = "Refused"  # A value that the destination does not take.
POISON = "Poison"  # A value for which it refuses the whole call that it is in.


class Covers(Protocol):
    """Says whether a unit is held for a write that takes effect now."""

    def __call__(self, write: Write, *, stood_still: bool) -> bool:
        """Return it; where its process did not stand still before it, there must be one."""


class Account(FakeAccount):
    """What stands at the destination; `covers` says of each write whether a unit is held for it."""

    def __init__(self, covers: Covers, tells: Callable[[str, object], None]) -> None:
        super().__init__()
        self.overdue: set[str] = set()
        self.taken: set[str] = set()  # Addresses that somebody wanted to move to, in vain.
        self.refuses_calls = False  # Whatever is in them.
        self.has_poison = True  # Later it refuses such a contact by name, as any other.
        self._covers = covers
        self._tells = tells
        self._stood_still = False

    def put(self, write: Write, *, by_import: bool = False) -> None:
        super().put(write, by_import=by_import)
        self._note(write)

    def leave(self, write: Write) -> None:
        super().leave(write)
        self._note(write)

    def _note(self, write: Write) -> None:
        self._tells("written", write)
        is_covered = self._covers(write, stood_still=self._stood_still)
        if is_covered and not self._stood_still:
            return
        self.overdue.add(identity_key(write.identity))
        if write.known_as is not None:
            self.overdue.add(identity_key(write.known_as))

    def arrive(
        self, effect: Callable[[Write, str], Outcome], write: Write, *, stood_still: bool
    ) -> Outcome:
        """Apply a write that has arrived."""
        self._stood_still = stood_still
        try:
            key = identity_key(write.identity)
            outcome = effect(write, key)
            if outcome == Taken():
                self.taken.add(key)
            return outcome
        finally:
            self._stood_still = False

    def remote(self, write: Write) -> RemoteContact | None:
        """Return the contact that a write is about, as it stands."""
        found = self.contacts.get(identity_key(write.identity))
        if found is None:
            return None
        return RemoteContact(found.identity, found.attributes, frozenset(found.list_ids))

    def is_refused(self, write: Write) -> bool:
        """Return whether a contact is refused by name."""
        is_poison = POISON.encode() in write.attributes and not self.has_poison
        return is_poison or REFUSED_NAME.encode() in write.attributes

    def spoils_a_call(self, writes: Sequence[Write]) -> bool:
        """Return whether a call with these is refused as a whole."""
        is_poison = any(POISON.encode() in write.attributes for write in writes)
        return self.refuses_calls or (is_poison and self.has_poison)


class Destination(FakeDestination):
    """What one process speaks to the account through."""

    def __init__(
        self,
        account: Account,
        gate: Gate,
        process: Process,
        weather: Weather,
        *,
        rows_min: int,
        admits: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(account, gate)
        self._admits = admits  # Raises if the account does not take its credentials.
        self.facts = replace(FakeDestination.facts, import_rows_min=rows_min)
        self._account = account
        self._process = process
        self._weather = weather

    async def _call(self, name: str, bucket: str = BUCKET) -> None:
        await super()._call(name, bucket)
        await self._process.step(name)
        self._admits()
        if self._weather.draw(self._weather.fault / 3):
            raise UnavailableError(HOST, DOWN)

    async def read_list(self, *args: Any, **named: Any) -> ListPage:
        page = await super().read_list(*args, **named)
        await self._process.step("read")
        return page

    async def read_back(self, identities: Sequence[Identity]) -> Any:
        found = await super().read_back(identities)
        await self._process.step("read")
        return found

    async def write(self, writes: Sequence[Write]) -> WriteReport:
        """Refuse a batch in which one contact spoils it, before any of it is applied."""
        if len(writes) > 1 and self._account.spoils_a_call(writes):
            await self._call("write")
            refused = RequestRefusedError(HOST, 400, "bad")
            return WriteReport([NotTried()] * len(writes), stopped_by=refused)
        return await super().write(writes)

    async def _apply(self, write: Write) -> Outcome:
        await self._gate.enter(BUCKET)
        stood_still = await self._process.stand_still()
        await self._process.step("write")
        self._meet([write])
        loop, random = asyncio.get_running_loop(), self._weather.random
        fate = self._fate()
        answer: asyncio.Future[Outcome] = loop.create_future()
        travel_s = random.uniform(0.01, 0.2) if fate == "answered" else random.uniform(0.0, 4.9)

        def arrive() -> None:
            outcome = self._account.arrive(self._effect, write, stood_still=stood_still)
            if not answer.done():
                answer.set_result(outcome)

        if fate != "answered":
            self._process.suffer_with_a_call()
        if fate != "lost":
            loop.call_later(travel_s, arrive)
        if fate == "answered":
            await self._process.step("sent")
            outcome = await answer
            await self._process.step("answered")
            return outcome
        await asyncio.sleep(TIME_OUT_S)
        await self._process.step("time-out")
        raise UnknownOutcomeError(HOST, "time-out")

    def _fate(self, rougher: float = 1.0) -> str:
        if not self._weather.draw(self._weather.fault * rougher):
            return "answered"
        return self._weather.random.choice(["lost", "unanswered", "unanswered"])

    def _meet(self, writes: Sequence[Write]) -> None:
        self._admits()
        if self._account.spoils_a_call(writes):
            raise RequestRefusedError(HOST, 400, "bad")
        if self._weather.draw(self._weather.fault / 2):
            if self._weather.random.random() < 0.5:
                raise RateLimitedError(BUCKET, self._weather.random.uniform(1.0, 20.0))
            raise UnavailableError(HOST, DOWN)

    def importable(self, writes: Sequence[Write]) -> Sequence[bool]:
        """Return who may go by import: nobody who is known by a number, as at Brevo."""
        may = super().importable(writes)
        return [
            is_so and each.identity.email is not None
            for is_so, each in zip(may, writes, strict=True)
        ]

    def _effect(self, write: Write, key: str) -> Outcome:
        if self._account.is_refused(write):
            return Refused(Reject.VALUE_NOT_ACCEPTED)
        return super()._effect(write, key)

    async def start_import(self, writes: Sequence[Write], notify_url: str | None) -> str:
        await self._gate.enter(BUCKET)
        await self._process.step("import")
        self._meet(writes)
        loop, random = asyncio.get_running_loop(), self._weather.random
        fate = self._fate(IMPORTS_ARE_ROUGHER)
        answer: asyncio.Future[str] = loop.create_future()

        def arrive() -> None:
            process_id = str(len(self._account.imports) + 1)
            self._account.imports.append(FakeImport(process_id, list(writes)))
            loop.call_later(random.uniform(0.2, 25.0), self._land, process_id)
            if not answer.done():
                answer.set_result(process_id)

        if fate != "lost":
            loop.call_later(random.uniform(0.01, 0.2 if fate == "answered" else 4.9), arrive)
        if fate == "answered":
            await self._process.step("sent")
            process_id = await answer
            await self._process.step("answered")
            return process_id
        await asyncio.sleep(TIME_OUT_S)
        await self._process.step("time-out")
        raise UnknownOutcomeError(HOST, "time-out")

    def _land(self, process_id: str) -> None:
        """Let an import do its work, perhaps without some of its rows."""
        random, account = self._weather.random, self._account
        writes = account.imports[int(process_id) - 1].writes
        lost = [
            identity_key(write.identity)
            for write in writes
            if self._weather.draw(self._weather.fault * 2)
        ]
        refused: Mapping[str, str] = {
            identity_key(write.identity): Reject.VALUE_NOT_ACCEPTED.value
            for write in writes
            if account.is_refused(write)
        }
        failed = random.random() < self._weather.fault / 2
        state = ImportState.FAILED if failed else ImportState.COMPLETED
        account.land(process_id, silently_lost=lost, refused=refused, state=state)
