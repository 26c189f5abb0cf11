"""What the poller's tests over sandboxes have in common: people of long ago, and disturbances."""

import asyncio
from typing import Any, NamedTuple
from uuid import UUID

from libs.connectors.contract import Cursor, Onward, Page, Source, Sweep, alone
from tests.connectors.served import Served
from tests.services.poller.world import World

LIST = "Newsletter"
LONG_AGO_S = 3_600  # Longer than the windows of two sweeps overlap.


class Filled(NamedTuple):
    """A list of the sandbox, and who is on it."""

    list_id: str
    ids: list[str]


async def fill(provider: Served, count: int, **wish: Any) -> Filled:
    """Fill a list with people who were last edited long ago."""
    wish = {"count": count, "list": LIST, "invalid_share": 0, **wish}
    told = await long_ago(provider, "contacts:fill", wish)
    return Filled(told["list_id"], sorted(told["ids"]))


async def long_ago(provider: Served, path: str, body: dict[str, Any]) -> Any:
    """Let something have happened in the account long ago."""
    await provider.put("clock", {"advance_s": -LONG_AGO_S})
    told = await provider.post(path, body)
    await provider.put("clock", {"advance_s": LONG_AGO_S})
    return told


class Disturbed:
    """A source in whose account something happens while its pages are read.

    Stands before the provider's own class: `class DisturbedSource(Disturbed, HubSpotSource)`.
    `before` is the number of a page, before which a control call is made; `then` is one that is
    made once, after the next page.
    """

    provider: Served
    before: tuple[int, str, dict[str, object]] | None = None
    then: tuple[str, dict[str, object]] | None = None
    pages = 0

    async def read_page(self, sweep: Sweep, after: Cursor | None, onward: Onward = alone) -> Page:
        self.pages += 1
        if self.before is not None and self.before[0] == self.pages:
            await self.provider.post(*self.before[1:])
        page: Page = await super().read_page(  # type: ignore[misc]  # the provider's own comes next
            sweep, after, onward
        )
        if self.then is not None:
            await self.provider.post(*self.then)
            self.then = None
        return page


async def attend(world: World, integration: UUID, source: Source) -> None:
    """Let a poller process read an integration that is due now."""
    await world.make_due(integration)
    await attend_due(world, source)


async def attend_due(world: World, source: Source) -> None:
    """Let a poller process read the one integration that is due."""
    attendant = world.attendant(source)
    assert await attendant.claim() == 1
    await asyncio.gather(*attendant._running.values())
    attendant._raise_bugs()
