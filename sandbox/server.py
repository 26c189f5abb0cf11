"""Serve a provider's imitation over HTTP on a loopback port.

`ProviderApp` is an ASGI application: it reads a request, lets the faults that a test has set have
their way, asks the provider whether the call is admitted, and runs its handler. Handlers are
synchronous and run in the event loop one at a time: each sees and leaves a whole state. `serve`
listens on a port for as long as its block lasts.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any, Generic, TypeVar

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from sandbox import control
from sandbox.exchange import Answer, RefusedError, Request, RequestBodyError, Route
from sandbox.faults import FaultPlan
from sandbox.provider import Account, Provider
from sandbox.stalls import Stalls, watching_for_stalls

A = TypeVar("A", bound=Account)

URL_BYTES_MAX = 65_536  # What the parser takes; providers refuse far shorter ones themselves.
# Longer than clients keep an idle connection: none may meet one that is just being closed.
KEEP_ALIVE_S = 300
HTML_PAGE = (
    b"<!DOCTYPE html><html><head><title>Error</title></head><body><h1>Sorry</h1></body></html>"
)
CONTROL_PREFIX = "/_sandbox"
LOOPBACK = "127.0.0.1"


class _Connection(H11Protocol):
    """A connection that an application may cut: its transport is in the scope's state."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own signature
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


@asynccontextmanager
async def serve(app: ASGIApp, port: int = 0, *, host: str = LOOPBACK) -> AsyncIterator[str]:
    """Listen in the running loop; yield the base URL on loopback. Port 0: any that is free.

    `host` 0.0.0.0 is for a container, whose published ports do not lead to its loopback.
    """
    config = uvicorn.Config(
        app,
        lifespan="off",
        access_log=False,
        log_config=None,
        timeout_keep_alive=KEEP_ALIVE_S,
        h11_max_incomplete_event_size=URL_BYTES_MAX,
    )
    config.load()
    state = ServerState()
    app_state: dict[str, Any] = {}
    listener = await asyncio.get_running_loop().create_server(
        lambda: _Connection(config=config, server_state=state, app_state=app_state),
        host=host,
        port=port,
        backlog=2048,
    )
    try:
        async with watching_for_stalls() as stalls:
            app_state["stalls"] = stalls
            yield f"http://{LOOPBACK}:{listener.sockets[0].getsockname()[1]}"
    finally:
        listener.close()
        for connection in list(state.connections):
            connection.transport.abort()
        for task in list(state.tasks):
            task.cancel()
        await asyncio.gather(*state.tasks, return_exceptions=True)
        await listener.wait_closed()


