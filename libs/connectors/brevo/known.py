"""Which addresses an account has, read once and then only as far as it has grown.

Brevo lists contacts in the order of their creation, so new ones come at the end: whoever remembers
the last contact of a look goes on from there. If that contact is not where it was, one before it
was deleted and others have moved up unseen: then everything is read anew. So it is after a minute:
a contact that was read may have taken another address since, which no place tells.

An address is kept as its hash; of more than a few, only marks are that some hash made (ADR 0160).
Who is known is never taken for new; a few who are new may be taken for known, which is
harmless: they are written singly, after a look.
"""

from collections.abc import Collection, Iterable, Sequence

from libs.connectors.brevo.payload import Sighting

HASHES_MAX = 20_000  # A set of them takes some 90 bytes each.
# With so many for each contact one in a thousand that are new is taken for known; of an account of
# 100,000 one in 7,000, and of one that is larger than a million more.
MARKS_EACH = 64
MARKS_MIN, MARKS_MAX = 1 << 24, 1 << 26
KEPT_S = 60.0

_BITS = tuple(1 << place for place in range(8))


class Marks:
    """Hashes of which no more is kept than two marks of each: a Bloom filter of 2 to 8 MB."""

    def __init__(self, expected: int) -> None:
        wanted = max(MARKS_MIN, min(MARKS_MAX, expected * MARKS_EACH))
        self._marks = bytearray(1 << ((wanted - 1).bit_length() - 3))
        self._last = len(self._marks) - 1

    def update(self, hashes: Iterable[int]) -> None:
        """Make the marks of these; by the lower and by the upper half of each."""
        marks, last, bits = self._marks, self._last, _BITS
        for each in hashes:
            marks[each >> 3 & last] |= bits[each & 7]
            marks[each >> 35 & last] |= bits[each >> 32 & 7]

    def __contains__(self, each: int) -> bool:
        """Return whether one was perhaps among them; False is certain."""
        marks, last = self._marks, self._last
        return bool(
            marks[each >> 3 & last] & _BITS[each & 7]
            and marks[each >> 35 & last] & _BITS[each >> 32 & 7]
        )

    def isdisjoint(self, hashes: Iterable[int]) -> bool:
        """Return whether certainly none of these was among them."""
        marks, last, bits = self._marks, self._last, _BITS
        met = [each for each in hashes if marks[each >> 3 & last] & bits[each & 7]]
        return not any(each in self for each in met)


class KnownAddresses:
    """What was read of one account so far, in its order."""

    def __init__(self) -> None:
        self._hashes: set[int] | Marks = set()
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

    def add(self, page: Sequence[Sighting], in_account: int = 0) -> Sequence[Sighting]:
        """Take in a page that follows; return those of it that were not read before.

        `in_account` is how many there are in all, if that is known.
        """
        new = page if self._last_id is None else page[1:]
        self._hashes.update(map(hash, [each.email.lower() for each in new if each.email]))
        if isinstance(self._hashes, set) and len(self._hashes) > HASHES_MAX:
            marks = Marks(in_account)
            marks.update(self._hashes)
            self._hashes = marks
        self.read += len(new)
        if new:
            self._last_id = new[-1].id
        return new

    def among(self, addresses: Collection[str]) -> set[str]:
        """Return which of these (lower-case) addresses the account has."""
        if self._hashes.isdisjoint(map(hash, addresses)):
            return set()  # As mostly: they are to be imported.
        return {each for each in addresses if hash(each) in self._hashes}

    def forget(self) -> None:
        """Begin anew."""
        self._hashes = set()
        self._last_id = None
        self.read = 0
