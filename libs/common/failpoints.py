"""Named steps at which a test may end, freeze or stop a process, to see that nothing is lost.

Code says `reached("held")` where a crash would be worth testing; what it calls is handed to it.
Promises: without the setting FAILPOINTS, which only ENVIRONMENT=test accepts
(`libs.common.settings`), that is `nothing`, and no object that could do harm is ever made. With
it, a step strikes only while a file `<service>.<step>` lies in that folder, and once: the file is
taken away first, so a process that was started again, or another one, passes. The file says what
happens and at which pass of one process: `kill`, `kill@3`, `stop` (SIGSTOP) or `hang:60` (the
event loop is blocked for so many seconds).
"""

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from libs.common.settings import Environment, ServiceSettings

Reached = Callable[[str], None]

_WISH = re.compile(r"(?P<action>kill|stop|hang:(?P<seconds>[0-9.]+))(?:@(?P<pass>[0-9]+))?")


def nothing(_step: str) -> None:
    """Do nothing at a step, as every process does that is not under test."""


def reached_by(service: str, settings: ServiceSettings) -> Reached:
    """Return what a process calls at its steps."""
    if settings.environment is not Environment.TEST or settings.failpoints is None:
        return nothing
    return Failpoints(settings.failpoints, service).reached


class Failpoints:
    """The steps of one process that is under test."""

    def __init__(self, folder: Path, service: str) -> None:
        self._folder = folder
        self._service = service
        self._passes: Counter[str] = Counter()

    def reached(self, step: str) -> None:
        """Do what the step's file says; return at once if there is none, or not yet."""
        armed = self._folder / f"{self._service}.{step}"
        try:
            wish = armed.read_text()
        except FileNotFoundError:
            return
        told = _WISH.fullmatch(wish)
        assert told is not None, f"{armed}: {wish!r} is none of kill, stop, hang:<seconds>"
        self._passes[step] += 1
        if self._passes[step] < int(told["pass"] or 1):
            return
        del self._passes[step]
        try:
            armed.unlink()
        except FileNotFoundError:
            return  # Another process was here first.
        _strike(told["action"], float(told["seconds"] or 0))


def _strike(action: str, seconds: float) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    else:
        time.sleep(seconds)  # The whole loop: that is what is tested.
