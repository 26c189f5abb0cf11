"""First links that go by import, held by columns: one object for thousands of contacts.

An import is made, kept, sent, compared and linked as a whole. What each of these needs of its
contacts is a list here, one element a contact, all in one order: no object of a contact's own is
made, looked at and freed on the way. Who must look at a single contact (it failed, it waits,
another owner of the destination takes it up) gets an `ImportRow`, made when it is asked for.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import compress, groupby
from typing import Any, overload
from uuid import UUID

from libs.connectors.contract import Write
from services.writer.values import ContactId, Head, ImportRow, Place


class Rows(Sequence[ImportRow]):
    """Rows in their order, by columns; as a sequence it has them one by one.

    A contact and an address are in it once; `addresses` are as `identity_key` has them. What is in
    it changes by `extend` alone.
    """

    def __init__(
        self,
        heads: Iterable[Head] = (),
        source_ids: Iterable[str] = (),
        addresses: Iterable[str] = (),
        writes: Iterable[Write] = (),
        versions_ms: Iterable[int] = (),
        hashes: Iterable[bytes] = (),
        keys: Iterable[bytes] = (),
        were_linked: Iterable[bool] = (),
    ) -> None:
        self.heads = list(heads)
        self.source_ids = list(source_ids)
        self.addresses = list(addresses)
        self.writes = list(writes)
        self.versions_ms = list(versions_ms)
        self.hashes = list(hashes)
        self.keys = list(keys)
        self.were_linked = list(were_linked)
        self._places: dict[UUID, dict[str, int]] | None = None
        self._holders: dict[UUID, dict[str, str]] | None = None

    @classmethod
    def of(cls, rows: Iterable[ImportRow]) -> "Rows":
        """Return rows by columns; those that are so already are returned themselves."""
        if isinstance(rows, Rows):
            return rows
        own = list(rows)
        return cls(
            [row.head for row in own],
            [row.contact.source_id for row in own],
            [row.place.address for row in own],
            [row.write for row in own],
            [row.version_ms for row in own],
            [row.hash for row in own],
            [row.key for row in own],
            [row.was_linked for row in own],
        )

    def columns(self) -> tuple[list[Any], ...]:
        """Return the columns, in the order in which a `Rows` is made of them."""
        return (
            self.heads,
            self.source_ids,
            self.addresses,
            self.writes,
            self.versions_ms,
            self.hashes,
            self.keys,
            self.were_linked,
        )

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.source_ids)

    def __iter__(self) -> Iterator[ImportRow]:
        """Yield them one by one."""
        return map(_row, *self.columns())

    @overload
    def __getitem__(self, place: int) -> ImportRow: ...
    @overload
    def __getitem__(self, place: slice) -> "Rows": ...
    def __getitem__(self, place: "int | slice") -> "ImportRow | Rows":
        """Return one of them, or a part of them by columns."""
        if isinstance(place, slice):
            return Rows(*[column[place] for column in self.columns()])
        return _row(*[column[place] for column in self.columns()])

    def __eq__(self, other: object) -> bool:
        """Return whether others are the same rows in the same order."""
        return isinstance(other, Rows) and self.columns() == other.columns()

    __hash__ = None  # type: ignore[assignment]  # they can be extended

    def extend(self, others: "Rows") -> None:
        """Put others behind these."""
        for column, other in zip(self.columns(), others.columns(), strict=True):
            column.extend(other)
        self._places = self._holders = None

    def followed_by(self, others: Iterable[ImportRow]) -> "Rows":
        """Return these with others behind them."""
        found = Rows(*self.columns())
        found.extend(Rows.of(others))
        return found

    def compressed(self, are_in: Sequence[bool]) -> "Rows":
        """Return those of which it is said that they are in; `are_in` has one for each."""
        if all(are_in):
            return self
        return Rows(*[compress(column, are_in) for column in self.columns()])

    def without(self, contacts: Collection[ContactId]) -> "Rows":
        """Return those of other contacts than these."""
        if not contacts:
            return self
        return self.compressed([contact not in contacts for contact in self.contacts()])

    def first(self, count: int) -> "Rows":
        """Return so many of them from the first on."""
        return self if count >= len(self) else self[:count]

    def contacts(self) -> Iterator[ContactId]:
        """Yield whose they are."""
        for head, source_id in zip(self.heads, self.source_ids, strict=True):
            yield ContactId(head.part.integration, source_id)

    def claims(self) -> Iterator[tuple[Place, str]]:
        """Yield which addresses they take, and for whom."""
        for head, address, source_id in zip(
            self.heads, self.addresses, self.source_ids, strict=True
        ):
            yield Place(head.part.integration, address), source_id

    def stretches(self) -> Iterator[tuple[Head, slice]]:
        """Yield the heads, and which rows in a row have them."""
        start = 0
        for head, own in groupby(self.heads):
            end = start + len(list(own))
            yield head, slice(start, end)
            start = end

    def by_run(self) -> Mapping[tuple[UUID, int], "Rows"]:
        """Return them by their integration and the number of its run."""
        found: dict[tuple[UUID, int], Rows] = {}
        for head, own in self.stretches():
            key = (head.part.integration, head.part.run_no)
            if own == slice(0, len(self)):
                return {key: self}
            found.setdefault(key, Rows()).extend(self[own])
        return found

    def of_contact(self, contact: ContactId) -> ImportRow | None:
        """Return a contact's row; None if it has none."""
        place = self._by_integration().get(contact.integration, {}).get(contact.source_id)
        return None if place is None else self[place]

    def holder(self, place: Place) -> str | None:
        """Return whose row takes an address; None if none does."""
        return self._by_address().get(place.integration, {}).get(place.address)

    def among(self, integration: UUID, source_ids: AbstractSet[str]) -> set[str]:
        """Return which of these contacts of an integration have a row: mostly none."""
        if source_ids.isdisjoint(self.source_ids):
            return set()
        return self._by_integration().get(integration, {}).keys() & source_ids

    def taken(self, integration: UUID, addresses: AbstractSet[str]) -> set[str]:
        """Return which of these addresses are taken in an integration: mostly none."""
        if addresses.isdisjoint(self.addresses):
            return set()
        return self._by_address().get(integration, {}).keys() & addresses

    def _by_integration(self) -> Mapping[UUID, Mapping[str, int]]:
        if self._places is None:
            self._places = {}
            for head, own in self.stretches():
                places = range(own.start, own.stop)
                found = self._places.setdefault(head.part.integration, {})
                found.update(zip(self.source_ids[own], places, strict=True))
        return self._places

    def _by_address(self) -> Mapping[UUID, Mapping[str, str]]:
        if self._holders is None:
            self._holders = {}
            for head, own in self.stretches():
                found = self._holders.setdefault(head.part.integration, {})
                found.update(zip(self.addresses[own], self.source_ids[own], strict=True))
        return self._holders


