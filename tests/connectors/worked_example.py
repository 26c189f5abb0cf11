"""The worked example of docs/connectors.md, taken out of the page: there is no other copy.

Its files are written into a folder of their own, in the shape of the tree, and are found there as
if they stood in it; what is on the page under the registry's name is its one line, and becomes an
entry without an edit of the registry.
"""

import atexit
import importlib
import importlib.util
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import libs.connectors
import sandbox
from libs.connectors.registry import Provider

ROOT = Path(__file__).parents[2]
HEADING = "## A worked example"
REGISTRY = "libs/connectors/registry.py"
TESTS = "tests/connectors/acme/test_acme.py"
_SECTION = re.compile(r"^### `([\w/]+\.py)`$(.*?)(?=^### |\Z)", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PACKAGES = {"libs/connectors": libs.connectors, "sandbox": sandbox}


def code() -> dict[str, list[str]]:
    """Return the blocks of code of the example by the file that they belong into."""
    page = (ROOT / "docs" / "connectors.md").read_text()
    example = page.partition(f"\n{HEADING}\n")[2]
    return {path: _CODE.findall(text) for path, text in _SECTION.findall(example)}


@dataclass(frozen=True, slots=True)
class Example:
    """The example as modules: its own tests, and what its line puts into the registry."""

    folder: Path
    tests: Any  # A module: what is in it is the page's to say.
    entry: Mapping[str, Provider]


@cache
def load() -> Example:
    """Write the example into a folder that lasts as long as the process, and import it."""
    temporary = tempfile.TemporaryDirectory()
    atexit.register(temporary.cleanup)
    folder = Path(temporary.name)
    _write(folder)
    with _in_place(folder):
        return Example(folder, _loaded(folder / TESTS), _loaded(folder / "entry.py").ENTRY)


def _write(folder: Path) -> None:
    """Write the example's files under a folder; its line of the registry into one of its own."""
    files = {path: "\n".join(blocks) for path, blocks in code().items() if path != REGISTRY}
    imports, line = code()[REGISTRY]
    provider = "from libs.connectors.registry import Provider\n"
    files["entry.py"] = f"{provider}{imports}ENTRY = {{{line}}}\n"
    for path, text in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        (file.parent / "__init__.py").touch()
        file.write_text(text)


@contextmanager
def _in_place(folder: Path) -> Iterator[None]:
    """Let imports find the example's folders beside those of the tree."""
    importlib.invalidate_caches()
    for path, package in _PACKAGES.items():
        package.__path__.append(str(folder / path))
    try:
        yield
    finally:
        for package in _PACKAGES.values():
            package.__path__.pop()


def _loaded(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"worked_example_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
