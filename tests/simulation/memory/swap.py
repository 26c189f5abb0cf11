"""Puts the stores in memory where the services look for theirs.

All SQL of a service stands in its `store` module (a test holds it to that), and the services name
its functions through the module: so the module is the seam, and nothing of production changes.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import services.activity.store
import services.poller.store
import services.writer.store
from libs.common import ledger
from tests.simulation.memory import activity as memory_activity
from tests.simulation.memory import ledger as memory_ledger
from tests.simulation.memory import poller as memory_poller
from tests.simulation.memory import writer as memory_writer

STORES: tuple[tuple[ModuleType, ModuleType], ...] = (
    (ledger, memory_ledger),
    (services.writer.store, memory_writer),
    (services.poller.store, memory_poller),
    (services.activity.store, memory_activity),
)


def statements(module: ModuleType) -> list[str]:
    """Return the functions of a store that ask the database."""
    return [
        name
        for name, function in inspect.getmembers(module, inspect.iscoroutinefunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    ]


@contextmanager
def stores_in_memory() -> Iterator[None]:
    """Let the services use the stores in memory as long as the block lasts."""
    kept = [
        (module, name, getattr(module, name)) for module, _ in STORES for name in statements(module)
    ]
    for module, memory in STORES:
        for name in statements(module):
            setattr(module, name, getattr(memory, name))
    try:
        yield
    finally:
        for module, name, function in kept:
            setattr(module, name, function)
