"""The main job as anyone starts it: `python -m local demo`, with a quota below what is needed."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from local import wizard
from local.api import Json
from local.stack import ROOT, SERVICES

CONTACTS, QUOTA = 1000, 500
QUOTA_RAISED = 100_000
WITHIN_S = 240.0

# The command itself, but for its folder: the usual one may be in use by somebody's own demo.
DEMO = """
import sys
from pathlib import Path
from local import __main__ as command

command.HOME = Path(sys.argv[1])
sys.exit(command.main(["demo", *sys.argv[2:]]))
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """How the command ended."""

    status: int
    outcome: Json
    said: str

    def phase(self, name: str) -> Json:
        """Return what one phase counted."""
        [found] = [each for each in self.outcome["phases"] if each["name"] == name]
        return dict(found)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, embedded: None) -> Ended:
    """Run the demo once for all tests."""
    folder: Path = tmp_path_factory.mktemp("demo")
    wishes = ["--contacts", str(CONTACTS), "--quota", str(QUOTA), "--seed", "7", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", DEMO, str(folder), *wishes],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    lines = done.stdout.splitlines()
    return Ended(done.returncode, json.loads(lines[-1]) if lines else {}, done.stderr)


def test_the_main_job_ends_with_0_and_finds_nothing_wrong(ended: Ended) -> None:
    """Proves W1 to W8, S1 and S3 at once: the command judges the destination by the rules."""
    assert ended.outcome.get("problems") == [], ended.said
    assert ended.outcome["ok"] is True
    assert ended.status == 0


def test_the_outcome_has_the_shape_that_other_tools_rely_on(ended: Ended) -> None:
    assert ended.outcome.keys() >= {
        *("ok", "source", "destination", "seed", "seconds", "contacts_per_second", "violations"),
        *("phases", "quota", "mails", "processes"),
    }
    for phase in ended.outcome["phases"]:
        assert phase.keys() >= {
            *("name", "read", "created", "updated", "unchanged", "superseded"),
            *("rejected", "parked", "tasks_charged", "destination_calls"),
        }
    for mail in ended.outcome["mails"]:
        assert mail.keys() >= {"kind", "language", "to", "message_id"}
    names = {service.name for service in SERVICES}
    assert ended.outcome["processes"].keys() == names | {"kafka", "postgres", "sandbox", "mailbox"}
    for process in ended.outcome["processes"].values():
        assert process["cpu_s"].keys() >= {"startup", "full", "raised", "unchanged", "changed"}
        assert process["rss_mb_max"] > 0
        assert process["restarts"] == 0


def test_the_quota_is_used_to_the_last_task_and_not_beyond(ended: Ended) -> None:
    """Proves Q1 and Q3: exactly the quota is written, the rest waits, and nothing is lost (Q5)."""
    full, raised = ended.phase("full"), ended.phase("raised")
    waiting = full["parked"]["quota"]

    assert full["tasks_charged"] == full["created"] == QUOTA
    assert full["parked"] == {"quota": CONTACTS - QUOTA - sum(full["rejected"].values())}
    assert raised["tasks_charged"] == raised["created"] == waiting
    assert raised["parked"] == {}


def test_only_what_is_written_is_charged(ended: Ended) -> None:
    """Proves Q6 and S1: a second run costs nothing, an edit costs one task."""
    unchanged, changed = ended.phase("unchanged"), ended.phase("changed")
    charged = sum(phase["tasks_charged"] for phase in ended.outcome["phases"])

    assert unchanged["tasks_charged"] == unchanged["destination_calls"] == 0
    assert changed["tasks_charged"] == changed["updated"] == CONTACTS // 100
    assert ended.outcome["quota"] == {"limit": QUOTA_RAISED, "used": charged, "held": 0}


def test_each_recipient_is_told_once_that_the_quota_is_used_up(ended: Ended) -> None:
    """Proves Q3: one mail each, in the recipient's language; Q2: at most one about 80 %."""
    mails = ended.outcome["mails"]
    told = Counter((mail["to"], mail["language"]) for mail in mails if mail["kind"] == "quota_100")
    near = Counter(mail["to"] for mail in mails if mail["kind"] == "quota_80")

    assert told == {(each["email"], each["language"]): 1 for each in wizard.RECIPIENTS}
    assert max(near.values(), default=0) <= 1


def test_no_call_was_beyond_a_providers_limits(ended: Ended) -> None:
    """Proves S10 for the main job."""
    assert ended.outcome["violations"] == 0
