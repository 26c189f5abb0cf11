"""One account's calls, and what a 403 means: the key, or something that its user may not.

ActiveCampaign answers 403 where others answer 401, and at times without a reason that lasts. Only
if the account does not even tell whose key it is, the key is taken for refused (NeedsReauthError);
the caller counts such checks before it disconnects anyone.
"""

from collections.abc import Collection

from libs.common.errors import MisconfiguredError, NeedsReauthError
from libs.connectors.account import AccountCalls
from libs.connectors.activecampaign import facts
from libs.connectors.activecampaign.refusals import FORBIDDEN, judge
from libs.connectors.contract import Gate, TokenSupply
from libs.connectors.http import Answer, HttpClient

ME = "/users/me"


class Calls:
    """Calls to one account, each through the gate."""

    def __init__(self, http: HttpClient, gate: Gate, tokens: TokenSupply, base_url: str) -> None:
        self._gate = gate
        self._account = AccountCalls(
            http=http,
            gate=gate,
            tokens=tokens,
            site=http.site(base_url, facts.FACTS.hosts),
            provider=facts.PROVIDER,
            authorize=lambda token: {"api-token": token},
            judge=judge,
        )

    @property
    def host(self) -> str:
        """Return the name that the account is called at."""
        return self._account.site.host

    async def get(self, path: str, expect: Collection[int] = ()) -> Answer:
        """Read something; counted in the account's 5 a second."""
        return await self.call(facts.API, "GET", path, expect=expect)

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
        answer = await self._account.call(
            bucket, method, path, content, writes=writes, expect=(*expect, *FORBIDDEN)
        )
        if answer.status not in FORBIDDEN:
            return answer
        if path != ME:
            whose = await self._account.call(facts.API, "GET", ME, expect=FORBIDDEN)
            if whose.status not in FORBIDDEN:
                raise MisconfiguredError(self.host, "scope_missing")
        raise NeedsReauthError(self.host, f"HTTP {answer.status}")

    async def limited(self, bucket: str, seconds: float) -> None:
        """Tell the gate of a limit that was answered by a status which is none."""
        await self._gate.limited(bucket, seconds)
