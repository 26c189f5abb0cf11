"""Versions, addresses and effect keys."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.events import Identity
from services.writer.values import (
    TOMBSTONES,
    ContactId,
    EffectSeed,
    Kind,
    Link,
    LinkState,
    Version,
    Wish,
    effect_key,
    identity_key,
    is_older,
)

CONTACT = ContactId(UUID(int=1), "a")
versions = st.builds(Version, st.integers(0, 3), st.integers(0, 3))
wishes = st.sampled_from(Wish)


@pytest.mark.parametrize(
    ("version", "wish", "other", "other_wish", "older"),
    [
        (Version(1, 5), Wish.UPSERT, Version(2, 1), Wish.UPSERT, True),
        (Version(2, 1), Wish.UPSERT, Version(1, 5), Wish.UPSERT, False),
        (Version(2, 1), Wish.UPSERT, Version(2, 1), Wish.UPSERT, False),
        (Version(9, 1), Wish.UPSERT, Version(1, 2), Wish.LEAVE, True),
        (Version(1, 3), Wish.UPSERT, Version(9, 2), Wish.LEAVE, False),
        (Version(9, 2), Wish.UPSERT, Version(1, 2), Wish.DELETE, True),
        (Version(1, 2), Wish.DELETE, Version(9, 2), Wish.UPSERT, False),
        (Version(1, 2), Wish.LEAVE, Version(2, 2), Wish.DELETE, True),
        (Version(1, 2), Wish.FILTERED, Version(2, 1), Wish.UPSERT, True),
        (Version(1, 2), Wish.REJECTED, Version(1, 1), Wish.UPSERT, False),
    ],
)
def test_versions_compare_as_pairs_and_against_tombstones_by_run(
    version: Version, wish: Wish, other: Version, other_wish: Wish, *, older: bool
) -> None:
    assert is_older(version, wish, other, other_wish) is older


@given(versions, wishes, versions, wishes)
def test_of_two_versions_at_most_one_is_older(
    version: Version, wish: Wish, other: Version, other_wish: Wish
) -> None:
    first = is_older(version, wish, other, other_wish)
    second = is_older(other, other_wish, version, wish)

    assert not (first and second)
    is_same = version == other and (wish in TOMBSTONES) == (other_wish in TOMBSTONES)
    assert (first or second) or is_same


def test_an_address_is_the_mail_without_case_or_else_the_phone() -> None:
    assert identity_key(Identity(email="Ada@Example.com", sms="+4917")) == "ada@example.com"
    assert identity_key(Identity(sms="+4917")) == "+4917"
    assert identity_key(Identity()) is None


@given(versions, wishes, versions, wishes)
def test_a_link_never_gets_older(
    version: Version, wish: Wish, other: Version, other_wish: Wish
) -> None:
    link = Link(CONTACT, LinkState.LINKED, version, wish).at_least(other, other_wish)

    assert not is_older(link.version, link.wish, version, wish)
    assert not is_older(link.version, link.wish, other, other_wish)


def test_effects_differ_by_kind_address_content_and_version() -> None:
    seeds = [
        EffectSeed(Kind.UPSERT, "a", b"1"),
        EffectSeed(Kind.MOVE, "a", b"1"),
        EffectSeed(Kind.UPSERT, "b", b"1"),
        EffectSeed(Kind.UPSERT, "a", b"2"),
    ]

    keys = {effect_key(CONTACT, Version(1, 1), seed) for seed in seeds}
    keys.add(effect_key(CONTACT, Version(1, 2), seeds[0]))

    assert len(keys) == 5
    assert effect_key(CONTACT, Version(1, 1), seeds[0]) in keys
