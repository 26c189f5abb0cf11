"""A poller's process in small, to be killed: `python -m tests.services.poller.csv_reading URL OUT`.

It claims what is due, reads it as the service does, and writes each change's id and whether its
row was whole to OUT: that is its topic, and a line that is flushed is acknowledged. In the end, or
so far, it tells the most memory it ever had, in KiB.
"""

import asyncio
import sys
from pathlib import Path
from typing import TextIO
from uuid import uuid4

from libs.common.clock import SystemClock
from libs.common.events import Changed, Event, Topic
from libs.common.postgres import Transactions, create_pool
from libs.common.uploads import UploadedFiles
from libs.connectors.csv.source import CsvSource
from services.poller import store
from services.poller.poll import Run
from services.poller.run_store import DatabaseRunStore
from tests.services.poller.memory import peak_kib

LEASE_S = 2.0
LOOK_S = 0.1


async def read(url: str, out: TextIO) -> None:
    """Read what is due, once."""
    pool = create_pool(url, size_max=2, application_name="test")
    sessions = Transactions(pool)

    async def publish(event: Event) -> None:
        if isinstance(event, Changed):
            out.writelines(
                f"{event.run_no} {change.id} {len(bytes(change.properties)) > 2}\n"
                for change in event.changes
            )
        out.flush()

    def publishing(topic: Topic, key: str, event: Event) -> asyncio.Task[None]:
        return asyncio.create_task(publish(event))

    claimed = await store.claim_due(
        sessions, provider="hubspot", owner=uuid4(), limit=1, lease_s=LEASE_S
    )
    while not claimed:  # The lease of who was killed has to lapse.
        await asyncio.sleep(LOOK_S)
        claimed = await store.claim_due(
            sessions, provider="hubspot", owner=uuid4(), limit=1, lease_s=LEASE_S
        )
    [assignment] = claimed
    files = UploadedFiles(sessions, assignment.workspace, assignment.source.connection)
    run = Run(assignment, CsvSource(files), DatabaseRunStore(sessions), publishing, SystemClock())
    await run.poll()
    await pool.close()


def main() -> None:
    """Read, and tell the memory."""
    url, path = sys.argv[1:]
    with Path(path).open("a", encoding="utf-8") as out:
        asyncio.run(read(url, out))
    sys.stdout.write(f"{peak_kib()}\n")


if __name__ == "__main__":
    main()
