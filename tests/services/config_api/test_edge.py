"""The outermost layer."""

from starlette.types import Message, Receive, Scope, Send

from services.config_api.edge import Edge


async def test_what_is_no_request_passes_untouched() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    await Edge(app, body_bytes_max=1)({"type": "lifespan"}, receive, send)

    assert seen == [{"type": "lifespan"}]
