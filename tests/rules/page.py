"""Writes docs/removals.md: for each rule, what is taken out of the code and which test misses it.

python -m tests.rules --page > docs/removals.md
"""

from itertools import groupby

from local.requirements import RULES
from tests.rules.table import REMOVALS

INTRODUCTION = """\
# Rules taken out of the code

A test that cannot fail proves nothing. Here is, for each rule, what `make rules` takes out of a copy
of the code, a clause at a time, and the test that fails without it. Written by
`python -m tests.rules --page`; what each clause is in the code stands in `tests/rules/`.

| id | without this | this fails |
|---|---|---|
"""


def document() -> str:
    """Return the whole page, its rules in the order of docs/requirements.md."""
    places = {rule: place for place, rule in enumerate(RULES)}
    ordered = sorted(REMOVALS, key=lambda each: places[each.rule])
    rows = [
        f"| {rule} | {each.clause} | `{each.test}` |"
        for rule, own in groupby(ordered, key=lambda each: each.rule)
        for each in own
    ]
    return INTRODUCTION + "\n".join(rows) + "\n"
