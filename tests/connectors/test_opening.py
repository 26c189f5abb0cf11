"""From a stored connection to calls, over the real database and both sandboxes."""

import base64
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from libs.common.clock import SystemClock
from libs.common.database import SessionMaker, transactions_of
from libs.common.errors import NeedsReauthError
from libs.common.postgres import fetch_alone
from libs.common.rates import RateGate
from libs.common.secrets import KeyRing, Sealed
from libs.common.settings import Environment
from libs.common.tokens import Client
from libs.connectors import oauth
from libs.connectors.contract import Account, OpenGate
from libs.connectors.http import HttpClient
from libs.connectors.opening import Opener, StoredConnection
from sandbox.brevo.app import create_app as brevo
from sandbox.brevo.state import State as BrevoState
from sandbox.hubspot.app import create_app as hubspot
from sandbox.hubspot.state import State as HubSpotState
from tests.connectors.served import RecordingGate, Served, served

WORKSPACE = UUID(int=1)
SOURCE = StoredConnection(WORKSPACE, UUID(int=2), "hubspot")
DESTINATION = StoredConnection(WORKSPACE, UUID(int=3), "brevo")
KEYS = KeyRing.parse("k:" + base64.b64encode(b"k" * 32).decode())
OURS = Client("sandbox-client", "sandbox-secret")


@pytest.fixture
async def provider() -> AsyncIterator[Served]:
    """HubSpot's sandbox: its control interface."""
    async with served(hubspot(HubSpotState())) as one:
        yield one


@pytest.fixture
async def opener(provider: Served, sessions: SessionMaker) -> AsyncIterator[Opener]:
    """Return an opener for both sandboxes; neither connection has credentials yet."""
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(served(brevo(BrevoState())))
        urls = {"hubspot": provider.url, "brevo": other.url}
        http = HttpClient(environment=Environment.TEST, loopback_urls=urls)
        stack.push_async_callback(http.aclose)
        async with sessions.begin() as session:
            await session.execute(
                text("insert into config.workspaces (workspace_id, name) values (:w, 'a')"),
                {"w": WORKSPACE},
            )
            for stored in (SOURCE, DESTINATION):
                await session.execute(
                    text(
                        "insert into config.connections "
                        "(connection_id, workspace_id, provider, name) values (:c, :w, :p, 'a')"
                    ),
                    {"c": stored.connection, "w": WORKSPACE, "p": stored.provider},
                )
        yield Opener(
            http=http,
            transactions=transactions_of(sessions),
            keys=KEYS,
            clock=SystemClock(),
            patience_s=5.0,
            clients={"hubspot": OURS},
            base_urls=urls,
        )


async def keep(opener: Opener, stored: StoredConnection, column: str, secret: str) -> None:
    """Seal a credential and store it, as the API does when a person connects."""
    sealed = opener.keys.seal(
        secret, workspace=WORKSPACE, connection=stored.connection, field=column
    )
    await fetch_alone(
        opener.transactions,
        f"update config.connections set sealed_{column} = $1 where connection_id = $2",
        sealed,
        stored.connection,
    )


async def test_a_destination_is_opened_by_its_stored_key(opener: Opener) -> None:
    await keep(opener, DESTINATION, "api_key", "xkeysib-sandbox")

    account = await (await opener.destination(DESTINATION)).check()

    assert account.name == "default"


async def test_a_credential_that_is_not_stored_yet_can_be_tried(opener: Opener) -> None:
    by_token = await opener.source(SOURCE, credential="pat-sandbox")
    by_key = await opener.destination(DESTINATION, credential="unknown")

    assert (await by_token.check()).id == "1000001"
    with pytest.raises(NeedsReauthError):
        await by_key.check()


