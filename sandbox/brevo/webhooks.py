"""An account's webhooks: stored, checked, given back, and sent what happens to contacts.

Sent are the events of contacts that webhooks of marketing know: updated, deleted, unsubscribed, in
the forms that were captured from the real service. Each is sent once, at once: Brevo would try four
times more, within eleven hours. The name of the API key that made a change is left out: where Brevo
puts it is not known.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from sandbox.brevo import errors

WEBHOOKS_MAX = 40  # developers.brevo.com, docs/how-to-use-webhooks.
_TRANSACTIONAL = (
    "sent", "hardBounce", "softBounce", "blocked", "spam", "delivered", "request", "click",
    "invalid", "deferred", "opened", "uniqueOpened", "unsubscribed", "reply",
)  # fmt: skip
_MARKETING = (
    "spam", "opened", "click", "hardBounce", "softBounce", "unsubscribed", "listAddition",
    "delivered", "contactUpdated", "contactDeleted",
)  # fmt: skip
EVENTS = {
    "transactional": _TRANSACTIONAL,
    "marketing": _MARKETING,
    "inbound": ("inboundEmailProcessed",),
}
CHANNELS = ("email", "sms")
TIMEOUT_S = 10.0
DELIVERIES_KEPT = 1_000
# Events are subscribed to by one name and sent under another.
SENT_AS = {
    "contactUpdated": "contact_updated",
    "contactDeleted": "contact_deleted",
    "unsubscribed": "unsubscribe",
}


@dataclass(slots=True)
class Webhook:
    id: int
    type: str
    created_us: int
    modified_us: int
    url: str
    events: list[str]
    description: str = ""
    channel: str = "email"
    domain: str | None = None
    batched: bool = False
    auth: dict[str, Any] = field(default_factory=dict)
    headers: list[dict[str, Any]] = field(default_factory=list)
    deliveries: list[str] = field(default_factory=list)  # Each event, and what was answered to it.

    async def send(self, event: str, email: str, now_s: float, values: dict[str, Any]) -> None:
        """Send one event, as Brevo does: a deletion has its address in a list, and another date."""
        moment = datetime.fromtimestamp(now_s, UTC)
        is_deletion = event == "contactDeleted"
        told = {
            "id": self.id,
            "event": SENT_AS[event],
            "email": [email] if is_deletion else email,
            "date": moment.isoformat() if is_deletion else f"{moment:%Y-%m-%d %H:%M:%S}",
            "ts": int(now_s),
            **values,
        }
        headers = {each["key"]: each["value"] for each in self.headers}
        if self.auth.get("type") == "bearer":
            headers["authorization"] = f"Bearer {self.auth['token']}"
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_S) as client:
                answer = await client.post(self.url, json=told, headers=headers)
            outcome = f"HTTP {answer.status_code}"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            outcome = type(error).__name__
        self.deliveries.append(f"{SENT_AS[event]} {outcome}")
        del self.deliveries[:-DELIVERIES_KEPT]


class Webhooks:
    def __init__(self) -> None:
        self._by_id: dict[int, Webhook] = {}
        self._last_id = 0

    def __iter__(self) -> Iterator[Webhook]:
        return iter(self._by_id.values())

    def wanting(self, event: str) -> list[Webhook]:
        """Return who is to be sent an event."""
        return [each for each in self if each.type == "marketing" and event in each.events]

    def create(self, kind: str, now_us: int, fields: dict[str, Any]) -> Webhook:
        """Add a webhook; `RefusedError` for events its type does not have, or one too many."""
        if kind not in EVENTS:
            errors.invalid("Webhook type is invalid")
        if fields.get("channel", "email") not in CHANNELS:
            errors.invalid("Webhook channel is invalid")
        if len(self._by_id) >= WEBHOOKS_MAX:
            errors.invalid(f"At most {WEBHOOKS_MAX} webhooks are allowed")
        if kind == "inbound" and not fields.get("domain"):
            errors.missing("domain is missing")
        _check(kind, fields)
        self._last_id += 1
        webhook = Webhook(self._last_id, kind, now_us, now_us, **fields)
        self._by_id[webhook.id] = webhook
        return webhook

    def get(self, webhook_id: int) -> Webhook:
        if webhook_id not in self._by_id:
            errors.unknown("Webhook not found")
        return self._by_id[webhook_id]

    def change(self, webhook: Webhook, now_us: int, fields: dict[str, Any]) -> None:
        _check(webhook.type, fields)
        for name, value in fields.items():
            setattr(webhook, name, value)
        webhook.modified_us = now_us

    def delete(self, webhook_id: int) -> None:
        del self._by_id[self.get(webhook_id).id]


def _check(kind: str, fields: dict[str, Any]) -> None:
    events = fields.get("events")
    if events is not None and not events:
        errors.missing("events are missing")
    if any(event not in EVENTS[kind] for event in events or ()):
        errors.invalid(f"Event is not available for type {kind}")
    if not fields.get("url", "https://").startswith(("http://", "https://")):
        errors.invalid("Invalid URL")
