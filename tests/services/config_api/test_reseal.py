"""Rotating the sealing key: everything is sealed again, nothing fresh is overwritten (X4)."""

import asyncio
import json
import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from libs.common import database
from libs.common.database import SessionMaker
from libs.common.secrets import KeyRing, SecretsError
from services.config_api.reseal import Resealed, reseal, sealed_anew
from services.config_api.store import connections as store
from services.config_api.store.connections import Sealed
from services.config_api.units import Units

OLD = "2025:" + b64encode(b"o" * 32).decode()
NEW = "2026:" + b64encode(b"n" * 32).decode()
GONE = "2020:" + b64encode(b"g" * 32).decode()
BOTH = KeyRing.parse(f"{NEW},{OLD}")
WORKSPACE = UUID(int=1)


@pytest.fixture
async def api_sessions(role_url: Callable[[str], str]) -> AsyncIterator[SessionMaker]:
    engine = database.create_engine(role_url("api"), pool_size_max=2, application_name="t")
    yield database.session_maker(engine)
    await engine.dispose()


async def add(sessions: SessionMaker, keys: str, plain: str) -> UUID:
    connection = uuid4()
    sealed = KeyRing.parse(keys).seal(
        plain, workspace=WORKSPACE, connection=connection, field="api_key"
    )
    async with sessions.begin() as session:
        await session.execute(
            text(
                "insert into config.workspaces (workspace_id, name) values (:w, 'a')"
                " on conflict do nothing"
            ),
            {"w": WORKSPACE},
        )
        await session.execute(
            text(
                "insert into config.connections (connection_id, workspace_id, provider, name,"
                " sealed_api_key) values (:c, :w, 'acme', 'a', :s)"
            ),
            {"c": connection, "w": WORKSPACE, "s": sealed},
        )
    return connection


async def stored(sessions: SessionMaker) -> dict[UUID, str]:
    rows = await Units(sessions, None).run(store.sealed)
    return {row.connection: row.api_key or "" for row in rows}


async def test_what_an_older_key_sealed_opens_by_the_newest_alone(
    api_sessions: SessionMaker, sessions: SessionMaker
) -> None:
    """Proves X4: an old key can be taken off."""
    connection = await add(sessions, OLD, "xkey")
    await add(sessions, NEW, "already")

    assert await reseal(api_sessions, BOTH) == Resealed(resealed=1, unreadable=0)
    assert await reseal(api_sessions, BOTH) == Resealed(resealed=0, unreadable=0)

    sealed = (await stored(api_sessions))[connection]
    where = {"workspace": WORKSPACE, "connection": connection}
    assert KeyRing.parse(NEW).unseal(sealed, **where, field="api_key") == "xkey"


async def test_what_no_key_opens_is_left_and_counted(
    api_sessions: SessionMaker, sessions: SessionMaker
) -> None:
    await add(sessions, GONE, "xkey")
    before = await stored(api_sessions)

    assert await reseal(api_sessions, BOTH) == Resealed(resealed=0, unreadable=1)
    assert await stored(api_sessions) == before


async def test_credentials_that_changed_meanwhile_stay(
    api_sessions: SessionMaker, sessions: SessionMaker
) -> None:
    await add(sessions, OLD, "xkey")
    units = Units(api_sessions, None)
    [row] = await units.run(store.sealed)
    read_before = replace(row, api_key="what it was a moment ago")

    assert not await units.run(
        lambda session: store.replace_sealed(session, read_before, replace(row, api_key="new"))
    )
    assert (await stored(api_sessions))[row.connection] == row.api_key


def test_every_field_is_sealed_again_and_absent_ones_stay_absent() -> None:
    old = KeyRing.parse(OLD)
    where = {"workspace": WORKSPACE, "connection": UUID(int=2)}
    row = Sealed(
        WORKSPACE,
        UUID(int=2),
        access_token=old.seal("a", **where, field="access_token"),
        refresh_token=old.seal("r", **where, field="refresh_token"),
        api_key=None,
        client_secret=old.seal("s", **where, field="client_secret"),
    )

    fresh = sealed_anew(row, BOTH)

    assert fresh.api_key is None
    assert fresh.access_token is not None
    assert BOTH.unseal(fresh.access_token, **where, field="access_token") == "a"
    assert fresh.client_secret is not None
    newest = KeyRing.parse(NEW)
    assert newest.unseal(fresh.client_secret, **where, field="client_secret") == "s"
    with pytest.raises(SecretsError):
        sealed_anew(row, KeyRing.parse(NEW))


async def test_the_command_tells_what_it_did(
    role_url: Callable[[str], str], sessions: SessionMaker
) -> None:
    await add(sessions, OLD, "xkey")
    await add(sessions, GONE, "lost")

    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "services.config_api", "reseal"],
        env={**os.environ, "DATABASE_URL": role_url("api"), "KEYS": f"{NEW},{OLD}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert json.loads(done.stdout) == {"resealed": 1, "unreadable": 1}, done.stderr
    assert done.returncode == 1
