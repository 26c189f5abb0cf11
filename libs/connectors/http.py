"""From HTTP to our errors: the one place where a connection or a status code is interpreted.

Promises:

* A call ends within `CALL_S`, whatever the other side does; its body is at most 16 MB, also
  when it is unpacked. Redirects are not followed, the environment (proxies, `.netrc`) is not
  read, cookies are not kept, and nothing is ever sent twice.
* What was certainly not applied (`UnavailableError`) is told from what may have been applied
  (`UnknownOutcomeError`): a connection that never stood from one that was cut; a refusal from
  an answer that is not the provider's own (a proxy's HTML page, half a JSON document).
* No error holds a URL, a body or a header: they may name contacts or carry secrets.

Calls are aiohttp's, without httpx above it (docs/decisions/0007).
"""

import asyncio
import functools
import re
import ssl
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Protocol, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import aiohttp
import certifi
import msgspec
import yarl
from aiohttp.abc import AbstractResolver

from libs.common.errors import (
    MisconfiguredError,
    NeedsReauthError,
    RateLimitedError,
    RequestRefusedError,
    SyncError,
    UnavailableError,
    UnknownOutcomeError,
)
from libs.common.settings import Environment
from libs.connectors.addresses import CheckedResolver, Site, check_loopback, check_url, open_socket

T = TypeVar("T")

