import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common import email
from libs.common.errors import ContactRejectedError


@pytest.mark.parametrize(
    ("address", "written"),
    [
        ("ada@example.com", "ada@example.com"),
        ("  Ada.Lovelace@Example.COM ", "Ada.Lovelace@example.com"),
        ("a+b_c-d@mail.example.co.uk", "a+b_c-d@mail.example.co.uk"),
        ("o'neil!#$%&*/=?^`{|}~@example.org", "o'neil!#$%&*/=?^`{|}~@example.org"),
        (f"{'a' * 64}@example.org", f"{'a' * 64}@example.org"),
        ("post@müller.de", "post@müller.de"),
        ("post@MÜLLER.de", "post@müller.de"),
        ("post@xn--mller-kva.de", "post@müller.de"),
        ("用户@例え.jp", "用户@例え.jp"),
    ],
)
def test_a_valid_address_is_written_in_one_way(address: str, written: str) -> None:
    """Proves S9."""
    assert email.normalise(address) == written


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ada",
        "ada@",
        "@example.com",
        "ada@@example.com",
        "ada @example.com",
        "ada@example.com.",
        "ada@example",
        "ada@-example.com",
        "ada@example-.com",
        "ada@exa_mple.com",
        ".ada@example.com",
        "ada.@example.com",
        "a..da@example.com",
        "ada@example..com",
        "ada@127.0.0.1",
        "ada@example.com, bob@example.com",
        "Ada <ada@example.com>",
        "ada@example.com\nBcc: bob@example.com",
        "ada\0@example.com",
        f"{'a' * 65}@example.org",
        f"a@{'b' * 250}.org",
        f"a@{'b' * 64}.org",
        "\ud800@example.com",
        "a@" + "a-" * 120 + "!",
    ],
)
def test_an_address_that_is_none_is_rejected(address: str) -> None:
    """Proves S9."""
    with pytest.raises(ContactRejectedError) as rejected:
        email.normalise(address)

    assert rejected.value.reason == "invalid_email"
    assert rejected.value.__cause__ is None


@given(st.emails())
def test_writing_an_address_twice_is_writing_it_once(address: str) -> None:
    try:
        once = email.normalise(address)
    except ContactRejectedError:
        return

    assert email.normalise(once) == once


@given(st.text(max_size=300))
def test_no_text_is_worse_than_rejected(text: str) -> None:
    try:
        outcome = email.normalise(text)
    except ContactRejectedError as rejected:
        outcome = rejected.reason

    assert outcome == "invalid_email" or "@" in outcome
