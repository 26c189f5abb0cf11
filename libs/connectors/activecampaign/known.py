"""Which addresses an account has, read once and then only as far as it has grown.

Contacts are read by their ids, which only grow: whoever remembers the last one goes on from there.
A contact that was read may have taken another address since, so after a minute all is read anew.
A few who are new may be taken for known (`libs.connectors.remembered`), which is harmless, for who
is taken for known is written after a look.
"""

from collections.abc import Collection, Sequence

from libs.connectors.activecampaign.payload import ContactRecord
from libs.connectors.remembered import Addresses

# Of a larger account nothing is kept; it is read anew for each import.
KEPT_MAX = 200_000
KEPT_S = 60.0


class KnownAddresses:
    """What was read of one account so far, by id."""

    def __init__(self) -> None:
        self._addresses = Addresses()
        self._since_s = 0.0
        self.last_id = 0
        self.read = 0

    def begin(self, now_s: float) -> None:
        """Begin a look; what was read too long ago is forgotten. Times are a monotonic clock's."""
        if now_s - self._since_s >= KEPT_S:
            self.forget()
        if not self.read:
            self._since_s = now_s

    def add(self, page: Sequence[ContactRecord], in_account: int) -> None:
        """Take in the contacts that follow, of so many."""
        self._addresses.add([each.email.lower() for each in page if each.email], in_account)
        self.read += len(page)
        if page:
            self.last_id = int(page[-1].id)

    def among(self, addresses: Collection[str]) -> set[str]:
        """Return which of these (lower-case) addresses the account has."""
        return self._addresses.among(addresses)

    def forget(self) -> None:
        """Begin anew."""
        self._addresses.clear()
        self.last_id = self.read = 0
