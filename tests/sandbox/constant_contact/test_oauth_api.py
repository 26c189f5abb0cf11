"""Logging in: both flows, refresh tokens that work once, and what a token may do."""

import re
from base64 import b64encode
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from sandbox.login import challenge
from tests.sandbox.constant_contact.served import Served

BACK = "http://127.0.0.1/back"
SCOPES = "contact_data account_read offline_access"
CLIENT = {"client_id": "sandbox-client", "client_secret": "sandbox-secret"}
TOKEN = "/oauth2/default/v1/token"
BASIC = {"authorization": f"Basic {b64encode(b'sandbox-client:sandbox-secret').decode()}"}


async def code_of(served: Served, decision: str = "approve", **asked: str) -> dict[str, list[str]]:
    """Go through the login page; return the query that a browser comes back with."""
    usual = {
        "client_id": "sandbox-client",
        "redirect_uri": BACK,
        "response_type": "code",
        "scope": SCOPES,
        "state": "s1",
    }
    page = await served.http.get("/oauth2/default/v1/authorize", params={**usual, **asked})
    assert page.status_code == 200, page.text
    form = {
        unescape(name): unescape(value)
        for name, value in re.findall(r'type="hidden" name="([^"]*)" value="([^"]*)"', page.text)
    }
    back = await served.http.post(
        "/oauth2/default/v1/authorize", data={**form, "decision": decision}
    )
    assert back.status_code == 302
    return parse_qs(urlsplit(back.headers["location"]).query)


async def redeemed(served: Served, **grant: str) -> httpx.Response:
    form = {"grant_type": "authorization_code", "redirect_uri": BACK, **grant}
    return await served.http.post(TOKEN, data=form, headers=BASIC)


async def refreshed(served: Served, token: str) -> httpx.Response:
    form = {"grant_type": "refresh_token", "refresh_token": token}
    return await served.http.post(TOKEN, data=form, headers=BASIC)


async def granted(served: Served, **asked: str) -> dict[str, Any]:
    back = await code_of(served, **asked)
    answer = await redeemed(served, code=back["code"][0])
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_a_code_is_exchanged_once(served: Served) -> None:
    back = await code_of(served)

    first = await redeemed(served, code=back["code"][0])
    second = await redeemed(served, code=back["code"][0])

    told = first.json()
    assert back["state"] == ["s1"]
    assert (told["token_type"], told["expires_in"]) == ("Bearer", 86_400)
    assert told["scope"] == SCOPES
    assert len(told["access_token"]) > 1_000
    assert (second.status_code, second.json()["error"]) == (400, "invalid_grant")


async def test_what_one_application_was_given_is_of_no_use_to_another(served: Served) -> None:
    await served.control(
        "POST", "applications", {"client_id": "own", "client_secret": "own-secret"}
    )
    own = {"authorization": f"Basic {b64encode(b'own:own-secret').decode()}"}
    theirs = await granted(served)
    code = (await code_of(served))["code"][0]
    own_code = (await code_of(served, client_id="own"))["code"][0]
    form = {"grant_type": "authorization_code", "redirect_uri": BACK}
    refresh = {"grant_type": "refresh_token", "refresh_token": theirs["refresh_token"]}

    taken = [
        await served.http.post(TOKEN, data={**form, "code": code}, headers=own),
        await served.http.post(TOKEN, data=refresh, headers=own),
    ]
    right = await served.http.post(TOKEN, data={**form, "code": own_code}, headers=own)
    wrong_secret = await served.http.post(
        TOKEN, data={**form, "client_id": "own", "client_secret": "sandbox-secret"}
    )

    assert [each.json()["error"] for each in taken] == ["invalid_grant", "invalid_grant"]
    assert right.status_code == 200, right.text
    assert (wrong_secret.status_code, wrong_secret.json()["error"]) == (401, "invalid_client")


async def test_a_code_lives_five_minutes(served: Served) -> None:
    back = await code_of(served)
    served.time.now_s += 300

    assert (await redeemed(served, code=back["code"][0])).json()["error"] == "invalid_grant"


async def test_a_code_is_for_one_redirect_address(served: Served) -> None:
    back = await code_of(served)

    answer = await redeemed(served, code=back["code"][0], redirect_uri="http://127.0.0.1/else")

    assert answer.json()["error"] == "invalid_grant"


async def test_a_person_may_say_no(served: Served) -> None:
    assert (await code_of(served, "deny"))["error"] == ["access_denied"]


async def test_a_refresh_token_works_once(served: Served) -> None:
    """Each refresh gives another one, and ends all before it."""
    first = (await granted(served))["refresh_token"]
    second = (await refreshed(served, first)).json()["refresh_token"]
    third = (await refreshed(served, second)).json()["refresh_token"]

    answers = [(await refreshed(served, each)).status_code for each in (first, second, third)]

    assert len({first, second, third}) == 3
    assert answers == [400, 400, 200]


async def test_a_long_lived_refresh_token_stays(served: Served) -> None:
    await served.control("PUT", "settings", {"refresh_tokens": "long_lived"})
    token = (await granted(served))["refresh_token"]

    again = [(await refreshed(served, token)).json()["refresh_token"] for _ in range(2)]

    assert again == [token, token]


