"""Plays many histories on all cores: one process each, because a history is pure computation.

The processes are begun anew, so nothing of a test's own process reaches them; what they are told
and tell is numbers and texts.
"""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import partial
from multiprocessing import get_context

from tests.simulation.history import play
from tests.simulation.mutations import MUTATIONS, applied

AT_ONCE = 10  # Seeds that a process takes at a time.


def broken(seeds: Iterable[int], *, without: str | None = None) -> Iterator[tuple[int, str]]:
    """Yield the seeds that break a promise, and how; `without` names a mutation to play with.

    In the order of the seeds, as soon as each is known; what is left is given up with the iterator.
    """
    pool = ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn"))
    try:
        played = pool.map(partial(_played, without), seeds, chunksize=AT_ONCE)
        yield from ((seed, said) for seed, said in played if said)
    finally:
        pool.shutdown(cancel_futures=True)


def _played(without: str | None, seed: int) -> tuple[int, str]:
    """Return a seed with what was wrong with its history; nothing, if every promise was kept."""
    mutation = next((each for each in MUTATIONS if each.name == without), None)
    with applied(mutation) if mutation is not None else nullcontext():
        try:
            play(seed)
        except Exception as error:  # noqa: BLE001  # every seed is heard, whatever it finds
            return seed, f"{type(error).__name__}: {error}"
    return seed, ""
