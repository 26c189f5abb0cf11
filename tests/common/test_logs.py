"""No contact data and no secret gets into a log line (I10)."""

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from libs.common import logs, tracing
from libs.common.errors import UnavailableError

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    logs.configure("test")
    yield lambda: [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_is_json_with_the_service_and_the_module(lines: Lines) -> None:
    logs.get("some.module").info("partition_paused", partition=3)

    [line] = lines()
    assert line["event"] == "partition_paused"
    assert line["service"] == "test"
    assert line["module"] == "some.module"
    assert line["partition"] == 3
    assert line["level"] == "info"
    assert line["timestamp"].endswith("Z")


def test_a_key_that_is_not_allowed_is_masked(lines: Lines) -> None:
    """Proves I10 and X4: a field that nobody allowed does not reach a log."""
    logs.get("m").info("contact_written", email="ada@example.org", token="s3cret", partition=1)

    [line] = lines()
    assert line["masked"] == ["email", "token"]
    assert "ada" not in json.dumps(line)
    assert "s3cret" not in json.dumps(line)


@pytest.mark.parametrize("value", ["to ada@example.org", "tel +49 170 1234567", ["a@example.org"]])
def test_an_address_is_masked_wherever_it_hides(lines: Lines, value: object) -> None:
    """Proves X4."""
    logs.get("m").info("call_failed", reason=value, found={"reason": value, "mail": value})

    [line] = lines()
    assert "example.org" not in json.dumps(line)
    assert "1234567" not in json.dumps(line)
    assert "[masked]" in json.dumps(line)


def test_a_long_value_is_cut(lines: Lines) -> None:
    logs.get("m").info("call_failed", reason="x" * 10_000)

    assert len(lines()[0]["reason"]) == logs.TEXT_LENGTH_MAX


def test_other_kinds_of_values_are_written_as_text(lines: Lines) -> None:
    logs.get("m").info("call_failed", reason=ValueError("ada@example.org"), delay_s=None)

    [line] = lines()
    assert line["reason"] == "[masked]"
    assert line["delay_s"] is None


def failed(error: Exception) -> Exception:
    try:
        raise error
    except type(error) as caught:
        return caught


def test_an_exception_is_its_type_and_stack_without_its_values(lines: Lines) -> None:
    """Proves X4."""
    logs.get("m").error("process_failed", exc_info=failed(ValueError("ada lives here")))

    [line] = lines()
    assert line["error"] == ["ValueError"]
    assert line["stack"][0].endswith("failed")
    assert "ada" not in json.dumps(line)


def test_the_exception_being_handled_is_described(lines: Lines) -> None:
    try:
        int("ada")
    except ValueError:
        logs.get("m").exception("process_failed")

    [line] = lines()
    assert line["error"] == ["ValueError"]
    assert "ada" not in json.dumps(line)


def test_our_own_errors_are_told_with_their_words_and_causes(lines: Lines) -> None:
    error = UnavailableError("api.example", "HTTP 503")
    error.__cause__ = ValueError("ada")

    logs.get("m").error("call_failed", exc_info=ExceptionGroup("several", [failed(error)]))

    [line] = lines()
    assert line["error"] == [
        "ExceptionGroup",
        "libs.common.errors.UnavailableError: api.example: HTTP 503",
        "ValueError",
    ]
    assert line["stack"]


def test_a_chain_without_end_is_cut(lines: Lines) -> None:
    first, second = ValueError(), ValueError()
    first.__cause__, second.__cause__ = second, first

    logs.get("m").error("call_failed", exc_info=first)

    assert len(lines()[0]["error"]) == logs.CAUSES_MAX


def test_no_exception_is_no_error(lines: Lines) -> None:
    logs.get("m").info("call_ended", exc_info=None)

    assert "error" not in lines()[0]


def test_a_library_is_quoted_without_its_arguments(lines: Lines) -> None:
    logging.getLogger("library").warning("could not reach %s", "ada lovelace")
    logging.getLogger("library").error("gave up", exc_info=failed(ValueError("ada")))
    logging.getLogger("library").info("talks too much")

    first, second = lines()
    assert first["message"] == "could not reach %s"
    assert first["module"] == "library"
    assert second["level"] == "error"
    assert second["error"] == ["ValueError"]


def test_a_line_belongs_to_the_current_trace(lines: Lines) -> None:
    with tracing.within(tracing.start()) as trace:
        logs.get("m").info("batch_ended")

    assert lines()[0]["trace_id"] == trace.trace_id


def test_keys_may_be_bound(lines: Lines) -> None:
    logs.get("m", group="writer").bind(partition=2).info("partition_paused")

    assert lines()[0]["group"] == "writer"
    assert lines() == []


def test_quieter_than_the_level_is_not_written(lines: Lines) -> None:
    logs.get("m").debug("detail_seen")

    assert lines() == []


def test_an_unknown_level_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match="LOG_LEVEL is 'LOUD': choose one of"):
        logs.configure("test", level="LOUD")
