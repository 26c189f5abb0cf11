"""Accounts get connected: by a login, by an API key, again, and never as another account."""

from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from sqlalchemy import text

from libs.common import ids
from libs.common.database import SessionMaker
from libs.common.ids import Prefix
from libs.common.tokens import Client
from services.config_api import connect
from tests.services.config_api.clocks import MovedClock
from tests.services.config_api.served import (
    BREVO_KEY,
    Served,
    config_api,
    connect_brevo,
    connect_hubspot,
    grant,
    pointers,
)

RETURN = "https://app.example/done?step=2"


async def start_login(api: httpx.AsyncClient, **body: str) -> tuple[str, str]:
    """Make a HubSpot connection and start its login; return its id and the login page."""
    made = await api.post("/v1/connections", json={"provider": "hubspot", "name": "H"})
    connection = made.json()["id"]
    asked = await api.post(f"/v1/connections/{connection}:authorize", json=body)
    assert asked.status_code == 200, asked.text
    return connection, asked.json()["authorize_url"]


async def state_of(api: httpx.AsyncClient, connection: str) -> str:
    return str((await api.get(f"/v1/connections/{connection}")).json()["state"])


async def test_a_login_connects_the_account(api: httpx.AsyncClient, sessions: SessionMaker) -> None:
    """Proves W2 and X4: what is stored is sealed."""
    connection, page = await start_login(api)
    pending = await state_of(api, connection)

    back = await api.get(await grant(page), headers={"accept": "text/html"})

    shown = (await api.get(f"/v1/connections/{connection}")).json()
    async with sessions.begin() as session:
        row = (
            await session.execute(
                text(
                    "select sealed_access_token, sealed_refresh_token, sealed_api_key"
                    " from config.connections"
                )
            )
        ).one()
    assert pending == "pending"
    assert back.status_code == 200
    assert "is connected" in back.text
    assert (shown["state"], shown["account_id"]) == ("connected", "1000001")
    assert row.sealed_access_token.startswith("v1|one|")
    assert row.sealed_refresh_token.startswith("v1|one|")
    assert row.sealed_api_key is None


async def test_the_login_page_is_asked_with_a_state_and_a_challenge(
    api: httpx.AsyncClient,
) -> None:
    _, page = await start_login(api)

    query = parse_qs(urlsplit(page).query)

    assert query["redirect_uri"] == ["http://api.example/v1/oauth/callback"]
    assert len(query["state"][0]) >= 43
    assert query["code_challenge_method"] == ["S256"]


async def test_a_front_end_gets_its_user_back(api: httpx.AsyncClient) -> None:
    connection, page = await start_login(api, return_url=RETURN)

    back = await api.get(await grant(page))

    assert back.status_code == 303
    assert back.headers["location"] == (
        f"https://app.example/done?step=2&connection_id={connection}&result=connected"
    )


async def test_a_user_who_refuses_is_sent_back_with_the_reason(api: httpx.AsyncClient) -> None:
    connection, page = await start_login(api, return_url=RETURN)

    back = await api.get(await grant(page, "deny"))

    assert back.headers["location"].endswith(f"connection_id={connection}&error=login_failed")
    assert await state_of(api, connection) == "pending"


FOREIGN = (
    "https://evil.example/",
    "http://127.0.0.1:1/",
    "//app.example",
    "https://[",
    "javascript:1",
)


async def test_browsers_are_not_sent_just_anywhere(api: httpx.AsyncClient) -> None:
    made = await api.post("/v1/connections", json={"provider": "hubspot", "name": "H"})
    path = f"/v1/connections/{made.json()['id']}:authorize"

    for return_url in FOREIGN:
        answer = await api.post(path, json={"return_url": return_url})
        assert (answer.status_code, pointers(answer)) == (422, ["/return_url"]), return_url


async def test_a_state_works_once(api: httpx.AsyncClient) -> None:
    """Proves X3: nobody finishes a login twice, or one that he did not start."""
    _, page = await start_login(api)
    callback = await grant(page)
    await api.get(callback)

    again = await api.get(callback)
    foreign = await api.get("/v1/oauth/callback?state=guessed&code=1")
    shown = await api.get("/v1/oauth/callback?state=guessed", headers={"accept": "text/html"})

    assert (again.status_code, again.json()["code"]) == (400, "login_failed")
    assert foreign.status_code == 400
    assert shown.headers["content-type"].startswith("text/html")
    assert shown.status_code == 400


