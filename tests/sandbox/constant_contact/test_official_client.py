"""Constant Contact's official client, in an environment of its own: what it finds.

It needs an older urllib3 than everything else here, so it cannot be imported: `official_client.py`
beside this file is run with the interpreter that `make setup` made for it.
"""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from sandbox.constant_contact.app import create_app
from sandbox.constant_contact.state import State
from sandbox.constant_contact.tokens import STANDING_TOKEN
from sandbox.server import serve

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / ".local" / "clients" / "constant-contact" / "bin" / "python"
SCRIPT = Path(__file__).with_name("official_client.py")
WITHIN_S = 120.0
CHECKS = (
    "lists_are_made_found_renamed_and_deleted",
    "contacts_are_listed_with_their_count",
    "everybody_is_read_page_by_page",
    "changes_are_asked_for_by_time",
    "a_contact_is_made_read_changed_and_deleted",
    "a_sign_up_makes_and_then_changes",
    "custom_fields_are_shown_and_made",
    "activities_tell_how_they_went",
    "the_account_says_whose_it_is",
    "refusals_are_the_clients_own_exceptions",
    "a_limit_is_a_429",
    "the_days_limit_is_a_429_too",
)


@pytest.fixture(scope="module")
def found() -> Mapping[str, str | None]:
    """Run the script once against a sandbox that is served from a thread."""
    assert PYTHON.exists(), "the client's environment is not there: make setup"
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve(create_app(State()))) as url,
    ):
        done = subprocess.run(
            [str(PYTHON), str(SCRIPT), url, STANDING_TOKEN],
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    answer: dict[str, str | None] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("check", CHECKS)
def test_the_official_client_finds_nothing_wrong(
    found: Mapping[str, str | None], check: str
) -> None:
    assert found[check] is None, found[check]


def test_every_check_of_the_script_is_looked_at(found: Mapping[str, str | None]) -> None:
    assert tuple(found) == CHECKS
