"""Set up an integration as a person would with the wizard: step by step through the config API.

Nothing here knows more than a front end knows: the address of the API, a key, and what a person
sees and types.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from html import unescape

import httpx

from local.api import Api, Json
from local.errors import StackError
from local.parties import BREVO, HUBSPOT, DestinationParty, Field, SourceParty, fields_of

# One person, so that "one mail" is one mail.
RECIPIENTS = ({"email": "ada@example.com", "language": "en"},)
DEFAULT_COUNTRY = "DE"  # Whose national phone numbers the seeded contacts have.
INTERVAL_MINUTES = 5  # The shortest: somebody is watching.


Upload = Callable[[Api, str], Awaitable[None]]  # Of a file, to a connection.

FIELDS = tuple(fields_of(HUBSPOT, BREVO))


@dataclass(frozen=True, slots=True)
class Workspace:
    """A workspace and its first key."""

    id: str
    api_key: str


async def create_workspace(operator: Api, *, quota_limit: int) -> Workspace:
    """Make a workspace, as the operator does for a new customer."""
    made = await operator.post(
        "/v1/workspaces",
        {
            "name": "Analytical Engines Ltd",
            "plan": "enterprise",
            "language": "en",
            "recipients": list(RECIPIENTS),
            "quota_limit": quota_limit,
        },
    )
    return Workspace(id=made["id"], api_key=made["api_key"]["secret"])


async def set_up(
    api: Api,
    *,
    source_list: str,
    destination_list: str,
    pair: tuple[SourceParty, DestinationParty] = (HUBSPOT, BREVO),
    source_account: str | None = None,
    credentials: Mapping[str, str] | None = None,
    fields: Sequence[Field] | None = None,
    upload: Upload | None = None,
) -> str:
    """Connect both accounts, choose lists and map fields; return the draft's id.

    `upload` uploads a file to the source, which then has no lists. `source_account` is whom the
    login page is told, None its first account. `credentials` are of another
    account of the destination than its sandbox begins with, `fields` another mapping than every
    word that both sides have.
    """
    read_from, write_to = pair
    source = await _connect(api, read_from, read_from.credentials, source_account)
    destination = await _connect(api, write_to, {**write_to.credentials, **(credentials or {})})
    named = {"name": f"{read_from.label} → {write_to.label}"}
    made = await api.post("/v1/integrations", named)
    integration = f"/v1/integrations/{made['id']}"
    if upload is not None:
        await upload(api, source)
    lists = await api.items(f"/v1/connections/{source}/lists", object=read_from.object)
    created = await api.post(f"/v1/connections/{destination}/lists", {"name": destination_list})
    await api.edit(
        "PATCH",
        integration,
        integration,
        {
            "source": {
                "connection_id": source,
                "object": read_from.object,
                "list_id": None if upload is not None else _named(lists, source_list),
            },
            "opt_in": {"accepted": True},
            "destination": {"connection_id": destination, "list_id": created["id"]},
            "interval_minutes": INTERVAL_MINUTES,
            "default_country": DEFAULT_COUNTRY,
        },
    )
    offered = await api.items(f"/v1/connections/{source}/fields", object=read_from.object)
    wanted = fields_of(*pair) if fields is None else fields
    _refuse_missing(wanted, [each["name"] for each in offered])
    await _map_fields(api, integration, destination, wanted)
    return str(made["id"])


async def activate(api: Api, integration_id: str) -> None:
    """Save and activate (W7); raises `StackError` if the API finds anything open."""
    integration = f"/v1/integrations/{integration_id}"
    checklist = await api.get(f"{integration}/checklist")
    if not checklist["ready"]:
        what = f"the wizard is not done: {checklist['steps']}"
        raise StackError(what, "see which step is missing or invalid")
    await api.edit("POST", f"{integration}:activate", integration, {})


async def _connect(
    api: Api,
    party: SourceParty | DestinationParty,
    credentials: Mapping[str, str] | None,
    account: str | None = None,
) -> str:
    """Connect by what a person types, or without it by the provider's own login page (W2)."""
    wanted = {"provider": party.provider, "name": f"Our {party.label}"}
    made = await api.post("/v1/connections", {**wanted, **(credentials or {})})
    if credentials is None:
        await _log_in(api, f"/v1/connections/{made['id']}", party.label, account)
    return str(made["id"])


async def _log_in(api: Api, connection: str, label: str, account: str | None) -> None:
    asked = await api.post(f"{connection}:authorize")
    await _grant(asked["authorize_url"], account)
    state = (await api.get(connection))["state"]
    if state != "connected":
        what = f"the {label} connection is {state} after its owner granted access"
        raise StackError(what, "see the log of config-api")


async def _grant(authorize_url: str, account: str | None) -> None:
    """Read the login page, choose an account, press the button, and come back to where it sends."""
    async with httpx.AsyncClient(timeout=30.0, follow_redirects=True, trust_env=False) as browser:
        page = await browser.get(authorize_url)
        hidden = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page.text)
        action = re.search(r'<form method="post" action="([^"]*)">', page.text)
        if page.status_code != 200 or action is None:
            what = f"the login page was answered {page.status_code}: {page.text}"
            raise StackError(what, "see the log of the sandbox")
        form = {unescape(name): unescape(value) for name, value in hidden}
        if account is not None:
            form["account"] = account
        back = await browser.post(
            str(page.url.join(unescape(action[1]))), data={**form, "decision": "approve"}
        )
        if not back.is_success:
            what = f"coming back from the login was answered {back.status_code}: {back.text}"
            raise StackError(what, "see the log of config-api")


def _refuse_missing(wanted: Sequence[Field], offered: Sequence[str]) -> None:
    missing = [field.source for field in wanted if field.source not in offered]
    if missing:
        what = f"the API does not offer {', '.join(missing)} for mapping"
        raise StackError(what, "see what /fields?all=true says about why")


async def _map_fields(
    api: Api, integration: str, destination: str, wanted: Sequence[Field]
) -> None:
    for field in wanted:
        if field.create:
            attribute = {"name": field.destination, "type": field.create}
            await api.post(f"/v1/connections/{destination}/fields", attribute)
    pairs = [{"source": field.source, "destination": field.destination} for field in wanted]
    await api.edit("PUT", f"{integration}/mapping", integration, {"fields": pairs})


def _named(lists: Sequence[Json], name: str) -> str:
    """Return the id of the list with a name."""
    for each in lists:
        if each["name"] == name:
            return str(each["id"])
    what = f"the API does not show the list {name!r} among {[each['name'] for each in lists]}"
    raise StackError(what, "see the log of config-api")