async def test_a_new_login_makes_the_one_before_void(api: httpx.AsyncClient) -> None:
    connection, first = await start_login(api)
    second = await api.post(f"/v1/connections/{connection}:authorize")

    late = await api.get(await grant(first))
    right = await api.get(await grant(second.json()["authorize_url"]))

    assert (late.status_code, right.status_code) == (400, 200)


async def test_a_login_lasts_ten_minutes(api: httpx.AsyncClient, sessions: SessionMaker) -> None:
    connection, page = await start_login(api)
    async with sessions.begin() as session:
        await session.execute(
            text("update config.oauth_states set expires_at = now() - interval '1 second'")
        )

    answer = await api.get(await grant(page))

    assert answer.json()["detail"] == "The login took too long."
    assert await state_of(api, connection) == "pending"


async def test_the_end_of_a_login_is_ten_minutes_from_its_start(
    role_url: Callable[[str], str], sessions: SessionMaker
) -> None:
    async with config_api(role_url("api"), sessions, clock=MovedClock()) as served:
        workspace = await served.make_workspace()
        async with served.caller(workspace["api_key"]["secret"]) as api:
            made = await api.post("/v1/connections", json={"provider": "hubspot", "name": "H"})
            asked = await api.post(f"/v1/connections/{made.json()['id']}:authorize")

    assert asked.json()["expires_at"] == "2026-11-24T12:10:00Z"
    assert connect.LOGIN_S == 600


async def test_a_code_that_the_provider_does_not_take_connects_nothing(
    served: Served, api: httpx.AsyncClient
) -> None:
    connection, page = await start_login(api)
    callback = urlsplit(await grant(page))
    state = parse_qs(callback.query)["state"][0]

    answer = await api.get(f"/v1/oauth/callback?state={state}&code=wrong")

    assert answer.status_code in (400, 422)
    assert await state_of(api, connection) == "pending"


async def test_a_provider_that_is_away_leaves_the_connection_as_it_was(
    served: Served, api: httpx.AsyncClient
) -> None:
    connection, page = await start_login(api)
    callback = await grant(page)
    await served.fail("hubspot", "POST", "/token$", kind="status", status=503)

    answer = await api.get(callback)

    assert answer.status_code == 502
    assert await state_of(api, connection) == "pending"


async def test_logging_in_again_keeps_the_account(
    served: Served, api: httpx.AsyncClient, sessions: SessionMaker
) -> None:
    connection = await connect_hubspot(api)
    await needs_reauth(sessions, connection)

    asked = await api.post(f"/v1/connections/{connection}:reauthorize")
    await api.get(await grant(asked.json()["authorize_url"]))

    assert await state_of(api, connection) == "connected"


async def needs_reauth(sessions: SessionMaker, connection: str) -> None:
    async with sessions.begin() as session:
        await session.execute(
            text(
                "update config.connections set state = 'needs_reauth', reason = 'revoked'"
                " where connection_id = :connection"
            ),
            {"connection": ids.parse(Prefix.CONNECTION, connection)},
        )


async def test_a_login_to_another_account_is_refused(
    served: Served, api: httpx.AsyncClient, sessions: SessionMaker
) -> None:
    """Proves X3: links and quota belong to the account that was connected."""
    connection = await connect_hubspot(api)
    async with sessions.begin() as session:
        await session.execute(text("update config.connections set account_id = 'another'"))

    asked = await api.post(f"/v1/connections/{connection}:reauthorize", json={"return_url": RETURN})
    back = await api.get(await grant(asked.json()["authorize_url"]))

    assert back.headers["location"].endswith("error=account_changed")


