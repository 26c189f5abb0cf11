"""Problem documents: everything that says no says it the same way."""

import json
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from libs.common.errors import (
    LeaseLostError,
    MisconfiguredError,
    NeedsReauthError,
    RateLimitedError,
    RequestRefusedError,
    SyncError,
    UnavailableError,
    UnknownOutcomeError,
)
from libs.common.ids import new
from services.config_api import errors
from services.config_api.app import create_app, served
from services.config_api.errors import PROBLEMS, ApiError, from_provider
from tests.services.config_api.served import BREVO_KEY, Served, codes, pointers

CONNECTION = new()


def is_problem(answer: httpx.Response, status: int, code: str) -> bool:
    body = answer.json()
    return (
        answer.status_code == status
        and answer.headers["content-type"] == errors.MEDIA_TYPE
        and body["code"] == code
        and body["status"] == status
        and body["type"] == f"/v1/problems/{code}"
        and len(body["trace_id"]) == 32
    )


async def test_an_unknown_address_is_a_problem(api: httpx.AsyncClient) -> None:
    """Proves X1."""
    assert is_problem(await api.get("/v1/nothing"), 404, "not_found")


async def test_a_wrong_method_says_which_are_right(api: httpx.AsyncClient) -> None:
    answer = await api.delete("/v1/quota")

    assert is_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET"


@pytest.mark.parametrize(
    ("path", "body", "at"),
    [
        ("/v1/connections", {"provider": "brevo", "name": "b", "api_key": "kéy"}, "/api_key"),
        ("/v1/connections", {"provider": "brevo", "name": "b", "api_key": "a\nb"}, "/api_key"),
        ("/v1/connections", {"provider": "brevo", "name": "b", "api_key": " "}, "/api_key"),
        ("/v1/api-keys", {"name": "k", "expires_at": "9999-12-31T23:59:59-23:59"}, "/expires_at"),
        ("/v1/connections/{hubspot}:authorize", {"return_url": "https://app.example/\0"}, None),
    ],
)
async def test_a_value_that_nothing_can_hold_is_refused(
    api: httpx.AsyncClient, path: str, body: dict[str, str], at: str | None
) -> None:
    """Proves X1: such a value is the caller's mistake, not ours."""
    made = await api.post("/v1/connections", json={"provider": "hubspot", "name": "h"})

    answer = await api.post(path.format(hubspot=made.json()["id"]), json=body)

    assert is_problem(answer, 422, "invalid")
    assert pointers(answer) == [at or "/return_url"]


@pytest.mark.parametrize("path", ["audit-events?subject", "connections?provider"])
async def test_a_parameter_that_nothing_can_hold_is_refused(
    api: httpx.AsyncClient, path: str
) -> None:
    """Proves X1."""
    answer = await api.get(f"/v1/{path}=%00")

    assert is_problem(answer, 422, "invalid")
    assert answer.json()["errors"][0]["parameter"] == path.partition("?")[2]


async def test_blanks_around_a_pasted_credential_do_not_count(api: httpx.AsyncClient) -> None:
    wanted = {"provider": "brevo", "name": "b", "api_key": f" {BREVO_KEY}\n"}

    answer = await api.post("/v1/connections", json=wanted)

    assert (answer.status_code, answer.json()["state"]) == (201, "connected")


