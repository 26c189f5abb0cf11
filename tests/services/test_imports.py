"""What the services through which contacts flow keep out of their memory."""

import subprocess
import sys

import pytest

# Megabytes each, and nothing that these services do (docs/decisions/0158, 0160).
UNNEEDED = ("pydantic", "fastapi", "sqlalchemy")
LOADED = "import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"


@pytest.mark.parametrize("service", ["poller", "mapper", "writer", "activity"])
def test_a_service_imports_nothing_large_that_it_does_not_use(service: str) -> None:
    code = LOADED.format(module=f"services.{service}.__main__")

    loaded = subprocess.check_output([sys.executable, "-c", code], text=True, timeout=60).split()

    assert f"services.{service}".partition(".")[0] in loaded
    assert set(UNNEEDED).isdisjoint(loaded)
