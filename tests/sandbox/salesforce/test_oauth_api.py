"""OAuth of the Salesforce sandbox: flows, rotation, sessions, approvals, refusals."""

import json
from base64 import urlsafe_b64encode
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sandbox.login import challenge
from sandbox.salesforce.oauth_api import JWT_BEARER
from tests.sandbox.salesforce.served import START_S, Served, V

CALLBACK = "http://localhost/callback"
VERIFIER = "v" * 43
CLIENT = {"client_id": "sandbox-client", "client_secret": "sandbox-secret"}
ASKED = {
    "client_id": "sandbox-client",
    "response_type": "code",
    "redirect_uri": CALLBACK,
    "state": "s",
    "scope": "api refresh_token id",
    "code_challenge": challenge(VERIFIER),
    "code_challenge_method": "S256",
}


async def decided(served: Served, decision: str = "approve", **changes: str) -> dict[str, str]:
    """Go through the page; return what the app is told at its callback."""
    form = {**ASKED, "decision": decision, **changes}
    answer = await served.http.post("/services/oauth2/authorize", data=form)
    assert answer.status_code == 302, answer.text
    return {
        name: one[0] for name, one in parse_qs(urlsplit(answer.headers["location"]).query).items()
    }


async def token(served: Served, **form: str) -> httpx.Response:
    return await served.http.post("/services/oauth2/token", data={**CLIENT, **form})


async def redeemed(served: Served, code: str, **changes: str) -> httpx.Response:
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": CALLBACK,
        "code_verifier": VERIFIER,
    }
    return await token(served, **{**form, **changes})


async def connected(served: Served) -> dict[str, Any]:
    answer = await redeemed(served, (await decided(served))["code"])
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def refreshed(served: Served, refresh: str) -> httpx.Response:
    return await token(served, grant_type="refresh_token", refresh_token=refresh)


async def status(served: Served, access: str) -> int:
    headers = {"authorization": f"Bearer {access}"}
    return (await served.http.get(f"{V}/limits", headers=headers)).status_code


async def test_a_person_connects_an_org(served: Served) -> None:
    page = await served.http.get("/services/oauth2/authorize", params=ASKED)
    told = await connected(served)
    org = served.state.default

    assert page.status_code == 200
    assert org.name in page.text
    assert set(told) == {
        *("access_token", "refresh_token", "signature", "scope", "instance_url", "id"),
        *("token_type", "issued_at"),
    }
    assert told["instance_url"] == "http://127.0.0.1:1"
    assert told["id"].endswith(f"/id/{org.id}/{org.user['Id']}")
    assert await status(served, told["access_token"]) == 200


async def test_whose_token_it_is_is_told(served: Served) -> None:
    told = await connected(served)
    headers = {"authorization": f"Bearer {told['access_token']}"}

    userinfo = (await served.http.get("/services/oauth2/userinfo", headers=headers)).json()
    identity = (await served.http.get(told["id"], headers=headers)).json()
    stranger = await served.http.get(
        "/services/oauth2/userinfo", headers={"authorization": "Bearer x"}
    )

    assert userinfo["organization_id"] == identity["organization_id"] == served.state.default.id
    assert identity["username"] == userinfo["preferred_username"]
    assert (stranger.status_code, stranger.text) == (403, "Bad_OAuth_Token")


async def test_who_declines_is_sent_back_without_a_code(served: Served) -> None:
    assert await decided(served, "deny") == {
        "error": "access_denied",
        "error_description": "end-user denied authorization",
        "state": "s",
    }


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": "api everything"}, "invalid_scope"),
        ({"code_challenge": ""}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
    ],
)
async def test_what_the_app_asks_wrongly_is_told_at_its_callback(
    served: Served, change: dict[str, str], error: str
) -> None:
    assert (await decided(served, **change))["error"] == error


@pytest.mark.parametrize("change", [{"client_id": "x"}, {"redirect_uri": "javascript:x"}])
async def test_a_stranger_is_not_sent_anywhere(served: Served, change: dict[str, str]) -> None:
    answer = await served.http.get("/services/oauth2/authorize", params={**ASKED, **change})

    assert answer.status_code == 400
    assert "location" not in answer.headers