class ProviderApp(Generic[A]):
    """The ASGI application of one provider."""

    def __init__(self, provider: Provider[A]) -> None:
        self.provider = provider
        self._control = control.routes(provider)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            message = f"the sandbox speaks HTTP only, not {scope['type']}"
            raise RuntimeError(message)
        line = _Line(scope, receive, send, self.provider)
        request = await line.read()
        if request is None:
            return
        if request.path.startswith(CONTROL_PREFIX):
            await line.write(self._controlled(request))
        else:
            await self._provided(line, request)

    async def _provided(self, line: "_Line", request: Request) -> None:
        """Answer a call of the provider's own interface."""
        provider = self.provider
        found = provider.routes.find(request.method, request.path)
        route, arguments = found or (None, {})
        endpoint = route.name if route else f"{request.method} (no such path)"
        own = {
            "arguments": arguments,
            "endpoint": endpoint,
            # Limits count a call as it arrives, however long its answer takes.
            "arrived_s": provider.clock.now_s(),
            "unseen_s": line.unseen_s(),
        }
        request = Request(**{**_fields(request), **own})
        account = provider.account_of(request)
        counted = account or provider.default
        counted.calls.count(endpoint)
        seconds, fault = counted.faults.strike(request.method, request.path)
        if seconds:
            await asyncio.sleep(seconds)
        if fault and fault.kind == "cut":
            await line.cut()
            return
        answer = self._faulted(counted, route, request, fault) or self._applied(
            account, route, request
        )
        answer = provider.finish(account, route, request, answer)
        if fault and fault.kind == "cut_after":
            await line.cut()
        elif fault and fault.kind == "truncate":
            await line.truncate(answer)
        else:
            await line.write(answer)

    def _faulted(
        self, account: A, route: Route[A] | None, request: Request, fault: FaultPlan | None
    ) -> Answer | None:
        """Return what a fault answers in the place of the handler, which then is not run."""
        match fault:
            case FaultPlan(kind="status"):
                usual = self.provider.error(fault.status or 500)
                body = usual.body if fault.body is None else fault.body
                headers = {**usual.headers, **fault.headers}
                return Answer(usual.status, body, headers, usual.media_type)
            case FaultPlan(kind="throttle"):
                usual = self.provider.throttled(account, route)
                return Answer(usual.status, usual.body, {**usual.headers, **fault.headers})
            case FaultPlan(kind="html"):
                return Answer(fault.status or 502, HTML_PAGE, fault.headers, "text/html")
            case FaultPlan(kind="lie") if route:
                return self.provider.lie(account, route, request, fault)
            case _:
                return None

    def _applied(self, account: A | None, route: Route[A] | None, request: Request) -> Answer:
        provider = self.provider
        if route is None:
            return provider.no_route(request, provider.routes.methods(request.path))
        try:
            return route.handler(provider.admit(account, route, request), request)
        except RefusedError as refused:
            return refused.answer
        except RequestBodyError as error:
            return provider.bad_json(request, str(error))

    def _controlled(self, request: Request) -> Answer:
        """Answer a call of the control interface: the provider's own part first."""
        return control.answer(self.provider, self._control, request)


class _Line:
    """One exchange on a connection, and the ways to break it."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        provider: Provider[Any],
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._provider = provider

    async def read(self) -> Request | None:
        """Return the request; None if the client went away before it had sent all of it."""
        scope = self._scope
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        body = b""
        while True:
            event = await self._receive()
            if event["type"] != "http.request":
                return None
            body += event.get("body", b"")
            if not event.get("more_body"):
                break
        return Request(
            method=scope["method"],
            path=(scope.get("raw_path") or scope["path"].encode()).decode("latin-1").split("?")[0],
            query_string=scope["query_string"].decode("latin-1"),
            headers=headers,
            body=body,
            base_url=f"http://{headers.get('host', '127.0.0.1')}",
        )

    async def write(self, answer: Answer) -> None:
        body = answer.encoded()
        await self._start(answer, len(body))
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def truncate(self, answer: Answer) -> None:
        """Send half of what was promised, then close."""
        body = answer.encoded()
        await self._start(answer, len(body))
        half = body[: len(body) // 2]
        await self._send({"type": "http.response.body", "body": half, "more_body": True})
        self._transport().close()
        await self._gone()

    async def cut(self) -> None:
        """Close the connection without a word."""
        self._transport().abort()
        await self._gone()

    async def _start(self, answer: Answer, length: int) -> None:
        headers = {
            "date": formatdate(self._provider.clock.now_s(), usegmt=True),
            **({} if answer.body is None else {"content-type": answer.media_type}),
            **({} if answer.status == 204 else {"content-length": str(length)}),
            **answer.headers,
        }
        await self._send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
                "trailers": False,
            }
        )

    async def _gone(self) -> None:
        """Wait until the server has seen the connection go: it then expects no answer."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def unseen_s(self) -> float:
        """Return how long this call may have waited to be seen, if the application is served."""
        stalls = self._scope.get("state", {}).get("stalls")
        return stalls.unseen_s() if isinstance(stalls, Stalls) else 0.0

    def _transport(self) -> asyncio.Transport:
        transport = self._scope.get("state", {}).get("transport")
        if not isinstance(transport, asyncio.BaseTransport):
            message = "only a served application has a connection to cut; see sandbox.server.serve"
            raise ConnectionResetError(message)
        return transport  # type: ignore[return-value]  # uvloop's is no asyncio.Transport by type


def _fields(request: Request) -> dict[str, Any]:
    return {name: getattr(request, name) for name in request.__dataclass_fields__}
