from collections.abc import Iterator

import pytest

from tests.sandbox.google_contacts.served import Served, serving


@pytest.fixture
def strict() -> Iterator[Served]:
    """Return a sandbox that counts its limits, as it begins."""
    with serving() as sandbox:
        yield sandbox


@pytest.fixture
def served(strict: Served) -> Served:
    """Return a sandbox without limits."""
    strict.control("PUT", "limits", {"enabled": False})
    return strict
