"""Start programs that end with us, wait until they listen, and end them.

A program started here is killed by the kernel when its parent dies in whatever way
(`local.leash`). It is in a session of its own, so Ctrl-C in a terminal reaches the parent only,
which then ends everything in order.
"""

import os
import pwd
import random
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from local.errors import StackError

LEASH = Path(__file__).with_name("leash.py")
LISTEN_POLL_S = 0.02
LOG_TAIL_BYTES = 2_000  # Enough for the reason, little enough to read in a terminal.

# Below the ports that systems lend to outgoing connections (from 32768 on Linux): a server that is
# killed and started again finds its port free, not taken by somebody's connection.
PORT_MIN, PORT_MAX = 15_000, 32_000
PORT_ATTEMPTS_MAX = 100
# Who was given a port may not listen on it yet: a stack asks for all of its own before it starts.
_GIVEN: deque[int] = deque(maxlen=1_000)


@dataclass(frozen=True, slots=True)
class Program:
    """A command with everything needed to start it any number of times."""

    name: str
    command: Sequence[str]
    log: Path
    port: int = 0  # Where it will listen, on loopback; 0: nowhere.
    environment: Mapping[str, str] | None = None  # None: ours.
    user: int | None = None  # None: who we are.
    directory: Path | None = None  # None: ours.
    end_signal: signal.Signals = signal.SIGTERM


def start(program: Program) -> subprocess.Popen[bytes]:
    """Start a program; its output goes to the end of its log.

    Call it from the main thread: the kernel ends the program when the *thread* that started it
    ends. A command that cannot be run ends at once, and its log says why.
    """
    who = ("-", "-")
    if program.user is not None:
        who = (str(program.user), str(group_of(program.user)))
    with program.log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), *who, *program.command],
            env=None if program.environment is None else dict(program.environment),
            cwd=program.directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def group_of(user: int) -> int:
    """Return the primary group of a user."""
    return pwd.getpwuid(user).pw_gid


def stop(process: subprocess.Popen[bytes], program: Program, *, within_s: float) -> None:
    """Ask a program to end, and kill it if it has not within the time given."""
    process.send_signal(program.end_signal)
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def running(
    prepare: Callable[[], Program],
    *,
    attempts: int = 3,
    start_s: float = 60.0,  # Thirty times what a machine with nothing else to do needs.
    stop_s: float = 10.0,
) -> Iterator[Program]:
    """Keep a server running for as long as the block lasts.

    A port that was free a moment ago may be taken by now: a server that ends while it starts is
    prepared anew (with another port) and started again, `attempts` times in all. Raises
    `StackError` with the end of its log if that does not help.
    """
    for attempt in range(1, attempts + 1):
        program = prepare()
        process = start(program)
        try:
            await_listening(process, program, within_s=start_s)
        except StackError:
            if attempt == attempts:
                raise
            continue
        try:
            yield program
        finally:
            stop(process, program, within_s=stop_s)
        return


def await_listening(process: subprocess.Popen[bytes], program: Program, *, within_s: float) -> None:
    """Return once a program listens on its port; raise `StackError` if it ends or is too slow."""
    wait_until(lambda: process.poll() is not None or listens(process.pid, program.port), within_s)
    if process.poll() is None and not listens(process.pid, program.port):
        process.kill()
        process.wait()
    if process.poll() is not None:
        raise did_not_start(program, process.returncode)


def did_not_start(program: Program, status: int) -> StackError:
    """Return the error for a program that ended before it was ready."""
    return StackError(
        f"{program.name} did not start ({ending(status)}); its log ends:\n{tail(program.log)}",
        f"read {program.log}, mend what it says, and start again",
    )


def ending(status: int) -> str:
    """Return how a process ended, in words."""
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def tail(log: Path) -> str:
    """Return the end of a log."""
    return log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace") if log.exists() else ""


def wait_until(condition: Callable[[], bool], within_s: float) -> bool:
    """Return whether a condition came true in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(LISTEN_POLL_S)
    return True


def free_port() -> int:
    """Return a loopback port that nothing listens on, and that was not returned just before."""
    for _ in range(PORT_ATTEMPTS_MAX):
        port = random.randint(PORT_MIN, PORT_MAX)  # noqa: S311  # no secret
        if port in _GIVEN:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _GIVEN.append(port)
        return port
    what = f"no free port found between {PORT_MIN} and {PORT_MAX}"
    raise StackError(what, "end what listens there (`ss -ltnp` tells)")


def listens(pid: int, port: int) -> bool:
    """Return whether this very process listens on a port, and not one that came before it."""
    try:
        sockets = psutil.Process(pid).net_connections(kind="tcp")
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False  # Gone, or not yet the program that it will become.
    return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in sockets)