def _row(
    head: Head,
    source_id: str,
    address: str,
    write: Write,
    version_ms: int,
    hash_: bytes,
    key: bytes,
    was_linked: bool,
) -> ImportRow:
    integration = head.part.integration
    return ImportRow(
        ContactId(integration, source_id),
        Place(integration, address),
        head,
        write,
        version_ms,
        hash_,
        key,
        was_linked,
    )


class Importing(Mapping[ContactId, ImportRow]):
    """The rows of all imports under way, by their contacts."""

    def __init__(self) -> None:
        self._imports: list[Rows] = []

    def begin(self, rows: Rows) -> None:
        """Take in the rows of one more import."""
        if rows:
            self._imports.append(rows)

    def end(self, rows: Rows) -> None:
        """Forget the rows of an import: these very ones."""
        self._imports = [each for each in self._imports if each is not rows]

    def __getitem__(self, contact: ContactId) -> ImportRow:
        """Return a contact's row."""
        for rows in self._imports:
            if (row := rows.of_contact(contact)) is not None:
                return row
        raise KeyError(contact)

    def __iter__(self) -> Iterator[ContactId]:
        """Yield whose they are."""
        for rows in self._imports:
            yield from rows.contacts()

    def __len__(self) -> int:
        """Return how many there are."""
        return sum(map(len, self._imports))

    def holder(self, place: Place) -> str | None:
        """Return whose row takes an address; None if none does."""
        found = (rows.holder(place) for rows in self._imports)
        return next((each for each in found if each is not None), None)

    def among(self, integration: UUID, source_ids: AbstractSet[str]) -> set[str]:
        """Return which of these contacts of an integration have a row."""
        return set().union(*[rows.among(integration, source_ids) for rows in self._imports])

    def taken(self, integration: UUID, addresses: AbstractSet[str]) -> set[str]:
        """Return which of these addresses are taken in an integration."""
        return set().union(*[rows.taken(integration, addresses) for rows in self._imports])

    def claims(self) -> Iterator[tuple[Place, str]]:
        """Yield which addresses they take, and for whom."""
        for rows in self._imports:
            yield from rows.claims()


class Held(Mapping[Place, str]):
    """Which addresses are taken by what is under way, and for whom: by units and by imports."""

    def __init__(self, claims: Mapping[Place, str], importing: Importing) -> None:
        self._claims = claims
        self._importing = importing

    def __getitem__(self, place: Place) -> str:
        """Return for whom an address is taken."""
        holder = self._claims.get(place) or self._importing.holder(place)
        if holder is None:
            raise KeyError(place)
        return holder

    def __iter__(self) -> Iterator[Place]:
        """Yield the addresses."""
        return iter(dict([*self._importing.claims(), *self._claims.items()]))

    def __len__(self) -> int:
        """Return how many they are at most: a contact may have one by a unit and by a row."""
        return len(self._claims) + len(self._importing)
