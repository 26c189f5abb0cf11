"""config.integrations and config.field_mappings, with what is computed from other schemas."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.reasons import Trouble
from libs.connectors.automatic import WantedField

MAPPED, AUTOMATIC = "mapped", "automatic"


@dataclass(frozen=True, slots=True)
class Integration:
    """One configured sync. `version` is its ETag; `mapping_version` 0: none yet.

    `is_two_way`: edits at its destination go back, by the integration `way_back_id`, which is
    `way_back_of` this one and follows it (docs/decisions/0130).

    `kind` automatic: nobody maps fields, the mapping follows from what the source has (AC1).
    """

    integration_id: UUID
    workspace_id: UUID
    name: str
    state: str
    source_connection_id: UUID | None
    source_object: str | None
    source_list_id: str | None
    source_list_name: str | None
    destination_connection_id: UUID | None
    destination_list_id: str | None
    destination_list_name: str | None
    opt_in_at: datetime | None
    opt_in_by: str | None
    interval_minutes: int
    deletion_policy: str
    email_change_policy: str
    default_country: str | None
    mapping_version: int
    error_reason: str | None
    version: int
    created_at: datetime
    updated_at: datetime
    activated_at: datetime | None
    archived_at: datetime | None
    kind: str = MAPPED
    is_two_way: bool = False
    way_back_of: UUID | None = None
    way_back_id: UUID | None = None

    @property
    def is_automatic(self) -> bool:
        """Return whether it is an automatic import."""
        return self.kind == AUTOMATIC


@dataclass(frozen=True, slots=True)
class Stopped:
    """An integration that was stopped for want of a plan, at its new version."""

    integration_id: UUID
    version: int
    way_back_of: UUID | None


@dataclass(frozen=True, slots=True)
class MappingVersion:
    """One immutable version of a mapping, with the criteria that belong to it."""

    version: int
    fields: list[dict[str, Any]]
    criteria: dict[str, Any] | None
    created_at: datetime
    created_by: str


@dataclass(frozen=True, slots=True)
class Standing:
    """What other services know that changes how an integration's state is shown."""

    is_open: bool  # The workspace's quota.
    blocked_reason: str | None  # The destination's block, while it lasts.
    connection_states: Sequence[str]
    failures: int  # Runs in a row that could not be read.
    way_back_reason: str | None = None  # What keeps edits from going back (SF8).
    waits_for_calls: bool = False  # For longer than a minute: the source's limit is reached (S10).


@dataclass(frozen=True, slots=True)
class Sharing:
    """Another integration that reads the same account, deleted ones left out."""

    integration_id: UUID
    name: str
    was_activated: bool


# In the order of the fields of `Integration`.
_SELECT = (
    "select integration_id, workspace_id, name, state, source_connection_id, source_object,"
    " source_list_id, source_list_name, destination_connection_id, destination_list_id,"
    " destination_list_name, opt_in_at, opt_in_by, interval_minutes, deletion_policy,"
    " email_change_policy, default_country, mapping_version, error_reason, version, created_at,"
    " updated_at, activated_at, archived_at, kind, is_two_way, way_back_of,"
    " (select b.integration_id from config.integrations b"
    "   where b.way_back_of = integrations.integration_id) as way_back_id"
    " from config.integrations"
)


async def add(
    session: AsyncSession, *, integration: UUID, workspace: UUID, name: str, kind: str = MAPPED
) -> None:
    """Store a draft; storing it again changes nothing."""
    await session.execute(
        text(
            "insert into config.integrations (integration_id, workspace_id, name, kind)"
            " values (:integration, :workspace, :name, :kind) on conflict do nothing"
        ),
        {"integration": integration, "workspace": workspace, "name": name, "kind": kind},
    )


async def find(session: AsyncSession, integration: UUID) -> Integration | None:
    """Return an integration; None if this workspace has none of that id."""
    found = await session.execute(
        text(f"{_SELECT} where integration_id = :integration"),
        {"integration": integration},
    )
    row = found.one_or_none()
    return Integration(*row) if row else None


async def find_page(
    session: AsyncSession, *, after: UUID | None, state: str | None, size: int
) -> list[Integration]:
    """Return the workspace's integrations, oldest first; archived ones only if asked for."""
    found = await session.execute(
        text(
            f"{_SELECT}"
            " where (cast(:after as uuid) is null or integration_id > :after)"
            " and case when cast(:state as text) is null then state <> 'archived'"
            " else state = :state end and way_back_of is null"
            " order by integration_id limit :size"
        ),
        {"after": after, "state": state, "size": size},
    )
    return [Integration(*row) for row in found]


