"""How every process starts, is told to stop, and ends.

Promises: the first SIGTERM or SIGINT sets `process.stop` and turns `/ready` off; whoever works
finishes what it began and returns within `drain_s`, else it is cancelled and the process ends with
code 1, whatever ignores that; a second signal ends it at once (128 + signal). An exception that
nobody expected is logged once, as types and stack without values, and ends the process with code 1:
what was not finished is read again after the restart.

    async def main(process: Process) -> None:
        async with Publisher(...) as publisher:
            consumer = Consumer(..., publisher=publisher)
            process.watch("consumer", live=consumer.is_alive, ready=consumer.is_ready)
            _ = process.start(relay.run(process.stop))  # Anything that runs beside it.
            await consumer.run(process.stop)

    if __name__ == "__main__":
        run("mapper", Settings(), main)
"""

import asyncio
import gc
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import NoReturn

import uvloop

from libs.common import logs, metrics
from libs.common.clock import Clock, SystemClock
from libs.common.health import Check, HealthServer
from libs.common.settings import ServiceSettings

# After the drain: commit (5 s), hand over (5 s), leave the group (10 s), close the producer (10 s).
# Together with `drain_s` this stays below terminationGracePeriodSeconds, 60 s (RELIABILITY.md 7).
ENDING_S = 30.0
# How many objects that hold others are made before the collector looks for rings among them. By
# itself it looks after 700: a batch's own lists each time, a fortieth of the writer's time, and
# finds next to none (docs/decisions/0161).
YOUNG_MAX = 5_000
CANCEL_S = 5.0
CLOSE_S = 5.0  # For the loop's own end.
BUG = 1
OVERRAN = 1
DISTRIBUTION = "contactsync"

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Process:
    """What `main` is given: when to stop, where to say how it is, whom to start beside it."""

    service: str
    stop: asyncio.Event
    health: HealthServer
    clock: Clock
    tasks: asyncio.TaskGroup = field(default_factory=asyncio.TaskGroup)

    def watch(self, name: str, *, live: Check | None = None, ready: Check | None = None) -> None:
        """Make `/live` and `/ready` depend on a part of the process."""
        if live is not None:
            self.health.add_live(name, live)
        if ready is not None:
            self.health.add_ready(name, ready)

    def start(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run something beside `main`; it must return soon after `stop` is set."""
        return self.tasks.create_task(work)


Main = Callable[[Process], Awaitable[None]]


def run(service: str, settings: ServiceSettings, main: Main) -> NoReturn:
    """Run a service until it ends or is told to, and leave the process with its exit code."""
    logs.configure(service, level=settings.log_level)
    # What is imported stays: a full collection would look through its 150,000 objects each time
    # (80 ms, about as often as 80,000 contacts are read).
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, *gc.get_threshold()[1:])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        exit_code = runner.run(supervise(service, settings, main))
        # The loop's own end waits, without a bound, for whatever ignores its cancellation and for
        # threads that look up a name.
        killing = threading.Timer(CLOSE_S, _exit, [exit_code or OVERRAN])
        killing.daemon = True
        killing.start()
    killing.cancel()
    sys.exit(exit_code)


def _exit(exit_code: int) -> None:
    """End the process at once."""
    log.error("process_left_behind", exit_code=exit_code)
    sys.stdout.flush()
    os._exit(exit_code)


async def supervise(service: str, settings: ServiceSettings, main: Main) -> int:
    """Do what `run` does inside a running loop; return the exit code."""
    process = Process(
        service=service,
        stop=asyncio.Event(),
        health=HealthServer(settings.health_host, settings.health_port),
        clock=SystemClock(),
    )
    metrics.BUILD_INFO.labels(service, distribution_version()).set(1)
    process.watch("process", ready=lambda: not process.stop.is_set())
    _obey_signals(process.stop)
    await process.health.start()
    log.info("process_started", version=distribution_version())
    try:
        exit_code = await _run_to_end(process, main, settings.drain_s + ENDING_S)
    finally:
        await process.health.stop()
    log.info("process_ended", exit_code=exit_code)
    return exit_code


async def _run_to_end(process: Process, main: Main, ending_s: float) -> int:
    working = asyncio.create_task(_work(process, main))
    stopping = asyncio.create_task(process.stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    done, _ = await asyncio.wait({working}, timeout=ending_s)
    if not done:
        log.error("drain_overran", seconds=ending_s)
        working.cancel()
        await asyncio.wait({working}, timeout=CANCEL_S)
        return OVERRAN
    error = working.exception()
    if error is None:
        return 0
    log.critical("process_failed", exc_info=error)
    return BUG


async def _work(process: Process, main: Main) -> None:
    async with process.tasks:
        sampling = process.start(metrics.sample_loop_lag(process.stop, process.clock))
        await main(process)
        # A main that returned has nothing left to serve: what runs beside it ends as well.
        process.stop.set()
        sampling.cancel()


def _obey_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _signalled, number, stop)


def _signalled(number: signal.Signals, stop: asyncio.Event) -> None:
    if stop.is_set():
        log.warning("process_killed", signal=number.name)
        os._exit(128 + number)
    log.info("process_stopping", signal=number.name)
    stop.set()


def distribution_version() -> str:
    """Return which version of the platform this is; 0 where it is not installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "0"
