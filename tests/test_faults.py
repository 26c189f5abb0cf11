"""docs/faults.md names, for each fault, tests that exist and say they prove it."""

from pathlib import Path

import pytest

from libs.connectors.registry import PROVIDERS
from local.faults import FAULTS, document, find_controls, find_proofs
from local.provider_faults import CASES, CELLS

FILE = Path(__file__).parent.parent / "docs" / "faults.md"


def test_the_page_is_what_the_tests_say() -> None:
    """After a change of tests: `python -m local.faults > docs/faults.md`."""
    assert FILE.read_text() == document()


def test_every_fault_is_proved_and_none_is_unknown() -> None:
    assert set(find_proofs()) == set(FAULTS)


def test_the_suite_was_seen_to_fail() -> None:
    assert len(find_controls()) >= 4


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
def test_every_provider_has_each_fault_or_says_why_not(provider: str) -> None:
    proofs = find_proofs()

    cells = CELLS[provider]

    assert set(cells) == set(CASES)
    for case, cell in cells.items():
        number, _ = CASES[case]
        for name in () if isinstance(cell, str) else cell:
            assert f"`{name}`" in proofs[number], f"{name} does not say fault {number}"
