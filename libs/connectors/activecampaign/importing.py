"""The bulk importer: the one way to write that sets nothing off (AC3).

Single calls of version 3 have no switch against automations, webhooks and mails to a list's owner;
an import calls no webhook, mails nobody and can be told to leave automations alone. It also refuses
by itself to put somebody back on a list that the person left. (docs/decisions/0123)
"""

import asyncio
from collections.abc import Sequence
from urllib.parse import quote

import msgspec

from libs.common.errors import RateLimitedError, RequestRefusedError, UnknownOutcomeError
from libs.connectors.activecampaign import facts, payload
from libs.connectors.activecampaign.calls import Calls
from libs.connectors.activecampaign.payload import ImportInfo, Queued, Row
from libs.connectors.activecampaign.refusals import Fault, fault_of, judge
from libs.connectors.contract import ImportState

PATH = "/import/bulk_import"


class Importer:
    """Imports of one account."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def start(self, rows: Sequence[Row], notify_url: str | None = None) -> Queued | Fault:
        """Hand in rows; return what was queued, or what the importer says against them.

        It queues nothing then. Raises RequestRefusedError for rows that are too large together.
        """
        body = encoded(rows, notify_url)
        if len(body) > facts.IMPORT_BYTES_MAX or len(rows) > facts.IMPORT_ROWS_MAX:
            raise RequestRefusedError(self._calls.host, 413, "import_too_large")
        bucket = facts.IMPORT if len(rows) > 1 else facts.IMPORT_SINGLE
        answer = await self._calls.call(bucket, "POST", PATH, body, writes=True, expect=(400,))
        if answer.status != 400:
            return answer.decode(payload.QUEUED)
        error = judge(answer, bucket)
        if isinstance(error, RateLimitedError):
            await self._calls.limited(bucket, error.retry_after_s or 0.0)
            raise error
        return fault_of(answer.body)

    async def info(self, batch_id: str) -> ImportInfo:
        """Return how an import stands."""
        answer = await self._calls.get(f"/import/info?batchId={quote(batch_id, safe='')}")
        return answer.decode(payload.IMPORT_INFO)

    async def wait(self, batch_id: str) -> ImportInfo:
        """Return how an import ended; raise UnknownOutcomeError if it does not in time."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + facts.IMPORT_WAIT_S
        pause_s = facts.IMPORT_LOOK_FIRST_S
        while loop.time() + pause_s < until_s:
            await asyncio.sleep(pause_s)
            info = await self.info(batch_id)
            if info.state is not ImportState.RUNNING:
                return info
            pause_s = min(pause_s * 2, facts.IMPORT_LOOK_MOST_S)
        raise UnknownOutcomeError(self._calls.host, "import still running")

    async def is_idle(self) -> bool:
        """Return whether nothing waits in the importer's queue, whoever handed it in."""
        return not (await self._calls.get(PATH)).decode(payload.QUEUE).outstanding


def encoded(rows: Sequence[Row], notify_url: str | None = None) -> bytes:
    """Return the body of an import."""
    callback = payload.Callback(notify_url) if notify_url is not None else None
    return msgspec.json.encode(
        payload.ImportBody(rows, exclude_automations=True, callback=callback)
    )


def chunks_of(rows: Sequence[Row]) -> list[slice]:
    """Return which rows go together: so many, and so heavy, as one import takes."""
    chunks: list[slice] = []
    first, weight = 0, 0
    for place, row in enumerate(rows):
        own = len(msgspec.json.encode(row)) + 1
        is_full = place - first == facts.IMPORT_ROWS_MAX
        if place > first and (is_full or weight + own > facts.IMPORT_BYTES_MAX - _AROUND_BYTES):
            chunks.append(slice(first, place))
            first, weight = place, 0
        weight += own
    if rows:
        chunks.append(slice(first, len(rows)))
    return chunks


_AROUND_BYTES = 200  # What stands around the rows of a body.
