"""docs/requirements.md names, for each rule, tests that exist and say they prove it."""

from pathlib import Path

from local.requirements import RULES, document, find_proofs

FILE = Path(__file__).parent.parent / "docs" / "requirements.md"

# Rules of providers and features that later versions bring.
LATER = {
    *(f"CC{number}" for number in range(1, 6)),
    *(f"SF{number}" for number in range(1, 11)),
    *(f"AC{number}" for number in range(1, 10)),
}


def test_the_page_is_what_the_tests_say() -> None:
    """After a change of tests: `python -m local.requirements > docs/requirements.md`."""
    assert FILE.read_text() == document()


def test_every_rule_that_is_in_force_is_proved() -> None:
    proofs = find_proofs()

    assert set(proofs) <= set(RULES)
    assert {rule for rule in RULES if rule not in LATER and not proofs.get(rule)} == set()
