"""config: subscriptions to events of providers, and what a hint does (docs/decisions/0142)."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a connection's account was asked to send us; `remote_id` is the provider's id of it."""

    connection_id: UUID
    remote_id: str
    url: str


async def find(session: AsyncSession, connection: UUID) -> Subscription | None:
    """Return a connection's subscription; None if it has none."""
    found = await session.execute(
        text(
            "select connection_id, remote_id, url from config.event_subscriptions"
            " where connection_id = :connection"
        ),
        {"connection": connection},
    )
    row = found.one_or_none()
    return None if row is None else Subscription(*row)


async def has_readers(session: AsyncSession, connection: UUID) -> bool:
    """Return whether somebody reads edits of an account, or will once he is resumed."""
    found = await session.execute(
        text(
            "select exists (select from config.integrations i"
            " join config.integrations b on b.way_back_of = i.integration_id"
            " where i.destination_connection_id = :connection and i.is_two_way"
            " and i.state <> 'archived')"
        ),
        {"connection": connection},
    )
    return bool(found.scalar_one())


@dataclass(frozen=True, slots=True)
class Unheard:
    """A connection whose edits are read, and whose account sends us no events of them."""

    connection_id: UUID
    workspace_id: UUID


async def claim_unheard(
    session: AsyncSession, *, providers: Sequence[str], base_url: str, rest_s: float, limit: int
) -> list[Unheard]:
    """Return connections of any workspace whose events are wanted and do not come here.

    Also those that send to another address than below `base_url`. Each is claimed: for `rest_s` it
    is returned to nobody, so that one process asks its account, and not more often than that.
    """
    found = await session.execute(
        text(
            "update config.connections set events_tried_at = clock_timestamp()"
            " where connection_id in (select c.connection_id from config.connections c"
            "  where c.provider = any(:providers) and c.state = 'connected'"
            "  and (c.events_tried_at is null"
            "   or c.events_tried_at < clock_timestamp() - make_interval(secs => :rest_s))"
            "  and exists (select from config.integrations i"
            "   join config.integrations b on b.way_back_of = i.integration_id"
            "   where i.destination_connection_id = c.connection_id and i.is_two_way"
            "   and i.state not in ('draft', 'archived'))"
            "  and not exists (select from config.event_subscriptions e"
            "   where e.connection_id = c.connection_id and starts_with(e.url, :base_url || '/'))"
            "  order by c.events_tried_at nulls first, c.connection_id"
            "  limit :limit for update of c skip locked)"
            " returning connection_id, workspace_id"
        ),
        {"providers": list(providers), "base_url": base_url, "rest_s": rest_s, "limit": limit},
    )
    return [Unheard(*row) for row in found]


async def keep(
    session: AsyncSession, subscription: Subscription, workspace: UUID, token_sha256: bytes
) -> None:
    """Store a subscription in the place of whatever the connection had."""
    await session.execute(
        text(
            "insert into config.event_subscriptions as e"
            " (connection_id, workspace_id, remote_id, url, token_sha256)"
            " values (:connection, :workspace, :remote, :url, :token)"
            " on conflict (connection_id) do update set remote_id = excluded.remote_id,"
            " url = excluded.url, token_sha256 = excluded.token_sha256,"
            " created_at = clock_timestamp()"
        ),
        {
            "connection": subscription.connection_id,
            "workspace": workspace,
            "remote": subscription.remote_id,
            "url": subscription.url,
            "token": token_sha256,
        },
    )


async def forget(session: AsyncSession, connection: UUID) -> None:
    """Remove a connection's subscription: what still comes of it is refused."""
    await session.execute(
        text("delete from config.event_subscriptions where connection_id = :connection"),
        {"connection": connection},
    )


async def take_hint(
    session: AsyncSession, connection: UUID, token_sha256: bytes, gone: Sequence[str]
) -> bool:
    """Bring the next read of an account forward; False if the token is not its subscription's.

    No workspace is known here: the token alone says whose account it is.
    """
    found = await session.execute(
        text("select sync.take_hint(:connection, :token, cast(:gone as text[]))"),
        {"connection": connection, "token": token_sha256, "gone": list(gone)},
    )
    return bool(found.scalar_one())
