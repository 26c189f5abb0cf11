"""Where a process spends its time: py-spy looks at it from outside, so nothing of ours changes.

py-spy is no dependency: whoever profiles installs it (`pip install py-spy`) and names it in
`BENCHMARK_PY_SPY` unless it is on the path. Its samples are stacks with counts, one a line
(`flamegraph.pl`, speedscope), and are summed up here by function.
"""

import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from local.errors import StackError

RECORD = ("record", "--gil", "--format", "raw", "--rate", "200", "--duration", "86400")
ENDS_WITHIN_S = 30.0
SHOWN = 40


@contextmanager
def profiled(pids: Mapping[str, int], names: Sequence[str], folder: Path) -> Iterator[None]:
    """Profile these processes for as long as the block lasts; a file for each of them."""
    tool = os.environ.get("BENCHMARK_PY_SPY", "py-spy")
    if names and shutil.which(tool) is None:
        what = f"there is no {tool} to profile with"
        raise StackError(what, "pip install py-spy, or name it in BENCHMARK_PY_SPY")
    folder.mkdir(parents=True, exist_ok=True)
    spies = [
        subprocess.Popen(
            [tool, *RECORD, "--pid", str(pids[name]), "--output", str(folder / f"{name}.txt")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for name in names
    ]
    try:
        yield
    finally:
        for spy in spies:
            spy.send_signal(signal.SIGINT)  # It writes what it has.
        for spy in spies:
            spy.wait(ENDS_WITHIN_S)


def summary(stacks: Path) -> str:
    """Return where the samples are: functions by their own time, and with what they call."""
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    total = 0
    for line in stacks.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [frame.rsplit(":", 1)[0] for frame in stack.split(";")]
        total += int(count)
        own[frames[-1]] += int(count)
        whole.update(dict.fromkeys(frames, int(count)))
    lines = [f"{stacks.stem}: {total} samples", "  own      whole"]
    ranked = sorted(set(whole), key=lambda frame: (-own[frame], -whole[frame]))[:SHOWN]
    lines += [
        f"  {own[frame] / total:6.1%} {whole[frame] / total:7.1%}  {frame}" for frame in ranked
    ]
    return "\n".join(lines)
