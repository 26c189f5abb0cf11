"""One measured phase, and how it is shown."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from local.usage import Usage

# What is not ours: servers, and what stands for the providers and the mail server.
SERVERS = ("kafka", "postgres", "sandbox", "mailbox")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one phase did and cost. `per`: by how many CPU seconds are shown beside the sum."""

    scenario: str
    phase: str
    contacts: int
    seconds: float
    cpu_s: Mapping[str, float]  # By process, servers among them.
    rss_mb: Mapping[str, float]
    calls: Mapping[str, int] = field(default_factory=dict)  # By provider.
    notes: Mapping[str, float] = field(default_factory=dict)  # What only this scenario has.

    @property
    def own_cpu_s(self) -> float:
        """Return the CPU seconds of all our own processes together."""
        return sum(cpu_s for name, cpu_s in self.cpu_s.items() if name not in SERVERS)

    @property
    def own_rss_mb(self) -> dict[str, float]:
        """Return the peak memory of each of our own processes."""
        return {name: mb for name, mb in self.rss_mb.items() if name not in SERVERS}

    def report(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "scenario": self.scenario,
            "phase": self.phase,
            "contacts": self.contacts,
            "seconds": round(self.seconds, 2),
            "own_cpu_s": round(self.own_cpu_s, 2),
            **self._by_contact(),
            "cpu_s": {name: round(cpu_s, 2) for name, cpu_s in sorted(self.cpu_s.items())},
            "rss_mb_max": {name: round(mb, 1) for name, mb in sorted(self.rss_mb.items())},
            "calls": dict(self.calls),
            **{name: round(value, 4) for name, value in self.notes.items()},
        }

    def _by_contact(self) -> dict[str, float]:
        if not self.contacts:
            return {}
        return {
            "contacts_per_second": round(self.contacts / self.seconds, 1),
            "own_cpu_s_per_100k": round(self.own_cpu_s * 1e5 / self.contacts, 2),
        }


def difference(
    before: Mapping[str, Mapping[str, float]], after: Mapping[str, Mapping[str, float]], phase: str
) -> dict[str, float]:
    """Return what each process used in a phase, told by two readings of the meter."""
    return {
        name: phases.get(phase, 0.0) - before.get(name, {}).get(phase, 0.0)
        for name, phases in after.items()
    }


def reading(usage: Mapping[str, Usage]) -> dict[str, dict[str, float]]:
    """Return the meter's CPU seconds by process and phase, as they are now."""
    return {name: dict(each.cpu_s) for name, each in usage.items()}


def shown(all_measured: Iterable[Measured]) -> str:
    """Return a table for people."""
    lines: list[str] = []
    for each in all_measured:
        lines.append(_headline(each))
        lines += [
            f"  {name:<16} {cpu_s:>7.2f} s CPU  {each.rss_mb.get(name, 0.0):>6.0f} MB"
            for name, cpu_s in sorted(each.cpu_s.items(), key=lambda item: -item[1])
        ]
        more = {**{f"calls to {name}": count for name, count in each.calls.items()}, **each.notes}
        lines += [f"  {name}: {_number(value)}" for name, value in more.items()]
    return "\n".join(lines)


def _headline(each: Measured) -> str:
    report = each.report()
    done = f"in {each.seconds:.1f} s"
    used = f"own CPU {each.own_cpu_s:.2f} s"
    if each.contacts:
        done = f"{each.contacts:,} contacts {done} ({report['contacts_per_second']:,.0f}/s)"
        used += f" = {report['own_cpu_s_per_100k']:.2f} s per 100,000"
    return f"\n{each.scenario} · {each.phase}: {done}; {used}"


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
