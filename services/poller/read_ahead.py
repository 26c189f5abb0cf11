"""Read a sweep's pages one ahead, and hand them out in groups.

Promises: the next page is requested before this one is given away; a group is what has come within
`wait_s`, at most `pages_max` pages, so that a fast provider's pages share their transactions and a
slow one's do not wait for company; whoever leaves the block ends the request that is under way.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self

from libs.common.clock import Clock
from libs.connectors.contract import Cursor, Page

PAGES_MAX = 10  # PROTOCOL.md 4.2: the position is kept about every ten pages.
WAIT_S = 0.3

ReadPage = Callable[[Cursor | None], Awaitable[Page]]


class ReadAhead:
    """One sweep from a cursor to its end."""

    def __init__(
        self,
        read_page: ReadPage,
        after: Cursor | None,
        clock: Clock,
        *,
        pages_max: int = PAGES_MAX,
        wait_s: float = WAIT_S,
    ) -> None:
        self._read_page = read_page
        self._after = after
        self._clock = clock
        self._pages_max = pages_max
        self._wait_s = wait_s
        self._next: asyncio.Future[Page] | None = None

    async def __aenter__(self) -> Self:
        """Request the first page."""
        self._request(self._after)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        """End what is under way; its answer, or its error, is nobody's any more."""
        if self._next is not None:
            self._next.cancel()
            await asyncio.wait({self._next})
            if not self._next.cancelled():
                self._next.exception()

    async def next_group(self) -> Sequence[Page]:
        """Return the next pages, at least one; none after the last. Raises what reading raised."""
        if self._next is None:
            return []
        group = [await self._take()]
        deadline = self._clock.monotonic() + self._wait_s
        while self._next is not None and len(group) < self._pages_max:
            left_s = max(0.0, deadline - self._clock.monotonic())
            done, _ = await asyncio.wait({self._next}, timeout=left_s)
            if not done or self._next.exception() is not None:
                break  # An error is raised by the next call: these pages were read.
            group.append(await self._take())
        return group

    async def _take(self) -> Page:
        assert self._next is not None
        page = await self._next
        self._next = None
        if page.cursor is not None:
            self._request(page.cursor)
        return page

    def _request(self, after: Cursor | None) -> None:
        self._next = asyncio.ensure_future(self._read_page(after))