async def test_an_api_key_is_tried_before_it_is_kept(
    api: httpx.AsyncClient, sessions: SessionMaker
) -> None:
    """Proves W2 and X4."""
    made = await api.post(
        "/v1/connections", json={"provider": "brevo", "name": "B", "api_key": BREVO_KEY}
    )
    refused = await api.post(
        "/v1/connections", json={"provider": "brevo", "name": "B", "api_key": "xkeysib-wrong"}
    )

    async with sessions.begin() as session:
        kept = await session.scalar(text("select sealed_api_key from config.connections"))
    assert made.json()["state"] == "connected"
    assert BREVO_KEY not in made.text
    assert kept.startswith("v1|")
    assert BREVO_KEY not in kept
    assert (refused.status_code, refused.json()["code"]) == (422, "credential_refused")
    assert pointers(refused) == ["/api_key"]
    assert len((await api.get("/v1/connections")).json()["items"]) == 1


async def test_a_provider_in_trouble_is_not_a_wrong_key(
    served: Served, api: httpx.AsyncClient
) -> None:
    await served.fail("brevo", "GET", "/account", kind="status", status=503)

    answer = await api.post(
        "/v1/connections", json={"provider": "brevo", "name": "B", "api_key": BREVO_KEY}
    )

    assert (answer.status_code, answer.json()["code"]) == (502, "provider_unavailable")
    assert (await api.get("/v1/connections")).json()["items"] == []


async def test_a_new_api_key_must_be_of_the_same_account(
    served: Served, api: httpx.AsyncClient
) -> None:
    connection = await connect_brevo(api)
    second = await served.control("brevo", "POST", "accounts", {"name": "second"})

    same = await api.post(f"/v1/connections/{connection}:reauthorize", json={"api_key": BREVO_KEY})
    other = await api.post(
        f"/v1/connections/{connection}:reauthorize", json={"api_key": second["api_key"]}
    )

    assert same.json()["connection"]["state"] == "connected"
    assert (other.status_code, other.json()["code"]) == (409, "account_changed")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"provider": "nothing", "name": "n"}, "/provider"),
        ({"provider": "brevo", "name": "n"}, "/api_key"),
        ({"provider": "hubspot", "name": "n", "api_key": "x"}, "/api_key"),
    ],
)
async def test_a_connection_is_made_the_way_its_provider_wants(
    api: httpx.AsyncClient, body: dict[str, str], pointer: str
) -> None:
    answer = await api.post("/v1/connections", json=body)

    assert answer.status_code == 422
    assert pointers(answer) == [pointer]


async def test_there_is_no_login_where_an_api_key_is_used(api: httpx.AsyncClient) -> None:
    connection = await connect_brevo(api)

    answer = await api.post(f"/v1/connections/{connection}:authorize")

    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "no_login")


async def test_a_login_needs_an_application_that_the_operator_registered(
    served: Served, api: httpx.AsyncClient
) -> None:
    made = await api.post("/v1/connections", json={"provider": "hubspot", "name": "H"})
    clients = served.parts.accounts.opener.clients  # type: ignore[attr-defined]  # of the real accounts
    clients["hubspot"] = Client("", "")

    answer = await api.post(f"/v1/connections/{made.json()['id']}:authorize")

    assert (answer.status_code, answer.json()["provider_code"]) == (422, "client_not_configured")


async def test_a_call_through_a_connection_that_does_not_work_says_how_to_mend_it(
    api: httpx.AsyncClient, sessions: SessionMaker
) -> None:
    """Proves X1."""
    pending, _ = await start_login(api)
    dead = await connect_brevo(api)
    await needs_reauth(sessions, dead)

    not_yet = await api.get(f"/v1/connections/{pending}/lists")
    no_more = await api.get(f"/v1/connections/{dead}/lists")

    assert (not_yet.status_code, not_yet.json()["code"]) == (424, "connection_pending")
    assert not_yet.json()["authorize_url"] == f"/v1/connections/{pending}:authorize"
    assert (no_more.status_code, no_more.json()["code"]) == (424, "connection_needs_reauth")
    assert no_more.json()["reauthorize_url"] == f"/v1/connections/{dead}:reauthorize"


