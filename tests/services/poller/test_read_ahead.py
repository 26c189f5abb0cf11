import asyncio

import pytest

from libs.common.clock import SystemClock
from libs.common.errors import UnavailableError
from libs.connectors.contract import Cursor, Page
from services.poller.read_ahead import ReadAhead


class Pages:
    """So many pages, numbered by their cursors; each waits to be let through."""

    def __init__(self, count: int, *, fails_at: int | None = None) -> None:
        self.asked: list[int] = []
        self.gate = asyncio.Semaphore(0)
        self.ended: list[str] = []
        self._count = count
        self._fails_at = fails_at

    def let(self, count: int) -> None:
        for _ in range(count):
            self.gate.release()

    async def read(self, after: Cursor | None) -> Page:
        number = int(after or 0) + 1
        self.asked.append(number)
        try:
            await self.gate.acquire()
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        if number == self._fails_at:
            raise UnavailableError(host="fake", reason="HTTP 503")
        return Page([], Cursor(str(number)) if number < self._count else None)


def ahead(pages: Pages, *, pages_max: int = 3, wait_s: float = 0.05) -> ReadAhead:
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
