"""Granting, refreshing, asking about and revoking access to a HubSpot portal."""

import hashlib
from base64 import urlsafe_b64encode
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.sandbox.hubspot.served import Served

REDIRECT = "http://127.0.0.1:1/callback?from=hubspot"
CLIENT = {"client_id": "sandbox-client", "client_secret": "sandbox-secret"}
ASKED = {
    "client_id": "sandbox-client",
    "redirect_uri": REDIRECT,
    "scope": "crm.objects.contacts.read",
    "state": "a&b",
}


def decide(served: Served, decision: str = "approve", **wish: str) -> dict[str, str]:
    """Answer the page's question; return what the application is told."""
    form = {**ASKED, **wish, "decision": decision}
    answer = served.http.post("/oauth/authorize", data=form)
    assert answer.status_code == 302, answer.text
    assert answer.headers["location"].startswith(REDIRECT)
    query = parse_qs(urlsplit(answer.headers["location"]).query)
    return {name: values[0] for name, values in query.items()}


def post(served: Served, path: str, **form: str) -> httpx.Response:
    return served.http.post(f"/oauth/2026-09{path}", data={**CLIENT, **form})


def redeem(served: Served, code: str, **form: str) -> httpx.Response:
    wish = {"grant_type": "authorization_code", "redirect_uri": REDIRECT, "code": code}
    return post(served, "/token", **{**wish, **form})


def refresh(served: Served, token: str) -> httpx.Response:
    return post(served, "/token", grant_type="refresh_token", refresh_token=token)


def problem(answer: httpx.Response) -> tuple[int, str, str]:
    body = answer.json()
    assert body["error_description"] == body["message"]
    return answer.status_code, body["error"], body["status"]


def test_the_page_shows_what_is_asked_for_and_carries_it_on(served: Served) -> None:
    page = served.http.get("/oauth/authorize", params={**ASKED, "state": '"><script>'})

    assert page.headers["content-type"].startswith("text/html")
    assert "<li>crm.objects.contacts.read</li>" in page.text
    assert 'value="&quot;&gt;&lt;script&gt;"' in page.text
    assert 'name="decision" value="approve"' in page.text
    assert 'name="decision" value="deny"' in page.text


def test_the_page_may_name_the_account(served: Served) -> None:
    second = served.control("POST", "accounts", {"name": "second"})

    page = served.http.get(second["authorize_path"], params=ASKED)

    assert f'<option value="{second["account"]}" selected>' in page.text


def test_a_refusal_comes_back_to_the_application(served: Served) -> None:
    told = decide(served, "deny")

    assert (told["error"], told["state"], told["from"]) == ("access_denied", "a&b", "hubspot")
    assert "code" not in told


@pytest.mark.parametrize(
    "wrong",
    [
        {"client_id": "other"},
        {"redirect_uri": "javascript:alert(1)"},
        {"scope": ""},
        {"scope": "crm.objects.deals.read"},
        {"code_challenge_method": "S512"},
    ],
)
def test_a_request_that_is_wrong_gets_a_page_and_no_way_back(
    served: Served, wrong: dict[str, str]
) -> None:
    asked = served.http.get("/oauth/authorize", params={**ASKED, **wrong})
    decided = served.http.post("/oauth/authorize", data={**ASKED, **wrong, "decision": "approve"})

    for answer in (asked, decided):
        assert (answer.status_code, "location" in answer.headers) == (400, False)
        assert "Authorization failed" in answer.text


def test_tokens_are_for_the_account_that_was_chosen(served: Served) -> None:
    second = served.control("POST", "accounts", {"name": "second", "time_zone": "Asia/Kolkata"})
    code = decide(served, account=second["account"])["code"]

    tokens = redeem(served, code).json()

    bearer = {"authorization": f"Bearer {tokens['access_token']}"}
    details = served.http.get("/account-info/2026-09/details", headers=bearer).json()
    assert tokens["hub_id"] == details["portalId"] == second["hub_id"]
    assert (details["utcOffset"], details["utcOffsetMilliseconds"]) == ("+05:30", 19_800_000)
    assert details["accountType"] == "STANDARD"
    assert tokens["token_use"] == "access_token"


def test_optional_scopes_are_granted_if_there_are_such(served: Served) -> None:
    code = decide(served, optional_scope="crm.lists.read crm.objects.deals.read")["code"]

    scopes = redeem(served, code).json()["scopes"]

    assert scopes == ["oauth", "crm.objects.contacts.read", "crm.lists.read"]


