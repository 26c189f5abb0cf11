"""How every route is entered: the order of checks that no route can leave out.

1. The body is read (its size is limited by the application) and must be JSON; where a file is
   uploaded (`UploadRoute`) it must say that it is one, and is read by the route as it comes.
2. The API key is checked, and must have the route's scope: a route without a scope does not even
   start, so access is denied by default.
3. Our own rate limit.
4. Query parameters that the route does not know are refused, as unknown fields are.
5. The Idempotency-Key's row is committed.
6. The route runs: in one transaction (`TransactionalRoute`), or, where it calls a provider, in
   several short ones of its own, none of them open during the call (`ProviderRoute`).
"""

import hashlib
import json
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.params import Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.exceptions import HTTPException

from libs.common import ids
from libs.common.clock import Clock
from libs.common.database import SessionMaker
from libs.common.ids import Prefix
from libs.common.postgres import is_transient, transact
from libs.common.secrets import KeyRing
from services.config_api import idempotency, keys
from services.config_api.accounts import Accounts
from services.config_api.errors import (
    RETRY_AFTER_S,
    ApiError,
    DatabaseUnavailableError,
    Flaw,
    ForbiddenError,
    InvalidError,
    KeyReusedError,
    NoFileTypeError,
    TooManyRequestsError,
    UnauthenticatedError,
    UnsupportedMediaTypeError,
    answer,
)
from services.config_api.keys import FailureThrottle
from services.config_api.rate_limit import RateLimiter
from services.config_api.scopes import Scope
from services.config_api.store import keys as key_store
from services.config_api.units import ATTEMPTS_MAX, Units

JSON_TYPES = frozenset({"application/json", "application/merge-patch+json"})
# The last one is what browsers on Windows call a CSV file where Excel is installed.
FILE_TYPES = frozenset(
    {"text/csv", "text/plain", "text/tab-separated-values", "application/vnd.ms-excel"}
)
BEARER = HTTPBearer(
    auto_error=False,
    scheme_name="ApiKey",
    description="An API key: `Authorization: Bearer csk_<id>_<secret>`.",
)

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where browsers may be sent."""

    callback_url: str  # Our own /v1/oauth/callback, as providers know it.
    return_origins: frozenset[str]  # Origins that a login may end at.
    allows_loopback: bool  # A front end under development, on this machine.
    events_url: str | None = None  # Our own /v1/provider-events; None: nobody outside reaches us.


@dataclass(frozen=True, slots=True)
class UploadBounds:
    """How much may be uploaded: bytes and rows of one file, and bytes kept for one workspace."""

    bytes_max: int = 100 * 1024 * 1024
    rows_max: int = 1_000_000
    kept_bytes_max: int = 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Parts:
    """What the application stands on."""

    sessions: SessionMaker
    secrets: KeyRing
    accounts: Accounts
    clock: Clock
    addresses: Addresses
    throttle: FailureThrottle
    limiter: RateLimiter
    uploads: UploadBounds = UploadBounds()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: a workspace's key, or the operator's (`workspace` None)."""

    key_id: UUID
    name: str
    workspace_id: UUID | None
    scopes: frozenset[str]

    @property
    def actor(self) -> str:
        """Return who did it, as the audit log says."""
        return ids.show(Prefix.API_KEY, self.key_id)

    @property
    def workspace(self) -> UUID:
        """Return the caller's workspace, in routes that only workspaces reach."""
        assert self.workspace_id is not None
        return self.workspace_id


def demands(scope: Scope) -> Security:
    """Return the dependency that makes a route demand a scope."""
    return Security(BEARER, scopes=[scope.value])


def scope_of(route: APIRoute) -> Scope:
    """Return the one scope that a route demands; a route without one is a mistake."""
    found = [
        scope
        for dependency in route.dependencies
        if isinstance(dependency, Security)
        for scope in dependency.scopes or ()
    ]
    if len(found) != 1:
        message = f"{route.path} demands {len(found)} scopes instead of 1"
        raise TypeError(message)
    return Scope(found[0])


