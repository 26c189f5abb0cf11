"""Opens destinations for their owner: every call asks the lease, then the shared rates."""

from libs.connectors.contract import Account, Destination
from libs.connectors.opening import Opener, StoredConnection
from services.writer import store
from services.writer.lease import Lease, LeasedGate


class Destinations:
    """Makes what speaks to an account; holds the process's HTTP connections."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener

    async def __call__(self, connection: store.Connection, lease: Lease) -> Destination:
        """Return the destination; raise NeedsReauthError if there are no usable credentials."""
        stored = StoredConnection(
            workspace=connection.workspace,
            connection=connection.connection,
            provider=connection.provider,
            account=Account(
                id=connection.account_id,
                name="",
                time_zone=connection.time_zone,
                tier=connection.tier,
            ),
            account_url=connection.account_url,
            client_id=connection.client_id,
        )
        gate = LeasedGate(self._opener.gate(stored), lease)
        return await self._opener.destination(stored, gate=gate)
