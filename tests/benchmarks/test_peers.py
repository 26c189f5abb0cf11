"""What runs beside the peers; they themselves are in no environment of the tests."""

import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.measured import Measured
from benchmarks.peers import environment, job, scenario
from benchmarks.peers.processes import run_pipe
from benchmarks.peers.table import OURS, SCENARIO, compared
from local.errors import StackError


def measured(phase: str, *, cpu_s: float, **more: float) -> Measured:
    return Measured(
        scenario=SCENARIO,
        phase=phase,
        contacts=1_000,
        seconds=2.0,
        cpu_s={"one": cpu_s, **more},
        rss_mb={"one": 40.0, **dict.fromkeys(more, 60.0)},
    )


def test_peers_are_compared_by_cpu_with_ours_of_the_same_run() -> None:
    rows = compared([measured(OURS, cpu_s=2.0, kafka=9.0), measured("dlt tuned", cpu_s=3.0)])

    assert [row.split()[-5:] for row in rows.splitlines()[2:]] == [
        ["500", "200.00", "1.00", "40", "40"],
        ["500", "300.00", "1.50", "40", "40"],
    ]


def test_there_is_nothing_to_compare_without_peers() -> None:
    assert compared([]) == ""


def test_a_contact_is_handed_on_with_the_fields_it_has() -> None:
    contact = {"id": "1", "email": "ada@example.com", "city": "London", "phone": None}

    assert job.body([contact], 7) == {
        "jsonBody": [{"email": "ada@example.com", "attributes": {"CITY": "London"}}],
        "listIds": [7],
        "updateExistingContacts": True,
    }


def test_a_field_that_a_peer_lost_is_noticed() -> None:
    contact = {"attributes": dict.fromkeys(job.FIELDS.values(), "any")}
    lost = {"attributes": {"CITY": "London"}}

    scenario._check_fields([lost, contact])
    with pytest.raises(StackError, match="BIRTHDAY, COMPANY"):
        scenario._check_fields([lost])


class Looked(psutil.Process):
    """A process that leaves a file once its memory was looked at."""

    seen: Path

    def memory_info(self) -> Any:
        found = super().memory_info()
        self.seen.touch()
        return found


def test_a_pipe_hands_on_what_the_first_one_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Looked.seen = tmp_path / "seen"
    monkeypatch.setattr(psutil, "Process", Looked)
    # The first one lives until it was looked at, however late that is.
    busy = (
        "import os, sys\n"
        "while not os.path.exists(sys.argv[1]): sum(range(1_000_000))\n"
        "sys.stdout.write('hello')"
    )
    heard = "import sys; sys.stdout.write(sys.stdin.read().upper())"

    used = run_pipe(
        {
            "tap": [sys.executable, "-c", busy, str(Looked.seen)],
            "target": [sys.executable, "-c", heard],
        },
        tmp_path,
    )

    assert (tmp_path / "target.log").read_text() == "HELLO"
    assert used.cpu_s["tap"] > 0
    assert 0 < used.rss_mb["tap"] < 60


def test_a_peer_that_fails_is_shown_with_its_last_words(tmp_path: Path) -> None:
    fails = [sys.executable, "-c", "raise SystemExit('no such list')"]

    with pytest.raises(StackError, match="no such list"):
        run_pipe({"dlt": fails}, tmp_path)


def test_an_environment_is_made_once_and_anew_when_its_packages_change(tmp_path: Path) -> None:
    home, requirements = tmp_path / "peers", tmp_path / "peers.txt"
    requirements.write_text("# none\n")

    interpreter = environment.python(home, requirements)
    made_at = interpreter.lstat().st_mtime_ns
    environment.python(home, requirements)
    assert interpreter.lstat().st_mtime_ns == made_at

    requirements.write_text("# none either\n")
    environment.python(home, requirements)
    assert interpreter.lstat().st_mtime_ns != made_at


def test_an_environment_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    requirements = tmp_path / "peers.txt"
    requirements.write_text("without-a-hash==1.0\n")

    with pytest.raises(StackError, match="hash"):
        environment.python(tmp_path / "peers", requirements)
    assert not (tmp_path / "peers" / environment.STAMP).exists()


def test_every_pinned_package_has_its_hashes() -> None:
    lines = environment.REQUIREMENTS.read_text().splitlines()
    pinned = [line for line in lines if line and not line.startswith(" ")]

    assert {"dlt", "singer-sdk"} <= {line.split("==")[0] for line in pinned}
    assert all(line.endswith("\\") for line in pinned)
    assert not any("://" in line for line in lines)
