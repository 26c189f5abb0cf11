"""Steps at which a test may end a process, and that nobody else may."""

import signal
import subprocess
import sys
import time
from copy import copy
from pathlib import Path

import psutil
import pytest

from libs.common.failpoints import Failpoints, nothing, reached_by
from libs.common.settings import Environment, ServiceSettings, read

# A process under test that passes one step three times and says so.
PASSES = """
import sys
from pathlib import Path
from libs.common.failpoints import Failpoints

reached = Failpoints(Path(sys.argv[1]), "writer").reached
for number in range(3):
    print(number, flush=True)
    reached("held")
"""
ROOT = Path(__file__).parents[2]


def passing(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PASSES, str(folder)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )


def test_a_kill_is_one_at_the_pass_that_was_asked_for(tmp_path: Path) -> None:
    armed = tmp_path / "writer.held"
    armed.write_text("kill@2")

    first = passing(tmp_path)
    told, _ = first.communicate(timeout=30)
    again = passing(tmp_path)
    told_again, _ = again.communicate(timeout=30)

    assert first.returncode == -signal.SIGKILL
    assert told.split() == ["0", "1"]
    assert not armed.exists()
    assert again.returncode == 0
    assert told_again.split() == ["0", "1", "2"]


def test_a_stop_is_one_that_can_be_ended(tmp_path: Path) -> None:
    (tmp_path / "writer.held").write_text("stop")

    process = passing(tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "0\n"
    # Its file is gone a moment before: whoever is told to go on then, stops after that.
    while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)
    assert not (tmp_path / "writer.held").exists()
    process.send_signal(signal.SIGCONT)
    told, _ = process.communicate(timeout=30)

    assert process.returncode == 0
    assert told.split() == ["1", "2"]


def test_a_hang_blocks_everything_for_as_long_as_it_says(tmp_path: Path) -> None:
    (tmp_path / "writer.held").write_text("hang:1")
    reached = Failpoints(tmp_path, "writer").reached
    began = time.monotonic()

    reached("called")
    at_once = time.monotonic() - began
    reached("held")

    assert at_once < 1 <= time.monotonic() - began


def test_what_is_no_wish_is_told(tmp_path: Path) -> None:
    (tmp_path / "writer.held").write_text("die")

    with pytest.raises(AssertionError, match="die"):
        Failpoints(tmp_path, "writer").reached("held")


@pytest.mark.parametrize("environment", ["production", "development"])
def test_only_a_process_under_test_takes_failpoints(
    environment: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ENVIRONMENT", environment)
    monkeypatch.setenv("FAILPOINTS", str(tmp_path))

    with pytest.raises(SystemExit, match=r"FAILPOINTS.*ENVIRONMENT=test"):
        read(ServiceSettings)


def test_without_them_a_step_does_nothing_at_all(tmp_path: Path) -> None:
    production = ServiceSettings(environment=Environment.PRODUCTION)
    unarmed = ServiceSettings(environment=Environment.TEST)
    armed = ServiceSettings(environment=Environment.TEST, failpoints=tmp_path)
    # Past the settings, which refuse it: the second lock.
    forced = copy(production)
    object.__setattr__(forced, "failpoints", tmp_path)

    assert reached_by("writer", production) is nothing
    assert reached_by("writer", unarmed) is nothing
    assert reached_by("writer", forced) is nothing
    assert reached_by("writer", armed) is not nothing
