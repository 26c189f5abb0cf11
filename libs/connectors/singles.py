"""What destinations have in common that write their contacts singly.

`write_each` is their `write`; `NoImports` is what one without asynchronous imports
(`Facts.import_rows_max` None) answers to whoever asks about them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from libs.common.errors import RequestRefusedError, SyncError, UnknownOutcomeError
from libs.connectors.contract import (
    Awaited,
    Facts,
    FoundImport,
    ImportStatus,
    NotTried,
    Outcome,
    Screening,
    Unknown,
    Write,
    WriteReport,
)


async def write_each(
    writes: Sequence[Write], apply: Callable[[Write], Awaitable[Outcome]], *, together: int = 1
) -> WriteReport:
    """Apply single effects, `together` at a time; stop at the first error for all.

    An answer that was lost leaves its contact Unknown and stops the others, those on their way
    excepted.
    """
    outcomes: list[Outcome] = [NotTried()] * len(writes)
    errors: list[SyncError] = []
    waiting = iter(enumerate(writes))

    async def work() -> None:
        for index, write in waiting:
            try:
                outcomes[index] = await apply(write)
            except SyncError as error:
                if isinstance(error, UnknownOutcomeError):
                    outcomes[index] = Unknown()
                errors.append(error)
            if errors:
                return

    await asyncio.gather(*(work() for _ in range(min(together, len(writes)))))
    return WriteReport(outcomes, errors[0] if errors else None)


class NoImports:
    """The part of `contract.Destination` that is about asynchronous imports, without any."""

    facts: Facts

    def importable(self, writes: Sequence[Write]) -> Sequence[bool]:
        """Return that nothing goes by import."""
        return [False] * len(writes)

    async def screen_import(self, keys: Sequence[str], awaited: Awaited = ()) -> Screening:
        """Return that nothing goes by import."""
        return Screening([False] * len(keys), [() for _ in awaited])

    async def start_import(self, writes: Sequence[Write], notify_url: str | None) -> str:
        """Refuse: there are no imports."""
        raise self._no_imports()

    async def import_status(self, process_id: str) -> ImportStatus:
        """Refuse: there are no imports."""
        raise self._no_imports()

    async def find_imports(self, since: datetime) -> Sequence[FoundImport]:
        """Return none."""
        return ()

    def _no_imports(self) -> RequestRefusedError:
        return RequestRefusedError(self.facts.hosts[0], 405, "no_imports")