CONNECT_S = 5.0
READ_S = 20.0
# The writer waits this long, and 5 s more, before it touches what a lapsed lease left behind.
CALL_S = CONNECT_S + READ_S
BODY_BYTES_MAX = 16 * 1024 * 1024
# To one host: many accounts at once, each a few calls at a time. There is no limit over all hosts,
# or a provider that is slow would take the connections of the others.
CONNECTIONS_MAX = 100
DNS_TTL_S = 10  # aiohttp's own default; the addresses in it were checked.
RETRY_AFTER_DEFAULT_S = 10.0
RETRY_AFTER_MAX_S = 24 * 3600.0  # PROTOCOL 7: a provider's own time counts, up to a day.
_CODE = re.compile(r"[A-Za-z_.]{1,64}")
# What stands for half of a surrogate pair, as JSON writes it: U+FFFD, and what we never take (NUL).
REPLACEMENT, UNUSABLE = rb"\ufffd", rb"\u0000"
# The first group is what merely looks like one: an escaped backslash, or a whole pair.
_HALF_OF_PAIR = re.compile(
    rb"(\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)

_HEADERS = {"accept-encoding": "gzip", "user-agent": "contactsync"}
# Printable ASCII: a line break in it would be a header of the caller's, or a second request.
_PATH = re.compile(r"/[!-~]*")
# Refused before anything was done: 423 locked, 425 too early, 503 unavailable.
_NOT_APPLIED = frozenset({423, 425, 503})


class Observer(Protocol):
    """Who hears of every call that was sent: the owner of metrics."""

    def __call__(self, provider: str, bucket: str, status: str, seconds: float) -> None:
        """Hear how a call ended: its HTTP status, or `refused`, `lost`."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: any 2xx, or a 4xx in the provider's own words."""

    host: str
    status: int
    headers: Mapping[str, str]  # Whatever the case of a name.
    body: bytes
    writes: bool

    def decode(self, decoder: msgspec.json.Decoder[T], *, half: bytes = REPLACEMENT) -> T:
        """Return the decoded body; an answer that cannot be is as good as none.

        `half` stands for half of a surrogate pair, which JSON may hold as an escape and no text
        can: one cut emoji must not make a page of contacts unreadable.
        """
        try:
            return _decoded(self.body, decoder, half)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise lost(self.host, type(error).__name__, writes=self.writes) from None


def _decoded(body: bytes, decoder: msgspec.json.Decoder[T], half: bytes) -> T:
    try:
        return decoder.decode(body)
    except msgspec.DecodeError:
        whole = _HALF_OF_PAIR.sub(lambda found: found[1] or half, body)
        if whole == body:
            raise
        return decoder.decode(whole)


class HttpClient:
    """The connections of a process to all providers. Make one, and close it at the end.

    `loopback_urls` are the sandbox's base URLs; in production there are none (ValueError).
    """

    def __init__(
        self,
        *,
        environment: Environment = Environment.PRODUCTION,
        loopback_urls: Mapping[str, str] = MappingProxyType({}),
        observe: Observer | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        if environment is Environment.PRODUCTION and loopback_urls:
            message = "production talks to providers only: unset PROVIDER_BASE_URLS"
            raise ValueError(message)
        self._loopback = frozenset(check_loopback(url) for url in loopback_urls.values())
        self._observe = observe
        self._resolver = resolver
        # Now, not with the first call: it keeps the loop for as long as some hundred calls.
        self._certificates = _certificates()
        self._session: aiohttp.ClientSession | None = None

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def site(self, url: str, hosts: Sequence[str]) -> Site:
        """Return a checked base URL; raise MisconfiguredError(address_not_allowed)."""
        return check_url(url, hosts, self._loopback)

    async def call(
        self,
        site: Site,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        content: bytes | None = None,
        writes: bool = False,
        provider: str = "",
        bucket: str = "",
    ) -> Answer:
        """Send one request and return a trustworthy answer: 2xx, or 4xx as JSON.

        `path` is percent-encoded and begins with a slash. `writes` says whether the call changes
        anything: then an answer that was lost is an UnknownOutcomeError. Raises
        UnavailableError, UnknownOutcomeError; the meaning of a 4xx is the connector's to know,
        `refusal` is what it means by default.
        """
        if not _PATH.fullmatch(path):
            message = "a path begins with a slash and is percent-encoded"
            raise ValueError(message)
        request = _Request(method, site, path, {**_HEADERS, **headers}, content, writes)
        loop = asyncio.get_running_loop()
        started, status = loop.time(), "lost"
        try:
            answer = await self._send(request)
            status = str(answer.status)
        except UnavailableError as error:
            status = error.reason.removeprefix("HTTP ")
            raise
        finally:
            if self._observe:
                self._observe(provider, bucket, _label(status), loop.time() - started)
        return answer

    async def _send(self, request: "_Request") -> Answer:
        session = self._session or self._open()
        host, writes = request.site.host, request.writes
        try:
            async with (
                asyncio.timeout(CALL_S),
                session.request(
                    request.method,
                    # As it is encoded: yarl would decode `%2B` in a query, an address's plus.
                    yarl.URL(request.site.origin + request.path, encoded=True),
                    headers=request.headers,
                    data=request.content,
                    allow_redirects=False,
                ) as response,
            ):
                body = await _read(response, host, writes=writes)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _failure(host, error, writes=writes) from None
        answer = Answer(host, response.status, response.headers, body, writes)
        _trust(answer)
        return answer

    def _open(self) -> aiohttp.ClientSession:
        """Return the session; made on first use, since aiohttp wants a running loop."""
        ports = frozenset(int(origin.rpartition(":")[2]) for origin in self._loopback)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,
                limit_per_host=CONNECTIONS_MAX,
                ssl=self._certificates,
                resolver=CheckedResolver(self._resolver or aiohttp.ThreadedResolver()),
                ttl_dns_cache=DNS_TTL_S,
                socket_factory=functools.partial(open_socket, ports),
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            # Nothing is said of a body that the caller did not say.
            skip_auto_headers=("accept", "content-type"),
            timeout=aiohttp.ClientTimeout(
                connect=CONNECT_S, sock_connect=CONNECT_S, sock_read=READ_S
            ),
        )
        # aiohttp repeats a GET, PUT or DELETE by itself when a kept connection was closed, past
        # the rate budget; there is no public switch (its own test client sets this as well).
        session._retry_connection = False  # noqa: SLF001 - see above
        self._session = session
        return session


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    site: Site
    path: str
    headers: Mapping[str, str]
    content: bytes | None
    writes: bool


@functools.cache
def _certificates() -> ssl.SSLContext:
    """Return what a provider's certificate is checked by: certifi's roots.

    The machine's own store may be missing in a small image. Reading them takes 20 to 40 ms, once.
    """
    return ssl.create_default_context(cafile=certifi.where())


def lost(host: str, reason: str, *, writes: bool) -> SyncError:
    """Return the error for an answer that did not come or cannot be believed."""
    return UnknownOutcomeError(host, reason) if writes else UnavailableError(host, reason)


def plain_code(code: str) -> str:
    """Return a provider's own code if it is a word; anything else may be what it was sent.

    Codes are kept, shown and mailed; a token or an address has digits, dashes or an at sign.
    """
    return code if _CODE.fullmatch(code) else ""


def refusal(answer: Answer, bucket: str, code: str = "") -> SyncError:
    """Return what a 4xx means unless the connector knows better. `code` is the provider's own."""
    code = plain_code(code)
    match answer.status:
        case 401:
            return NeedsReauthError(answer.host, code or "HTTP 401")
        case 403:
            return MisconfiguredError(answer.host, "scope_missing")
        case 404:
            return MisconfiguredError(answer.host, "not_found")
        case 429:
            return RateLimitedError(bucket, retry_after_s(answer) or RETRY_AFTER_DEFAULT_S)
        case 408 | 423 | 425:
            return UnavailableError(answer.host, f"HTTP {answer.status}", retry_after_s(answer))
        case status:
            return RequestRefusedError(answer.host, status, code)


def retry_after_s(answer: Answer) -> float | None:
    """Return the seconds that Retry-After asks for (RFC 9110 10.2.3), at most a day.

    An HTTP date is taken relative to the answer's own Date, so no clock of ours is in it.
    """
    value = answer.headers.get("retry-after", "").strip()
    if value.isdigit():
        return min(float(value), RETRY_AFTER_MAX_S)
    try:
        until = parsedate_to_datetime(value)
        seconds = (until - parsedate_to_datetime(answer.headers["date"])).total_seconds()
    except (KeyError, ValueError, TypeError):
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_MAX_S)