async def find_sharing(
    session: AsyncSession, *, integration: UUID, connection: UUID
) -> list[Sharing]:
    """Return the workspace's other integrations that read the account behind a connection.

    By the account, not by the connection: one account may be connected several times.
    """
    found = await session.execute(
        text(
            "select i.integration_id, i.name, i.activated_at is not null"
            " from config.integrations i"
            " join config.connections c on c.connection_id = i.source_connection_id"
            " join config.connections own on own.connection_id = :connection"
            " where i.integration_id <> :integration and i.state <> 'archived'"
            " and i.way_back_of is null"
            " and (c.connection_id = own.connection_id"
            "  or (c.provider, c.account_id) = (own.provider, own.account_id))"
            " order by i.integration_id"
        ),
        {"integration": integration, "connection": connection},
    )
    return [Sharing(*row) for row in found]


async def lock(session: AsyncSession, integration: UUID) -> int | None:
    """Let nobody else change an integration until this transaction ends; return its version."""
    version: int | None = await session.scalar(
        text(
            "select version from config.integrations where integration_id = :integration for update"
        ),
        {"integration": integration},
    )
    return version


async def save(session: AsyncSession, wanted: Integration) -> Integration | None:
    """Store what people set up, if the version is still the one that was read.

    Returns the integration with its new version; None if somebody else was faster.
    """
    found = await session.execute(
        text(
            "update config.integrations set name = :name, state = :state,"
            " source_connection_id = :source_connection_id, source_object = :source_object,"
            " source_list_id = :source_list_id, source_list_name = :source_list_name,"
            " destination_connection_id = :destination_connection_id,"
            " destination_list_id = :destination_list_id,"
            " destination_list_name = :destination_list_name,"
            " opt_in_at = :opt_in_at, opt_in_by = :opt_in_by,"
            " interval_minutes = :interval_minutes, deletion_policy = :deletion_policy,"
            " email_change_policy = :email_change_policy, default_country = :default_country,"
            " mapping_version = :mapping_version, error_reason = :error_reason,"
            " activated_at = :activated_at, archived_at = :archived_at,"
            " is_two_way = :is_two_way,"
            " version = version + 1, updated_at = clock_timestamp()"
            " where integration_id = :integration_id and version = :version"
            " returning integration_id"
        ),
        {name: getattr(wanted, name) for name in Integration.__dataclass_fields__},
    )
    if found.one_or_none() is None:
        return None
    return await find(session, wanted.integration_id)


async def stop_for_plan(
    session: AsyncSession, workspace: UUID, providers: Sequence[str]
) -> list[Stopped]:
    """Stop every integration of a workspace that goes from or to one of these; return them.

    Also one in error: its workers would try it again by themselves. Those that people paused stay
    as they are.
    """
    found = await session.execute(
        text(
            "update config.integrations i set state = 'paused', error_reason = :reason,"
            " version = i.version + 1, updated_at = clock_timestamp()"
            " where i.workspace_id = :workspace and i.state in ('active', 'error')"
            " and exists (select from config.connections c where c.provider = any(:providers)"
            "  and c.connection_id in (i.source_connection_id, i.destination_connection_id))"
            " returning i.integration_id, i.version, i.way_back_of"
        ),
        {"workspace": workspace, "providers": list(providers), "reason": Trouble.PLAN_NEEDED.value},
    )
    return [Stopped(*row) for row in found]


async def stop_polling(session: AsyncSession, stopped: Stopped, event: bytes | None) -> None:
    """Have an integration polled no more, and its people told; None: another one's event does."""
    await session.execute(
        text("select sync.stop(:integration, :event)"),
        {"integration": stopped.integration_id, "event": event},
    )


