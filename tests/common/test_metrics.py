"""Metrics have our names, and the loop's lag is seen."""

import asyncio
import time

import pytest

from libs.common import metrics
from libs.common.clock import SystemClock


def test_every_metric_of_ours_has_the_prefix_and_a_unit() -> None:
    names = [metric.name for metric in metrics.REGISTRY.collect()]
    ours = [name for name in names if not name.startswith(("python_", "process_"))]

    assert ours
    assert all(name.startswith("contactsync_") for name in ours)


def test_no_metric_is_labelled_by_a_workspace_or_a_contact() -> None:
    forbidden = {"workspace", "contact", "integration", "connection", "email"}

    labels = {
        name
        for metric in metrics.REGISTRY.collect()
        for sample in metric.samples
        for name in sample.labels
    }

    assert not labels & forbidden


def test_a_counter_must_say_that_it_is_a_total() -> None:
    with pytest.raises(AssertionError):
        metrics.counter("things", "Things.")


def test_a_name_has_the_prefix_once() -> None:
    with pytest.raises(AssertionError):
        metrics.gauge("contactsync_things_seconds", "Things.")


async def test_a_blocked_loop_is_seen() -> None:
    stop = asyncio.Event()
    sampling = asyncio.create_task(metrics.sample_loop_lag(stop, SystemClock()))
    await asyncio.sleep(0.05)

    time.sleep(metrics.LOOP_LAG_EVERY_S + 0.3)  # noqa: ASYNC251  # blocking is the point
    stop.set()
    await asyncio.wait_for(sampling, 60)

    [sample] = [
        sample
        for metric in metrics.REGISTRY.collect()
        for sample in metric.samples
        if sample.name == "contactsync_loop_lag_seconds"
    ]
    assert sample.value >= 0.2


def test_the_exposition_is_prometheus_text() -> None:
    metrics.BUILD_INFO.labels("test", "1").set(1)

    assert b'contactsync_build_info{service="test",version="1"} 1.0' in metrics.exposition()
