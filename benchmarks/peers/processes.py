"""Run a pipe of processes to its end, and say what each of them used.

Times are the kernel's own account of a process that has ended, its children among them (`wait4`).
Its account of memory is of no use: what a process inherits of the most memory is that of ours, from
which it was made. So memory is looked at often, as the stack's own processes' is.
"""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from local import processes
from local.errors import StackError
from local.stack import ROOT

LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Used:
    """What a pipe of processes used, by name, and how long it took from start to end."""

    seconds: float
    cpu_s: Mapping[str, float]
    rss_mb: Mapping[str, float]


def run_pipe(commands: Mapping[str, Sequence[str]], logs: Path) -> Used:
    """Run commands side by side, each one's output the next one's input.

    Raises `StackError` with the end of its log if one fails.
    """
    logs.mkdir(parents=True, exist_ok=True)
    started_at_s = time.monotonic()
    running = _start(commands, logs)
    cpu_s: dict[str, float] = {}
    rss_mb: dict[str, float] = dict.fromkeys(running, 0.0)
    failed: list[str] = []
    while running:
        time.sleep(LOOK_S)
        for name, process in list(running.items()):
            rss_mb[name] = max(rss_mb[name], psutil.Process(process.pid).memory_info().rss / 1e6)
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if ended:
                process.returncode = os.waitstatus_to_exitcode(status)  # It is reaped.
                del running[name]
                cpu_s[name] = usage.ru_utime + usage.ru_stime
                failed += [name] if status else []
    seconds = time.monotonic() - started_at_s
    if failed:
        log = logs / f"{failed[-1]}.log"
        what = f"{failed[-1]} failed; its log ends:\n{processes.tail(log)}"
        raise StackError(what, f"read {log}")
    return Used(seconds, cpu_s, rss_mb)


def _start(
    commands: Mapping[str, Sequence[str]], logs: Path
) -> dict[str, "subprocess.Popen[bytes]"]:
    """Start every command; return the processes, which the caller reaps."""
    started: dict[str, subprocess.Popen[bytes]] = {}
    before: subprocess.Popen[bytes] | None = None
    last = list(commands)[-1]
    for name, command in commands.items():
        with (logs / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=before.stdout if before else subprocess.DEVNULL,
                stdout=log if name == last else subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
            )
        if before is not None and before.stdout is not None:
            before.stdout.close()  # Only the next one holds it: it sees the end.
        started[name] = before = process
    return started