async def follow(
    session: AsyncSession,
    leading: Integration,
    *,
    way_back: UUID,
    fields: Sequence[Mapping[str, Any]],
) -> str:
    """Let the way back be as its integration is now, made if it is not there; return its state.

    `fields` are the mapping in force, turned round. Without two ways it rests.
    """
    state: str | None = await session.scalar(
        text(
            "insert into config.integrations as b (integration_id, workspace_id, name, state,"
            " source_connection_id, source_object, destination_connection_id, opt_in_at,"
            " opt_in_by, interval_minutes, deletion_policy, email_change_policy, default_country,"
            " mapping_version, activated_at, archived_at, way_back_of)"
            " select :way_back, workspace_id, name,"
            "   case when is_two_way or state = 'archived' then state else 'paused' end,"
            "   destination_connection_id, 'contacts', source_connection_id, opt_in_at, opt_in_by,"
            "   interval_minutes, 'remove_from_list', email_change_policy, default_country,"
            "   mapping_version,"
            "   activated_at, archived_at, integration_id"
            " from config.integrations where integration_id = :leading"
            " on conflict (way_back_of) do update set name = excluded.name,"
            " state = excluded.state, interval_minutes = excluded.interval_minutes,"
            " default_country = excluded.default_country,"
            " email_change_policy = excluded.email_change_policy,"
            " mapping_version = excluded.mapping_version, activated_at = excluded.activated_at,"
            " archived_at = excluded.archived_at, error_reason = null, version = b.version + 1,"
            " updated_at = clock_timestamp() returning state"
        ),
        {"way_back": way_back, "leading": leading.integration_id},
    )
    await session.execute(
        text(
            "insert into config.field_mappings (integration_id, version, workspace_id, fields,"
            " created_by) values (:way_back, :version, :workspace, cast(:fields as jsonb),"
            " 'two_way') on conflict do nothing"
        ),
        {
            "way_back": way_back,
            "version": leading.mapping_version,
            "workspace": leading.workspace_id,
            "fields": json.dumps(list(fields)),
        },
    )
    return str(state)


async def add_mapping(
    session: AsyncSession,
    *,
    integration: UUID,
    workspace: UUID,
    version: int,
    fields: Sequence[Mapping[str, Any]],
    criteria: Mapping[str, Any] | None,
    created_by: str,
) -> None:
    """Store a new version of a mapping."""
    await session.execute(
        text(
            "insert into config.field_mappings (integration_id, version, workspace_id, fields,"
            " criteria, created_by) values (:integration, :version, :workspace,"
            " cast(:fields as jsonb), cast(:criteria as jsonb), :created_by)"
        ),
        {
            "integration": integration,
            "version": version,
            "workspace": workspace,
            "fields": json.dumps(list(fields)),
            "criteria": None if criteria is None else json.dumps(criteria),
            "created_by": created_by,
        },
    )


async def find_mapping(
    session: AsyncSession, integration: UUID, version: int
) -> MappingVersion | None:
    """Return one version of a mapping; None if there is none."""
    found = await session.execute(
        text(
            "select version, fields, criteria, created_at, created_by from config.field_mappings"
            " where integration_id = :integration and version = :version"
        ),
        {"integration": integration, "version": version},
    )
    row = found.one_or_none()
    return MappingVersion(*row) if row else None


async def find_criteria(
    session: AsyncSession, integrations: Sequence[Integration]
) -> dict[UUID, dict[str, Any]]:
    """Return the criteria in force of those integrations that have some."""
    found = await session.execute(
        text(
            "select i.integration_id, m.criteria from config.integrations i"
            " join config.field_mappings m"
            " on m.integration_id = i.integration_id and m.version = i.mapping_version"
            " where i.integration_id = any(:integrations) and m.criteria is not null"
        ),
        {"integrations": [integration.integration_id for integration in integrations]},
    )
    return {row[0]: row[1] for row in found}


async def find_mappings(
    session: AsyncSession, integration: UUID, *, before: int | None, size: int
) -> list[MappingVersion]:
    """Return versions of a mapping, newest first."""
    found = await session.execute(
        text(
            "select version, fields, criteria, created_at, created_by from config.field_mappings"
            " where integration_id = :integration"
            " and (cast(:before as integer) is null or version < :before)"
            " order by version desc limit :size"
        ),
        {"integration": integration, "before": before, "size": size},
    )
    return [MappingVersion(*row) for row in found]


async def count_contacts(session: AsyncSession, integration: UUID) -> int | None:
    """Return how many contacts a full run would look at; None before the first one.

    The larger of what the last full run found and of the contacts known by now.
    """
    count: int | None = await session.scalar(
        text(
            "select greatest((select greatest(r.read, coalesce(r.total_after, 0))"
            "   from sync.runs r where r.integration_id = :integration and r.mode = 'full'"
            "   order by r.run_no desc limit 1),"
            " nullif((select count(*) from delivery.links l"
            "   where l.integration_id = :integration and l.state <> 'removed'), 0))"
        ),
        {"integration": integration},
    )
    return count


