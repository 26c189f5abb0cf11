"""API keys: their form, and telling right from wrong."""

from datetime import UTC, datetime, timedelta

import pytest

from services.config_api import keys
from services.config_api.errors import TooManyRequestsError
from services.config_api.keys import FailureThrottle
from tests.services.config_api.clocks import MovedClock

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def test_a_key_is_found_by_its_id_and_kept_as_a_digest() -> None:
    made = keys.make()

    presented = keys.parse(made.text)

    assert presented is not None
    assert presented.key_id == made.key_id
    assert keys.is_right(presented, made.secret_sha256)
    assert presented.secret.encode() not in made.secret_sha256


def test_a_wrong_secret_is_wrong_and_so_is_an_unknown_key() -> None:
    presented = keys.parse(keys.make().text)

    assert presented is not None
    assert not keys.is_right(presented, keys.make().secret_sha256)
    assert not keys.is_right(presented, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "csk",
        "csk__",
        "csk_" + "0" * 32,
        "csk_" + "0" * 32 + "_short",
        "sk_" + "0" * 32 + "_" + "a" * 43,
        "csk_" + "g" * 32 + "_" + "a" * 43,
    ],
)
def test_what_is_no_key_is_not_looked_up(text: str) -> None:
    assert keys.parse(text) is None


@pytest.mark.parametrize(
    ("expires_at", "revoked_at", "is_live"),
    [
        (None, None, True),
        (NOW + timedelta(seconds=1), None, True),
        (NOW, None, False),
        (None, NOW, False),
    ],
)
def test_a_key_lives_until_it_expires_or_is_revoked(
    expires_at: datetime | None, revoked_at: datetime | None, is_live: bool
) -> None:
    assert keys.is_live(expires_at=expires_at, revoked_at=revoked_at, now=NOW) is is_live


def test_an_address_that_fails_too_often_waits() -> None:
    clock = MovedClock()
    throttle = FailureThrottle(clock)
    for _ in range(keys.FAILURES_MAX):
        throttle.check("192.0.2.1")
        throttle.count("192.0.2.1")

    with pytest.raises(TooManyRequestsError) as refused:
        throttle.check("192.0.2.1")

    assert refused.value.headers["Retry-After"] == "60"
    throttle.check("192.0.2.2")
    clock.move(keys.FAILURES_WINDOW_S)
    throttle.check("192.0.2.1")


def test_the_throttle_remembers_a_bounded_number_of_addresses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keys, "ADDRESSES_MAX", 2)
    throttle = FailureThrottle(MovedClock())

    for number in range(3):
        throttle.count(str(number))

    assert len(throttle._failures) == 2
