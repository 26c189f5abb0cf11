"""How sources are held beside HubSpot."""

from benchmarks.measured import Measured
from benchmarks.scenarios import SCENARIOS
from benchmarks.sources import SCENARIO, beside
from local.parties import SOURCES


def measured(phase: str, **cpu_s: float) -> Measured:
    return Measured(
        scenario=SCENARIO,
        phase=phase,
        contacts=1_000,
        seconds=2.0,
        cpu_s={"kafka": 9.0, **cpu_s},
        rss_mb={},
    )


def test_each_phase_is_held_beside_the_same_one_of_hubspots() -> None:
    rows = beside(
        [
            measured("hubspot: full", **{"poller-hubspot": 0.2, "writer": 0.2, "quota": 0.1}),
            measured("hubspot: unchanged", **{"poller-hubspot": 0.2}),
            measured("csv: full", **{"poller-csv": 0.5, "config-api": 0.5}),
            measured("csv: unchanged", **{"poller-csv": 0.1}),
        ]
    ).splitlines()[3:]

    assert [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows] == [
        ["hubspot: full", "20.00", "0.00", "0.00", "20.00", "0.00", "50.00", "1.00"],
        ["hubspot: unchanged", "20.00", "0.00", "0.00", "0.00", "0.00", "20.00", "1.00"],
        ["csv: full", "50.00", "50.00", "0.00", "0.00", "0.00", "100.00", "2.00"],
        ["csv: unchanged", "10.00", "0.00", "0.00", "0.00", "0.00", "10.00", "0.50"],
    ]


def test_without_sources_there_is_no_table() -> None:
    assert beside([]) == ""


def test_every_source_is_measured_and_hubspot_first() -> None:
    measured = [setting.source for setting in SCENARIOS[SCENARIO].settings]

    assert measured[0] == "hubspot"
    assert sorted(measured) == sorted(SOURCES)
