"""Stands between our services and a provider's sandbox, and answers as a hostile one would.

Everything passes to the sandbox and back, but for what a test has put in its way: contacts shown
with other properties or another id than the sandbox has, and single answers that are none. What
our services show as credentials is noted: those are the tokens that must be found nowhere else.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import msgspec
from aiohttp import web

BODY_BYTES_MAX = 64 << 20
CLOSE_S = 0.1
_BEARER = re.compile(r"[Bb]earer\s+(\S+)")
# What a token endpoint is asked with and answers: all of it is secret.
_SECRETS = re.compile(rb'"(?:access_token|refresh_token)"\s*:\s*"([^"]+)"')
_FORM_SECRETS = re.compile(rb"(?:refresh_token|client_secret|code)=([^&\s]+)")
_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "content-encoding", "date"}


@dataclass(frozen=True, slots=True)
class Asked:
    """A call as it reached the front, with the credentials that it showed."""

    request: web.Request
    body: bytes
    token: str

    @property
    def line(self) -> str:
        """Return method and path, by which a hostile answer is chosen."""
        return f"{self.request.method} {self.request.path}"


Play = Callable[[Asked], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Hostile:
    """An answer that is given once, in the place of the provider's own."""

    name: str
    calls: str  # A regular expression, searched for in "METHOD /path".
    play: Play
    struck: bool = False


@dataclass(slots=True)
class Front:
    """One provider's front. Make it with `before`."""

    upstream: str
    show: Callable[[Asked, bytes], bytes] = lambda _asked, body: body
    ask: Callable[[Asked], bytes] = lambda asked: asked.body
    hostile: list[Hostile] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    session: aiohttp.ClientSession | None = None

    @property
    def left(self) -> list[str]:
        """Return the hostile answers that nobody has had yet."""
        return [each.name for each in self.hostile if not each.struck]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one call."""
        asked = Asked(request, await request.read(), _token(request.headers))
        self.tokens |= _tokens(asked)
        for each in self.hostile:
            if not each.struck and re.search(each.calls, asked.line):
                each.struck = True
                return await each.play(asked)
        return await self._passed_on(asked)

    async def _passed_on(self, asked: Asked) -> web.Response:
        assert self.session is not None
        request = asked.request
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in _HOP_BY_HOP | {"accept-encoding"}
        }
        url = self.upstream + request.raw_path
        async with self.session.request(
            request.method,
            url,
            headers=headers,
            data=self.ask(asked) or None,
            allow_redirects=False,
        ) as found:
            body = await found.read()
            self.tokens |= {each.decode() for each in _SECRETS.findall(body)}
            kept = {
                name: value
                for name, value in found.headers.items()
                if name.lower() not in _HOP_BY_HOP
            }
            return web.Response(status=found.status, headers=kept, body=self.show(asked, body))


def _token(headers: Mapping[str, str]) -> str:
    bearer = _BEARER.fullmatch(headers.get("authorization", ""))
    return bearer[1] if bearer else headers.get("api-key", "")


def _tokens(asked: Asked) -> set[str]:
    found = {asked.token} if asked.token else set()
    if "/oauth/" in asked.request.path:
        found |= {each.decode() for each in _FORM_SECRETS.findall(asked.body)}
    return found


@asynccontextmanager
async def before(port: int) -> AsyncIterator[tuple[Front, int]]:
    """Serve a front for the server at a port; yield it and its own port."""
    front = Front(f"http://127.0.0.1:{port}")
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    app.router.add_route("*", "/{path:.*}", front.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_S)
    await runner.setup()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        front.session = session
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield front, runner.addresses[0][1]
        finally:
            await runner.cleanup()


@dataclass(slots=True)
class Shown:
    """How contacts are shown: their raw properties, and another id, by the sandbox's own id."""

    properties: Mapping[str, bytes] = field(default_factory=dict)
    ids: Mapping[str, str] = field(default_factory=dict)

    def show(self, asked: Asked, body: bytes) -> bytes:
        """Return an answer of HubSpot's with the corpus in it."""
        path = asked.request.path
        if "/memberships" in path:
            return self._renamed(body)
        if path.endswith(("/batch/read", "/search")) and "/contacts/" in path:
            return self._contacts(body)
        return body

    def ask(self, asked: Asked) -> bytes:
        """Return what HubSpot itself is asked: with the ids that it knows."""
        if not asked.request.path.endswith("/contacts/batch/read"):
            return asked.body
        own = {shown: known for known, shown in self.ids.items()}
        wish = msgspec.json.decode(asked.body)
        for each in wish["inputs"]:
            each["id"] = own.get(each["id"], each["id"])
        return msgspec.json.encode(wish)

    def _renamed(self, body: bytes) -> bytes:
        answer = msgspec.json.decode(body)
        for each in answer.get("results", ()):
            each["recordId"] = self.ids.get(each["recordId"], each["recordId"])
        return msgspec.json.encode(answer)

    def _contacts(self, body: bytes) -> bytes:
        answer = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        if "results" not in answer:
            return body
        records = msgspec.json.decode(answer["results"], type=list[dict[str, msgspec.Raw]])
        shown = [self._record(each) for each in records]
        # By hand: no library would write what is in there.
        others = [
            msgspec.json.encode(name) + b":" + bytes(value)
            for name, value in answer.items()
            if name != "results"
        ]
        return b"{" + b",".join([b'"results":[' + b",".join(shown) + b"]", *others]) + b"}"

    def _record(self, record: Mapping[str, msgspec.Raw]) -> bytes:
        own = msgspec.json.decode(record["id"], type=str)
        properties = bytes(record.get("properties", b"{}"))
        if own in self.properties and b"lastmodifieddate" in properties:
            properties = self.properties[own]
        members = {
            **{name: bytes(value) for name, value in record.items()},
            "id": msgspec.json.encode(self.ids.get(own, own)),
            "properties": properties,
        }
        return b"{" + b",".join(b'"%s":%s' % (n.encode(), v) for n, v in members.items()) + b"}"
