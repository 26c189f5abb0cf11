"""The mapper's SQL: integrations and mapping versions, read and never written.

Every statement of this service is in this file. Each is a transaction of its own.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from uuid import UUID

from libs.common.postgres import Transactions, fetch_alone

_LOAD = """
    select i.state, i.destination_connection_id, i.default_country,
           m.version, m.fields::text as fields, m.criteria::text as criteria
    from config.integrations i
    left join config.field_mappings m
      on m.integration_id = i.integration_id and m.version = any ($2)
    where i.integration_id = $1
    """


@dataclass(frozen=True, slots=True)
class StoredMapping:
    """A mapping version as JSON: `fields` and, unless there are none, `criteria`."""

    fields: str
    criteria: str | None


@dataclass(frozen=True, slots=True)
class Integration:
    """What the mapper must know of an integration; `destination` None: none was chosen."""

    is_archived: bool
    destination: UUID | None
    default_country: str | None
    mappings: Mapping[int, StoredMapping]


async def load_integration(
    transactions: Transactions, integration: UUID, *, versions: Collection[int]
) -> Integration | None:
    """Return an integration with those of its mapping versions; None if there is none."""
    rows = await fetch_alone(transactions, _LOAD, integration, sorted(versions))
    if not rows:
        return None
    return Integration(
        is_archived=rows[0]["state"] == "archived",
        destination=rows[0]["destination_connection_id"],
        default_country=rows[0]["default_country"],
        mappings={
            row["version"]: StoredMapping(row["fields"], row["criteria"])
            for row in rows
            if row["version"] is not None
        },
    )
