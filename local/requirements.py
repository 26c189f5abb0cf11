"""Writes docs/requirements.md: for each rule of the product, the tests that prove it.

    python -m local.requirements > docs/requirements.md

A test that proves a rule names it in its docstring ("Proves S3."); the rules' texts stand below. A
test holds the file to the code (tests/test_requirements.py).
"""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
RULE = re.compile(r"\b(?:W|Q|S|X|CC|HS|SF|AC)\d{1,2}\b")

# In few words; None of the rules is narrowed by them.
RULES: Mapping[str, str] = {
    "W1": "a provider and a name make a draft that can be left and resumed at any step",
    "W2": "connect the source by the provider's own OAuth login, or by an existing connection",
    "W3": "choose the source list (HubSpot, Constant Contact), object or campaign, group",
    "W4": "without the opt-in agreement, with who and when, nothing activates",
    "W5": "map fields to attributes; at least one of e-mail or SMS",
    "W6": "choose a destination list or create one in place",
    "W7": "save and activate, or keep a draft to activate later",
    "W8": "the list of integrations shows status, last run, counts and errors; pause, resume, "
    "edit, delete",
    "Q1": "100,000 tasks a month shared by a workspace's integrations; never one more",
    "Q2": "one e-mail at 80 %, per period, limit and workspace",
    "Q3": "at 100 % every integration stops, and one more e-mail says so",
    "Q4": "a user asks for more, an operator grants or declines; a grant takes effect at once",
    "Q5": "what changed while stopped is caught up by itself",
    "Q6": "only what was written counts",
    "S1": "first a full import, then changes only, at the integration's interval",
    "S2": "contacts created at the destination are never created at the source",
    "S3": "consent is never synced, and nobody who unsubscribed is made active",
    "S4": "a contact deleted at the source stays, or leaves the list, by policy",
    "S5": "a bulk change of e-mail addresses is not carried over; a single one moves the contact",
    "S6": "yes/no and category fields are not offered",
    "S7": "read-only and calculated fields are not offered",
    "S8": "a phone number has 6 to 16 digits, or the contact is reported",
    "S9": "an e-mail address is valid, or the contact is reported",
    "S10": "provider rate limits are never exceeded, however many pollers run",
    "S11": "criteria say which contacts are synced",
    "CC1": "one integration per Constant Contact account",
    "CC2": "date fields are not offered",
    "CC3": "of fields with several values the first is collected",
    "CC4": "at most the newest 10,000 changes of one bulk change",
    "CC5": "at most 4 calls a second and 10,000 a day",
    "HS1": "calls a day by subscription, and HubSpot's own limits per 10 seconds and for search",
    "HS2": "taking a contact off the blacklist at the destination changes nothing at HubSpot",
    "SF1": "Salesforce is for workspaces on the enterprise plan",
    "SF2": "an organisation without API access gets a clear message",
    "SF3": "changed attributes are written back; dates as YYYY-MM-DD only",
    "SF4": "an empty last name is not written back",
    "SF5": "a contact without an e-mail address rests in both directions",
    "SF6": "a phone emptied at Salesforce is not emptied at Brevo",
    "SF7": "five integrations per Salesforce account",
    "SF8": "a lead's first name has at most 40 characters",
    "SF9": "deleted at Brevo is deleted at Salesforce, unless a case is attached",
    "SF10": "no loops",
    "AC1": "automatic import creates the fields it needs",
    "AC2": "first everything that matches, then every 30 minutes",
    "AC3": "no autoresponder, webhook or notification; nobody is made active",
    "AC4": "the catalogue counts automatic imports and warns",
    "AC5": "500 contacts per sync and account, the rest follows",
    "AC6": "a full account stops adding until there is room",
    "AC7": "edit and delete at any time",
    "AC8": "a CSV file instead",
    "AC9": "for any contact: why it is there or not, and what to do",
    "X1": "bad input gets a clear error; nothing is half-done",
    "X2": "any process may be killed: nothing lost, nothing charged or mailed twice",
    "X3": "a workspace sees and touches only its own",
    "X4": "credentials are sealed, never logged, never returned; contact data is never logged",
}

INTRODUCTION = """# Rules and the tests that prove them

Written by `python -m local.requirements`: a test proves a rule if its docstring names it. Rules
without a test belong to providers and features that are not there yet.

| id | rule | proved by |
|---|---|---|
"""


def document() -> str:
    """Return the whole page."""
    proofs = find_proofs()
    rows = (
        f"| {rule} | {words} | {'<br>'.join(proofs.get(rule, [])) or 'later'} |"
        for rule, words in RULES.items()
    )
    return INTRODUCTION + "\n".join(rows) + "\n"


def find_proofs() -> Mapping[str, list[str]]:
    """Return for each rule the tests whose docstrings name it, as `path::test`."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name, words in tests_in(ROOT / "tests"):
        for rule in sorted(set(RULE.findall(words))):
            found[rule].append(f"`{name}`")
    return found


@cache
def tests_in(folder: Path) -> Sequence[tuple[str, str]]:
    """Return every test as `path::test`, and its docstring; a process reads them once."""
    return tuple(_read_tests(folder))


def _read_tests(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith(
                "test_"
            ):
                yield f"{path.relative_to(ROOT)}::{node.name}", ast.get_docstring(node) or ""


if __name__ == "__main__":
    sys.stdout.write(document())
