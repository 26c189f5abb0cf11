"""House rules that no linter knows."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.common.events import Event, Topic
from libs.connectors import registry

ROOT = Path(__file__).parent.parent
ARCHITECTURE, DECISIONS = ROOT / "docs" / "architecture.md", ROOT / "docs" / "decisions"
MODULES = sorted(
    path
    for folder in ("libs", "services", "sandbox", "local", "migrations")
    for path in (ROOT / folder).rglob("*.py")
)
FUNCTION_LINES_MAX = 70  # One screen.
SERVICES = ("config_api", "poller", "mapper", "writer", "quota", "activity", "notifier")
CONNECTORS = ROOT / "libs" / "connectors"
FOLDERS = sorted(path.parent.name for path in CONNECTORS.glob("*/facts.py"))
# Whoever adds a provider edits none of these.
COMMON = [
    path
    for path in MODULES
    if path.is_relative_to(ROOT / "services")
    or path.is_relative_to(ROOT / "libs" / "common")
    or (path.parent == CONNECTORS and path.name != "registry.py")
]
# What only shows a reader how something looks: examples of the API's description, and of mails.
SHOWN = frozenset({"examples", "json_schema_extra", "_EXAMPLE"})
SHOWN_MODULES = frozenset({"services/notifier/samples.py"})


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


def words_of(node: ast.AST) -> Iterator[str]:
    """Yield a module's identifiers and texts, without docstrings and what is only shown."""
    if isinstance(node, ast.keyword) and node.arg in SHOWN:
        return
    if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) in SHOWN:
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield from imported_by(ast.Module([node], []))
        return
    if isinstance(node, ast.Constant):
        yield repr(node.value)
        return
    yield from (value for value in vars(node).values() if isinstance(value, str))
    for each in ast.iter_child_nodes(node):
        yield from words_of(each)


def providers_in(tree: ast.Module) -> set[str]:
    """Return the providers that code tells apart from others: by name, or by label in a text."""
    providers = {name: each.facts.label.lower() for name, each in registry.PROVIDERS.items()}
    words = [word.lower() for word in words_of(tree)]
    # CSV is a word of the field as well: only the text alone is the provider's name.
    providers.pop("csv")
    named = {
        name
        for name, label in providers.items()
        if any(name in word or label in word for word in words)
    }
    return named | ({"csv"} & {word.strip("'") for word in words if word.startswith("'")})


@pytest.mark.parametrize("path", COMMON, ids=lambda path: str(path.relative_to(ROOT)))
def test_who_serves_all_providers_names_none(path: Path) -> None:
    """Adding one is a folder, a sandbox and a line of the registry, and no edit anywhere else."""
    if str(path.relative_to(ROOT)) in SHOWN_MODULES:
        return

    assert providers_in(ast.parse(path.read_text())) == set()


@pytest.mark.parametrize(
    ("code", "named"),
    [
        ('if provider == "hubspot": ...', {"hubspot"}),
        ('detail = f"{what} needs Constant Contact."', {"constant_contact"}),
        ("hubspot_client_id: str = ''", {"hubspot"}),
        ("from libs.connectors.brevo import facts", {"brevo"}),
        ('if provider == "csv": ...', {"csv"}),
        ('import csv; detail = "Choose a CSV file."', set()),
        ('path = "rows.csv"', set()),
        ('def read():\n    """As HubSpot does."""', set()),
        ('Field(examples=["HubSpot"])', set()),
    ],
)
def test_a_provider_that_is_named_is_found(code: str, named: set[str]) -> None:
    assert providers_in(ast.parse(code)) == named


def imported_by(tree: ast.Module) -> Iterator[str]:
    """Yield every module that a module imports, also from inside a package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{each.name}" for each in node.names)
        elif isinstance(node, ast.Import):
            yield from (each.name for each in node.names)


@pytest.mark.parametrize("folder", FOLDERS)
def test_providers_do_not_know_one_another(folder: str) -> None:
    """By the folders there are: a contract of import-linter would have to name each of them."""
    others = [f"libs.connectors.{each}" for each in FOLDERS if each != folder]
    known = {"libs.connectors.registry", "libs.connectors.opening"}

    offenders = [
        (str(path.relative_to(ROOT)), name)
        for path in (CONNECTORS / folder).rglob("*.py")
        for name in imported_by(ast.parse(path.read_text()))
        if name in known or any(f"{name}.".startswith(f"{each}.") for each in others)
    ]

    assert offenders == []


def test_every_folder_is_a_provider() -> None:
    assert set(FOLDERS) == registry.PROVIDERS.keys()


def test_every_decision_is_listed_once_and_in_order() -> None:
    listed = re.findall(r"^- \[\d{4}\]\(decisions/(.+?)\)", ARCHITECTURE.read_text(), re.MULTILINE)

    assert listed == sorted(path.name for path in DECISIONS.glob("[0-9]*.md"))


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
