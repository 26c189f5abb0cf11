"""What tests and demos wish of a provider's contacts and lists: bodies of control calls.

Those that several providers take alike, and what is done with them alike. A provider adds fields of
its own in a subclass. Sources name contacts by text, destinations by number.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol, TypeVar

import msgspec

from sandbox.control import drawn
from sandbox.people import Invalid, Person, people
from sandbox.provider import ControlError

CONTACTS_MAX = 1_000_000
Count = Annotated[int, msgspec.Meta(ge=0, le=CONTACTS_MAX)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
T = TypeVar("T")


class Wish(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The body of a control call."""


class Fill(Wish, frozen=True):
    """So many people of a seed, on a list that is made if it is not there."""

    count: int
    seed: int | None = None  # None: the one that the sandbox was started or reset with.
    list: str | None = None
    invalid_share: float = 0.01


class Selection(Wish, frozen=True):
    """Some contacts: these, or so many, or such a share of those that are valid."""

    ids: Sequence[str] | None = None
    count: int | None = None
    share: float | None = None
    seed: int = 1


class WishedContact(Wish, frozen=True):
    """A contact exactly so; `id` None: whoever has its address, else a new one."""

    properties: Mapping[str, Any]
    id: str | None = None


class Upsert(Wish, frozen=True):
    contacts: Sequence[WishedContact]
    list: str | None = None


class Members(Wish, frozen=True):
    ids: Sequence[str]


class NewList(Wish, frozen=True):
    name: str


class NumberedFill(Wish, frozen=True):
    """So many people of a seed: those that are there are changed."""

    count: Count
    seed: int = 1
    list: str | None = None
    invalid_share: Share = 0.0


class NumberedSelection(Wish, frozen=True):
    """Some contacts: these, or so many, or such a share of them, drawn by the seed."""

    ids: Sequence[int] | None = None
    count: Count | None = None
    share: Share | None = None
    seed: int = 1


class NumberedChange(NumberedSelection, frozen=True):
    kind: Literal["plain", "email"] = "plain"


class NumberedMembers(Wish, frozen=True):
    ids: Sequence[int]


class Unsubscription(Wish, frozen=True):
    """Who unsubscribes: from everything, or from one list by its name or id."""

    emails: Sequence[str]
    list: str | int | None = None


class Named(Protocol):
    """A list as a provider keeps it."""

    @property
    def id(self) -> int: ...


class NumberedLists(Protocol):
    """A provider's lists."""

    def named(self, name: str) -> Named | None: ...

    def __contains__(self, list_id: object) -> bool: ...


class Filled:
    """Who was filled in, and who of them is unusable on purpose."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.invalid: dict[str, list[str]] = {kind: [] for kind in Invalid}

    def add(self, contact_id: str, person: Person) -> None:
        self.ids.append(contact_id)
        if person.invalid:
            self.invalid[person.invalid].append(contact_id)

    def told(self, list_id: str | None) -> dict[str, Any]:
        """Return what a fill is answered."""
        ids = self.ids
        return {"count": len(ids), "list_id": list_id, "ids": ids, "invalid_ids": self.invalid}


def crowd(wish: Fill, seed: int, is_there: Callable[[str], object]) -> list[Person]:
    """Return the people that a fill means, by its own seed or else this; raises `ControlError`.

    `is_there` tells whether somebody has an address already: nobody is filled in twice.
    """
    if wish.count < 0 or not 0 <= wish.invalid_share <= 1:
        message = "count must not be negative, and invalid_share lies between 0 and 1"
        raise ControlError(message)
    seed = seed if wish.seed is None else wish.seed
    found = list(people(wish.count, seed=seed, invalid_share=wish.invalid_share))
    if any(person.email and is_there(person.email) for person in found):
        message = f"the contacts of seed {seed} are there already; take another seed"
        raise ControlError(message)
    return found


def chosen(
    wish: Selection | NumberedSelection, valid: Sequence[T], get: Callable[[Any], T]
) -> list[T]:
    """Return whom a selection means, each once; those that are drawn in their order."""
    if wish.ids is not None:
        return [get(each) for each in dict.fromkeys(wish.ids)]
    return drawn(valid, wish.count, wish.share, wish.seed)


def list_id_of(lists: NumberedLists, name: str) -> int:
    """Return the id of a list by its name, or by its id written out; raises `ControlError`."""
    found = lists.named(name)
    list_id = found.id if found else int(name) if name.isdecimal() else 0
    if list_id not in lists:
        message = f"there is no list {name}"
        raise ControlError(message)
    return list_id


def marked(value: object, number: int) -> str:
    """Return a text with a mark that no other edit has made."""
    return f"{str(value or '').partition(' #')[0]} #{number}".strip()
