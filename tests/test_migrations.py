"""A database that is in use is brought to the newest version without losing what people set up."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from alembic import command
from alembic.config import Config

import migrations
from services.config_api.scopes import WORKSPACE_SCOPES
from tests.databases import Databases, in_own_loop, with_database

WORKSPACE, FULL, SMALL, REVOKED = (uuid4() for _ in range(4))
RELEASED = [  # What a workspace's first key could do in 0001.
    *("providers:read", "connections:read", "connections:write", "integrations:read"),
    *("integrations:write", "runs:read", "runs:write", "contacts:read", "quota:read"),
    *("api-keys:read", "api-keys:write", "audit:read"),
]


@pytest.fixture
def released(databases: Databases) -> Iterator[str]:
    """Return the address of a database as version 0001 leaves it."""
    name = f"released_{uuid4().hex}"
    databases._ask(f"create database {name}")
    url = with_database(databases._url, name)
    settings = Config()
    settings.set_main_option("script_location", str(Path(migrations.__file__).parent))
    settings.set_main_option("sqlalchemy.url", url)
    with ThreadPoolExecutor(1) as thread:
        thread.submit(command.upgrade, settings, "0001").result()
    yield url
    databases._ask(f"drop database {name} with (force)")


def ask(url: str, statement: str, *values: object) -> list[Any]:
    async def asked() -> list[Any]:
        connection = await asyncpg.connect(url)
        try:
            return list(await connection.fetch(statement, *values))
        finally:
            await connection.close()

    return in_own_loop(asked())


def test_who_could_do_everything_still_can_and_nobody_else_gets_more(released: str) -> None:
    """Proves X3: new scopes go to keys that had all there were, or nobody could grant them."""
    ask(released, "insert into config.workspaces (workspace_id, name) values ($1, 'n')", WORKSPACE)
    for key, scopes, is_revoked in (
        (FULL, RELEASED, False),
        (SMALL, RELEASED[:-1], False),
        (REVOKED, RELEASED, True),
    ):
        ask(
            released,
            "insert into config.api_keys (key_id, workspace_id, name, secret_sha256, scopes, "
            "revoked_at) values ($1, $2, 'n', '', $3, case when $4 then now() end)",
            key,
            WORKSPACE,
            scopes,
            is_revoked,
        )
    ask(
        released,
        "insert into config.users (user_id, workspace_id, email, muted) "
        "values ($1, $1, 'Ada@example.com', '{quota_80}')".replace("$1, $1", "$1, $2"),
        uuid4(),
        WORKSPACE,
    )
    ask(
        released,
        "insert into notices.notices (notice_id, workspace_id, kind, language, recipient, payload) "
        "values ($1, $2, 'quota_80', 'en', 'Ada@example.com', '{}')",
        uuid4(),
        WORKSPACE,
    )

    with ThreadPoolExecutor(1) as thread:
        thread.submit(migrations.upgrade, released).result()

    keys = {row["key_id"]: row["scopes"] for row in ask(released, "table config.api_keys")}
    assert set(keys[FULL]) == set(WORKSPACE_SCOPES)
    assert keys[SMALL] == RELEASED[:-1]
    assert "users:write" not in keys[REVOKED]
    (user,) = ask(released, "table config.users")
    assert (user["email"], user["muted"], user["version"]) == ("Ada@example.com", ["quota_80"], 1)
    (notice,) = ask(released, "table notices.notices")
    assert (notice["state"], notice["audience"], notice["user_id"]) == (
        "pending",
        "workspace",
        None,
    )