async def test_stored_tokens_are_refreshed_when_they_end(opener: Opener, provider: Served) -> None:
    """Proves W2, X4: whoever opens the connection next finds the fresh tokens."""
    tokens = await provider.post("tokens", {})
    await keep(opener, SOURCE, "access_token", "ended")
    await keep(opener, SOURCE, "refresh_token", tokens["refresh_token"])
    await fetch_alone(
        opener.transactions,
        "update config.connections set token_expires_at = $1 where connection_id = $2",
        datetime.now(UTC) - timedelta(hours=1),
        SOURCE.connection,
    )

    accounts = [await (await opener.source(SOURCE)).check() for _ in range(2)]

    assert [account.id for account in accounts] == ["1000001"] * 2
    refreshes = [count for name, count in (await provider.calls()).items() if "token" in name]
    assert refreshes == [1]


async def test_a_connection_without_credentials_must_be_connected(opener: Opener) -> None:
    source = await opener.source(SOURCE)

    with pytest.raises(NeedsReauthError):
        await source.check()


async def test_credentials_that_came_along_are_not_looked_for(opener: Opener) -> None:
    """What is stored is another's, so that the account tells whose credentials were used."""
    await keep(opener, SOURCE, "access_token", "unknown")
    token, key = (
        opener.keys.seal(secret, workspace=WORKSPACE, connection=each.connection, field=field)
        for each, field, secret in (
            (SOURCE, "access_token", "pat-sandbox"),
            (DESTINATION, "api_key", "xkeysib-sandbox"),
        )
    )
    to_read = replace(SOURCE, sealed=Sealed("hubspot", access_token=token))
    to_write = replace(DESTINATION, sealed=Sealed("brevo", api_key=key))

    source = await opener.source(to_read)
    destination = await opener.destination(to_write)

    assert (await source.check()).id == "1000001"
    assert (await destination.check()).name == "default"


async def test_another_gate_may_stand_before_the_calls(opener: Opener) -> None:
    gate = RecordingGate()
    destination = await opener.destination(DESTINATION, credential="xkeysib-sandbox", gate=gate)

    await destination.check()

    assert gate.entered == ["other"]


def test_limits_are_counted_for_the_account_and_its_tier(opener: Opener) -> None:
    """Proves S10 in part: two connections to one account share its limits."""
    known = replace(SOURCE, account=Account("7", "one", "US/Eastern", tier="enterprise"))
    odd = replace(SOURCE, account=Account("7", "one", tier="a new tier"))

    assert all(isinstance(opener.gate(stored), RateGate) for stored in (SOURCE, known, odd))
    assert isinstance(replace(opener, paced=False).gate(SOURCE), OpenGate)
    assert [limit.per_day for limit in opener._limits("hubspot", "enterprise")] == [500_000] * 2
    assert [limit.per_day for limit in opener._limits("hubspot", "a new tier")] == [250_000] * 2


def test_runs_of_one_account_share_a_gate_and_people_do_not(opener: Opener) -> None:
    """Proves S10 in part: a slot that one run leaves is another's, of whichever connection."""
    ours = replace(SOURCE, account=Account("7", "one"))
    theirs = replace(ours, connection=uuid4(), workspace=uuid4())
    other = replace(SOURCE, account=Account("8", "two"))
    wizard = replace(opener, lane="interactive")

    gate = opener.gate(ours)

    assert opener.gate(theirs) is gate
    assert opener.gate(other) is not gate
    assert wizard.gate(ours) is not wizard.gate(ours)


def test_all_connections_to_an_account_share_its_limits(opener: Opener) -> None:
    """Proves S10: of whatever workspace; the application's are everybody's."""
    account = Account("7", "one")
    gates = [
        opener.gate(replace(SOURCE, connection=uuid4(), account=each))
        for each in (account, account, replace(account, id="8"), None, None)
    ]

    scopes = [gate._scopes for gate in gates if isinstance(gate, RateGate)]
    assert {each["application"] for each in scopes} == {"hubspot:application"}
    assert [each["account"] for each in scopes[:3]] == ["hubspot:7", "hubspot:7", "hubspot:8"]
    assert len({each["account"] for each in scopes}) == 4


def test_a_provider_without_oauth_has_no_token_endpoint(opener: Opener) -> None:
    assert opener.endpoint("hubspot").facts.token_url.startswith("http://127.0.0.1")
    assert oauth.placed(opener.endpoint("hubspot").facts, None).uses_pkce
    with pytest.raises(LookupError, match="brevo"):
        opener.endpoint("brevo")
