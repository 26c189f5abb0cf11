"""The whole main job under random histories: every promise holds (X2, Q1, S5).

`python -m tests.simulation seed 17` shows one history, step by step;
`SIMULATION_SEEDS=20000` tries more of them than a run of CI has time for.
"""

import os

import pytest

from tests.simulation.history import play
from tests.simulation.pool import broken

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "1000"))
FAILURES_SHOWN_MAX = 20


@pytest.mark.timeout(max(600, SEEDS))
def test_whatever_happens_every_promise_is_kept() -> None:
    """Proves X2, Q1, Q5, Q6, S1, S4 and S5 for the main job as a whole."""
    failures = [f"seed {seed}: {said}" for seed, said in broken(range(SEEDS))]

    assert not failures, "\n".join(failures[:FAILURES_SHOWN_MAX])


def test_a_seed_is_replayed_step_by_step() -> None:
    first, second = play(3), play(3)

    assert [(at, what) for at, what, _ in first.log] == [(at, what) for at, what, _ in second.log]
