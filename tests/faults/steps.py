"""The steps at which a process can be killed, as the code names them, and how a test arms one."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SERVICES = ("poller", "mapper", "writer", "notifier", "quota")
RELAYS = ("poller", "writer", "quota")  # Services with an outbox.


@cache  # To read it out takes a second, in which nothing else of a test goes on.
def steps() -> frozenset[str]:
    """Return every `<service>.<step>` that a process passes."""
    relay = set(_named(ROOT / "libs" / "common" / "outbox.py"))
    found = {f"{service}.{step}" for service in RELAYS for step in relay}
    for service in SERVICES:
        for path in (ROOT / "services" / service).glob("*.py"):
            found |= {f"{service}.{step}" for step in _named(path)}
    return frozenset(found)


def _named(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(func=ast.Attribute(attr="_reached"), args=[ast.Constant(value)]):
                yield str(value)


def arm(folder: Path, step: str, wish: str = "kill") -> Path:
    """Let a step strike once; return its file, which is gone once it has."""
    assert step in steps(), f"no process passes {step}"
    armed = folder / step
    # Written beside it first: a process must not read half a wish.
    written = folder / f".{step}"
    written.write_text(wish)
    written.rename(armed)
    return armed
