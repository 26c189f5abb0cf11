"""One account's calls: the credential, the slot and the judgement of each, in that order.

Both sides of a provider are built on this, so promise 6 of `libs.connectors.contract` is kept in
one place: a slot is asked for before every single HTTP call, and whoever hears of a limit tells
the gate. A credential that is refused is reported and, if the supply then has another one, the
call is made once more with that: a 401 was never applied. Nothing else is repeated here.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from libs.common.errors import NeedsReauthError, RateLimitedError, SyncError
from libs.connectors.addresses import Site
from libs.connectors.contract import Gate, TokenSupply
from libs.connectors.http import Answer, HttpClient

_JSON = "application/json"


class StaticToken:
    """A credential that never changes: an API key, a private application's token."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def token(self) -> str:
        """Return the credential."""
        return self._token

    async def refused(self, token: str) -> None:
        """Do nothing: there is no other one."""


@dataclass(frozen=True, slots=True)
class AccountCalls:
    """How one account at a provider is called.

    `authorize` makes the headers that carry a credential. `judge` says what an answer outside
    2xx means, by the provider's own words; it gets the bucket that the call was counted in.
    """

    http: HttpClient
    gate: Gate
    tokens: TokenSupply
    site: Site
    provider: str
    authorize: Callable[[str], Mapping[str, str]]
    judge: Callable[[Answer, str], SyncError]

    async def call(
        self,
        bucket: str,
        method: str,
        path: str,
        content: bytes | None = None,
        *,
        writes: bool = False,
        expect: Collection[int] = (),
    ) -> Answer:
        """Return a 2xx answer, or one whose status is in `expect`; raise what others mean."""
        token = await self.tokens.token()
        try:
            return await self._call(token, bucket, method, path, content, writes, expect)
        except NeedsReauthError:
            await self.tokens.refused(token)
            renewed = await self.tokens.token()
            if renewed == token:
                raise
        return await self._call(renewed, bucket, method, path, content, writes, expect)

    async def _call(
        self,
        token: str,
        bucket: str,
        method: str,
        path: str,
        content: bytes | None,
        writes: bool,
        expect: Collection[int],
    ) -> Answer:
        await self.gate.enter(bucket)
        answer = await self.http.call(
            self.site,
            method,
            path,
            headers={"accept": _JSON, "content-type": _JSON, **self.authorize(token)},
            content=content,
            writes=writes,
            provider=self.provider,
            bucket=bucket,
        )
        if answer.status < 300 or answer.status in expect:
            return answer
        error = self.judge(answer, bucket)
        if isinstance(error, RateLimitedError):
            await self.gate.limited(error.bucket, error.retry_after_s or 0.0)
        raise error
