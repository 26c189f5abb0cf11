"""Decide which contacts that are no longer there may be told of: the delete guard.

Pure (PROTOCOL.md 4.4). A source that answers half is not a source whose contacts are deleted: more
than a tenth of the members and more than 20 at once, or an incomplete read, need a person's word.
"""

from collections.abc import Collection
from dataclasses import dataclass

GUARD_CONTACTS = 20
GUARD_SHARE = 0.10


@dataclass(frozen=True, slots=True)
class Leavers:
    """Who is published as gone, who waits for a confirmation, and whether a new question arose.

    `withheld` replaces what was withheld before; `asks_anew` is False where the earlier question
    stands, so that nobody is asked twice.
    """

    published: frozenset[str]
    withheld: frozenset[str]
    asks_anew: bool


def decide(
    gone: Collection[str],
    *,
    members_before: int,
    is_complete: bool,
    confirmed: Collection[str] = (),
    standing: Collection[str] = (),
) -> Leavers:
    """Return what happens to those who are gone.

    `confirmed` are gone with a person's word, `standing` wait for one since an earlier read (give
    none with a full run: its read makes the question anew).
    """
    missing = frozenset(gone)
    if not is_complete:
        # Who has a person's word already waits for a complete read, not for another word.
        waiting = missing - frozenset(confirmed)
        return Leavers(frozenset(), waiting, asks_anew=bool(waiting - frozenset(standing)))
    agreed = missing & frozenset(confirmed)
    waiting = (missing & frozenset(standing)) - agreed
    fresh = missing - agreed - waiting
    if is_suspicious(len(fresh), members_before):
        return Leavers(agreed, waiting | fresh, asks_anew=True)
    return Leavers(agreed | fresh, waiting, asks_anew=False)


def is_suspicious(gone: int, members_before: int) -> bool:
    """Return whether so many at once are more likely a mistake than deletions."""
    return gone > GUARD_CONTACTS and gone > GUARD_SHARE * members_before
