"""What the demo found, in the shape that DESIGN.md promises to other tools."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from local.api import Json


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the demo was asked for."""

    contacts: int = 1000
    source: str = "hubspot"
    destination: str = "brevo"
    quota: int = 100_000  # Q1.
    limits: bool = True
    seed: int = 1
    file: Path | None = None  # Of a source that is a file; None: one is made.


@dataclass(slots=True)
class Phase:
    """What one phase did, by the API's own account; calls are counted at the destination."""

    name: str
    read: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    superseded: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    parked: dict[str, int] = field(default_factory=dict)
    tasks_charged: int = 0
    destination_calls: int = 0


@dataclass(slots=True)
class Outcome:
    """Everything the demo found; `problems` is empty if all is as it should be."""

    wishes: Wishes
    phases: list[Phase] = field(default_factory=list)
    seconds: float = 0.0  # Of the first phase.
    violations: int = 0
    quota: Json = field(default_factory=dict)
    mails: list[Json] = field(default_factory=list)
    processes: Json = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Return whether all is as it should be."""
        return not self.problems

    def report(self) -> Json:
        """Return it as JSON, with `problems` beside what was promised."""
        read = self.phases[0].read if self.phases else 0
        return {
            "ok": self.ok,
            "source": self.wishes.source,
            "destination": self.wishes.destination,
            "seed": self.wishes.seed,
            "seconds": round(self.seconds, 3),
            "contacts_per_second": round(read / self.seconds, 1) if self.seconds else 0.0,
            "violations": self.violations,
            "phases": [asdict(phase) for phase in self.phases],
            "quota": self.quota,
            "mails": self.mails,
            "processes": self.processes,
            "problems": self.problems,
        }
