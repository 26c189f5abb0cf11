"""Credentials at rest in the real database (X4)."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from libs.common.database import SessionMaker
from libs.common.errors import NeedsReauthError
from libs.common.postgres import Transactions, create_pool
from libs.common.secrets import KeyRing, Sealed
from libs.common.tokens import Client, StoredTokens, Tokens

WORKSPACE, CONNECTION = UUID(int=1), UUID(int=2)
KEYS = KeyRing.parse("k:" + base64.b64encode(b"k" * 32).decode())
LATER = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.fixture(params=["poller", "api"])
async def tokens(
    request: pytest.FixtureRequest, role_url: Callable[[str], str], sessions: SessionMaker
) -> AsyncIterator[StoredTokens]:
    async with sessions.begin() as session:
        await session.execute(
            text("insert into config.workspaces (workspace_id, name) values (:w, 'a')"),
            {"w": WORKSPACE},
        )
        await session.execute(
            text(
                "insert into config.connections (connection_id, workspace_id, provider, name) "
                "values (:c, :w, 'acme', 'a')"
            ),
            {"c": CONNECTION, "w": WORKSPACE},
        )
    pool = create_pool(role_url(request.param), size_max=3, application_name="test")
    yield StoredTokens(Transactions(pool), KEYS, WORKSPACE, as_api=request.param == "api")
    await pool.close()


async def test_stored_tokens_are_sealed_and_come_back(
    tokens: StoredTokens, sessions: SessionMaker
) -> None:
    """Proves X4."""
    assert await tokens.store_tokens(
        CONNECTION, 0, access_token="secret-a", refresh_token="secret-r", expires_at=LATER
    )

    async with sessions.begin() as session:
        row = await session.execute(text("select * from config.connections"))
        assert "secret" not in str(row.all())
    loaded = await tokens.load(CONNECTION)
    assert (loaded.access_token, loaded.refresh_token) == ("secret-a", "secret-r")
    assert (loaded.expires_at, loaded.version) == (LATER, 1)


async def test_tokens_come_with_the_application_that_they_were_given_to(
    tokens: StoredTokens, sessions: SessionMaker
) -> None:
    """Proves CC5: it alone can refresh them."""
    secret = KEYS.seal("s", workspace=WORKSPACE, connection=CONNECTION, field="client_secret")
    await tokens.store_tokens(CONNECTION, 0, access_token="a", refresh_token="r", expires_at=LATER)
    ours = await tokens.load(CONNECTION)
    async with sessions.begin() as session:
        await session.execute(
            text("update config.connections set client_id = 'own', sealed_client_secret = :s"),
            {"s": secret},
        )

    own = await tokens.load(CONNECTION)

    assert (ours.client, own.client) == (None, Client("own", "s"))


async def test_where_an_account_is_called_is_stored_with_its_tokens(
    tokens: StoredTokens, sessions: SessionMaker
) -> None:
    """Who lost the race for the tokens moves nothing; an answer without an address neither."""

    async def store(version: int, url: str | None) -> tuple[bool, str | None]:
        stored = await tokens.store_tokens(
            *(CONNECTION, version),
            access_token="a",
            refresh_token=None,
            expires_at=LATER,
            account_url=url,
        )
        async with sessions.begin() as session:
            found = await session.scalar(text("select account_url from config.connections"))
        return stored, found

    assert await store(0, "https://one.example.com") == (True, "https://one.example.com")
    assert await store(0, "https://two.example.com") == (False, "https://one.example.com")
    assert await store(1, None) == (True, "https://one.example.com")
    assert await store(2, "https://two.example.com") == (True, "https://two.example.com")


async def test_of_two_that_refreshed_one_stores(tokens: StoredTokens) -> None:
    stored = await asyncio.gather(
        *(
            tokens.store_tokens(
                CONNECTION, 0, access_token=name, refresh_token=None, expires_at=LATER
            )
            for name in ("a", "b")
        )
    )

    assert sorted(stored) == [False, True]


async def test_one_at_a_time_has_the_right_to_refresh(tokens: StoredTokens) -> None:
    first, second = uuid4(), uuid4()

    assert await tokens.begin_refresh(CONNECTION, first, 30.0)
    assert await tokens.begin_refresh(CONNECTION, first, 30.0)
    assert not await tokens.begin_refresh(CONNECTION, second, 30.0)
    await tokens.store_tokens(CONNECTION, 0, access_token="a", refresh_token="r", expires_at=LATER)
    assert await tokens.begin_refresh(CONNECTION, second, 30.0)


async def test_a_connection_without_credentials_must_be_connected(tokens: StoredTokens) -> None:
    with pytest.raises(NeedsReauthError, match="never connected"):
        await tokens.load(CONNECTION)
    with pytest.raises(NeedsReauthError, match="it is no more"):
        await tokens.load(uuid4())
    assert await tokens.credential(CONNECTION) is None


async def test_an_api_key_opens_in_its_own_row(
    tokens: StoredTokens, sessions: SessionMaker
) -> None:
    sealed = KEYS.seal("xkey", workspace=WORKSPACE, connection=CONNECTION, field="api_key")
    async with sessions.begin() as session:
        await session.execute(
            text("update config.connections set sealed_api_key = :s"), {"s": sealed}
        )

    assert await tokens.credential(CONNECTION) == "xkey"


async def test_what_was_read_already_is_opened_without_a_look(tokens: StoredTokens) -> None:
    """The row says nothing, so all of it is out of what was handed over."""

    def seal(secret: str, field: str, connection: UUID = CONNECTION) -> str:
        return KEYS.seal(secret, workspace=WORKSPACE, connection=connection, field=field)

    by_key = Sealed("acme", api_key=seal("xkey", "api_key"))
    by_tokens = Sealed(
        "acme",
        access_token=seal("a", "access_token"),
        refresh_token=seal("r", "refresh_token"),
        expires_at=LATER,
        version=7,
    )
    anothers = Sealed("acme", api_key=seal("xkey", "api_key", connection=uuid4()))

    assert await tokens.credential(CONNECTION, by_key) == "xkey"
    assert await tokens.credential(CONNECTION, by_tokens) == Tokens("a", "r", LATER, 7)
    with pytest.raises(NeedsReauthError):
        await tokens.credential(CONNECTION, anothers)


async def test_a_key_that_was_taken_off_is_asked_for(
    tokens: StoredTokens, sessions: SessionMaker
) -> None:
    other = KeyRing.parse("gone:" + base64.b64encode(b"g" * 32).decode())
    sealed = other.seal("xkey", workspace=WORKSPACE, connection=CONNECTION, field="api_key")
    async with sessions.begin() as session:
        await session.execute(
            text("update config.connections set sealed_api_key = :s"), {"s": sealed}
        )

    with pytest.raises(NeedsReauthError, match="put that key back"):
        await tokens.credential(CONNECTION)
