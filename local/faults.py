"""Writes docs/faults.md: for each fault that the pipeline must stand, the tests that prove it does.

    python -m local.faults > docs/faults.md

A test that proves one says so in its docstring ("Fault 12: …"), and a test whose subject is that
the others are able to fail is a "Negative control". A test holds the file to the code
(tests/test_faults.py).
"""

import re
import sys
from collections import defaultdict
from collections.abc import Mapping

from local.provider_faults import section
from local.requirements import ROOT, tests_in

FAULT = re.compile(r"\b[Ff]aults? (\d+(?:(?:, (?:and )?| and )\d+)*)")
CONTROL = "Negative control"

# What goes wrong and what holds all the same; the numbers are for good.
FAULTS: Mapping[int, str] = {
    1: "poller killed: page read, nothing published",
    2: "poller killed: some of a page's records published, position not stored",
    3: "poller killed: everything acknowledged, position not stored",
    4: "position stored before the acknowledgement (must be noticed)",
    5: "mapper killed: consumed, nothing produced",
    6: "mapper killed: produced, offset not committed",
    7: "writer killed before a hold",
    8: "writer killed: held, nothing sent",
    9: "writer killed: request sent, no answer read",
    10: "writer killed: answered, not posted",
    11: "writer killed: posted, not told, or told and its offset not committed",
    12: "writer killed between two turns of one part",
    13: "notifier killed before a mail is sent, or after and before it is marked",
    14: "outbox relay killed between acknowledgement and deletion",
    15: "the same event many times",
    16: "an older version after a newer one",
    17: "deleted, then a late update",
    18: "more than 10,000 contacts with one time of modification",
    19: "the source's search index is late",
    20: "contacts modified while they are paged through",
    21: "a full import beside live changes",
    22: "broker killed, cut off; a leader is lost",
    23: "broker a black hole: half-open connections",
    24: "torn frames, latency, little bandwidth",
    25: "no leader for longer than a request may take: a gap in the producer's sequence",
    26: "a rebalance in the middle of a batch, or a drain that outlasts it",
    27: "an evicted writer that still has a call to make, or one under way",
    28: "a consumer that is stuck",
    29: "a record that cannot be decoded",
    30: "a deployment that can read nothing",
    31: "dead letters cannot be stored",
    32: "records that were removed before they were read",
    33: "PostgreSQL backend killed at any statement",
    34: "PostgreSQL crashes and recovers; a primary that is read-only",
    35: "a commit that succeeded and whose answer is lost",
    36: "deadlock, lost race for a lock",
    39: "the month's partition is missing",
    40: "429 with and without a time to wait, with a date, with an absurd one",
    41: "bursts of 5xx, time-outs, bodies that drip, links cut in the middle of an answer",
    42: "a batch that fails in part",
    43: "an import that is accepted and fails later, or in part, or whose answer is lost",
    44: "a success that is none: error bodies, HTML, half of a JSON",
    45: "401 in the middle, refreshed by many at once, a grant that was revoked",
    46: "account, list or field removed at the provider",
    47: "a clock that is off",
    48: "the month ends inside a batch",
    50: "the limit reached by many writers at once",
    51: "the limit lowered while writers run",
    52: "a hold whose contact nobody comes for",
    55: "hostile input",
    60: "an event loop that is blocked for long",
    63: "one account that is slow or dead beside others",
    64: "SMTP refuses for now, for good, or is cut after the data",
    65: "a sync token that expired, before a run or on the way",
}

INTRODUCTION = """\
# Faults

What may go wrong around the pipeline HubSpot → Brevo, and the tests that show what holds: nothing
lost, nothing stale, nothing charged twice, never over the quota or a provider's limit. Made by
`python -m local.faults`; numbers that are missing belong to parts that later versions bring.
`make test` runs most of them, `make faults` those that need whole stacks for minutes; `make chaos`
lets many of them happen at once, again and again.

| | fault | proved by |
|---|---|---|
"""

CONTROLS = """
## Negative controls

The suite is able to fail: here the code is broken on purpose, and the same judge finds it.

"""


def document() -> str:
    """Return the whole page."""
    proofs = find_proofs()
    rows = [
        f"| {number} | {words} | {'<br>'.join(proofs[number])} |"
        for number, words in FAULTS.items()
    ]
    return (
        INTRODUCTION
        + "\n".join(rows)
        + "\n"
        + section()
        + CONTROLS
        + "\n".join(find_controls())
        + "\n"
    )


def find_proofs() -> Mapping[int, list[str]]:
    """Return for each fault the tests whose docstrings name it, as `path::test`."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    for name, words in tests_in(ROOT / "tests"):
        numbers = {
            int(number) for each in FAULT.findall(words) for number in re.findall(r"\d+", each)
        }
        for number in sorted(numbers):
            found[number].append(f"`{name}`")
    return found


def find_controls() -> list[str]:
    """Return the negative controls, as lines of a list."""
    return [
        f"- `{name}`"
        for name, words in tests_in(ROOT / "tests")
        if CONTROL.lower() in words.lower()
    ]


if __name__ == "__main__":
    sys.stdout.write(document())
