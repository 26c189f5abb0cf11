"""Read a sweep's pages one ahead, and hand them out in groups.

Promises: the next page is requested before this one is given away; where a source tells early where
the page after starts, that one's ids are asked for while this one's contacts are read, and no
contact of a page is read before the page before it was taken: contacts are read in the order of
their pages, and one page and the ids of another are all that waits here. A group is what has come
within `wait_s`, at most `pages_max` pages and none after `CONTACTS_MAX` contacts, so that a fast
provider's pages share their transactions, a slow one's do not wait for company, and large ones do
not fill the memory; whoever leaves the block ends the requests under way.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import NamedTuple, Self

from libs.common.clock import Clock
from libs.connectors.contract import Cursor, Onward, Page

PAGES_MAX = 10  # PROTOCOL.md 4.2: the position is kept about every ten pages.
# Two groups may wait for the broker (`services.poller.poll`): some megabytes.
CONTACTS_MAX = 2_000
WAIT_S = 0.3

ReadPage = Callable[[Cursor | None, Onward], Awaitable[Page]]


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
        # In the order of their pages; at most two, as only the first one's turn has come.
        self._requests: deque[_Request] = deque()
        self._is_left = False

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
        self._is_left = True
        for page, turn in self._requests:
            page.cancel()
            turn.set()
        await asyncio.gather(*(page for page, _ in self._requests), return_exceptions=True)

    async def next_group(self) -> Sequence[Page]:
        """Return the next pages, at least one; none after the last. Raises what reading raised."""
        if not self._requests:
            return []
        group = [await self._take()]
        deadline = self._clock.monotonic() + self._wait_s
        while self._requests and len(group) < self._pages_max and not _is_full(group):
            page = self._requests[0].page
            left_s = max(0.0, deadline - self._clock.monotonic())
            done, _ = await asyncio.wait({page}, timeout=left_s)
            if not done or page.exception() is not None:
                break  # An error is raised by the next call: these pages were read.
            group.append(await self._take())
        return group

    async def _take(self) -> Page:
        page = await self._requests[0].page
        self._requests.popleft()
        if self._requests:
            self._requests[0].turn.set()
        elif page.cursor is not None:
            self._request(page.cursor)
        return page

    def _request(self, after: Cursor | None) -> None:
        turn = asyncio.Event()
        if not self._requests:
            turn.set()

        async def onward(following: Cursor | None) -> None:
            await turn.wait()
            if self._is_left:  # A cancellation that meets the end of a call may get lost.
                raise asyncio.CancelledError
            if following is not None:
                self._request(following)

        page = asyncio.ensure_future(self._read_page(after, onward))
        self._requests.append(_Request(page, turn))


def _is_full(group: Sequence[Page]) -> bool:
    return sum(len(page.changes) for page in group) >= CONTACTS_MAX


class _Request(NamedTuple):
    """A page that was asked for, and what says that the one before it was taken."""

    page: asyncio.Future[Page]
    turn: asyncio.Event
