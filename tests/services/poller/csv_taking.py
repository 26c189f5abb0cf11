"""Takes a file of so many rows in, in a process of its own: `… URL WORKSPACE CONNECTION ROWS`.

Every thousandth row is ragged, every five-hundredth tells of an earlier person. It tells the most
memory it ever had, in KiB.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from uuid import UUID

from libs.common.csvfile.form import Wishes
from libs.common.database import create_engine, session_maker
from tests.services.poller.memory import peak_kib
from tests.uploads import store_file

RAGGED_EVERY, DUPLICATE_EVERY = 1_000, 500


def line_of(number: int) -> str:
    """Return a row; they count from 0."""
    if number % RAGGED_EVERY == RAGGED_EVERY - 1:
        return f"{number};p{number}@example.org\n"
    person = number - 7 if number % DUPLICATE_EVERY == DUPLICATE_EVERY - 1 else number
    note = '"two\nlines"' if number % 10 == 0 else "one line of text, as people write it"
    return f"{person};p{person}@example.org;Vorname {number};{note}\n"


async def content(rows: int) -> AsyncIterator[bytes]:
    """Yield the file as a network would."""
    yield b"Nummer;E-Mail;Vorname;Notiz\n"
    for first in range(0, rows, 500):
        yield "".join(map(line_of, range(first, min(first + 500, rows)))).encode()


async def take(url: str, workspace: UUID, connection: UUID, rows: int) -> None:
    """Take the file in and confirm it."""
    engine = create_engine(url, pool_size_max=2, application_name="test")
    await store_file(
        session_maker(engine),
        workspace,
        connection,
        content(rows),
        wishes=Wishes(keys=("Nummer",)),
    )
    await engine.dispose()


def main() -> None:
    """Take the file in, and tell the memory."""
    url, workspace, connection, rows = sys.argv[1:]
    asyncio.run(take(url, UUID(workspace), UUID(connection), int(rows)))
    sys.stdout.write(f"{peak_kib()}\n")


if __name__ == "__main__":
    main()