async def find_standings(
    session: AsyncSession, integrations: Sequence[Integration]
) -> dict[UUID, Standing]:
    """Return what changes how these integrations' states are shown; of one workspace."""
    found = await session.execute(
        text(
            "select i.integration_id, ledger.is_open(i.workspace_id),"
            " (select coalesce(d.block_reason, 'destination_down') from delivery.destinations d"
            "   where d.connection_id = i.destination_connection_id"
            "   and d.blocked_until > clock_timestamp()),"
            " (select array_agg(c.state) from config.connections c where c.connection_id in"
            "   (i.source_connection_id, i.destination_connection_id)),"
            " (select s.failures from sync.schedules s where s.integration_id = i.integration_id),"
            " (select coalesce(b.error_reason, (select 'value_too_long' where exists"
            "    (select from activity.contacts a where a.integration_id = b.integration_id"
            "     and a.status = 'rejected' and a.reason = 'value_too_long')))"
            "  from config.integrations b"
            "  where b.way_back_of = i.integration_id and i.is_two_way),"
            " exists (select from sync.schedules s"
            "   join sync.runs r on r.integration_id = s.integration_id and r.run_no = s.run_no"
            "   where s.integration_id = i.integration_id and r.error_code = 'rate_limited'"
            "   and s.resume_at > clock_timestamp() + interval '1 minute')"
            " from config.integrations i where i.integration_id = any(:integrations)"
        ),
        {"integrations": [integration.integration_id for integration in integrations]},
    )
    return {
        integration: Standing(is_open, blocked, states or [], failures or 0, way_back, waits)
        for integration, is_open, blocked, states, failures, way_back, waits in found
    }


async def count_by_provider(session: AsyncSession) -> dict[str, int]:
    """Return how many integrations of the workspace use each provider (AC4)."""
    found = await session.execute(
        text(
            "select c.provider, count(distinct i.integration_id) from config.integrations i"
            " join config.connections c"
            " on c.connection_id in (i.source_connection_id, i.destination_connection_id)"
            " where i.state <> 'archived' and i.way_back_of is null group by c.provider"
        )
    )
    return {row[0]: row[1] for row in found}


@dataclass(frozen=True, slots=True)
class FieldsAsked:
    """What an automatic import has asked for at its destination and not got yet."""

    waiting: Sequence[str]  # Names of the source's fields.
    refused: Mapping[str, str]  # The same, and why.


async def count_automatic(session: AsyncSession) -> dict[str, int]:
    """Return how many automatic imports the workspace has of each external service (AC4)."""
    found = await session.execute(
        text(
            "select c.provider, count(*) from config.integrations i"
            " join config.connections c on c.connection_id = i.source_connection_id"
            " where i.kind = 'automatic' and i.state <> 'archived' group by c.provider"
        )
    )
    return {row[0]: row[1] for row in found}


async def want_fields(
    session: AsyncSession, integration: UUID, fields: Sequence[WantedField]
) -> None:
    """Have fields made at an automatic import's destination and mapped; the refused ones again."""
    wanted = [
        {
            "source": field.source,
            "type": field.type.value,
            "title": field.title,
            "standard": field.standard.value,
        }
        for field in fields
    ]
    await session.execute(
        text("select delivery.want_fields(:integration, cast(:fields as jsonb))"),
        {"integration": integration, "fields": json.dumps(wanted)},
    )


async def find_fields_asked(
    session: AsyncSession, integrations: Sequence[Integration]
) -> dict[UUID, FieldsAsked]:
    """Return what each automatic import has asked for and not got yet."""
    found = await session.execute(
        text(
            "select integration_id,"
            " coalesce(array_agg(source order by source) filter (where refused is null), '{}'),"
            " coalesce(jsonb_object_agg(source, refused) filter (where refused is not null), '{}')"
            " from delivery.wanted_fields where integration_id = any(:integrations)"
            " group by integration_id"
        ),
        {"integrations": [each.integration_id for each in integrations if each.is_automatic]},
    )
    return {row[0]: FieldsAsked(row[1], row[2]) for row in found}


async def schedule(session: AsyncSession, integration: UUID, *, full: bool) -> None:
    """Make the poller read the integration, from now on."""
    await session.execute(
        text("select sync.schedule(:integration, :full)"),
        {"integration": integration, "full": full},
    )


async def find_scheduled_mapping(session: AsyncSession, integration: UUID) -> int | None:
    """Return the mapping version that the poller was last told of; None: it never was."""
    version: int | None = await session.scalar(
        text(
            "select wanted_mapping_version from sync.schedules where integration_id = :integration"
        ),
        {"integration": integration},
    )
    return version


async def unschedule(session: AsyncSession, integration: UUID) -> None:
    """Make the poller leave the integration alone."""
    await session.execute(
        text("select sync.unschedule(:integration)"), {"integration": integration}
    )
