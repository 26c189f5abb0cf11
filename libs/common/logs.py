"""What the platform says while it runs: JSON lines on standard output, one event each.

Promises (invariant I10): only keys of `ALLOWED` are written, any other is masked and its name told,
so that contact data and secrets stay out by default; what looks like an address is masked inside
allowed values too; an exception is written as its types and stack, without values. Only the
messages of our own errors are kept, because they hold none (`libs.common.errors`). What libraries
log is written without its arguments.

Event names are constant and in the past tense: `log.info("partition_paused", partition=3)`.
"""

import logging
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from typing import Any, cast

import structlog

from libs.common import tracing
from libs.common.errors import SyncError

TEXT_LENGTH_MAX = 500  # A line must stay a line, whatever a library puts into it.
FRAMES_MAX = 30
CAUSES_MAX = 5

# Names of ids, counts, durations and codes. None may ever hold a contact's value or a credential.
ALLOWED = frozenset(
    {
        *("event", "level", "timestamp", "module", "service", "version", "trace_id", "span_id"),
        *("error", "stack", "masked", "message"),
        *("workspace", "connection", "destination", "integration", "source", "run", "run_no"),
        *("page", "part", "stage", "mapping_version", "mode", "fencing", "hold", "intent", "job"),
        *("notice", "request", "upload", "user", "api_key", "provider", "kind", "operation"),
        *("state", "reason", "code", "status", "outcome", "threshold", "period", "revision"),
        *("topic", "partition", "partitions", "offset", "offsets", "group", "epoch", "lane"),
        *("records", "contacts", "batches", "waiting", "attempt", "attempts", "failures", "rows"),
        *("count", "read", "written", "parked", "rejected", "settled", "granted", "wanted"),
        *("bytes", "size", "limit", "used", "bucket", "scope", "table", "name", "what", "signal"),
        *("host", "port", "path", "method", "route", "exit_code", "check", "checks"),
        *("seconds", "delay_s", "duration_s", "age_s", "retry_after_s", "expected", "found"),
    }
)

Line = dict[str, Any]

_ADDRESS = re.compile(r"[^\s@\"'<>(),;:]+@[^\s@\"'<>(),;:]+")
_PHONE = re.compile(r"\+\d[\d ()/.-]{5,}\d")
_MASK = "[masked]"


class Log(structlog.typing.FilteringBoundLogger):
    """A logger with keys bound to it; `bind` adds more."""


def get(name: str, **bound: object) -> Log:
    """Return the logger of a module, with keys that each of its lines has."""
    # Lazy: modules ask for theirs while they are imported, before `configure` is called.
    return cast("Log", structlog.get_logger(module=name, **bound))


def configure(service: str, *, level: str = "INFO") -> None:
    """Send all logs of this process, the libraries' too, to standard output."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _name(service),
            *PRIVATE,
            structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_level(level)),
        logger_factory=structlog.WriteLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [LibraryHandler()]
    # A library's INFO is its diary; its warnings are ours to know.
    root.setLevel(max(_level(level), logging.WARNING))


def _level(name: str) -> int:
    levels = logging.getLevelNamesMapping()
    if name.upper() not in levels:
        message = f"LOG_LEVEL is {name!r}: choose one of {', '.join(levels)}"
        raise ValueError(message)
    return levels[name.upper()]


def _name(service: str) -> structlog.typing.Processor:
    def add(_logger: object, _method: str, line: Any) -> Any:
        line["service"] = service
        trace = tracing.peek()
        if trace is not None:
            line["trace_id"], line["span_id"] = trace.trace_id, trace.span_id
        return line

    return add


def describe(error: BaseException) -> dict[str, object]:
    """Return the types and stack of an error and its causes, without any value."""
    return {
        "error": [_title(each) for each in _causes(error)],
        "stack": _frames(error),
    }


def _causes(error: BaseException) -> Iterator[BaseException]:
    following: BaseException | None = error
    for _ in range(CAUSES_MAX):
        if following is None:
            return
        yield following
        if isinstance(following, BaseExceptionGroup):
            following = following.exceptions[0]
        else:
            following = following.__cause__ or following.__context__


def _title(error: BaseException) -> str:
    kind = type(error)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    return f"{name}: {error}" if isinstance(error, SyncError) else name


def _frames(error: BaseException) -> list[str]:
    """Return where it was raised: the innermost error of a group, its last frames."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES_MAX:]
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]


def _exceptions(_logger: object, _method: str, line: Any) -> Any:
    error = line.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        line.update(describe(error))
    return line


def _allowed_only(_logger: object, _method: str, line: Any) -> Any:
    kept = {key: _mask(value) for key, value in line.items() if key in ALLOWED}
    masked = sorted(str(key) for key in line.keys() - ALLOWED)
    return {**kept, "masked": masked} if masked else kept


def _mask(value: object) -> object:
    match value:
        case str():
            return _PHONE.sub(_MASK, _ADDRESS.sub(_MASK, value[:TEXT_LENGTH_MAX]))
        case bool() | int() | float() | None:
            return value
        case Mapping():
            return {str(key): _mask(each) for key, each in value.items() if key in ALLOWED}
        case list() | tuple() | set() | frozenset():
            return [_mask(each) for each in value]
        case _:
            return _mask(str(value))


# What stands between a line and the outside, in this order.
PRIVATE: list[structlog.typing.Processor] = [_exceptions, _allowed_only]


class LibraryHandler(logging.Handler):
    """Writes what libraries log: their words without their arguments, which may hold anything."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        error = record.exc_info[1] if record.exc_info else None
        write = (
            get(record.name).error if record.levelno >= logging.ERROR else get(record.name).warning
        )
        write("library_logged", message=str(record.msg), exc_info=error)
