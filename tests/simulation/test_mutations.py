"""Each sentence that makes a sequence of PROTOCOL.md 12 safe is missed when it is taken out.

A mutation's seed is the first whose history needs the sentence; the same seed is kept well by the
code as it is. After a change of what the simulation draws, a new seed is found by
`python -m tests.simulation look NAME --seeds 200`.
"""

import pytest

from tests.simulation.history import play
from tests.simulation.mutations import MISSED, MUTATIONS, Mutation, applied


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.name)
def test_a_sentence_that_is_taken_out_is_missed(mutation: Mutation) -> None:
    """Proves X2: the simulation would see it."""
    with applied(mutation), pytest.raises(MISSED):
        play(mutation.seed)


@pytest.mark.parametrize("seed", sorted({mutation.seed for mutation in MUTATIONS}))
def test_with_every_sentence_in_place_the_same_histories_end_well(seed: int) -> None:
    play(seed)
