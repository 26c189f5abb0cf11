"""Idempotency-Key: a POST that is sent twice happens once.

Promises: the key's row is committed before anything else is done; the answer is stored in the
transaction of its effect where the route has one; the same key and body get the same answer for
24 hours, another body gets 422, and 409 while the first is under way. A refusal keeps nothing:
nothing was done, so the same key may try again. An attempt that ended without an answer (a crash)
may be repeated after `ABANDONED_S`; only a route that calls a provider could then do it twice, and
its answer stays if the provider's was lost (`ApiError.is_final`).

Answers are sealed: one of them holds a new API key.
Format: draft-ietf-httpapi-idempotency-key-header.
"""

import hashlib
import json
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass

from fastapi import Request, Response
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common import ids
from libs.common.secrets import KeyRing
from services.config_api.errors import Flaw, InvalidError, KeyReusedError, RequestUnderWayError
from services.config_api.store import idempotency as store
from services.config_api.units import Units

HEADER = "idempotency-key"
REPLAYED = "Idempotency-Replayed"
KEPT_HEADERS = ("content-type", "location", "retry-after", "etag")
ABANDONED_S = 120  # Longer than any request can last.
_FORM = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request that carries a key."""

    units: Units
    secrets: KeyRing
    key: str
    request_sha256: bytes

    async def claim(self) -> Response | None:
        """Commit the key's row; return the stored answer if there is one already.

        Raises KeyReusedError for another body, RequestUnderWayError while the first runs.
        """

        async def work(session: AsyncSession) -> store.Row | None:
            return await store.claim(
                session,
                owner=self.units.owner,
                key=self.key,
                request_sha256=self.request_sha256,
                abandoned_s=ABANDONED_S,
            )

        row = await self.units.run(work)
        if row is None:
            return None
        if row.request_sha256 != self.request_sha256:
            raise KeyReusedError(
                detail="This Idempotency-Key belongs to a request with another body."
            )
        if row.status is None or row.sealed_body is None:
            raise RequestUnderWayError(
                detail="A request with this Idempotency-Key is being worked on.",
                headers={"Retry-After": "1"},
            )
        return self._replay(row.status, row.headers or {}, row.sealed_body)

    async def keep(self, session: AsyncSession, response: Response) -> None:
        """Store the answer, in the transaction of its effect."""
        headers = {
            name: response.headers[name] for name in KEPT_HEADERS if name in response.headers
        }
        await store.keep(
            session,
            owner=self.units.owner,
            key=self.key,
            status=response.status_code,
            headers=json.dumps(headers),
            sealed_body=self._seal(bytes(response.body)),
        )

    async def release(self) -> None:
        """Forget the key: nothing was done."""
        await self.units.run(
            lambda session: store.release(session, owner=self.units.owner, key=self.key)
        )

    def _seal(self, body: bytes) -> str:
        return self.secrets.seal(
            b64encode(body).decode(),
            workspace=self.units.owner,
            connection=ids.computed("idempotency", self.key),
            field="answer",
        )

    def _replay(self, status: int, headers: dict[str, str], sealed: str) -> Response:
        body = self.secrets.unseal(
            sealed,
            workspace=self.units.owner,
            connection=ids.computed("idempotency", self.key),
            field="answer",
        )
        return Response(b64decode(body), status_code=status, headers={**headers, REPLAYED: "true"})


def attempt_of(request: Request, body: bytes, units: Units, secrets: KeyRing) -> Attempt | None:
    """Return the request's attempt; None if it is no POST or carries no key."""
    key = request.headers.get(HEADER)
    if key is None or request.method != "POST":
        return None
    key = key.strip('"')
    if not _FORM.fullmatch(key):
        raise InvalidError(
            detail="The Idempotency-Key is not usable.",
            flaws=[
                Flaw(
                    "invalid_header",
                    "Idempotency-Key is 1 to 255 visible ASCII characters, such as a UUID.",
                    parameter="Idempotency-Key",
                )
            ],
        )
    digest = hashlib.sha256()
    for part in (request.method, request.url.path, request.url.query, body):
        digest.update((part if isinstance(part, bytes) else part.encode()) + b"\x1e")
    return Attempt(units, secrets, key, digest.digest())
