"""Seals stored credentials again under the newest key, so that an old one can be taken off.

Promises: a connection whose tokens are refreshed meanwhile keeps the fresh ones (its row is only
changed if it still holds what was read); running it twice changes nothing more; a value that no
key opens is left as it is and counted, because somebody may still have that key.
"""

from dataclasses import dataclass, replace

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.database import SessionMaker
from libs.common.secrets import KeyRing, SecretsError
from libs.common.tokens import CLIENT_SECRET
from services.config_api.store import connections as store
from services.config_api.store.connections import Sealed
from services.config_api.units import Units


@dataclass(frozen=True, slots=True)
class Resealed:
    """How many connections were sealed again, and how many no key of the ring opens."""

    resealed: int
    unreadable: int


async def reseal(sessions: SessionMaker, keys: KeyRing) -> Resealed:
    """Seal every credential that an older key sealed; return what became of them."""
    units = Units(sessions, None)
    resealed = unreadable = 0
    for row in await units.run(store.sealed):
        try:
            fresh = sealed_anew(row, keys)
        except SecretsError:
            unreadable += 1
            continue
        if fresh == row:
            continue

        async def work(session: AsyncSession, old: Sealed = row, new: Sealed = fresh) -> bool:
            return await store.replace_sealed(session, old, new)

        resealed += await units.run(work)
    return Resealed(resealed, unreadable)


def sealed_anew(row: Sealed, keys: KeyRing) -> Sealed:
    """Return a connection's credentials under the newest key; raise SecretsError if none opens."""

    def anew(sealed: str | None, field: str) -> str | None:
        if sealed is None or not keys.is_outdated(sealed):
            return sealed
        plain = keys.unseal(sealed, workspace=row.workspace, connection=row.connection, field=field)
        return keys.seal(plain, workspace=row.workspace, connection=row.connection, field=field)

    return replace(
        row,
        access_token=anew(row.access_token, "access_token"),
        refresh_token=anew(row.refresh_token, "refresh_token"),
        api_key=anew(row.api_key, "api_key"),
        client_secret=anew(row.client_secret, CLIENT_SECRET),
    )