async def test_a_refresh_token_that_nobody_uses_for_180_days_dies(served: Served) -> None:
    token = (await granted(served))["refresh_token"]
    served.time.now_s += 180 * 86_400

    answer = await refreshed(served, token)

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


async def test_without_offline_access_there_is_no_refresh_token_and_no_error(
    served: Served,
) -> None:
    assert "refresh_token" not in await granted(served, scope="contact_data account_read")


async def test_a_client_without_a_secret_proves_itself_by_pkce(served: Served) -> None:
    verifier = "v" * 43
    asked = {"code_challenge": challenge(verifier), "code_challenge_method": "S256"}
    wrong, right, none = [await code_of(served, **asked) for _ in range(3)]
    form = {"grant_type": "authorization_code", "redirect_uri": BACK, "client_id": "sandbox-client"}

    answers = [
        await served.http.post(TOKEN, data={**form, "code": each["code"][0], **more})
        for each, more in (
            (wrong, {"code_verifier": "w" * 43}),
            (right, {"code_verifier": verifier}),
            (none, {}),
        )
    ]

    assert [each.status_code for each in answers] == [400, 200, 401]
    refreshed_publicly = await served.http.post(
        TOKEN,
        data={
            "grant_type": "refresh_token",
            "client_id": "sandbox-client",
            "refresh_token": answers[1].json()["refresh_token"],
        },
    )
    assert refreshed_publicly.status_code == 200


@pytest.mark.parametrize("where", ["header", "body", "address"])
async def test_a_client_may_show_its_secret_in_several_places(served: Served, where: str) -> None:
    back = await code_of(served)
    form = {
        "grant_type": "authorization_code",
        "redirect_uri": BACK,
        "code": back["code"][0],
    }
    if where == "header":
        answer = await served.http.post(TOKEN, data=form, headers=BASIC)
    elif where == "body":
        answer = await served.http.post(TOKEN, data={**form, **CLIENT})
    else:
        answer = await served.http.post(TOKEN, params=form, headers=BASIC)

    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("headers", "form", "status", "error"),
    [
        ({}, {**CLIENT, "client_secret": "wrong"}, 401, "invalid_client"),
        ({}, {}, 401, "invalid_client"),
        ({"authorization": "Basic ?"}, {}, 401, "invalid_client"),
        (BASIC, {"grant_type": "password"}, 400, "unsupported_grant_type"),
    ],
)
async def test_a_client_that_is_wrong_is_told(
    served: Served, headers: dict[str, str], form: dict[str, str], status: int, error: str
) -> None:
    answer = await served.http.post(TOKEN, data=form or {"a": "b"}, headers=headers)

    assert (answer.status_code, answer.json()["error"]) == (status, error)


@pytest.mark.parametrize(
    "asked",
    [
        {"client_id": "other"},
        {"response_type": "token"},
        {"redirect_uri": "ftp://x"},
        {"scope": "everything"},
        {"scope": ""},
        {"code_challenge": "x", "code_challenge_method": "plain"},
    ],
)
async def test_the_page_refuses_what_it_cannot_grant(served: Served, asked: dict[str, str]) -> None:
    usual = {"client_id": "sandbox-client", "redirect_uri": BACK, "response_type": "code"}
    wanted = {**usual, "scope": SCOPES, **asked}

    shown = await served.http.get("/oauth2/default/v1/authorize", params=wanted)
    pressed = await served.http.post("/oauth2/default/v1/authorize", data=wanted)

    assert (shown.status_code, pressed.status_code) == (400, 400)


async def test_a_token_ends_and_says_nothing_of_why(served: Served) -> None:
    token = (await granted(served))["access_token"]
    headers = {"authorization": f"Bearer {token}"}
    before = await served.http.get("/v3/account/summary", headers=headers)
    served.time.now_s += 86_400

    after = await served.http.get("/v3/account/summary", headers=headers)
    unknown = await served.http.get(
        "/v3/account/summary", headers={"authorization": "Bearer unknown"}
    )

    assert before.status_code == 200
    assert after.status_code == unknown.status_code == 401
    assert after.json() == unknown.json()
    assert after.json()["error_key"] == "unauthorized"


async def test_a_token_may_do_what_it_was_granted_and_its_user_may(served: Served) -> None:
    token = (await granted(served, scope="account_read offline_access"))["access_token"]
    headers = {"authorization": f"Bearer {token}"}
    without_scope = await served.http.get("/v3/contacts", headers=headers)
    privileges = await served.http.get("/v3/account/user/privileges", headers=headers)
    await served.control("PUT", "settings", {"privileges": ["account:read"]})
    without_privilege = await served.http.get("/v3/contacts")
    del served.http.headers["authorization"]
    without_token = await served.http.get("/v3/contacts")

    refused = [without_scope, without_privilege, without_token]
    assert [each.status_code for each in refused] == [403, 403, 403]
    assert without_scope.json()["error_key"] == "access_denied"
    assert {"privilege_id": 1, "privilege_name": "contacts:read"} in privileges.json()


async def test_an_owner_may_take_access_back(served: Served) -> None:
    told = await served.control("POST", "tokens")
    await served.control("POST", "app:uninstall")

    answer = await refreshed(served, told["refresh_token"])
    call = await served.http.get(
        "/v3/account/summary", headers={"authorization": f"Bearer {told['access_token']}"}
    )

    assert (answer.json()["error"], call.status_code) == ("invalid_grant", 401)
