"""What starts programs, as far as it needs none."""

import pytest

from local import processes


def test_who_asks_for_several_ports_gets_different_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack asks for all its ports before anything listens on one."""
    monkeypatch.setattr(processes, "PORT_MAX", processes.PORT_MIN + 40)

    ports = [processes.free_port() for _ in range(20)]

    assert len(set(ports)) == 20
