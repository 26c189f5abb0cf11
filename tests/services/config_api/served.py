"""The config API in the test's own loop, on a real database, with the sandboxes beside it."""

import re
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from html import unescape
from typing import Any

import httpx
from fastapi import FastAPI

from libs.common import database
from libs.common.clock import Clock, SystemClock
from libs.common.database import SessionMaker
from libs.common.rates import INTERACTIVE
from libs.common.secrets import KeyRing
from libs.common.settings import Environment
from libs.common.tokens import Client
from libs.connectors.http import HttpClient
from libs.connectors.opening import Opener
from sandbox.activecampaign.app import create_app as activecampaign_app
from sandbox.activecampaign.state import State as ActiveCampaignState
from sandbox.brevo.app import create_app as brevo_app
from sandbox.brevo.state import State as BrevoState
from sandbox.constant_contact.app import create_app as constant_contact_app
from sandbox.constant_contact.state import State as ConstantContactState
from sandbox.control import set_limits
from sandbox.google_contacts.app import create_app as google_contacts_app
from sandbox.google_contacts.state import State as GoogleContactsState
from sandbox.hubspot.app import create_app as hubspot_app
from sandbox.hubspot.state import State as HubSpotState
from sandbox.salesforce.app import create_app as salesforce_app
from sandbox.salesforce.state import State as SalesforceState
from sandbox.server import ProviderApp, serve
from services.config_api.app import create_app, served
from services.config_api.bootstrap import bootstrap
from services.config_api.keys import FailureThrottle
from services.config_api.provider_accounts import PATIENCE_S, ProviderAccounts
from services.config_api.rate_limit import RateLimiter
from services.config_api.routing import Addresses, Parts, UploadBounds

BODY_BYTES_MAX = 256 * 1024
BASE = "http://api.example"
BREVO_KEY = "xkeysib-sandbox"
Json = dict[str, Any]


@dataclass(frozen=True)
class Served:
    """A running API: who calls it as whom, and what it stands on."""

    parts: Parts
    transport: httpx.ASGITransport
    operator_key: str
    owner: SessionMaker
    providers: Mapping[str, str]

    @asynccontextmanager
    async def caller(self, key: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
        """Open a client with a key; None: without any."""
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(
            transport=self.transport, base_url=BASE, headers=headers
        ) as client:
            yield client

    async def make_workspace(self, **members: object) -> Json:
        """Make a customer, as the operator does."""
        async with self.caller(self.operator_key) as operator:
            wanted = {"name": "Analytical Engines", **members}
            made = await operator.post("/v1/workspaces", json=wanted)
        assert made.status_code == 201, made.text
        return dict(made.json())

    async def control(self, provider: str, method: str, path: str, body: object = None) -> Any:
        """Tell a sandbox something."""
        async with httpx.AsyncClient(base_url=self.providers[provider]) as client:
            done = await client.request(method, f"/_sandbox/{path}", json=body)
        assert done.is_success, done.text
        return done.json() if done.content else None

    async def fail(self, provider: str, method: str, path: str, **fault: object) -> None:
        """Make a provider's next answer to a call fail."""
        match = {"method": method, "path": path}
        await self.control(provider, "PUT", "faults", [{"match": match, "times": 1, **fault}])


@asynccontextmanager
async def config_api(
    api_url: str,
    owner: SessionMaker,
    *,
    clock: Clock | None = None,
    paced: bool = False,
    calls: int = 10_000,
    uploads: UploadBounds | None = None,
    is_reachable: bool = False,
) -> AsyncIterator[Served]:
    """Serve the API as its own role, with sandboxes that count no limits.

    `is_reachable`: over a socket as well, so that providers can send events.
    """
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:
        providers = {
            provider: await stack.enter_async_context(serve(app))
            for provider, app in _sandboxes().items()
        }
        http = HttpClient(environment=Environment.TEST, loopback_urls=providers)
        stack.push_async_callback(http.aclose)
        engine = database.create_engine(api_url, pool_size_max=5, application_name="api")
        stack.push_async_callback(engine.dispose)
        sessions = database.session_maker(engine)
        parts = make_parts(sessions, http, providers, clock, calls=calls, paced=paced)
        if uploads is not None:
            parts = replace(parts, uploads=uploads)
        app = stack.enter_context(_application(parts))
        if is_reachable:
            url = await stack.enter_async_context(serve(served(app, body_bytes_max=BODY_BYTES_MAX)))
            events_url = f"{url}/v1/provider-events"
            parts = replace(parts, addresses=replace(parts.addresses, events_url=events_url))
            app.state.parts = parts
        running = Served(
            parts=parts,
            transport=httpx.ASGITransport(served(app, body_bytes_max=BODY_BYTES_MAX)),
            operator_key=await bootstrap(sessions, replace=False),
            owner=owner,
            providers=providers,
        )
        yield running


def _sandboxes() -> Mapping[str, ProviderApp[Any]]:
    """Return the sandbox of each provider, new and without limits."""
    apps: dict[str, ProviderApp[Any]] = {
        "hubspot": hubspot_app(HubSpotState(seed=1)),
        "brevo": brevo_app(BrevoState(seed=1)),
        "constant_contact": constant_contact_app(ConstantContactState(seed=1)),
        "activecampaign": activecampaign_app(ActiveCampaignState(seed=1)),
        "google_contacts": google_contacts_app(GoogleContactsState(seed=1)),
        "salesforce": salesforce_app(SalesforceState(seed=1)),
    }
    for app in apps.values():
        set_limits(app.provider.default, {"enabled": False})
    return apps


# Applications that no test uses at the moment. Their routes are worked out as they are first asked
# for, which takes longer than most tests; all that a test gives an application is its parts.
_IDLE: list[FastAPI] = []


@contextmanager
def _application(parts: Parts) -> Iterator[FastAPI]:
    """Have an application to oneself for as long as the block lasts."""
    app = _IDLE.pop() if _IDLE else create_app(None)
    app.state.parts = parts
    try:
        yield app
    finally:
        app.state.parts = None
        _IDLE.append(app)


def make_parts(
    sessions: SessionMaker,
    http: HttpClient,
    providers: Mapping[str, str],
    clock: Clock,
    *,
    paced: bool,
    calls: int,
) -> Parts:
    """Return what the application stands on.

    Without `paced` the shared rate budget is left out: it lets a person through once a second.
    """
    secrets = KeyRing.parse(f"one:{b64encode(bytes(32)).decode()}")
    return Parts(
        sessions=sessions,
        secrets=secrets,
        accounts=ProviderAccounts(
            Opener(
                http=http,
                transactions=database.transactions_of(sessions),
                keys=secrets,
                clock=clock,
                patience_s=PATIENCE_S,
                lane=INTERACTIVE,
                clients=dict.fromkeys(
                    ("hubspot", "constant_contact", "salesforce", "google_contacts"),
                    Client("sandbox-client", "sandbox-secret"),
                ),
                base_urls=providers,
                paced=paced,
                as_api=True,
            )
        ),
        clock=clock,
        addresses=Addresses(
            callback_url=f"{BASE}/v1/oauth/callback",
            return_origins=frozenset({"https://app.example"}),
            allows_loopback=False,
        ),
        throttle=FailureThrottle(clock),
        limiter=RateLimiter(clock, calls=calls, window_s=60.0),
    )


async def grant(authorize_url: str, decision: str = "approve", account: str = "") -> str:
    """Press a button on the provider's login page; return where it sends the browser back to."""
    async with httpx.AsyncClient() as browser:
        page = await browser.get(authorize_url)
        assert page.status_code == 200, page.text
        hidden = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page.text)
        action = re.search(r'<form method="post" action="([^"]*)">', page.text)
        assert action is not None
        form = {unescape(name): unescape(value) for name, value in hidden}
        back = await browser.post(
            str(page.url.join(unescape(action[1]))),
            data={**form, "decision": decision, **({"account": account} if account else {})},
        )
    return back.headers["location"]


