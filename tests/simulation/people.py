"""The source account and the people who work in it."""

import asyncio
import copy
from collections.abc import Callable
from random import Random

from libs.connectors.contract import Field, FieldType
from tests.services.poller.fakes import FakeContact, FakeSource
from tests.simulation.processes import Process
from tests.simulation.provider import POISON, REFUSED_NAME

LIST = "8"
CONTACTS_MAX = 7
INVALID = "not an address"
ACTIONS = {
    "value": 10,
    "address": 4,
    "delete": 1,
    "new": 2,
    "crowd": 1,
    "anew": 1,
    "leave": 2,
    "join": 3,
    "take": 1,
    "spoil": 1,
}
MERGING_ACTIONS = {**ACTIONS, "merge": 3}
NAMES = ("Ada", "Eve", "Ida")


# What a contact has. Automatic imports ask for what is there only.
FIELDS = [
    Field("email", "Email", FieldType.EMAIL, unique=True),
    Field("firstname", "First name", FieldType.TEXT),
    Field("lastname", "Last name", FieldType.TEXT),
    Field("phone", "Phone", FieldType.PHONE),
]


class Source:
    """One integration's account; addresses are never another integration's."""

    def __init__(
        self,
        prefix: str,
        random: Random,
        now_ms: Callable[[], int],
        *,
        merges: bool = False,
        by_phone: bool = False,
        has_poison: bool = False,
    ) -> None:
        self.key = "phone" if by_phone else "email"  # What people are known by.
        self.prefix = f"+4915{ord(prefix)}" if by_phone else prefix
        self._has_poison = has_poison
        self._actions = MERGING_ACTIONS if merges else ACTIONS
        self.list_id = random.choice([LIST, LIST, None])
        self.account = FakeSource(page_size=random.choice([2, 3, 50]))
        self.account.fields = FIELDS
        self._random = random
        self._now_ms = now_ms
        # Every address that each contact ever had, and those of contacts that became one.
        self._had: dict[str, set[str]] = {}
        self.merged: set[str] = set()
        self._names = 0
        self._addresses = 0
        self._last_ms = 0
        self.account.join(LIST)

    def seen_by(self, process: Process, admit: Callable[[], None] = lambda: None) -> FakeSource:
        """Return the account as one process reads it, step by step, as long as it is let in."""
        view = copy.copy(self.account)
        view.calls = []

        async def step(_call: int) -> None:
            await process.step("read")
            admit()

        view.before = step
        return view

    @property
    def present(self) -> dict[str, FakeContact]:
        """Return who should be at the destination."""
        if self.list_id is None:
            return self.account.contacts
        members = self.account.lists[LIST]
        return {id_: each for id_, each in self.account.contacts.items() if id_ in members}

    def act(self) -> str:
        """Do something that people do; return what."""
        contacts = sorted(self.account.contacts)
        weights = list(self._actions.values())
        action = self._random.choices(list(self._actions), weights)[0] if contacts else "new"
        id_ = self._random.choice(contacts) if contacts else ""
        match action:
            case "value":
                self._change(id_, firstname=self._random.choice(NAMES))
            case "address":
                self._change(id_, **{self.key: self._address()})
            case "delete":
                self.account.delete(id_)
            case "new" | "crowd":
                for _ in range({"new": 1, "crowd": 3}[action] * (len(contacts) < CONTACTS_MAX)):
                    self.add(self._address())
            case "anew":
                email = self.account.contacts[id_].properties[self.key]
                self.account.delete(id_)
                self.add(email or self._address())
            case "leave" | "join":
                self._move(id_, action)
            case "spoil":
                self._spoil(id_)
            case "take" | "merge":
                do = self._take if action == "take" else self._merge
                do(id_, self._random.choice(contacts))
        return f"{self.prefix}: {action} {id_}"

    def add(self, email: str) -> None:
        """Make a contact, mostly a member of the list."""
        self._names += 1
        id_ = f"c{self._names:02}"
        properties: dict[str, str | None] = {
            self.key: email,
            "firstname": self._random.choice(NAMES),
            "lastname": f"L{self._names}",
        }
        self.account.contacts[id_] = FakeContact(properties, self._time())
        self._had[id_] = {email}
        if self._random.random() < 0.8:
            self.account.join(LIST, id_)

    def _change(self, id_: str, **properties: str) -> None:
        contact = self.account.contacts[id_]
        # A new object: a page that was read before keeps what it read.
        changed = {**contact.properties, **properties}
        self.account.contacts[id_] = FakeContact(changed, self._time(), contact.merged_from)
        self._had[id_] |= {changed[self.key] or ""}

    def _move(self, id_: str, action: str) -> None:
        is_member = id_ in self.account.lists[LIST]
        if action == "leave" and is_member:
            self.account.leave(LIST, id_)
        elif action == "join" and not is_member:
            self.account.join(LIST, id_)

    def _take(self, id_: str, other: str) -> None:
        """Give a contact the address that another one has just let go of."""
        email = self.account.contacts[other].properties[self.key]
        if id_ != other and email is not None and email != INVALID:
            self._change(other, **{self.key: self._address()})
            self._change(id_, **{self.key: email})

    def _merge(self, id_: str, other: str) -> None:
        """Make one contact of two: it keeps its id, one of both addresses, and all memberships."""
        if id_ == other:
            return
        survivor, merged = self.account.contacts[id_], self.account.contacts[other]
        email = self._random.choice([survivor, merged]).properties[self.key]
        self._had[id_] |= self._had[other]
        self.merged |= self._had[id_]
        is_member = other in self.account.lists[LIST]
        self.account.delete(other)
        self.account.contacts[id_] = FakeContact(
            {**survivor.properties, self.key: email},
            self._time(),
            [*survivor.merged_from, other, *merged.merged_from],
        )
        if is_member and id_ not in self.account.lists[LIST]:
            self.account.join(LIST, id_)

    def _spoil(self, id_: str) -> None:
        if self._has_poison and self._random.random() < 0.5:
            self._change(id_, firstname=POISON)
        elif self._random.random() < 0.5:
            self._change(id_, firstname=REFUSED_NAME)
        else:
            self._change(id_, **{self.key: INVALID})

    def empty(self, random: Random) -> list[str]:
        """Let most be gone at once, deleted or off the list; return who."""
        gone = [id_ for id_ in sorted(self.present) if random.random() < 0.7]
        for id_ in gone:
            if self.list_id is None or random.random() < 0.3:
                self.account.delete(id_)
            else:
                self.account.leave(LIST, id_)
        return gone

    def _address(self) -> str:
        self._addresses += 1
        if self.key == "phone":
            return f"{self.prefix}{self._addresses:06}"
        return f"{self.prefix}{self._addresses}@example.com"

    def _time(self) -> int:
        self._last_ms = max(self._last_ms + 1, self._now_ms())
        return self._last_ms


async def now_and_then(random: Random, mean_s: float) -> None:
    """Wait for as long as people do between two things."""
    await asyncio.sleep(random.expovariate(1 / mean_s))
