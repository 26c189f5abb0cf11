"""One organisation's calls, and how much of its day's allocation they leave to others.

All applications of an organisation share one allocation, so what we counted ourselves says little.
Every answer tells how much is used (`Sforce-Limit-Info`): from a share of it on the gate is told to
wait, before Salesforce refuses us, and with us everybody else of the organisation.
"""

from collections.abc import Collection
from urllib.parse import urlencode

from libs.connectors.account import AccountCalls
from libs.connectors.contract import Gate, TokenSupply
from libs.connectors.http import Answer, HttpClient
from libs.connectors.salesforce import facts
from libs.connectors.salesforce.payload import usage_of
from libs.connectors.salesforce.refusals import judge

USAGE = "sforce-limit-info"


class Calls:
    """Calls to one organisation, each through the gate. Paths are below the API's version."""

    def __init__(self, http: HttpClient, gate: Gate, tokens: TokenSupply, base_url: str) -> None:
        self._gate = gate
        self._account = AccountCalls(
            http=http,
            gate=gate,
            tokens=tokens,
            site=http.site(base_url, facts.FACTS.hosts),
            provider=facts.PROVIDER,
            authorize=lambda token: {"authorization": f"Bearer {token}"},
            judge=judge,
        )

    @property
    def host(self) -> str:
        """Return the name that the organisation is called at."""
        return self._account.site.host

    async def query(self, soql: str, *, with_deleted: bool = False) -> Answer:
        """Ask for records; `with_deleted`: those of the recycle bin are among them."""
        path = "queryAll" if with_deleted else "query"
        return await self.call("GET", f"/{path}?{urlencode({'q': soql})}")

    async def call(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        *,
        writes: bool = False,
        expect: Collection[int] = (),
    ) -> Answer:
        """Return a 2xx answer, or one whose status is in `expect`; raise what others mean."""
        answer = await self._account.call(
            facts.API, method, facts.VERSION + path, content, writes=writes, expect=expect
        )
        usage = usage_of(answer.headers.get(USAGE, ""))
        if usage is not None and usage.share >= facts.USED_SHARE_MAX:
            await self._gate.limited(facts.API, facts.USED_UP_S)
        return answer
