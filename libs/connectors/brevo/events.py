"""What Brevo's webhooks say (marketing type): contacts that were edited, deleted or unsubscribed.

Events carry the contact's address, not its id (`id` is the webhook's), have no signature and no
documented order, and are sent four more times at most. So they are hints: what stands there is
read. An account has at most 40 webhooks; ours are told from others by the address they send to.

Three forms are known of a deletion (an address, several, and with other keys about), and a batch
is presumably a list: all are taken. Times are not read: their zone is not what is documented.
"""

from collections.abc import Iterable
from urllib.parse import quote

import msgspec

from libs.connectors.account import AccountCalls
from libs.connectors.brevo import facts
from libs.connectors.contract import Heard

# As they are subscribed to, and as they are called when they come: not the same words.
SUBSCRIBED = ("contactUpdated", "contactDeleted", "unsubscribed")
_DELETED = "contact_deleted"
# An unsubscription touches the contact. Whatever is read then, consent is not (S3).
_NEWS = frozenset({"contact_updated", _DELETED, "unsubscribe"})


class _Event(msgspec.Struct, frozen=True):
    event: str = ""
    email: str | list[str] | None = None


_EVENTS = msgspec.json.Decoder(_Event | list[_Event])


class _Webhook(msgspec.Struct, frozen=True):
    id: int
    url: str = ""


class _Webhooks(msgspec.Struct, frozen=True):
    webhooks: list[_Webhook] = []


_CREATED = msgspec.json.Decoder(_Webhook)
_FOUND = msgspec.json.Decoder(_Webhooks)


def hear(body: bytes) -> Heard:
    """Return what one call of a webhook says; raise ValueError if it is none of Brevo's."""
    try:
        decoded = _EVENTS.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        message = "no event of Brevo's"
        raise ValueError(message) from error
    events = decoded if isinstance(decoded, list) else [decoded]
    gone = {address for each in events if each.event == _DELETED for address in _addresses(each)}
    return Heard(any(each.event in _NEWS for each in events), sorted(gone))


def _addresses(event: _Event) -> Iterable[str]:
    given = [event.email] if isinstance(event.email, str) else event.email or ()
    return (each.strip().lower() for each in given)


async def subscribe(calls: AccountCalls, url: str, token: str) -> str:
    """Make a webhook that sends to `url`; return its id. Others to that address are removed."""
    body = {
        "url": url,
        "description": "contactsync: edits that go back",
        "type": "marketing",
        "events": SUBSCRIBED,
        "auth": {"type": "bearer", "token": token},
        "batched": False,
    }
    # A call whose answer was lost may have made one already, with a token that nobody has.
    left = [each.id for each in await _webhooks(calls) if each.url == url]
    for webhook in left:
        await unsubscribe(calls, str(webhook))
    encoded = msgspec.json.encode(body)
    answer = await calls.call(facts.OTHER, "POST", "/webhooks", encoded, writes=True)
    return str(answer.decode(_CREATED).id)


async def unsubscribe(calls: AccountCalls, webhook: str) -> None:
    """Remove a webhook; return quietly if it is not there."""
    path = f"/webhooks/{quote(webhook, safe='')}"
    await calls.call(facts.OTHER, "DELETE", path, writes=True, expect=(404,))


async def _webhooks(calls: AccountCalls) -> list[_Webhook]:
    """Return the account's webhooks of contacts; where there are none, Brevo refuses to say so."""
    path = "/webhooks?type=marketing"
    answer = await calls.call(facts.OTHER, "GET", path, expect=(400, 404))
    return [] if answer.status in (400, 404) else answer.decode(_FOUND).webhooks
