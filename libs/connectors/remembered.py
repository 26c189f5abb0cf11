"""Which addresses were read of an account, in little memory.

Promises: an address that was read is always among them; one that was not hardly ever is. Up to a
few thousand are kept as their hashes. Of more, only marks are kept that some hash made, a Bloom
filter of 2 to 4 MB (ADR 0160). Whoever asks must do no harm to somebody who is taken for known.
"""

from collections.abc import Collection, Iterable

HASHES_MAX = 20_000  # A set of them takes some 90 bytes each.
# With so many for each contact three in a thousand that are new are taken for known; of an account
# of 100,000 one in 7,000, and of one that is larger than a million more.
MARKS_EACH = 32
MARKS_MIN, MARKS_MAX = 1 << 24, 1 << 25

_BITS = tuple(1 << place for place in range(8))


class Addresses:
    """Addresses, in lower case, that are added and asked for and never listed."""

    def __init__(self) -> None:
        self._hashes: set[int] | Marks = set()

    def add(self, addresses: Iterable[str], expected: int) -> None:
        """Take in some of an account; `expected` is how many it has in all, 0 if nobody knows."""
        self._hashes.update(map(hash, addresses))
        if isinstance(self._hashes, set) and len(self._hashes) > HASHES_MAX:
            marks = Marks(expected)
            marks.update(self._hashes)
            self._hashes = marks

    def among(self, addresses: Collection[str]) -> set[str]:
        """Return which of these were added, and perhaps some that were not."""
        if self._hashes.isdisjoint(map(hash, addresses)):
            return set()  # As mostly: they are to be imported.
        return {each for each in addresses if hash(each) in self._hashes}

    def clear(self) -> None:
        """Forget all of them."""
        self._hashes = set()


class Marks:
    """Hashes of which no more is kept than two marks of each."""

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
