"""Salesforce and Brevo both ways through all services, as people set it up and see it.

Runs are five minutes apart at the least: what comes sooner came because Brevo told of it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from local import stack, wizard
from local.api import Api, Json
from local.parties import BREVO, SALESFORCE, Field
from local.stack import Options, services_for
from tests.integration.scene import QUICK, Sandbox, sandbox

PROVIDERS = ("salesforce", "brevo")
CONTACTS = 120  # So many go by an import.
NAMES = [Field("Email", "EMAIL"), Field("FirstName", "FIRSTNAME"), Field("LastName", "LASTNAME")]
BIRTHDAY = Field("Birthdate", "BIRTHDAY", create="date")
WITHIN_S = 90.0
TOO_LONG = "A" * 41  # Of a lead's first name Salesforce takes 40 (SF8).
LEAD = {"Email": "lead@example.com", "FirstName": "Lea", "LastName": "Dee", "Company": "Works"}


@dataclass(frozen=True, slots=True)
class Desk:
    """A workspace whose contacts and leads go both ways, and both sandboxes."""

    api: Api
    salesforce: Sandbox
    brevo: Sandbox

    async def both_ways(self, kind: str, source_list: str, fields: list[Field]) -> str:
        """Set up an integration that goes both ways, and start it; return its path."""
        made = await wizard.set_up(
            self.api,
            source_list=source_list,
            destination_list=f"From {source_list}",
            pair=(replace(SALESFORCE, object=kind), BREVO),
            fields=fields,
        )
        path = f"/v1/integrations/{made}"
        await self.api.edit("PATCH", path, path, {"two_way": True})
        await wizard.activate(self.api, made)
        return path

    async def record(self, kind: str, email: str) -> Json | None:
        """Return the living record with an address."""
        found = [
            each
            for each in (await self.salesforce.state())[kind]
            if each["Email"] == email and not each["IsDeleted"]
        ]
        return found[0] if found else None

    async def contact(self, email: str) -> Json | None:
        """Return Brevo's contact with an address."""
        found = [each for each in (await self.brevo.state())["contacts"] if each["email"] == email]
        return found[0] if found else None

    async def edit(self, email: str, **attributes: object) -> None:
        """Edit a contact at Brevo, as its people do."""
        contact = await self.contact(email)
        assert contact is not None
        await self.brevo.upsert([{"id": contact["id"], "attributes": attributes}])

    async def delete(self, *emails: str) -> None:
        """Delete contacts at Brevo, as its people do."""
        there = [await self.contact(each) for each in emails]
        await self.brevo._call(
            "POST", "contacts:delete", {"ids": [each["id"] for each in there if each]}
        )

    async def reasons(self, path: str) -> set[str]:
        """Return why contacts of an integration's way back were not carried."""
        back = (await self.api.get(path))["way_back_id"]
        rejected = await self.api.items(f"/v1/integrations/{back}/contacts", status="rejected")
        return {each["reason"] for each in rejected}


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Desk]:
    """Run a stack with both providers, and make a workspace there."""
    options = Options(
        folder,
        durable=False,
        providers=PROVIDERS,
        services=services_for(PROVIDERS),
        environment=QUICK,
    )
    async with AsyncExitStack() as exits:
        running = await exits.enter_async_context(stack.running(options, lambda line: None))
        operator = await exits.enter_async_context(Api.connect(running.api, running.operator_key))
        workspace = await wizard.create_workspace(operator, quota_limit=100_000)
        yield Desk(
            await exits.enter_async_context(Api.connect(running.api, workspace.api_key)),
            await exits.enter_async_context(sandbox(running.providers["salesforce"])),
            await exits.enter_async_context(sandbox(running.providers["brevo"])),
        )


async def until(what: str, ask: Callable[[], Awaitable[Any]]) -> Any:
    """Return the first answer that is true; fail if none is in time."""
    try:
        async with asyncio.timeout(WITHIN_S):
            while not (answer := await ask()):  # noqa: ASYNC110  # nobody tells a test of it
                await asyncio.sleep(0.25)
    except TimeoutError:
        pytest.fail(f"not within {WITHIN_S} s: {what}")
    return answer


