"""The supervisor, with small programs in place of the services."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest

from local import orphans
from local.errors import StackError
from local.processes import Program, wait_until
from local.supervisor import IsReady, Supervisor, supervise

SLEEPER = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
BUSY = [sys.executable, "-S", "-c", "while True: pass"]
# It makes a file as soon as it listens to signals no more.
DEAF = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w").close()
time.sleep(600)
"""
SOON_S = 10.0
ROOT = Path(__file__).parents[2]

# A supervisor in a process of its own, that tells what it started and then waits to be killed.
SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from local.processes import Program
from local.supervisor import supervise

async def main(folder):
    async with supervise(folder, print) as supervisor:
        command = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
        for name in ("one", "two"):
            await supervisor.start(Program(name, command, folder / "log"), ready)
        print(*supervisor.pids().values(), flush=True)
        await asyncio.Event().wait()

async def ready():
    return True

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.fixture
def reports() -> list[str]:
    return []


@pytest.fixture
async def supervisor(tmp_path: Path, reports: list[str]) -> AsyncIterator[Supervisor]:
    async with supervise(tmp_path, reports.append) as supervisor:
        yield supervisor


async def at_once() -> bool:
    return True


async def never() -> bool:
    return False


def program(folder: Path, command: list[str] | None = None, name: str = "sleeper") -> Program:
    return Program(name, command or SLEEPER, folder / f"{name}.log")


def has_ended(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


async def test_a_process_that_dies_is_started_again_and_it_is_reported(
    supervisor: Supervisor, tmp_path: Path, reports: list[str]
) -> None:
    await supervisor.start(program(tmp_path), at_once)
    first = supervisor.pids()["sleeper"]

    killed = supervisor.kill("sleeper")
    second = await supervisor.wait_ready("sleeper", other_than=killed)

    assert killed == first
    assert second != first
    assert supervisor.pids() == {"sleeper": second}
    assert supervisor.meter.usage["sleeper"].restarts == 1
    assert reports == [
        "sleeper died (killed by SIGKILL), is started again in 0.1 s",
        f"sleeper was started again, with pid {second}",
    ]


async def test_each_death_in_a_row_waits_longer(
    supervisor: Supervisor, tmp_path: Path, reports: list[str]
) -> None:
    await supervisor.start(program(tmp_path), at_once)

    for _ in range(3):
        killed = supervisor.kill("sleeper")
        await supervisor.wait_ready("sleeper", other_than=killed)

    pauses = [report.rpartition("again in ")[2] for report in reports if "died" in report]
    assert pauses == ["0.1 s", "0.2 s", "0.4 s"]


async def test_a_program_that_never_gets_ready_is_given_up_with_the_end_of_its_log(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    broken = [sys.executable, "-S", "-c", "raise SystemExit('no DATABASE_URL')"]

    with pytest.raises(StackError, match=r"broken did not start \(exit status 1\)") as caught:
        await supervisor.start(program(tmp_path, broken, "broken"), never)

    assert "no DATABASE_URL" in str(caught.value)


async def test_a_command_that_does_not_exist_is_named(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    with pytest.raises(StackError, match="cannot run no-such-command"):
        await supervisor.start(program(tmp_path, ["no-such-command"]), never)


async def test_the_cpu_of_a_killed_process_is_counted_in_its_phase(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    await supervisor.start(program(tmp_path, BUSY, "busy"), at_once)
    first = psutil.Process(supervisor.pids()["busy"])
    supervisor.enter("full")
    before_s = first.cpu_times().user  # How much that is, is chance.

    assert await asyncio.to_thread(
        wait_until, lambda: first.cpu_times().user > before_s + 0.3, SOON_S
    )
    killed = supervisor.kill("busy")
    await supervisor.wait_ready("busy", other_than=killed)
    supervisor.enter("after")

    report = supervisor.meter.usage["busy"].report()
    assert supervisor.meter.usage["busy"].cpu_s["full"] >= 0.2
    assert report["restarts"] == 1
    assert supervisor.meter.usage["busy"].rss_bytes_max > 1_000_000


async def test_a_program_that_will_not_end_is_killed(
    tmp_path: Path, reports: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.supervisor.END_WITHIN_S", 0.3)
    is_deaf = tmp_path / "deaf"
    command = [sys.executable, "-S", "-c", DEAF, str(is_deaf)]
    async with supervise(tmp_path, reports.append) as supervisor:
        await supervisor.start(
            program(tmp_path, command, "deaf"), partial(asyncio.to_thread, is_deaf.exists)
        )
        pid = supervisor.pids()["deaf"]

    assert has_ended(pid)
    assert reports == ["deaf did not end within 0.3 s: killed"]


async def test_servers_end_after_those_who_use_them(tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    says_goodbye = """
import signal, sys, time
def goodbye(*_):
    time.sleep(float(sys.argv[3]))
    open(sys.argv[1], "a").write(sys.argv[2] + " ")
    sys.exit()
signal.signal(signal.SIGTERM, goodbye)
open(sys.argv[1] + sys.argv[2], "w").close()
time.sleep(600)
"""

    def polite(name: str, after_s: str) -> Program:
        command = [sys.executable, "-S", "-c", says_goodbye, str(ended), name, after_s]
        return program(tmp_path, command, name)

    def is_up(name: str) -> IsReady:
        return partial(asyncio.to_thread, Path(f"{ended}{name}").exists)

    async with supervise(tmp_path, print) as supervisor:
        await supervisor.start(polite("server", "0"), is_up("server"), is_server=True)
        await supervisor.start(polite("user", "0.3"), is_up("user"))

    assert ended.read_text().split() == ["user", "server"]


async def test_a_second_one_in_the_same_folder_is_told_who_runs(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    with pytest.raises(StackError, match=f"already, with pid {os.getpid()}"):
        async with supervise(tmp_path, print):
            pytest.fail("a second supervisor ran")


@contextmanager
def supervisor_process(folder: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout
    try:
        yield process, [int(pid) for pid in process.stdout.readline().split()]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def sleeping() -> Iterator[subprocess.Popen[bytes]]:
    """Return a process that the supervisor under test did not start."""
    process = subprocess.Popen(SLEEPER)
    yield process
    process.kill()
    process.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_what_a_killed_supervisor_ran_ends_with_it(tmp_path: Path) -> None:
    with supervisor_process(tmp_path) as (process, pids):
        assert len(pids) == 2
        process.kill()

        assert wait_until(lambda: all(has_ended(pid) for pid in pids), SOON_S)


async def test_orphans_are_ended_by_the_next_one(
    tmp_path: Path, reports: list[str], sleeping: subprocess.Popen[bytes]
) -> None:
    orphans.note(tmp_path, {"writer": sleeping.pid})

    async with supervise(tmp_path, reports.append):
        pass

    assert sleeping.poll() is not None
    expected = f"ended writer (pid {sleeping.pid}), left over by a stack before this one"
    assert reports == [expected]


async def test_a_process_that_only_has_an_orphans_pid_is_left_alone(
    tmp_path: Path, sleeping: subprocess.Popen[bytes]
) -> None:
    noted = [{"name": "writer", "pid": sleeping.pid, "started_at_s": 1_000_000.0}]
    (tmp_path / orphans.NOTES).write_text(json.dumps(noted))

    async with supervise(tmp_path, print):
        pass

    assert sleeping.poll() is None


async def test_notes_that_cannot_be_read_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / orphans.NOTES).write_text("half a li")

    with pytest.raises(StackError, match="does not say what ran"):
        async with supervise(tmp_path, print):
            pytest.fail("it started")
