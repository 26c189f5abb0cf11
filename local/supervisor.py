"""Run named programs side by side: start, await ready, start again when they die, measure, end.

Promises: while a supervisor lives, a program that dies is started again, as Kubernetes would, each
time after a longer pause; every start, death and restart is reported. When the supervisor ends, in
whatever way, everything it started ends too; what the kernel's leash misses, the next supervisor
in the same folder ends (`local.orphans`).
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from local import orphans, processes
from local.errors import StackError
from local.processes import Program
from local.usage import Meter

IsReady = Callable[[], Awaitable[bool]]
Report = Callable[[str], None]

WATCH_POLL_S = 0.1
MEASURE_S = 1.0  # Memory is sampled this often; CPU is exact however seldom it is looked at.
READY_POLL_S = 0.05
READY_WITHIN_S = 90.0  # Many times what a busy machine with two cores takes.

# Pauses before a restart: none for the first death, which is mostly a test's or an operator's;
# then doubling, so a program that cannot run does not eat the machine.
RESTART_FIRST_S, RESTART_MOST_S = 0.1, 10.0
STEADY_S = 30.0  # A program that ran this long begins with the first pause again.
STARTS_MAX = 3  # A program that never was ready is given up after so many starts.

# Services drain for 25 s at most (`ServiceSettings.drain_s`). One that hangs in a rebalance takes
# longer, which nobody at a terminal waits for: being killed is something it must survive anyway.
END_WITHIN_S = 30.0


@dataclass(slots=True)
class _Running:
    """One program's present process and its past."""

    program: Program
    is_ready: IsReady
    is_server: bool
    process: subprocess.Popen[bytes]
    started_at_s: float  # By the loop's clock.
    was_ready: bool = False
    starts: int = 1
    pause_s: float = RESTART_FIRST_S
    restart_at_s: float | None = None  # It has died and waits to be started again.


