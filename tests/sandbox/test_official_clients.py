"""The table of docs/sandbox.md: what an official client shows at each sandbox, and where."""

import ast
import re
from pathlib import Path

import pytest

from sandbox.__main__ import PROVIDERS

ROOT = Path(__file__).parents[2]
ABILITIES = ("list", "page", "create", "update", "errors", "limits")


def table() -> dict[str, list[str]]:
    """Return for each sandbox the name of the test that shows each ability."""
    page = (ROOT / "docs" / "sandbox.md").read_text()
    section = page.partition("\n## Official clients\n")[2].partition("\n## ")[0]
    rows = [re.findall(r"[^|]+", line) for line in section.splitlines() if line.startswith("|")]
    return {row[0].strip(): [cell.strip(" `") for cell in row[2:]] for row in rows}


TABLE = table()


def test_every_sandbox_has_an_official_client() -> None:
    assert TABLE["sandbox"] == list(ABILITIES)
    assert set(TABLE) - {"sandbox", "---"} == set(PROVIDERS)


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_client_lists_pages_creates_updates_fails_and_meets_limits(name: str) -> None:
    tests = {
        node.name
        for path in (ROOT / "tests" / "sandbox" / name).glob("*official_client.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }

    assert len(TABLE[name]) == len(ABILITIES)
    assert set(TABLE[name]) <= tests
