"""Answers that no provider should give: each says the caller's token and contact data back.

What a hostile answer tries is to be taken for the provider's, to be repeated in a log or a mail, to
be read without an end, or to lead our credentials elsewhere. After each of them the provider is
itself again, so that everything must come right.
"""

import gzip
import json
from collections.abc import Mapping

from aiohttp import web

from tests.hostile.corpus import CANARY
from tests.hostile.front import Asked, Hostile, Play

JSON, HTML = "application/json", "text/html; charset=utf-8"
BODY_BYTES = 17 << 20  # One more than is read of any answer (libs/connectors/http.py).
DEEP = 100_000


def _said_back(asked: Asked) -> str:
    """Return what a careless server puts into its errors: what it was sent."""
    return f"token {asked.token} of {CANARY}@example.com"


def answer(status: int, body: bytes, media_type: str = JSON, **headers: str) -> Play:
    """Give one answer; TOKEN in it is the caller's own."""

    async def play(asked: Asked) -> web.StreamResponse:
        said = json.dumps(_said_back(asked))[1:-1].encode()
        return web.Response(
            status=status,
            body=body.replace(b"TOKEN", said),
            headers={
                "content-type": media_type,
                **{n.replace("_", "-"): v for n, v in headers.items()},
            },
        )

    return play


_WORDS = ("code", "category", "subCategory", "status", "error", "policyName")


def token_as_code(status: int) -> Play:
    """Refuse with the caller's token in every place that a provider's own words have."""

    async def play(asked: Asked) -> web.StreamResponse:
        words = dict.fromkeys(
            ("code", "category", "subCategory", "status", "error", "policyName"), asked.token
        )
        body = {**words, "message": _said_back(asked), "error_description": asked.token}
        return web.json_response(body, status=status)

    return play


def cut(status: int, body: bytes, *, promised: int) -> Play:
    """Promise more than is sent, then close."""

    async def play(asked: Asked) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers={"content-type": JSON})
        response.content_length = promised
        await response.prepare(asked.request)
        await response.write(body)
        if asked.request.transport is not None:
            asked.request.transport.close()
        return response

    return play


def raw(content: bytes) -> Play:
    """Write bytes that are no HTTP, then close."""

    async def play(asked: Asked) -> web.StreamResponse:
        transport = asked.request.transport
        assert transport is not None
        transport.write(content)
        transport.close()
        return web.Response()

    return play


def redirect(status: int, to: str) -> Play:
    """Lead elsewhere, with the token in the address."""

    async def play(asked: Asked) -> web.StreamResponse:
        return web.Response(status=status, headers={"location": f"{to}/?token={asked.token}"})

    return play


def unreadable(elsewhere: str) -> Mapping[str, Play]:
    """Return answers that are not the provider's: taken for silence, whatever was asked."""
    packed = gzip.compress(b" " * (4 * BODY_BYTES), 9)
    return {
        "web page with 200": answer(200, b"<html><body>TOKEN</body></html>", HTML),
        "web page with 500": answer(500, b"<html><pre>Traceback TOKEN</pre></html>", HTML),
        "web page with 403": answer(403, b"<html>blocked: TOKEN</html>", HTML),
        "text with 404": answer(404, b"TOKEN", "text/plain"),
        "JSON with 502": answer(502, b'{"message":"TOKEN","code":"TOKEN"}'),
        "half of a JSON": answer(200, b'{"results":[{"id":"1","properties":{"email":"TOKEN'),
        "cut in the middle": cut(200, b'{"results":[', promised=1_000),
        "no HTTP": raw(b"\x16\x03\x01 TOKEN\r\n\r\n"),
        "a header that never ends": raw(b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 200_000),
        "a status that is none": raw(b"HTTP/1.1 999999 \r\n\r\n"),
        "a body without an end": answer(200, b" " * BODY_BYTES),
        "a packed body without an end": answer(200, packed, content_encoding="gzip"),
        "a packed body that is none": answer(200, b"no gzip", content_encoding="gzip"),
        "an unknown packing": answer(200, b"{}", content_encoding="br"),
        "UTF-16": answer(200, '{"results":[]}'.encode("utf-16"), f"{JSON}; charset=utf-16"),
        "no UTF-8": answer(200, b'{"results":"\xff\xfe","contacts":"\xff","id":"\xff"}'),
        "a deep JSON": answer(200, b"[" * DEEP + b"]" * DEEP),
        "redirect": redirect(302, elsewhere),
        "redirect with its method": redirect(307, elsewhere),
        "redirect for good": redirect(308, elsewhere),
        "an absurd wait": answer(429, b'{"message":"TOKEN"}', retry_after="99999999999999999999"),
        "a wait that is none": answer(503, b'{"message":"TOKEN"}', retry_after="-1; TOKEN"),
    }


def wrong_types() -> Mapping[str, Play]:
    """Return JSON that is not what was asked for, to reading calls."""
    return {
        "a text": answer(200, b'"TOKEN"'),
        "a number": answer(200, b"1e999"),
        "null": answer(200, b"null"),
        "a list": answer(200, b"[]"),
        "results that are a text": answer(200, b'{"results":"TOKEN"}'),
        "an id that is a number": answer(200, b'{"results":[{"id":7,"properties":{}}]}'),
        "a record that is null": answer(200, b'{"results":[null]}'),
        "no time at all": answer(200, b'{"results":[{"id":"7","properties":{"email":"TOKEN"}}]}'),
        "NaN": answer(200, b'{"results":NaN}'),
        "nothing": answer(200, b""),
        "a token as code": token_as_code(401),
    }


def planned(plays: Mapping[str, Play], calls: str, *, every: int) -> list[Hostile]:
    """Return one of each, or of every so-manieth, for the next calls of a kind."""
    return [Hostile(name, calls, play) for name, play in list(plays.items())[::every]]
