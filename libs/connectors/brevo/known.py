"""Which addresses an account has, read once and then only as far as it has grown.

Brevo lists contacts in the order of their creation, so new ones come at the end: whoever remembers
the last contact of a look goes on from there. If that contact is not where it was, one before it
was deleted and others have moved up unseen: then everything is read anew. So it is after a minute:
a contact that was read may have taken another address since, which no place tells.

Who is known is never taken for new; a few who are new may be taken for known
(`libs.connectors.remembered`), which is harmless: they are written singly, after a look.
"""

from collections.abc import Collection, Mapping, Sequence

from libs.connectors.brevo.payload import Sighting, by_address
from libs.connectors.remembered import Addresses

KEPT_S = 60.0


class KnownAddresses:
    """What was read of one account so far, in its order."""

    def __init__(self) -> None:
        self._addresses = Addresses()
        self._last_id: int | None = None
        self._since_s = 0.0
        self.read = 0  # How many contacts, from the first on.

    @property
    def next_offset(self) -> int:
        """Return where to go on reading: at the last contact, which shows that none has moved."""
        return max(0, self.read - 1)

    def begin(self, now_s: float) -> None:
        """Begin a look; what was read too long ago is forgotten. Times are a monotonic clock's."""
        if now_s - self._since_s >= KEPT_S:
            self.forget()
        if not self.read:
            self._since_s = now_s

    def follows(self, page: Sequence[Sighting]) -> bool:
        """Return whether a page from `next_offset` begins where the last one ended."""
        return self._last_id is None or (bool(page) and page[0].id == self._last_id)

    def add(self, page: Sequence[Sighting], in_account: int) -> Mapping[str, Sighting]:
        """Take in a page that follows; return who was not read before, by address.

        `in_account` is how many there are in all, 0 if nobody knows.
        """
        new = page if self._last_id is None else page[1:]
        shown = by_address(new)
        self._addresses.add(shown, in_account)
        self.read += len(new)
        if new:
            self._last_id = new[-1].id
        return shown

    def among(self, addresses: Collection[str]) -> set[str]:
        """Return which of these (lower-case) addresses the account has."""
        return self._addresses.among(addresses)

    def forget(self) -> None:
        """Begin anew."""
        self._addresses.clear()
        self._last_id = None
        self.read = 0
