"""The outermost layer of the API: trace, headers of every answer, and what nobody expected.

Promises: every request belongs to a trace (the caller's `traceparent`, or a new one), which problem
documents and logs name; a body is read up to its limit only, whatever it says of its length; every
answer carries what protects a browser; an exception that nobody
expected is logged without values and answered 500 as a problem document, and nothing of it gets
out. This is the process's edge, the one place that catches everything.
"""

from collections.abc import Mapping
from types import MappingProxyType

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libs.common import logs, tracing
from services.config_api.errors import TooLargeError

# Answers are about one workspace's configuration: no cache may keep them, no page may frame them.
ALWAYS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}

NOWHERE: Mapping[str, int] = MappingProxyType({})

log = logs.get(__name__)


class Edge:
    """ASGI middleware around everything else."""

    def __init__(
        self, app: ASGIApp, *, body_bytes_max: int, larger: Mapping[str, int] = NOWHERE
    ) -> None:
        """`larger`: by path, how much more is taken where files are uploaded."""
        self._app = app
        self._body_bytes_max = body_bytes_max
        self._larger = larger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: dict[str, str] = dict(ALWAYS)
        scope.setdefault("state", {})["headers"] = headers

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers)
            await send(message)

        caller = tracing.parse(Headers(scope=scope).get(tracing.HEADER, ""))
        with tracing.within(caller.child() if caller else tracing.start()):
            try:
                await self._app(scope, self._limited(scope, receive), sending)
            except Exception:
                # The process's edge: see above. The answer was sent by then (`errors.install`).
                log.exception("request_failed", method=scope["method"], path=scope["path"])

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        """Return `receive`, which refuses whoever reads a body beyond the limit."""
        declared = Headers(scope=scope).get("content-length", "")
        expected = int(declared) if declared.isdecimal() else 0
        most = self._larger.get(scope["path"], self._body_bytes_max)
        read = 0

        async def limited() -> Message:
            nonlocal read
            if expected > most:
                raise _too_large(most)
            message = await receive()
            read += len(message.get("body", b""))
            if read > most:
                raise _too_large(most)
            return message

        return limited


def _too_large(most: int) -> TooLargeError:
    return TooLargeError(detail=f"A body has at most {most} bytes.")
