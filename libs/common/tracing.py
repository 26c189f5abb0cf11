"""Which trace a piece of work belongs to, carried through Kafka headers (W3C Trace Context).

Promises: a malformed or missing `traceparent` starts a new trace and never fails a record; the
current trace belongs to the current task and what it starts (a context variable), so concurrent
lanes do not mix; nothing here exports spans: the ids in logs and headers are the seam where an
OpenTelemetry exporter can be put. https://www.w3.org/TR/trace-context/#traceparent-header
"""

import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

HEADER = "traceparent"
SAMPLED = 0x01

_PATTERN = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Trace:
    """One span of one trace: lower-case hexadecimal ids of 16 and 8 bytes, and the flags."""

    trace_id: str
    span_id: str
    flags: int = SAMPLED

    def child(self) -> "Trace":
        """Return a new span of the same trace."""
        return Trace(self.trace_id, secrets.token_hex(8), self.flags)

    def header(self) -> str:
        """Return the value of a `traceparent` header, version 00."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"


_current: ContextVar[Trace | None] = ContextVar("trace", default=None)


def start() -> Trace:
    """Return the first span of a new trace."""
    return Trace(secrets.token_hex(16), secrets.token_hex(8))


def parse(header: str) -> Trace | None:
    """Return the trace of a `traceparent` value; None if it is not a valid one."""
    match = _PATTERN.fullmatch(header.strip())
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    # Version 00 has nothing after the flags; ff is forbidden; zeros are no id.
    is_valid = version != "ff" and not (version == "00" and rest)
    if not is_valid or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return Trace(trace_id, span_id, int(flags, 16))


def current() -> Trace:
    """Return the trace of the running task; a new one if it has none yet."""
    trace = _current.get()
    if trace is None:
        trace = start()
        _current.set(trace)
    return trace


def peek() -> Trace | None:
    """Return the trace of the running task; None if it has none."""
    return _current.get()


@contextmanager
def within(trace: Trace) -> Iterator[Trace]:
    """Run a block as part of a trace."""
    token = _current.set(trace)
    try:
        yield trace
    finally:
        _current.reset(token)


def take(headers: Iterable[tuple[str, bytes]]) -> Trace:
    """Return a child of the trace in a record's headers; a new trace if they have none."""
    for name, value in headers:
        if name == HEADER:
            trace = parse(value.decode("ascii", "replace"))
            return trace.child() if trace else start()
    return start()


def put() -> tuple[str, bytes]:
    """Return the header that makes a record part of the current trace."""
    return HEADER, current().child().header().encode()
