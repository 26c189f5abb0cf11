"""Each sentence that makes a sequence of PROTOCOL.md 12 safe is missed when it is taken out.

A mutation's seed is one whose history needs the sentence; the same seed is kept well by the code as
it is. Whatever changes how often a service asks the database draws other histories from the same
seeds: then others are tried, too, and `python -m tests.simulation look NAME` finds the new first.
"""

from collections.abc import Iterable

import pytest

from tests.simulation.history import play
from tests.simulation.mutations import MISSED, MUTATIONS, Mutation, applied

TRIED = 600  # Histories at most, where the named one needs the sentence no longer: some minutes.


def _play_all(seeds: Iterable[int]) -> None:
    for seed in seeds:
        play(seed)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.name)
def test_a_sentence_that_is_taken_out_is_missed(mutation: Mutation) -> None:
    """Proves X2: the simulation would see it."""
    with applied(mutation), pytest.raises(MISSED):
        _play_all((mutation.seed, *range(TRIED)))


@pytest.mark.parametrize("seed", sorted({mutation.seed for mutation in MUTATIONS}))
def test_with_every_sentence_in_place_the_same_histories_end_well(seed: int) -> None:
    play(seed)
