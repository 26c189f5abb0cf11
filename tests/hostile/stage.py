"""A whole stack between two hostile providers: a corpus in one list, ordinary people in another."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from local import stack, verify, wizard
from local.api import Api, Json
from local.parties import OAUTH_CLIENT, Field
from local.stack import Options, Stack
from tests.hostile import leaks
from tests.hostile.corpus import CANARY, PHONE_CANARY, Hostile
from tests.hostile.front import Front, Shown, before
from tests.integration import oracle
from tests.integration.scene import QUICK, QUICK_BY_SERVICE, Deaths, Sandbox, Scene, Way, sandbox

CORPUS, PLAIN = "Corpus", "Plain"
CROWD = 150  # Ordinary people who come at once: enough for an import.
QUOTA = 1_000_000
FIRST_ID = 1_000_000  # Of the corpus; ordinary people come first.
TOGETHER = 2_000  # Contacts in one call of the sandbox.
FIELDS = (*wizard.FIELDS, Field("loyalty_points", "POINTS", create="number"))
# What is tried here is what comes through, not how fast: limits are held elsewhere.
UNPACED = {
    **QUICK_BY_SERVICE,
    "poller-hubspot": {**QUICK_BY_SERVICE["poller-hubspot"], "RATE_LIMITS": "false"},
    "writer": {**QUICK_BY_SERVICE["writer"], "RATE_LIMITS": "false", "DRAIN_EVERY_S": "0.5"},
}


@dataclass(slots=True)
class Stage:
    """What runs, with the fronts before both providers."""

    folder: Path
    scene: Scene
    source: Front
    destination: Front
    shown: Shown
    deaths: Deaths
    keys: dict[str, str]  # The API's, by owner.
    secrets: set[str]  # Credentials that were given out when the stage was set.
    contacts: list[Hostile] = field(default_factory=list)
    draw: Random = field(default_factory=lambda: Random(1))

    @property
    def stack(self) -> Stack:
        """Return what runs."""
        return self.scene.stack

    @property
    def corpus(self) -> Way:
        """Return the integration that carries the corpus."""
        return self.scene.ways[0]

    @property
    def plain(self) -> Way:
        """Return the integration that carries ordinary people."""
        return self.scene.ways[-1]

    @property
    def tokens(self) -> set[str]:
        """Return every credential that anybody has shown or been given so far."""
        return self.secrets | self.source.tokens | self.destination.tokens

    async def leaks(self) -> leaks.Found:
        """Search everything for what does not belong where it is."""
        return await leaks.search(
            self.stack,
            self.folder,
            tokens=self.tokens,
            contacts=(CANARY, PHONE_CANARY),
            keys=self.keys,
        )


@asynccontextmanager
async def staged(folder: Path, contacts: Sequence[Hostile]) -> AsyncIterator[Stage]:
    """Start everything; the corpus, if there is one, is at the source; nothing is activated."""
    fronts: dict[str, Front] = {}
    async with AsyncExitStack() as exits:

        async def link(name: str, port: int, /) -> int:
            if name not in ("hubspot", "brevo"):
                return port
            fronts[name], own = await exits.enter_async_context(before(port))
            return own

        deaths = Deaths()
        options = Options(folder, durable=False, link=link, environment=QUICK, environments=UNPACED)
        running = await exits.enter_async_context(stack.running(options, deaths.hear))
        shown = Shown()
        fronts["hubspot"].show, fronts["hubspot"].ask = shown.show, shown.ask
        source = await exits.enter_async_context(sandbox(running.providers["hubspot"]))
        operator = await exits.enter_async_context(Api.connect(running.api, running.operator_key))
        workspace = await wizard.create_workspace(operator, quota_limit=QUOTA)
        api = await exits.enter_async_context(Api.connect(running.api, workspace.api_key))
        scene = Scene(running, operator, api, workspace.id, source)
        stage = Stage(
            folder,
            scene,
            fronts["hubspot"],
            fronts["brevo"],
            shown,
            deaths,
            {"operator": running.operator_key, "workspace": workspace.api_key},
            {running.operator_key, workspace.api_key, OAUTH_CLIENT[1]},
        )
        await source.lift_limits()
        await source.fill(CROWD, seed=7, name=PLAIN, invalid_share=0.0)
        if contacts:
            await _plant(stage, contacts)
        for name in [CORPUS, PLAIN] if contacts else [PLAIN]:
            way, key = await _way(exits, scene, name)
            scene.ways.append(way)
            stage.secrets.add(key)
        yield stage


async def _plant(stage: Stage, contacts: Sequence[Hostile]) -> None:
    """Put the corpus into its list: the sandbox has ids only, the front shows all the rest."""
    stage.contacts = list(contacts)
    for contact in contacts:
        contact.source_id = str(FIRST_ID + contact.number)
        if contact.known_as is None:
            contact.known_as = contact.source_id
    for start in range(0, len(contacts), TOGETHER):
        part = contacts[start : start + TOGETHER]
        wanted = [{"id": each.source_id, "properties": {"firstname": "x"}} for each in part]
        await stage.scene.source.put(wanted, name=CORPUS)
    stage.shown.properties = {each.source_id: each.properties for each in contacts}
    stage.shown.ids = {
        each.source_id: each.known_as or "" for each in contacts if each.known_as != each.source_id
    }


async def _way(exits: AsyncExitStack, scene: Scene, name: str) -> tuple[Way, str]:
    """Set up an integration to an account of its own; return it and the account's key."""
    async with sandbox(scene.stack.providers["brevo"]) as brevo:
        made = await brevo.open_account(name.lower())
    url = scene.stack.providers["brevo"]
    destination: Sandbox = await exits.enter_async_context(sandbox(url, made["account"]))
    await destination.lift_limits()
    integration = await wizard.set_up(
        scene.api,
        source_list=name,
        destination_list=f"From {name}",
        credentials={"api_key": made["api_key"]},
        fields=FIELDS,
    )
    before_all = verify.before_of(await destination.state())
    return Way(integration, name, f"From {name}", destination, before_all), made["api_key"]


async def unblocked_again_and_again(running: Stack) -> None:
    """End every block of a destination, as if its time were over: nobody waits for minutes."""
    async with oracle.database(running) as connection:
        while True:
            await connection.execute(
                """update delivery.destinations set blocked_until = clock_timestamp(),
                     block_attempts = 0 where blocked_until > clock_timestamp()"""
            )
            await asyncio.sleep(oracle.LOOK_EVERY_S)


async def ended(stage: Stage, way: Way) -> tuple[dict[str, Json], dict[str, str], list[Json]]:
    """Return who stands at a way's destination by address, who was rejected why, and its runs."""
    state = await way.destination.state()
    there = {each["email"]: each for each in state["contacts"] if each.get("email")}
    rejected = await stage.scene.contacts(way, "rejected")
    reasons = {str(each["source_id"]): str(each["reason"]) for each in rejected}
    return there, reasons, (await stage.scene.runs())[way.integration]
