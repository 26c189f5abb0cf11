"""/account and /webhooks: who the key belongs to, and where Brevo would send events."""

from typing import Any

import msgspec

from sandbox.brevo import errors, reading
from sandbox.brevo.account import BrevoAccount
from sandbox.brevo.webhooks import Webhook
from sandbox.exchange import Answer, Request, Routes

WEBHOOK = "/v3/webhooks/{webhook_id}"


class WebhookBody(msgspec.Struct):
    url: str | None = None
    description: str | None = None
    events: list[str] | None = None
    type: str | None = None
    channel: str | None = None
    domain: str | None = None
    batched: bool | None = None
    auth: dict[str, Any] | None = None
    headers: list[dict[str, Any]] | None = None

    def fields(self) -> dict[str, Any]:
        """Return what was given but the type."""
        given = {name: getattr(self, name) for name in self.__struct_fields__ if name != "type"}
        return {name: value for name, value in given.items() if value is not None}


def register(routes: Routes[BrevoAccount]) -> None:
    routes.add("GET", "/v3/account")(_account)
    routes.add("GET", "/v3/webhooks")(_list)
    routes.add("POST", "/v3/webhooks")(_create)
    routes.add("GET", WEBHOOK)(_read)
    routes.add("PUT", WEBHOOK)(_update)
    routes.add("DELETE", WEBHOOK)(_delete)


def _account(account: BrevoAccount, request: Request) -> Answer:
    plan_type = "free" if account.tier == "general" else "subscription"
    return Answer(
        200,
        {
            "organization_id": account.id,
            "user_id": 1,
            "enterprise": account.tier == "extended",
            "companyName": account.name,
            "email": account.owner_email,
            "firstName": "Sandbox",
            "lastName": "Owner",
            "address": {
                "city": "Paris",
                "street": "1 rue",
                "zipCode": "75001",
                "country": "France",
            },
            "plan": [{"type": plan_type, "credits": 300, "creditsType": "sendLimit"}],
            "planVerticals": [
                {
                    "planCategory": "Marketing",
                    "planType": plan_type,
                    "name": account.tier.title(),
                    "status": "active",
                }
            ],
            "relay": {
                "enabled": True,
                "data": {
                    "userName": account.owner_email,
                    "relay": "smtp-relay.example.com",
                    "port": 587,
                },
            },
            "marketingAutomation": {"enabled": True, "key": "sandbox"},
        },
    )


def _shown(account: BrevoAccount, webhook: Webhook) -> dict[str, Any]:
    body = {
        "id": webhook.id,
        "url": webhook.url,
        "description": webhook.description,
        "events": webhook.events,
        "type": webhook.type,
        "channel": webhook.channel,
        "createdAt": account.shown_time(webhook.created_us),
        "modifiedAt": account.shown_time(webhook.modified_us),
        "batched": webhook.batched,
        "auth": webhook.auth,
        "headers": webhook.headers,
    }
    return body if webhook.domain is None else {**body, "domain": webhook.domain}


def _list(account: BrevoAccount, request: Request) -> Answer:
    """Answer the webhooks of one type; 400 if there are none, as the real service does."""
    kind = request.parameter("type", "transactional")
    found = [_shown(account, each) for each in account.webhooks if each.type == kind]
    if not found:
        errors.refuse(400, "document_not_found", "Webhooks not found")
    return Answer(200, {"webhooks": found[::-1] if reading.descending(request) else found})


def _create(account: BrevoAccount, request: Request) -> Answer:
    wanted = reading.body(request, WebhookBody)
    if not wanted.url:
        errors.missing("url is missing")
    if not wanted.events:
        errors.missing("events are missing")
    kind = wanted.type or "transactional"
    created = account.webhooks.create(kind, account.now_us(), wanted.fields())
    return Answer(201, {"id": created.id})


def _read(account: BrevoAccount, request: Request) -> Answer:
    webhook = account.webhooks.get(reading.number(request, "webhook_id"))
    return Answer(200, _shown(account, webhook))


def _update(account: BrevoAccount, request: Request) -> Answer:
    webhook = account.webhooks.get(reading.number(request, "webhook_id"))
    fields = reading.body(request, WebhookBody).fields()
    if not fields:
        errors.missing("Nothing to update")
    account.webhooks.change(webhook, account.now_us(), fields)
    return Answer(204)


def _delete(account: BrevoAccount, request: Request) -> Answer:
    account.webhooks.delete(reading.number(request, "webhook_id"))
    return Answer(204)
