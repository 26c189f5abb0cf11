"""Accept a bulk activity, as far as the queue has room."""

from collections.abc import Callable
from typing import Any

from sandbox.constant_contact.activities import QUEUE_MAX, Done
from sandbox.constant_contact.errors import listed
from sandbox.constant_contact.state import Customer
from sandbox.exchange import RefusedError


def accepted(account: Customer, kind: str, items: int, work: Callable[[], Done]) -> dict[str, Any]:
    """Return an activity as it is shown when taken in; raises the 429 of a queue that is full."""
    if account.activities.queued >= QUEUE_MAX:
        text = f"There are {QUEUE_MAX} activities in the queue already"
        raise RefusedError(listed(429, "contacts.api.queue_full", text))
    now_s = account.clock.now_s()
    delay_s = account.settings.activity_delay_s
    activity = account.activities.add(kind, items, work, now_s=now_s, delay_s=delay_s)
    shown = activity.described()
    if not delay_s:
        account.activities.carry_out_until(now_s)
    return shown
