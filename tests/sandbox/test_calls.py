"""The counts of calls and writes that other tests rely on."""

from sandbox.calls import VIOLATIONS_KEPT, Calls, Writes
from sandbox.clock import Clock

CLOCK = Clock(lambda: 0.0)


def test_violations_are_all_counted_and_the_last_ones_kept() -> None:
    calls = Calls(CLOCK)
    for number in range(VIOLATIONS_KEPT + 7):
        calls.violate("search" if number % 2 else "daily", f"GET /{number}")

    report = calls.report()

    assert report["violations"] == VIOLATIONS_KEPT + 7
    assert report["violations_by_bucket"] == {"daily": 54, "search": 53}
    assert len(report["last_violations"]) == VIOLATIONS_KEPT
    assert report["last_violations"][-1] == {
        "at": "1970-01-01T00:00:00+00:00",
        "bucket": "daily",
        "endpoint": f"GET /{VIOLATIONS_KEPT + 6}",
    }


def test_a_write_is_kept_as_it_was_made() -> None:
    writes, attributes = Writes(CLOCK), {"FIRSTNAME": "Ada"}
    writes.add("POST /x", identity="a@b.c", attributes=attributes, contact_id=1, created=True)
    attributes["FIRSTNAME"] = "Bob"

    (write,) = writes.after(0)

    assert (write["seq"], write["attributes"]) == (1, {"FIRSTNAME": "Ada"})
    assert writes.after(1) == []
    assert writes.after(-5) == [write]
