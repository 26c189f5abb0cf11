"""A poller's process in small: `python -m tests.services.poller.csv_reading URL OUT [ROWS]`.

It claims what is due, reads it as the service does, and writes each change's id and whether its
row was whole to OUT: that is its topic, and a line that is flushed is acknowledged. In the end it
tells the most memory it ever had, in KiB; or it is killed once it told of so many ROWS.
"""

import asyncio
import os
import signal
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


async def read(url: str, out: TextIO, dies_after: float) -> None:
    """Read what is due, once; be killed once so many rows were told of."""
    told = 0
    pool = create_pool(url, size_max=2, application_name="test")
    sessions = Transactions(pool)

    async def publish(event: Event) -> None:
        nonlocal told
        if isinstance(event, Changed):
            told += len(event.changes)
            out.writelines(
                f"{event.run_no} {change.id} {len(bytes(change.properties)) > 2}\n"
                for change in event.changes
            )
        out.flush()
        if told >= dies_after:
            os.kill(os.getpid(), signal.SIGKILL)

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
    url, path, *dies_after = sys.argv[1:]
    with Path(path).open("a", encoding="utf-8") as out:
        asyncio.run(read(url, out, float(*dies_after or ["inf"])))
    sys.stdout.write(f"{peak_kib()}\n")


if __name__ == "__main__":
    main()