def until_midnight_s(answer: Answer, time_zone: str) -> float | None:
    """Return the seconds from the answer's own time to the end of the day in a zone, at least 1.

    None if the answer has no time, or nobody knows the zone.
    """
    try:
        zone = ZoneInfo(time_zone)
        now = parsedate_to_datetime(answer.headers["date"]).astimezone(zone)
    except (KeyError, ValueError, TypeError, ZoneInfoNotFoundError):
        return None
    tomorrow = now.date() + timedelta(days=1)
    midnight = datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=zone)
    return max((midnight.astimezone(UTC) - now.astimezone(UTC)).total_seconds(), 1.0)


async def _read(response: aiohttp.ClientResponse, host: str, *, writes: bool) -> bytes:
    """Return the whole body, unpacked; refuse one that is too large."""
    chunks: list[bytes] = []
    size = 0
    while chunk := await response.content.readany():
        chunks.append(chunk)
        size += len(chunk)
        if size > BODY_BYTES_MAX:
            raise lost(host, "answer too large", writes=writes)
    body = b"".join(chunks)
    encoding = response.headers.get("content-encoding", "identity")
    if not body or encoding == "identity":
        return body
    if encoding != "gzip":
        raise lost(host, "answer in an unknown encoding", writes=writes)
    return _unpack(body, host, writes=writes)


def _unpack(body: bytes, host: str, *, writes: bool) -> bytes:
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        plain = unpacker.decompress(body, BODY_BYTES_MAX + 1)
    except zlib.error:
        raise lost(host, "answer cannot be unpacked", writes=writes) from None
    if len(plain) > BODY_BYTES_MAX:
        raise lost(host, "answer too large", writes=writes)
    if not unpacker.eof:
        raise lost(host, "answer is cut short", writes=writes)
    return plain


def _failure(host: str, error: BaseException, *, writes: bool) -> SyncError:
    """Return whether a call that broke can have been applied."""
    name = type(error).__name__
    never_sent = (
        aiohttp.ClientConnectorError,
        aiohttp.ClientConnectorCertificateError,
        aiohttp.ConnectionTimeoutError,
        aiohttp.InvalidURL,
    )
    if isinstance(error, never_sent):
        return UnavailableError(host, name)
    return lost(host, name, writes=writes)


def _trust(answer: Answer) -> None:
    """Raise unless the answer is the provider's own: 2xx or 4xx, and not a web page."""
    status, host = answer.status, answer.host
    content_type = answer.headers.get("content-type", "").lower()
    if 200 <= status < 300:
        if content_type.startswith("text/html"):
            raise lost(host, f"HTTP {status} with a web page", writes=answer.writes)
        return
    if 400 <= status < 500 and status != 408:
        is_told = status in {423, 425, 429} or not answer.body or "json" in content_type
        if not is_told and not _is_object(answer.body, content_type):
            raise UnavailableError(host, f"HTTP {status} with a web page")
        return
    reason, wait_s = f"HTTP {status}", retry_after_s(answer)
    if status in _NOT_APPLIED or not answer.writes:
        raise UnavailableError(host, reason, wait_s)
    raise UnknownOutcomeError(host, reason)


def _is_object(body: bytes, content_type: str) -> bool:
    """Return whether a body is a JSON object under the name of plain text, as some refuse."""
    if not content_type.startswith("text/plain"):
        return False
    try:
        return isinstance(msgspec.json.decode(body), dict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def _label(status: str) -> str:
    """Return a status as a metric's label may hold it: three digits, `refused` or `lost`."""
    if status == "lost" or status[:3].isdigit():
        return status[:4].strip()
    return "refused"
