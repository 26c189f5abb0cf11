"""Who has a share in what one external account may bring in a sync (AC5, PROTOCOL.md 7).

Automatic imports of one external account share so many contacts in each slot of half an hour,
whatever destinations they write to. A share is taken after everything that lets a contact wait and
before its unit is held, and is the contact's for the slot: what is refused, cut off or repeated
takes no second one, and gives none back. Who gets none is parked as `sync_budget`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from libs.connectors.automatic import CONTACTS_MAX, EVERY_MINUTES
from services.writer.values import ContactId, Integration

ANY_NUMBER = 1_000_000  # Of contacts that wait at once: they all may go.


@dataclass(frozen=True, slots=True)
class Budget:
    """How many contacts of one external account may be written in each slot; 0: any number."""

    contacts_max: int = CONTACTS_MAX
    slot: timedelta = timedelta(minutes=EVERY_MINUTES)

    @property
    def most(self) -> int:
        """Return how many shares there are in a slot."""
        return self.contacts_max or ANY_NUMBER


def by_account(
    contacts: Iterable[ContactId], integrations: Mapping[UUID, Integration]
) -> dict[str, list[ContactId]]:
    """Return who needs a share of which external account, in their order; most need none."""
    found: dict[str, list[ContactId]] = defaultdict(list)
    for contact in contacts:
        integration = integrations.get(contact.integration)
        if integration is not None and integration.importer_of:
            found[integration.importer_of].append(contact)
    return found
