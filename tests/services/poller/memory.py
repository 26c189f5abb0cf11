"""How much memory this process ever had."""

import re
from pathlib import Path


def peak_kib() -> int:
    """Return the most that was resident, in KiB, since the program began.

    `getrusage` would tell the most of whoever started it as well, where that was more.
    """
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])
