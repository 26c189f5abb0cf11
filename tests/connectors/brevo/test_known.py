"""What is remembered of an account: nobody it has is forgotten, and it takes little memory."""

import tracemalloc
from collections.abc import Iterator, Sequence

import pytest

from libs.connectors.brevo import known
from libs.connectors.brevo.known import KnownAddresses
from libs.connectors.brevo.payload import Sighting

PAGE = 1_000


def address(number: int) -> str:
    return f"somebody.{number}@example.com"


def pages(count: int) -> Iterator[Sequence[Sighting]]:
    """Yield an account page by page, as it is read: each begins with the last one's end."""
    for start in range(0, count, PAGE):
        first = max(0, start - 1)
        yield [
            Sighting(id=each, email=address(each).title()) for each in range(first, start + PAGE)
        ]


def read(count: int, in_account: int = 0) -> KnownAddresses:
    account = KnownAddresses()
    account.begin(1_000.0)
    for page in pages(count):
        assert account.follows(page)
        account.add(page, in_account or count)
    return account


@pytest.mark.parametrize("count", [2_000, 40_000])
def test_whom_an_account_has_is_known_and_hardly_anybody_else(count: int) -> None:
    """Proves S3: who was there is never imported, whether hashes are kept or their marks."""
    account = read(count)
    there = {address(number) for number in range(count)}
    new = [address(number) for number in range(count, count + 4_000)]

    assert account.among(there) == there
    assert account.among([*new, address(7)]) >= {address(7)}
    # Of 40,000 beside 16 million marks one in 40,000 is taken for known.
    assert len(account.among(new)) <= 3


def test_what_was_read_is_forgotten_as_a_whole() -> None:
    account = read(40_000)

    account.begin(1_000.0 + known.KEPT_S)

    assert account.read == account.next_offset == 0
    assert account.among([address(7)]) == set()


@pytest.mark.parametrize(("in_account", "megabytes"), [(60_000, 3), (5_000_000, 9)])
def test_a_large_account_takes_a_few_megabytes(in_account: int, megabytes: int) -> None:
    tracemalloc.start()
    try:
        account = read(60_000, in_account)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert account.read == 60_000
    assert taken < megabytes << 20
