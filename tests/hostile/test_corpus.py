"""A hostile corpus through the whole pipeline: rejected with a reason, or carried unharmed (I12).

Real services, Kafka and PostgreSQL between two sandboxes; the corpus is spliced into HubSpot's
answers as bytes, so that no library of ours makes it any better. `make test` takes a part of it,
`make faults` more than 10,000 contacts. HOSTILE_SEED repeats a corpus, HOSTILE_CONTACTS sizes it.
"""

import asyncio
import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from libs.common.reasons import Reject
from local.api import Json
from tests.hostile import stage
from tests.hostile.corpus import Hostile, corpus, judge
from tests.hostile.leaks import Found
from tests.integration import oracle

SEED = int(os.environ.get("HOSTILE_SEED", "55"))
FEW, MANY = 1_000, int(os.environ.get("HOSTILE_CONTACTS", "12000"))
QUIET_WITHIN_S = 240.0
# Ids that can be kept, and ids that cannot: those contacts are left out and counted.
ODD_IDS = (
    "'; drop table x; --",
    "../../x",
    "<script>",
    "\uff11\uff12",
    "a" * 255,
    "7|8",
    "a,b;c",
    "{0}",
)
UNUSABLE_IDS = ("7\x1f8", "9\0", "", "\x1e", "a" * 256, "\r\nX: y")


@dataclass(frozen=True, slots=True)
class Ended:
    """Everything that a corpus left behind."""

    contacts: list[Hostile]
    there: dict[str, Json]  # By address.
    reasons: dict[str, str]  # By the id that the source shows.
    runs: list[Json]
    left: list[str]  # What never ended.
    died: list[str]
    plain_problems: list[str]
    dead_letters: list[str]
    found: Found
    tokens: int


async def carried(folder: Path, count: int) -> Ended:
    """Let so many contacts through; return what became of them."""
    contacts = list(corpus(count, seed=SEED))
    for contact, known_as in zip(
        contacts[-len(ODD_IDS + UNUSABLE_IDS) :], ODD_IDS + UNUSABLE_IDS, strict=True
    ):
        contact.known_as = known_as
    async with stage.staged(folder, contacts) as made:
        await made.scene.activate()
        left = await oracle.wait_until_quiet(made.scene, within_s=QUIET_WITHIN_S)
        there, reasons, runs = await stage.ended(made, made.corpus)
        plain_problems = await oracle.problems(replace(made.scene, ways=[made.plain]))
        return Ended(
            contacts=contacts,
            there=there,
            reasons=reasons,
            runs=runs,
            left=left,
            died=made.deaths.others,
            plain_problems=plain_problems,
            dead_letters=await oracle.dead_letters(made.stack),
            found=await made.leaks(),
            tokens=len(made.tokens),
        )


@pytest.fixture(
    scope="module",
    params=[pytest.param(FEW, id="few"), pytest.param(MANY, id="many", marks=pytest.mark.long)],
)
def ended(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, embedded: None
) -> Ended:
    """Carry a corpus once for all tests."""
    return asyncio.run(carried(tmp_path_factory.mktemp("hostile"), request.param))


@pytest.mark.timeout(1200)
def test_the_corpus_is_carried_to_its_end_and_nobody_dies_of_it(ended: Ended) -> None:
    """Fault 55. Proves X1 and X2 for hostile input: the runs are complete, and no process ended."""
    assert ended.left == []
    assert ended.died == []
    assert {run["state"] for run in ended.runs if run["mode"] == "changes"} == {"complete"}
    assert ended.dead_letters == []


def test_each_contact_is_unharmed_or_rejected_with_a_documented_reason(ended: Ended) -> None:
    """Fault 55. Proves S8, S9 and X1: what arrives is what was sent; the rest is told of."""
    wrong: list[str] = []
    for contact in ended.contacts:
        if contact.known_as in UNUSABLE_IDS:
            continue
        addresses = [str(each) for each in contact.cases["EMAIL"].carried]
        there = next((ended.there[each] for each in addresses if each in ended.there), None)
        wrong += judge(contact, there, ended.reasons.get(contact.known_as or ""))

    assert not wrong, f"seed {SEED}: {len(wrong)} contacts: {wrong[:20]}"
    assert set(ended.reasons.values()) <= set(Reject)


def test_nobody_stands_at_the_destination_who_was_not_sent(ended: Ended) -> None:
    wanted = {str(each) for contact in ended.contacts for each in contact.cases["EMAIL"].carried}

    assert ended.there.keys() <= wanted


def test_a_contact_without_a_usable_id_is_left_out_and_counted(ended: Ended) -> None:
    """Proves W8: what cannot be kept is told of by number, and stops nobody.

    A full read that left somebody out is incomplete: nobody is deleted for it.
    """
    full = [run for run in ended.runs if run["mode"] == "full"]
    sent = {
        str(each)
        for c in ended.contacts
        if c.known_as in UNUSABLE_IDS
        for each in c.cases["EMAIL"].carried
    }

    assert [run["proof"]["left_out"] for run in full] == [len(UNUSABLE_IDS)]
    assert [run["state"] for run in full] == ["incomplete"]
    assert not sent & ended.there.keys()


def test_its_neighbours_do_not_notice(ended: Ended) -> None:
    """Fault 55: another integration of the same workspace is written as if nothing were."""
    assert ended.plain_problems == []


def test_the_corpus_meets_every_kind_of_value_and_most_are_carried(ended: Ended) -> None:
    """A corpus that is rejected as a whole would prove nothing."""
    kinds = Counter(case.kind for contact in ended.contacts for case in contact.cases.values())
    surely = [contact for contact in ended.contacts if contact.is_carried_surely]

    assert len(kinds) > 25
    assert len(surely) > len(ended.contacts) // 4
    assert len(ended.reasons) > len(ended.contacts) // 10


def test_no_token_and_no_contact_data_is_where_it_does_not_belong(ended: Ended) -> None:
    """Fault 55. Proves X4: logs, metrics, headers, rows, mails and answers are searched."""
    found = ended.found

    assert found.leaks == []
    assert found.looked_at.keys() == {
        "logs",
        "metrics",
        "records",
        "rows",
        "mails",
        "answers",
    } or not found.looked_at.get("mails")
    assert all(
        found.looked_at[kind] > 1000 for kind in ("logs", "metrics", "records", "rows", "answers")
    )
    # The search is able to find: it has seen the canaries where they belong.
    assert {
        "a body of contacts.changed.v1",
        "a body of contacts.mapped.v1",
        "a row of delivery.links",
    } <= found.belonging
    assert ended.tokens >= 6
