"""A customer whose quota is used, as the writer uses it, and the client that looks at it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx
from sqlalchemy import text

from libs.common import ids, ledger
from libs.common.database import SessionMaker, transactions_of
from libs.common.ids import Prefix
from libs.common.ledger import Posting
from tests.services.config_api.served import Served

Json = dict[str, Any]


@dataclass(frozen=True)
class Customer:
    """A workspace with integrations called `one` and `two`."""

    id: str
    api: httpx.AsyncClient
    integrations: Sequence[str]
    sessions: SessionMaker

    async def use(
        self, integration: str, *contacts: str, run_no: int = 1, operation: str = "upsert"
    ) -> None:
        """Charge a task for each contact; the quota must allow it."""
        integration_id = ids.parse(Prefix.INTEGRATION, integration)
        postings = [
            Posting(
                uuid4().bytes,
                integration_id,
                contact,
                ids.run_id(integration_id, run_no),
                operation,
            )
            for contact in contacts
        ]
        async with transactions_of(self.sessions).begin() as session:
            hold_id = uuid4()
            granted = await ledger.hold(
                session, workspace=self.workspace, hold_id=hold_id, wanted=len(contacts)
            )
            assert granted == len(contacts)
            await ledger.post(session, hold_id=hold_id, postings=postings)

    async def backdate(self, contact: str, *, days: int) -> None:
        """Let a contact have been written days ago; it stays charged to the same month."""
        async with self.sessions.begin() as session:
            await session.execute(
                text(
                    "update ledger.postings"
                    " set posted_at = posted_at - make_interval(hours => 24 * :days)"
                    " where workspace_id = :workspace and source_id = :contact"
                ),
                {"workspace": self.workspace, "contact": contact, "days": days},
            )

    async def quota(self) -> Json:
        """Return what the API says of the quota."""
        answer = await self.api.get("/v1/quota")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    @property
    def workspace(self) -> UUID:
        """Return the workspace's id as the database has it."""
        return ids.parse(Prefix.WORKSPACE, self.id)


@asynccontextmanager
async def customer_of(
    served: Served, sessions: SessionMaker, **members: object
) -> AsyncIterator[Customer]:
    """Make a workspace with two integrations, and open a client for it."""
    made = await served.make_workspace(**members)
    async with served.caller(made["api_key"]["secret"]) as api:
        integrations = []
        for name in ("one", "two"):
            answer = await api.post("/v1/integrations", json={"name": name})
            integrations.append(answer.json()["id"])
        yield Customer(made["id"], api, integrations, sessions)
