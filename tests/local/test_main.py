"""`python -m local`: what it says to arguments, and to a second one of its kind."""

import asyncio
import json
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest

from local import __main__ as command
from local import up
from local.errors import StackError
from local.outcome import Outcome, Phase, Wishes
from local.supervisor import supervise
from local.terminal import Terminal

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(command, "HOME", tmp_path)
    (tmp_path / "up").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["demo", "--contacts", "many"], "'many' is not a whole number, 0 or more"),
        (["demo", "--contacts", "0"], "0 is not between 1 and 1000000"),
        (["demo", "--quota", "-1"], "'-1' is not a whole number, 0 or more"),
        (["demo", "--source", "fax"], "choose from"),
        (["demo", "--limits", "maybe"], "choose from"),
        ([], "the following arguments are required: command"),
    ],
)
def test_a_wrong_argument_is_told(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)

    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_a_state_file_that_cannot_be_written_is_told_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["up", "--state", str(tmp_path)]) == command.FAILED
    assert f"{tmp_path} is a folder" in capsys.readouterr().err


async def test_a_second_one_is_told_the_pid_of_the_first(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with supervise(home / "up", print):
        status = await asyncio.to_thread(up_in_a_process, home)

    assert status.returncode == command.FAILED
    assert f"one is running in {home / 'up'} already, with pid" in status.stderr


def up_in_a_process(home: Path) -> subprocess.CompletedProcess[str]:
    program = f"""
from pathlib import Path
from local import __main__ as command
command.HOME = Path({str(home)!r})
raise SystemExit(command.main(["up", "--state", {str(home / "state.json")!r}]))
"""
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_a_state_file_may_be_anywhere_that_can_be_written(tmp_path: Path) -> None:
    assert up.checked(tmp_path / "new" / "state.json") == tmp_path / "new" / "state.json"
    assert (tmp_path / "new").is_dir()


def test_a_state_file_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StackError, match="cannot write to"):
        up.checked(tmp_path / "file" / "state.json")


@pytest.fixture
def outcome() -> Outcome:
    return Outcome(
        wishes=Wishes(contacts=100, seed=7),
        phases=[
            Phase(
                name="full",
                read=100,
                created=97,
                rejected={"invalid_email": 2, "no_identity": 1},
                tasks_charged=97,
                destination_calls=3,
            )
        ],
        seconds=0.5,
        quota={"limit": 1000, "used": 97, "held": 0},
    )


def test_the_outcome_has_the_shape_that_other_tools_rely_on(outcome: Outcome) -> None:
    report = json.loads(json.dumps(outcome.report()))

    assert report == {
        "ok": True,
        "source": "hubspot",
        "destination": "brevo",
        "seed": 7,
        "seconds": 0.5,
        "contacts_per_second": 200.0,
        "violations": 0,
        "phases": [
            {
                "name": "full",
                "read": 100,
                "created": 97,
                "updated": 0,
                "unchanged": 0,
                "superseded": 0,
                "rejected": {"invalid_email": 2, "no_identity": 1},
                "parked": {},
                "tasks_charged": 97,
                "destination_calls": 3,
            }
        ],
        "quota": {"limit": 1000, "used": 97, "held": 0},
        "mails": [],
        "processes": {},
        "problems": [],
    }


def test_a_person_is_shown_what_happened_and_what_is_wrong(outcome: Outcome) -> None:
    outcome.problems.append("full: contact 1 is not there")
    stream = StringIO()

    with Terminal(stream) as terminal:
        terminal.show(outcome, Path("logs"))

    shown = stream.getvalue()
    assert re.search(r"rejected: invalid_email\W+2\W", shown)
    assert "97 tasks charged of 1000, 903 left" in shown
    assert "wrong: full: contact 1 is not there" in shown
    assert shown.endswith("1 things are not as they should be.\n")


def test_progress_is_a_few_plain_lines_where_there_is_no_terminal() -> None:
    stream = StringIO()

    with Terminal(stream) as terminal:
        for so_far in range(101):
            terminal.progress("full", so_far, 100)

    assert stream.getvalue().splitlines() == [
        *("full: 0 of 100", "full: 25 of 100", "full: 50 of 100"),
        *("full: 75 of 100", "full: 100 of 100"),
    ]
