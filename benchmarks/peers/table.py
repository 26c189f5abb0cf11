"""How contactsync and its peers compare, in one table of one run."""

from collections.abc import Sequence

from benchmarks.measured import Measured

SCENARIO = "peers"
OURS = "contactsync"
HEAD = ("system", "contacts/s", "CPU s per 100,000", "times ours", "MB, largest", "MB, all")


def compared(all_measured: Sequence[Measured]) -> str:
    """Return the table; empty if no peers were measured.

    "times ours" is CPU: below 1 a peer needs less than contactsync.
    """
    found = [each for each in all_measured if each.scenario == SCENARIO]
    if not found:
        return ""
    ours = next(each for each in found if each.phase == OURS)
    rows = [HEAD, *(_row(each, ours) for each in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = ["  ".join(_aligned(*cell) for cell in zip(row, widths, strict=True)) for row in rows]
    return "\n" + "\n".join(line.rstrip() for line in lines)


def _row(each: Measured, ours: Measured) -> tuple[str, ...]:
    report = each.report()
    rss_mb = each.own_rss_mb
    return (
        each.phase,
        f"{report['contacts_per_second']:,.0f}",
        f"{report['own_cpu_s_per_100k']:.2f}",
        f"{each.own_cpu_s / ours.own_cpu_s:.2f}",
        f"{max(rss_mb.values()):.0f}",
        f"{sum(rss_mb.values()):.0f}",
    )


def _aligned(cell: str, width: int) -> str:
    return cell.rjust(width) if cell[:1].isdigit() else cell.ljust(width)
