"""The outermost layer of the API: trace, headers of every answer, and what nobody expected.

Promises: every request belongs to a trace (the caller's `traceparent`, or a new one), which problem
documents and logs name; every answer carries what protects a browser; an exception that nobody
expected is logged without values and answered 500 as a problem document, and nothing of it gets
out. This is the process's edge, the one place that catches everything.
"""

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libs.common import logs, tracing

# Answers are about one workspace's configuration: no cache may keep them, no page may frame them.
ALWAYS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}

log = logs.get(__name__)


class Edge:
    """ASGI middleware around everything else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

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
                await self._app(scope, receive, sending)
            except Exception:
                # The process's edge: see above. The answer was sent by then (`errors.install`).
                log.exception("request_failed", method=scope["method"], path=scope["path"])
