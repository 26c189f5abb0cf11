"""Which addresses were read of an account, in little memory.

Promises: an address that was read is always among them; one that was not hardly ever is. Up to a
few thousand are kept as their hashes. Of more, only marks are kept that some hash made, a Bloom
filter of 2 to 4 MB (ADR 0160). Whoever asks must do no harm to somebody who is taken for known.
"""

from array import array
from collections.abc import Collection, Iterable
from itertools import combinations

HASHES_MAX = 20_000  # A set of them takes some 90 bytes each.
# With so many for each contact three in a thousand that are new are taken for known; of an account
# of 100,000 one in 8,500, and of one that is larger than a million more.
MARKS_EACH = 32
MARKS_MIN, MARKS_MAX = 1 << 24, 1 << 25

# Three of the thirty bits of a word: one look at one word tells of all three.
_BITS = 30
_WORD = (1 << _BITS) - 1
_PLACES = 12  # How many bits of a hash choose among the patterns.
_MADE = [sum(1 << place for place in each) for each in combinations(range(_BITS), 3)]
_PATTERNS = tuple((_MADE * 2)[: 1 << _PLACES])  # There are 4,060: a few are there twice.
_UNMADE = tuple(_WORD & ~each for each in _PATTERNS)
_CHOICE = (1 << _PLACES) - 1


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
    """Hashes of which no more is kept than three marks of each, all of them in one word."""

    def __init__(self, expected: int) -> None:
        wanted = max(MARKS_MIN, min(MARKS_MAX, expected * MARKS_EACH))
        # A mark is a bit that is not set any more: so what is left of a pattern tells at once
        # that it was not made.
        self._words = array("I", [_WORD]) * (1 << ((wanted - 1).bit_length() - 5))
        self._last = len(self._words) - 1

    def update(self, hashes: Iterable[int]) -> None:
        """Make the marks of these: which ones by the lower bits of each, where by the others."""
        words, last, unmade, places, choice = self._words, self._last, _UNMADE, _PLACES, _CHOICE
        for each in hashes:
            words[each >> places & last] &= unmade[each & choice]

    def __contains__(self, each: int) -> bool:
        """Return whether one was perhaps among them; False is certain."""
        return not self._words[each >> _PLACES & self._last] & _PATTERNS[each & _CHOICE]

    def isdisjoint(self, hashes: Iterable[int]) -> bool:
        """Return whether certainly none of these was among them."""
        words, last, patterns, places, choice = self._words, self._last, _PATTERNS, _PLACES, _CHOICE
        # As a list: a generator would go in and out of it thousands of times, and nobody is there.
        left = [words[each >> places & last] & patterns[each & choice] for each in hashes]
        return all(left)
