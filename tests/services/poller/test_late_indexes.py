"""A provider that shows an edit late, though nobody tells of it: what windows overlap for.

HubSpot's search, Salesforce's transactions and Google's sync reads are late in their own ways,
which their sandboxes have. Of Constant Contact and Brevo nothing is known: here their answers hold
back whom somebody edited, as a replica that lags behind would.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from libs.common.events import Operation
from libs.connectors.account import StaticToken
from libs.connectors.brevo.source import BrevoSource
from libs.connectors.constant_contact.source import ConstantContactSource
from libs.connectors.contract import Cursor, Onward, OpenGate, Page, Sweep, alone
from sandbox.brevo import app as brevo_app
from sandbox.brevo import state as brevo_state
from sandbox.constant_contact import app as constant_contact_app
from sandbox.constant_contact import state as constant_contact_state
from sandbox.constant_contact.tokens import STANDING_TOKEN
from tests.connectors.served import Served, served
from tests.services.poller.over_sandbox import fill
from tests.services.poller.world import World

BREVO_KEY = "xkeysib-sandbox"


class Lagging:
    """A source whose sweeps of changes do not show some people's edits yet.

    Stands before the provider's own class, as `Disturbed` does.
    """

    held_back: frozenset[str] = frozenset()

    async def read_page(self, sweep: Sweep, after: Cursor | None, onward: Onward = alone) -> Page:
        page: Page = await super().read_page(  # type: ignore[misc]  # the provider's own comes next
            sweep, after, onward
        )
        shown = [each for each in page.changes if each.id not in self.held_back]
        return replace(page, changes=shown)


class LaggingBrevo(Lagging, BrevoSource):
    """Brevo, as it may be."""


class LaggingConstantContact(Lagging, ConstantContactSource):
    """Constant Contact, as it may be."""


Open = Callable[[Served], LaggingBrevo | LaggingConstantContact]


def _brevo(provider: Served) -> LaggingBrevo:
    return LaggingBrevo(provider.http, OpenGate(), StaticToken(BREVO_KEY), f"{provider.url}/v3")


def _constant_contact(provider: Served) -> LaggingConstantContact:
    return LaggingConstantContact(
        provider.http, OpenGate(), StaticToken(STANDING_TOKEN), f"{provider.url}/v3"
    )


@pytest.fixture
async def provider(app: Any) -> AsyncIterator[Served]:
    """Return the provider's sandbox, without limits."""
    async with served(app()) as one:
        yield one


@pytest.mark.parametrize(
    ("app", "open_", "field"),
    [
        pytest.param(
            lambda: brevo_app.create_app(brevo_state.State()), _brevo, "EMAIL", id="brevo"
        ),
        pytest.param(
            lambda: constant_contact_app.create_app(constant_contact_state.State()),
            _constant_contact,
            "email",
            id="constant_contact",
        ),
    ],
)
async def test_an_edit_that_is_shown_late_is_read_by_the_next_run(
    world: World, provider: Served, open_: Open, field: str
) -> None:
    """Fault 19. Proves S1: it lies before the last window's end, and after the next one's begin."""
    filled = await fill(provider, 5)
    ids = [str(each) for each in filled.ids]
    mapped = [{"source": field, "destination": "EMAIL", "destination_type": "email"}]
    integration = await world.integrate(fields=mapped)
    source = open_(provider)
    await world.poll(integration, source)
    await provider.post("contacts:change", {"ids": filled.ids[:2]})
    source.held_back = frozenset(ids[:2])
    await world.poll(integration, source)
    source.held_back = frozenset()

    await world.poll(integration, source)

    assert world.journal.ids(Operation.UPSERT, run_no=1) == sorted(ids)
    assert world.journal.ids(run_no=2) == []
    assert world.journal.ids(Operation.UPSERT, run_no=3) == sorted(ids[:2])
