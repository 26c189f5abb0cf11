"""/v1/api-keys: who may call for a workspace.

A key is rotated by making a second one, giving it to whoever uses the first, and deleting the
first; both live meanwhile. A key grants at most what the key that made it may do.
"""

from collections.abc import Sequence
from datetime import datetime

from fastapi import APIRouter, Response, status
from pydantic import ConfigDict, Field

from libs.common import ids
from libs.common.ids import Prefix
from services.config_api import keys
from services.config_api.errors import ConflictError, refuse_field
from services.config_api.models import Asked, KeyId, Moment, Name, Shown, found
from services.config_api.routing import (
    CallerOf,
    DrawnKey,
    PartsOf,
    Session,
    TransactionalRoute,
    demands,
)
from services.config_api.scopes import WORKSPACE_SCOPES, Scope
from services.config_api.store import audit
from services.config_api.store import keys as store

# Two are needed while one is rotated; more than this are forgotten ones.
LIVE_KEYS_MAX = 20

router = APIRouter(tags=["api-keys"], route_class=TransactionalRoute)


class ApiKey(Shown):
    """A key without its secret."""

    id: str
    name: str
    scopes: Sequence[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class ApiKeys(Shown):
    """The keys that were not revoked, oldest first."""

    items: Sequence[ApiKey]


class NewApiKey(Shown):
    """A key that was just made: the only time its secret is shown."""

    id: str
    name: str
    scopes: Sequence[str]
    expires_at: datetime | None
    secret: str = Field(description="The whole key, as a bearer token. Shown once, kept nowhere.")

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "key_0199d0c1a2b37c4d8e5f60718293a4b5",
                    "name": "CRM team",
                    "scopes": ["integrations:read", "runs:read"],
                    "expires_at": None,
                    "secret": "csk_0199d0c1a2b37c4d8e5f60718293a4b5_…",
                }
            ]
        }
    )


class ApiKeyWanted(Asked):
    """A key to make; without `scopes` it may do all that the calling key may."""

    name: Name
    scopes: Sequence[Scope] | None = Field(default=None, min_length=1)
    expires_at: Moment | None = None

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"name": "CRM team", "scopes": ["integrations:read", "runs:read"]}]
        }
    )


@router.get("/v1/api-keys", dependencies=[demands(Scope.KEYS_READ)])
async def list_api_keys(session: Session) -> ApiKeys:
    """List the keys of the workspace."""
    return ApiKeys(items=[_shown(key) for key in await store.find_all(session)])


@router.post(
    "/v1/api-keys", status_code=status.HTTP_201_CREATED, dependencies=[demands(Scope.KEYS_WRITE)]
)
async def create_api_key(
    wanted: ApiKeyWanted,
    session: Session,
    caller: CallerOf,
    parts: PartsOf,
    key: DrawnKey,
    response: Response,
) -> NewApiKey:
    """Make a key; the answer is the only one that shows its secret."""
    scopes = [scope for scope in WORKSPACE_SCOPES if scope in caller.scopes]
    if wanted.scopes is not None:
        for at, scope in enumerate(wanted.scopes):
            if scope not in scopes:
                raise refuse_field(
                    at=f"/scopes/{at}",
                    code="scope_not_held",
                    detail="A key grants only what it may do itself.",
                )
        scopes = list(dict.fromkeys(wanted.scopes))
    if wanted.expires_at is not None and wanted.expires_at <= parts.clock.now():
        raise refuse_field(
            at="/expires_at", code="in_the_past", detail="A key must expire in the future."
        )
    if await store.count_live(session) >= LIVE_KEYS_MAX:
        raise ConflictError(
            detail=f"A workspace has at most {LIVE_KEYS_MAX} live keys: delete one first."
        )
    response.headers["Location"] = "/v1/api-keys"
    made = await store.add(
        session,
        key,
        workspace=caller.workspace,
        name=wanted.name,
        scopes=scopes,
        expires_at=wanted.expires_at,
    )
    await audit.record(
        session,
        workspace=caller.workspace,
        actor=caller.actor,
        action="api_key.created",
        subject=ids.show(Prefix.API_KEY, key.key_id),
        details={"name": wanted.name, "scopes": list(scopes)},
    )
    return new_key(made, key)


@router.delete(
    "/v1/api-keys/{key_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    dependencies=[demands(Scope.KEYS_WRITE)],
)
async def revoke_api_key(key_id: KeyId, session: Session, caller: CallerOf) -> None:
    """Make a key useless from now on. A key cannot revoke itself: nobody locks himself out."""
    found(await store.find(session, key_id), "API key")
    if key_id == caller.key_id:
        raise ConflictError(detail="A key cannot revoke itself: use another key of the workspace.")
    if await store.revoke(session, key_id):
        await audit.record(
            session,
            workspace=caller.workspace,
            actor=caller.actor,
            action="api_key.revoked",
            subject=ids.show(Prefix.API_KEY, key_id),
        )


def _shown(key: store.ApiKey) -> ApiKey:
    return ApiKey(
        id=ids.show(Prefix.API_KEY, key.key_id),
        name=key.name,
        scopes=key.scopes,
        created_at=key.created_at,
        expires_at=key.expires_at,
        last_used_at=key.last_used_at,
    )


def new_key(key: store.ApiKey, drawn: keys.NewKey) -> NewApiKey:
    """Return what is shown of a key once, and never again."""
    return NewApiKey(
        id=ids.show(Prefix.API_KEY, key.key_id),
        name=key.name,
        scopes=key.scopes,
        expires_at=key.expires_at,
        secret=drawn.text,
    )
