"""Stops what a workspace's plan does not have any more (SF1; docs/decisions/0154).

Promises: in the transaction that changes the plan, every integration that goes from or to such a
provider rests, with its way back: it is polled no more, what is on its way waits, and its people
are told once. Nobody but a person starts it again, and only with the plan.
"""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common import ids
from libs.common.events import IntegrationChanged, IntegrationKind, encode
from libs.common.ids import Prefix
from libs.common.reasons import Trouble
from libs.connectors.contract import Facts
from services.config_api.routing import Caller, Parts
from services.config_api.store import audit
from services.config_api.store import integrations as store
from services.config_api.store.integrations import Stopped


def lacking(catalogue: Sequence[Facts], plan: str) -> list[str]:
    """Return the providers that a plan does not have."""
    return [facts.provider for facts in catalogue if facts.plan not in (None, plan)]


async def hold_to(
    parts: Parts, session: AsyncSession, caller: Caller, workspace: UUID, plan: str
) -> None:
    """Stop every integration of a workspace that its plan does not have."""
    providers = lacking(parts.accounts.catalogue, plan)
    for stopped in await store.stop_for_plan(session, workspace, providers):
        # A way back is a part of its integration: people hear of that one.
        is_seen = stopped.way_back_of is None
        event = encode(_event(parts, workspace, stopped)) if is_seen else None
        await store.stop_polling(session, stopped, event)
        if is_seen:
            await audit.record(
                session,
                workspace=workspace,
                actor=caller.actor,
                action="integration.stopped",
                subject=ids.show(Prefix.INTEGRATION, stopped.integration_id),
                details={"reason": Trouble.PLAN_NEEDED.value},
            )


def _event(parts: Parts, workspace: UUID, stopped: Stopped) -> IntegrationChanged:
    kind, reason = IntegrationKind.ERROR, Trouble.PLAN_NEEDED.value
    return IntegrationChanged(
        # Of what happened: stopped again after it went on, it has another version.
        id=ids.computed(kind, stopped.integration_id, stopped.version, reason),
        kind=kind,
        workspace=workspace,
        integration=stopped.integration_id,
        reason=reason,
        at=parts.clock.now().isoformat(timespec="seconds").replace("+00:00", "Z"),
    )
