"""Each sentence that makes a sequence of PROTOCOL.md 12 safe is missed when it is taken out.

A mutation's seed is the first whose history needs the sentence; the same seed is kept well by the
code as it is. After a change of what the simulation draws, `MUTATIONS_LOOK=1` looks for new seeds.
"""

import os

import pytest

from tests.simulation.history import play
from tests.simulation.loop import StandstillError
from tests.simulation.memory.ledger import LedgerError
from tests.simulation.memory.writer import UniqueError
from tests.simulation.mutations import MUTATIONS, Mutation, applied
from tests.simulation.oracle import ViolationError

# What the oracle says, and what PostgreSQL would refuse.
MISSED = (ViolationError, LedgerError, UniqueError, StandstillError)
LOOKS = int(os.environ.get("MUTATIONS_LOOK", "0"))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.name)
def test_a_sentence_that_is_taken_out_is_missed(mutation: Mutation) -> None:
    """Proves X2: the simulation would see it."""
    with applied(mutation), pytest.raises(MISSED):
        play(mutation.seed)


@pytest.mark.parametrize("seed", sorted({mutation.seed for mutation in MUTATIONS}))
def test_with_every_sentence_in_place_the_same_histories_end_well(seed: int) -> None:
    play(seed)


@pytest.mark.skipif(not LOOKS, reason="MUTATIONS_LOOK says how many seeds to try")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.name)
def test_look_for_the_first_seed_that_needs_the_sentence(mutation: Mutation) -> None:
    with applied(mutation):
        for seed in range(LOOKS):
            try:
                play(seed)
            except MISSED as error:
                pytest.fail(f"{mutation.name}: seed={seed} {error}")