async def test_an_app_that_is_not_installed_cannot_be_approved(served: Served) -> None:
    await served.settings(app_installed=False)
    answer = await served.http.get("/services/oauth2/authorize", params=ASKED)

    assert answer.status_code == 400
    assert "OAUTH_APPROVAL_ERROR_GENERIC" in answer.text


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"code_verifier": ""}, "invalid_grant"),
        ({"code_verifier": "w" * 43}, "invalid_request"),
        ({"redirect_uri": "http://localhost/other"}, "redirect_uri_mismatch"),
        ({"client_id": "x"}, "invalid_client_id"),
        ({"client_secret": "x"}, "invalid_client"),
        ({"grant_type": ""}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
    ],
)
async def test_a_code_is_given_to_its_app_alone(
    served: Served, change: dict[str, str], error: str
) -> None:
    answer = await redeemed(served, (await decided(served))["code"], **change)

    assert (answer.status_code, answer.json()["error"]) == (400, error)


async def test_a_code_works_once_and_for_a_quarter_of_an_hour(served: Served) -> None:
    code = (await decided(served))["code"]
    late = (await decided(served))["code"]
    first, second = await redeemed(served, code), await redeemed(served, code)
    served.time.now_s += 900
    expired = await redeemed(served, late)

    assert first.status_code == 200
    assert second.json()["error_description"] == "invalid authorization code"
    assert expired.json()["error_description"] == "expired authorization code"


