"""Each rule has removals, each removal a place in the code and a test that says it proves it."""

import re

import pytest

from local import requirements
from local.requirements import ROOT, RULE, RULES
from tests.rules.page import document
from tests.rules.removal import Removal
from tests.rules.table import FAMILIES, REMOVALS

SCRIPTS = ROOT / "migrations" / "sql"
PAGE = ROOT / "docs" / "removals.md"


@pytest.mark.parametrize("path", sorted({each.path for each in REMOVALS}))
def test_what_is_taken_out_stands_in_the_code_once(path: str) -> None:
    text = (ROOT / path).read_text()

    for removal in REMOVALS:
        if removal.path == path:
            assert removal.applied(text) != text


def test_what_is_taken_out_of_a_function_is_not_put_back_by_a_later_script() -> None:
    """A migration may replace a function of an earlier one: it is the last that is in force."""
    scripts = {path.name: path.read_text() for path in sorted(SCRIPTS.glob("*.sql"))}
    for removal in REMOVALS:
        if not removal.path.startswith("migrations/sql/"):
            continue
        name = removal.path.rpartition("/")[2]
        before = scripts[name][: scripts[name].index(removal.old)]
        functions = re.findall(r"function (\w+\.\w+)\(", before)
        later = [each for each in scripts if each > name]
        assert not functions or not [
            each for each in later if f"function {functions[-1]}(" in scripts[each]
        ], f"{removal.rule} {removal.clause}: {functions[-1]} is replaced later"


def test_every_rule_has_something_that_is_taken_out() -> None:
    wanted = {rule for rule in RULES if rule.rstrip("0123456789") in FAMILIES}

    assert {each.rule for each in REMOVALS} == wanted


def test_every_test_that_notices_says_that_it_proves_the_rule() -> None:
    proved = {
        name: set(RULE.findall(words)) for name, words in requirements.tests_in(ROOT / "tests")
    }
    silent = [
        f"{each.test} does not name {each.rule}"
        for each in REMOVALS
        if each.rule not in proved.get(f"tests/{plain(each)}", ())
    ]

    assert silent == []


def plain(removal: Removal) -> str:
    """Return the test without the class it may be in."""
    path, *_, name = removal.noticed_by.split("::")
    return f"{path}::{name}"


def test_no_clause_is_taken_out_twice() -> None:
    clauses = [(each.rule, each.clause) for each in REMOVALS]

    assert len(clauses) == len(set(clauses))


def test_the_page_is_what_the_table_says() -> None:
    """After a change of the table: `python -m tests.rules --page > docs/removals.md`."""
    assert PAGE.read_text() == document()
