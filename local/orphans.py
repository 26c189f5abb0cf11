"""Who runs here: one stack in a folder at a time, and nothing left of the one before.

A stack holds a lock on its folder for as long as it lives; the kernel lets go of it however it
ends. It notes every process it starts, so that the next one, once it has the lock, can end what
outlived its supervisor. A process is known by its pid *and* when it started: a pid alone may be
somebody else's by now.
"""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from local.errors import StackError

LOCK = "supervisor.pid"
NOTES = "processes.json"
ENDED_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Noted:
    """A process as it was when it was started."""

    name: str
    pid: int
    started_at_s: float  # Unix time, as the system tells it.


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold a folder for as long as the block lasts.

    Raises `StackError` naming the process that holds it already.
    """
    with (folder / LOCK).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            what = f"one is running in {folder} already, with pid {holder}"
            raise StackError(what, f"use that one, or end it first: kill {holder}") from error
        lock.truncate(0)
        lock.write(str(psutil.Process().pid))
        lock.flush()
        yield


def note(folder: Path, processes: dict[str, int]) -> None:
    """Write down what runs, by name and pid; whole or not at all."""
    noted = []
    for name, pid in processes.items():
        with suppress(psutil.NoSuchProcess):  # It has ended by now, which is what is wanted.
            started_at_s = psutil.Process(pid).create_time()
            noted.append({"name": name, "pid": pid, "started_at_s": started_at_s})
    unfinished = folder / f"{NOTES}.new"
    unfinished.write_text(json.dumps(noted))
    unfinished.rename(folder / NOTES)


def end_all(folder: Path) -> list[Noted]:
    """Kill what the stack before left running in this folder; return what that was.

    Call it while holding the folder (`only_one`).
    """
    found = [noted for noted in _read(folder / NOTES) if _runs(noted)]
    processes = [process for noted in found for process in _family(noted.pid)]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    _, alive = psutil.wait_procs(processes, timeout=ENDED_WITHIN_S)
    if alive:
        pids = " ".join(str(process.pid) for process in alive)
        what = f"processes of a stack before this one do not end: {pids}"
        raise StackError(what, f"see what holds them (ps -o pid,stat,wchan,args -p {pids})")
    return found


def _read(notes: Path) -> list[Noted]:
    try:
        return [Noted(**noted) for noted in json.loads(notes.read_text())]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        what = f"{notes} does not say what ran: {error}"
        raise StackError(what, "end what is left by hand, then remove that file") from error


def _runs(noted: Noted) -> bool:
    try:
        process = psutil.Process(noted.pid)
        # The system counts starts in hundredths of a second.
        same = abs(process.create_time() - noted.started_at_s) < 0.1
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
