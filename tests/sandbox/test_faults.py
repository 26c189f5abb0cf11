"""Which calls a planned fault strikes, how often, and what is left for the next one."""

import pytest

from sandbox.faults import FaultPlan, Faults, Match


def faults(*plans: FaultPlan) -> Faults:
    planned = Faults()
    planned.plan(list(plans))
    return planned


def kinds(planned: Faults, *calls: tuple[str, str]) -> list[str | None]:
    struck = [planned.strike(method, path)[1] for method, path in calls]
    return [fault.kind if fault else None for fault in struck]


def test_a_fault_strikes_the_calls_it_matches() -> None:
    planned = faults(FaultPlan(kind="cut", match=Match(method="POST", path=r"/search$")))

    calls = [("POST", "/contacts/search"), ("GET", "/contacts/search"), ("POST", "/contacts")]

    assert kinds(planned, *calls) == ["cut", None, None]


def test_a_fault_strikes_as_often_as_it_has_times() -> None:
    planned = faults(FaultPlan(kind="cut", times=2), FaultPlan(kind="html", times=1))

    assert kinds(planned, *[("GET", "/")] * 5) == ["cut", "cut", "html", None, None]
    assert [each["struck"] for each in planned.report()] == [2, 1]


def test_a_share_strikes_about_that_often_and_the_same_calls_for_one_seed() -> None:
    first, second, other = (
        kinds(faults(FaultPlan(kind="cut", share=0.3, seed=seed)), *[("GET", "/")] * 1000)
        for seed in (1, 1, 2)
    )

    assert 240 < first.count("cut") < 360
    assert first == second != other


def test_latency_adds_up_and_leaves_the_call_to_the_next_fault() -> None:
    planned = faults(
        FaultPlan(kind="latency", seconds=1),
        FaultPlan(kind="latency", seconds=0.5),
        FaultPlan(kind="status", status=503, seconds=2),
        FaultPlan(kind="latency", seconds=100),
    )

    seconds, fault = planned.strike("GET", "/")

    assert (seconds, fault and fault.status) == (3.5, 503)


def test_cleared_faults_strike_no_more() -> None:
    planned = faults(FaultPlan(kind="cut"))

    planned.clear()

    assert planned.strike("GET", "/") == (0.0, None)


def test_a_path_that_is_no_expression_is_refused_and_changes_nothing() -> None:
    planned = faults(FaultPlan(kind="cut"))

    with pytest.raises(ValueError, match="not a regular expression"):
        planned.plan([FaultPlan(kind="html", match=Match(path="("))])

    assert kinds(planned, ("GET", "/")) == ["cut"]
