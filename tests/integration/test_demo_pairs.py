"""The demo over pairs of providers beside the main job's: small, and judged like it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from local.stack import ROOT

CONTACTS = 100
WITHIN_S = 240.0
# The command itself, but for its folder: the usual one may be in use by somebody's own demo.
DEMO = """
import sys
from pathlib import Path
from local import __main__ as command

command.HOME = Path(sys.argv[1])
sys.exit(command.main(["demo", *sys.argv[2:]]))
"""


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        ("constant_contact", "brevo"),
        pytest.param("salesforce", "brevo", marks=pytest.mark.long),
        pytest.param("salesforce", "activecampaign", marks=pytest.mark.long),
        pytest.param("google_contacts", "activecampaign", marks=pytest.mark.long),
        pytest.param("csv", "brevo", marks=pytest.mark.long),
        pytest.param("csv", "activecampaign", marks=pytest.mark.long),
    ],
)
def test_a_pair_ends_with_0_and_finds_nothing_wrong(
    source: str, destination: str, tmp_path: Path, embedded: None
) -> None:
    """Proves W1 to W7, S1, S2, S3, S8 and S9 for this pair: judged by the source's state alone.

    And AC8 for files: the same file again charges nothing.
    """
    pair = ["--source", source, "--destination", destination]
    wishes = ["--contacts", str(CONTACTS), "--seed", "7", "--json"]

    done = subprocess.run(
        [sys.executable, "-c", DEMO, str(tmp_path), *pair, *wishes],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )

    outcome = json.loads(done.stdout.splitlines()[-1]) if done.stdout else {}
    assert outcome.get("problems") == [], done.stderr
    assert (done.returncode, outcome["ok"], outcome["violations"]) == (0, True, 0)
    assert (outcome["source"], outcome["destination"]) == (source, destination)
    full, unchanged, changed = outcome["phases"]
    assert full["read"] == CONTACTS
    assert full["created"] == full["tasks_charged"] > 0
    assert (unchanged["tasks_charged"], changed["tasks_charged"]) == (0, 1)
