"""Trace context survives its way through headers, and bad headers fail nothing."""

import asyncio
from contextvars import Context

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common import tracing
from libs.common.tracing import Trace

VALID = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_header_is_read_as_it_was_written() -> None:
    trace = tracing.parse(VALID)

    assert trace == Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", 1)
    assert trace.header() == VALID


def test_a_later_version_may_say_more() -> None:
    assert tracing.parse(VALID.replace("00-4b", "01-4b") + "-more") is not None


@pytest.mark.parametrize(
    "header",
    [
        "",
        "rubbish",
        VALID.upper(),
        VALID + "-more",
        VALID.replace("00-4b", "ff-4b"),
        VALID.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32),
        VALID.replace("00f067aa0ba902b7", "0" * 16),
    ],
)
def test_what_is_no_header_is_no_trace(header: str) -> None:
    assert tracing.parse(header) is None


@given(st.text())
def test_any_text_can_be_parsed(header: str) -> None:
    trace = tracing.parse(header)

    assert trace is None or tracing.parse(trace.header()) == trace


def test_a_record_continues_the_trace_of_its_headers() -> None:
    taken = tracing.take([("other", b"x"), (tracing.HEADER, VALID.encode())])

    assert taken.trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert taken.span_id != "00f067aa0ba902b7"


@pytest.mark.parametrize("headers", [[], [("traceparent", b"\xff")]])
def test_a_record_without_a_trace_starts_one(headers: list[tuple[str, bytes]]) -> None:
    assert tracing.parse(tracing.take(headers).header()) is not None


def test_what_is_put_belongs_to_the_current_trace() -> None:
    with tracing.within(tracing.start()) as trace:
        name, value = tracing.put()

    sent = tracing.parse(value.decode())
    assert name == "traceparent"
    assert sent is not None
    assert sent.trace_id == trace.trace_id
    assert sent.span_id != trace.span_id


async def test_tasks_side_by_side_do_not_mix_their_traces() -> None:
    async def work(trace: Trace) -> str:
        with tracing.within(trace):
            await asyncio.sleep(0)
            return tracing.current().trace_id

    traces = [tracing.start() for _ in range(3)]

    found = await asyncio.gather(*(work(trace) for trace in traces))

    assert found == [trace.trace_id for trace in traces]


async def test_a_task_without_a_trace_gets_one_and_keeps_it() -> None:
    async def work() -> bool:
        assert tracing.peek() is None
        return tracing.current() == tracing.current() == tracing.peek()

    # In a context of its own: whoever ran before in this process may have left a trace.
    assert await asyncio.create_task(work(), context=Context())
