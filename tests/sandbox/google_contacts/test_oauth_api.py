"""Google's login page, its tokens, and how they end."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from sandbox.google_contacts.tokens import CLIENT_ID, CLIENT_SECRET, EMAIL, READ_CONTACTS
from sandbox.login import challenge
from tests.sandbox.google_contacts.served import Served

REDIRECT = "https://app.example.com/cb"
VERIFIER = "v" * 64
ASKED = {
    "client_id": CLIENT_ID,
    "redirect_uri": REDIRECT,
    "response_type": "code",
    "scope": f"{READ_CONTACTS} {EMAIL} openid",
    "state": "s",
    "access_type": "offline",
}


def agree(served: Served, **changes: str) -> dict[str, str]:
    """Press the page's button; return what comes back with the person."""
    form = {**ASKED, "decision": "approve", **changes}
    answer = served.http.post("/o/oauth2/v2/auth", data=form)
    assert answer.status_code == 302, answer.text
    query = parse_qs(urlsplit(answer.headers["location"]).query)
    return {name: values[0] for name, values in query.items()}


def ask_token(served: Served, **form: str) -> httpx.Response:
    client = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    return served.http.post("/token", data={**client, **form})


def exchange(served: Served, code: str, **changes: str) -> httpx.Response:
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT, **changes}
    return ask_token(served, **form)


def refresh(served: Served, token: str) -> httpx.Response:
    return ask_token(served, grant_type="refresh_token", refresh_token=token)


def granted(served: Served, **changes: str) -> dict[str, Any]:
    told: dict[str, Any] = exchange(served, agree(served, **changes)["code"]).json()
    return told


def test_a_person_agrees_and_the_code_works_once(served: Served) -> None:
    page = served.http.get("/o/oauth2/v2/auth", params=ASKED)
    code = agree(served)["code"]
    first, second = exchange(served, code), exchange(served, code)

    assert READ_CONTACTS in page.text
    assert first.json().keys() == {
        *("access_token", "expires_in", "refresh_token", "scope", "token_type", "id_token")
    }
    assert first.json()["expires_in"] == 3_599
    assert (second.status_code, second.json()["error"]) == (400, "invalid_grant")


def test_who_does_not_agree_is_sent_back(served: Served) -> None:
    assert agree(served, decision="deny") == {"state": "s", "error": "access_denied"}


def test_a_refresh_token_needs_offline_access_and_consent(served: Served) -> None:
    online = granted(served, access_type="online")
    served.control("POST", "reset", {})
    first, second = granted(served), granted(served)
    third = granted(served, prompt="consent")

    assert "refresh_token" not in online
    assert "refresh_token" in first
    assert "refresh_token" not in second
    assert "refresh_token" in third


def test_a_code_needs_its_verifier_and_its_address(served: Served) -> None:
    asked = {"code_challenge": challenge(VERIFIER), "code_challenge_method": "S256"}
    well = exchange(served, agree(served, **asked)["code"], code_verifier=VERIFIER)
    wrong = exchange(served, agree(served, **asked)["code"], code_verifier="w" * 64)
    elsewhere = exchange(served, agree(served)["code"], redirect_uri="https://other.example")

    assert well.status_code == 200
    assert wrong.json()["error"] == "invalid_grant"
    assert elsewhere.json()["error"] == "redirect_uri_mismatch"


def test_a_refresh_token_stays_the_same_until_it_is_taken_back(served: Served) -> None:
    token = granted(served)["refresh_token"]
    fresh = refresh(served, token)
    revoked = served.http.post("/revoke", data={"token": token})
    dead = refresh(served, token)
    again = served.http.post("/revoke", data={"token": token})

    assert "refresh_token" not in fresh.json()
    assert refresh(served, token).status_code == 400
    assert (revoked.status_code, dead.status_code) == (200, 400)
    assert dead.json() == {
        "error": "invalid_grant",
        "error_description": "Token has been expired or revoked.",
    }
    assert (again.status_code, again.json()["error"]) == (400, "invalid_token")


def test_a_refresh_token_dies_unused_in_testing_and_as_one_of_too_many(served: Served) -> None:
    unused = granted(served)["refresh_token"]
    served.time.now_s += 182 * 86_400
    assert refresh(served, unused).status_code == 400

    testing = granted(served, prompt="consent")["refresh_token"]
    served.time.now_s += 7 * 86_400
    assert refresh(served, testing).status_code == 200
    served.control("PUT", "settings", {"is_testing": True})
    assert refresh(served, testing).status_code == 400

    served.control("PUT", "settings", {"is_testing": False})
    assert refresh(served, testing).status_code == 200
    for _ in range(100):
        served.control("POST", "tokens")
    assert refresh(served, testing).status_code == 400


def test_an_access_token_ends_with_its_hour(served: Served) -> None:
    headers = {"authorization": f"Bearer {granted(served)['access_token']}"}
    call: dict[str, Any] = {"params": {"personFields": "names"}, "headers": headers}
    assert served.http.get("/v1/people/me", **call).status_code == 200
    served.time.now_s += 3_599

    answer = served.http.get("/v1/people/me", **call)

    error = answer.json()["error"]
    assert (answer.status_code, error["status"]) == (401, "UNAUTHENTICATED")
    assert error["details"][0]["reason"] == "ACCESS_TOKEN_EXPIRED"


def test_scopes_can_be_unticked(served: Served) -> None:
    served.control("PUT", "settings", {"granted_scopes": [EMAIL]})

    assert granted(served)["scope"] == EMAIL


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "other"},
        {"response_type": "token"},
        {"redirect_uri": "ftp://x"},
        {"scope": "everything"},
        {"scope": ""},
        {"code_challenge": "x", "code_challenge_method": "plain"},
        {"account": "nobody"},
    ],
)
def test_a_request_that_makes_no_sense_is_a_page_and_no_redirect(
    served: Served, changes: dict[str, str]
) -> None:
    form = {**ASKED, "decision": "approve", **changes}

    assert served.http.post("/o/oauth2/v2/auth", data=form).status_code == 400


def test_a_client_that_is_not_ours_gets_nothing(served: Served) -> None:
    wrong = ask_token(served, client_secret="wrong", grant_type="refresh_token")
    unknown = ask_token(served, grant_type="password")

    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")
    assert unknown.json()["error"] == "unsupported_grant_type"
