"""Which addresses an account has, read once and then only as far as it has grown.

Contacts are read by their ids, which only grow: whoever remembers the last one goes on from there.
A contact that was read may have taken another address since, so after a minute all is read anew.
An address is kept as its hash: two that share one are taken for each other, which is harmless, for
who is taken for known is written after a look.
"""

from collections.abc import Iterable, Sequence

from libs.connectors.activecampaign.payload import ContactRecord

# Some 70 bytes each. Of a larger account nothing is kept; it is read anew for each import.
KEPT_MAX = 200_000
KEPT_S = 60.0


class KnownAddresses:
    """What was read of one account so far, by id."""

    def __init__(self) -> None:
        self._hashes: set[int] = set()
        self._since_s = 0.0
        self.last_id = 0
        self.read = 0

    def begin(self, now_s: float) -> None:
        """Begin a look; what was read too long ago is forgotten. Times are a monotonic clock's."""
        if now_s - self._since_s >= KEPT_S:
            self.forget()
        if not self.read:
            self._since_s = now_s

    def add(self, page: Sequence[ContactRecord]) -> None:
        """Take in the contacts that follow."""
        self._hashes.update(hash(each.email.lower()) for each in page if each.email)
        self.read += len(page)
        if page:
            self.last_id = int(page[-1].id)

    def among(self, addresses: Iterable[str]) -> set[str]:
        """Return which of these (lower-case) addresses the account has."""
        return {each for each in addresses if hash(each) in self._hashes}

    def forget(self) -> None:
        """Begin anew."""
        self._hashes.clear()
        self.last_id = self.read = 0
