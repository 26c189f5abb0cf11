"""Removals are judged: noticed, by nobody, or by a test that cannot even run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rules.__main__ import choose
from tests.rules.removal import Removal
from tests.rules.run import Copy, Verdict, copied
from tests.rules.table import REMOVALS

CODE = """\
def add(one: int, two: int) -> int:
    if one < 0:
        raise ValueError
    return one + two
"""
TEST = """\
import pytest

from code_of_ours import add


@pytest.mark.parametrize("one", [1, 2])
def test_a_sum(one: int) -> None:
    assert add(one, 1) == one + 1
"""


def removal(old: str, new: str, test: str = "test_a_sum") -> Removal:
    return Removal("X1", old, "code_of_ours.py", old, new, f"test_add.py::{test}")


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Copy]:
    """Return a copy of a tree with one module and its test."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "code_of_ours.py").write_text(CODE)
    (tmp_path / "tests" / "test_add.py").write_text(TEST)
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\npythonpath = ["."]\n')
    with copied(tmp_path, {}) as one:
        yield one


def test_only_a_test_that_ran_and_failed_has_noticed(copy: Copy, tmp_path: Path) -> None:
    """Negative control: what takes rules out tells a test that fails from one that does not."""
    before = copy.failing(["tests/test_add.py::test_a_sum"])
    found = list(
        copy.without(
            [
                removal("one + two", "one - two"),
                removal("if one < 0:", "if False:"),
                removal("def add", "def subtract"),
                removal("one + two", "one * two", test="test_of_nothing"),
                removal("return one", "return int(one)"),
            ]
        )
    )

    assert before == ""
    assert [each.verdict for each in found] == [
        Verdict.NOTICED,
        Verdict.UNNOTICED,
        Verdict.BROKEN,
        Verdict.BROKEN,
        Verdict.UNNOTICED,
    ]
    assert (tmp_path / "code_of_ours.py").read_text() == CODE


def test_what_does_not_stand_in_the_code_once_is_told() -> None:
    with pytest.raises(ValueError, match="2 times"):
        removal("one", "two").applied("one and one")


def test_rules_are_chosen_by_id_and_by_family() -> None:
    assert {each.rule for each in choose(["CC1", "HS"])} == {"CC1", "HS1", "HS2"}
    assert choose([]) == list(REMOVALS)
    assert choose(["ZZ"]) == []