LABELS = {
    "hubspot": "HubSpot",
    "constant_contact": "Constant Contact",
    "salesforce": "Salesforce",
    "google_contacts": "Google Contacts",
}


async def connect_hubspot(api: httpx.AsyncClient) -> str:
    """Connect the sandbox's portal by its login page; return the connection's id."""
    return await connect_by_login(api, "hubspot")


async def connect_by_login(api: httpx.AsyncClient, provider: str, account: str = "") -> str:
    """Connect an account, the default one, by its login page; return the connection's id."""
    wanted = {"provider": provider, "name": f"Our {LABELS[provider]}"}
    made = await api.post("/v1/connections", json=wanted)
    assert made.status_code == 201, made.text
    connection = made.json()["id"]
    asked = await api.post(f"/v1/connections/{connection}:authorize", json={})
    assert asked.status_code == 200, asked.text
    back = await api.get(await grant(asked.json()["authorize_url"], account=account))
    assert back.status_code == 200, back.text
    return str(connection)


async def connect_brevo(api: httpx.AsyncClient, key: str = BREVO_KEY) -> str:
    """Connect the sandbox's Brevo account; return the connection's id."""
    made = await api.post(
        "/v1/connections", json={"provider": "brevo", "name": "Our Brevo", "api_key": key}
    )
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


@dataclass(frozen=True)
class Draft:
    """A complete draft that is not active yet."""

    id: str
    path: str
    source: str
    destination: str


async def make_draft(served: Served, api: httpx.AsyncClient) -> Draft:
    """Walk the wizard up to, and without, the activation."""
    filled = await served.control(
        "hubspot", "POST", "contacts:fill", {"count": 20, "seed": 1, "list": "Newsletter"}
    )
    source, destination = await connect_hubspot(api), await connect_brevo(api)
    created = await api.post(f"/v1/connections/{destination}/lists", json={"name": "News"})
    made = await api.post("/v1/integrations", json={"name": "HubSpot → Brevo"})
    path = f"/v1/integrations/{made.json()['id']}"
    await edit(
        api,
        "PATCH",
        path,
        {
            "source": {
                "connection_id": source,
                "object": "contacts",
                "list_id": str(filled["list_id"]),
            },
            "opt_in": {"accepted": True},
            "destination": {"connection_id": destination, "list_id": created.json()["id"]},
        },
    )
    await edit(api, "PUT", f"{path}/mapping", {"fields": FIELDS}, resource=path)
    return Draft(made.json()["id"], path, source, destination)


FIELDS = [
    {"source": "email", "destination": "EMAIL"},
    {"source": "firstname", "destination": "FIRSTNAME"},
    {"source": "phone", "destination": "SMS"},
]


async def edit(
    api: httpx.AsyncClient, method: str, path: str, body: Json, *, resource: str | None = None
) -> Json:
    """Change a resource with its present ETag; the change must succeed."""
    tag = (await api.get(resource or path)).headers["etag"]
    done = await api.request(method, path, json=body, headers={"if-match": tag})
    assert done.is_success, done.text
    return dict(done.json())


def codes(answer: httpx.Response) -> list[str]:
    """Return the codes of a problem document's errors."""
    return [each["code"] for each in answer.json()["errors"]]


def pointers(answer: httpx.Response) -> list[str]:
    """Return the pointers of a problem document's errors."""
    return [each["pointer"] for each in answer.json()["errors"]]
