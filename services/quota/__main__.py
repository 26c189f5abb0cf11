"""`python -m services.quota [reconcile --workspace W [--period P]]`: the accountant.

(nothing)   be the accountant, or stand by while another is: publish what the ledger decided, make
            and drop months, reconcile
reconcile   look at one workspace's month now and print what was found; nothing is stored or told.
            Ends with 1 if there is drift, with 2 if there is nothing to look at
"""

import argparse
import asyncio
import json
import sys
from datetime import date, datetime
from uuid import UUID

from libs.common import database, ids
from libs.common.failpoints import reached_by
from libs.common.ids import Prefix
from libs.common.lifecycle import Process, run
from libs.common.outbox import OutboxRelay
from libs.common.postgres import Transactions, create_pool, transact
from libs.common.publisher import Publisher
from libs.common.settings import DatabaseSettings, read
from services.quota import account
from services.quota.lease import Accountant, Term
from services.quota.reconcile import Reconciliation, Report, look
from services.quota.settings import Settings
from services.quota.store import Month, months_of

SERVICE = "quota"
# Of its connections, those for what is asked every second: the lease and the outbox.
OFTEN_USED = 2


async def serve(process: Process, settings: Settings) -> None:
    """Be the accountant whenever nobody else is, until told to stop."""
    engine = database.create_engine(
        settings.database_url,
        pool_size_max=max(1, settings.database_pool_size_max - OFTEN_USED),
        application_name=process.service,
    )
    sessions = database.session_maker(engine)
    # Past SQLAlchemy: a statement by itself is two thirds of the CPU time.
    pool = create_pool(settings.database_url, size_max=OFTEN_USED, application_name=process.service)
    transactions = Transactions(pool)
    accountant = Accountant(
        transactions,
        process.clock,
        ids.new(),
        lease_s=settings.accountant_lease_s,
        ask_every_s=settings.accountant_ask_every_s,
    )
    process.watch("accountant", ready=accountant.is_ready)
    try:
        async with Publisher(settings.kafka_bootstrap, source=process.service) as publisher:

            async def work(term: Term) -> None:
                await _account(process, settings, sessions, transactions, publisher, term)

            await accountant.run(process.stop, work)
    finally:
        await pool.close()
        await engine.dispose()


async def _account(
    process: Process,
    settings: Settings,
    sessions: database.SessionMaker,
    transactions: Transactions,
    publisher: Publisher,
    term: Term,
) -> None:
    relay = OutboxRelay(
        transactions,
        "ledger.outbox",
        publisher,
        claim_s=settings.outbox_claim_s,
        reached=reached_by(process.service, settings),
    )
    reconciliation = Reconciliation(sessions, process.clock, every_s=settings.reconcile_every_s)
    async with asyncio.TaskGroup() as group:
        for part in (
            relay.run(term.over),
            account.keep_up(
                sessions,
                term.over,
                every_s=settings.partitions_every_s,
                months_kept=settings.postings_months_kept,
            ),
            account.keep_measuring(sessions, term.over, every_s=settings.measure_every_s),
            reconciliation.run(term),
        ):
            group.create_task(part)


async def _look(workspace: UUID, period: date | None) -> Report | list[date]:
    """Look at a month, by default the newest; return the months there are if it is none of them."""
    engine = database.create_engine(
        str(read(DatabaseSettings).database_url),
        pool_size_max=1,
        application_name=f"{SERVICE}_reconcile",
    )
    sessions = database.session_maker(engine)
    try:
        months = await transact(sessions, lambda session: months_of(session, workspace))
        wanted = period or next(iter(months), None)
        if wanted is None or wanted not in months:
            return months
        return await look(sessions, Month(workspace, wanted))
    finally:
        await engine.dispose()


def _reconcile(workspace: UUID, period: date | None, *, as_json: bool) -> int:
    found = asyncio.run(_look(workspace, period))
    if not isinstance(found, Report):
        months = ", ".join(f"{month:%Y-%m}" for month in found) or "no month"
        sys.stderr.write(f"reconcile: of this workspace there are postings of {months}\n")
        return 2
    sys.stdout.write((json.dumps(found.document()) if as_json else found.words()) + "\n")
    return 1 if found.drifts else 0


def _workspace(text: str) -> UUID:
    return ids.parse(Prefix.WORKSPACE, text) if text.startswith(Prefix.WORKSPACE) else UUID(text)


def _period(text: str) -> date:
    return datetime.strptime(f"{text}-01 +0000", "%Y-%m-%d %z").date()


def main() -> None:
    """Read the arguments and do as they say."""
    parser = argparse.ArgumentParser(
        prog="python -m services.quota",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command")
    looking = commands.add_parser("reconcile", help="hold one workspace's month against its parts")
    looking.add_argument("--workspace", required=True, type=_workspace, help="ws_… or a UUID")
    looking.add_argument("--period", type=_period, help="YYYY-MM; the newest month by default")
    looking.add_argument("--json", action="store_true", help="for machines")
    wanted = parser.parse_args()
    if wanted.command == "reconcile":
        sys.exit(_reconcile(wanted.workspace, wanted.period, as_json=wanted.json))
    settings = read(Settings)
    run(SERVICE, settings, lambda process: serve(process, settings))


if __name__ == "__main__":
    main()
