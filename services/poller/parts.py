"""Split what a provider's pages hold into records that the broker takes.

Pure. Promises: every change is in exactly one part, in order; a part has at most 200 changes, or
500 of small contacts (docs/decisions/0164), and 512 KB (PROTOCOL.md 2); a contact that is too large
to travel at all goes without its properties, as `null`, which the mapper rejects as
`value_too_long`: it is told of, and stops nobody.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from operator import attrgetter

import msgspec

from libs.common.events import (
    CHANGED_BYTES_MAX,
    CHANGES_MAX,
    EFFECT_BYTES,
    EMAIL_CHARACTERS_MAX,
    MAPPED_BYTES_MAX,
    Change,
)

CHANGES_SAFE = 200  # Changes in a part, whatever they weigh and whatever is made of them.
ENTRY_BYTES = 128  # Times and JSON's own signs.
# One contact may fill half a part: mapping may double what is mapped twice.
CONTACT_BYTES_MAX = CHANGED_BYTES_MAX // 2
ID_CHARACTERS_MAX = 255
FIRST_PRINTABLE = " "

# What mapping may add to a value beside the attribute's name: signs, and another way to write it.
VALUE_BYTES = 16

_TOO_LARGE = msgspec.Raw(b"null")
_id, _merged_from = attrgetter("id"), attrgetter("merged_from")


def changes_max(mapped: Sequence[tuple[str, str]]) -> int:
    """Return how many small changes a part may hold under a mapping: each field, its attribute.

    As many as still fit a record together once they are mapped, or the mapper would refuse some.
    """
    names = sum(len(attribute.encode()) + VALUE_BYTES for _, attribute in mapped)
    times = max(Counter(field for field, _ in mapped).values(), default=1)
    effects = CHANGES_MAX * (EFFECT_BYTES + EMAIL_CHARACTERS_MAX + names)
    fits = effects + times * CONTACT_BYTES_MAX <= MAPPED_BYTES_MAX
    return CHANGES_MAX if fits else CHANGES_SAFE


def split(changes: Sequence[Change], most: int = CHANGES_SAFE) -> list[list[Change]]:
    """Return the parts of some changes; none for none. `most`: `changes_max` of their mapping."""
    for size in dict.fromkeys([most, CHANGES_SAFE]):
        starts = range(0, len(changes), size)
        parts = [list(changes[start : start + size]) for start in starts]
        if all(map(_is_one_part, parts)):
            return parts
    return list(_split(changes))


def _is_one_part(changes: Sequence[Change]) -> bool:
    """Return whether they certainly fit: what most are, found without weighing each change.

    Five hundred ids count as if all were as long as they may be, and leave half a part for the
    rest; so small are contacts of which more than 200 travel together.
    """
    if any(map(_merged_from, changes)):
        return False
    # Put together and thrown away: a quarter of the time of asking each how long it is.
    properties = b"".join([change.properties for change in changes])
    return len(properties) <= CONTACT_BYTES_MAX


def _split(changes: Sequence[Change]) -> Iterator[list[Change]]:
    part: list[Change] = []
    size = 0
    for change in map(_bounded, changes):
        weight = weigh(change)
        if part and (len(part) == CHANGES_SAFE or size + weight > CHANGED_BYTES_MAX):
            yield part
            part, size = [], 0
        part.append(change)
        size += weight
    if part:
        yield part


def weigh(change: Change) -> int:
    """Return about how many bytes a change takes in a record."""
    merged = sum(len(merged) + 3 for merged in change.merged_from)
    return ENTRY_BYTES + len(change.id) + merged + len(memoryview(change.properties))


def _bounded(change: Change) -> Change:
    if len(memoryview(change.properties)) <= CONTACT_BYTES_MAX:
        return change
    return msgspec.structs.replace(change, properties=_TOO_LARGE)


def storable(changes: Sequence[Change]) -> Sequence[Change]:
    """Return the changes whose id can be kept: short, and without unprintable characters.

    Such an id is no provider's: it would be the separator of a packed statement, or a NUL that
    PostgreSQL refuses, and one contact must not stop the others. The caller counts who is left out.
    """
    if _are_plain(list(map(_id, changes))):
        return changes
    return [change for change in changes if is_storable(change.id)]


def storable_ids(source_ids: Sequence[str]) -> Sequence[str]:
    """Return the ids that can be kept."""
    return source_ids if _are_plain(source_ids) else list(filter(is_storable, source_ids))


def _are_plain(source_ids: Sequence[str]) -> bool:
    """Return whether all are short numbers, as most providers' ids are: together, not each."""
    return (
        "".join(source_ids).isdigit()
        and all(source_ids)
        and max(map(len, source_ids)) <= ID_CHARACTERS_MAX
    )


def is_storable(source_id: str) -> bool:
    """Return whether a contact's id can be kept."""
    return 0 < len(source_id) <= ID_CHARACTERS_MAX and min(source_id) >= FIRST_PRINTABLE