class Supervisor:
    """The programs of one folder. Make it with `supervise`."""

    def __init__(self, folder: Path, report: Report) -> None:
        self.folder = folder
        self.meter = Meter()
        self._report = report
        self._running: dict[str, _Running] = {}
        self._failure: StackError | None = None
        self._tell_of_restart: Callable[[], None] = lambda: None

    async def start(self, program: Program, is_ready: IsReady, *, is_server: bool = False) -> None:
        """Start a program and return once it is ready.

        `is_server`: the others use it until their end, so it ends after them. Raises `StackError`
        with the end of its log if it ends `STARTS_MAX` times before that, or is not ready in time.
        """
        started_at_s = asyncio.get_running_loop().time()
        process = processes.start(program)
        self._running[program.name] = _Running(program, is_ready, is_server, process, started_at_s)
        self._note()
        await self.wait_ready(program.name)

    def pids(self) -> dict[str, int]:
        """Return the pids of what runs at this moment, by name."""
        return {
            name: each.process.pid
            for name, each in self._running.items()
            if each.restart_at_s is None
        }

    def kill(self, name: str) -> int:
        """Kill a program with SIGKILL, and let it be started again; return its pid.

        Raises `KeyError` if none of that name was started.
        """
        process = self._running[name].process
        # Not by `Popen.kill`, which reaps what has ended, before it was measured.
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        return process.pid

    async def wait_ready(self, name: str, *, other_than: int = 0) -> int:
        """Return the pid of a program once it is ready.

        `other_than`: the pid of a process that has just been killed, which may look alive yet.
        Raises `StackError` if it is not ready in time.
        """
        each = self._running[name]
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                while not await self._is_up(each, other_than):
                    if self._failure:
                        raise self._failure
                    await asyncio.sleep(READY_POLL_S)
        except TimeoutError:
            what = f"{name} was not ready within {READY_WITHIN_S:g} s; its log ends:\n"
            what += processes.tail(each.program.log)
            raise StackError(what, f"read {each.program.log}, then start again") from None
        each.was_ready = True
        return each.process.pid

    def on_restart(self, tell: Callable[[], None]) -> None:
        """Call this from now on whenever a process was started again."""
        self._tell_of_restart = tell

    def enter(self, phase: str) -> None:
        """Count what is used from now on as used in this phase."""
        self.meter.enter(phase, self.pids())

    async def stop(self, name: str) -> None:
        """Ask a program to end, kill it if it will not, and do not start it again."""
        await self._end(self._running.pop(name))
        self._note()

    async def stop_all(self) -> None:
        """End everything, servers last: their users may need them to end in order."""
        for is_server in (False, True):
            names = [name for name, each in self._running.items() if each.is_server is is_server]
            await asyncio.gather(*(self.stop(name) for name in names))

    async def watch(self) -> None:
        """Restart what dies, until cancelled; `supervise` runs this."""
        measured_at_s = 0.0
        while True:
            now_s = asyncio.get_running_loop().time()
            for each in list(self._running.values()):
                if each.restart_at_s is not None:
                    self._restart_if_due(each, now_s)
                elif _has_ended(each.process):
                    self._bury(each, now_s)
            if now_s - measured_at_s >= MEASURE_S:
                measured_at_s = now_s
                for name, pid in self.pids().items():
                    self.meter.measure(name, pid)
            await asyncio.sleep(WATCH_POLL_S)

    async def _is_up(self, each: _Running, other_than: int) -> bool:
        is_alive = each.restart_at_s is None and not _has_ended(each.process)
        return is_alive and each.process.pid != other_than and await each.is_ready()

    def _bury(self, each: _Running, now_s: float) -> None:
        name = each.program.name
        self.meter.ended(name, each.process.pid)
        how = processes.ending(each.process.wait())
        if not each.was_ready and each.starts >= STARTS_MAX:
            self._failure = processes.did_not_start(each.program, each.process.returncode)
            each.restart_at_s = float("inf")
            return
        if now_s - each.started_at_s >= STEADY_S:
            each.pause_s = RESTART_FIRST_S
        each.restart_at_s = now_s + each.pause_s
        self._report(f"{name} died ({how}), is started again in {each.pause_s:g} s")
        each.pause_s = min(2 * each.pause_s, RESTART_MOST_S)

    def _restart_if_due(self, each: _Running, now_s: float) -> None:
        assert each.restart_at_s is not None
        if now_s < each.restart_at_s:
            return
        each.process = processes.start(each.program)
        each.started_at_s, each.restart_at_s = now_s, None
        each.starts += 1
        self.meter.usage[each.program.name].restarts += 1
        self._report(f"{each.program.name} was started again, with pid {each.process.pid}")
        self._note()
        self._tell_of_restart()

    async def _end(self, each: _Running) -> None:
        if each.restart_at_s is not None:
            return
        os.kill(each.process.pid, each.program.end_signal)
        try:
            async with asyncio.timeout(END_WITHIN_S):
                await _end_of(each.process)
        except TimeoutError:
            self._report(f"{each.program.name} did not end within {END_WITHIN_S:g} s: killed")
            os.kill(each.process.pid, signal.SIGKILL)
        await _end_of(each.process)
        self.meter.ended(each.program.name, each.process.pid)
        each.process.wait()

    def _note(self) -> None:
        orphans.note(self.folder, self.pids())


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Return whether a process has ended, without reaping it: its times can be read until then."""
    if process.returncode is not None:
        return True
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PID, process.pid, options) is not None


async def _end_of(process: subprocess.Popen[bytes]) -> None:
    while not _has_ended(process):  # noqa: ASYNC110  # no event tells; the system must be asked
        await asyncio.sleep(processes.LISTEN_POLL_S)


@asynccontextmanager
async def supervise(folder: Path, report: Report) -> AsyncIterator[Supervisor]:
    """Supervise the programs of a folder, alone, for as long as the block lasts.

    Raises `StackError` if another supervisor holds the folder.
    """
    with orphans.only_one(folder):
        for orphan in orphans.end_all(folder):
            report(f"ended {orphan.name} (pid {orphan.pid}), left over by a stack before this one")
        supervisor = Supervisor(folder, report)
        watching = asyncio.create_task(supervisor.watch())
        try:
            yield supervisor
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            await supervisor.stop_all()
