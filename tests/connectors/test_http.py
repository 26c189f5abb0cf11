"""The border between HTTP and our errors, against servers that misbehave in every way."""

import asyncio
import gzip

import httpx
import msgspec
import pytest

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
from libs.connectors import http as border
from libs.connectors.http import (
    UNUSABLE,
    Answer,
    HttpClient,
    plain_code,
    refusal,
    retry_after_s,
)
from tests.connectors.talking import Talk, answering, response, speaking


async def failure(talk: Talk, *, writes: bool) -> SyncError:
    """Return what one call against a talk raises."""
    async with speaking(talk) as (client, site, _):
        with pytest.raises(SyncError) as caught:
            await client.call(site, "POST", "/x", headers={}, content=b"{}", writes=writes)
    return caught.value


async def test_an_answer_comes_back_as_it_is() -> None:
    seen, talk = answering(response(200, b'{"a": 1}', x_more="yes"))

    async with speaking(talk) as (client, site, observer):
        answer = await client.call(
            site, "PUT", "/a%2Bb?c=d", headers={"api-key": "k"}, content=b"[]", writes=True,
            provider="acme", bucket="contacts",
        )  # fmt: skip

    assert (answer.status, answer.body, answer.headers["x-more"]) == (200, b'{"a": 1}', "yes")
    assert answer.decode(msgspec.json.Decoder(dict[str, int])) == {"a": 1}
    assert seen[0].startswith(b"PUT /a%2Bb?c=d HTTP/1.1")
    assert b"api-key: k" in seen[0].lower()
    assert seen[0].endswith(b"[]")
    (heard,) = observer.heard
    assert heard[:3] == ("acme", "contacts", "200")
    assert 0 <= heard[3] < 5


@pytest.mark.parametrize(
    "path", [".evil.com/", "", "/a b", "/a\r\nx: y", "/a HTTP/1.1\r\n\r\nGET /b", "/\u00e4"]
)
async def test_a_path_is_a_path_and_nothing_else(path: str) -> None:
    seen, talk = answering(response(200))
    async with speaking(talk) as (client, site, _):
        with pytest.raises(ValueError, match="slash"):
            await client.call(site, "GET", path, headers={})

    assert not seen


async def test_a_header_is_one_line() -> None:
    """A credential with a line break in it adds no header, and is in no error."""
    seen, talk = answering(response(200))
    async with speaking(talk) as (client, site, _):
        with pytest.raises(ValueError, match="injection") as caught:
            await client.call(site, "GET", "/", headers={"api-key": "secret\r\nx: y"})

    assert "secret" not in str(caught.value)
    assert not seen


async def test_nothing_is_said_that_the_caller_did_not_say() -> None:
    seen, talk = answering(response(200), response(200))
    async with speaking(talk) as (client, site, _):
        await client.call(site, "GET", "/", headers={})
        await client.call(site, "POST", "/", headers={}, content=b"{}")

    names = [
        {line.partition(b":")[0].lower() for line in request.split(b"\r\n")[1:] if b":" in line}
        for request in seen
    ]
    assert names[0] == {b"host", b"accept-encoding", b"user-agent"}
    assert names[1] == names[0] | {b"content-length"}


async def test_no_cookie_is_kept() -> None:
    seen, talk = answering(response(200, set_cookie="a=b; Path=/"), response(200))
    async with speaking(talk) as (client, site, _):
        await client.call(site, "GET", "/", headers={})
        await client.call(site, "GET", "/", headers={})

    assert b"cookie" not in seen[1].lower()


async def test_a_body_may_be_packed() -> None:
    packed = gzip.compress(b'{"a": 1}')
    _, talk = answering(response(200, packed, content_encoding="gzip"))

    async with speaking(talk) as (client, site, _):
        answer = await client.call(site, "GET", "/", headers={})

    assert answer.body == b'{"a": 1}'


async def test_nobody_needs_to_watch() -> None:
    _, talk = answering(response(200))
    async with speaking(talk) as (_, site, _):
        client = HttpClient(environment=Environment.TEST, loopback_urls={"any": site.origin})
        answer = await client.call(site, "GET", "/", headers={})
        await client.aclose()

    assert answer.status == 200


async def closes_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


async def breaks_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(response(200, b'{"a": 1}')[:-4])


async def talks_nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")


@pytest.mark.parametrize("talk", [closes_at_once, breaks_off, talks_nonsense])
async def test_a_connection_that_breaks_after_the_request_leaves_a_write_unknown(
    talk: Talk,
) -> None:
    assert isinstance(await failure(talk, writes=True), UnknownOutcomeError)
    assert isinstance(await failure(talk, writes=False), UnavailableError)


async def test_a_connection_that_never_stood_left_nothing_behind() -> None:
    async with speaking(closes_at_once) as (_, site, _):
        pass
    client = HttpClient(environment=Environment.TEST, loopback_urls={"any": site.origin})

    with pytest.raises(UnavailableError):
        await client.call(site, "POST", "/", headers={}, content=b"{}", writes=True)
    await client.aclose()


