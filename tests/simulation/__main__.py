"""Shows histories, and looks for those that need a sentence of the protocol.

    python -m tests.simulation seed 17
    python -m tests.simulation look parking_releases --seeds 200

`seed` prints one history step by step, and ends with 1 and what the oracle says if a promise was
broken. `look` plays histories without a sentence (`mutations`; without a name: each of them in
turn) until one misses it, and names that seed; it ends with 1 if there was none among those tried.
"""

import argparse
import sys
from collections.abc import Sequence

from tests.simulation.history import play
from tests.simulation.mutations import MISSED, MUTATIONS, Mutation
from tests.simulation.pool import broken

SEEDS = 200


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments and play; return the exit status."""
    wanted = _parser().parse_args(arguments)
    if wanted.what == "seed":
        return _show(wanted.seed)
    chosen = [each for each in MUTATIONS if wanted.name in (None, each.name)]
    return max([_look(mutation, wanted.seeds, first=wanted.first) for mutation in chosen])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True)
    seed = commands.add_parser("seed", help="one history, step by step")
    seed.add_argument("seed", type=int)
    look = commands.add_parser("look", help="the first seed that misses a sentence")
    names = [mutation.name for mutation in MUTATIONS]
    look.add_argument("name", nargs="?", choices=names, metavar="name", help=", ".join(names))
    look.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help="how many to try")
    look.add_argument("--first", type=int, default=0, metavar="N", help="where to begin")
    return parser


def _show(seed: int) -> int:
    try:
        play(seed, show=True)
    except MISSED as error:
        print(f"{type(error).__name__}: {error}")
        return 1
    return 0


def _look(mutation: Mutation, seeds: int, *, first: int) -> int:
    for seed, said in broken(range(first, first + seeds), without=mutation.name):
        print(f"{mutation.name}: seed={seed} {said}", flush=True)
        return 0
    print(f"{mutation.name}: none of {seeds}", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
