"""The writer's SQL about pairs: what both sides of a two-way integration have agreed on.

As in `services.writer.store`, `is not distinct from` included: functions take the session of the
caller's transaction, which holds the lease of the account that is written to. A pair belongs to two
accounts, so two owners may change its row, one after the other; what each says of it is true by
what it has just read.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import msgspec

from libs.common.events import Identity
from libs.common.postgres import Transaction
from libs.connectors.contract import FieldType
from services.writer.agreement import Seen, Term, Terms
from services.writer.values import identity_key


class _Field(msgspec.Struct, frozen=True):
    source: str
    source_type: FieldType
    destination: str
    destination_type: FieldType


_FIELDS = msgspec.json.Decoder(list[_Field])


@dataclass(frozen=True, slots=True)
class Pair:
    """A record at the source with its contact at the destination; `remote_id` None: unknown."""

    source_id: str
    remote_id: str | None
    seen: Seen


async def terms(session: Transaction, wanted: Collection[UUID]) -> dict[UUID, Terms]:
    """Return what these integrations (that lead there) map now, the address left out."""
    found = await session.connection.fetch(
        """
        select i.integration_id, i.mapping_version, i.default_country, m.fields::text as fields
        from config.integrations i
        join config.field_mappings m
          on m.integration_id = i.integration_id and m.version = i.mapping_version
        where i.integration_id = any ($1)
        """,
        list(wanted),
    )
    return {
        row["integration_id"]: _terms(row["mapping_version"], row["fields"], row["default_country"])
        for row in found
    }


def _terms(version: int, fields: str, country: str | None) -> Terms:
    mapped = [
        Term(each.source, each.source_type, each.destination, each.destination_type)
        for each in _FIELDS.decode(fields)
    ]
    emails = [each for each in mapped if each.remote_type is FieldType.EMAIL]
    return Terms(
        version,
        [each for each in mapped if each not in emails],
        country,
        address=emails[0].source if emails else None,
    )


async def pairs_of(
    session: Transaction, integration: UUID, source_ids: Collection[str], version: int
) -> dict[str, Pair]:
    """Return the pairs of these records; what was seen under another mapping is not."""
    found = await session.connection.fetch(
        _PAIRS_OF,
        integration,
        version,
        list(source_ids),
    )
    return {row["source_id"]: _pair(tuple(row.values())) for row in found}


# Under another mapping version ($2) nothing was seen: other fields make another content.
_SEEN = ", ".join(
    f"case when p.mapping_version = $2 then p.{column} end as {column}"
    for column in ("seen_source", "seen_remote", "pending_source", "pending_remote")
)
_PAIRS_OF = f"""
    select p.source_id, p.remote_id, {_SEEN}
    from delivery.pairs p where p.integration_id = $1 and p.source_id = any ($3)
    """  # noqa: S608  # names, not values
# Whoever is found by the address comes last. With `offset 0` one is looked for after the other, and
# no plan puts all of an integration beside them.
_PAIRS_BY_CONTACT = f"""
    select u.remote_id as asked, l.source_id, p.remote_id, {_SEEN}
    from unnest($3::text[], $4::text[]) u (remote_id, address)
    cross join lateral (
      select k.source_id, k.state, true as by_address from delivery.links k
      where k.identity = u.address and k.integration_id is not distinct from $1
        and k.state = 'linked'
      union all
      select k.source_id, k.state, false from delivery.links k
      where k.integration_id = $1 and k.source_id =
        (select q.source_id from delivery.pairs q
         where q.remote_id = u.remote_id and q.integration_id is not distinct from $1 limit 1)
      offset 0
    ) l
    left join lateral (
      select * from delivery.pairs k
      where k.integration_id = $1 and k.source_id = l.source_id offset 0
    ) p on true
    where l.state = 'linked' order by l.by_address
    """  # noqa: S608  # names, not values


def _pair(row: tuple[object, ...]) -> Pair:
    source_id, remote_id, *contents = row
    seen_source, seen_remote, pending_source, pending_remote = (
        None if each is None else bytes(each)  # type: ignore[call-overload]  # bytea, or null
        for each in contents
    )
    return Pair(
        str(source_id),
        None if remote_id is None else str(remote_id),
        Seen(
            source=seen_source,
            remote=seen_remote,
            pending_source=pending_source,
            pending_remote=pending_remote,
        ),
    )


async def pairs_by_contact(
    session: Transaction, integration: UUID, remote_ids: Mapping[str, str | None], version: int
) -> dict[str, Pair]:
    """Return the pairs of these contacts (by their ids, with the addresses they are known by).

    By the address first: it moves with the link when records are merged. Only records that are
    linked have a pair.
    """
    found = await session.connection.fetch(
        _PAIRS_BY_CONTACT,
        integration,
        version,
        list(remote_ids),
        list(remote_ids.values()),
    )
    rows = [tuple(row.values()) for row in found]
    return {str(asked): _pair(tuple(columns)) for asked, *columns in rows}


@dataclass(frozen=True, slots=True)
class Agreed:
    """A pair as it is to be stored."""

    integration: UUID
    pair: Pair
    mapping_version: int


async def store(session: Transaction, workspace: UUID, agreed: Sequence[Agreed]) -> None:
    """Store what was seen; what was pending is over, unless it is said again."""
    await session.connection.executemany(
        """
        insert into delivery.pairs as p (integration_id, source_id, workspace_id, remote_id,
          mapping_version, seen_source, seen_remote, pending_source, pending_remote)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        on conflict (integration_id, source_id) do update set
          remote_id = coalesce(excluded.remote_id, p.remote_id),
          mapping_version = excluded.mapping_version,
          seen_source = excluded.seen_source, seen_remote = excluded.seen_remote,
          pending_source = excluded.pending_source, pending_remote = excluded.pending_remote
        """,
        [
            (
                each.integration,
                each.pair.source_id,
                workspace,
                each.pair.remote_id,
                each.mapping_version,
                each.pair.seen.source,
                each.pair.seen.remote,
                each.pair.seen.pending_source,
                each.pair.seen.pending_remote,
            )
            for each in agreed
        ],
    )


async def settle(
    session: Transaction,
    integration: UUID,
    source_ids: Mapping[str, bytes],
    *,
    is_way_back: bool,
    happened: bool,
) -> None:
    """Account for writes that may have happened, by what a look has told: content by record."""
    await session.connection.execute(
        """
        update delivery.pairs p set
          seen_source = case when $4 then u.content else p.seen_source end,
          seen_remote = case when $4 then u.content else p.seen_remote end,
          pending_source = case when $5 then null else p.pending_source end,
          pending_remote = case when $5 then p.pending_remote end
        from unnest($2::text[], $3::bytea[]) u (source_id, content)
        where p.integration_id = $1 and p.source_id = u.source_id
        """,
        integration,
        list(source_ids),
        list(source_ids.values()),
        happened,
        is_way_back,
    )


async def fence(
    session: Transaction, integration: UUID, written: Iterable[tuple[str, int]]
) -> None:
    """Let links of one flow say that the other one wrote at these times, by the provider's clock.

    What was read before that is older than what stands there now, however late it comes.
    """
    await session.connection.executemany(
        """
        update delivery.links set version_ms = greatest(version_ms, $3)
        where integration_id = $1 and source_id = $2 and state = 'linked'
        """,
        [(integration, source_id, at_ms) for source_id, at_ms in written],
    )


async def move(session: Transaction, integration: UUID, source_id: str, to: Identity) -> None:
    """Let a flow know somebody by the address that the other one has just moved him to."""
    await session.connection.execute(
        """
        update delivery.links set identity = $3, email = $4, sms = $5
        where integration_id = $1 and source_id = $2 and state = 'linked'
          and not exists (select from delivery.links o where o.identity = $3
            and o.integration_id is not distinct from $1 and o.state = 'linked'
            and o.source_id <> $2)
        """,
        integration,
        source_id,
        identity_key(to),
        to.email,
        to.sms,
    )


async def inherit(
    session: Transaction, integration: UUID, survivor: str, merged: str, *, replaces: bool
) -> None:
    """Let a survivor stand for one who was merged into it; `replaces`: in place of its own pair."""
    if replaces:
        await session.connection.execute(
            """
            delete from delivery.pairs p where p.integration_id = $1 and p.source_id = $2
              and exists (select from delivery.pairs o
                where o.integration_id = $1 and o.source_id = $3)
            """,
            integration,
            survivor,
            merged,
        )
    await session.connection.execute(
        """
        update delivery.pairs p set source_id = $2
        where p.integration_id = $1 and p.source_id = $3
          and not exists (select from delivery.pairs o
            where o.integration_id = $1 and o.source_id = $2)
        """,
        integration,
        survivor,
        merged,
    )


async def forget(session: Transaction, integration: UUID, source_ids: Sequence[str]) -> None:
    """Forget pairs of records that are not there any more."""
    await session.connection.execute(
        "delete from delivery.pairs where integration_id = $1 and source_id = any ($2)",
        integration,
        source_ids,
    )


async def end(session: Transaction, integration: UUID, source_ids: Sequence[str]) -> None:
    """Forget pairs whose record was deleted; the link that led there becomes a tombstone."""
    await forget(session, integration, source_ids)
    await session.connection.execute(
        """
        update delivery.links set state = 'removed', operation = 'delete'
        where integration_id = $1 and source_id = any ($2) and state = 'linked'
        """,
        integration,
        source_ids,
    )
