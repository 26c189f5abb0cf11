"""What it is to take a rule out of the code: a piece of text, what stands there instead, a test.

A removal is as small as can be: one clause of one rule, taken out where it is kept, so that the
code still runs and does everything but that. The test that is named must fail then; it passes by
the code as it is.
"""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True, slots=True)
class Removal:
    """One clause of a rule, where it is kept, and the test that misses it.

    `old` stands in the file exactly once. `noticed_by` is `path::test`, below `tests/`.
    """

    rule: str
    clause: str
    path: str
    old: str
    new: str
    noticed_by: str

    @property
    def test(self) -> str:
        """Return the test as pytest takes it."""
        return f"tests/{self.noticed_by}"

    def applied(self, text: str) -> str:
        """Return a file's text without the clause; raise ValueError if it has to be found anew."""
        found = text.count(self.old)
        if found != 1:
            message = f"{self.rule}: {self.path} has {found} times, not once: {self.old!r}"
            raise ValueError(message)
        return text.replace(self.old, self.new)
