"""/v1/provider-events: where accounts of providers tell that contacts were edited.

No API key here: the bearer token, drawn by us for this one account, is what proves who sends. An
event is a hint (docs/decisions/0142): the next read comes sooner, and tells what is true. So one
that is lost, late, or sent twice changes nothing but a read's time.
"""

from typing import Annotated

from fastapi import APIRouter, Path, Request, status

from libs.common.postgres import is_transient, transact
from libs.connectors import registry
from services.config_api.errors import (
    RETRY_AFTER_S,
    Flaw,
    InvalidError,
    TooManyRequestsError,
    UnauthenticatedError,
)
from services.config_api.listening import digest_of
from services.config_api.models import ConnectionId, found
from services.config_api.routing import PartsOf
from services.config_api.store import subscriptions
from services.config_api.units import ATTEMPTS_MAX

router = APIRouter(tags=["connections"])

PATH = "/v1/provider-events"


@router.post(f"{PATH}/{{provider}}/{{connection_id}}", status_code=status.HTTP_204_NO_CONTENT)
async def take_event(
    provider: Annotated[str, Path(max_length=40)],
    connection_id: ConnectionId,
    request: Request,
    parts: PartsOf,
) -> None:
    """Take an event of a provider; for providers, by the token that they were given."""
    hear = found(registry.hearing(provider), "provider")
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not token:
        raise UnauthenticatedError(detail="The event carries no token.")
    try:
        heard = hear(await request.body())
    except ValueError as error:
        raise InvalidError(
            detail="This is no event of the provider's.",
            flaws=[Flaw("malformed", "It cannot be read.", pointer="")],
        ) from error
    if not heard.is_news:
        return  # Nothing that is read was touched, whoever says so.
    try:
        is_ours = await transact(
            parts.sessions,
            lambda session: subscriptions.take_hint(
                session, connection_id, digest_of(token.strip()), heard.gone
            ),
            attempts_max=ATTEMPTS_MAX,
        )
    except Exception as error:
        if not is_transient(error):
            raise
        # The one refusal after which providers send an event once more (Brevo drops it after 5xx).
        raise TooManyRequestsError(
            detail="The database did not answer in time.",
            headers={"Retry-After": str(RETRY_AFTER_S)},
        ) from error
    if not is_ours:
        raise UnauthenticatedError(detail="The event's token is none of this connection's.")