async def test_credentials_that_were_refused_three_times_need_a_person(
    served: Served, api: httpx.AsyncClient
) -> None:
    connection = await connect_brevo(api)
    body = {"code": "unauthorized", "message": "Key not found"}
    states = []
    for _ in range(3):
        await served.fail("brevo", "GET", "/contacts/lists", kind="status", status=401, body=body)
        answer = await api.get(f"/v1/connections/{connection}/lists")
        states.append((answer.status_code, await state_of(api, connection)))

    assert states == [(424, "connected"), (424, "connected"), (424, "needs_reauth")]


async def test_testing_shows_whose_account_it_is(api: httpx.AsyncClient) -> None:
    source, destination = await connect_hubspot(api), await connect_brevo(api)

    crm = await api.post(f"/v1/connections/{source}:test")
    mail = await api.post(f"/v1/connections/{destination}:test")

    assert crm.json()["account_id"] == "1000001"
    assert mail.status_code == 200


async def test_calls_of_the_wizard_take_their_share_of_the_providers_limits(
    role_url: Callable[[str], str], sessions: SessionMaker
) -> None:
    """Proves S10: people's calls are counted with everyone else's."""
    async with config_api(role_url("api"), sessions, paced=True) as served:
        workspace = await served.make_workspace()
        async with served.caller(workspace["api_key"]["secret"]) as api:
            connection = await connect_hubspot(api)
            answer = await api.get(f"/v1/connections/{connection}/lists?object=contacts")
    async with sessions.begin() as session:
        scopes = (await session.execute(text("select distinct scope from limits.slots"))).scalars()

    assert answer.status_code == 200, answer.text
    assert list(scopes) == ["hubspot:1000001"]


ACTIVECAMPAIGN = {
    "provider": "activecampaign",
    "name": "Our ActiveCampaign",
    "api_key": "activecampaign-sandbox",
    "account_url": " https://Default.api-us1.com/ ",
}


async def test_an_account_with_an_address_of_its_own_is_connected(
    api: httpx.AsyncClient, sessions: SessionMaker
) -> None:
    """Proves W2 for ActiveCampaign: its address and a key, and the list and field made in place."""
    made = await api.post("/v1/connections", json=ACTIVECAMPAIGN)

    connection = made.json()
    path = f"/v1/connections/{connection['id']}"
    renewed = {"api_key": ACTIVECAMPAIGN["api_key"]}
    again = await api.post(f"{path}:reauthorize", json=renewed)
    field = await api.post(f"{path}/fields", json={"name": "Loyalty tier", "type": "number"})
    news = await api.post(f"{path}/lists", json={"name": "News"})
    assert made.status_code == 201, made.text
    assert (connection["state"], connection["account_id"]) == ("connected", "default.api-us1.com")
    assert connection["account_url"] == "https://default.api-us1.com/api/3"
    assert (await api.get(path)).json()["account_url"] == connection["account_url"]
    assert again.status_code == 200, again.text
    assert field.json() == {"name": "LOYALTY_TIER", "type": "number"}
    assert news.status_code == 201, news.text


@pytest.mark.parametrize(
    ("account_url", "code"),
    [
        (None, "account_url_missing"),
        ("https://169.254.169.254/api/3", "address_not_allowed"),
        ("http://default.api-us1.com", "address_not_allowed"),
        ("https://default.api-us1.com.evil.example", "address_not_allowed"),
    ],
)
async def test_a_key_goes_to_no_address_but_the_providers(
    api: httpx.AsyncClient, account_url: str | None, code: str
) -> None:
    """Proves X1, X4: an address that somebody typed is hostile until it is checked."""
    answer = await api.post("/v1/connections", json={**ACTIVECAMPAIGN, "account_url": account_url})

    assert (answer.status_code, pointers(answer)) == (422, ["/account_url"])
    assert answer.json()["errors"][0]["code"] == code
    assert (await api.get("/v1/connections")).json()["items"] == []


async def test_an_address_is_refused_where_all_accounts_share_one(api: httpx.AsyncClient) -> None:
    wanted = {"provider": "brevo", "name": "B", "api_key": BREVO_KEY}

    answer = await api.post(
        "/v1/connections", json={**wanted, "account_url": "https://api.brevo.com"}
    )

    assert (answer.status_code, pointers(answer)) == (422, ["/account_url"])
