"""What is remembered of an account: nobody it has is forgotten, and it takes little memory."""

import tracemalloc

import pytest

from libs.connectors.remembered import Addresses

PAGE = 1_000


def address(number: int) -> str:
    return f"somebody.{number}@example.com"


def read(count: int, expected: int) -> Addresses:
    addresses = Addresses()
    for start in range(0, count, PAGE):
        addresses.add([address(number) for number in range(start, start + PAGE)], expected)
    return addresses


@pytest.mark.parametrize("expected", [0, 5_000_000])
@pytest.mark.parametrize("count", [2_000, 40_000])
def test_who_was_added_is_among_them_and_hardly_anybody_else(count: int, expected: int) -> None:
    """Proves S3: who is there is never imported, whether hashes are kept or their marks."""
    addresses = read(count, expected)
    there = {address(number) for number in range(count)}
    new = [address(number) for number in range(count, count + 4_000)]

    assert addresses.among(there) == there
    assert addresses.among([*new, address(7)]) >= {address(7)}
    # Of 40,000 beside 16 million marks one in 40,000 is taken for known.
    assert len(addresses.among(new)) <= 3


@pytest.mark.parametrize(("expected", "megabytes"), [(60_000, 3), (5_000_000, 5)])
def test_of_many_they_take_a_few_megabytes(expected: int, megabytes: int) -> None:
    tracemalloc.start()
    try:
        addresses = read(60_000, expected)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert addresses.among([address(7)])
    assert taken < megabytes << 20