async def holds(desk: Desk, kind: str, email: str, **values: object) -> bool:
    record = await desk.record(kind, email)
    return record is not None and all(record[name] == value for name, value in values.items())


async def first_imports(desk: Desk) -> tuple[str, str, list[str]]:
    """Let contacts and leads come to Brevo; return both integrations, and contacts' addresses."""
    await desk.salesforce.fill(CONTACTS, seed=7, name="Customers", invalid_share=0.0)
    leads = {"object": "Lead", "contacts": [{"properties": LEAD}], "list": "Prospects"}
    await desk.salesforce._call("POST", "contacts:upsert", leads)
    contacts = await desk.both_ways("contacts", "Customers", [*NAMES, BIRTHDAY])
    prospects = await desk.both_ways("leads", "Prospects", NAMES)
    emails = [each["Email"] for each in (await desk.salesforce.state())["contacts"]]

    async def are_settled() -> bool:
        for path in (contacts, prospects):
            back = (await desk.api.get(path))["way_back_id"]
            for each in (path, f"/v1/integrations/{back}"):
                runs = await desk.api.items(f"{each}/runs")
                if not runs or any(run["state"] != "complete" for run in runs):
                    return False
        return {*emails, LEAD["Email"]} <= {
            each["email"] for each in (await desk.brevo.state())["contacts"]
        }

    await until("the first imports", are_settled)
    return contacts, prospects, emails


@pytest.mark.timeout(1200)
async def test_a_day_with_both_ways(tmp_path: Path, embedded: None) -> None:
    """Proves SF3, SF8, SF9, SF10: imports, edits, errors by row, deletions; all else goes on."""
    async with opened(tmp_path) as desk:
        contacts, prospects, emails = await first_imports(desk)
        assert (await desk.api.get("/v1/quota"))["used"] == CONTACTS + 1
        assert await desk.salesforce.writes() == []  # Nothing of it came back.
        ada, bob, cyd, dea = emails[:4]

        # A date that is none, and a first name that is too long: of one contact each.
        await desk.edit(ada, BIRTHDAY="31.12.1999", FIRSTNAME="Nobody")
        await desk.edit(str(LEAD["Email"]), FIRSTNAME=TOO_LONG)
        await desk.edit(bob, FIRSTNAME="Augusta", BIRTHDAY="1999-12-31")
        await until(
            "an edit at Brevo at Salesforce",
            lambda: holds(desk, "contacts", bob, FirstName="Augusta", Birthdate="1999-12-31"),
        )
        await until("the date's error", lambda: _has(desk, contacts, "date_format"))
        await until("the name's error", lambda: _has(desk, prospects, "value_too_long"))
        assert not await holds(desk, "contacts", ada, FirstName="Nobody")
        assert await holds(desk, "leads", str(LEAD["Email"]), FirstName="Lea")
        shown = [await desk.api.get(path) for path in (contacts, prospects)]
        assert [each["status"] for each in shown] == ["active", "error"]

        # Mended, both go on: the lead's name, and the contact with its date.
        await desk.edit(str(LEAD["Email"]), FIRSTNAME="Leah")
        await desk.edit(ada, BIRTHDAY="1999-12-31")
        await until("the lead", lambda: holds(desk, "leads", str(LEAD["Email"]), FirstName="Leah"))
        await until("the date", lambda: holds(desk, "contacts", ada, Birthdate="1999-12-31"))

        # Deleted at Brevo: gone at Salesforce, unless a case hangs on it.
        held = await desk.record("contacts", dea)
        assert held is not None
        await desk.salesforce._call("POST", "cases:attach", {"contact": held["Id"]})
        await desk.delete(cyd, dea)
        await until("the deletion", lambda: _is_gone(desk, cyd))
        await until("the case's error", lambda: _has(desk, contacts, "case_attached"))
        assert await desk.record("contacts", dea) is not None


async def _has(desk: Desk, path: str, reason: str) -> bool:
    return reason in await desk.reasons(path)


async def _is_gone(desk: Desk, email: str) -> bool:
    return await desk.record("contacts", email) is None
