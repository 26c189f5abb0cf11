"""Troubles that only some histories know: refused credentials and calls, phones, many deletions.

Of twenty seeds four have one of them, and one has all. What they draw comes from random numbers of
their own, so that the histories of all other seeds are what they would be without them.
"""

import asyncio
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING
from uuid import UUID

from tests.simulation.memory.database import change
from tests.simulation.people import now_and_then

if TYPE_CHECKING:
    from tests.simulation.history import History

EVERY = 20
# So many may be gone at once before somebody is asked: of the seven people there are, two are many.
GUARD_CONTACTS = 1
PATIENCE_S = (20.0, 120.0)  # Until somebody mends what only a person can mend.
NEVER_MIND_S = 900.0  # Longer than any block: by then it is known that a person is needed.


class Extra(StrEnum):
    """One kind of trouble."""

    CREDENTIALS = "credentials"  # 401 and 403, at the source and at the destination.
    CALLS = "calls"  # Whole calls are refused: for one contact, or for a while for all.
    PHONES = "phones"  # Who they are is their number; they have no e-mail address.
    GUARD = "guard"  # Many are gone at once, and a person must agree.


_BY_REST = {
    10: {Extra.CREDENTIALS},
    11: {Extra.CALLS},
    13: {Extra.PHONES},
    16: {Extra.GUARD},
    17: set(Extra),
}


def extras_of(seed: int) -> frozenset[Extra]:
    """Return what a seed's history knows beside the usual."""
    return frozenset(_BY_REST.get(seed % EVERY, set()))


class Troublemaker:
    """Lets extra troubles come and go until there is peace."""

    def __init__(self, history: "History", seed: int) -> None:
        self._history = history
        self._random = Random(f"extras of {seed}")
        self._extras = extras_of(seed)

    async def run(self) -> None:
        """Make trouble now and then; end with the task."""
        while self._extras:
            await now_and_then(self._random, 20.0)
            extra = self._random.choice(sorted(self._extras))
            match extra:
                case Extra.CREDENTIALS:
                    await self._refuse_credentials()
                case Extra.CALLS:
                    await self._refuse_calls()
                case Extra.GUARD:
                    self._empty()
                case Extra.PHONES:
                    pass  # It is who people are; nothing happens to them.
            self.agree()

    async def _refuse_credentials(self) -> None:
        history, random = self._history, self._random
        connection = random.choice(sorted(history.reachable))
        refusal = random.choice(["revoked", "revoked", "forbidden"])
        history.refusals[connection] = refusal
        history.tell(f"credentials are {refusal}", connection)
        await asyncio.sleep(random.uniform(*PATIENCE_S))
        self.reconnect(connection)

    def reconnect(self, connection: UUID) -> None:
        """Do what a person does who logs in again: the right is there, and the connection works."""
        history = self._history
        history.refusals.pop(connection, None)
        connections = history.database.tables.connections
        connections[connection] = change(
            connections[connection], state="connected", failed_checks=0
        )
        history.tell("connected again", connection)

    async def _refuse_calls(self) -> None:
        account = self._random.choice(list(self._history.accounts.values()))
        account.refuses_calls = True
        self._history.tell("calls are refused")
        await asyncio.sleep(self._random.uniform(*PATIENCE_S))
        account.refuses_calls = False
        self._history.tell("calls are taken")

    def _empty(self) -> None:
        """Let most people of an account be gone at once."""
        source = self._history.sources[self._random.choice(sorted(self._history.sources))]
        gone = source.empty(self._random)
        self._history.tell("many are gone", gone)

    def agree(self) -> None:
        """Give a person's word to the deletions that wait for it, mostly."""
        tables, database = self._history.database.tables, self._history.database
        for run, row in list(tables.runs.items()):
            newer = any(
                other.integration == row.integration
                and other.run_no > row.run_no
                and (other.mode, other.state) == ("full", "read")
                for other in tables.runs.values()
            )
            may_be = row.withheld > 0 and row.confirmed_at is None and not newer
            if may_be and self._random.random() < 0.7:
                tables.runs[run] = change(row, confirmed_at=database.now())
                self._history.request_run(row.integration)
                self._history.tell("deletions are confirmed", row.run_no)

    async def make_peace(self) -> None:
        """Mend everything; whoever has to log in again takes the time that people take."""
        self._extras = frozenset()
        if self._history.refusals:
            await asyncio.sleep(NEVER_MIND_S)
        for connection in list(self._history.refusals):
            self.reconnect(connection)
        for connection, row in list(self._history.database.tables.connections.items()):
            if row.state != "connected":
                self.reconnect(connection)
        for account in self._history.accounts.values():
            account.refuses_calls = account.has_poison = False
