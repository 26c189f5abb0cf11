"""The demo over every pair: which there are, what becomes of them, and the exit status."""

import json
from pathlib import Path

import pytest

from local import __main__ as command
from local import every_pair
from local.errors import StackError
from local.outcome import Outcome, Phase, Wishes
from local.parties import BREVO, DESTINATIONS, HUBSPOT, SOURCES, SourceParty


def well(wishes: Wishes) -> Outcome:
    phases = [Phase("full", read=wishes.contacts, created=190, rejected={"no_identity": 10})]
    return Outcome(wishes, phases=phases, quota={"limit": 1, "used": 0, "held": 0})


def test_every_source_meets_every_destination_but_itself() -> None:
    both = SourceParty("brevo", "Brevo", fields={})

    found = every_pair.pairs({"hubspot": HUBSPOT, "brevo": both}, {"brevo": BREVO, "acme": BREVO})

    assert found == [("hubspot", "brevo"), ("hubspot", "acme"), ("brevo", "acme")]
    assert len(every_pair.pairs()) >= len(SOURCES) * len(DESTINATIONS) - len(SOURCES)


async def test_a_pair_that_cannot_be_run_is_wrong_and_the_others_are_run() -> None:
    said: list[str] = []

    async def run_pair(wishes: Wishes) -> Outcome:
        if wishes.source == "b":
            what = "no server"
            raise StackError(what, "start one")
        outcome = well(wishes)
        if wishes.source == "c":
            outcome.problems.append("contact 1 is not there")
        return outcome

    wanted = [("a", "x"), ("b", "x"), ("c", "x"), ("d", "x")]
    rows = await every_pair.run_all(wanted, run_pair, said.append, contacts=7, seed=3)

    assert [row.ok for row in rows] == [True, False, False, True]
    assert rows[1].problems == ["it could not be run: no server"]
    assert rows[0].outcome is not None
    assert (rows[0].outcome.wishes.contacts, rows[0].outcome.wishes.seed) == (7, 3)
    assert "2 of 4: b to x" in said
    assert "wrong: contact 1 is not there" in said
    report = rows[2].report()
    assert (report["ok"], report["problems"]) == (False, ["contact 1 is not there"])


@pytest.mark.parametrize(("problems", "status"), [([], 0), (["wrong"], command.FAILED)])
def test_it_ends_with_0_only_if_every_pair_is_right(
    problems: list[str],
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folders: list[Path] = []

    async def pair(folder: Path, wishes: Wishes, *_words: object) -> Outcome:
        folders.append(folder)
        outcome = well(wishes)
        if wishes.destination == "brevo":
            outcome.problems += problems
        return outcome

    monkeypatch.setattr(command, "HOME", tmp_path)
    monkeypatch.setattr(command, "_pair", pair)

    ended = command.main(["demo-all", "--contacts", "20", "--json"])

    shown = capsys.readouterr()
    told = json.loads(shown.out.splitlines()[-1])
    assert ended == status
    assert [(each["source"], each["destination"]) for each in told] == every_pair.pairs()
    assert len(set(folders)) == len(folders) == len(told)
    assert ("All pairs are right." in shown.err) is (not problems)
    assert "Every pair" in shown.err


def test_no_pair_at_all_is_not_a_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "HOME", tmp_path)
    monkeypatch.setattr(every_pair, "pairs", list)

    assert command.main(["demo-all"]) == command.FAILED