async def test_silence_leaves_a_write_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 41."""
    monkeypatch.setattr(border, "READ_S", 0.1)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(5)

    assert isinstance(await failure(silent, writes=True), UnknownOutcomeError)


async def test_a_call_that_drips_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 41."""
    monkeypatch.setattr(border, "CALL_S", 0.2)

    async def drips(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    assert isinstance(await failure(drips, writes=True), UnknownOutcomeError)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_nothing_is_sent_twice(method: str) -> None:
    """By itself, aiohttp would repeat these when a connection that it had kept breaks."""
    seen: list[bytes] = []

    async def answers_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while len(seen) < 4:
            seen.append(await reader.readuntil(b"\r\n\r\n"))
            if len(seen) > 1:
                return
            writer.write(response(200))

    async with speaking(answers_once) as (client, site, _):
        await client.call(site, "GET", "/first", headers={})
        with pytest.raises(UnavailableError):
            await client.call(site, method, "/second", headers={})
        await asyncio.sleep(0.05)

    assert [request.split(b" ")[1] for request in seen] == [b"/first", b"/second"]


async def test_a_slow_provider_takes_no_connections_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fault 41."""
    monkeypatch.setattr(border, "CONNECTIONS_MAX", 1)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(600)

    _, talk = answering(response(200))
    async with speaking(silent) as (_, slow, _), speaking(talk) as (_, quick, _):
        urls = {"slow": slow.origin, "quick": quick.origin}
        client = HttpClient(environment=Environment.TEST, loopback_urls=urls)
        waiting = [
            asyncio.ensure_future(client.call(slow, "GET", "/", headers={})) for _ in range(3)
        ]
        await asyncio.sleep(0.05)
        answer = await asyncio.wait_for(client.call(quick, "GET", "/", headers={}), timeout=60)
        for call in waiting:
            call.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await client.aclose()

    assert answer.status == 200


async def test_a_redirect_is_not_followed() -> None:
    seen, talk = answering(response(302, location="http://127.0.0.1:1/"))

    error = await failure(talk, writes=False)

    assert isinstance(error, UnavailableError)
    assert error.reason == "HTTP 302"
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("answer", "read", "write"),
    [
        (response(200, b"<html>", "text/html"), UnavailableError, UnknownOutcomeError),
        (response(500), UnavailableError, UnknownOutcomeError),
        (response(502, b"<html>", "text/html"), UnavailableError, UnknownOutcomeError),
        (response(504), UnavailableError, UnknownOutcomeError),
        (response(408), UnavailableError, UnknownOutcomeError),
        (response(503), UnavailableError, UnavailableError),
        (response(403, b"<html>", "text/html"), UnavailableError, UnavailableError),
        (response(403, b"Forbidden", "text/plain"), UnavailableError, UnavailableError),
        (response(403, b'"Forbidden"', "text/plain"), UnavailableError, UnavailableError),
        (response(200, b"x", content_encoding="br"), UnavailableError, UnknownOutcomeError),
        (response(200, b"{}" * 9, content_encoding="gzip"), UnavailableError, UnknownOutcomeError),
        (
            response(200, gzip.compress(b"x" * 99)[:-9], content_encoding="gzip"),
            UnavailableError,
            UnknownOutcomeError,
        ),
        (
            response(200, gzip.compress(bytes(17 * 2**20)), content_encoding="gzip"),
            UnavailableError,
            UnknownOutcomeError,
        ),
    ],
    ids=lambda value: value[:40].decode() if isinstance(value, bytes) else value.__name__,
)
async def test_an_answer_that_is_not_the_providers_own_is_no_answer(
    answer: bytes, read: type[SyncError], write: type[SyncError]
) -> None:
    """Fault 44."""
    assert type(await failure(answering(answer)[1], writes=False)) is read
    assert type(await failure(answering(answer)[1], writes=True)) is write


async def test_a_refusal_in_json_is_one_whatever_it_is_called() -> None:
    """ActiveCampaign declares some of its refusals as plain text."""
    _, talk = answering(response(403, b'{"message": "Forbidden"}', "text/plain; charset=utf-8"))

    async with speaking(talk) as (client, site, _):
        answer = await client.call(site, "GET", "/", headers={})

    assert answer.status == 403


async def test_a_body_that_is_too_large_is_refused() -> None:
    async def floods(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response(200, bytes(17 * 2**20)))
        await writer.drain()

    error = await failure(floods, writes=False)

    assert isinstance(error, UnavailableError)
    assert error.reason == "answer too large"


async def test_a_503_says_when_to_come_back() -> None:
    error = await failure(answering(response(503, retry_after="17"))[1], writes=True)

    assert isinstance(error, UnavailableError)
    assert error.retry_after_s == 17.0


async def test_how_a_call_ended_is_told_by_few_words() -> None:
    _, talk = answering(response(503))
    async with speaking(talk) as (client, site, observer):
        with pytest.raises(UnavailableError):
            await client.call(site, "GET", "/", headers={})
        await asyncio.sleep(0.05)
    broken = HttpClient(
        environment=Environment.TEST, loopback_urls={"any": site.origin}, observe=observer
    )
    with pytest.raises(UnavailableError):
        await broken.call(site, "GET", "/", headers={})
    await broken.aclose()
    async with speaking(closes_at_once) as (client, site, lost):
        with pytest.raises(UnknownOutcomeError):
            await client.call(site, "POST", "/", headers={}, writes=True)

    assert [heard[2] for heard in (*observer.heard, *lost.heard)] == ["503", "refused", "lost"]


async def test_nothing_of_the_contact_is_in_an_error() -> None:
    """Proves X4."""
    _, talk = answering(response(500, b'{"message": "ada@example.com"}'))

    async with speaking(talk) as (client, site, _):
        with pytest.raises(SyncError) as caught:
            await client.call(
                site, "GET", "/contacts/ada%40example.com", headers={"api-key": "secret"}
            )

    assert "ada" not in str(caught.value)
    assert "secret" not in str(caught.value)


def answer_of(
    status: int,
    headers: dict[str, str] | None = None,
    *,
    body: bytes = b"{}",
    writes: bool = False,
) -> Answer:
    return Answer("host", status, httpx.Headers(headers), body, writes)


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, RequestRefusedError), (401, NeedsReauthError), (403, MisconfiguredError),
     (404, MisconfiguredError), (409, RequestRefusedError), (423, UnavailableError),
     (425, UnavailableError), (429, RateLimitedError)],
)  # fmt: skip
def test_a_refusal_has_a_usual_meaning(status: int, error: type[SyncError]) -> None:
    assert type(refusal(answer_of(status), "bucket")) is error


def test_a_limit_without_a_time_has_a_usual_one() -> None:
    error = refusal(answer_of(429), "bucket")

    assert isinstance(error, RateLimitedError)
    assert (error.bucket, error.retry_after_s) == ("bucket", 10.0)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "12"}, 12.0),
        ({"retry-after": "9999999"}, 86400.0),
        ({"retry-after": "Wed, 15 Jul 2026 02:01:00 GMT", "date": "Wed, 15 Jul 2026 02:00:00 GMT"},
         60.0),
        ({"retry-after": "Wed, 15 Jul 2026 01:00:00 GMT", "date": "Wed, 15 Jul 2026 02:00:00 GMT"},
         0.0),
        ({"retry-after": "Wed, 15 Jul 2026 02:01:00 GMT"}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_a_time_to_wait_is_read_as_seconds_or_a_date(
    headers: dict[str, str], seconds: float | None
) -> None:
    """Fault 40."""
    assert retry_after_s(answer_of(429, headers)) == seconds


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_body_that_cannot_be_decoded_is_no_answer(body: bytes) -> None:
    """Fault 44."""
    decoder = msgspec.json.Decoder(dict[str, list[object]])

    with pytest.raises(UnknownOutcomeError):
        answer_of(200, body=body, writes=True).decode(decoder)
    with pytest.raises(UnavailableError):
        answer_of(200, body=body).decode(decoder)


def saying(body: bytes) -> Answer:
    return Answer("acme.example", 200, httpx.Headers(), body, writes=False)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (rb'["\ud83d"]', ["\ufffd"]),
        (rb'["\ude00 and more", "next"]', ["\ufffd and more", "next"]),
        (rb'["\ud83d\ud83d\ude00"]', ["\ufffd\U0001f600"]),
        (rb'["\\ud83d", "\ud83d"]', ["\\ud83d", "\ufffd"]),
        (rb'["\uD83D\uDE00"]', ["\U0001f600"]),
    ],
)
def test_half_of_a_surrogate_pair_makes_no_answer_unreadable(
    written: bytes, read: list[str]
) -> None:
    decoder = msgspec.json.Decoder(list[str])

    assert saying(written).decode(decoder) == read
    halved = [each.replace("\ufffd", "\0") for each in read]
    assert saying(written).decode(decoder, half=UNUSABLE) == halved


@pytest.mark.parametrize("body", [rb'["\ud83d"', rb'"\ud83d"', b'["\xff"]'])
def test_what_is_wrong_beside_half_of_a_pair_stays_wrong(body: bytes) -> None:
    with pytest.raises(UnavailableError):
        saying(body).decode(msgspec.json.Decoder(list[str]))


def test_a_providers_code_is_a_word_or_nothing() -> None:
    """Proves X4: a code is kept, shown and mailed, so it must not be what the provider was sent."""
    assert plain_code("duplicate_parameter") == "duplicate_parameter"
    assert plain_code("xkeysib-7f3a") == plain_code("ada@example.com") == plain_code("a\0") == ""
    error = refusal(Answer("h", 400, httpx.Headers(), b"", writes=True), "contacts", "CJ7-token")
    assert isinstance(error, RequestRefusedError)
    assert error.code == ""
