"""Takes the rules of the product out of the code, to see that their tests miss them.

    python -m tests.rules               # all of them: many minutes
    python -m tests.rules CC1 SF        # those of a rule, or of a family of rules
    python -m tests.rules --page > docs/removals.md

It works on a copy of the tree. It ends with 0 if every removal was noticed, with 1 and the list of
the others if not, and with 2 if a test fails by the code as it is.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence

from tests.rules import run
from tests.rules.page import document
from tests.rules.removal import ROOT, Removal
from tests.rules.run import Found, Verdict
from tests.rules.table import REMOVALS


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments, take out and judge; return the exit status."""
    wanted = _parser().parse_args(arguments)
    if wanted.page:
        sys.stdout.write(document())
        return 0
    chosen = choose(wanted.rules)
    if not chosen:
        print("no such rule in the table")
        return 2
    return _take_out(chosen)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.rules",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("rules", nargs="*", metavar="RULE", help="an id, or a family such as SF")
    parser.add_argument("--page", action="store_true", help="print the page about the table")
    return parser


def choose(rules: Sequence[str]) -> list[Removal]:
    """Return the removals of these rules and families; of all, if none are named."""
    return [
        each
        for each in REMOVALS
        if not rules or each.rule in rules or each.rule.rstrip("0123456789") in rules
    ]


def _take_out(chosen: Sequence[Removal]) -> int:
    with run.served() as environment, run.copied(ROOT, environment) as copy:
        print(f"{len(chosen)} removals; first their tests by the code as it is", flush=True)
        said = copy.failing(each.test for each in chosen)
        if said:
            print(said)
            return 2
        left = list(_told(copy.without(chosen)))
    print(f"{len(chosen) - len(left)} of {len(chosen)} removals were noticed")
    return 1 if left else 0


def _told(founds: Iterable[Found]) -> Iterator[Found]:
    """Tell of each as it is known; yield those that nobody noticed."""
    for found in founds:
        removal = found.removal
        print(
            f"{found.verdict}: {removal.rule} {removal.clause} ({removal.noticed_by})", flush=True
        )
        if found.verdict is not Verdict.NOTICED:
            print(found.said, flush=True)
            yield found


if __name__ == "__main__":
    sys.exit(main())
