"""How an account is read: from where the last look ended, and anew after a minute."""

from libs.connectors.brevo import known
from libs.connectors.brevo.known import KnownAddresses
from libs.connectors.brevo.payload import Sighting


def page(first: int, count: int) -> list[Sighting]:
    return [
        Sighting(id=each, email=f"Nr.{each}@example.com") for each in range(first, first + count)
    ]


def test_a_page_begins_with_the_last_contact_of_the_one_before() -> None:
    account = KnownAddresses()
    account.begin(1_000.0)

    account.add(page(1, 10), 30)

    assert account.next_offset == 9
    assert account.follows(page(10, 10))
    assert not account.follows(page(11, 10))
    assert [each.id for each in account.add(page(10, 3), 30).values()] == [11, 12]
    assert account.among(["nr.1@example.com", "nr.12@example.com", "nr.13@example.com"]) == {
        "nr.1@example.com",
        "nr.12@example.com",
    }


def test_what_was_read_is_forgotten_as_a_whole() -> None:
    """Proves S3: somebody may have taken another address since."""
    account = KnownAddresses()
    account.begin(1_000.0)
    account.add(page(1, 10), 10)

    account.begin(1_000.0 + known.KEPT_S)

    assert account.read == account.next_offset == 0
    assert account.among(["nr.1@example.com"]) == set()
