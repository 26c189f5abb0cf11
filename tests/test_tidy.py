"""House rules that no linter knows."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.common.events import Event, Topic

ROOT = Path(__file__).parent.parent
MODULES = sorted(
    path
    for folder in ("libs", "services", "sandbox", "local", "migrations")
    for path in (ROOT / folder).rglob("*.py")
)
FUNCTION_LINES_MAX = 70  # One screen.
SERVICES = ("config_api", "poller", "mapper", "writer", "quota", "activity", "notifier")


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_what_it_is_and_its_functions_fit_a_screen(path: Path) -> None:
    tree = ast.parse(path.read_text())

    too_long = [
        function.name
        for function in functions(tree)
        if (function.end_lineno or 0) - function.lineno >= FUNCTION_LINES_MAX
    ]

    assert ast.get_docstring(tree)
    assert not too_long


def test_the_transaction_belongs_to_whoever_opened_it() -> None:
    offenders = [path for path in MODULES if ".commit()" in path.read_text()]

    assert offenders == []


def test_every_event_travels_on_a_versioned_topic() -> None:
    carried = {topic for event in Event.__subclasses__() for topic in event.topics}

    assert carried == set(Topic)
    assert all(topic.rpartition(".v")[2].isdigit() for topic in Topic)


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_the_same_files(service: str) -> None:
    folder = ROOT / "services" / service

    assert (folder / "__main__.py").is_file()
    assert (folder / "settings.py").is_file()
    assert (folder / "store.py").is_file() or (folder / "store" / "__init__.py").is_file()


def test_statements_stand_in_a_services_store_and_nowhere_else() -> None:
    sql = re.compile(r'"(select|insert into|update|delete from) ', re.IGNORECASE)
    offenders = [
        str(path.relative_to(ROOT))
        for path in MODULES
        if path.is_relative_to(ROOT / "services")
        and "store" not in str(path.relative_to(ROOT / "services"))
        and sql.search(path.read_text())
    ]

    assert offenders == []


def test_every_exception_to_a_rule_carries_its_reason() -> None:
    """`# noqa: CODE  # why`: an exception without one is a rule that nobody understood."""
    bare = re.compile(r"#\s*(noqa|type: ignore|pragma: no cover)\b(?!.*(#|—|-)\s*\S+ \S+)")
    offenders = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in [*MODULES, *(ROOT / "tests").rglob("*.py")]
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if bare.search(line) and "re.compile" not in line and '"""' not in line
    ]

    assert offenders == []


def test_dependencies_are_pinned_with_hashes_and_without_addresses() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        text = path.read_text()
        assert "://" not in text
        for requirement in re.findall(r"^[A-Za-z].*$", text, re.MULTILINE):
            assert "==" in requirement
            assert requirement.endswith("\\")
