"""The judge of the quota's chaos finds what it is there for: each fault by itself, and no other."""

from dataclasses import replace

import pytest

from tests.integration.quota_judge import Mail, Seen, Told, problems

A, B, C = ("a", "1"), ("a", "2"), ("b", "1")
TO = "ada@example.com"
FIRST_80, FIRST_100 = Told("one", (1, 80), both=False), Told("two", (1, 100), both=False)
SECOND = Told("three", (2, 100), both=True)

# Limit 2, then 3: the second revision jumped over both thresholds at once.
RIGHT = Seen(
    limit=3,
    posted=3,
    held=0,
    postings={A: 1, B: 1, C: 1},
    written=frozenset({A, B, C}),
    decided=[(1, 80), (1, 100), (2, 80), (2, 100)],
    told=[FIRST_80, FIRST_100, FIRST_100, SECOND],
    mails=[
        Mail("<80>", "quota_80", TO),
        Mail("<100>", "quota_100", TO),
        Mail("<100>", "quota_100", TO),
        Mail("<200>", "quota_100", TO),
    ],
)


def test_what_was_delivered_twice_under_one_name_is_no_fault() -> None:
    assert problems(RIGHT) == []
    assert problems(replace(RIGHT, mails=RIGHT.mails[1:2])) == []  # A raise was quicker.


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (replace(RIGHT, posted=2), ["2 tasks are posted of 3", "posted is 2 with 3"]),
        (replace(RIGHT, posted=4), ["4 tasks are posted of 3", "posted is 4 with 3"]),
        (replace(RIGHT, held=1), ["1 units are held"]),
        (replace(RIGHT, postings={A: 1, B: 2}), ["2 was charged twice", "1 was written for noth"]),
        (
            replace(RIGHT, postings={A: 1, C: 1, ("b", "2"): 1}),
            ["2 was written for nothing", "2 was charged for nothing"],
        ),
        (replace(RIGHT, decided=RIGHT.decided[1:]), ["(1, 80) was decided 0 times"]),
        (replace(RIGHT, decided=[*RIGHT.decided, (2, 100)]), ["(2, 100) was decided 2 times"]),
        (replace(RIGHT, told=RIGHT.told[1:]), ["(1, 80) was told in 0 events", "1 Message-IDs"]),
        (
            replace(RIGHT, told=[*RIGHT.told, Told("four", (2, 80), both=False)]),
            ["(2, 80) was told in 2 events"],
        ),
        (
            replace(RIGHT, mails=[*RIGHT.mails, Mail("<201>", "quota_100", TO)]),
            ["3 Message-IDs of quota_100 for 2 decisions"],
        ),
        (replace(RIGHT, mails=RIGHT.mails[:1]), ["nobody was mailed"]),
    ],
)
def test_each_fault_is_found_and_nothing_else(seen: Seen, words: list[str]) -> None:
    found = problems(seen)

    assert len(found) == len(words)
    for told, expected in zip(found, words, strict=True):
        assert expected in told
