"""What a reconciliation of the ledger compares, what a difference means and what to do about it.

One table for all who show it: the accountant's command and the operator's API.
"""

from collections.abc import Mapping
from enum import StrEnum


class Check(StrEnum):
    """What is held against what (`ledger.look`); MEANINGS has it in words."""

    POSTED = "posted"
    HELD = "held"
    HOLDS = "holds"
    UNITS = "units"
    LINKS = "links"
    SETTLED = "settled"


MEANINGS: Mapping[Check, str] = {
    Check.POSTED: "the month's counter of used tasks, and its postings",
    Check.HELD: "the month's counter of held units, and the open units of its holds",
    Check.HOLDS: "what holds say was posted, and their postings",
    Check.UNITS: "the open units of holds, and the units that writers keep for contacts",
    Check.LINKS: "postings, and those of them whose contact has a link",
    Check.SETTLED: "postings of runs, and the contacts that were told of as written",
}

REMEDIES: Mapping[Check, str] = {
    Check.POSTED: "The postings are what was charged. Find who wrote ledger.periods by hand or "
    "restored part of a backup; then set posted to what was found.",
    Check.HELD: "The holds are what is reserved. Set held to what was found while no writer of the "
    "workspace runs.",
    Check.HOLDS: "Postings are missing or were added by hand. Compare ledger.postings with the "
    "backup for these holds before anything else is changed.",
    Check.UNITS: "Units that no writer keeps are never posted or released: look for deleted rows "
    "of delivery.intents, then release what is left of these holds (ledger.release).",
    Check.LINKS: "Contacts were charged that the writer does not know: look for deleted rows of "
    "delivery.links. The next full run writes and charges these contacts once more.",
    Check.SETTLED: "The users see other counts than were charged. Look for dead letters of "
    "contacts.settled.v1 and for a restored activity schema; the postings are right.",
}


def drift_of(kept: int, found: int, odd: int) -> int:
    """Return by how much what is kept exceeds what was found; 0 if nothing differs.

    `odd` says how many of the things compared differ: where their differences cancel each other
    out, it is how many there are.
    """
    return (kept - found or odd) if odd else 0