class TransactionalRoute(APIRoute):
    """A route that runs in one transaction, its stored answer in the same."""

    holds_transaction = True

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        scope_of(self)

    def get_route_handler(self) -> Handler:
        """Return the handler, with the checks in front."""
        original = super().get_route_handler()
        scope = scope_of(self)
        known = {
            parameter.alias
            for dependant in (self.dependant, *self.dependant.dependencies)
            for parameter in dependant.query_params
        }

        async def handle(request: Request) -> Response:
            body = await self.take_body(request)
            try:
                await _admit(request, scope)
                _refuse_unknown_parameters(request, known)
                return await _perform(
                    request,
                    original,
                    body,
                    holds_transaction=self.holds_transaction,
                    check_replay=self.check_replay,
                )
            except ApiError:
                raise
            except Exception as error:
                if is_transient(error):
                    raise DatabaseUnavailableError(
                        detail="The database did not answer in time.",
                        headers={"Retry-After": str(RETRY_AFTER_S)},
                    ) from error
                raise

        return handle

    async def take_body(self, request: Request) -> bytes:
        """Return the body; raise an ApiError if it is of a kind that is not taken here."""
        body = await request.body()
        refuse_media_type(request, body)
        return body

    async def check_replay(self, request: Request, replayed: Response) -> None:
        """Raise KeyReusedError if the answer that is repeated was another body's."""


class ProviderRoute(TransactionalRoute):
    """A route that calls a provider: it opens its own short transactions (`UnitsOfWork`)."""

    holds_transaction = False


class UploadRoute(ProviderRoute):
    """A route that takes a file as its body, as it comes: it is never in memory as a whole.

    Its Idempotency-Key is claimed before the body is known. Where it was used before, the body is
    read and held against the file that was answered for.
    """

    async def take_body(self, request: Request) -> bytes:
        """Return nothing: the route reads the body itself."""
        if media_type_of(request) not in FILE_TYPES or "content-encoding" in request.headers:
            raise NoFileTypeError(
                detail="Send the file as it is: `Content-Type: text/csv`, no Content-Encoding."
            )
        return b""

    async def check_replay(self, request: Request, replayed: Response) -> None:
        """Read the body; raise KeyReusedError if it is not the file that was answered for."""
        digest = hashlib.sha256()
        async for data in request.stream():
            digest.update(data)
        if json.loads(bytes(replayed.body)).get("sha256") != digest.hexdigest():
            raise KeyReusedError(
                detail="This Idempotency-Key belongs to a request with another file."
            )


