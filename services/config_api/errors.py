"""What the API answers when it cannot do what was asked: problem documents (RFC 9457).

Promises: every answer of 400 and above is `application/problem+json` with a stable `code`, a
`type` that can be opened (`/v1/problems/<code>`), and the `trace_id` that the logs carry. A
provider's error is translated here and nowhere else; its own text never gets through, only its
status and a code of harmless characters. No answer holds contact data or a secret.

An `ApiError` is an expected answer, not a fault: it is not logged as an error and pages no one.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from libs.common import ids, tracing
from libs.common.errors import (
    MisconfiguredError,
    NeedsReauthError,
    RateLimitedError,
    RequestRefusedError,
    SyncError,
    TransientError,
    UnavailableError,
    UnknownOutcomeError,
)
from libs.common.ids import Prefix

MEDIA_TYPE = "application/problem+json"

# What a provider calls its error is shown only if it looks like a code, never if it may be prose.
_HARMLESS_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)

# How long a caller should wait where nobody knows better.
RETRY_AFTER_S = 5


@dataclass(frozen=True, slots=True)
class Flaw:
    """One thing that is wrong with a request: where (a JSON Pointer or a parameter), and what.

    `rule` is the id of the rule it breaks (docs/requirements.md), where it has one.
    """

    code: str
    detail: str
    pointer: str | None = None
    parameter: str | None = None
    rule: str | None = None

    def shown(self) -> dict[str, str]:
        """Return the flaw as it stands in a problem document."""
        members = {
            "pointer": self.pointer,
            "parameter": self.parameter,
            "code": self.code,
            "detail": self.detail,
            "rule": self.rule,
        }
        return {name: value for name, value in members.items() if value is not None}


class ApiError(Exception):
    """An answer that says no. Subclasses fix its status, its code and what the code means.

    `is_final`: the request may have had an effect, so an Idempotency-Key keeps this answer.
    """

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str]
    remedy: ClassVar[str]
    is_final: ClassVar[bool] = False

    def __init__(
        self,
        *,
        detail: str,
        flaws: Sequence[Flaw] = (),
        headers: Mapping[str, str] | None = None,
        **members: object,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.flaws = flaws
        self.headers = dict(headers or {})
        self.members = members


class MalformedJsonError(ApiError):
    status, code, title = 400, "malformed_json", "The body is not JSON"
    remedy = "Send one JSON object, encoded in UTF-8."


class LoginFailedError(ApiError):
    status, code, title = 400, "login_failed", "The login did not succeed"
    remedy = "Start it again with POST …:authorize, and finish it within ten minutes."


class UnauthenticatedError(ApiError):
    status, code, title = 401, "unauthenticated", "No valid API key"
    remedy = (
        "Send `Authorization: Bearer csk_…` with a key that has neither expired nor been revoked."
    )

    def __init__(self, *, detail: str) -> None:
        super().__init__(detail=detail, headers={"WWW-Authenticate": "Bearer"})


class ForbiddenError(ApiError):
    status, code, title = 403, "insufficient_scope", "This key may not do that"
    remedy = "Use a key that has the scope named in `required_scope`."


class NotFoundError(ApiError):
    status, code, title = 404, "not_found", "There is nothing here"
    remedy = "Check the address and the id; ids of another workspace are not found either."


class MethodNotAllowedError(ApiError):
    status, code, title = 405, "method_not_allowed", "This resource does not take that method"
    remedy = "Use one of the methods in the Allow header."


class ConflictError(ApiError):
    status, code, title = 409, "state_conflict", "Not possible in this state"
    remedy = "Read the resource again: its state says what can be done with it now."


class ConnectionInUseError(ApiError):
    status, code, title = 409, "connection_in_use", "The connection is used"
    remedy = "Delete the integrations that use it first; they are listed in `integrations`."


class QuotaRequestOpenError(ApiError):
    status, code, title = 409, "quota_request_open", "Another request is open"
    remedy = (
        "Wait until the request in `request_id` is decided, or POST to `withdraw_url` and ask anew."
    )


class AccountChangedError(ApiError):
    status, code, title = 409, "account_changed", "That is another account"
    remedy = (
        "Log in to the account that the connection was made for, or make a new connection for "
        "the other account."
    )


class RequestUnderWayError(ApiError):
    status, code, title = 409, "request_under_way", "The first request is still under way"
    remedy = "Repeat the request after Retry-After with the same Idempotency-Key."


class StaleError(ApiError):
    status, code, title = 412, "stale", "It was changed meanwhile"
    remedy = "Read it again, and send its new ETag in If-Match."


class TooLargeError(ApiError):
    status, code, title = 413, "body_too_large", "The body is too large"
    remedy = "Send less in one request."


class UnsupportedMediaTypeError(ApiError):
    status, code, title = 415, "unsupported_media_type", "The body is not JSON"
    remedy = "Send `Content-Type: application/json`."


class NoFileTypeError(ApiError):
    status, code, title = 415, "csv_expected", "The body is not sent as a CSV file"
    remedy = "Send the file itself as the body, with `Content-Type: text/csv`."


class FileUnusableError(ApiError):
    status, code, title = 422, "file_refused", "The file cannot be read"
    remedy = (
        "The entry of `errors` says what is wrong and, where it is one, in which row; nothing of "
        "the file was kept."
    )


class SpaceUsedError(ApiError):
    status, code, title = 409, "upload_space_used", "Too much is uploaded already"
    remedy = "Delete files that are not confirmed; confirmed ones go 30 days after their run."


class InvalidError(ApiError):
    status, code, title = 422, "invalid", "Something in the request is not right"
    remedy = "Each entry of `errors` says where (`pointer` or `parameter`) and what."


class NotReadyError(ApiError):
    status, code, title = 422, "not_ready", "The integration is not complete"
    remedy = "Mend what `errors` lists; `GET …/checklist` shows the same at any time."


class KeyReusedError(ApiError):
    status, code, title = 422, "idempotency_key_reused", "This Idempotency-Key was used before"
    remedy = "Use a new Idempotency-Key for each new request; repeat one only with the same body."


class CredentialRefusedError(ApiError):
    status, code, title = 422, "credential_refused", "The provider refuses this credential"
    remedy = "Copy the API key again at the provider; check that it is active there."


class ProviderRefusedError(ApiError):
    status, code, title = 422, "provider_refused", "The provider refuses the request"
    remedy = (
        "`provider_status` and `provider_code` are the provider's own; its manual explains them."
    )


class ProviderMisconfiguredError(ApiError):
    status, code, title = 422, "provider_misconfigured", "Something is not right at the provider"
    remedy = "`provider_code` says what: mend it at the provider, then try again."


class NeedsReauthorisationError(ApiError):
    status, code, title = 424, "connection_needs_reauth", "The connection must be authorised again"
    remedy = "POST to `reauthorize_url`, and send the user to the address that it answers."


class ConnectionPendingError(ApiError):
    status, code, title = 424, "connection_pending", "Nobody has logged in to the connection yet"
    remedy = "POST to `authorize_url`, and send the user to the address that it answers."


class PreconditionRequiredError(ApiError):
    status, code, title = 428, "precondition_required", "If-Match is missing"
    remedy = "Send the ETag of what you read in If-Match, so that no one's change is lost."


class TooManyRequestsError(ApiError):
    status, code, title = 429, "too_many_requests", "Too many requests"
    remedy = "Wait for Retry-After; the RateLimit headers say how much is left."


class InternalError(ApiError):
    status, code, title = 500, "internal", "Something went wrong on our side"
    remedy = "Try again; if it stays, tell the operator the `trace_id`."


class ProviderUnavailableError(ApiError):
    status, code, title = 502, "provider_unavailable", "The provider does not answer"
    remedy = "Nothing was changed. Try again after Retry-After."


class ProviderOutcomeUnknownError(ApiError):
    status, code, title = 502, "provider_outcome_unknown", "The provider's answer was lost"
    remedy = "It may have been done or not: look first, then try again with a new Idempotency-Key."
    is_final = True


class ProviderRateLimitedError(ApiError):
    status, code, title = 503, "provider_rate_limited", "The provider's rate limit is reached"
    remedy = "Nothing was changed. Try again after Retry-After."


class DatabaseUnavailableError(ApiError):
    status, code, title = 503, "database_unavailable", "The database does not answer"
    remedy = "Nothing was changed. Try again after Retry-After."


PROBLEMS: Mapping[str, type[ApiError]] = {kind.code: kind for kind in ApiError.__subclasses__()}

_BY_STATUS: Mapping[int, type[ApiError]] = {
    400: MalformedJsonError,  # Of a body that is no UTF-8, or nested without end.
    404: NotFoundError,
    405: MethodNotAllowedError,
    413: TooLargeError,
    415: UnsupportedMediaTypeError,
}


def document(error: ApiError) -> dict[str, Any]:
    """Return the problem document of an error, in the current trace."""
    body: dict[str, Any] = {
        "type": f"/v1/problems/{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "trace_id": tracing.current().trace_id,
    }
    if error.flaws:
        body["errors"] = [flaw.shown() for flaw in error.flaws]
    return body | error.members


def answer(error: ApiError) -> JSONResponse:
    """Return the response for an error."""
    return JSONResponse(
        document(error), status_code=error.status, headers=error.headers, media_type=MEDIA_TYPE
    )


def install(app: FastAPI) -> None:
    """Make every expected failure of `app` answer with a problem document."""
    app.add_exception_handler(ApiError, _answer_api_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(Exception, _answer_unexpected)


async def _answer_api_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return answer(error)


async def _answer_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return answer(from_validation(error))


async def _answer_unexpected(_request: Request, _error: Exception) -> Response:
    """Answer a bug; whoever serves the application hears of the exception after it."""
    return answer(InternalError(detail="The request failed; it was not your fault."))


async def _answer_http_error(_request: Request, error: Exception) -> Response:
    """Answer what the framework itself refuses: unknown addresses, methods, sizes."""
    assert isinstance(error, HTTPException)
    kind = _BY_STATUS.get(error.status_code, InvalidError)
    return answer(kind(detail=kind.title + ".", headers=error.headers))


def from_validation(error: RequestValidationError) -> ApiError:
    """Translate what the models refuse: pointers instead of paths, and never the value itself."""
    entries = error.errors()
    if entries and entries[0]["type"] == "json_invalid":
        where = entries[0]["loc"][-1]
        return MalformedJsonError(detail=f"The body is not JSON: it breaks at character {where}.")
    return InvalidError(
        detail="The request has fields that are missing, unknown or of the wrong kind.",
        flaws=[_flaw_of(entry) for entry in entries],
    )


def _flaw_of(entry: Mapping[str, Any]) -> Flaw:
    place, *path = entry["loc"]
    code = "unknown_field" if entry["type"] == "extra_forbidden" else str(entry["type"])
    detail = "There is no such field." if code == "unknown_field" else f"{entry['msg']}."
    if place == "body":
        return Flaw(code, detail, pointer=pointer(*path))
    return Flaw(code, detail, parameter=".".join(str(part) for part in path))


def pointer(*parts: object) -> str:
    """Return the JSON Pointer (RFC 6901) of a path; "" is the whole body."""
    escaped = (str(part).replace("~", "~0").replace("/", "~1") for part in parts)
    return "".join(f"/{part}" for part in escaped)


def refuse_field(*, at: str, code: str, detail: str, rule: str | None = None) -> InvalidError:
    """Return the refusal of one field of the body."""
    return InvalidError(detail=detail, flaws=[Flaw(code, detail, pointer=at, rule=rule)])


def refuse_parameter(*, parameter: str, code: str, detail: str) -> InvalidError:
    """Return the refusal of one parameter of the address."""
    return InvalidError(detail=detail, flaws=[Flaw(code, detail, parameter=parameter)])


@contextmanager
def translated(
    provider: str, *, connection: UUID | None = None, is_write: bool = False
) -> Iterator[None]:
    """Turn what a provider's connector raises inside the block into an `ApiError`.

    `is_write`: a call whose answer was lost may have been applied, and the answer says so.
    """
    try:
        yield
    except SyncError as error:
        raise from_provider(error, provider, connection=connection, is_write=is_write) from error


def from_provider(
    error: SyncError, provider: str, *, connection: UUID | None, is_write: bool
) -> ApiError:
    """Translate one error of a connector."""
    translate = _TRANSLATIONS.get(type(error))
    if isinstance(error, NeedsReauthError):
        return needs_reauthorisation(provider, connection)
    if isinstance(error, UnknownOutcomeError) and is_write:
        return ProviderOutcomeUnknownError(
            detail=f"{provider} was asked, and its answer was lost.", provider=provider
        )
    if translate is None:
        return ProviderUnavailableError(
            detail=f"{provider} did not answer as it should.", provider=provider
        )
    return translate(error, provider)


def needs_reauthorisation(provider: str, connection: UUID | None) -> ApiError:
    """Return what a call through a dead connection, or with a refused credential, is answered."""
    if connection is None:
        return CredentialRefusedError(
            detail=f"{provider} refuses this credential.", provider=provider
        )
    shown = ids.show(Prefix.CONNECTION, connection)
    return NeedsReauthorisationError(
        detail=f"{provider} no longer accepts the credentials of this connection.",
        provider=provider,
        connection_id=shown,
        reauthorize_url=f"/v1/connections/{shown}:reauthorize",
    )


def _rate_limited(error: SyncError, provider: str) -> ApiError:
    assert isinstance(error, RateLimitedError)
    wait_s = max(1, round(error.retry_after_s or RETRY_AFTER_S))
    return ProviderRateLimitedError(
        detail=f"{provider} takes no further call for {wait_s} s.",
        headers={"Retry-After": str(wait_s)},
        provider=provider,
    )


def _unavailable(error: SyncError, provider: str) -> ApiError:
    wait_s = (error.retry_after_s if isinstance(error, TransientError) else None) or RETRY_AFTER_S
    return ProviderUnavailableError(
        detail=f"{provider} is not available now.",
        headers={"Retry-After": str(max(1, round(wait_s)))},
        provider=provider,
    )


# What a person has to mend, by the codes of MisconfiguredError.
_TO_MEND = {
    "api_disabled": "its API is switched off for this account, or for this person: an "
    "administrator must allow it (an edition with API access, and this person's permission to use "
    "it)",
    "scope_missing": "this login may not see what is needed: an administrator must give the person "
    "more rights, or a person with more rights must log in",
    "client_refused": "it does not accept the id or the secret of your application there: look "
    "them up again, and PATCH `oauth_client` of the connection",
    "field_missing": "a field is not there any more, or this login may not see it",
    "list_missing": "the list is not there any more",
}


def _misconfigured(error: SyncError, provider: str) -> ApiError:
    assert isinstance(error, MisconfiguredError)
    code = _harmless(error.what)
    return ProviderMisconfiguredError(
        detail=f"{provider} says that {_TO_MEND[code]}."
        if code in _TO_MEND
        else f"{provider} answers: {code}.",
        provider=provider,
        provider_code=code,
    )


def _refused(error: SyncError, provider: str) -> ApiError:
    assert isinstance(error, RequestRefusedError)
    return ProviderRefusedError(
        detail=f"{provider} refuses the request (HTTP {error.status}, {_harmless(error.code)}).",
        provider=provider,
        provider_status=error.status,
        provider_code=_harmless(error.code),
    )


def _harmless(code: str) -> str:
    return code if _HARMLESS_CODE.fullmatch(code) else "unknown"


_TRANSLATIONS: Mapping[type[SyncError], Callable[[SyncError, str], ApiError]] = {
    RateLimitedError: _rate_limited,
    UnavailableError: _unavailable,
    UnknownOutcomeError: _unavailable,
    MisconfiguredError: _misconfigured,
    RequestRefusedError: _refused,
}
