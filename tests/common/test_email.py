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


@pytest.mark.no_cover  # Thousands of turns; its lines are others' to cover.
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


LETTERS = st.text("ab.-_+A9@", max_size=70)


@given(
    st.one_of(
        st.emails(), st.tuples(LETTERS, LETTERS).map(lambda parts: f"{parts[0]}@{parts[1]}.de")
    )
)
def test_what_is_plain_is_written_already_as_we_write_it(address: str) -> None:
    if email.is_plain(address):
        assert email.normalise(address) == address


@pytest.mark.parametrize(
    ("address", "is_plain"),
    [
        ("ada.b+c_d-e@mail.example.com", True),
        ("Ada@example.com", True),
        ("ada@Example.com", False),
        ("ada@xn--bcher-kva.example", False),
        ("a.b.c@example.com", True),
        (f"{'a' * 26}.{'b' * 18}.{'c' * 18}@example.com", True),
        (f"{'a' * 27}@example.com", False),
        (f"a.{'b' * 19}@example.com", False),
        ("a.b.c.d@example.com", False),
        (f"a@{'b' * 33}.com", False),
        ("ada@example.com\n", False),
        ("a..da@example.com", False),
        (" ada@example.com", False),
    ],
)
def test_most_addresses_are_plain_at_a_glance(address: str, *, is_plain: bool) -> None:
    assert (email.is_plain(address) is not None) is is_plain
