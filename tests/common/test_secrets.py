"""Credentials at rest (X4)."""

import base64
from uuid import UUID

import pytest

from libs.common.secrets import KeyRing, SecretsError

OLD = "2025:" + base64.b64encode(b"o" * 32).decode()
NEW = "2026:" + base64.b64encode(b"n" * 32).decode()
ROW = {"workspace": UUID(int=1), "connection": UUID(int=2)}


def test_what_was_sealed_opens_in_its_own_row_and_field_only() -> None:
    """Proves X4."""
    ring = KeyRing.parse(NEW)
    sealed = ring.seal("token", **ROW, field="access_token")

    assert "token" not in sealed
    assert ring.unseal(sealed, **ROW, field="access_token") == "token"
    for other in (
        {"workspace": UUID(int=9), "connection": UUID(int=2), "field": "access_token"},
        {"workspace": UUID(int=1), "connection": UUID(int=9), "field": "access_token"},
        {**ROW, "field": "refresh_token"},
    ):
        with pytest.raises(SecretsError, match="does not open"):
            ring.unseal(sealed, **other)  # type: ignore[arg-type]  # one dictionary, two types


def test_two_seals_of_one_secret_differ() -> None:
    ring = KeyRing.parse(NEW)

    assert ring.seal("a", **ROW, field="f") != ring.seal("a", **ROW, field="f")


def test_a_rotated_key_still_opens_and_says_what_to_seal_again() -> None:
    sealed = KeyRing.parse(OLD).seal("token", **ROW, field="f")
    ring = KeyRing.parse(f"{NEW},{OLD}")

    assert ring.unseal(sealed, **ROW, field="f") == "token"
    assert ring.is_outdated(sealed)
    assert not ring.is_outdated(ring.seal("token", **ROW, field="f"))


def test_a_key_that_was_taken_off_too_early_is_asked_for() -> None:
    sealed = KeyRing.parse(OLD).seal("token", **ROW, field="f")

    with pytest.raises(SecretsError, match="put that key back"):
        KeyRing.parse(NEW).unseal(sealed, **ROW, field="f")


@pytest.mark.parametrize("sealed", ["", "v1|2026|x", "v2|2026|AA==|AA==", "v1|2026|é|AA=="])
def test_what_is_no_sealed_value_is_refused(sealed: str) -> None:
    with pytest.raises(SecretsError):
        KeyRing.parse(NEW).unseal(sealed, **ROW, field="f")


@pytest.mark.parametrize("text", ["", "a", "a:short", f"{NEW},{NEW}", "a|b:" + NEW[5:], "a:%%%"])
def test_a_bad_key_ring_says_which_entry_and_how_to_make_a_key(text: str) -> None:
    """Proves X1."""
    with pytest.raises(SecretsError, match=r"KEYS: entry \d .*openssl rand"):
        KeyRing.parse(text)
