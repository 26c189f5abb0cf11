"""Makes the operator's first key: from there on everything goes through the API.

Only one bootstrap runs at a time. A second one changes nothing and says so, unless it is told to
replace what is there; then the old keys are useless at once.
"""

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.database import SessionMaker
from services.config_api import keys
from services.config_api.scopes import OPERATOR_SCOPES
from services.config_api.store import keys as store
from services.config_api.units import Units


class AlreadyBootstrappedError(Exception):
    """The operator has a key."""

    def __init__(self, count: int) -> None:
        super().__init__(
            f"the operator has {count} usable key(s) already, and a key is shown only once; "
            "if it is lost, run `python -m services.config_api bootstrap --replace`: it makes a "
            "new one, and the old ones stop working"
        )


async def bootstrap(sessions: SessionMaker, *, replace: bool) -> str:
    """Return a new operator's key; raise AlreadyBootstrappedError if there is one."""
    key = keys.make()

    async def work(session: AsyncSession) -> None:
        count = await store.lock_operator_keys(session)
        if await store.find(session, key.key_id) is not None:
            return  # The commit's answer was lost, and this is the second try.
        if count and not replace:
            raise AlreadyBootstrappedError(count)
        if replace:
            await store.revoke_operator_keys(session)
        await store.add(session, key, workspace=None, name="Operator", scopes=OPERATOR_SCOPES)

    await Units(sessions, None).run(work)
    return key.text
