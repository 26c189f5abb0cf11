import asyncio
import gc
from typing import Any

import pytest

from libs.common.clock import SystemClock
from libs.common.errors import UnavailableError
from libs.common.events import Change, Operation
from libs.connectors.contract import Cursor, Onward, Page
from services.poller import read_ahead
from services.poller.read_ahead import ReadAhead


class Pages:
    """So many pages, numbered by their cursors; each waits to be let through."""

    def __init__(self, count: int, *, fails_at: int | None = None, contacts: int = 0) -> None:
        self.asked: list[int] = []
        self.gate = asyncio.Semaphore(0)
        self.ended: list[str] = []
        self._count = count
        self._fails_at = fails_at
        self._changes = [
            Change(id=str(each), op=Operation.UPSERT, version_ms=1) for each in range(contacts)
        ]

    def let(self, count: int) -> None:
        for _ in range(count):
            self.gate.release()

    async def read(self, after: Cursor | None, onward: Onward) -> Page:
        number = int(after or 0) + 1
        self.asked.append(number)
        try:
            await self.gate.acquire()
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        if number == self._fails_at:
            raise UnavailableError(host="fake", reason="HTTP 503")
        return Page(self._changes, Cursor(str(number)) if number < self._count else None)


class EarlyPages:
    """So many pages whose ids come before their contacts; each call waits to be let through."""

    def __init__(self, count: int) -> None:
        self.asked: list[str] = []
        self.fails: set[str] = set()
        self.deaf: set[str] = set()  # Calls that a cancellation does not end.
        self._count = count
        self._gates: dict[str, asyncio.Event] = {}

    async def read(self, after: Cursor | None, onward: Onward) -> Page:
        number = int(after or 0) + 1
        cursor = Cursor(str(number)) if number < self._count else None
        await self._call(f"ids {number}")
        await onward(cursor)
        await self._call(f"contacts {number}")
        return Page([], cursor)

    async def answer(self, *calls: str) -> None:
        """Let these calls through, and all who wait for them go on."""
        for call in calls:
            self._gate(call).set()
        await rest()

    def _gate(self, call: str) -> asyncio.Event:
        return self._gates.setdefault(call, asyncio.Event())

    async def _call(self, call: str) -> None:
        self.asked.append(call)
        try:
            await self._gate(call).wait()
        except asyncio.CancelledError:
            if call not in self.deaf:
                raise
        if call in self.fails:
            raise UnavailableError(host="fake", reason="HTTP 503")


async def rest() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def ahead(pages: Pages | EarlyPages, *, pages_max: int = 3, wait_s: float = 0.05) -> ReadAhead:
    return ReadAhead(pages.read, None, SystemClock(), pages_max=pages_max, wait_s=wait_s)


async def test_the_next_page_is_requested_before_this_one_is_given_away() -> None:
    pages = Pages(3)
    pages.let(1)

    async with ahead(pages) as reading:
        await reading.next_group()
        await asyncio.sleep(0)

        assert pages.asked == [1, 2]


async def test_quick_pages_come_in_groups() -> None:
    pages = Pages(7)
    pages.let(7)

    async with ahead(pages) as reading:
        sizes = [len(await reading.next_group()) for _ in range(4)]

    assert sizes == [3, 3, 1, 0]


async def test_no_page_is_added_to_as_many_contacts_as_a_group_may_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(read_ahead, "CONTACTS_MAX", 4)
    pages = Pages(5, contacts=2)
    pages.let(5)

    async with ahead(pages) as reading:
        sizes = [len(await reading.next_group()) for _ in range(4)]

    assert sizes == [2, 2, 1, 0]


async def test_a_slow_page_does_not_hold_back_the_ones_before_it() -> None:
    pages = Pages(2)
    pages.let(1)

    async with ahead(pages) as reading:
        first = await reading.next_group()
        pages.let(1)
        second = await reading.next_group()

    assert (len(first), len(second)) == (1, 1)


