"""Read contacts from the file that was uploaded last.

A page is a chunk of the file, and a cursor names the file and the chunk: so a run reads the file
that it began with, whatever is uploaded meanwhile, and goes on after a crash where it was. Only
full runs read: confirming a file asks for one, and nothing changes in between.
"""

from collections.abc import AsyncIterator, Sequence
from uuid import UUID

from libs.common.csvfile.rows import Identifier, StoredFile
from libs.common.errors import MisconfiguredError
from libs.common.events import Change
from libs.connectors.contract import (
    Account,
    ContactList,
    Cursor,
    Facts,
    Field,
    Files,
    MemberPage,
    Onward,
    Page,
    Sweep,
    alone,
)
from libs.connectors.csv import facts, payload


class CsvSource:
    """The files of one connection that contacts are read from."""

    facts: Facts = facts.FACTS

    def __init__(self, files: Files) -> None:
        self._files = files

    async def check(self) -> Account:
        """Return the connection as the account: there is nobody else whose it could be."""
        return Account(id=self._files.connection.hex, name=self.facts.label)

    async def describe_fields(self, object_name: str) -> Sequence[Field]:
        """Return the columns of the newest file; none while there is none."""
        file = await self._files.current()
        return [] if file is None else payload.fields_of(file.form)

    async def find_lists(self, object_name: str) -> Sequence[ContactList]:
        """Return no list: a file has none."""
        return []

    async def find_list(self, object_name: str, list_id: str) -> ContactList:
        """Raise MisconfiguredError(list_missing): a file has no lists."""
        raise MisconfiguredError(facts.PROVIDER, "list_missing")

    async def count(self, sweep: Sweep) -> int | None:
        """Return how many rows the newest file has; None of a run of changes, and without one."""
        file = await self._files.current()
        return None if file is None or sweep.since_ms is not None else file.rows

    async def read_page(self, sweep: Sweep, after: Cursor | None, onward: Onward = alone) -> Page:
        """Return the rows that begin in a chunk; none of a run of changes.

        Raises MisconfiguredError: file_missing without a file, or if it is kept no longer;
        field_missing if it has not all the columns that are mapped.
        """
        if sweep.since_ms is not None:
            return Page([], None)
        file, number = await self._placed(after)
        if payload.missing(file.form, sweep.properties):
            raise MisconfiguredError(facts.PROVIDER, "field_missing")
        chunk = await self._files.read_chunk(file.id, number)
        if chunk is None:
            raise MisconfiguredError(facts.PROVIDER, "file_missing")
        identify = Identifier(self._files.connection, file.form)
        changes = list(payload.changes_of(chunk, file, identify, sweep.properties))
        return Page(changes, _cursor(file, number + 1) if number + 1 < file.chunks else None)

    async def read_contacts(self, sweep: Sweep, ids: Sequence[str]) -> Sequence[Change]:
        """Return these contacts as the newest file has them; goes through all of it."""
        wanted = frozenset(ids)
        found: dict[str, Change] = {}
        async for page in self._pages(sweep):
            for change in page.changes:
                if change.id in wanted:
                    found.setdefault(change.id, change)  # The first row counts.
        return list(found.values())

    async def read_members(
        self, object_name: str, list_id: str | None, after: Cursor | None
    ) -> MemberPage:
        """Return the ids of the rows in a chunk; raise MisconfiguredError(list_missing) for a list.

        An id is on as many pages as rows tell of it.
        """
        if list_id is not None:
            await self.find_list(object_name, list_id)
        page = await self.read_page(_everyone(object_name), after)
        ids = dict.fromkeys(change.id for change in page.changes)
        return MemberPage(list(ids), page.cursor)

    async def _pages(self, sweep: Sweep) -> AsyncIterator[Page]:
        after: Cursor | None = None
        while True:
            page = await self.read_page(sweep, after)
            yield page
            after = page.cursor
            if after is None:
                return

    async def _placed(self, after: Cursor | None) -> tuple[StoredFile, int]:
        """Return the file that a sweep reads, and the chunk that comes next."""
        if after is None:
            file, number = await self._files.current(), 0
        else:
            name, _, place = after.partition(":")
            file, number = await self._files.find(UUID(hex=name)), int(place)
        if file is None:
            raise MisconfiguredError(facts.PROVIDER, "file_missing")
        return file, number


def _cursor(file: StoredFile, number: int) -> Cursor:
    return Cursor(f"{file.id.hex}:{number}")


def _everyone(object_name: str) -> Sweep:
    return Sweep(object_name, None, (), None, 0)
