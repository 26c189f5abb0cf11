"""What a person asks the simulation from a terminal."""

import pytest

from tests.simulation import __main__ as asked
from tests.simulation.history import History
from tests.simulation.mutations import MUTATIONS
from tests.simulation.oracle import ViolationError

EARLY = min(MUTATIONS, key=lambda each: each.seed)  # Found soonest.


def test_a_history_is_shown_step_by_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert asked.main(["seed", "3"]) == 0
    assert " written Write(" in capsys.readouterr().out


def test_a_broken_promise_is_shown_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_seed: int, *, show: bool) -> History:
        assert show
        kind = "lost"
        raise ViolationError(kind, "a contact")

    monkeypatch.setattr(asked, "play", broken)

    assert asked.main(["seed", "3"]) == 1
    assert capsys.readouterr().out == "ViolationError: lost: a contact\n"


def test_the_first_seed_that_misses_a_sentence_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert asked.main(["look", EARLY.name, "--seeds", str(EARLY.seed + 1)]) == 0
    assert f"{EARLY.name}: seed=" in capsys.readouterr().out


def test_a_look_in_vain_says_how_far_it_went(capsys: pytest.CaptureFixture[str]) -> None:
    assert asked.main(["look", EARLY.name, "--seeds", "0"]) == 1
    assert capsys.readouterr().out == f"{EARLY.name}: none of 0\n"