async def test_pages_read_before_an_error_are_given_away_first() -> None:
    pages = Pages(5, fails_at=3)
    pages.let(5)

    async with ahead(pages) as reading:
        group = await reading.next_group()
        with pytest.raises(UnavailableError):
            await reading.next_group()

    assert len(group) == 2


async def test_leaving_ends_the_request_under_way() -> None:
    pages = Pages(5)
    pages.let(1)

    async with ahead(pages) as reading:
        await reading.next_group()

    assert pages.ended == ["cancelled"]


async def test_leaving_takes_no_notice_of_an_error_under_way() -> None:
    pages = Pages(5, fails_at=2)
    pages.let(2)

    async with ahead(pages, pages_max=1) as reading:
        await reading.next_group()
        await asyncio.sleep(0.01)

    assert pages.ended == []


async def test_the_next_ids_are_asked_for_while_contacts_are_read() -> None:
    pages = EarlyPages(3)

    async with ahead(pages):
        await pages.answer("ids 1")

        assert pages.asked == ["ids 1", "contacts 1", "ids 2"]


async def test_contacts_are_read_in_the_order_of_their_pages() -> None:
    pages = EarlyPages(4)

    async with ahead(pages, pages_max=1) as reading:
        await pages.answer("ids 1", "ids 2", "ids 3", "ids 4")
        before = list(pages.asked)
        await pages.answer("contacts 1")
        await reading.next_group()
        await rest()

    assert before == ["ids 1", "contacts 1", "ids 2"]
    assert pages.asked == [*before, "contacts 2", "ids 3"]


async def test_what_nobody_takes_is_one_page_and_the_ids_of_another() -> None:
    pages = EarlyPages(9)

    async with ahead(pages, pages_max=1) as reading:
        await pages.answer(*(f"{what} {page}" for what in ("ids", "contacts") for page in range(9)))
        first = await reading.next_group()
        await rest()

    assert len(first) == 1
    assert pages.asked == ["ids 1", "contacts 1", "ids 2", "contacts 2", "ids 3"]


async def test_every_page_is_read_once() -> None:
    pages = EarlyPages(7)

    async with ahead(pages) as reading:
        await pages.answer(
            *(f"{what} {page}" for what in ("ids", "contacts") for page in range(1, 8))
        )
        groups = [await reading.next_group() for _ in range(4)]

    cursors = [page.cursor for group in groups for page in group]
    assert cursors == ["1", "2", "3", "4", "5", "6", None]
    assert len(pages.asked) == len(set(pages.asked)) == 14


async def test_an_error_of_the_next_ids_is_raised_when_they_are_due() -> None:
    pages = EarlyPages(3)
    pages.fails.add("ids 2")

    async with ahead(pages) as reading:
        await pages.answer("ids 1", "ids 2", "contacts 1")
        group = await reading.next_group()
        with pytest.raises(UnavailableError):
            await reading.next_group()

    assert len(group) == 1


async def test_an_error_of_contacts_ends_the_next_ids_under_way() -> None:
    pages = EarlyPages(3)
    pages.fails.add("contacts 1")

    async with ahead(pages) as reading:
        await pages.answer("ids 1", "contacts 1")
        with pytest.raises(UnavailableError):
            await reading.next_group()

    assert "contacts 2" not in pages.asked
    assert nobody_reads()


async def test_errors_that_nobody_waits_for_are_heard_of() -> None:
    pages = EarlyPages(3)
    pages.fails |= {"contacts 1", "ids 2"}
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))

    async with ahead(pages):
        await pages.answer("ids 1", "contacts 1", "ids 2")
    gc.collect()
    await rest()

    assert complaints == []


async def test_leaving_ends_even_what_does_not_hear_of_it() -> None:
    pages = EarlyPages(9)
    pages.deaf |= {"contacts 1", "ids 2"}

    async with asyncio.timeout(60), ahead(pages):
        await pages.answer("ids 1")

    assert nobody_reads()
    assert "ids 3" not in pages.asked


def nobody_reads() -> bool:
    return asyncio.all_tasks() == {asyncio.current_task()}
