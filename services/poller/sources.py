"""Open the source that an assignment is about, with the account's own limits and credentials."""

from libs.connectors import contract
from libs.connectors.contract import Source
from libs.connectors.opening import Opener, StoredConnection
from services.poller.plan import Assignment


class Sources:
    """`services.poller.attend.OpenSource` over stored connections."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener

    async def __call__(self, assignment: Assignment, /) -> Source:
        """Return the source; raise NeedsReauthError without usable credentials."""
        sealed = assignment.source.sealed
        return await self._opener.source(
            StoredConnection(
                workspace=assignment.workspace,
                connection=assignment.source.connection,
                provider=assignment.provider,
                account=account_of(assignment),
                account_url=assignment.source.account_url,
                sealed=sealed,
                client_id=sealed.client_id if sealed is not None else None,
            )
        )


def account_of(assignment: Assignment) -> contract.Account | None:
    """Return whose limits count; None before the connection's first check."""
    source = assignment.source
    if source.account_id is None:
        return None
    return contract.Account(
        id=source.account_id, name="", time_zone=source.time_zone, tier=source.tier
    )