async def test_a_body_that_is_too_large_is_not_read(api: httpx.AsyncClient) -> None:
    """Proves X1."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(300):
            yield b"x" * 1000

    declared = await api.post("/v1/integrations", json={"name": "x" * 300_000})
    streamed = await api.post(
        "/v1/integrations", content=chunks(), headers={"content-type": "application/json"}
    )

    assert is_problem(declared, 413, "body_too_large")
    assert is_problem(streamed, 413, "body_too_large")


async def test_a_body_that_is_not_json_is_refused(api: httpx.AsyncClient) -> None:
    as_form = await api.post("/v1/integrations", data={"name": "one"})
    broken = await api.post(
        "/v1/integrations", content=b'{"name": ', headers={"content-type": "application/json"}
    )

    assert is_problem(as_form, 415, "unsupported_media_type")
    assert is_problem(broken, 400, "malformed_json")


@pytest.mark.parametrize("content", [b'{"name": "\xff"}', b"[" * 100_000])
async def test_what_cannot_even_be_read_as_json_says_so(
    api: httpx.AsyncClient, content: bytes
) -> None:
    json = {"content-type": "application/json"}

    answer = await api.post("/v1/integrations", content=content, headers=json)

    assert is_problem(answer, 400, "malformed_json")


async def test_an_address_with_a_slash_too_many_is_unknown(api: httpx.AsyncClient) -> None:
    """Behind a proxy that ends TLS, a redirection would lead away from it."""
    assert is_problem(await api.get("/v1/integrations/"), 404, "not_found")


async def test_fields_that_are_unknown_or_wrong_are_pointed_at(api: httpx.AsyncClient) -> None:
    """Proves X1."""
    answer = await api.post("/v1/integrations", json={"name": "", "workspace_id": "ws_1"})

    assert is_problem(answer, 422, "invalid")
    assert sorted(pointers(answer)) == ["/name", "/workspace_id"]
    assert "unknown_field" in codes(answer)


async def test_parameters_that_are_unknown_or_wrong_are_named(api: httpx.AsyncClient) -> None:
    unknown = await api.get("/v1/integrations?colour=red")
    wrong = await api.get("/v1/integrations?page_size=0")
    cursor = await api.get("/v1/integrations?page_token=nonsense")

    assert unknown.json()["errors"][0]["parameter"] == "colour"
    assert wrong.json()["errors"][0]["parameter"] == "page_size"
    assert cursor.json()["errors"][0]["code"] == "invalid_page_token"


async def test_a_refusal_never_repeats_what_was_sent(api: httpx.AsyncClient) -> None:
    """Proves X4."""
    answer = await api.post(
        "/v1/connections", json={"provider": "brevo", "name": "B", "api_key": ["very-secret"]}
    )

    assert answer.status_code == 422
    assert "very-secret" not in answer.text


async def test_a_bug_is_answered_without_its_details(
    served_app_with_bug: FastAPI, capsys: pytest.CaptureFixture[str]
) -> None:
    """Proves X4."""
    transport = httpx.ASGITransport(served(served_app_with_bug, body_bytes_max=10))
    async with httpx.AsyncClient(transport=transport, base_url="http://api.example") as client:
        answer = await client.get(
            "/v1/bug", headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
        )

    assert is_problem(answer, 500, "internal")
    assert answer.json()["trace_id"] == "a" * 32
    assert "somebody@example.com" not in answer.text


@pytest.fixture
def served_app_with_bug() -> FastAPI:
    """Return the application with a route that has a bug."""
    app = create_app(None)

    @app.get("/v1/bug")
    async def fail() -> None:
        message = "somebody@example.com"
        raise ZeroDivisionError(message)

    return app


async def test_every_problem_is_explained_where_its_type_points(served: Served) -> None:
    async with served.caller() as anybody:
        listed = (await anybody.get("/v1/problems")).json()["items"]
        one = (await anybody.get("/v1/problems/not_ready")).json()
        none = await anybody.get("/v1/problems/nothing")

    assert {each["code"] for each in listed} == set(PROBLEMS)
    assert one["status"] == 422
    assert none.status_code == 404


async def test_every_answer_says_how_a_browser_must_treat_it(api: httpx.AsyncClient) -> None:
    for answer in (await api.get("/v1/quota"), await api.get("/v1/nothing")):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("error", "is_write", "status", "code", "retry_after"),
    [
        (RateLimitedError("api", 12.4), False, 503, "provider_rate_limited", "12"),
        (UnavailableError("crm", "silent", 30), False, 502, "provider_unavailable", "30"),
        (UnknownOutcomeError("crm", "cut"), False, 502, "provider_unavailable", "5"),
        (UnknownOutcomeError("crm", "cut"), True, 502, "provider_outcome_unknown", None),
        (NeedsReauthError("crm", "revoked"), False, 424, "connection_needs_reauth", None),
        (MisconfiguredError("crm", "api_disabled"), False, 422, "provider_misconfigured", None),
        (RequestRefusedError("crm", 409, "TAKEN"), False, 422, "provider_refused", None),
        (LeaseLostError("what"), False, 502, "provider_unavailable", None),
    ],
)
def test_a_providers_error_is_wrapped(
    error: SyncError, is_write: bool, status: int, code: str, retry_after: str | None
) -> None:
    """Proves X1."""
    translated = from_provider(error, "crm", connection=CONNECTION, is_write=is_write)

    assert (translated.status, translated.code) == (status, code)
    assert translated.headers.get("Retry-After") == retry_after
    assert translated.members["provider"] == "crm"


def test_a_providers_own_words_do_not_get_through() -> None:
    """Proves X4."""
    prose = RequestRefusedError("crm", 400, "contact somebody@example.com exists")

    refused = from_provider(prose, "crm", connection=None, is_write=False)

    assert "somebody" not in json.dumps(errors.document(refused))
    assert refused.members["provider_code"] == "unknown"
    assert refused.members["provider_status"] == 400


def test_a_dead_connection_says_where_to_mend_it() -> None:
    error = from_provider(
        NeedsReauthError("crm", "revoked"), "crm", connection=CONNECTION, is_write=False
    )

    assert error.members["reauthorize_url"] == f"/v1/connections/con_{CONNECTION.hex}:reauthorize"


def test_codes_are_unique_and_have_a_remedy() -> None:
    kinds = ApiError.__subclasses__()

    assert len(PROBLEMS) == len(kinds)
    assert all(kind.remedy and kind.title and 400 <= kind.status < 600 for kind in kinds)


@pytest.mark.parametrize(
    ("path", "pointer"), [((), ""), (("a", 0, "b"), "/a/0/b"), (("a/b", "c~d"), "/a~1b/c~0d")]
)
def test_pointers_are_those_of_rfc_6901(path: tuple[object, ...], pointer: str) -> None:
    assert errors.pointer(*path) == pointer
