"""What Brevo's webhooks say, in the forms that were seen of them."""

import json

import pytest

from libs.connectors.brevo.events import hear
from libs.connectors.contract import Heard

ADA = "ada@example.com"


@pytest.mark.parametrize(
    ("told", "heard"),
    [
        (
            {
                "id": 2152072,
                "event": "contact_updated",
                "email": ADA,
                "date": "2026-08-25 11:04:09",
                "ts": 1787655849,
                "content": [{"email": ADA, "attributes": {"FIRSTNAME": "Elly"}}],
                "api_key_name": "sync-prod",
            },
            Heard(is_news=True),
        ),
        # As captured: several addresses, and none of the documented keys.
        (
            {"id": 1, "event": "contact_deleted", "email": [ADA, "B@x.org"]},
            Heard(True, [ADA, "b@x.org"]),
        ),
        # As an older page has it.
        ({"event": "contact_deleted", "email": " Ada@Example.com", "key": "x"}, Heard(True, [ADA])),
        ({"event": "contact_deleted"}, Heard(is_news=True)),
        ({"event": "unsubscribe", "email": ADA, "campaign name": "x"}, Heard(is_news=True)),
        ({"event": "list_addition", "email": ADA, "list_id": [2]}, Heard(is_news=False)),
        (
            [{"event": "opened"}, {"event": "contact_deleted", "email": ADA}],
            Heard(True, [ADA]),
        ),
        ([], Heard(is_news=False)),
    ],
)
def test_an_event_says_that_there_is_news_and_who_is_gone(told: object, heard: Heard) -> None:
    """Proves SF3, SF9: whichever of the known forms it has."""
    found = hear(json.dumps(told).encode())

    assert (found.is_news, list(found.gone)) == (heard.is_news, list(heard.gone))


@pytest.mark.parametrize("body", [b"", b"x", b"7", b'"contact_deleted"', b'{"event": 7}', b"\xff"])
def test_what_is_no_event_is_refused(body: bytes) -> None:
    """Proves X1."""
    with pytest.raises(ValueError, match="no event"):
        hear(body)