def media_type_of(request: Request) -> str:
    """Return what a body is said to be, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def refuse_media_type(request: Request, body: bytes) -> None:
    """Refuse a body that does not say it is JSON."""
    if body and media_type_of(request) not in JSON_TYPES:
        raise UnsupportedMediaTypeError(detail="The body must be sent as application/json.")


async def _admit(request: Request, scope: Scope) -> None:
    parts = parts_of(request)
    caller = await _authenticate(parts, request)
    allowance = parts.limiter.take(caller.workspace_id)
    request.state.headers.update(allowance.headers)
    if not allowance.is_allowed:
        raise TooManyRequestsError(
            detail="This workspace calls too often.",
            headers={"Retry-After": str(allowance.retry_after_s)},
        )
    is_operators = caller.workspace_id is None
    if scope not in caller.scopes or scope.is_operators != is_operators:
        raise ForbiddenError(
            detail="This key has not the scope it takes.", required_scope=scope.value
        )
    request.state.caller = caller
    request.state.units = Units(parts.sessions, caller.workspace_id)


async def _authenticate(parts: Parts, request: Request) -> Caller:
    address = request.client.host if request.client else ""
    parts.throttle.check(address)
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer":
        raise UnauthenticatedError(detail="The request carries no API key.")
    presented = keys.parse(value.strip())
    found = None
    if presented is not None:
        key_id = presented.key_id
        found = await transact(
            parts.sessions,
            lambda session: key_store.authenticate(session, key_id),
            attempts_max=ATTEMPTS_MAX,
        )
    if (
        presented is None
        or not keys.is_right(presented, found.secret_sha256 if found else None)
        or found is None
        or not keys.is_live(
            expires_at=found.expires_at, revoked_at=found.revoked_at, now=parts.clock.now()
        )
    ):
        parts.throttle.count(address)
        raise UnauthenticatedError(detail="The API key is wrong, expired or revoked.")
    return Caller(presented.key_id, found.name, found.workspace_id, frozenset(found.scopes))


def _refuse_unknown_parameters(request: Request, known: set[str]) -> None:
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        raise InvalidError(
            detail="The address has parameters that are not known here.",
            flaws=[
                Flaw("unknown_parameter", "There is no such parameter.", parameter=name)
                for name in unknown
            ],
        )


async def _perform(
    request: Request,
    original: Handler,
    body: bytes,
    *,
    holds_transaction: bool,
    check_replay: Callable[[Request, Response], Awaitable[None]],
) -> Response:
    units: Units = request.state.units
    attempt = idempotency.attempt_of(request, body, units, parts_of(request).secrets)
    if attempt is None:
        return await _run(request, original, None, holds_transaction=holds_transaction)
    replayed = await attempt.claim()
    if replayed is not None:
        await check_replay(request, replayed)
        return replayed
    try:
        return await _run(request, original, attempt, holds_transaction=holds_transaction)
    except ApiError as error:
        if not error.is_final:
            await attempt.release()
            raise
        return await _keep_final(units, attempt, error)
    except (RequestValidationError, HTTPException):
        await attempt.release()  # Refused by the models, before the route began.
        raise
    except Exception:
        # Transactions were undone; a provider may have been called, so only that key stays taken.
        if holds_transaction:
            await attempt.release()
        raise


async def _keep_final(units: Units, attempt: idempotency.Attempt, error: ApiError) -> Response:
    response = answer(error)
    await units.run(lambda session: attempt.keep(session, response))
    return response


async def _run(
    request: Request,
    original: Handler,
    attempt: idempotency.Attempt | None,
    *,
    holds_transaction: bool,
) -> Response:
    units: Units = request.state.units

    async def work(session: AsyncSession) -> Response:
        request.state.session = session
        response = await original(request)
        if attempt is not None:
            await attempt.keep(session, response)
        return response

    if holds_transaction:
        return await units.run(work)
    response = await original(request)
    if attempt is not None:
        kept = attempt
        await units.run(lambda session: kept.keep(session, response))
    return response


def parts_of(request: Request) -> Parts:
    """Return what the application stands on."""
    parts: Parts = request.app.state.parts
    return parts


def _session(request: Request) -> AsyncSession:
    session: AsyncSession = request.state.session
    return session


def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


def _units(request: Request) -> Units:
    units: Units = request.state.units
    return units


def _drawn_id(request: Request) -> UUID:
    """Draw the id of what a request makes, once: its transaction may be run again."""
    if not hasattr(request.state, "drawn_id"):
        request.state.drawn_id = ids.new()
    drawn: UUID = request.state.drawn_id
    return drawn


def _new_key(request: Request) -> keys.NewKey:
    """Draw the key a request makes, once: its transaction may be run again."""
    if not hasattr(request.state, "new_key"):
        request.state.new_key = keys.make()
    made: keys.NewKey = request.state.new_key
    return made


Session = Annotated[AsyncSession, Depends(_session)]
CallerOf = Annotated[Caller, Depends(_caller)]
UnitsOfWork = Annotated[Units, Depends(_units)]
PartsOf = Annotated[Parts, Depends(parts_of)]
DrawnId = Annotated[UUID, Depends(_drawn_id)]
DrawnKey = Annotated[keys.NewKey, Depends(_new_key)]
