"""Every test, in three pytest runs side by side: `make test`.

Tests of whole stacks wait most of their time, for leases, intervals and back-off; the others keep
a processor busy. Each lane has servers of its own. Coverage is measured where the code runs in the
process of the tests, and only there: to watch each line makes a test's process two to three times
as slow, whosever lines they are; a test of thousands of turns is marked `no_cover`. The services of
a stack run as they do in production.

All lanes run to their end whatever becomes of the others. What made tests fail is told once more
in the end, after the table of coverage, because of a long log often only the end is kept. The last
line adds all up, as pytest writes it; the exit status is 0 only if all are.
"""

import asyncio
import re
import sys
import time
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parent
STACKS = ("integration",)  # The longest, and mostly waiting.
PARTS = ("common", "connectors", "services")  # The tests of libs and services, one by one.
COVERED = ("--cov", "--cov-fail-under=95")

_COUNTED = re.compile(r"(\d+) (passed|failed|errors?|skipped|xfailed|xpassed)\b")
_SUMMARY = re.compile(r"\b(passed|failed|errors?|no tests ran)\b.* in [\d.]+s")
# Whose failure it is, and what an exception (also one of a group) or a comparison says.
_REASON = re.compile(r"^_{3,} .* _{3,}$|^E  |^[ |]*\w[\w.]*(Error|Exception|Warning)\b")
REASONS_MAX = 80  # Lines a lane; a comparison of long texts may have thousands.


def lanes() -> dict[str, list[str]]:
    """Return pytest's arguments for each lane; together they name everything under tests/."""
    found = sorted(
        path.name
        for path in TESTS.iterdir()
        if path.name.startswith("test_") or (path.is_dir() and not path.name.startswith("_"))
    )
    return {
        "stacks": [f"tests/{name}" for name in STACKS],
        "parts": [*COVERED, *(f"tests/{name}" for name in PARTS)],
        "others": [f"tests/{name}" for name in found if name not in (*STACKS, *PARTS)],
    }


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def _run(lane: str, arguments: list[str]) -> tuple[int, Counter[str], list[str]]:
    """Run one lane, show its lines as they come; its exit status, its counts, why tests failed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "--color=no", *arguments),
        cwd=TESTS.parent,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=1 << 24,  # A line of a failed comparison may be long.
    )
    assert process.stdout is not None
    counts: Counter[str] = Counter()
    reasons: list[str] = []
    try:
        async for line in process.stdout:
            shown = line.decode(errors="replace").rstrip("\n")
            _say(f"{lane}: {shown}")
            if _REASON.search(shown) and len(reasons) < REASONS_MAX:
                reasons.append(f"{lane}: {shown}")
            if _SUMMARY.search(shown):
                counts = Counter(
                    {name.removesuffix("s"): int(n) for n, name in _COUNTED.findall(shown)}
                )
        status = await process.wait()
        return status, counts, reasons if status else []
    finally:
        if process.returncode is None:
            process.terminate()  # Its fixtures end the servers.
            await process.wait()


async def _run_all() -> int:
    started = time.monotonic()
    ended = await asyncio.gather(*(_run(lane, wanted) for lane, wanted in lanes().items()))
    for reason in [line for _, _, reasons in ended for line in reasons]:
        _say(reason)
    total = sum((counts for _, counts, _ in ended), Counter[str]())
    told = ", ".join(f"{count} {name}" for name, count in sorted(total.items())) or "no tests ran"
    _say(f"==== {told} in {time.monotonic() - started:.2f}s ====")
    return next((status for status, _, _ in ended if status), 0)


if __name__ == "__main__":
    sys.exit(asyncio.run(_run_all()))
