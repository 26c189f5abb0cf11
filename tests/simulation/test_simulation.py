"""The whole main job under random histories: every promise holds (X2, Q1, S5).

`python -m tests.simulation seed 17` shows one history, step by step;
`SIMULATION_SEEDS=20000` tries more of them than a run of CI has time for.
"""

import os

import pytest

from tests.simulation.history import play

BLOCKS = 10
SEEDS = int(os.environ.get("SIMULATION_SEEDS", "400"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("block", range(BLOCKS))
def test_whatever_happens_every_promise_is_kept(block: int) -> None:
    """Proves X2, Q1, Q5, Q6, S1, S4 and S5 for the main job as a whole."""
    failures: list[str] = []
    for seed in range(block * SEEDS // BLOCKS, (block + 1) * SEEDS // BLOCKS):
        try:
            play(seed)
        except Exception as error:  # noqa: BLE001  # every seed is heard, whatever it finds
            failures.append(f"seed {seed}: {type(error).__name__}: {error}")

    assert not failures, "\n".join(failures)


def test_a_seed_is_replayed_step_by_step() -> None:
    first, second = play(3), play(3)

    assert [(at, what) for at, what, _ in first.log] == [(at, what) for at, what, _ in second.log]