@pytest.mark.parametrize("method", ["S256", "plain"])
def test_a_challenge_is_met_by_its_verifier_only(served: Served, method: str) -> None:
    verifier = "v" * 43
    digest = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    challenge = {"S256": digest, "plain": verifier}[method]
    code = decide(served, code_challenge=challenge, code_challenge_method=method)["code"]

    wrong = redeem(served, code, code_verifier="w" * 43)
    right = redeem(served, code, code_verifier=verifier)

    assert problem(wrong) == (400, "invalid_grant", "BAD_CODE_VERIFIER")
    assert right.status_code == 200


def test_what_is_wrong_with_an_exchange_is_told(served: Served) -> None:
    code = decide(served)["code"]

    found = [
        problem(redeem(served, "nonsense")),
        problem(redeem(served, code, redirect_uri="http://127.0.0.1:2/")),
        problem(redeem(served, code, client_id="other")),
        problem(redeem(served, code, client_secret="other")),
        problem(redeem(served, code, grant_type="password")),
        problem(refresh(served, "nonsense")),
    ]

    assert found == [
        (400, "invalid_grant", "BAD_AUTH_CODE"),
        (400, "invalid_grant", "BAD_REDIRECT_URI"),
        (400, "invalid_client", "BAD_CLIENT_ID"),
        (400, "invalid_client", "BAD_CLIENT_SECRET"),
        (400, "unsupported_grant_type", "BAD_GRANT_TYPE"),
        (400, "invalid_grant", "BAD_REFRESH_TOKEN"),
    ]
    assert redeem(served, code).status_code == 200


def test_a_code_does_not_last(served: Served) -> None:
    code = decide(served)["code"]
    served.state.clock.move(601)

    assert problem(redeem(served, code)) == (400, "invalid_grant", "BAD_AUTH_CODE")


def test_introspection_tells_each_kind_of_token(served: Served) -> None:
    tokens = redeem(served, decide(served)["code"]).json()

    def facts(token: str) -> Any:
        return post(served, "/token/introspect", token=token).json()

    access, grant = facts(tokens["access_token"]), facts(tokens["refresh_token"])
    served.state.clock.move(1800)

    assert (access["active"], access["token_use"], access["hub_id"]) == (
        True,
        "access_token",
        1000001,
    )
    assert 1795 <= access["expires_in"] <= 1800
    assert (grant["active"], grant["token_use"]) == (True, "refresh_token")
    assert "expires_in" not in grant
    assert "signed_access_token" not in grant
    assert facts("nonsense") == {"active": False}
    assert facts(tokens["access_token"]) == {"active": False}


def test_a_revoked_refresh_token_is_spent_and_its_access_token_lives(served: Served) -> None:
    tokens = redeem(served, decide(served)["code"]).json()

    revoked = post(served, "/token/revoke", token=tokens["refresh_token"])

    bearer = {"authorization": f"Bearer {tokens['access_token']}"}
    assert revoked.status_code == 200
    assert problem(refresh(served, tokens["refresh_token"]))[2] == "BAD_REFRESH_TOKEN"
    assert served.http.get("/crm/v3/objects/contacts", headers=bearer).status_code == 200


@pytest.mark.parametrize("by_the_app", [True, False])
def test_an_uninstalled_app_has_nothing_left(served: Served, by_the_app: bool) -> None:
    tokens = redeem(served, decide(served)["code"]).json()
    bearer = {"authorization": f"Bearer {tokens['access_token']}"}

    if by_the_app:
        path = "/appinstalls/2026-09/external-install"
        assert served.http.delete(path, headers=bearer).status_code == 204
    else:
        served.control("POST", "app:uninstall")

    assert problem(refresh(served, tokens["refresh_token"]))[2] == "BAD_REFRESH_TOKEN"
    answer = served.http.get("/crm/v3/objects/contacts", headers=bearer)
    assert answer.status_code == 401
    assert served.http.get("/crm/v3/objects/contacts").status_code == 200  # The private token's.


def test_unknown_legacy_tokens_are_not_found(served: Served) -> None:
    for method, kind in (("GET", "access"), ("GET", "refresh"), ("DELETE", "refresh")):
        answer = served.http.request(method, f"/oauth/v1/{kind}-tokens/nonsense")
        assert answer.status_code == 404