async def test_a_session_ends_two_hours_after_its_last_use(served: Served) -> None:
    access = (await connected(served))["access_token"]
    served.time.now_s += 7_199
    used = await status(served, access)
    served.time.now_s += 7_199
    still_used = await status(served, access)
    served.time.now_s += 7_200
    answer = await served.http.get(f"{V}/limits", headers={"authorization": f"Bearer {access}"})

    assert (used, still_used, answer.status_code) == (200, 200, 401)
    assert answer.json() == [
        {"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}
    ]
    assert answer.headers["www-authenticate"] == "Token"


async def test_a_rotated_refresh_token_that_is_shown_again_ends_the_grant(served: Served) -> None:
    told = await connected(served)
    first = (await refreshed(served, told["refresh_token"])).json()
    stolen = await refreshed(served, told["refresh_token"])
    rightful = await refreshed(served, first["refresh_token"])

    assert first["refresh_token"] != told["refresh_token"]
    for answer in (stolen, rightful):
        assert answer.status_code == 400
        assert answer.json() == {
            "error": "invalid_grant",
            "error_description": "expired access/refresh token",
        }
    assert await status(served, first["access_token"]) == 401


async def test_without_rotation_the_refresh_token_stays(served: Served) -> None:
    await served.settings(rotates_refresh_tokens=False)
    told = await connected(served)

    answers = [await refreshed(served, told["refresh_token"]) for _ in range(2)]

    assert [each.status_code for each in answers] == [200, 200]
    assert all("refresh_token" not in each.json() for each in answers)


async def test_a_refresh_token_that_rests_for_thirty_days_is_dead(served: Served) -> None:
    told = await connected(served)
    served.time.now_s += 30 * 86_400 - 1
    told = (await refreshed(served, told["refresh_token"])).json()
    served.time.now_s += 30 * 86_400
    answer = await refreshed(served, told["refresh_token"])

    assert answer.json()["error"] == "invalid_grant"


async def test_a_sixth_approval_ends_the_first(served: Served) -> None:
    approvals = [await connected(served) for _ in range(6)]

    assert [await status(served, each["access_token"]) for each in approvals] == [401] + [200] * 5


async def test_without_the_scope_there_is_no_refresh_token(served: Served) -> None:
    code = (await decided(served, scope="api"))["code"]

    assert "refresh_token" not in (await redeemed(served, code)).json()


async def test_a_session_without_the_scope_api_has_another_401(served: Served) -> None:
    code = (await decided(served, scope="id"))["code"]
    access = (await redeemed(served, code)).json()["access_token"]

    answer = await served.http.get(f"{V}/limits", headers={"authorization": f"Bearer {access}"})

    (problem,) = answer.json()
    assert answer.status_code == 401
    assert problem["message"] == "This session is not valid for use with the REST API"


async def test_an_inactive_user_is_refused(served: Served) -> None:
    told = await connected(served)
    await served.settings(user_active=False)
    answer = await refreshed(served, told["refresh_token"])

    assert answer.json() == {"error": "invalid_grant", "error_description": "inactive user"}


async def test_revoking_a_refresh_token_ends_its_sessions(served: Served) -> None:
    told = await connected(served)
    other = await connected(served)
    form = {"token": told["refresh_token"]}
    answer = await served.http.post("/services/oauth2/revoke", data=form)
    again = await served.http.post("/services/oauth2/revoke", data=form)

    assert (answer.status_code, answer.content) == (200, b"")
    assert (again.status_code, again.json()["error"]) == (400, "invalid_token")
    assert await status(served, told["access_token"]) == 401
    assert await status(served, other["access_token"]) == 200


async def test_a_token_is_introspected_by_its_app(served: Served) -> None:
    told = await connected(served)
    path, form = "/services/oauth2/introspect", {"token": told["access_token"]}
    by_header = await served.http.post(path, data=form, auth=("sandbox-client", "sandbox-secret"))
    by_form = await served.http.post(path, data={**form, **CLIENT})
    stranger = await served.http.post(path, data={**form, "client_id": "sandbox-client"})
    served.time.now_s += 7_200
    over = await served.http.post(path, data={**form, **CLIENT})

    assert by_header.json() == by_form.json()
    assert (by_form.json()["active"], by_form.json()["exp"]) == (True, START_S + 7_200)
    assert stranger.status_code == 401
    assert over.json() == {"active": False}


@pytest.fixture(scope="module")
def key() -> RSAPrivateKey:
    return generate_private_key(65_537, 2_048)


def assertion(key: RSAPrivateKey, **claims: object) -> str:
    """Return a signed JWT."""
    parts = [{"alg": "RS256"}, {"iss": "sandbox-client", "exp": START_S + 60, **claims}]
    signed = ".".join(_encoded(json.dumps(each).encode()) for each in parts)
    return f"{signed}.{_encoded(key.sign(signed.encode(), PKCS1v15(), SHA256()))}"


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


async def test_a_signed_assertion_opens_a_session(served: Served, key: RSAPrivateKey) -> None:
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    await served.control("POST", "app:certificate", {"pem": pem})
    username = served.state.default.user["Username"]
    good = {"sub": username, "aud": "https://login.salesforce.com"}

    answer = await token(served, grant_type=JWT_BEARER, assertion=assertion(key, **good))
    refusals = [
        (await token(served, grant_type=JWT_BEARER, assertion=each)).json()
        for each in (
            assertion(key, **{**good, "sub": "nobody@example.com"}),
            assertion(key, **{**good, "aud": "https://example.com"}),
            assertion(key, **{**good, "exp": START_S - 1}),
            assertion(key, **{**good, "iss": "other"}),
            assertion(generate_private_key(65_537, 2_048), **good),
            "x.y.z",
            "none",
        )
    ]

    assert await status(served, answer.json()["access_token"]) == 200
    assert "refresh_token" not in answer.json()
    assert [each["error_description"] for each in refusals] == [
        "user hasn't approved this consumer",
        "audience is invalid",
        "expired authorization code",
        "client identifier invalid",
        *["invalid assertion"] * 3,
    ]


async def test_an_administrator_takes_access_back(served: Served) -> None:
    told = await connected(served)
    await served.control("POST", "app:uninstall")

    assert await status(served, told["access_token"]) == 401
    assert (await refreshed(served, told["refresh_token"])).status_code == 400


async def test_sessions_are_ended_and_refreshed(served: Served) -> None:
    told = await served.control("POST", "tokens")
    await served.control("POST", "sessions:end")
    renewed = (await refreshed(served, told["refresh_token"])).json()

    assert await status(served, told["access_token"]) == 401
    assert await status(served, renewed["access_token"]) == 200


async def test_the_instance_is_where_the_answer_says(served: Served) -> None:
    await served.settings(instance_url="https://acme.my.salesforce.com")

    assert (await connected(served))["instance_url"] == "https://acme.my.salesforce.com"
