"""An integration in a database of its own, and pollers that read it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import msgspec
from sqlalchemy import Row, text

from libs.common.clock import SystemClock
from libs.common.database import SessionMaker
from libs.common.events import IntegrationChanged, Topic, decode
from libs.common.postgres import Transactions
from libs.connectors.contract import Source
from services.poller import store
from services.poller.attend import Attendant, Bounds
from services.poller.plan import Assignment
from services.poller.poll import Run
from services.poller.run_store import DatabaseRunStore
from tests.services.poller.fakes import Journal

FIELDS = (
    {"source": "email", "destination": "EMAIL", "destination_type": "email"},
    {"source": "firstname", "destination": "FIRSTNAME", "destination_type": "text"},
)
PROVIDER = "hubspot"


@dataclass
class World:
    """The database as its owner sees it (`sessions`) and as the poller does (`as_poller`)."""

    sessions: SessionMaker
    as_poller: Transactions
    journal: Journal = field(default_factory=Journal)
    workspace: UUID = field(default_factory=uuid4)
    connection: UUID = field(default_factory=uuid4)

    async def set_up(self) -> None:
        await self.execute(
            "insert into config.workspaces (workspace_id, name) values (:workspace, 'Ours')"
        )
        await self.execute(
            """insert into config.connections
            (connection_id, workspace_id, provider, name, state, account_id)
            values (:connection, :workspace, 'hubspot', 'Source', 'connected', '1')"""
        )

    async def integrate(
        self,
        *,
        list_id: str | None = None,
        fields: Sequence[Mapping[str, Any]] = FIELDS,
        criteria: Mapping[str, Any] | None = None,
    ) -> UUID:
        """Make an active integration that is due."""
        integration = uuid4()
        await self.execute(
            """insert into config.integrations
            (integration_id, workspace_id, name, state, source_connection_id, source_object,
             source_list_id, destination_connection_id, mapping_version)
            values (:integration, :workspace, 'Ours', 'active', :connection, 'contacts', :list,
                    :connection, 1)""",
            integration=integration,
            list=list_id,
        )
        await self.map(integration, version=1, fields=fields, criteria=criteria)
        await self.execute(
            """insert into sync.schedules
            (integration_id, workspace_id, provider, interval_minutes)
            values (:integration, :workspace, 'hubspot', 30)""",
            integration=integration,
        )
        return integration

    async def map(
        self,
        integration: UUID,
        *,
        version: int,
        fields: Sequence[Mapping[str, Any]] = FIELDS,
        criteria: Mapping[str, Any] | None = None,
    ) -> None:
        """Give an integration a mapping version."""
        await self.execute(
            """insert into config.field_mappings
            (integration_id, version, workspace_id, fields, criteria, created_by)
            values (:integration, :version, :workspace, cast(:fields as jsonb),
                    cast(:criteria as jsonb), 'test')""",
            integration=integration,
            version=version,
            fields=msgspec.json.encode(fields).decode(),
            criteria=None if criteria is None else msgspec.json.encode(criteria).decode(),
        )
        await self.execute(
            "update config.integrations set mapping_version = :version "
            "where integration_id = :integration",
            integration=integration,
            version=version,
        )

    async def park(self, integration: UUID, reason: str) -> None:
        """Let a contact of an integration wait at the destination."""
        await self.execute(
            """insert into delivery.parked
            (integration_id, source_id, workspace_id, connection_id, reason, operation, version_ms,
             run_no, run_id, page, part, mapping_version, attributes, hash)
            values (:integration, '1', :workspace, :connection, :reason, 'upsert', 1, 1,
                    gen_random_uuid(), 1, 0, 1, '', '')""",
            integration=integration,
            reason=reason,
        )

    async def call(self, function: str, **parameters: object) -> Any:
        """Call a function as the API would, in its workspace."""
        arguments = ", ".join(f":{name}" for name in parameters)
        async with self.sessions.begin() as session:
            await session.execute(
                text("select set_config('app.workspace', :workspace, true)"),
                {"workspace": str(self.workspace)},
            )
            return await session.scalar(text(f"select {function}({arguments})"), parameters)

    async def execute(self, statement: str, **parameters: object) -> None:
        async with self.sessions.begin() as session:
            await session.execute(
                text(statement),
                {"workspace": self.workspace, "connection": self.connection, **parameters},
            )

    async def rows(self, statement: str, **parameters: object) -> Sequence[Row[Any]]:
        async with self.sessions.begin() as session:
            answer = await session.execute(text(statement), parameters)
            return answer.all()

    async def row(self, statement: str, **parameters: object) -> Row[Any]:
        [row] = await self.rows(statement, **parameters)
        return row

    async def make_due(self, integration: UUID) -> None:
        await self.execute(
            "update sync.schedules set next_due_at = clock_timestamp(), resume_at = null "
            "where integration_id = :integration",
            integration=integration,
        )

    async def lapse(self, integration: UUID) -> None:
        """Let a lease lapse, as if its poller had died long ago."""
        await self.execute(
            "update sync.schedules set lease_until = clock_timestamp() - interval '1 second' "
            "where integration_id = :integration",
            integration=integration,
        )

    async def claim(self, *, limit: int = 50) -> list[Assignment]:
        return await store.claim_due(self.as_poller, provider=PROVIDER, owner=uuid4(), limit=limit)

    async def claim_one(self, integration: UUID) -> Assignment:
        await self.make_due(integration)
        [assignment] = await self.claim()
        assert assignment.integration == integration
        return assignment

    def run(self, assignment: Assignment, source: Source, *, newest_max: int | None = None) -> Run:
        return Run(
            assignment,
            source,
            DatabaseRunStore(self.as_poller),
            self.journal.publish,
            SystemClock(),
            newest_max=newest_max,
        )

    async def poll(
        self, integration: UUID, source: Source, *, newest_max: int | None = None
    ) -> Assignment:
        """Make an integration due, claim it, and read it to the end."""
        assignment = await self.claim_one(integration)
        await self.run(assignment, source, newest_max=newest_max).poll()
        return assignment

    def attendant(self, source: Source | Exception, **bounds: float | None) -> Attendant:
        """Return a poller process's attendant, whose sources are all this one."""

        async def open_source(_assignment: Assignment) -> Source:
            if isinstance(source, Exception):
                raise source
            return source

        return Attendant(
            PROVIDER,
            owner=uuid4(),
            sessions=self.as_poller,
            open_source=open_source,
            publish=self.journal.publish,
            clock=SystemClock(),
            bounds=Bounds(claim_every_s=0.02, **bounds),  # type: ignore[arg-type]  # one is an int
            uniform=lambda low, high: low,
        )

    async def members(self, integration: UUID) -> set[str]:
        rows = await self.rows(
            "select source_id from sync.members where integration_id = :integration",
            integration=integration,
        )
        return {row.source_id for row in rows}

    async def newest_run(self, integration: UUID) -> Row[Any]:
        return await self.row(
            "select * from sync.runs where integration_id = :integration "
            "order by run_no desc limit 1",
            integration=integration,
        )

    async def schedule(self, integration: UUID) -> Row[Any]:
        return await self.row(
            "select *, extract(epoch from "
            "coalesce(resume_at, next_due_at) - clock_timestamp()) as due_in_s "
            "from sync.schedules where integration_id = :integration",
            integration=integration,
        )

    async def told(self) -> list[IntegrationChanged]:
        """Return what waits in the poller's outbox."""
        rows = await self.rows("select body from sync.outbox order by id")
        events = [decode(Topic.INTEGRATIONS_CHANGED, row.body) for row in rows]
        return [event for event in events if isinstance(event, IntegrationChanged)]
