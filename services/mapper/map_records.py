"""Map the records of one integration and pass them on (PROTOCOL.md 2).

Promises: a record's offset is finished after its mapped form was acknowledged; records come out in
the order they came in, under one key, the destination connection; mapping the same record twice
gives the same record. Whatever can not be mapped is rejected, never dropped: also when the
integration is archived, gone, or its mapping damaged.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol
from uuid import UUID

import msgspec

from libs.common import logs, metrics
from libs.common.consumer import Batch
from libs.common.events import Change, Changed, Event, Mapped, RunRead, Topic
from libs.common.failpoints import Reached, nothing
from libs.common.reasons import Reject
from services.mapper.map_contact import MapContacts, Outcome, with_others
from services.mapper.map_page import map_page, reject_page
from services.mapper.mappings import MappingError, Mappings
from services.mapper.store import Integration

CONTACTS = metrics.counter("mapped_contacts_total", "Contacts mapped, by outcome.", ["outcome"])

log = logs.get(__name__)


class LoadIntegration(Protocol):
    """Reads one integration with some of its mapping versions."""

    async def __call__(self, integration: UUID, versions: set[int]) -> Integration | None:
        """Return the integration; None if there is none."""


class Publish(Protocol):
    """Puts events on a topic."""

    async def __call__(self, topic: Topic, events: Iterable[tuple[str, Event]]) -> None:
        """Return when all are acknowledged."""


class RecordMapper:
    """The consumer's handler: one integration's records, in order."""

    def __init__(
        self, load: LoadIntegration, publish: Publish, *, reached: Reached = nothing
    ) -> None:
        self._load = load
        self._publish = publish
        self._reached = reached
        self._mappings = Mappings()

    async def handle(self, batch: Batch) -> None:
        """Publish the mapped form of every record; return when all are acknowledged."""
        events = [_expected(record.event) for record in batch.records]
        integration = await self._load_integration(events)
        await self._publish(Topic.CONTACTS_MAPPED, self._mapped(events, integration))
        self._reached("published")

    def _mapped(
        self, events: Sequence[Changed | RunRead], integration: Integration | None
    ) -> Iterator[tuple[str, Event]]:
        """Yield one after the other: what is encoded for the broker is not kept as well."""
        for event in events:
            yield self._map(event, integration)
        self._reached("mapped")

    async def _load_integration(self, events: Sequence[Changed | RunRead]) -> Integration | None:
        # One lane is one integration: its id is the key of its records.
        integration_id = events[0].integration
        versions = [event.mapping_version for event in events if isinstance(event, Changed)]
        integration = await self._load(
            integration_id, self._mappings.missing(integration_id, versions)
        )
        if integration is not None:
            for version, mapping in integration.mappings.items():
                self._mappings.keep(integration_id, version, mapping)
        return integration

    def _map(self, event: Changed | RunRead, integration: Integration | None) -> tuple[str, Event]:
        # An integration that is gone has no destination: its contacts are told of under its own id.
        destination = (integration and integration.destination) or event.integration
        if isinstance(event, RunRead):
            return str(destination), msgspec.structs.replace(event, destination=destination)
        mapped = self._map_changed(event, integration, destination)
        CONTACTS.labels("effect").inc(len(mapped.effects))
        CONTACTS.labels("rejected").inc(len(mapped.rejected))
        CONTACTS.labels("filtered").inc(len(mapped.filtered))
        return str(destination), mapped

    def _map_changed(
        self, changed: Changed, integration: Integration | None, destination: UUID
    ) -> Mapped:
        if integration is None or integration.is_archived or integration.destination is None:
            return reject_page(changed, Reject.INTEGRATION_ARCHIVED, destination=destination)
        map_contacts: MapContacts
        try:
            map_contacts = self._mappings.compiled(
                changed.integration,
                changed.mapping_version,
                default_country=integration.default_country,
                asked_for=changed.properties,
                phones_stay=changed.phones_stay,
            )
        except MappingError as error:
            log.error(  # noqa: TRY400  # the message says it all, and quotes no contact
                "mapping_damaged",
                integration=str(changed.integration),
                mapping_version=changed.mapping_version,
                reason=str(error),
            )
            map_contacts = _refuse_upserts
        return map_page(changed, map_contacts, destination=destination)


def _expected(event: Event) -> Changed | RunRead:
    assert isinstance(event, Changed | RunRead)
    return event


def _refuse_upserts(changes: Sequence[Change]) -> Sequence[Outcome]:
    """Stand in for a mapping that is damaged: deletes and leaves need none."""
    return with_others(changes, lambda upserts: [Reject.MALFORMED] * len(upserts))
