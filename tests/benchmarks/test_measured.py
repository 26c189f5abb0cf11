import pytest

from benchmarks.measured import Measured, difference, shown


def measured(*, contacts: int = 1_000, **cpu_s: float) -> Measured:
    return Measured(
        scenario="job",
        phase="full",
        contacts=contacts,
        seconds=2.0,
        cpu_s=cpu_s,
        rss_mb=dict.fromkeys(cpu_s, 50.0),
        calls={"brevo": 10_005},
    )


def test_servers_are_not_our_cost() -> None:
    found = measured(writer=1.0, mapper=0.5, kafka=8.0, postgres=9.0, sandbox=7.0)

    assert found.own_cpu_s == 1.5
    assert set(found.own_rss_mb) == {"writer", "mapper"}


def test_a_report_is_by_a_hundred_thousand_contacts_and_by_second() -> None:
    report = measured(writer=1.5).report()

    assert report["own_cpu_s_per_100k"] == 150.0
    assert report["contacts_per_second"] == 500.0


def test_where_no_contact_is_written_nothing_is_by_contact() -> None:
    found = measured(contacts=0, poller=1.0)

    assert "own_cpu_s_per_100k" not in found.report()
    assert "contacts" not in shown([found])


def test_a_phase_has_what_was_used_since_it_began() -> None:
    before = {"writer": {"full": 2.0}}
    after = {"writer": {"full": 5.0, "rest": 1.0}, "mapper": {"full": 1.0}}

    assert difference(before, after, "full") == {"writer": 3.0, "mapper": 1.0}


def test_the_table_has_each_process_with_the_dearest_first() -> None:
    lines = shown([measured(mapper=0.5, writer=1.5)]).splitlines()

    assert lines[1] == (
        "job · full: 1,000 contacts in 2.0 s (500/s); own CPU 2.00 s = 200.00 s per 100,000"
    )
    assert [line.split()[0] for line in lines[2:4]] == ["writer", "mapper"]
    assert lines[4].strip() == "calls to brevo: 10,005"


def test_a_phase_without_its_name_in_the_meter_used_nothing() -> None:
    assert difference({}, {"writer": {"between": 4.0}}, "full") == pytest.approx({"writer": 0.0})
